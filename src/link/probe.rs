//! Whether a cluster answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::failure::Failure;
use super::lane::now_ms;
use super::observer::Aside;
use super::status::lock;
use crate::connector::Cluster;

/// A cluster that has not answered for so long does not answer. It may be asked for longer: a connection may take 30 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of asking a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When that was, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Why it does not answer; `None`: it does.
    pub trouble: Option<Failure>,
}

impl Answer {
    /// Whether the cluster answers.
    pub fn is_reachable(&self) -> bool {
        self.trouble.is_none()
    }
}

/// Asks a cluster now and then.
#[derive(Debug, Default)]
pub struct Probe {
    aside: Aside,
    last: Mutex<Option<Answer>>,
}

impl Probe {
    /// Ask, if it is time to.
    pub fn ask(self: &Arc<Self>, cluster: &Arc<dyn Cluster>, interval: Duration) {
        if !self.aside.is_due(|_| interval) {
            return;
        }
        let (me, cluster) = (self.clone(), cluster.clone());
        self.aside.begin("probe", move || {
            let trouble = cluster.probe().err().map(Failure::from);
            *lock(&me.last) = Some(Answer { at_ms: now_ms(), trouble });
            me.aside.end();
        });
    }

    /// What came of it last. Who lets us wait for too long does not answer.
    pub fn answer(&self) -> Option<Answer> {
        match self.aside.under_way() {
            Some(waited) if waited > PATIENCE => Some(silence(waited)),
            _ => lock(&self.last).clone(),
        }
    }
}

fn silence(waited: Duration) -> Answer {
    let message = format!("it has said nothing for {} s", waited.as_secs());
    let trouble = Failure::fatal("no-answer", message, "look at its brokers and at the network");
    Answer { at_ms: now_ms(), trouble: Some(trouble) }
}
