//! What no plugin may go beyond, and nobody sets. What is set for a stage is in [`Limits`](crate::model::Limits).

pub(super) use crate::model::limits::COMPONENT_BYTES_MAX;

/// The length of a log line or of a message that is kept, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 8192;

/// The length of a reject's code, in bytes. It becomes a label of metrics.
pub(super) const CODE_BYTES_MAX: usize = 64;

/// What `describe` may hand to the host, in bytes: a description with a large configuration schema has some 10 KiB. Nobody has
/// set limits for a plugin that is asked who it is.
pub(super) const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

/// A plugin's name and its version, each, in bytes. They stand in every listing.
pub(super) const LABEL_BYTES_MAX: usize = 128;

/// How many errors of a configuration are passed on: a person mends a few at a time.
pub(super) const CONFIG_FAULTS_MAX: usize = 32;

/// What is passed on of an error's path and of its message, each, in bytes.
pub(super) const CONFIG_FAULT_BYTES_MAX: usize = 1024;

/// How many topics a plugin may route to.
pub(super) const ROUTES_MAX: usize = 1000;

/// Calls of the host that `describe` and `configure` may make: lines for the log, and who needs more floods.
pub(super) const LIFECYCLE_CALLS_MAX: u64 = 10_000;

/// The memories of a component. Toolchains make one; a composition of components has some. The daemon has room for a number of them, which all links share.
pub(super) const MEMORIES_MAX: u32 = 4;

/// The name of a topic, in bytes: Kafka's bound.
pub(super) const ROUTE_BYTES_MAX: usize = 249;

/// How many times its whole state a plugin may put when it migrates it.
pub(super) const MIGRATION_PUTS: u64 = 4;
