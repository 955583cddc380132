//! A record as JSON: what `produce --json` takes, what `consume --json` prints, and what the API carries.
//!
//! ```json
//! {"topic":"orders","partition":0,"offset":42,"timestamp":1705312800000,
//!  "key":"k","value":"v","headers":[["trace","1"],{"name":"raw","value_base64":"/w=="}]}
//! ```
//!
//! Bytes that are not UTF-8 stand under `key_base64` and `value_base64` instead of `key` and `value`. A header is a
//! pair of texts (the value may be null), or, where a part of it is not UTF-8, an object with `name` or `name_base64`
//! and `value` or `value_base64`. Everything may be missing or null when a record is produced; `topic` and
//! `offset` are then ignored, so that what was consumed can be produced elsewhere.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{HeaderRef, RecordRef};

/// A record. Keys, values and both parts of a header are any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NewRecord")]
pub struct Record {
    /// The topic that it was read from.
    pub topic: Option<String>,
    /// The partition that it was read from, or shall go to.
    pub partition: Option<u32>,
    /// Its offset in the partition that it was read from.
    pub offset: Option<i64>,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order, duplicates included.
    pub headers: Vec<Header>,
}

/// A header of a [`Record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Vec<u8>,
    /// The value, or null.
    pub value: Option<Vec<u8>>,
}

impl Header {
    /// The header as a batch has it.
    pub(in crate::api) fn view(&self) -> HeaderRef<'_> {
        HeaderRef { name: &self.name, value: self.value.as_deref() }
    }
}

impl From<HeaderRef<'_>> for Header {
    fn from(header: HeaderRef<'_>) -> Self {
        Self { name: header.name.to_vec(), value: header.value.map(<[u8]>::to_vec) }
    }
}

/// A record of a batch, written as a [`Record`] would be, without a copy of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The record.
    pub record: RecordRef<'a>,
}

/// The answer to a read, on the reading side.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Records {
    /// The records, in order.
    pub records: Vec<Record>,
    /// The offset to go on from.
    pub next_offset: i64,
    /// The first offset that is still in the partition.
    pub log_start: i64,
    /// The offset that the partition's next record will get.
    pub end: i64,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_known(&mut map, "topic", self.topic.as_ref())?;
        put_known(&mut map, "partition", self.partition)?;
        put_known(&mut map, "offset", self.offset)?;
        put_known(&mut map, "timestamp", self.timestamp)?;
        put_bytes(&mut map, "key", "key_base64", self.key.as_deref())?;
        put_bytes(&mut map, "value", "value_base64", self.value.as_deref())?;
        map.serialize_entry("headers", &HeadersView(|| self.headers.iter().map(Header::view)))?;
        map.end()
    }
}

impl Serialize for RecordView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.record.offset())?;
        map.serialize_entry("timestamp", &self.record.timestamp())?;
        put_bytes(&mut map, "key", "key_base64", self.record.key())?;
        put_bytes(&mut map, "value", "value_base64", self.record.value())?;
        map.serialize_entry("headers", &HeadersView(|| self.record.headers()))?;
        map.end()
    }
}

fn put_known<M: SerializeMap>(map: &mut M, name: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

/// Write `bytes` under `name` if they are text or null, else under `name_base64`.
fn put_bytes<M: SerializeMap>(
    map: &mut M,
    name: &str,
    name_base64: &str,
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
        None => map.serialize_entry(name, &()),
        Some(Ok(text)) => map.serialize_entry(name, text),
        Some(Err(bytes)) => map.serialize_entry(name_base64, &BASE64.encode(bytes)),
    }
}

/// Headers, made anew each time they are written.
struct HeadersView<F>(F);

impl<'a, I: Iterator<Item = HeaderRef<'a>>, F: Fn() -> I> Serialize for HeadersView<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)().map(HeaderView))
    }
}

struct HeaderView<'a>(HeaderRef<'a>);

impl Serialize for HeaderView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let HeaderRef { name, value } = self.0;
        match (str::from_utf8(name), value.map(str::from_utf8).transpose()) {
            (Ok(name), Ok(value)) => (name, value).serialize(serializer),
            _ => {
                let mut map = serializer.serialize_map(None)?;
                put_bytes(&mut map, "name", "name_base64", Some(name))?;
                put_bytes(&mut map, "value", "value_base64", value)?;
                map.end()
            }
        }
    }
}

/// What is answered. Bytes that are not UTF-8 are `key_base64` and `value_base64` instead.
impl JsonSchema for Record {
    fn schema_name() -> Cow<'static, str> {
        "Record".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let bytes = json_schema!({"type": "string", "contentEncoding": "base64"});
        json_schema!({
            "type": "object",
            "description": "A record. Bytes that are not UTF-8 stand under `key_base64` and `value_base64`.",
            "properties": {
                "topic": {"type": "string"},
                "partition": generator.subschema_for::<u32>(),
                "offset": generator.subschema_for::<i64>(),
                "timestamp": {"type": "integer", "format": "int64", "description": "Milliseconds since 1970-01-01 UTC."},
                "key": {"type": ["string", "null"]},
                "key_base64": bytes,
                "value": {"type": ["string", "null"], "description": "Null is a tombstone."},
                "value_base64": bytes,
                "headers": generator.subschema_for::<Vec<Header>>(),
            },
            "required": ["topic", "partition", "offset", "timestamp", "headers"],
        })
    }
}

impl JsonSchema for Header {
    fn schema_name() -> Cow<'static, str> {
        "Header".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A header: a pair of texts, or, where a part of it is not UTF-8, an object.",
            "anyOf": [
                {"type": "array", "prefixItems": [{"type": "string"}, {"type": ["string", "null"]}], "minItems": 2, "maxItems": 2},
                {
                    "type": "object",
                    "properties": {
                        "name": {"type": ["string", "null"]},
                        "name_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
                        "value": {"type": ["string", "null"]},
                        "value_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
                    },
                    "anyOf": [{"required": ["name"]}, {"required": ["name_base64"]}],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// What is sent. A misspelt field is an error: as a missing value it would quietly become a tombstone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewRecord {
    topic: Option<String>,
    partition: Option<u32>,
    offset: Option<i64>,
    timestamp: Option<i64>,
    key: Option<String>,
    #[schemars(extend("contentEncoding" = "base64"))]
    key_base64: Option<String>,
    value: Option<String>,
    #[schemars(extend("contentEncoding" = "base64"))]
    value_base64: Option<String>,
    headers: Option<Vec<Header>>,
}

impl TryFrom<NewRecord> for Record {
    type Error = String;

    fn try_from(form: NewRecord) -> Result<Self, String> {
        Ok(Self {
            topic: form.topic,
            partition: form.partition,
            offset: form.offset,
            timestamp: form.timestamp,
            key: take_bytes("key", form.key, form.key_base64)?,
            value: take_bytes("value", form.value, form.value_base64)?,
            headers: form.headers.unwrap_or_default(),
        })
    }
}

fn take_bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("both {name} and {name}_base64 are given, and only one can be")),
        (text, None) => Ok(text.map(String::into_bytes)),
        (None, Some(base64)) => {
            BASE64.decode(base64).map(Some).map_err(|error| format!("{name}_base64 is not base64: {error}"))
        }
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header: [name, value], or an object with name or name_base64 and value or value_base64")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Header, A::Error> {
        let name: String = list.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let value: Option<String> = list.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        if list.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(3, &self));
        }
        Ok(Header { name: name.into_bytes(), value: value.map(String::into_bytes) })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Header, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            name: Option<String>,
            name_base64: Option<String>,
            value: Option<String>,
            value_base64: Option<String>,
        }
        let form = Form::deserialize(MapAccessDeserializer::new(map))?;
        let name = take_bytes("name", form.name, form.name_base64).map_err(A::Error::custom)?;
        Ok(Header {
            name: name.ok_or_else(|| A::Error::custom("a header has no name"))?,
            value: take_bytes("value", form.value, form.value_base64).map_err(A::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::BatchBuilder;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>()]
    }

    fn header() -> impl Strategy<Value = Header> {
        (bytes(), proptest::option::of(bytes())).prop_map(|(name, value)| Header { name, value })
    }

    prop_compose! {
        fn record()(
            topic in any::<Option<String>>(),
            partition in any::<Option<u32>>(),
            offset in any::<Option<i64>>(),
            timestamp in any::<Option<i64>>(),
            key in proptest::option::of(bytes()),
            value in proptest::option::of(bytes()),
            headers in proptest::collection::vec(header(), 0..4),
        ) -> Record {
            Record { topic, partition, offset, timestamp, key, value, headers }
        }
    }

    proptest! {
        #[test]
        fn any_record_is_read_as_it_was_written(record in record()) {
            let json = serde_json::to_string(&record).expect("written");
            prop_assert!(!json.contains('\n'), "one line: {json}");
            prop_assert_eq!(serde_json::from_str::<Record>(&json).expect("read"), record);
        }

        #[test]
        fn a_view_is_written_as_the_record_is(record in record()) {
            let record = Record {
                topic: Some("t".into()), partition: Some(3), offset: Some(7), timestamp: Some(9), ..record
            };
            let mut builder = BatchBuilder::new();
            let headers = record.headers.iter().map(Header::view);
            builder.push(7, 9, record.key.as_deref(), record.value.as_deref(), headers);
            let batch = builder.finish("t", 3);
            let view = RecordView { topic: "t", partition: 3, record: batch.record(0) };
            prop_assert_eq!(
                serde_json::to_string(&view).expect("view"), serde_json::to_string(&record).expect("record")
            );
        }
    }

    #[test]
    fn the_shape_is_the_documented_one() {
        let record = Record {
            topic: Some("orders".into()),
            partition: Some(0),
            offset: Some(42),
            timestamp: Some(5),
            key: Some(vec![0xff]),
            value: None,
            headers: vec![
                Header { name: b"a".to_vec(), value: Some(b"1".to_vec()) },
                Header { name: b"a".to_vec(), value: None },
                Header { name: b"raw".to_vec(), value: Some(vec![0xff]) },
            ],
        };
        assert_eq!(
            serde_json::to_string(&record).expect("json"),
            concat!(
                r#"{"topic":"orders","partition":0,"offset":42,"timestamp":5,"key_base64":"/w==","value":null,"#,
                r#""headers":[["a","1"],["a",null],{"name":"raw","value_base64":"/w=="}]}"#
            )
        );
    }

    #[test]
    fn everything_may_be_missing_or_null() {
        for json in ["{}", r#"{"key":null,"value":null,"headers":null,"timestamp":null,"partition":null}"#] {
            assert_eq!(serde_json::from_str::<Record>(json).expect(json), Record::default());
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, part) in [
            (r#"{"vlaue":"x"}"#, "unknown field `vlaue`"),
            (r#"{"key":"x","key_base64":"eA=="}"#, "both key and key_base64"),
            (r#"{"value_base64":"%"}"#, "value_base64 is not base64"),
            (r#"{"headers":[["a"]]}"#, "[name, value]"),
            (r#"{"headers":[["a","b","c"]]}"#, "[name, value]"),
            (r#"{"headers":[{"value":"x"}]}"#, "a header has no name"),
            (r#"{"partition":-1}"#, "invalid value"),
            (r#"{"value":{"a":1}}"#, "expected a string"),
        ] {
            let error = serde_json::from_str::<Record>(json).expect_err(json).to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
