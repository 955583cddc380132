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

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DescribeGroupsRequest, GroupId,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::client::{Client, CoordinatorOf, topic_name};
use super::error::{self, Code};
use super::layout;
use super::wire::Fields;
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
        (name.as_str().into(), assigned(&member.member_assignment).unwrap_or_default())
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

/// What it has, and since which generation. Members may be anybody: nothing they say is believed before it is there.
fn owned(subscription: &[u8]) -> Option<(Vec<u32>, i32)> {
    let mut fields = Fields(subscription);
    let version = fields.i16()?;
    for _ in 0..fields.i32()? {
        let _topic = fields.string()?;
    }
    let _user_data = fields.bytes()?;
    let lanes = if version >= 1 { partitions(&mut fields)? } else { Vec::new() };
    let generation = if version >= 2 { fields.i32()? } else { -1 };
    Some((lanes, generation))
}

/// The partitions of a list of topics.
fn partitions(fields: &mut Fields<'_>) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for _ in 0..fields.i32()? {
        let _topic = fields.string()?;
        for _ in 0..fields.i32()? {
            found.extend(u32::try_from(fields.i32()?));
        }
    }
    Some(found)
}

fn assignment(topic: &str, lanes: &[u32]) -> Option<Bytes> {
    let partitions = lanes.iter().map(|lane| *lane as i32).collect();
    let assigned = Assigned::default().with_topic(topic_name(topic)).with_partitions(partitions);
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(vec![assigned]), ASSIGNMENT_VERSION)
}

/// The lanes of an assignment. Nothing at all is none.
fn assigned(assignment: &[u8]) -> Option<Vec<u32>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut fields = Fields(assignment);
    let _version = fields.i16()?;
    partitions(&mut fields)
}

fn encode(message: &impl Encodable, version: i16) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    message.encode(&mut bytes, version).ok()?;
    Some(bytes.freeze())
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
        assert_eq!(owned(&said), Some((vec![3, 7], 5)));
        let said = assignment("checkpoints", &[0, 2]).expect("encoded");
        assert_eq!(assigned(&said), Some(vec![0, 2]));
        assert_eq!(assigned(&[]), Some(vec![]), "nothing");
    }

    proptest! {
        #[test]
        fn anything_else_is_not_and_does_no_harm(bytes in any::<Vec<u8>>()) {
            let _ = (owned(&bytes), assigned(&bytes));
        }
    }
}
