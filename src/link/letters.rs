//! Dead letters: records that a stage could not handle, with the reason, as records of a topic of the target.
//!
//! A letter holds the record as the failing stage was given it, not as it was in the source: an earlier stage may have taken
//! something out that must not get into the target. The headers say where the original is.

use std::fmt;

use super::ahead;
use super::failure::Place;
use super::pipeline::Pipeline;
use crate::model::batch::{HEADER_OVERHEAD, RECORD_OVERHEAD};
use crate::model::{Batch, BatchBuilder, HeaderRef, RecordRef};
use crate::plugin::{Reject, Trap, TrapKind};

/// What the names of all headers begin with that are added to the original ones.
pub use crate::model::LETTER_PREFIX as PREFIX;

/// The header that names the link.
const LINK: &str = "tidegate.dlq.link";

/// The code of a record that is larger than its topic takes.
const TOO_LARGE: &str = "record-too-large";

/// What stands in a letter for the stage, where it was the target that did not take the record. No stage can have this name.
const TARGET: &str = "(target)";

/// What stands there for the plugin.
const NO_PLUGIN: &str = "none";

/// Room for the header that says what was cut.
const CUT_NOTE_BYTES: usize = 256;

/// Why a record was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The plugin's code, or that of the trap.
    pub(super) code: String,
    /// What is wrong.
    pub(super) message: String,
    /// What ended the call, if the plugin trapped on the record; `None` if it rejected it.
    trap: Option<TrapKind>,
}

impl Cause {
    pub(super) fn rejected(reject: &Reject) -> Self {
        let (code, message) = (reject.code.clone(), reject.message.clone());
        Self { code, message, trap: None }
    }

    /// The plugin has trapped on the record twice at least: in the batch that it came with, and alone.
    pub(super) fn trapped(trap: &Trap) -> Self {
        let (code, message) = (trap.kind.code().to_owned(), trap.message.clone());
        Self { code, message, trap: Some(trap.kind) }
    }

    /// The record is ahead of all clocks, and no plugin has seen it.
    pub(super) fn ahead(timestamp: i64, most_ms: i64) -> Self {
        Self { code: ahead::CODE.to_owned(), message: ahead::message(timestamp, most_ms), trap: None }
    }

    /// Whether the plugin trapped on the record.
    pub(super) fn has_trapped(&self) -> bool {
        self.trap.is_some()
    }

    /// How often the record was tried: once, or in the batch that it came with and then alone.
    fn tries(&self) -> u32 {
        if self.has_trapped() { 2 } else { 1 }
    }

    /// The name of the state of a lane that stops because of it.
    pub(super) fn failure_code(&self) -> &'static str {
        match self.trap {
            Some(trap) => trap.code(),
            None if self.code == ahead::CODE => ahead::CODE,
            None => "record-rejected",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A record that was put aside.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// The stage's index; `None` if the target does not take the record.
    pub(super) stage: Option<usize>,
    /// The record, alone.
    pub(super) record: Batch,
    pub(super) cause: Cause,
}

impl Letter {
    /// A record that is larger than its topic in the target takes.
    pub(super) fn too_large(record: Batch) -> Self {
        let message =
            format!("the record takes {} bytes, which its target topic does not take", record.record_bytes(0));
        Self { stage: None, record, cause: Cause { code: TOO_LARGE.to_owned(), message, trap: None } }
    }

    /// Letters of a batch are in this order, however it was cut.
    pub(super) fn order(&self) -> (i64, Option<usize>, u32) {
        (self.record.offsets.first().copied().unwrap_or_default(), self.stage, self.record.first_ordinal)
    }

    /// The headers that are added.
    fn headers(&self, link: &str, cluster: &str, pipeline: &Pipeline) -> Vec<(String, String)> {
        let place = Place::of(&self.record);
        let timestamp = self.record.timestamps.first().copied().unwrap_or_default();
        let (stage, plugin, digest) = match self.stage.map(|stage| &pipeline.stages[stage].spec) {
            Some(spec) => {
                let plugin = format!("{} {}", spec.plugin_name, spec.plugin_version);
                (spec.name.clone(), plugin, spec.plugin_digest.to_string())
            }
            None => (TARGET.to_owned(), NO_PLUGIN.to_owned(), NO_PLUGIN.to_owned()),
        };
        [
            ("link", link.to_owned()),
            ("cluster", cluster.to_owned()),
            ("topic", place.topic),
            ("partition", place.partition.to_string()),
            ("offset", place.offset.to_string()),
            ("ordinal", self.record.first_ordinal.to_string()),
            ("timestamp", timestamp.to_string()),
            ("stage", stage),
            ("plugin", plugin),
            ("digest", digest),
            ("revision", pipeline.number().to_string()),
            ("code", self.cause.code.clone()),
            ("message", self.cause.message.clone()),
            ("tries", self.cause.tries().to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value))
        .collect()
    }

    /// Append the letter to a batch, cut so that it takes no more than `bytes_max`.
    fn write(&self, builder: &mut BatchBuilder, mut added: Vec<(String, String)>, bytes_max: usize) {
        let Some(record) = self.record.records().next() else { return };
        let own: usize = added.iter().map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD).sum();
        let mut room = bytes_max.saturating_sub(own + CUT_NOTE_BYTES + RECORD_OVERHEAD);
        let mut cuts = Vec::new();
        // The key says what the record is about, so it goes last.
        let key = fit("key", record.key(), &mut room, &mut cuts);
        let size = |header: &HeaderRef<'_>| header.name.len() + header.value.map_or(0, <[u8]>::len) + HEADER_OVERHEAD;
        let mut headers = Vec::new();
        for header in record.headers() {
            if size(&header) > room {
                break;
            }
            room -= size(&header);
            headers.push(header);
        }
        if headers.len() < record.headers().len() {
            cuts.push(format!("{} of {} headers", headers.len(), record.headers().len()));
        }
        let value = fit("value", record.value(), &mut room, &mut cuts);
        if !cuts.is_empty() {
            added.push((format!("{PREFIX}cut"), format!("kept {}", cuts.join(", "))));
        }
        let added = added.iter().map(|(name, text)| HeaderRef { name: name.as_bytes(), value: Some(text.as_bytes()) });
        builder.push(record.offset(), record.timestamp(), key, value, headers.into_iter().chain(added));
    }
}

/// As much of a part as there is room for.
fn fit<'a>(name: &str, part: Option<&'a [u8]>, room: &mut usize, cuts: &mut Vec<String>) -> Option<&'a [u8]> {
    let part = part?;
    let kept = part.len().min(*room);
    if kept < part.len() {
        cuts.push(format!("{kept} of {} bytes of the {name}", part.len()));
    }
    *room -= kept;
    Some(&part[..kept])
}

/// The link that a dead letter says it is of. One about a dead letter says it twice: its own comes last.
pub(super) fn link_of(letter: RecordRef<'_>) -> Option<&[u8]> {
    letter.last_header(LINK.as_bytes())?.value
}

/// The records for the topic of dead letters, which takes records of `bytes_max` bytes.
pub(super) fn dead_letters(
    letters: &[Letter],
    link: &str,
    cluster: &str,
    pipeline: &Pipeline,
    bytes_max: usize,
) -> Option<Batch> {
    let first = letters.first()?;
    let mut builder = BatchBuilder::new();
    for letter in letters {
        letter.write(&mut builder, letter.headers(link, cluster, pipeline), bytes_max);
    }
    Some(builder.finish(first.record.topic.clone(), first.record.partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(value: &[u8], header: &[u8]) -> Letter {
        let mut builder = BatchBuilder::new();
        let headers = [HeaderRef { name: b"h", value: Some(header) }];
        builder.push(7, 9, Some(b"key"), Some(value), headers);
        let reject = Reject { index: 0, offset: 7, code: "bad".into(), message: "it is bad".into() };
        Letter { stage: Some(0), record: builder.finish("orders", 3), cause: Cause::rejected(&reject) }
    }

    fn written(letter: &Letter, bytes_max: usize) -> Batch {
        let mut builder = BatchBuilder::new();
        letter.write(&mut builder, vec![(format!("{PREFIX}code"), "bad".to_owned())], bytes_max);
        builder.finish("orders", 3)
    }

    fn header(batch: &Batch, name: &str) -> Option<String> {
        let record = batch.records().next().expect("a record");
        let found = record.headers().find(|header| header.name == name.as_bytes())?;
        Some(String::from_utf8_lossy(found.value.unwrap_or_default()).into_owned())
    }

    #[test]
    fn a_letter_is_the_record_with_headers_behind_its_own() {
        let batch = written(&letter(b"value", b"x"), 10_000);
        let record = batch.records().next().expect("a record");
        assert_eq!((record.key(), record.value(), record.timestamp()), (Some(&b"key"[..]), Some(&b"value"[..]), 9));
        let names: Vec<_> = record.headers().map(|header| String::from_utf8_lossy(header.name).into_owned()).collect();
        assert_eq!(names, ["h", "tidegate.dlq.code"]);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_so() {
        let large = letter(&[b'v'; 5000], b"x");
        let batch = written(&large, 2000);
        let record = batch.records().next().expect("a record");
        let kept = record.value().expect("a value").len();
        assert!(kept > 1000 && kept < 1800, "{kept}");
        assert_eq!(header(&batch, "tidegate.dlq.cut"), Some(format!("kept {kept} of 5000 bytes of the value")));
        assert!(batch.payload_bytes() <= 2000);

        let batch = written(&letter(b"v", &[b'h'; 5000]), 2000);
        assert_eq!(header(&batch, "tidegate.dlq.cut").as_deref(), Some("kept 0 of 1 headers"));
    }
}
