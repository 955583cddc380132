//! Consumer groups of links, as the wire shows them.

use super::view::trouble;
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::config::{ENTRIES_MAX, GroupSelection, GroupSelector, Room};
use crate::link::groups::translate::Certainty;
use crate::link::groups::{Fate, GroupPlan, PlannedOffset, Round, Selected};
use crate::link::{Failure, Link};
use crate::model::TopicPartition;

pub(super) fn groups(link: &Link) -> Result<Vec<wire::ConsumerGroup>, ControlError> {
    Ok(link.plan_groups(Selected::default()).map_err(refused)?.iter().map(group).collect())
}

pub(super) fn sync(link: &Link, request: &wire::GroupsRequest) -> Result<Vec<wire::ConsumerGroup>, ControlError> {
    if request.groups.len() > ENTRIES_MAX {
        let message = format!("{} groups are too many: {ENTRIES_MAX} are the limit", request.groups.len());
        return Err(ControlError::new(ErrorKind::Invalid, "invalid-group", message, "write an expression for many"));
    }
    let room = Room::of(request.groups.iter().map(String::as_str));
    let parse = |text: &String| {
        let invalid =
            |message| ControlError::new(ErrorKind::Invalid, "invalid-group", format!("{text:?}: {message}"), "");
        GroupSelector::parse(text, room).map_err(invalid)
    };
    let named = request.groups.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let named = GroupSelection { included: named, excluded: Vec::new() };
    let groups = if named.is_empty() { &link.config().groups.groups } else { &named };
    if groups.is_empty() {
        return Err(ControlError::new(
            ErrorKind::Invalid,
            "no-groups-named",
            "it is not said which groups, neither here nor by the link's `groups`",
            "name groups, or \"/.*/\" for all of them",
        ));
    }
    let selected = Selected { groups: Some(groups), rewinds: request.rewind };
    let done = if request.dry_run { link.plan_groups(selected) } else { link.sync_groups(selected) };
    Ok(done.map_err(refused)?.iter().map(group).collect())
}

fn refused(failure: Failure) -> ControlError {
    let kind = if failure.code == "no-consumer-groups" { ErrorKind::Conflict } else { ErrorKind::Unavailable };
    ControlError::new(kind, failure.code, failure.message, failure.remedy)
}

pub(super) fn group(plan: &GroupPlan) -> wire::ConsumerGroup {
    wire::ConsumerGroup {
        group: plan.group.to_string(),
        follows: plan.follows,
        source_state: plan.source_state.to_string(),
        target_state: plan.target_state.as_ref().map(ToString::to_string),
        fate: match plan.fate {
            Fate::Move => wire::GroupFate::Move,
            Fate::Moved => wire::GroupFate::Moved,
            Fate::Stays => wire::GroupFate::Stays,
            Fate::Active => wire::GroupFate::Active,
            Fate::Failed => wire::GroupFate::Failed,
        },
        partitions: plan.partitions.iter().map(partition).collect(),
        error: plan.failure.as_ref().map(trouble),
    }
}

fn partition((target, planned): (&TopicPartition, &PlannedOffset)) -> wire::GroupPartition {
    let place = |(partition, offset): (&TopicPartition, &Option<i64>)| wire::GroupPlace {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: *offset,
    };
    wire::GroupPartition {
        topic: target.topic.to_string(),
        partition: target.partition,
        offset: planned.translation.to.offset,
        present_offset: planned.present,
        moves: planned.moves,
        certainty: match planned.translation.certainty {
            Certainty::Exact => wire::GroupCertainty::Exact,
            Certainty::Shared => wire::GroupCertainty::Shared,
            Certainty::Ahead => wire::GroupCertainty::Ahead,
            Certainty::Nearest => wire::GroupCertainty::Nearest,
            Certainty::Uncommitted => wire::GroupCertainty::Uncommitted,
            Certainty::Forgotten => wire::GroupCertainty::Forgotten,
            Certainty::BeforeBeginning => wire::GroupCertainty::BeforeBeginning,
        },
        from: planned.translation.from.iter().map(place).collect(),
    }
}

pub(super) fn round(round: &Round) -> wire::GroupRound {
    wire::GroupRound {
        time: wire::Time(round.at_ms),
        took_ms: round.took.as_millis() as u64,
        groups: round.groups as u64,
        moved: round.moved as u64,
        active: round.active as u64,
        failed: round.failed as u64,
    }
}
