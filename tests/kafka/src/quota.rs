//! How much clients may produce.

use crate::jars::output;
use crate::{Cluster, Result};

impl Cluster {
    /// Let the clients of this name produce so many bytes a second, at each broker. It is in force in less than a second.
    ///
    /// Errors: those of Kafka's tool.
    pub fn limit_producers(&self, client_id: &str, bytes_per_second: u32) -> Result<()> {
        let mut tool = self.jars().java("kafka.admin.ConfigCommand", &[]);
        tool.args(["--bootstrap-server", &self.internal_bootstrap(), "--alter"]);
        tool.args(["--entity-type", "clients", "--entity-name", client_id]);
        tool.args(["--add-config", &format!("producer_byte_rate={bytes_per_second}")]);
        output(&mut tool).map(drop)
    }
}
