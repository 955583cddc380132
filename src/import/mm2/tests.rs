//! Properties in, a configuration out.

use proptest::prelude::proptest;

use crate::config::{ClusterKind, Config, GroupSelection, GroupSync, KafkaConfig, LinkConfig, SaslConfig, Start};
use crate::import::{Finding, Import, What};

use super::import;

/// A flow between two clusters.
const TWO: &str = "clusters = east, west\neast.bootstrap.servers = e:9092\nwest.bootstrap.servers = w:9092\neast->west.enabled = true\neast->west.emit.heartbeats.enabled = false\n";

fn of(more: &str) -> Import {
    let text = format!("{TWO}{more}");
    import(text.as_bytes(), "mm2.properties").unwrap_or_else(|error| panic!("{error}; {}\n{text}", error.remedy))
}

/// The configuration, read by our loader; it names no file.
fn config(more: &str) -> Config {
    let text = of(more).configuration;
    let read = Config::parse(&text, "tidegate.toml", std::path::Path::new(""));
    read.unwrap_or_else(|found| panic!("{found:?}\n{text}")).0
}

fn link(more: &str) -> LinkConfig {
    config(more).links["east-to-west"].clone()
}

fn kafka(config: &Config, id: &str) -> KafkaConfig {
    match &config.clusters[id].kind {
        ClusterKind::Kafka(kafka) => KafkaConfig::clone(kafka),
        ClusterKind::Embedded(_) => panic!("{id} is not of Kafka"),
    }
}

fn finding(import: &Import, key: &str) -> Finding {
    let found = import.findings.iter().find(|finding| finding.key == key);
    found.cloned().unwrap_or_else(|| panic!("nothing is said about {key}: {:#?}", import.findings))
}

#[test]
fn a_small_file_becomes_a_link_that_does_the_same() {
    let config = config("");
    assert_eq!(*kafka(&config, "east").brokers, ["e:9092".into()]);
    let link = &config.links["east-to-west"];
    assert_eq!((&*link.name, &*link.source, &*link.target), ("east->west", "east", "west"));
    assert_eq!(link.target_topic("orders"), "east.orders");
    for (topic, is_read) in
        [("orders", true), ("west.orders", false), ("a.west.orders", false), ("x.replica", false), ("__x", false)]
    {
        assert_eq!(link.selects(topic), is_read, "{topic}");
    }
    // Its defaults, not ours.
    assert!(link.following.settings && link.following.acls && link.autostart);
    assert_eq!(link.following.replication_factor, Some(2));
    let Start::MirrorMaker(start) = &link.start else { panic!("{:?}", link.start) };
    assert_eq!((&*start.topic, &*start.source), ("mm2-offsets.east.internal", "east"));
    assert_eq!(of("").findings, []);
}

#[test]
fn what_is_said_for_a_flow_goes_before_what_is_said_for_all() {
    let more = "topics = a\neast->west.topics = b, c.*\nreplication.factor = 3\neast->west.replication.factor = 5\nsync.topic.acls.enabled = false\n\
                refresh.topics.interval.seconds = 20\ntasks.max = 4\neast->west.tasks.max = 8\neast->west.topics.exclude = c-x\n";
    let link = link(more);
    for (topic, is_read) in [("a", false), ("b", true), ("cd", true), ("c-x", false)] {
        assert_eq!(link.selects(topic), is_read, "{topic}");
    }
    let following = &link.following;
    assert_eq!((following.replication_factor, following.acls, following.refresh.as_secs()), (Some(5), false, 20));
    assert_eq!(link.lanes, 8);
    assert_eq!(of(more).findings, []);
}

#[test]
fn topics_keep_their_names_or_get_another_separator() {
    let identity = link("replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy");
    assert_eq!(identity.target_topic("orders"), "orders");
    assert_eq!(identity.target_topic("heartbeats"), "east.heartbeats");
    assert!(identity.selects("west.orders") && !identity.selects("west.heartbeats"));
    let other = link("replication.policy.separator = _");
    assert_eq!(other.target_topic("orders"), "east_orders");
    assert!(!other.selects("west_orders") && other.selects("west.orders"));
}

#[test]
fn its_offsets_are_where_its_workers_keep_them() {
    for (more, topic) in [
        ("", "mm2-offsets.east.internal"),
        ("west.offset.storage.topic = of-cluster", "of-cluster"),
        ("west.offset.storage.topic = of-cluster\noffset.storage.topic = of-all", "of-all"),
        ("offset.storage.topic = of-all\neast->west.offsets.storage.topic = of-flow", "of-flow"),
    ] {
        let Start::MirrorMaker(start) = link(more).start else { panic!("{more}") };
        assert_eq!(&*start.topic, topic, "{more}");
    }
}

#[test]
fn flows_both_ways_become_two_links_that_are_no_circle() {
    let config = config("west->east.enabled = true\nwest->east.topics = .*");
    assert_eq!(config.links.keys().map(|id| &**id).collect::<Vec<_>>(), ["east-to-west", "west-to-east"]);
    let back = &config.links["west-to-east"];
    assert!(back.selects("orders") && !back.selects("east.orders"));
}

#[test]
fn clusters_have_their_security() {
    let more = "security.protocol = SASL_SSL\nsasl.mechanism = PLAIN\n\
                sasl.jaas.config = org.apache.kafka.common.security.plain.PlainLoginModule required username=\"all\" password=\"geheim1\";\n\
                east.sasl.mechanism = SCRAM-SHA-512\neast.ssl.truststore.type = PEM\neast.ssl.truststore.location = /etc/ca.pem\n\
                east.sasl.jaas.config = org.apache.kafka.common.security.scram.ScramLoginModule required username=\"e\" password=\"geheim2\";\n\
                west.producer.compression.type = zstd\nwest.producer.compression.zstd.level = 7\nwest.client.id = mirror\n";
    let import = of(more);
    let text = &import.configuration;
    assert!(!text.contains("geheim"), "{text}");
    for line in [
        "[clusters.east.security]\nenable_tls = true\ntls_ca_file = \"/etc/ca.pem\"\n",
        "[clusters.east.security.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"e\"\npassword = \"${file:secrets/east-password}\"\n",
        "[clusters.west.security]\nenable_tls = true\n",
        "[clusters.west.security.sasl]\nmechanism = \"PLAIN\"\nusername = \"all\"\npassword = \"${file:secrets/west-password}\"\n",
        "client_id = \"mirror\"\n",
        "compression = \"zstd\"\ncompression_level = 7\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    let to_do = finding(&import, "east.sasl.jaas.config");
    assert_eq!((to_do.what, to_do.line), (What::ToDo, Some(12)));
    assert!(to_do.remedy.contains("secrets/east-password"), "{to_do:?}");
    assert!(import.findings.iter().all(|finding| !format!("{finding:?}").contains("geheim")));
}

#[test]
fn files_that_are_there_are_read_and_the_loader_agrees() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("secrets")).expect("a directory");
    std::fs::write(dir.path().join("secrets/east-password"), "p\n").expect("a file");
    let more = "east.security.protocol = SASL_PLAINTEXT\neast.sasl.mechanism = SCRAM-SHA-256\n\
                east.sasl.jaas.config = M required username=\"e\" password=\"p\";";
    let text = of(more).configuration;
    let (config, _) = Config::parse(&text, "tidegate.toml", dir.path()).expect("a configuration");
    assert!(
        matches!(kafka(&config, "east").security.sasl, Some(SaslConfig::ScramSha256(login)) if &*login.username == "e")
    );
    assert_eq!(kafka(&config, "west").compression.codec().name(), "none");
}

#[test]
fn secrets_from_elsewhere_come_from_there() {
    let providers = "config.providers = e, d, f\nconfig.providers.e.class = org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
                     config.providers.d.class = org.apache.kafka.common.config.provider.DirectoryConfigProvider\n\
                     config.providers.f.class = org.apache.kafka.common.config.provider.FileConfigProvider\n\
                     east.security.protocol = SASL_PLAINTEXT\neast.sasl.mechanism = PLAIN\n";
    for (value, expected, is_to_do) in [
        ("${e:SECRET}", "${env:SECRET}", false),
        ("${d:/run/secrets:kafka}", "${file:/run/secrets/kafka}", false),
        ("${f:/etc/kafka.properties:password}", "${file:secrets/east-password}", true),
        ("${x:y}", "${file:secrets/east-password}", true),
    ] {
        let import = of(&format!("{providers}east.sasl.jaas.config = M required username=\"u\" password=\"{value}\";"));
        let line = format!("password = \"{expected}\"\n");
        assert!(import.configuration.contains(&line), "{value}: {}", import.configuration);
        assert_eq!(import.findings.iter().any(|finding| finding.what == What::ToDo), is_to_do, "{value}");
    }
}

#[test]
fn stores_of_java_become_files_that_a_person_makes() {
    let more = "east.security.protocol = SSL\neast.ssl.truststore.location = /a/trust.jks\neast.ssl.truststore.password = geheim\n\
                east.ssl.keystore.location = /a/own.p12\neast.ssl.keystore.password = geheim\neast.ssl.key.password = geheim\n\
                east.ssl.endpoint.identification.algorithm =\n";
    let import = of(more);
    let lines = "tls_ca_file = \"tls/east-ca.pem\"\ntls_cert_file = \"tls/east-cert.pem\"\ntls_key_file = \"tls/east-key.pem\"\n";
    assert!(import.configuration.contains(lines), "{}", import.configuration);
    assert!(finding(&import, "east.ssl.truststore.location").remedy.contains("keytool"));
    assert!(!finding(&import, "east.ssl.keystore.location").remedy.contains("keytool"));
    assert_eq!(finding(&import, "east.ssl.endpoint.identification.algorithm").what, What::Differs);
    for key in ["truststore.password", "keystore.password", "key.password"] {
        assert_eq!(finding(&import, &format!("east.ssl.{key}")).what, What::NotCarriedOver);
    }
    assert!(!import.configuration.contains("geheim"));
}

#[test]
fn clients_of_a_cluster_that_differ_are_named() {
    let more = "west.security.protocol = PLAINTEXT\nwest.producer.security.protocol = SSL\nwest.consumer.security.protocol = PLAINTEXT\n";
    let import = of(more);
    assert_eq!(finding(&import, "west.producer.security.protocol").what, What::NotCarriedOver);
    assert_eq!(import.findings.len(), 1, "{:#?}", import.findings);
}

#[test]
fn every_key_that_is_not_carried_over_is_named_with_its_line() {
    for (line, what) in [
        ("offset.lag.max = 1", What::NotCarriedOver),
        ("east->west.groups = .*", What::NotCarriedOver),
        ("east.consumer.fetch.min.bytes = 1", What::NotCarriedOver),
        ("west.exactly.once.source.support = disabled", What::Differs),
        ("exactly.once.source.support = enabled", What::NotCarriedOver),
        ("config.properties.exclude = x", What::Differs),
        ("sync.topic.acls.interval.seconds = 5", What::Differs),
        ("refresh.topics.enabled = false", What::Differs),
        ("refresh.topics.interval.seconds = -1", What::NotCarriedOver),
        ("topics.blacklist = x", What::Differs),
        ("east.topics = x", What::NotCarriedOver),
        ("west->east.topics = x", What::NotCarriedOver),
        ("east->norht.topics = x", What::Unknown),
        ("topic.exclude = x", What::Unknown),
        ("sync.topic.acls.enabled = yes", What::NotCarriedOver),
        ("east.request.timeout.ms = 1", What::NotCarriedOver),
        ("clusters.x = 1", What::Unknown),
    ] {
        let import = of(line);
        let key = line.split(" = ").next().unwrap_or_default();
        let found = finding(&import, key);
        assert_eq!((found.what, found.line), (what, Some(6)), "{line}");
        assert!(import.configuration.contains(&format!("{key} (line 6)")), "{}", import.configuration);
    }
}

#[test]
fn what_a_link_does_anyway_needs_no_word() {
    for line in [
        "west.exactly.once.source.support = enabled",
        "east.consumer.isolation.level = read_committed",
        "east.consumer.auto.offset.reset = earliest",
        "east->west.topics.exclude = x",
    ] {
        assert_eq!(of(line).findings, [], "{line}");
    }
}

#[test]
fn heartbeats_that_nobody_turned_off_go_on_elsewhere() {
    let text = TWO.replace("east->west.emit.heartbeats.enabled = false\n", "");
    let import = import(text.as_bytes(), "f").expect("an import");
    let found = finding(&import, "emit.heartbeats.enabled");
    assert_eq!((found.what, found.line), (What::Differs, None));
    assert!(import.configuration.contains("heartbeat_interval = \"1s\""), "{}", import.configuration);
}

#[test]
fn groups_go_along_if_they_did() {
    let more = "groups = billing, audit-.*\nsync.group.offsets.interval.seconds = 20\n";
    assert_eq!(link(more).groups, GroupSync::default());
    let followed = link(&format!("{more}sync.group.offsets.enabled = true"));
    let GroupSync { groups, interval, .. } = &followed.groups;
    assert_eq!(interval.as_secs(), 20);
    for (group, follows) in [("billing", true), ("audit-7", true), ("other", false)] {
        assert_eq!(groups.selects(group), follows, "{group}");
    }
    let import = of("sync.group.offsets.enabled = true\nsync.group.offsets.interval.seconds = 0");
    assert_eq!(finding(&import, "sync.group.offsets.interval.seconds").what, What::NotCarriedOver);
}

#[test]
fn groups_that_stayed_behind_do() {
    let groups = |more: &str| link(&format!("sync.group.offsets.enabled = true\n{more}")).groups.groups;
    let usual = groups("");
    let of =
        |groups: &GroupSelection| ["billing", "console-consumer-7", "connect-x", "__x"].map(|it| groups.selects(it));
    assert_eq!(of(&usual), [true, false, false, false], "as MirrorMaker 2 leaves them out by default");
    assert_eq!(of(&groups("groups.exclude = bill.*")), [false, true, true, true]);
    assert_eq!(of(&groups("groups.blacklist = connect-.*")), [true, true, false, true], "its old name");
}

/// Records would go round for ever: both links leave out what came from the other side, and wait for a person.
#[test]
fn both_directions_under_one_name_leave_out_what_has_come() {
    for (flows, marked) in [(&["a->b", "b->a"][..], 2), (&["a->b", "b->c", "c->a", "a->d"], 3), (&["a->b", "b->c"], 0)]
    {
        let flows: String = flows.iter().map(|flow| format!("{flow}.enabled = true\n")).collect();
        let text = format!(
            "clusters = a, b, c, d\nbootstrap.servers = x:1\ntopics = orders.*\n{flows}\
             replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy\n"
        );
        let import = import(text.as_bytes(), "f").unwrap_or_else(|error| panic!("{text}: {error}"));
        let text = &import.configuration;
        assert_eq!(text.matches("provenance = true").count(), marked, "{text}");
        assert_eq!(text.matches("autostart = false").count(), marked, "{text}");
        Config::parse(text, "f", std::path::Path::new("")).expect("a configuration");
    }
}

#[test]
fn a_link_that_could_copy_the_wrong_thing_waits_for_a_person() {
    for more in [
        "topics = (?!a).*, b",
        "topics.exclude = a(?=b)",
        "replication.policy.class = com.example.Policy",
        "topic.filter.class = com.example.Filter",
        "east->west.transforms = rename",
        "east.consumer.auto.offset.reset = latest",
        "east.security.protocol = SASL_PLAINTEXT",
        "east.security.protocol = SASL_SSL\neast.sasl.mechanism = SCRAM-SHA-256",
        "west.security.protocol = SASL_SSL\nwest.sasl.mechanism = AWS_MSK_IAM",
    ] {
        let import = of(more);
        assert!(import.configuration.contains("autostart = false\n"), "{more}\n{}", import.configuration);
        assert!(
            import.findings.iter().any(|finding| finding.remedy.contains("autostart = true") || finding.line.is_none()),
            "{more}"
        );
    }
}

#[test]
fn a_topic_that_is_never_copied_may_be_named() {
    let import = of("topics = orders, __consumer_offsets");
    assert!(import.configuration.contains("topics = [\"orders\"]\n"), "{}", import.configuration);
    assert_eq!(finding(&import, "topics").what, What::NotCarriedOver);
}

#[test]
fn a_key_that_occurs_twice_counts_once() {
    let more = "tasks.max = 2\ntasks.max = 3\n";
    assert_eq!(link(more).lanes, 3);
    assert_eq!(finding(&of(more), "tasks.max").line, Some(6));
}

#[test]
fn an_alias_that_is_no_id_becomes_one() {
    let text = "clusters = my east, west\nmy\\ east.bootstrap.servers = e:1\nwest.bootstrap.servers = w:1\nmy\\ east->west.enabled = true\nmy\\ east->west.replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy\nreplication.policy.separator = -\n";
    let error = import(text.as_bytes(), "f").expect_err("a name that no topic can have");
    assert!(error.message.contains("a topic's name cannot have ' '"), "{error}");
    let text = text.replace("my east", "my+east").replace("my\\ east", "my+east").replace(
        "policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        "policy.class = com.example.Own\noffset.storage.topic = offsets",
    );
    let import = import(text.as_bytes(), "f").expect("an import");
    assert!(import.configuration.contains("[links.my-east-to-west]"), "{}", import.configuration);
    assert!(import.configuration.contains("source = \"my+east\""), "{}", import.configuration);
    assert_eq!(finding(&import, "my+east").what, What::Differs);
}

#[test]
fn an_alias_may_have_every_letter() {
    // As in a test of Kafka's own, but for the comma.
    let escaped = "B-\\ ._~\\:/?\\#[]@\\!$&'()*+;\\=\"<>%{}|\\\\^`618";
    let text = format!(
        "clusters = A, {escaped}\nbootstrap.servers = x:1\nA->{escaped}.enabled = true\nA->{escaped}.topics = t.*\n"
    );
    let import = import(text.as_bytes(), "f").expect("an import");
    let read = Config::parse(&import.configuration, "f", std::path::Path::new("")).expect("a configuration").0;
    let (id, link) = read.links.first_key_value().expect("a link");
    assert!(link.selects("t1") && id.starts_with("A-to-B-"), "{}", import.configuration);
    assert_eq!(&*link.target_topic("t1"), "A.t1");
}

#[test]
fn what_cannot_be_a_link_is_refused_with_what_to_do() {
    for (text, message, remedy) in [
        ("name = x", "the file names no clusters", "connect-mirror-maker.sh"),
        ("clusters = a, b", "no flow is enabled", "a->b.enabled = true"),
        ("clusters = a, b\na->b.enabled = TRUE", "a.bootstrap.servers is missing", "a.bootstrap.servers = host:9092"),
        (
            "clusters = a, b\na->b.enabled = true\nbootstrap.servers = ${env:X}",
            "line 3: bootstrap.servers is ${env:X}",
            "only secrets can come from elsewhere",
        ),
        (
            "clusters = a, b\na->b.enabled = true\nbootstrap.servers = x:1\ntopics = __x",
            "a->b has no topics",
            "write other topics",
        ),
        ("clusters = a, b\na->b.enabled = true\nbootstrap.servers = x", "not a host and a port", ""),
        (
            "clusters = a, b, c\nenabled = true\nbootstrap.servers = x:1\n\
             replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy\ntopics = t",
            "the configuration would be refused",
            "",
        ),
    ] {
        let error = import(text.as_bytes(), "f").map(|import| import.configuration).expect_err(text);
        assert!(error.message.contains(message), "{text}: {error}");
        assert!(error.remedy.contains(remedy), "{text}: {}", error.remedy);
    }
}

proptest! {
    /// Whatever a value is, no text can leave its string or its comment: what comes out is a configuration, or there is an error.
    #[test]
    fn no_value_makes_a_configuration_that_is_none(key in 0usize..6, value in "[a-z.,*+?()\\[\\]|^$\"'#= \\\\\u{1}-\u{20}äµ{}:/-]{0,24}") {
        let keys = ["topics", "topics.exclude", "replication.policy.separator", "tasks.max", "east.client.id", "unknown.key"];
        let text = format!("{TWO}{} = {value}\n", keys[key]);
        if let Ok(import) = import(text.as_bytes(), "f\n[x]") {
            let read = Config::rehearse(&import.configuration, "f");
            assert!(read.is_ok(), "{}", import.configuration);
        }
    }
}
