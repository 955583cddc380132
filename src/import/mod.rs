//! Configurations of other programs, turned into ours.
//!
//! Invariants
//! - Nothing is dropped in silence: each key of the file is carried over, or there is a [`Finding`] about it.
//! - What comes out was read by our own loader, as on a machine that has the files and variables that it names.
//! - No secret of the file stands in what comes out.
//!
//! Reading order: [`mm2`], MirrorMaker 2; `properties`, the format of its file.

pub mod mm2;
mod properties;

/// A configuration, and what could not be said in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The text of a configuration file. The findings stand in it too, as comments.
    pub configuration: String,
    /// What a person has to know, in the order of the configuration.
    pub findings: Vec<Finding>,
}

/// Something that was not carried over as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key as it stands in the file; or as it would, where it is not there and has a default.
    pub key: String,
    /// Its line, from 1 on; `None`: it is not there.
    pub line: Option<usize>,
    /// What became of it.
    pub what: What,
    /// Why.
    pub why: String,
    /// What to do. Empty: nothing.
    pub remedy: String,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is a key of nothing that we know of.
    Unknown,
    /// There is no counterpart.
    NotCarriedOver,
    /// It was carried over, and means something else.
    Differs,
    /// It was carried over, and a person has to add something.
    ToDo,
}

impl What {
    /// The same for people.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotCarriedOver => "not carried over",
            Self::Differs => "differs",
            Self::ToDo => "to do",
        }
    }

    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotCarriedOver => "not-carried-over",
            Self::Differs => "differs",
            Self::ToDo => "to-do",
        }
    }
}

/// Why nothing was made of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImportError {
    /// What is wrong, and where.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl ImportError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}
