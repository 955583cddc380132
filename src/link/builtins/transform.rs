//! What is changed of the headers of records: some are removed, then values become others, then headers are added.

use std::io::Write;

use crate::config::{Piece, Template, Variable, parse_mapping};
use crate::model::batch::HeaderSpan;
use crate::model::time::rfc3339;
use crate::model::{Batch, Span, TransformSpec};

/// A transform whose texts were read.
#[derive(Debug)]
pub(super) struct Transform {
    remove: Vec<String>,
    /// By name of a header, old and new values.
    mappings: Vec<(String, Vec<(String, String)>)>,
    add: Vec<(String, Template)>,
}

/// What is put behind the arena of a batch.
struct More {
    /// The bytes of the arena before.
    base: usize,
    bytes: Vec<u8>,
}

impl More {
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.bytes.len();
        write(&mut self.bytes);
        Span { start: (self.base + start) as u32, len: (self.bytes.len() - start) as u32 }
    }

    fn text(&mut self, text: &str) -> Span {
        self.put(|bytes| bytes.extend_from_slice(text.as_bytes()))
    }
}

/// A header to be added to the records of a batch.
struct Added<'t> {
    name: Span,
    /// Its value, if all records have the same.
    value: Option<Span>,
    template: &'t Template,
}

impl Transform {
    pub(super) fn new(spec: &TransformSpec) -> Result<Self, String> {
        let mapping = |text: &String| parse_mapping(text).map(|(old, new)| (old.to_owned(), new.to_owned()));
        let mappings = spec.header_transforms.iter().map(|(name, texts)| {
            let mappings = texts.iter().map(mapping).collect::<Result<_, String>>()?;
            Ok((name.clone(), mappings))
        });
        let add = spec.add_headers.iter().map(|(name, value)| Ok((name.clone(), Template::parse(value)?)));
        Ok(Self {
            remove: spec.remove_headers.clone(),
            mappings: mappings.collect::<Result<_, String>>()?,
            add: add.collect::<Result<_, String>>()?,
        })
    }

    pub(super) fn timed_headers(&self) -> impl Iterator<Item = &str> {
        self.add.iter().filter(|(_, template)| template.has(Variable::Now)).map(|(name, _)| name.as_str())
    }

    /// Change the headers of a batch. How many records are other than before.
    pub(super) fn apply(&self, batch: &mut Batch, now: impl FnOnce() -> i64) -> u64 {
        if batch.is_empty() || self.add.is_empty() && batch.headers.is_empty() {
            return 0;
        }
        // What is put behind the arena copies it: without what a filter has left of dropped records.
        batch.compact_if_sparse();
        let now = if self.timed_headers().next().is_some() { rfc3339(now()) } else { String::new() };
        let mut more = More { base: batch.arena.len(), bytes: Vec::new() };
        let mapped = self.mapped(&mut more);
        let added = self.added(batch, &now, &mut more);
        let mut headers = Vec::with_capacity(batch.headers.len() + batch.len() * added.len());
        let mut header_ends = Vec::with_capacity(batch.len());
        let mut changed = 0;
        for index in 0..batch.len() {
            let mut is_changed = !added.is_empty();
            for header in batch.header_spans(index) {
                let other = self.changed(*header, batch, &mapped);
                is_changed |= other != Some(*header);
                headers.extend(other);
            }
            for Added { name, value, template } in &added {
                let own = || more.put(|bytes| write(template, batch, Some(index), &now, bytes));
                headers.push(HeaderSpan { name: *name, value: value.unwrap_or_else(own) });
            }
            header_ends.push(headers.len() as u32);
            changed += u64::from(is_changed);
        }
        if changed > 0 {
            batch.replace_headers(headers, header_ends, &more.bytes);
        }
        changed
    }

    /// The new values of all mappings.
    fn mapped(&self, more: &mut More) -> Vec<Vec<Span>> {
        let mut spans = |mappings: &[(String, String)]| mappings.iter().map(|(_, new)| more.text(new)).collect();
        self.mappings.iter().map(|(_, mappings)| spans(mappings)).collect()
    }

    fn added(&self, batch: &Batch, now: &str, more: &mut More) -> Vec<Added<'_>> {
        let of_each = [Variable::Offset, Variable::Timestamp];
        let mut add = |(name, template): &'_ (String, Template)| {
            let name = more.text(name);
            let is_shared = !of_each.iter().any(|variable| template.has(*variable));
            (name, is_shared.then(|| more.put(|bytes| write(template, batch, None, now, bytes))))
        };
        let spans: Vec<_> = self.add.iter().map(&mut add).collect();
        let templates = self.add.iter().map(|(_, template)| template);
        spans.into_iter().zip(templates).map(|((name, value), template)| Added { name, value, template }).collect()
    }

    /// What becomes of a header; `None` if it is removed.
    fn changed(&self, header: HeaderSpan, batch: &Batch, mapped: &[Vec<Span>]) -> Option<HeaderSpan> {
        let name = header.name.get(&batch.arena).unwrap_or_default();
        if self.remove.iter().any(|removed| removed.as_bytes() == name) {
            return None;
        }
        let Some(at) = self.mappings.iter().position(|(of, _)| of.as_bytes() == name) else { return Some(header) };
        let value = header.value.get(&batch.arena);
        let new = self.mappings[at].1.iter().position(|(old, _)| value == Some(old.as_bytes()));
        Some(HeaderSpan { value: new.map_or(header.value, |new| mapped[at][new]), ..header })
    }
}

/// Write a value out: for a record, or, if it is the same for all, for none.
fn write(template: &Template, batch: &Batch, record: Option<usize>, now: &str, out: &mut Vec<u8>) {
    let number = |column: &[i64]| record.map_or(0, |record| column[record]);
    for piece in &template.0 {
        // To write into memory cannot fail.
        let _ = match piece {
            Piece::Text(text) => out.write_all(text.as_bytes()),
            Piece::Variable(Variable::Now) => out.write_all(now.as_bytes()),
            Piece::Variable(Variable::Topic) => out.write_all(batch.topic.as_bytes()),
            Piece::Variable(Variable::Partition) => write!(out, "{}", batch.partition),
            Piece::Variable(Variable::Offset) => write!(out, "{}", number(&batch.offsets)),
            Piece::Variable(Variable::Timestamp) => write!(out, "{}", number(&batch.timestamps)),
            // The configuration has put the names in their place.
            Piece::Variable(Variable::Link | Variable::SourceCluster | Variable::TargetCluster) => Ok(()),
        };
    }
}
