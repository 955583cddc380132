//! A daemon's place in the group: it joins, is assigned lanes, and says now and then that it is alive.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::share::{Candidate, share};
use super::{Subscribed, assigned, assignment, group_id, refused, subscription};
use crate::connector::kafka::client::{Client, CoordinatorOf};
use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::layout;
use crate::connector::kafka::wire::{Answer, Call, Connection, wait_readable};
use crate::connector::{Error, LaneGroup, Membership, Standing};

/// Who has not been heard of for so long has lost its lanes.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is said that we are alive: a third of the session, as Kafka's clients do.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// What we call the way in which lanes are shared. Members of a group have to agree on it.
const PROTOCOL: &str = "tidegate-lanes";

/// The type that tools take for a consumer's.
const PROTOCOL_TYPE: &str = "consumer";

/// A daemon's place in the group of a link.
#[derive(Debug)]
pub(in crate::connector::kafka) struct Member {
    client: Arc<Client>,
    group: String,
    topic: String,
    lanes: u32,
    /// The newest layout that we know.
    layout: u32,
    /// The name that stays when the daemon is started again.
    instance: StrBytes,
    /// What the coordinator calls us; empty before it has said so.
    id: StrBytes,
    generation: i32,
    /// The lanes that are ours, if we have been told.
    owned: Option<Vec<u32>>,
    confirmed: Instant,
    connection: Option<Connection>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To join, at first or once more.
    Away,
    /// The request was sent, in this version, and is answered when all members have joined.
    Joining(Asked),
    /// What the leader says is awaited.
    Syncing(Asked),
    /// A member. When the next heartbeat is due.
    Settled(Instant),
    /// A member, but whoever leads does not share lanes of our generation. When the group is asked to share them out anew.
    Overlooked(Instant),
    /// A heartbeat was sent.
    Beating(Asked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    version: i16,
    at: Instant,
}

impl Member {
    pub(in crate::connector::kafka) fn new(client: Arc<Client>, of: &LaneGroup) -> Self {
        Self {
            client,
            group: layout::group(&of.link),
            topic: layout::checkpoint_topic(&of.link, of.generation).name().to_string(),
            lanes: of.lanes,
            layout: of.layout,
            instance: StrBytes::from_string(of.daemon.to_string()),
            id: StrBytes::default(),
            generation: -1,
            owned: None,
            confirmed: Instant::now(),
            connection: None,
            phase: Phase::Away,
        }
    }

    fn advance(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            match self.phase {
                Phase::Away => self.join()?,
                Phase::Settled(due) if Instant::now() >= due => self.beat()?,
                // We say other things of ourselves than at the last time, so the group is rebalanced.
                Phase::Overlooked(due) if Instant::now() >= due => self.join()?,
                Phase::Settled(due) | Phase::Overlooked(due) => {
                    thread::sleep(due.min(deadline).saturating_duration_since(Instant::now()));
                    if due >= deadline {
                        return Ok(());
                    }
                }
                Phase::Joining(asked) | Phase::Syncing(asked) | Phase::Beating(asked) => {
                    let Some(answer) = self.receive(asked, deadline)? else { return Ok(()) };
                    self.take(asked.version, answer)?;
                }
            }
        }
    }

    /// Ask to be a member, on a new connection: the coordinator may have moved.
    fn join(&mut self) -> Result<(), Error> {
        let found = self.client.coordinator(CoordinatorOf::Group, &self.group)?;
        let broker = found.map_err(|code| refused(&self.group, code))?;
        self.connection = Some(self.client.connect(broker)?);
        let owned = self.owned.as_deref().unwrap_or_default();
        let metadata = subscription(&self.topic, owned, self.generation, self.layout)?;
        let protocol =
            JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str(PROTOCOL)).with_metadata(metadata);
        let timeout = SESSION_TIMEOUT.as_millis() as i32;
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(timeout)
            .with_rebalance_timeout_ms(timeout)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance.clone()))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        self.phase = Phase::Joining(self.ask(&request)?);
        Ok(())
    }

    fn beat(&mut self) -> Result<(), Error> {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance.clone()));
        self.phase = Phase::Beating(self.ask(&request)?);
        Ok(())
    }

    fn ask<R: Call>(&mut self, request: &R) -> Result<Asked, Error> {
        let connection = self.connection.as_mut().ok_or_else(error::no_brokers)?;
        let version = connection.version::<R>()?;
        connection.send(version, request)?;
        Ok(Asked { version, at: Instant::now() })
    }

    /// The answer to what was asked, unless it does not come before the deadline.
    fn receive(&mut self, asked: Asked, deadline: Instant) -> Result<Option<Answer>, Error> {
        let connection = self.connection.as_mut().ok_or_else(error::no_brokers)?;
        loop {
            if let Some(answer) = connection.try_receive()? {
                return Ok(Some(answer));
            }
            if !wait_readable(std::iter::once(&*connection), deadline).map_err(error::cannot_wait)? {
                break;
            }
        }
        // A group is rebalanced for as long as its slowest member may take.
        let patience = self.client.settings().request_timeout + SESSION_TIMEOUT;
        if asked.at.elapsed() > patience { Err(connection.timed_out("answer").into()) } else { Ok(None) }
    }

    fn take(&mut self, version: i16, answer: Answer) -> Result<(), Error> {
        match self.phase {
            Phase::Joining(_) => {
                let answer = answer.decode::<JoinGroupRequest>(version)?;
                self.settle(Code(answer.error_code), |member| member.joined(answer))
            }
            Phase::Syncing(_) => {
                let answer = answer.decode::<SyncGroupRequest>(version)?;
                self.settle(Code(answer.error_code), |member| member.synced(answer))
            }
            _ => {
                let answer = answer.decode::<HeartbeatRequest>(version)?;
                self.settle(Code(answer.error_code), |member| {
                    member.is_settled();
                    Ok(())
                })
            }
        }
    }

    /// Go on with what was answered, or with what the code says instead.
    fn settle(&mut self, code: Code, go_on: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        match code {
            Code::NONE => go_on(self),
            Code::REBALANCE_IN_PROGRESS => {
                self.phase = Phase::Away;
                Ok(())
            }
            // The group has gone on without us, and others may have our lanes.
            Code::ILLEGAL_GENERATION | Code::UNKNOWN_MEMBER_ID => {
                self.forget();
                Ok(())
            }
            code => {
                if code == Code::FENCED_INSTANCE_ID {
                    self.forget();
                }
                Err(refused(&self.group, code))
            }
        }
    }

    fn forget(&mut self) {
        self.id = StrBytes::default();
        self.generation = -1;
        self.owned = self.owned.take().map(|_| Vec::new());
        self.phase = Phase::Away;
    }

    /// We are a member. If we lead, we say who gets what.
    fn joined(&mut self, answer: JoinGroupResponse) -> Result<(), Error> {
        self.id = answer.member_id;
        self.generation = answer.generation_id;
        let leads = answer.leader == self.id && !answer.skip_assignment;
        let shares = if leads { self.shares(answer.members)? } else { Vec::new() };
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance.clone()))
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL)))
            .with_assignments(shares);
        self.phase = Phase::Syncing(self.ask(&request)?);
        Ok(())
    }

    fn shares(
        &self,
        members: Vec<kafka_protocol::messages::join_group_response::JoinGroupResponseMember>,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        // Members of another generation of lanes get none: they will come back as members of ours, or we of theirs.
        let candidates = members.into_iter().filter_map(|member| {
            let said = Subscribed::read(member.metadata).unwrap_or_default();
            let is_ours = said.topic == self.topic.as_bytes();
            let Subscribed { owned, generation, .. } = said;
            is_ours.then(|| Candidate { id: member.member_id.to_string(), owned, generation })
        });
        let shares = share(self.lanes, &candidates.collect::<Vec<_>>());
        tracing::info!(group = self.group, ?shares, "shared lanes out");
        let encoded = shares.into_iter().map(|(id, lanes)| {
            let lanes = assignment(&self.topic, &lanes)?;
            let member = SyncGroupRequestAssignment::default().with_member_id(StrBytes::from_string(id));
            Ok::<_, Error>(member.with_assignment(lanes))
        });
        encoded.collect()
    }

    fn synced(&mut self, answer: SyncGroupResponse) -> Result<(), Error> {
        let assigned = assigned(answer.assignment).map_err(|_| error::not_asked("SyncGroup"))?;
        self.is_settled();
        let is_ours = assigned.topic == self.topic.as_bytes();
        self.owned = Some(if is_ours { assigned.lanes } else { Vec::new() });
        if !is_ours {
            tracing::info!(
                group = self.group,
                topic = self.topic,
                "overlooked: lanes of another generation are shared"
            );
            self.phase = Phase::Overlooked(Instant::now() + HEARTBEAT_INTERVAL);
        }
        Ok(())
    }

    fn is_settled(&mut self) {
        self.confirmed = Instant::now();
        self.phase = Phase::Settled(Instant::now() + HEARTBEAT_INTERVAL);
    }
}

impl Membership for Member {
    fn poll(&mut self, wait: Duration) -> Result<Option<Standing>, Error> {
        let advanced = self.advance(Instant::now() + wait);
        if advanced.is_err() {
            // Whatever it was, the next try begins with finding the coordinator.
            self.connection = None;
            self.phase = Phase::Away;
        }
        let standing = self
            .owned
            .as_ref()
            .map(|lanes| Standing { lanes: lanes.iter().copied().collect(), confirmed: self.confirmed });
        advanced.map(|()| standing)
    }

    fn leave(&mut self) {
        let identity = MemberIdentity::default()
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance.clone()));
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_members(vec![identity]);
        let coordinator = self.client.coordinator(CoordinatorOf::Group, &self.group);
        if let Ok(Ok(broker)) = coordinator
            && let Err(error) = self.client.call_broker(broker, &request)
        {
            tracing::debug!(group = self.group, "leaving: {error}");
        }
        self.forget();
        self.owned = None;
    }
}
