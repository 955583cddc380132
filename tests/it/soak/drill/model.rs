//! What a link answers to each request in each state, and what becomes of it. Written down by hand: it has no line in common with the daemon.

use serde_json::{Value, json};

/// What a link was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Stopped,
    Running,
    Paused,
}

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub is_defined: bool,
    /// That of its definition; also of one that was deleted.
    pub version: u64,
    pub told: Told,
    /// Whether it ever ran: only then its target has something to take over.
    pub was_started: bool,
    /// Whether its target has the source's place.
    pub is_over: bool,
    pub batch_size: u64,
    /// What it was throttled to; none: as it is defined, which is not at all.
    pub rate: Option<u64>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Define { batch_size: u64, lanes: u64 },
    Start,
    Stop,
    Pause,
    Resume,
    Change { batch_size: u64, lanes: Option<u64> },
    ChangeWrongly,
    ChangeOutdated,
    Delete,
    DeleteOutdated,
    Throttle(u64),
    Unthrottle,
    FailOver,
    PlanFailover,
    FailBack,
    PlanFailback,
    CallOff,
    Relane(u64),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One of these statuses.
    Done(&'static [u16]),
    /// A problem: status, code, and what is allowed instead.
    Refused(u16, &'static str, &'static [&'static str]),
}

const OK: Reply = Reply::Done(&[200]);

/// Done, or under way.
const UNDER_WAY: Reply = Reply::Done(&[200, 202]);

impl Model {
    /// A link that nobody has heard of.
    pub fn new() -> Self {
        Self {
            is_defined: false,
            version: 0,
            told: Told::Stopped,
            was_started: false,
            is_over: false,
            batch_size: 0,
            rate: None,
        }
    }

    /// The status that it shows; none if it is not there.
    pub fn status(&self) -> Option<&'static str> {
        match (self.is_defined, self.is_over, self.told) {
            (false, ..) => None,
            (true, true, _) => Some("failed_over"),
            (true, false, Told::Stopped) => Some("stopped"),
            (true, false, Told::Running) => Some("active"),
            (true, false, Told::Paused) => Some("paused"),
        }
    }

    fn wrong_state(&self) -> Reply {
        let allowed: &[&str] = match (self.is_over, self.told) {
            (true, _) => &["failback"],
            (false, Told::Stopped) => &["start", "failover"],
            (false, Told::Running) => &["pause", "stop", "failover"],
            (false, Told::Paused) => &["resume", "stop", "failover"],
        };
        Reply::Refused(409, "wrong-state", allowed)
    }

    /// The answer, and what the link is afterwards.
    pub fn expect(&self, deed: Deed) -> (Reply, Self) {
        let mut after = self.clone();
        let reply = self.reply(deed);
        if let Reply::Done(_) = reply {
            after.become_done(deed);
        }
        (reply, after)
    }

    fn reply(&self, deed: Deed) -> Reply {
        use Deed::{
            CallOff, Change, ChangeOutdated, ChangeWrongly, Define, Delete, DeleteOutdated, FailBack, FailOver,
        };
        use Deed::{Pause, PlanFailback, PlanFailover, Relane, Resume, Start, Stop, Throttle, Unthrottle};
        let is_still = self.is_over || self.told != Told::Running;
        match deed {
            Define { .. } if self.is_defined => Reply::Refused(409, "link-exists", &[]),
            Define { .. } => Reply::Done(&[201]),
            _ if !self.is_defined => Reply::Refused(404, "link-not-found", &[]),
            ChangeOutdated | DeleteOutdated => Reply::Refused(412, "version-outdated", &[]),
            Throttle(_) | Unthrottle => OK,
            Start | Stop | Pause | Resume if self.is_over => self.wrong_state(),
            Pause | Resume if self.told == Told::Stopped => self.wrong_state(),
            Start | Stop | Pause | Resume => UNDER_WAY,
            ChangeWrongly if is_still => Reply::Refused(400, "invalid-document", &[]),
            Change { .. } if is_still => OK,
            Change { .. } | ChangeWrongly => self.wrong_state(),
            Delete if self.is_over || self.told == Told::Stopped => Reply::Done(&[204]),
            Delete => self.wrong_state(),
            FailOver | PlanFailover if self.is_over => self.wrong_state(),
            FailOver | PlanFailover if !self.was_started => Reply::Refused(409, "not-started", &[]),
            FailOver | PlanFailover => OK,
            FailBack | PlanFailback if !self.is_over => Reply::Refused(409, "not-failed-over", &[]),
            FailBack => UNDER_WAY,
            PlanFailback => OK,
            CallOff => Reply::Refused(409, "not-failing-back", &[]),
            Relane(_) if !self.was_started => Reply::Refused(409, "link-not-made", &[]),
            Relane(_) => OK,
        }
    }

    /// What a request makes of it that was carried out.
    pub fn become_done(&mut self, deed: Deed) {
        match deed {
            Deed::Define { batch_size, .. } => {
                (self.is_defined, self.version, self.batch_size) = (true, self.version + 1, batch_size);
            }
            Deed::Change { batch_size, .. } => (self.version, self.batch_size) = (self.version + 1, batch_size),
            Deed::Delete => (self.is_defined, self.version) = (false, self.version + 1),
            Deed::Start | Deed::Resume => (self.told, self.was_started) = (Told::Running, true),
            Deed::Stop => self.told = Told::Stopped,
            Deed::Pause => self.told = Told::Paused,
            Deed::Throttle(rate) => self.rate = Some(rate),
            Deed::Unthrottle => self.rate = None,
            Deed::FailOver => self.is_over = true,
            Deed::FailBack => self.is_over = false,
            _ => {}
        }
    }
}

impl Deed {
    /// The method, the path behind that of the link, and the body.
    pub fn request(self, id: &str, definition: impl FnOnce(u64, u64) -> Value) -> (&'static str, &'static str, String) {
        let text = |body: Value| body.to_string();
        match self {
            Self::Define { batch_size, lanes } => {
                let mut body = definition(batch_size, lanes);
                body["id"] = id.into();
                ("POST", "", text(body))
            }
            Self::Start => ("POST", "/start", String::new()),
            Self::Stop => ("POST", "/stop", String::new()),
            Self::Pause => ("POST", "/pause", String::new()),
            Self::Resume => ("POST", "/resume", String::new()),
            Self::Change { batch_size, lanes } => {
                let mut body = json!({ "config": { "batch_size": batch_size } });
                if let Some(lanes) = lanes {
                    body["lanes"] = lanes.into();
                }
                ("PUT", "", text(body))
            }
            Self::ChangeWrongly => ("PUT", "", text(json!({ "config": { "batch_size": "many" }, "lanes": 0 }))),
            Self::ChangeOutdated => ("PUT", "", text(json!({ "config": { "batch_size": 1 } }))),
            Self::Delete | Self::DeleteOutdated => ("DELETE", "", String::new()),
            Self::Throttle(rate) => ("POST", "/throttle", text(json!({ "throttle_rate_bytes_per_sec": rate }))),
            Self::Unthrottle => ("DELETE", "/throttle", String::new()),
            Self::FailOver => ("POST", "/failover?drain_timeout=300ms", String::new()),
            Self::PlanFailover => ("POST", "/failover?dry_run=true", String::new()),
            Self::FailBack => ("POST", "/failback", String::new()),
            Self::PlanFailback => ("POST", "/failback?dry_run=true", String::new()),
            Self::CallOff => ("DELETE", "/failback", String::new()),
            Self::Relane(lanes) => ("POST", "/relane", text(json!({ "lanes": lanes }))),
        }
    }
}
