//! Consumer groups: which there are, where they are, and moving them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{Client, CoordinatorOf, topic_name};
use super::error::{self, Code};
use crate::connector::{Error, Group, GroupOffset, GroupOffsets};
use crate::model::TopicPartition;

/// How many groups one request is about.
const GROUPS_AT_ONCE: usize = 50;

/// The kinds of groups that read partitions by offset: those with members, and those that only ever note offsets.
const PROTOCOLS: [&str; 2] = ["consumer", ""];

/// The states of a group without members.
const WITHOUT_MEMBERS: [&str; 2] = ["Empty", "Dead"];

/// How long a coordinator that has moved is looked for, or one that is loading what it knows is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// How soon it is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// All consumer groups, by name. One whose coordinator just moves may be missing.
///
/// # Errors
/// A broker does not answer.
pub(super) fn all(client: &Client) -> Result<Vec<Group>, Error> {
    let mut groups = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    // Each broker knows those that it coordinates.
    for broker in client.refresh()?.brokers.keys() {
        let answer = loop {
            let answer = client.call_broker(*broker, &ListGroupsRequest::default())?;
            match Code(answer.error_code) {
                Code(0) => break answer,
                code if code.is_passing() && Instant::now() < deadline => thread::sleep(AGAIN_AFTER),
                code => return Err(error::groups_not_listed(code)),
            }
        };
        let consumers = answer.groups.into_iter().filter(|group| PROTOCOLS.contains(&group.protocol_type.as_str()));
        for group in consumers.filter(|group| matches!(group.group_type.as_str(), "" | "classic" | "consumer")) {
            let name: Arc<str> = group.group_id.0.as_str().into();
            let is_active = !WITHOUT_MEMBERS.contains(&group.group_state.as_str());
            groups.insert(name.clone(), Group { name, state: group.group_state.as_str().into(), is_active });
        }
    }
    Ok(groups.into_values().collect())
}

/// Where groups are, in all partitions that they have committed offsets of. The inner error: why that is not known of a group.
///
/// # Errors
/// A broker does not answer.
pub(super) fn offsets(
    client: &Client,
    groups: &[Arc<str>],
) -> Result<BTreeMap<Arc<str>, Result<GroupOffsets, Error>>, Error> {
    let mut found = BTreeMap::new();
    let mut asked = groups.to_vec();
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (broker, groups) in coordinators(client, &asked, &mut found)? {
            for groups in groups.chunks(GROUPS_AT_ONCE) {
                fetch(client, broker, groups, &mut found)?;
            }
        }
        asked.retain(|group| matches!(found.get(group), Some(Err(code)) if Code::is_passing(*code)));
        if asked.is_empty() || Instant::now() > deadline {
            break;
        }
        thread::sleep(AGAIN_AFTER);
        client.refresh()?;
    }
    let named = |(group, offsets): (Arc<str>, Result<GroupOffsets, Code>)| {
        let offsets = offsets.map_err(|code| error::group_refused(&group, "Describe", code));
        (group, offsets)
    };
    Ok(found.into_iter().map(named).collect())
}

type Found = BTreeMap<Arc<str>, Result<GroupOffsets, Code>>;

/// Which broker coordinates which groups. Those that none does are found with the reason.
fn coordinators(
    client: &Client,
    groups: &[Arc<str>],
    found: &mut Found,
) -> Result<BTreeMap<i32, Vec<Arc<str>>>, Error> {
    let mut by_broker: BTreeMap<i32, Vec<Arc<str>>> = BTreeMap::new();
    for groups in groups.chunks(GROUPS_AT_ONCE) {
        let keys = groups.iter().map(|group| StrBytes::from_string(group.to_string()));
        let request = FindCoordinatorRequest::default()
            .with_key_type(CoordinatorOf::Group as i8)
            .with_coordinator_keys(keys.collect());
        for coordinator in client.call_any(&request)?.coordinators {
            let group: Arc<str> = coordinator.key.as_str().into();
            match Code(coordinator.error_code) {
                Code(0) => by_broker.entry(coordinator.node_id.0).or_default().push(group),
                code => drop(found.insert(group, Err(code))),
            }
        }
    }
    Ok(by_broker)
}

fn fetch(client: &Client, broker: i32, groups: &[Arc<str>], found: &mut Found) -> Result<(), Error> {
    let wanted = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None).with_member_epoch(-1)
    });
    let request = OffsetFetchRequest::default().with_groups(wanted.collect());
    for group in client.call_broker(broker, &request)?.groups {
        let mut offsets = GroupOffsets::new();
        for topic in group.topics {
            for partition in topic.partitions.into_iter().filter(|found| found.error_code == 0) {
                let Ok(number) = u32::try_from(partition.partition_index) else { continue };
                let place = TopicPartition::new(topic.name.0.as_str(), number);
                let metadata = partition.metadata.as_deref().unwrap_or_default().into();
                if partition.committed_offset >= 0 {
                    offsets.insert(place, GroupOffset { offset: partition.committed_offset, metadata });
                }
            }
        }
        let offsets = Code(group.error_code).check().map(|()| offsets);
        found.insert(group.group_id.0.as_str().into(), offsets);
    }
    Ok(())
}

/// Have a group go on at other offsets. Whether it could be: a group with members decides for itself, and its cluster sees to that.
///
/// # Errors
/// Its coordinator does not answer, or refuses.
pub(super) fn move_to(client: &Client, group: &str, offsets: &GroupOffsets) -> Result<bool, Error> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (place, GroupOffset { offset, metadata }) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(place.partition as i32)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string(metadata.to_string())));
        topics.entry(&place.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    // Nobody in particular: brokers take that only while the group has no members.
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let refused = match client.coordinator(CoordinatorOf::Group, group)? {
            Ok(broker) => {
                let topics = client.call_broker(broker, &request)?.topics;
                let mut codes = topics.iter().flat_map(|topic| &topic.partitions).map(|found| Code(found.error_code));
                codes.find(|code| code.0 != 0).unwrap_or(Code::NONE)
            }
            Err(code) => code,
        };
        if !refused.is_passing() || Instant::now() > deadline {
            break refused;
        }
        thread::sleep(AGAIN_AFTER);
        client.refresh()?;
    };
    let has_members = [Code::UNKNOWN_MEMBER_ID, Code::ILLEGAL_GENERATION, Code::REBALANCE_IN_PROGRESS];
    match refused.check() {
        Ok(()) => Ok(true),
        Err(code) if has_members.contains(&code) => Ok(false),
        Err(code) => Err(error::group_refused(group, "Read", code)),
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}
