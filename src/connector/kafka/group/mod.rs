//! How the daemons that run a link share its lanes: a consumer group of the target, over the link's checkpoint topic. Who is assigned partition *n* has
//! lane *n*.
//!
//! The group says who is alive and who is to open which lane. That a lane has one writer is not up to it: opening a lane fences whoever had it.
//!
//! Protocol: Kafka's classic group protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and the embedded "consumer" protocol of subscriptions and assignments,
//! KIP-429) with static membership (KIP-345), which every broker since 2.3 knows. A daemon keeps its lanes while the group is rebalanced, so nothing stands
//! still but what moves.

mod member;
mod share;

pub(super) use member::Member;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DescribeGroupsRequest, GroupId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::client::{Client, CoordinatorOf, topic_name};
use super::error::{self, Code};
use super::layout;
use crate::connector::{Class, Error};

/// The versions of the embedded protocol that are written.
const SUBSCRIPTION_VERSION: i16 = 2;
const ASSIGNMENT_VERSION: i16 = 1;

/// Which daemon has which lanes of a link, by the daemon's name. Daemons without any are there too.
pub(super) fn daemons(client: &Client, link: &str) -> Result<BTreeMap<Arc<str>, Vec<u32>>, Error> {
    let group = layout::group(link);
    let broker = client.coordinator(CoordinatorOf::Group, &group)?.map_err(|code| refused(&group, code))?;
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(&group)]);
    let answer = client.call_broker(broker, 4..=5, &request)?;
    let found = answer.groups.into_iter().next().ok_or_else(|| error::not_asked("DescribeGroups"))?;
    Code(found.error_code).check().map_err(|code| refused(&group, code))?;
    let members = found.members.into_iter().map(|member| {
        let name = member.group_instance_id.unwrap_or(member.member_id);
        (name.as_str().into(), assigned(member.member_assignment).unwrap_or_default())
    });
    Ok(members.collect())
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// What a member says of itself when it joins: what it reads, and what it has of that.
fn subscription(topic: &str, owned: &[u32], generation: i32) -> Option<Bytes> {
    let partitions = owned.iter().map(|lane| *lane as i32).collect();
    let owned = Owned::default().with_topic(topic_name(topic)).with_partitions(partitions);
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_owned())])
        .with_owned_partitions(vec![owned])
        .with_generation_id(generation);
    encode(&subscription, SUBSCRIPTION_VERSION)
}

/// What it has, and since which generation.
fn owned(mut subscription: Bytes) -> Option<(Vec<u32>, i32)> {
    let version = take_version(&mut subscription, SUBSCRIPTION_VERSION)?;
    let read = ConsumerProtocolSubscription::decode(&mut subscription, version).ok()?;
    let lanes = read.owned_partitions.iter().flat_map(|topic| topic.partitions.iter());
    Some((lanes.filter_map(|lane| u32::try_from(*lane).ok()).collect(), read.generation_id))
}

fn assignment(topic: &str, lanes: &[u32]) -> Option<Bytes> {
    let partitions = lanes.iter().map(|lane| *lane as i32).collect();
    let assigned = Assigned::default().with_topic(topic_name(topic)).with_partitions(partitions);
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(vec![assigned]), ASSIGNMENT_VERSION)
}

/// The lanes of an assignment. Nothing at all is none.
fn assigned(mut assignment: Bytes) -> Option<Vec<u32>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let version = take_version(&mut assignment, ASSIGNMENT_VERSION)?;
    let read = ConsumerProtocolAssignment::decode(&mut assignment, version).ok()?;
    let lanes = read.assigned_partitions.iter().flat_map(|topic| topic.partitions.iter());
    Some(lanes.filter_map(|lane| u32::try_from(*lane).ok()).collect())
}

fn encode(message: &impl Encodable, version: i16) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    message.encode(&mut bytes, version).ok()?;
    Some(bytes.freeze())
}

/// The version that a message of the embedded protocol begins with. Of a newer one what is known is read: fields are only ever added at the end.
fn take_version(bytes: &mut Bytes, newest: i16) -> Option<i16> {
    let version = bytes.try_get_i16().ok()?;
    (version >= 0).then_some(version.min(newest))
}

fn refused(group: &str, code: Code) -> Error {
    match code {
        Code::GROUP_AUTHORIZATION_FAILED => Error {
            class: Class::Reopen,
            code: "group-not-authorized",
            message: format!("we may not join the group {group}: the ACL that is missing is Read on it"),
            remedy: "grant the ACL that is named",
        },
        Code::FENCED_INSTANCE_ID => Error {
            class: Class::Fenced,
            code: "daemon-name-in-use",
            message: format!("another daemon runs in group {group} under the same name"),
            remedy: "give each daemon a name of its own (daemon.name)",
        },
        Code::INCONSISTENT_GROUP_PROTOCOL => Error {
            class: Class::Reopen,
            code: "group-foreign",
            message: format!("consumers that are no daemons of this link are in the group {group}"),
            remedy: "stop them: the group's name is reserved for the link",
        },
        code => code.error(&format!("the group {group}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_in_a_group_is_understood() {
        let said = subscription("checkpoints", &[3, 7], 5).expect("encoded");
        assert_eq!(owned(said), Some((vec![3, 7], 5)));
        let said = assignment("checkpoints", &[0, 2]).expect("encoded");
        assert_eq!(assigned(said), Some(vec![0, 2]));
        assert_eq!(assigned(Bytes::new()), Some(vec![]), "nothing");
    }

    proptest! {
        #[test]
        fn anything_else_is_not_and_does_no_harm(bytes in any::<Vec<u8>>()) {
            let _ = (owned(bytes.clone().into()), assigned(bytes.into()));
        }
    }
}
