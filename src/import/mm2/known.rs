//! Keys of MirrorMaker 2, Kafka Connect and Kafka's clients that have no counterpart, and why.

use crate::import::What;

/// Why a key was not carried over.
#[derive(Clone, Copy)]
pub(super) struct Reason {
    pub(super) what: What,
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
    /// Whether a link must not start before a person has looked at it: it may copy what it should not, or elsewhere.
    pub(super) holds: bool,
}

const fn nothing_to_do(why: &'static str) -> Reason {
    Reason { what: What::NotCarriedOver, why, remedy: "", holds: false }
}

const OWN_TOPICS: Reason = Reason {
    remedy: "set replication_factor of the cluster, if the brokers' default is not right for these topics",
    ..nothing_to_do("it is about topics that MirrorMaker 2 keeps for itself; a link has its own, __tidegate.…")
};
const API: Reason = Reason {
    remedy: "set listen under [daemon]",
    ..nothing_to_do("it is about Kafka Connect's REST server; the daemon has an API of its own")
};
const WORKER: Reason = nothing_to_do("it is about Kafka Connect's workers, and there are none");
const CONVERTERS: Reason = nothing_to_do("records are copied as the bytes that they are");
const CLIENTS: Reason =
    nothing_to_do("it is about a client of Kafka's; a link sizes what it fetches and sends by itself");
const SECURITY: Reason = Reason {
    remedy: "see whether the connection comes about without it: `tidegate run` says what is wrong",
    ..nothing_to_do("Tidegate's own TLS and SASL have no such setting")
};
const METRICS: Reason = Reason {
    remedy: "`tidegate link show`, and the API behind it",
    ..nothing_to_do("it is about metrics of Java's kind")
};
const INTERVAL: Reason = Reason {
    what: What::Differs,
    why: "settings and ACLs are compared as often as topics are looked for",
    remedy: "set topic_refresh of the link",
    holds: false,
};
const SETTINGS: Reason = Reason {
    what: What::Differs,
    why: "which settings follow is fixed: retention, compaction, segments and the size of records; never those that MirrorMaker 2 excludes by default",
    remedy: "see Topics in the README; sync_topic_configs = false sets them only when a topic is made",
    holds: false,
};
const STAGES: Reason = Reason {
    remedy: "write a stage of the link's pipeline that does the same, then set autostart = true",
    holds: true,
    ..nothing_to_do("it changes records on the way, and cannot be carried over by itself")
};
const ERRORS: Reason = Reason {
    remedy: "set on_error of a stage",
    ..nothing_to_do(
        "nothing is skipped between clusters: what cannot be copied stops a lane, and what a stage cannot handle is put aside",
    )
};
const FILTER: Reason = Reason {
    remedy: "say the same with topics and topics_exclude of the link, then set autostart = true",
    holds: true,
    ..nothing_to_do("a class of its own chooses the topics, and nobody can tell which")
};
const ADMIN: Reason = Reason {
    remedy: "make the topics of the target as that class would, before the link starts",
    ..nothing_to_do("the daemon makes topics itself")
};
const ITS_OWN: Reason = nothing_to_do("MirrorMaker 2 sets it by itself");
const GROUPS: Reason = Reason {
    remedy: "choose them by `groups` of the link",
    ..nothing_to_do("groups are looked for each time that they are moved, and chosen by name or expression")
};
const RESETS: Reason = Reason {
    what: What::Differs,
    why: "a partition that MirrorMaker 2 has not begun is copied from its first record, and a loss is never passed over",
    remedy: "if it must not, say so with `tidegate link reset LINK --topic TOPIC --to latest`, then set autostart = true",
    holds: true,
};
const COMMITTED: Reason = Reason {
    what: What::Differs,
    why: "a link copies what was committed, and never what a transaction has left behind",
    remedy: "",
    holds: false,
};

/// Patterns of keys, without the cluster or flow that they are for. The first that fits counts; a star stands for any rest.
const TABLE: [(&str, Reason); 97] = [
    ("consumer.auto.offset.reset", RESETS),
    ("consumer.isolation.level", COMMITTED),
    ("producer.*", CLIENTS),
    ("consumer.*", CLIENTS),
    ("admin.timeout.ms", CLIENTS),
    ("admin.listeners*", API),
    ("admin.*", CLIENTS),
    ("source.*", CLIENTS),
    ("target.*", CLIENTS),
    ("offset.storage.*", OWN_TOPICS),
    ("offsets.storage.*", OWN_TOPICS),
    ("config.storage.*", OWN_TOPICS),
    ("status.storage.*", OWN_TOPICS),
    ("offset-syncs.*", OWN_TOPICS),
    ("offset.lag.max", OWN_TOPICS),
    ("emit.offset-syncs.enabled", OWN_TOPICS),
    ("emit.checkpoints.*", OWN_TOPICS),
    ("checkpoints.topic.*", OWN_TOPICS),
    ("heartbeats.topic.*", OWN_TOPICS),
    ("offset.flush.*", WORKER),
    ("offset.*", WORKER),
    ("listeners*", API),
    ("rest.*", API),
    ("dedicated.mode.enable.internal.rest", API),
    ("access.control.*", API),
    ("response.http.headers.config", API),
    ("group.id", WORKER),
    ("session.timeout.ms", WORKER),
    ("heartbeat.interval.ms", WORKER),
    ("rebalance.timeout.ms", WORKER),
    ("scheduled.rebalance.max.delay.ms", WORKER),
    ("connect.protocol", WORKER),
    ("inter.worker.*", WORKER),
    ("worker.*", WORKER),
    ("task.*", WORKER),
    ("tasks.max.enforce", WORKER),
    ("plugin.path", WORKER),
    ("plugin.discovery", WORKER),
    ("topic.tracking.*", WORKER),
    ("topic.creation.*", WORKER),
    ("connector.client.config.override.policy", WORKER),
    ("config.action.reload", WORKER),
    ("metadata.*", CLIENTS),
    ("transaction.boundary*", WORKER),
    ("exactly.once.support", WORKER),
    ("key.converter*", CONVERTERS),
    ("value.converter*", CONVERTERS),
    ("header.converter*", CONVERTERS),
    ("transforms*", STAGES),
    ("predicates*", STAGES),
    ("errors.*", ERRORS),
    ("topic.filter.class", FILTER),
    ("group.filter.class", GROUPS),
    ("forwarding.admin.class", ADMIN),
    ("config.property.filter.class", SETTINGS),
    ("config.properties.exclude", SETTINGS),
    ("config.properties.blacklist", SETTINGS),
    ("use.defaults.from", SETTINGS),
    ("use.incremental.alter.configs", SETTINGS),
    ("sync.topic.configs.interval.seconds", INTERVAL),
    ("sync.topic.acls.interval.seconds", INTERVAL),
    ("refresh.groups.*", GROUPS),
    ("metric.*", METRICS),
    ("metrics.*", METRICS),
    ("auto.include.jmx.reporter", METRICS),
    ("name", ITS_OWN),
    ("connector.class", ITS_OWN),
    ("task.assigned.*", ITS_OWN),
    ("add.source.alias.to.metrics", METRICS),
    ("sasl.*", SECURITY),
    ("ssl.*", SECURITY),
    ("security.*", SECURITY),
    ("client.*", CLIENTS),
    ("acks", CLIENTS),
    ("batch.size", CLIENTS),
    ("linger.ms", CLIENTS),
    ("buffer.memory", CLIENTS),
    ("compression.*", CLIENTS),
    ("enable.*", CLIENTS),
    ("max.*", CLIENTS),
    ("fetch.*", CLIENTS),
    ("auto.offset.reset", RESETS),
    ("isolation.level", COMMITTED),
    ("retries", CLIENTS),
    ("retry.*", CLIENTS),
    ("reconnect.*", CLIENTS),
    ("request.timeout.ms", CLIENTS),
    ("default.api.timeout.ms", CLIENTS),
    ("delivery.timeout.ms", CLIENTS),
    ("connections.max.idle.ms", CLIENTS),
    ("socket.*", CLIENTS),
    ("send.buffer.bytes", CLIENTS),
    ("receive.buffer.bytes", CLIENTS),
    ("transaction.timeout.ms", CLIENTS),
    ("transactional.id", CLIENTS),
    ("interceptor.classes", CLIENTS),
    ("partitioner.*", CLIENTS),
];

/// Keys that are carried over where MirrorMaker 2 looks for them. Elsewhere it does not.
const CARRIED: [&str; 31] = [
    "clusters",
    "config.providers*",
    "bootstrap.servers",
    "enabled",
    "topics",
    "topics.exclude",
    "topics.blacklist",
    "groups",
    "groups.exclude",
    "groups.blacklist",
    "sync.group.offsets.*",
    "emit.heartbeats.*",
    "heartbeats.replication.enabled",
    "replication.factor",
    "replication.policy.*",
    "refresh.topics.*",
    "sync.topic.configs.enabled",
    "sync.topic.acls.enabled",
    "tasks.max",
    "exactly.once.source.support",
    "security.protocol",
    "ssl.truststore.*",
    "ssl.keystore.*",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "sasl.mechanism",
    "sasl.jaas.config",
    "client.id",
    "request.timeout.ms",
    "producer.compression.*",
    "offset.storage.topic",
];

const NOT_LOOKED_AT: Reason = nothing_to_do("MirrorMaker 2 does not look at it here");

const UNKNOWN: Reason = Reason {
    what: What::Unknown,
    why: "it is no key of MirrorMaker 2, Kafka Connect or Kafka's clients that is known here",
    remedy: "see whether it was misspelt; MirrorMaker 2 passes over what it does not know",
    holds: false,
};

/// Whether a setting without a counterpart says what a link does anyway.
pub(super) fn is_as_ours(key: &str, value: &str) -> bool {
    let ours = [("isolation.level", "read_committed"), ("auto.offset.reset", "earliest")];
    ours.iter().any(|(name, ours)| key.ends_with(&format!(".{name}")) && value == *ours)
}

/// Why a key has no counterpart.
pub(super) fn reason(key: &str) -> Reason {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == pattern,
    };
    if CARRIED.iter().any(|pattern| fits(pattern)) {
        return NOT_LOOKED_AT;
    }
    TABLE.iter().find(|(pattern, _)| fits(pattern)).map_or(UNKNOWN, |(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_reason_of_the_first_pattern_that_fits() {
        for (key, what) in [
            ("offset.lag.max", What::NotCarriedOver),
            ("consumer.auto.offset.reset", What::Differs),
            ("transforms.rename.type", What::NotCarriedOver),
            ("topic", What::Unknown),
            ("nonsense", What::Unknown),
        ] {
            assert_eq!(reason(key).what, what, "{key}");
        }
        assert!(reason("transforms").holds && reason("topic.filter.class").holds);
        assert!(is_as_ours("consumer.isolation.level", "read_committed"));
        assert!(!is_as_ours("consumer.isolation.level", "read_uncommitted"));
        assert!(!reason("consumer.fetch.min.bytes").holds);
    }
}
