//! Verifies a link: reads source and target again, and compares record by record.
//!
//! What is proven when nothing is reported: the target partitions hold what the pipeline makes of the source, for every offset between the
//! first that is still there and the checkpoint, under the revision that the history names, in an order that keeps that of each
//! source partition, and nothing else. The pipeline is run with the code that lanes run (`run`, `memory`,
//! [`letters`](super::letters)), so an error in that code is not found here.
//!
//! Reading order: [`report`] (what is found out), `plan` (what is compared with what), `replay`
//! (what becomes of a source partition), `judged` (what lanes decided by the clock), `print` (what
//! is kept of a record), `terms` (what is known of a target partition), `writers` (who else writes
//! there), `sheet` (a target partition against what is expected there), `findings` (what differs),
//! `readers`, `job` (all together).
//!
//! Invariants
//! - Nothing is written, in neither cluster.
//! - What cannot be compared is named, with its number; it never counts as fine.
//! - What is compared is what was in the target when the verification began, and nothing of it is
//!   passed over because of what the configuration says now.
//! - Memory is bounded, beside what stages remember: a lane has as much.

mod findings;
mod job;
mod judged;
mod plan;
mod print;
mod readers;
mod replay;
pub mod report;
mod sheet;
mod terms;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

pub use findings::{Difference, DifferenceKind};
pub use report::{NotCovered, Progress, Report, Side, SourceCovered, TargetCovered};

use super::components::Components;
use super::failure::Failure;
use super::lane::now_ms;
use super::revision::History;
use super::status::lock;
use crate::config::LinkConfig;
use crate::connector::Cluster;
use job::{Ended, Job};

/// A verification reads while lanes work: they go first.
const NICENESS: i32 = 19;

/// A verification that is under way or has ended.
#[derive(Debug)]
pub struct Verification {
    /// When it was begun, in milliseconds since 1970-01-01 UTC.
    pub started_ms: i64,
    cancelled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    ending: Option<(i64, Ending)>,
}

/// How a verification has ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With a report.
    Done(Arc<Report>),
    /// Somebody did not want to know any more.
    Cancelled,
    /// It could not be carried out.
    Failed(Failure),
}

impl Verification {
    pub(super) fn new() -> Self {
        Self { started_ms: now_ms(), cancelled: AtomicBool::new(false), state: Mutex::default() }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        lock(&self.state).progress
    }

    /// When it ended, in milliseconds since 1970-01-01 UTC, and how; `None` as long as it is under way.
    pub fn ending(&self) -> Option<(i64, Ending)> {
        lock(&self.state).ending.clone()
    }

    /// End it as soon as can be.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Carry it out, on this thread. At most `differences` are described.
    pub(super) fn run(&self, subject: &Subject, history: &dyn Fn() -> Result<History, Failure>, differences: usize) {
        // It goes on with the priority that it has.
        let _ = rustix::process::nice(NICENESS);
        let job = Job {
            config: &subject.config,
            source: subject.source.clone(),
            target: subject.target.clone(),
            components: &subject.components,
            history,
            cancelled: &|| self.cancelled.load(Relaxed),
            progress: &|progress| lock(&self.state).progress = progress,
            differences,
        };
        self.end(match job.run() {
            Ok(report) => Ending::Done(Arc::new(report)),
            Err(Ended::Cancelled) => Ending::Cancelled,
            Err(Ended::Failed(failure)) => Ending::Failed(failure),
        });
    }

    pub(super) fn end(&self, ending: Ending) {
        lock(&self.state).ending = Some((now_ms(), ending));
    }
}

/// What is verified.
pub(super) struct Subject {
    pub(super) config: LinkConfig,
    pub(super) source: Arc<dyn Cluster>,
    pub(super) target: Arc<dyn Cluster>,
    pub(super) components: Components,
}
