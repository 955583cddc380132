//! Compares one target partition with what is expected there. Pure: no cluster, no clock.
//!
//! Several source partitions may share a target partition. Each of them is a [`Stream`] of expected records, in order, and the
//! target has to be a shuffle of the streams that keeps the order of each. Whether it is can be decided record by record as long
//! as the next record of one stream only looks like the one that was found. Where several do, all ways are followed side by side
//! until records tell them apart; so what is found to be right is right, and what is wrong was not merely taken for the wrong stream.
//! Of so many equal records that more than [`WAYS_MAX`] ways are open, some are dropped, and the sheet says so.
//!
//! After a record that fits nowhere the sheet looks for the nearest place where both sides agree again, in ever wider windows; what
//! was skipped on the way is sorted out by `findings`.

use std::collections::{HashMap, VecDeque};

use super::print::{Line, Print};
use super::terms::{Passed, Terms};

/// How many ways of telling streams apart are followed at the same time.
const WAYS_MAX: usize = 64;

/// How far the sheet looks for a place where both sides agree again, in records: what is near is found without reading far.
const WINDOWS: [usize; 3] = [64, 1024, 16_384];

/// So many records in a row have to agree before a beginning that is not known is believed, where one stream only is in question.
const RUN: usize = 16;

/// A target that is damaged where its beginning is looked for must be found too.
const DAMAGED_HEAD: usize = 64;

/// How many of the records that agreed last are remembered, to tell a record that is there twice from a foreign one.
const RECENT: usize = 4096;

/// Where records may be there twice: more than a commit interval has.
const RECENT_WITHOUT_EXACTLY_ONCE: usize = 65_536;

/// After so many differences in a target partition the rest is not looked at.
const DIFFERENCES_MAX: usize = 20_000;

/// What is expected of one source partition.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The index of the source partition.
    feed: usize,
    /// Its first records are gone from the source: what they became may be in the target.
    head_lost: bool,
    /// Compaction may have taken any record from the source.
    porous: bool,
    /// What comes behind the end of the stream is not known.
    tail_lost: bool,
    /// The source has records behind the checkpoint: the link may have written what they became.
    goes_on: bool,
    queue: VecDeque<Line>,
    ended: bool,
    /// Whether any record of it has been found.
    aligned: bool,
}

impl Stream {
    /// What is expected of source partition `feed`.
    pub(super) fn new(feed: usize, head_lost: bool, porous: bool) -> Self {
        Self { feed, head_lost, porous, ..Self::default() }
    }

    /// The same, whose source partition may have records behind the checkpoint.
    pub(super) fn going_on(self, goes_on: bool) -> Self {
        Self { goes_on, ..self }
    }

    fn is_finished(&self) -> bool {
        self.ended && self.queue.is_empty()
    }

    /// Whether a record that is not expected may be of this stream.
    fn may_own(&self) -> bool {
        self.porous || self.head_lost && !self.aligned || self.tail_lost && self.is_finished()
    }
}

/// What the sheet needs to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More of the target.
    Target,
    /// More of these source partitions.
    Feeds(Vec<usize>),
    /// Nothing.
    Done,
}

/// A record that was expected and not found where it should be.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) feed: usize,
    pub(super) line: Line,
    pub(super) gap: usize,
}

/// A record that was found and not expected where it is.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    pub(super) line: Line,
    pub(super) gap: usize,
    /// Whether a record like it was expected near to it, and found.
    pub(super) again: bool,
}

/// What came of a target partition.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Records that are what they should be.
    pub(super) matched: u64,
    pub(super) lost: Vec<Lost>,
    pub(super) extra: Vec<Extra>,
    /// Records of the target of which nobody can say what they should be.
    pub(super) uncovered: Passed,
    /// Records of the target that may stand for what comes behind the checkpoints.
    pub(super) later: Passed,
    /// Records of the target that are taken for those of others.
    pub(super) of_others: Passed,
    /// Expected records that retention or compaction may have taken from the target.
    pub(super) gone: u64,
    /// Records that are there twice, as the link's settings allow.
    pub(super) allowed: u64,
    /// Whether there were more equal records of several source partitions than could be told apart.
    pub(super) ambiguous: bool,
    /// Whether the rest was not looked at, because so much differs.
    pub(super) given_up: bool,
    /// The first offset, and the one behind the last, that was looked at.
    pub(super) looked_at: Option<(i64, i64)>,
}

/// One target partition.
#[derive(Debug)]
pub(super) struct Sheet {
    terms: Terms,
    streams: Vec<Stream>,
    /// For each way that is open how far it has come in each queue; empty as long as the only way is at the front of all.
    ways: Vec<Vec<usize>>,
    found: VecDeque<Line>,
    found_next: i64,
    found_ended: bool,
    recent: VecDeque<Print>,
    /// The records that were not expected, to see that one like them comes later.
    waiting: HashMap<Print, usize>,
    window: usize,
    gap: usize,
    outcome: Outcome,
}

impl Sheet {
    pub(super) fn new(terms: Terms, streams: Vec<Stream>, from: i64) -> Self {
        Self {
            terms,
            streams,
            ways: Vec::new(),
            found: VecDeque::new(),
            found_next: from,
            found_ended: false,
            recent: VecDeque::new(),
            waiting: HashMap::new(),
            window: 0,
            gap: 0,
            outcome: Outcome::default(),
        }
    }

    /// Take in a record that a source partition should have become.
    pub(super) fn expect(&mut self, feed: usize, line: Line) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.feed == feed) {
            stream.queue.push_back(line);
        }
    }

    /// Nothing more comes of a source partition; because of a trouble, if `tail_lost`.
    pub(super) fn end_feed(&mut self, feed: usize, tail_lost: bool) {
        for stream in self.streams.iter_mut().filter(|stream| stream.feed == feed) {
            stream.ended = true;
            stream.tail_lost |= tail_lost;
        }
    }

    /// Take in records of the target. Reading goes on at `next`.
    pub(super) fn find(&mut self, lines: impl IntoIterator<Item = Line>, next: i64) {
        for line in lines {
            if self.terms.others.has(&line) {
                self.pass_by(line.offset, |outcome| &mut outcome.of_others);
            } else {
                self.found.push_back(line);
            }
        }
        self.found_next = next;
    }

    /// Do not compare a record, and count it if it was there when the verification began.
    fn pass_by(&mut self, offset: i64, of: fn(&mut Outcome) -> &mut Passed) {
        if offset < self.terms.scope_end {
            let (count, _, last) = of(&mut self.outcome).get_or_insert((0, offset, offset));
            (*count, *last) = (*count + 1, offset);
        }
    }

    /// Nothing more comes of the target.
    pub(super) fn end_target(&mut self) {
        self.found_ended = true;
    }

    /// Where the target is read on.
    pub(super) fn next_offset(&self) -> i64 {
        self.found_next
    }

    /// How many records are held.
    pub(super) fn held(&self) -> usize {
        self.found.len() + self.streams.iter().map(|stream| stream.queue.len()).sum::<usize>()
    }

    /// How many records agreed so far.
    pub(super) fn matched(&self) -> u64 {
        self.outcome.matched
    }

    /// How many records are missing or too much so far.
    pub(super) fn suspicious(&self) -> usize {
        self.outcome.lost.len() + self.outcome.extra.len()
    }

    pub(super) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// Compare as far as possible. `relaxed`: much is held, so a record that fits is taken although a source partition that was not read so
    /// far might have one like it.
    pub(super) fn step(&mut self, relaxed: bool) -> Step {
        loop {
            if self.suspicious() > DIFFERENCES_MAX {
                self.outcome.given_up = true;
                return Step::Done;
            }
            if self.streams.iter().all(Stream::is_finished)
                && self.found.is_empty()
                && self.found_next >= self.terms.scope_end
            {
                return Step::Done;
            }
            let Some(found) = self.found.front() else {
                if !self.found_ended {
                    return Step::Target;
                }
                return self.finish_streams();
            };
            if self.looks_for_beginning() {
                match self.align() {
                    Some(step) => return step,
                    None => continue,
                }
            }
            let print = found.print;
            let unknown = self.unknown(1);
            if !unknown.is_empty() && !relaxed {
                return Step::Feeds(unknown);
            }
            if self.take(print) {
                continue;
            }
            if !unknown.is_empty() {
                return Step::Feeds(unknown);
            }
            if self.streams.iter().all(Stream::is_finished) && self.is_later(self.found[0].offset) {
                self.skip(1);
            } else if let Some(step) = self.resume(relaxed) {
                return step;
            }
        }
    }

    /// Whether a record that fits nowhere may stand for what comes behind a checkpoint. So it can only be of a stream that is at its
    /// checkpoint and has more behind it.
    fn is_later(&self, offset: i64) -> bool {
        let has_more = |stream: &Stream| stream.goes_on && stream.is_finished();
        offset >= self.terms.floor_end && (self.terms.has_unread || self.streams.iter().any(has_more))
    }

    /// The target has ended: what is still expected is not there.
    fn finish_streams(&mut self) -> Step {
        self.settle_ways(0);
        self.gap += 1;
        for stream in 0..self.streams.len() {
            let count = self.streams[stream].queue.len();
            self.lose(stream, count);
        }
        let open: Vec<usize> = self.streams.iter().filter(|stream| !stream.ended).map(|stream| stream.feed).collect();
        if open.is_empty() { Step::Done } else { Step::Feeds(open) }
    }

    /// The source partitions that have to be read on until `count` records of each are known.
    fn unknown(&self, count: usize) -> Vec<usize> {
        let farthest = |index: usize| self.ways.iter().map(|way| way[index]).max().unwrap_or(0);
        let open = self
            .streams
            .iter()
            .enumerate()
            .filter(|(index, stream)| !stream.ended && stream.queue.len() < farthest(*index) + count);
        open.map(|(_, stream)| stream.feed).collect()
    }

    /// Take the record that was found, if it is the next of a stream.
    fn take(&mut self, print: Print) -> bool {
        if self.ways.is_empty() {
            let mut fits = self
                .streams
                .iter()
                .enumerate()
                .filter(|(_, stream)| stream.queue.front().is_some_and(|line| line.print == print));
            let Some((first, _)) = fits.next() else { return false };
            if fits.next().is_none() {
                self.streams[first].queue.pop_front();
                self.streams[first].aligned = true;
                self.accept();
                return true;
            }
        }
        let ways =
            if self.ways.is_empty() { vec![vec![0; self.streams.len()]] } else { std::mem::take(&mut self.ways) };
        let mut next: Vec<Vec<usize>> = Vec::new();
        for way in &ways {
            for (index, stream) in self.streams.iter().enumerate() {
                if stream.queue.get(way[index]).is_some_and(|line| line.print == print) {
                    let mut way = way.clone();
                    way[index] += 1;
                    if !next.contains(&way) {
                        next.push(way);
                    }
                }
            }
        }
        if next.is_empty() {
            self.ways = ways;
            return false;
        }
        if next.len() > WAYS_MAX {
            // Those that took of all streams alike leave the most open for what comes.
            next.sort_by_key(|way| way.iter().max().copied().unwrap_or(0) - way.iter().min().copied().unwrap_or(0));
            next.truncate(WAYS_MAX);
            self.outcome.ambiguous = true;
        }
        self.ways = next;
        self.forget_common();
        self.accept();
        true
    }

    /// Forget the records that all ways have taken.
    fn forget_common(&mut self) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let common = self.ways.iter().map(|way| way[index]).min().unwrap_or(0);
            stream.aligned |= common > 0;
            stream.queue.drain(..common);
            self.ways.iter_mut().for_each(|way| way[index] -= common);
        }
        if self.ways.len() == 1 {
            self.ways.clear();
        }
    }

    /// Go on with one way only.
    fn settle_ways(&mut self, way: usize) {
        if !self.ways.is_empty() {
            self.ways = vec![self.ways.swap_remove(way)];
            self.forget_common();
        }
    }

    /// The first record that was found agrees.
    fn accept(&mut self) {
        let Some(line) = self.found.pop_front() else { return };
        self.outcome.matched += 1;
        self.look_at(line.offset);
        if let Some(extra) = self.waiting.remove(&line.print) {
            self.outcome.extra[extra].again = true;
        }
        let most = if self.terms.exactly_once { RECENT } else { RECENT_WITHOUT_EXACTLY_ONCE };
        if self.recent.len() == most {
            self.recent.pop_front();
        }
        self.recent.push_back(line.print);
        self.window = 0;
    }

    fn look_at(&mut self, offset: i64) {
        let (_, end) = self.outcome.looked_at.get_or_insert((offset, offset));
        *end = offset + 1;
    }

    /// The record that was found fits nowhere: go on where both sides agree again.
    fn resume(&mut self, relaxed: bool) -> Option<Step> {
        let width = WINDOWS[self.window];
        if let Some(step) = self.widen(width, relaxed) {
            return Some(step);
        }
        let ways = if self.ways.is_empty() { vec![vec![0; self.streams.len()]] } else { self.ways.clone() };
        let best = (0..ways.len()).filter_map(|way| Some((self.nearest(&ways[way], width)?, way)));
        let best = best.min_by_key(|(meeting, _)| (meeting.lost + meeting.extra, meeting.extra));
        match best {
            Some((Meeting { stream, lost, extra }, way)) => {
                self.settle_ways(way);
                self.gap += 1;
                self.lose(stream, lost);
                self.skip(extra);
                self.window = 0;
            }
            None if self.window + 1 < WINDOWS.len() => self.window += 1,
            None => {
                self.settle_ways(0);
                self.gap += 1;
                // Others may have written all of this, and what is expected comes behind it.
                let waits = self.found.iter().take(width).all(|line| self.terms.others.may_have(line));
                for stream in (0..self.streams.len()).filter(|_| !waits) {
                    self.lose(stream, width.min(self.streams[stream].queue.len()));
                }
                self.skip(width.min(self.found.len()));
                self.window = 0;
            }
        }
        None
    }

    /// What is needed to look so many records ahead on both sides.
    fn widen(&self, width: usize, relaxed: bool) -> Option<Step> {
        let unknown = if relaxed { Vec::new() } else { self.unknown(width) };
        if !unknown.is_empty() {
            return Some(Step::Feeds(unknown));
        }
        (self.found.len() < width && !self.found_ended).then_some(Step::Target)
    }

    /// The nearest place where a record that was found is one that is expected of a stream.
    fn nearest(&self, way: &[usize], width: usize) -> Option<Meeting> {
        let mut expected: HashMap<Print, (usize, usize)> = HashMap::new();
        for (index, stream) in self.streams.iter().enumerate() {
            for (lost, line) in stream.queue.iter().skip(way[index]).take(width).enumerate() {
                let first = expected.entry(line.print).or_insert((lost, index));
                *first = (*first).min((lost, index));
            }
        }
        let mut best: Option<Meeting> = None;
        for (extra, line) in self.found.iter().take(width).enumerate() {
            if best.as_ref().is_some_and(|best| best.lost + best.extra <= extra) {
                break;
            }
            let Some(&(lost, stream)) = expected.get(&line.print) else { continue };
            if best.as_ref().is_none_or(|best| lost + extra < best.lost + best.extra) {
                best = Some(Meeting { stream, lost, extra });
            }
        }
        best
    }

    /// Whether one stream has to be laid against a target of which one of the two has lost its beginning.
    fn looks_for_beginning(&self) -> bool {
        matches!(&self.streams[..], [stream] if !stream.aligned && !stream.is_finished() && (stream.head_lost || self.terms.head_lost))
    }

    /// Find where stream and target begin to agree. What comes before it has nothing to be compared with.
    fn align(&mut self) -> Option<Step> {
        let width = WINDOWS[WINDOWS.len() - 1];
        if let Some(step) = self.widen(width, false) {
            return Some(step);
        }
        let (head_lost, queue) = (self.streams[0].head_lost, &self.streams[0].queue);
        let lost_max = if self.terms.head_lost { width } else { DAMAGED_HEAD };
        let extra_max = if head_lost { width } else { DAMAGED_HEAD };
        let mut places: HashMap<Print, Vec<usize>> = HashMap::new();
        for (lost, line) in queue.iter().take(lost_max).enumerate() {
            places.entry(line.print).or_default().push(lost);
        }
        let run = |lost: usize, extra: usize| {
            let pairs = queue.iter().skip(lost).zip(self.found.iter().skip(extra)).take(RUN);
            pairs.take_while(|(expected, found)| expected.print == found.print).count()
        };
        let starts = self.found.iter().take(extra_max).enumerate();
        let candidates = starts.filter_map(|(extra, line)| {
            let (run, lost) =
                places.get(&line.print)?.iter().map(|lost| (run(*lost, extra), *lost)).max_by_key(|(run, _)| *run)?;
            Some((std::cmp::Reverse(run), lost + extra, lost, extra))
        });
        // Where nothing more comes, the longest run there is must do.
        let is_all = (!self.terms.head_lost || queue.len() < width) && (!head_lost || self.found.len() < width);
        let run_min = if is_all { 1 } else { RUN };
        let best = candidates.min().filter(|(run, ..)| run.0 >= run_min);
        let (lost, extra) = match best {
            Some((_, _, lost, extra)) => {
                let alike = |back: &usize| {
                    let (expected, found) = (&queue[lost - back].print, &self.found[extra - back].print);
                    expected == found || expected.resembles(found)
                };
                let back = (1..=lost.min(extra)).rev().find(alike).unwrap_or(0);
                (lost - back, extra - back)
            }
            None => {
                // A run may begin in this window and end behind it.
                let passed = |count: usize| if is_all { count } else { count.saturating_sub(RUN) };
                let lost = if self.terms.head_lost { passed(queue.len().min(width)) } else { 0 };
                let extra = if head_lost { passed(self.found.len().min(width)) } else { 0 };
                (lost, extra)
            }
        };
        self.gap += 1;
        self.lose(0, lost);
        self.skip(extra);
        self.streams[0].aligned = best.is_some() || lost + extra == 0;
        None
    }

    /// The next records of a stream are not there.
    fn lose(&mut self, stream: usize, count: usize) {
        let taken = self.terms.porous || self.terms.head_lost && !self.streams[stream].aligned;
        let feed = self.streams[stream].feed;
        for line in self.streams[stream].queue.drain(..count) {
            if taken {
                self.outcome.gone += 1;
            } else {
                self.outcome.lost.push(Lost { feed, line, gap: self.gap });
            }
        }
    }

    /// The next records that were found are not expected.
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            let Some(line) = self.found.pop_front() else { return };
            let may_be_gone = self.streams.iter().any(Stream::may_own);
            let again = self.recent.contains(&line.print);
            let is_allowed = again && !self.terms.exactly_once;
            if !may_be_gone && !is_allowed && self.is_later(line.offset) {
                self.pass_by(line.offset, |outcome| &mut outcome.later);
                continue;
            }
            self.look_at(line.offset);
            if may_be_gone {
                self.pass_by(line.offset, |outcome| &mut outcome.uncovered);
            } else if is_allowed {
                self.outcome.allowed += 1;
            } else if !again && self.terms.others.may_have(&line) {
                self.pass_by(line.offset, |outcome| &mut outcome.of_others);
            } else {
                self.waiting.insert(line.print, self.outcome.extra.len());
                self.outcome.extra.push(Extra { line, gap: self.gap, again });
            }
        }
    }
}

/// A place where both sides agree again: behind so many records of a stream and of the target.
struct Meeting {
    stream: usize,
    lost: usize,
    extra: usize,
}

#[cfg(test)]
#[path = "tests/sheet.rs"]
mod tests;
