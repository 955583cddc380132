//! Shows verifications.

use std::sync::Arc;

use super::view::trouble;
use crate::api::wire::{self, Verdict, VerificationState};
use crate::link::verify::{self, Ending, Report, Side, Verification};
use crate::model::TopicPartition;

pub(super) fn view(link: &str, verification: &Verification) -> wire::Verification {
    let progress = verification.progress();
    let (ended_ms, ending) = verification.ending().unzip();
    let report: Option<&Arc<Report>> = match &ending {
        Some(Ending::Done(report)) => Some(report),
        _ => None,
    };
    wire::Verification {
        link: link.to_owned(),
        state: match &ending {
            None => VerificationState::Running,
            Some(Ending::Done(_)) => VerificationState::Done,
            Some(Ending::Cancelled) => VerificationState::Cancelled,
            Some(Ending::Failed(_)) => VerificationState::Failed,
        },
        started_at: wire::Time(verification.started_ms),
        ended_at: ended_ms.map(wire::Time),
        progress: wire::VerificationProgress {
            offsets_done: progress.offsets_done,
            offsets_total: progress.offsets_total,
            records_matched: progress.matched,
            suspicious: progress.suspicious,
        },
        verdict: report.map(|report| verdict(report)),
        error: match &ending {
            Some(Ending::Failed(failure)) => Some(trouble(failure)),
            _ => None,
        },
        report: report.map(|report| self::report(report)),
    }
}

fn verdict(report: &Report) -> Verdict {
    match (report.differences_total(), report.not_covered.is_empty()) {
        (1.., _) => Verdict::Differences,
        (0, false) => Verdict::NotCovered,
        (0, true) => Verdict::Fine,
    }
}

fn report(report: &Report) -> wire::VerificationReport {
    wire::VerificationReport {
        records_replayed: report.sources.iter().map(|source| source.records).sum(),
        records_matched: report.targets.iter().map(|target| target.matched).sum(),
        differences_total: report.differences_total(),
        differences_by_kind: report.counts.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        differences: report.differences.iter().map(difference).collect(),
        not_covered: report.not_covered.iter().map(not_covered).collect(),
        sources: report.sources.iter().map(source).collect(),
        targets: report.targets.iter().map(target).collect(),
        exactly_once: report.exactly_once,
        duplicates_allowed: report.duplicates_allowed,
    }
}

fn difference(difference: &verify::Difference) -> wire::Difference {
    let place = |(partition, offset): &(TopicPartition, i64)| wire::Place {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: *offset,
    };
    let (partition, offset) = &difference.target;
    wire::Difference {
        kind: difference.kind.to_string(),
        parts: difference.parts.iter().map(ToString::to_string).collect(),
        source: difference.source.as_ref().map(place),
        target: wire::TargetPlace {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset: *offset,
        },
        expected: difference.expected.clone(),
        found: difference.found.clone(),
        note: difference.note.clone(),
    }
}

fn not_covered(entry: &verify::NotCovered) -> wire::NotCovered {
    wire::NotCovered {
        side: match entry.side {
            Side::Source => "source",
            Side::Target => "target",
        }
        .to_owned(),
        topic: entry.partition.topic.to_string(),
        partition: entry.partition.partition,
        from: entry.from,
        to: entry.to,
        records: entry.records,
        reason: entry.reason.clone(),
    }
}

fn source(covered: &verify::SourceCovered) -> wire::SourceCovered {
    wire::SourceCovered {
        topic: covered.partition.topic.to_string(),
        partition: covered.partition.partition,
        from: covered.from,
        to: covered.to,
        records: covered.records,
        revisions: covered.revisions,
    }
}

fn target(covered: &verify::TargetCovered) -> wire::TargetCovered {
    let (from, to) = covered.range.unzip();
    wire::TargetCovered {
        topic: covered.partition.topic.to_string(),
        partition: covered.partition.partition,
        from,
        to,
        records: covered.matched,
    }
}
