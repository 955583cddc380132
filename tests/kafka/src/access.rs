//! Users with passwords, and what they may do.

use crate::jars::output;
use crate::{Cluster, Result};

/// What an operation is allowed on.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// A topic of this name; `*` is any.
    Topic(&'a str),
    /// A consumer group; `*` is any.
    Group(&'a str),
    /// A transactional id; `*` is any.
    TransactionalId(&'a str),
    /// The cluster as a whole.
    Cluster,
}

impl Resource<'_> {
    /// As the tool of Kafka takes it.
    fn arguments(&self) -> Vec<&str> {
        match self {
            Self::Topic(name) => vec!["--topic", name],
            Self::Group(name) => vec!["--group", name],
            Self::TransactionalId(name) => vec!["--transactional-id", name],
            Self::Cluster => vec!["--cluster"],
        }
    }
}

impl Cluster {
    /// Let a user do what Kafka calls `Read`, `Write`, `Create`, `Describe` and so on. It is in force in less than a second on every broker.
    ///
    /// Errors: those of Kafka's tool, such as that the cluster has no users.
    pub fn grant(&self, user: &str, operations: &[&str], on: Resource<'_>) -> Result<()> {
        self.change(&["--add"], user, operations, on)
    }

    /// Take back what was granted.
    ///
    /// Errors: those of Kafka's tool.
    pub fn revoke(&self, user: &str, operations: &[&str], on: Resource<'_>) -> Result<()> {
        self.change(&["--remove", "--force"], user, operations, on)
    }

    fn change(&self, how: &[&str], user: &str, operations: &[&str], on: Resource<'_>) -> Result<()> {
        let mut tool = self.jars().tool("AclCommand");
        tool.args(["--bootstrap-server", &self.internal_bootstrap()]).args(how);
        tool.args(["--allow-principal", &format!("User:{user}")]).args(on.arguments());
        operations.iter().for_each(|operation| _ = tool.args(["--operation", operation]));
        output(&mut tool).map(drop)
    }

    /// The ACLs on a topic of this name, as Kafka's tool lists them.
    ///
    /// Errors: those of Kafka's tool.
    pub fn acls(&self, topic: &str) -> Result<String> {
        let mut tool = self.jars().tool("AclCommand");
        tool.args(["--bootstrap-server", &self.internal_bootstrap(), "--list", "--topic", topic]);
        output(&mut tool)
    }
}

/// What makes brokers keep ACLs and ask nobody who they are: whoever connects may do everything.
pub fn authorizer() -> Vec<(String, String)> {
    let settings = [("authorizer.class.name", AUTHORIZER), ("super.users", NOBODY)];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const NOBODY: &str = "User:ANONYMOUS";

/// What every broker needs to know of the users.
pub(crate) fn settings(users: &[(String, String)]) -> String {
    let users: String = users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
    format!(
        "listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n\
         listener.name.client.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.client.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required{users};\n\
         authorizer.class.name={AUTHORIZER}\n\
         super.users={NOBODY}\n"
    )
}
