//! The releases of Apache Kafka that can run, and what differs between them for whoever starts one.

/// A release of Apache Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// The last one whose brokers believe a producer that its records belong to the open transaction: verification came with 3.6, and
    /// transactions of version 2 with 4.0.
    V3_5_2,
    /// The newest one.
    #[default]
    V4_3_1,
}

impl Release {
    /// Its number, as Maven has it.
    pub fn number(self) -> &'static str {
        match self {
            Self::V3_5_2 => "3.5.2",
            Self::V4_3_1 => "4.3.1",
        }
    }

    /// The first Java that its brokers run on.
    pub(crate) fn java_min(self) -> u32 {
        match self {
            Self::V3_5_2 => 8,
            Self::V4_3_1 => 17,
        }
    }

    /// The profile of the pom that has the rest of its programs.
    pub(crate) fn profile(self) -> Option<&'static str> {
        match self {
            Self::V3_5_2 => None,
            Self::V4_3_1 => Some("newest"),
        }
    }

    /// Where its tools are: the package of their classes.
    pub(crate) fn tools(self) -> &'static str {
        match self {
            Self::V3_5_2 => "kafka.admin",
            Self::V4_3_1 => "org.apache.kafka.tools",
        }
    }

    /// Whether storage is formatted with a `transaction.version`.
    pub(crate) fn has_transaction_version(self) -> bool {
        match self {
            Self::V3_5_2 => false,
            Self::V4_3_1 => true,
        }
    }
}
