//! How the daemons that run a link share its lanes: a consumer group of the target, over the link's checkpoint topic. Who is assigned partition *n* has
//! lane *n*.
//!
//! A member also says which layouts it knows, as JSON in the user data of its subscription; one that says nothing knows the oldest. Lanes of another generation are
//! another topic: whoever subscribes to that is not given any of ours.
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
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedPartitions;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DescribeGroupsRequest, GroupId,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use serde::{Deserialize, Serialize};

use super::client::{Client, CoordinatorOf, topic_name};
use super::error::{self, Code};
use super::layout;
use super::wire::{Fields, Flaw, Reader};
use crate::connector::{Class, Colleague, Error};
use crate::model::layout::LAYOUT_OLDEST;
use crate::model::{self, NotEncodable};

/// The versions of the embedded protocol that are written.
const SUBSCRIPTION_VERSION: i16 = 2;
const ASSIGNMENT_VERSION: i16 = 1;

/// The daemons that run a link, by name. Those without lanes are there too.
pub(super) fn daemons(client: &Client, link: &str) -> Result<BTreeMap<Arc<str>, Colleague>, Error> {
    let group = layout::group(link);
    let broker = client.coordinator(CoordinatorOf::Group, &group)?.map_err(|code| refused(&group, code))?;
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(&group)]);
    let answer = client.call_broker(broker, &request)?;
    let found = answer.groups.into_iter().next().ok_or_else(|| error::not_asked("DescribeGroups"))?;
    Code(found.error_code).check().map_err(|code| refused(&group, code))?;
    let members = found.members.into_iter().map(|member| {
        let name = member.group_instance_id.unwrap_or(member.member_id);
        let lanes = assigned(member.member_assignment).unwrap_or_default().lanes;
        // A group that is being rebalanced shows nothing of its members.
        let layout = Subscribed::read(member.member_metadata).map(|said| said.layout).ok();
        (name.as_str().into(), Colleague { lanes, layout })
    });
    Ok(members.collect())
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// What a member says of itself beside what every consumer says.
#[derive(Debug, Serialize, Deserialize)]
struct UserData {
    /// The newest layout that it knows.
    layout: u32,
}

/// What a member says of itself when it joins: what it reads, what it has of that, and the newest layout that it knows.
fn subscription(topic: &str, owned: &[u32], generation: i32, layout: u32) -> Result<Bytes, NotEncodable> {
    let partitions = owned.iter().map(|lane| *lane as i32).collect();
    let owned = Owned::default().with_topic(topic_name(topic)).with_partitions(partitions);
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_owned())])
        .with_user_data(Some(model::encode("what a member says of itself", &UserData { layout })?.into()))
        .with_owned_partitions(vec![owned])
        .with_generation_id(generation);
    encode(&subscription, SUBSCRIPTION_VERSION)
}

/// What a member has said of itself. Members may be anybody: nothing they say is believed before it is there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Subscribed {
    /// What it reads, if that is one topic.
    topic: Vec<u8>,
    layout: u32,
    owned: Vec<u32>,
    /// Since when it has that, in the group's count.
    generation: i32,
}

impl Subscribed {
    fn read(subscription: Bytes) -> Result<Self, Flaw> {
        let mut from = Reader::new(subscription, false);
        let version: i16 = from.read(0)?;
        let topics: Vec<StrBytes> = from.read(version)?;
        let said: Option<Bytes> = from.read(version)?;
        let layout = match said.map(|said| serde_json::from_slice::<UserData>(&said)) {
            Some(Ok(said)) => said.layout,
            // A daemon that says nothing, or no daemon at all.
            Some(Err(_)) | None => LAYOUT_OLDEST,
        };
        let owned = if version >= 1 { Assigned::read(&mut from, version)?.lanes } else { Vec::new() };
        let generation = if version >= 2 { from.read(version)? } else { -1 };
        let topic = topics.last().map_or_else(Vec::new, |topic| topic.as_bytes().to_vec());
        Ok(Self { topic, layout, owned, generation })
    }
}

/// Partitions that a member has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Assigned {
    /// The topic, if it is one; nothing if there is none.
    topic: Vec<u8>,
    lanes: Vec<u32>,
}

impl Assigned {
    fn read(from: &mut Reader, version: i16) -> Result<Self, Flaw> {
        let of_topics = from.list(|from| Ok((from.read::<StrBytes>(version)?, from.read::<Vec<i32>>(version)?)))?;
        let of_topics = of_topics.unwrap_or_default();
        let topic = of_topics.last().map_or_else(Vec::new, |(topic, _)| topic.as_bytes().to_vec());
        let lanes = of_topics.into_iter().flat_map(|(_, partitions)| partitions);
        Ok(Self { topic, lanes: lanes.flat_map(u32::try_from).collect() })
    }
}

fn assignment(topic: &str, lanes: &[u32]) -> Result<Bytes, NotEncodable> {
    let partitions = lanes.iter().map(|lane| *lane as i32).collect();
    let assigned = AssignedPartitions::default().with_topic(topic_name(topic)).with_partitions(partitions);
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(vec![assigned]), ASSIGNMENT_VERSION)
}

/// What an assignment says. Nothing at all is no lane of no topic.
fn assigned(assignment: Bytes) -> Result<Assigned, Flaw> {
    if assignment.is_empty() {
        return Ok(Assigned::default());
    }
    let mut from = Reader::new(assignment, false);
    let version = from.read(0)?;
    Assigned::read(&mut from, version)
}

fn encode(message: &impl Encodable, version: i16) -> Result<Bytes, NotEncodable> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    let encoded = message.encode(&mut bytes, version);
    encoded.map_err(|error| NotEncodable { what: "a message to the group", reason: error.to_string() })?;
    Ok(bytes.freeze())
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
        let said = subscription("checkpoints", &[3, 7], 5, 2).expect("encoded");
        let expected = Subscribed { topic: b"checkpoints".into(), layout: 2, owned: vec![3, 7], generation: 5 };
        assert_eq!(Subscribed::read(said), Ok(expected));
        for lanes in [vec![0, 2], vec![]] {
            let said = assignment("checkpoints", &lanes).expect("encoded");
            assert_eq!(assigned(said), Ok(Assigned { topic: b"checkpoints".into(), lanes }));
        }
        assert_eq!(assigned(Bytes::new()), Ok(Assigned::default()), "nothing");
    }

    /// What version 0.1.0 said before it had user data.
    #[test]
    fn who_says_nothing_of_layouts_knows_the_oldest() {
        let silent = ConsumerProtocolSubscription::default().with_topics(vec![StrBytes::from_static_str("a")]);
        let said = encode(&silent, SUBSCRIPTION_VERSION).expect("encoded");
        assert_eq!(Subscribed::read(said).map(|said| said.layout), Ok(1));
        let foreign = silent.with_user_data(Some(Bytes::from_static(b"rack-7")));
        let said = encode(&foreign, SUBSCRIPTION_VERSION).expect("encoded");
        assert_eq!(Subscribed::read(said).map(|said| said.layout), Ok(1));
    }

    proptest! {
        #[test]
        fn anything_else_is_not_and_does_no_harm(bytes in any::<Vec<u8>>()) {
            let bytes = Bytes::from(bytes);
            let _ = (Subscribed::read(bytes.clone()), assigned(bytes));
        }
    }
}
