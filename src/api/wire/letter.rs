//! A dead letter: a record that was put aside, and what its headers say about that.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Header, Record, Time};
use crate::model::{LETTER_PREFIX, is_reserved_header};

/// How the names of all headers begin that say why a record was put aside.
const PREFIX: &str = LETTER_PREFIX;

/// A record in a topic of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Letter {
    /// Where the letter is: its partition.
    pub partition: u32,
    /// Where the letter is: its offset.
    pub offset: i64,
    /// Its own timestamp; null where producers gave it none that a calendar has.
    pub time: Option<Time>,
    /// Why the record was put aside; null where that cannot be said.
    pub reason: Option<LetterReason>,
    /// Why it cannot be said: somebody else has written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// With a reason, the record as the stage was given it, with the place that the link read it from and without the headers that
    /// only Tidegate writes. Without one, the record as it is in the topic of dead letters.
    pub record: Record,
}

/// Why a record was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetterReason {
    /// The link that read the record.
    pub link: String,
    /// The cluster that it was read from.
    pub cluster: String,
    /// Which of the siblings that earlier stages split the record into, from 0.
    pub ordinal: u64,
    /// The stage that could not handle it.
    pub stage: String,
    /// Name and version of the stage's plugin.
    pub plugin: String,
    /// The digest of the plugin.
    pub digest: String,
    /// The revision of the link.
    pub revision: u64,
    /// A stable word for what is wrong.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// How often it was tried.
    pub tries: u64,
    /// What was cut off, if the letter was too large for its topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

impl Letter {
    /// The letter that a record in a topic of dead letters is.
    pub fn new(record: Record) -> Self {
        let (partition, offset) = (record.partition.unwrap_or_default(), record.offset.unwrap_or_default());
        let time = record.timestamp.and_then(Time::of_record);
        let (reason, problem, record) = match read(&record) {
            Ok((reason, original)) => (Some(reason), None, original),
            Err(problem) => (None, Some(format!("not a dead letter: {problem}")), record),
        };
        Self { partition, offset, time, reason, problem, record }
    }

    /// Whether it may be a dead letter of a link: several links may share a topic of dead letters.
    /// What says of no link that it is its own is shown with each.
    pub fn may_be_of(&self, link: &str) -> bool {
        self.reason.as_ref().is_none_or(|reason| reason.link == link)
    }
}

/// The reason, and the record as it was.
fn read(record: &Record) -> Result<(LetterReason, Record), String> {
    // The first of the headers is the link. A dead letter that a link has read and put aside again has them twice: the last are
    // its own, and the others belong to the record that was read.
    let first = format!("{PREFIX}link");
    let start = record.headers.iter().rposition(|header| header.name == first.as_bytes());
    let (before, own) = record.headers.split_at(start.ok_or_else(|| format!("it has no header {first}"))?);
    let own = Own(own);
    let reason = LetterReason {
        link: own.text("link")?,
        cluster: own.text("cluster")?,
        ordinal: own.number("ordinal")?,
        stage: own.text("stage")?,
        plugin: own.text("plugin")?,
        digest: own.text("digest")?,
        revision: own.number("revision")?,
        code: own.text("code")?,
        message: own.text("message")?,
        tries: own.number("tries")?,
        cut: own.optional("cut")?,
    };
    let original = Record {
        topic: Some(own.text("topic")?),
        partition: Some(own.number("partition")?),
        offset: Some(own.number("offset")?),
        timestamp: Some(own.number("timestamp")?),
        key: record.key.clone(),
        value: record.value.clone(),
        // It may be produced again, and nobody else may write the others.
        headers: before.iter().chain(own.foreign()).filter(|it| !is_reserved_header(&it.name)).cloned().collect(),
    };
    Ok((reason, original))
}

/// The headers of a letter that are not those of the record.
struct Own<'a>(&'a [Header]);

impl<'a> Own<'a> {
    fn optional(&self, name: &str) -> Result<Option<String>, String> {
        let name = format!("{PREFIX}{name}");
        let Some(header) = self.0.iter().find(|header| header.name == name.as_bytes()) else { return Ok(None) };
        let text = header.value.clone().and_then(|value| String::from_utf8(value).ok());
        text.map(Some).ok_or_else(|| format!("its header {name} is not text"))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.optional(name)?.ok_or_else(|| format!("it has no header {PREFIX}{name}"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        self.text(name)?.parse().map_err(|_| format!("its header {PREFIX}{name} is not a number in range"))
    }

    /// What is not ours after all.
    fn foreign(&self) -> impl Iterator<Item = &'a Header> {
        self.0.iter().filter(|header| !header.name.starts_with(PREFIX.as_bytes()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.into(), value: Some(value.into()) }
    }

    /// The headers of a letter about a record at `offset` of `orders-2`.
    pub(crate) fn headers(offset: i64, message: &str) -> Vec<Header> {
        let offset = offset.to_string();
        [
            ("link", "orders"),
            ("cluster", "east"),
            ("topic", "orders"),
            ("partition", "2"),
            ("offset", &offset),
            ("ordinal", "1"),
            ("timestamp", "1705312800000"),
            ("stage", "mask"),
            ("plugin", "redact 1.0.0"),
            ("digest", "sha256:00"),
            ("revision", "3"),
            ("code", "not-json"),
            ("message", message),
            ("tries", "2"),
        ]
        .map(|(name, value)| header(&format!("{PREFIX}{name}"), value))
        .into()
    }

    fn record(headers: Vec<Header>) -> Record {
        Record { offset: Some(7), key: Some(b"k".to_vec()), headers, ..Record::default() }
    }

    #[test]
    fn the_record_is_what_the_link_read() {
        let own = headers(42, "bad");
        let letter = Letter::new(record([vec![header("a", "1")], own].concat()));
        let original = Record {
            topic: Some("orders".into()),
            partition: Some(2),
            offset: Some(42),
            timestamp: Some(1_705_312_800_000),
            headers: vec![header("a", "1")],
            ..record(Vec::new())
        };
        assert_eq!((letter.offset, letter.problem), (7, None));
        assert_eq!(letter.record, original);
        let reason = letter.reason.expect("a reason");
        assert_eq!((&*reason.plugin, reason.ordinal, reason.revision, reason.tries), ("redact 1.0.0", 1, 3, 2));
    }

    #[test]
    fn a_letter_about_a_letter_is_about_the_later_one() {
        let mut earlier = headers(1, "earlier");
        earlier.push(header("tidegate.dlq.cut", "the value was cut"));
        let free = vec![header("a", "1")];
        let letter = Letter::new(record([free.clone(), earlier, headers(2, "later")].concat()));
        let reason = letter.reason.expect("a reason");
        assert_eq!((&*reason.message, reason.cut), ("later", None));
        assert_eq!((letter.record.offset, letter.record.headers), (Some(2), free));
    }

    #[test]
    fn what_somebody_else_wrote_is_no_letter_and_stays_as_it_is() {
        let without = |name: &str| {
            let name = format!("{PREFIX}{name}");
            headers(1, "").into_iter().filter(|header| header.name != name.as_bytes()).collect()
        };
        let with = |name: &str, value: Option<&[u8]>| {
            let mut headers: Vec<Header> = without(name);
            headers.push(Header { name: format!("{PREFIX}{name}").into(), value: value.map(<[u8]>::to_vec) });
            headers
        };
        for (headers, problem) in [
            (vec![header("a", "1")], "it has no header tidegate.dlq.link"),
            (without("tries"), "it has no header tidegate.dlq.tries"),
            (with("stage", None), "its header tidegate.dlq.stage is not text"),
            (with("stage", Some(b"\xff")), "its header tidegate.dlq.stage is not text"),
            (with("offset", Some(b"x")), "its header tidegate.dlq.offset is not a number in range"),
            (with("partition", Some(b"-1")), "its header tidegate.dlq.partition is not a number in range"),
        ] {
            let record = record(headers);
            let letter = Letter::new(record.clone());
            assert_eq!(letter.problem, Some(format!("not a dead letter: {problem}")));
            assert_eq!((letter.reason, letter.record), (None, record));
        }
    }
}
