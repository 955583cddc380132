//! What a cluster answers of many partitions.

use super::Error;

/// An answer for each of many partitions, in the order in which they were asked for: what is not
/// known of one keeps nobody from hearing of the others.
pub type Each<T> = Vec<Result<T, Error>>;

/// How long what a cluster does not say at once is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For some seconds, and a partition that moves not at all: the caller asks again.
    Short,
    /// For as long as it usually takes.
    Long,
}

/// Where the records end that a partition got from the leader of an epoch, or of the last one
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// Here.
    At(i64),
    /// The cluster is another one than it was, or an older copy of it: it knows no such epoch.
    Unknown,
    /// Nothing can be said of it.
    Unsaid,
}
