//! The embedded store as a cluster.
