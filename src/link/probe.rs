//! Whether a cluster answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::failure::Failure;
use super::lane::now_ms;
use super::observer::Aside;
use super::status::lock;
use crate::background::Unfinished;
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
    last: Mutex<Option<Result<Answer, Unfinished>>>,
    /// When the cluster was well last; before it ever was, when it was asked first.
    well_ms: Mutex<Option<i64>>,
}

/// That a cluster does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When it answered last, or was asked first if it never did, in milliseconds since 1970-01-01
    /// UTC.
    pub since_ms: i64,
    /// What is known of the reason.
    pub why: String,
}

impl Probe {
    /// Ask, if it is time to.
    pub fn ask(self: &Arc<Self>, cluster: &Arc<dyn Cluster>, interval: Duration) {
        if !self.aside.is_due(|_| interval) {
            return;
        }
        let (me, cluster) = (self.clone(), cluster.clone());
        let ask = move || {
            let trouble = cluster.probe().err().map(Failure::from);
            Answer { at_ms: now_ms(), trouble }
        };
        lock(&self.well_ms).get_or_insert_with(now_ms);
        self.aside.begin("probe", ask, move |answer| me.hear(answer));
    }

    fn hear(&self, answer: Result<Answer, Unfinished>) {
        if let Ok(Answer { at_ms, trouble: None }) = &answer {
            *lock(&self.well_ms) = Some(*at_ms);
        }
        *lock(&self.last) = Some(answer);
    }

    /// Whether the cluster says nothing now: a probe has waited for `patience`, or the last one has
    /// failed. For requests, which cannot wait as long as health does.
    pub fn silence(&self, patience: Duration) -> Option<Silence> {
        let waited = self.aside.under_way().filter(|waited| *waited >= patience);
        let why = match waited {
            Some(_) => "a request to it waits for its answer".to_owned(),
            None => lock(&self.last).as_ref()?.as_ref().ok()?.trouble.as_ref()?.to_string(),
        };
        Some(Silence { since_ms: (*lock(&self.well_ms))?, why })
    }

    /// What came of it last. Who lets us wait for too long does not answer. `None`: that is not
    /// known, since nobody has asked, or asking has failed on our side.
    pub fn answer(&self) -> Option<Answer> {
        match self.aside.under_way() {
            Some(waited) if waited > PATIENCE => Some(silence(waited)),
            _ => lock(&self.last).clone()?.ok(),
        }
    }

    /// Why nothing is known of the cluster, if asking it has failed on our side.
    pub fn unfinished(&self) -> Option<Unfinished> {
        lock(&self.last).clone()?.err()
    }
}

fn silence(waited: Duration) -> Answer {
    let message = format!("it has said nothing for {} s", waited.as_secs());
    let trouble = Failure::fatal("no-answer", message, "look at its brokers and at the network");
    Answer { at_ms: now_ms(), trouble: Some(trouble) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::FailoverConfig;
    use crate::link::double::Panics;
    use crate::link::failover::trigger::{Signs, Trigger};

    /// Ask a cluster once, and wait until that is over.
    fn asked(cluster: Panics) -> Arc<Probe> {
        let (probe, cluster): (_, Arc<dyn Cluster>) = (Arc::new(Probe::default()), Arc::new(cluster));
        probe.ask(&cluster, Duration::ZERO);
        while probe.aside.under_way().is_some() {
            std::thread::yield_now();
        }
        probe
    }

    #[test]
    fn a_probe_that_panics_is_no_answer_and_no_silence() {
        let probe = asked(Panics::default());
        assert_eq!(probe.answer(), None, "nothing is known of the cluster");
        let unfinished = probe.unfinished().expect("it is said");
        assert!(matches!(&unfinished, Unfinished::Panicked(how) if how.contains("a fault")), "{unfinished}");
        assert!(probe.aside.is_due(|_| Duration::ZERO), "it is asked again");
    }

    #[test]
    fn a_cluster_that_answers_is_known_again() {
        let probe = asked(Panics { answers_probes: true });
        assert!(probe.answer().is_some_and(|answer| answer.is_reachable()));
        assert_eq!(probe.unfinished(), None);
    }

    #[test]
    fn a_cluster_is_silent_since_it_was_well_last() {
        let probe = asked(Panics { answers_probes: true });
        assert_eq!(probe.silence(Duration::ZERO), None);
        let well = lock(&probe.well_ms).expect("it has answered");
        probe.hear(Ok(Answer { at_ms: well + 7, trouble: Some(Failure::fatal("gone", "no host", "")) }));
        assert_eq!(probe.silence(Duration::ZERO), Some(Silence { since_ms: well, why: "no host".to_owned() }));
        probe.hear(Ok(Answer { at_ms: well + 9, trouble: None }));
        assert_eq!(probe.silence(Duration::ZERO), None);
        // What waits does not answer, whatever it has said before.
        let (_go, wait) = std::sync::mpsc::channel::<()>();
        probe.aside.begin("hangs", move || wait.recv().is_err(), |_| {});
        assert_eq!(probe.silence(Duration::MAX), None);
        assert_eq!(probe.silence(Duration::ZERO).map(|silence| silence.since_ms), Some(well + 9));
    }

    #[test]
    fn a_probe_that_panics_is_no_reason_to_fail_over() {
        let (probe, target) = (asked(Panics::default()), asked(Panics { answers_probes: true }));
        let answers = |probe: &Probe| probe.answer().map(|answer| answer.is_reachable());
        let signs = Signs { source_answers: answers(&probe), target_answers: answers(&target), ..Signs::default() };
        let (mut trigger, begun) = (Trigger::default(), Instant::now());
        let looks = (0..100_000).map(|second| begun + Duration::from_secs(second));
        let due: Vec<_> = looks.filter_map(|now| trigger.look(signs, &FailoverConfig::default(), now)).collect();
        assert!(due.is_empty(), "{due:?}");
    }
}
