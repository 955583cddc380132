//! Orders to links. Who gives one waits for what comes of it as long as the link's clusters answer.
//! While one says nothing, the order is written into the data directory and accepted: it is carried
//! out when that can be, also after a restart, unless a later one replaces it.
//!
//! Each link has its orders carried out by one thread, one after the other, so none overtakes another.
//! What an order means for the lanes of this daemon holds from the moment it was given.
//!
//! `order` is what can be ordered, `kept` the file.

mod kept;
mod order;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::kept::{Accepted, Kept};
pub(super) use self::order::{Done, Order};
use super::{Daemon, Error, lock};
use crate::api::control::{About, ControlError, ErrorKind, Ordered};
use crate::api::wire;
use crate::background;
use crate::link::Desired;
use crate::link::supervisor::LINK_REPLACED;
use crate::model::time::now_ms;

/// How soon an order is accepted while a cluster says nothing.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How often is looked whether it does. A cluster that has not answered for so long is silent.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How soon what could not be carried out is tried again, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);

/// What becomes of an order, for who gave it.
enum Told {
    Done(Box<Done>),
    Refused(ControlError),
    /// It is kept.
    Kept,
}

/// An order that is not carried out yet.
struct Placed {
    number: u64,
    it: Accepted,
    /// Whether the file has it: who gave it waits no more.
    is_kept: bool,
    /// Whether it was tried.
    is_begun: bool,
    /// Why that came to nothing.
    reason: Option<ControlError>,
    tell: Option<Sender<Told>>,
}

/// The orders of a link, in the order in which they are carried out.
#[derive(Default)]
struct Line {
    orders: Vec<Placed>,
    /// Whether a thread sees to them.
    is_attended: bool,
}

/// Whose orders stand in one line: those to a link, but for what is about its definition alone. That needs no target, and so must not wait for one.
type Key = (String, bool);

fn key(it: &Accepted) -> Key {
    (it.link.clone(), matches!(it.order, Order::Delete { .. }))
}

#[derive(Default)]
struct Lines {
    given: u64,
    all: BTreeMap<Key, Line>,
}

impl Lines {
    /// All that the file is to have.
    fn kept(&self) -> Vec<Accepted> {
        self.kept_with(None)
    }

    /// The same with one more, and without what that makes void.
    fn kept_with(&self, new: Option<(&Accepted, u64)>) -> Vec<Accepted> {
        let is_void = |placed: &&Placed| new.is_some_and(|(by, number)| placed.is_void(by, number));
        let kept = self.all.values().flat_map(|line| &line.orders).filter(|placed| placed.is_kept && !is_void(placed));
        let mut kept: Vec<(u64, &Accepted)> = kept.map(|placed| (placed.number, &placed.it)).collect();
        kept.extend(new.map(|(it, number)| (number, it)));
        kept.sort_by_key(|(number, _)| *number);
        kept.into_iter().map(|(_, it)| it.clone()).collect()
    }

    /// Those of a link that are kept, oldest first.
    fn kept_of(&self, link: &str) -> Vec<&Placed> {
        let lines = [false, true].into_iter().filter_map(|of| self.all.get(&(link.to_owned(), of)));
        let mut kept: Vec<&Placed> = lines.flat_map(|line| &line.orders).filter(|placed| placed.is_kept).collect();
        kept.sort_by_key(|placed| placed.number);
        kept
    }

    fn place(&mut self, placed: Placed) {
        self.all.entry(key(&placed.it)).or_default().orders.push(placed);
    }

    fn find(&mut self, key: &Key, number: u64) -> Option<&mut Placed> {
        self.all.get_mut(key)?.orders.iter_mut().find(|placed| placed.number == number)
    }

    /// Forget what a later order has made void. Whether the file had any of it.
    fn forget_replaced(&mut self, by: &Accepted, number: u64) -> bool {
        let count = |lines: &Self| lines.kept_of(&by.link).len();
        let before = count(self);
        for of in [false, true] {
            let line = self.all.get_mut(&(by.link.clone(), of));
            line.into_iter().for_each(|line| line.orders.retain(|placed| !placed.is_void(by, number)));
        }
        count(self) < before
    }
}

impl Placed {
    /// Whether a later order decides what this was to.
    fn is_void(&self, by: &Accepted, number: u64) -> bool {
        self.is_kept && self.number < number && self.it.link == by.link && by.order.replaces(&self.it.order)
    }
}

/// The orders of all links.
pub(super) struct Orders {
    kept: Kept,
    lines: Mutex<Lines>,
    /// Rings when there is another order.
    bell: Condvar,
    daemon: OnceLock<Weak<Daemon>>,
}

impl Orders {
    /// Those that were accepted before the daemon ended.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        let kept = Kept::new(data_dir);
        let before = kept.read().map_err(|error| {
            let message = format!("the orders in {} that wait for a cluster: {error}", data_dir.display());
            Error::new(message, "restore the file orders.json, or remove it: then they are forgotten")
        })?;
        let mut lines = Lines::default();
        for it in before {
            lines.given += 1;
            let number = lines.given;
            lines.place(Placed { number, it, is_kept: true, is_begun: false, reason: None, tell: None });
        }
        Ok(Self { kept, lines: Mutex::new(lines), bell: Condvar::new(), daemon: OnceLock::new() })
    }

    /// Begin to carry out what was accepted before.
    pub(super) fn begin(&self, daemon: &Arc<Daemon>) {
        let _once = self.daemon.set(Arc::downgrade(daemon));
        let keys: Vec<Key> = lock(&self.lines).all.keys().cloned().collect();
        keys.iter().for_each(|key| self.attend(key));
    }

    /// What a link is to do that its target has not been told yet.
    pub(super) fn desired(&self, link: &str) -> Option<Desired> {
        let lines = lock(&self.lines);
        lines.kept_of(link).into_iter().rev().find_map(|placed| placed.it.order.desired())
    }

    /// The orders of a link that wait.
    pub(super) fn pending(&self, link: &str) -> Vec<wire::PendingOrder> {
        let lines = lock(&self.lines);
        let view = |placed: &Placed| wire::PendingOrder {
            order: placed.it.order.word().to_owned(),
            by: placed.it.by.clone(),
            since: wire::Time(placed.it.at_ms),
            reason: placed.reason.as_ref().map(trouble),
        };
        lines.kept_of(link).into_iter().map(view).collect()
    }

    fn place(&self, it: Accepted) -> (u64, Receiver<Told>) {
        let (tell, told) = channel();
        let mut lines = lock(&self.lines);
        lines.given += 1;
        let number = lines.given;
        lines.place(Placed { number, is_kept: false, is_begun: false, reason: None, tell: Some(tell), it });
        self.bell.notify_all();
        (number, told)
    }

    /// Whether an order was tried.
    fn is_begun(&self, key: &Key, number: u64) -> bool {
        lock(&self.lines).find(key, number).is_none_or(|placed| placed.is_begun)
    }

    /// Write an order into the file, in place of those that it makes void. `false`: it has just come to an end.
    fn keep(&self, key: &Key, number: u64, reason: Option<ControlError>) -> Result<bool, ControlError> {
        let mut lines = lock(&self.lines);
        let Some(placed) = lines.find(key, number) else { return Ok(false) };
        placed.reason = reason.or(placed.reason.take());
        if placed.is_kept {
            return Ok(true);
        }
        let it = placed.it.clone();
        self.kept.write(lines.kept_with(Some((&it, number)))).map_err(|error| {
            let message = format!("a cluster does not answer, and the order cannot be kept: {error}");
            ControlError::new(ErrorKind::Unavailable, "order-not-kept", message, "make the data directory writable")
        })?;
        lines.forget_replaced(&it, number);
        let Some(placed) = lines.find(key, number) else { return Ok(false) };
        placed.is_kept = true;
        if let Some(tell) = placed.tell.take() {
            // Who gave it may be the one that keeps it.
            let _heard = tell.send(Told::Kept);
        }
        tracing::warn!(link = it.link, order = it.order.word(), by = it.by, "kept until its cluster answers");
        Ok(true)
    }

    /// An order has come to an end.
    fn conclude(&self, key: &Key, number: u64, told: Told) {
        let mut lines = lock(&self.lines);
        let Some(line) = lines.all.get_mut(key) else { return };
        let Some(at) = line.orders.iter().position(|placed| placed.number == number) else { return };
        let placed = line.orders.remove(at);
        let is_done = matches!(told, Told::Done(_));
        if let Told::Refused(error) = &told
            && placed.is_kept
        {
            let (link, order, by) = (&*key.0, placed.it.order.word(), &*placed.it.by);
            tracing::error!(link, order, by, code = error.code, "an accepted order was refused: {error}");
        }
        let is_written = (is_done && lines.forget_replaced(&placed.it, number)) | placed.is_kept;
        if is_written && let Err(error) = self.kept.write(lines.kept()) {
            // It is carried out once more after a restart, as it may be at any time.
            tracing::error!(link = key.0, "the file of orders cannot be written: {error}");
        }
        if let Some(tell) = placed.tell {
            let _nobody_waits_any_more = tell.send(told);
        }
    }

    /// Have a thread see to a line, if none does.
    fn attend(&self, key: &Key) {
        let Some(daemon) = self.daemon.get().and_then(Weak::upgrade) else { return };
        {
            let mut lines = lock(&self.lines);
            let line = lines.all.entry(key.clone()).or_default();
            if std::mem::replace(&mut line.is_attended, true) {
                return;
            }
        }
        let (me, its_key, key) = (daemon.clone(), key.clone(), key.clone());
        let ended = move |result: Result<(), _>| {
            if result.is_err() {
                // It has panicked, or there was no thread: the next order begins another one.
                lock(&me.orders.lines).all.entry(its_key).or_default().is_attended = false;
            }
        };
        let daemon = Arc::downgrade(&daemon);
        background::begin("orders", move || carry_out_all(&daemon, &key), ended);
    }

    /// The next order of a line behind number `after`. Where there is none at all, nobody attends the line any more.
    fn next(&self, key: &Key, after: u64) -> Next {
        let mut lines = lock(&self.lines);
        let given = lines.given;
        let Some(line) = lines.all.get_mut(key) else { return Next::Nothing };
        if line.orders.is_empty() {
            lines.all.remove(key);
            return Next::Nothing;
        }
        match line.orders.iter_mut().find(|placed| placed.number > after) {
            Some(placed) => {
                placed.is_begun = true;
                Next::Order(placed.number, placed.it.clone(), placed.is_kept)
            }
            None => Next::Wait { given },
        }
    }

    /// Wait for another order than the first `given`, or until those may be tried again. Whether there is one.
    fn rest(&self, given: u64, at_most: Duration) -> bool {
        let waited = self.bell.wait_timeout_while(lock(&self.lines), at_most, |lines| lines.given == given);
        waited.unwrap_or_else(PoisonError::into_inner).0.given > given
    }
}

/// What to do about the orders of a line.
enum Next {
    Order(u64, Accepted, bool),
    /// All were tried that were given so far.
    Wait {
        given: u64,
    },
    Nothing,
}

/// Carry out the orders of a line until there is none.
fn carry_out_all(daemon: &Weak<Daemon>, key: &Key) {
    let (mut tried, mut wait) = (0, AGAIN_AFTER);
    loop {
        let Some(daemon) = daemon.upgrade() else { return };
        match daemon.orders.next(key, tried) {
            Next::Nothing => return,
            Next::Wait { given } => {
                let has_news = daemon.orders.rest(given, wait);
                (tried, wait) = (0, if has_news { AGAIN_AFTER } else { (wait * 2).min(AGAIN_AFTER_MAX) });
            }
            Next::Order(number, it, is_kept) => {
                tried = number;
                match daemon.carry_out(&it, is_kept) {
                    Ok(done) => {
                        wait = AGAIN_AFTER;
                        daemon.orders.conclude(key, number, Told::Done(Box::new(done)));
                    }
                    Err(error) if error.is_unheard || is_kept && error.code == LINK_REPLACED => {
                        if let Err(error) = daemon.orders.keep(key, number, Some(error)) {
                            daemon.orders.conclude(key, number, Told::Refused(error));
                            daemon.take_back_effect(&it);
                        }
                    }
                    Err(error) => {
                        daemon.orders.conclude(key, number, Told::Refused(error));
                        daemon.take_back_effect(&it);
                    }
                }
            }
        }
    }
}

fn trouble(error: &ControlError) -> wire::Trouble {
    wire::Trouble {
        code: error.code.to_owned(),
        message: error.message.clone(),
        remedy: error.remedy.clone(),
        stage: None,
        place: None,
        lost: None,
    }
}

impl Daemon {
    /// Have a link do something. Answers what came of it; or that it is kept, while a cluster that it needs does not answer.
    pub(super) fn give_order(&self, id: &str, order: Order, by: &str) -> Result<Ordered<Done>, ControlError> {
        let it = Accepted { link: id.to_owned(), order, by: by.to_owned(), at_ms: now_ms() };
        if !self.world().links.contains_key(id) {
            // What does not run here has nothing that could hang but its definition.
            return self.carry_out(&it, false).map(Ordered::Done);
        }
        self.take_effect(&it)?;
        let (link, key) = (it.link.clone(), key(&it));
        let (order, begun) = (it.order.clone(), Instant::now());
        let (number, told) = self.orders.place(it);
        self.orders.attend(&key);
        loop {
            match told.recv_timeout(LOOK_EVERY) {
                Ok(Told::Done(done)) => return Ok(Ordered::Done(*done)),
                Ok(Told::Refused(error)) => return Err(error),
                Ok(Told::Kept) => return self.shown_pending(&link),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ControlError::new(
                        ErrorKind::Internal,
                        "internal",
                        "the order was lost",
                        "see the daemon's log",
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let silence = self.silence_of(&link, &order, self.orders.is_begun(&key, number));
                    if let Some(reason) = silence.filter(|_| begun.elapsed() >= AT_ONCE)
                        && self.orders.keep(&key, number, Some(reason))?
                    {
                        return self.shown_pending(&link);
                    }
                }
            }
        }
    }

    fn shown_pending(&self, link: &str) -> Result<Ordered<Done>, ControlError> {
        use crate::api::ControlPlane as _;
        self.link(link).map(|link| Ordered::Pending(Box::new(link)))
    }

    /// Why an order is not waited for, if a cluster that it needs says nothing. One that waits behind another order needs what that one needs.
    fn silence_of(&self, link: &str, order: &Order, is_begun: bool) -> Option<ControlError> {
        let hosted = self.world().links.get(link).cloned()?;
        let config = hosted.config();
        let needs_both = !is_begun || order.asks_source() || config.goes_both_ways();
        let mut silent = self.silent_clusters(&About::Link(link.to_string()), Some(LOOK_EVERY));
        silent.retain(|silent| needs_both || *silent.cluster == *config.target);
        if let Some(home) = self.settings().metadata.clone().filter(|_| order.asks_home()) {
            silent.extend(self.silent_clusters(&About::Cluster(home.to_string()), Some(LOOK_EVERY)));
        }
        let first = silent.into_iter().next()?;
        let message = format!("{} has not answered since {}: {}", first.cluster, first.since, first.why);
        let error = ControlError::new(
            ErrorKind::Unavailable,
            "cluster-silent",
            message,
            "look at its brokers and at the network",
        );
        Some(ControlError { is_unheard: true, ..error })
    }

    /// Have the lanes of this daemon obey at once.
    ///
    /// # Errors
    /// The order has no sense in the present state.
    fn take_effect(&self, it: &Accepted) -> Result<(), ControlError> {
        let Order::Steer { transition } = it.order else { return Ok(()) };
        let hosted = self.find_hosted(&it.link)?;
        let desired = super::lifecycle::checked(&hosted, transition)?;
        for one in [Some(hosted.clone()), self.other_way(&hosted)].into_iter().flatten() {
            one.link().obey_here(desired);
        }
        Ok(())
    }

    /// An order that was refused counts no more; what was accepted before it does.
    fn take_back_effect(&self, it: &Accepted) {
        let hosted = self.world().links.get(&*it.link).cloned().filter(|_| it.order.desired().is_some());
        let Some(hosted) = hosted else { return };
        let ahead = self.orders.desired(&it.link);
        [Some(hosted.clone()), self.other_way(&hosted)]
            .into_iter()
            .flatten()
            .for_each(|one| one.link().take_back(ahead));
    }

    /// Carry out an order now, however long that takes.
    fn carry_out(&self, it: &Accepted, is_kept: bool) -> Result<Done, ControlError> {
        let Accepted { link, order, by, at_ms } = it;
        if is_kept && !self.world().links.contains_key(&**link) && !self.has_read_definitions() {
            return Err(ControlError { is_unheard: true, ..self.not_read(link) });
        }
        match order {
            Order::Steer { transition } => {
                self.steer_link(link, *transition, is_kept.then_some(*at_ms)).map(|link| Done::Steered(Box::new(link)))
            }
            Order::Throttle { is_configured, rate } => {
                self.throttle_link(link, (!is_configured).then_some(*rate), by).map(Done::Throttled)
            }
            Order::Reset { request } => self.reset_link(link, request, by).map(Done::Reset),
            Order::Relane { lanes } => super::lanes::relane(&*self.find_link(link)?, *lanes, by).map(Done::Relaned),
            Order::FailOver { drain_ms } => {
                self.fail_link_over(link, drain_ms.map(Duration::from_millis), by).map(Done::ChangesPlaces)
            }
            Order::FailBack => self.fail_link_back(link, by).map(Done::ChangesPlaces),
            Order::CallOffFailback => self.call_off_link_failback(link).map(Done::ChangesPlaces),
            Order::Delete { expected } => self.delete_link(link, *expected, by).map(|()| Done::Deleted),
        }
    }
}
