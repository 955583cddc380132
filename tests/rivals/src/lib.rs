//! What else copies a Kafka topic exactly once, measured in the same way as a link.
