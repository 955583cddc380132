//! What happened to a link lately, for people. What must last is in the history and in the dead letters.
//!
//! Whoever follows events asks for what came after the last that they have; nothing is kept for them, so whoever is slow or gone costs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::failure::Place;
use super::lane::now_ms;
use super::status::lock;

/// How many events are kept.
const EVENTS_MAX: usize = 256;

/// The name of an event: which list it is in, and its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventId {
    /// When the list was begun, in nanoseconds since 1970-01-01 UTC: every start of a daemon begins another one, and so does a link that is defined anew.
    list: u64,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.list, self.number)
    }
}

impl FromStr for EventId {
    type Err = NotAnEvent;

    fn from_str(text: &str) -> Result<Self, NotAnEvent> {
        let (list, number) = text.split_once('-').ok_or(NotAnEvent)?;
        let list = u64::from_str_radix(list, 16).map_err(|_| NotAnEvent)?;
        Ok(Self { list, number: number.parse().map_err(|_| NotAnEvent)? })
    }
}

/// A text that is not the name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEvent;

/// Something that happened, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name: another one when it happens again.
    pub id: EventId,
    /// When it happened last, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// A stable word.
    pub kind: &'static str,
    /// What exactly, where there is more than one of a kind: the code of a bad record.
    pub code: Option<String>,
    /// How often it has happened, with nothing of another kind between.
    pub count: u64,
    /// What happened, the last time.
    pub message: String,
    /// The stage that it happened in.
    pub stage: Option<String>,
    /// The record that it happened at, the last time.
    pub place: Option<Place>,
}

impl Event {
    /// Something that happened now.
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            id: EventId::default(),
            at_ms: now_ms(),
            kind,
            code: None,
            count: 1,
            message: message.into(),
            stage: None,
            place: None,
        }
    }
}

/// The latest events of a link, oldest first.
#[derive(Debug)]
pub struct Events {
    list: u64,
    events: Mutex<VecDeque<Event>>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { list: since_epoch.as_nanos() as u64, events: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Events {
    /// Remember an event. Bad records of the same stage and code are counted together as long as nothing else happens, so that a flood
    /// of them does not push out all others.
    pub(super) fn push(&self, event: Event) {
        let mut events = lock(&self.events);
        // Repetition is what bad records do; anything else is news each time, and what comes after it is counted anew.
        let repeats = |known: &&Event| known.place.is_some() && event.place.is_some();
        let same = |known: &Event| known.kind == event.kind && known.stage == event.stage && known.code == event.code;
        let run = events.iter().rev().take_while(repeats).count();
        let first = events.len() - run;
        let known = (first..events.len()).find(|at| same(&events[*at])).and_then(|at| events.remove(at));
        let count = known.map_or(0, |known| known.count) + event.count;
        let number = *self.last.borrow() + 1;
        events.push_back(Event { count, id: EventId { list: self.list, number }, ..event });
        if events.len() > EVENTS_MAX {
            events.pop_front();
        }
        // Still with the lock: numbers are in the order of events.
        self.last.send_replace(number);
    }

    /// Those that came after one; all, if it is none of this list.
    pub fn after(&self, last: EventId) -> Vec<Event> {
        let is_news = |event: &&Event| event.id.list != last.list || event.id.number > last.number;
        lock(&self.events).iter().filter(is_news).cloned().collect()
    }

    /// Changes with each event. It ends with the link.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> Vec<Event> {
        lock(&self.events).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad_record(offset: i64) -> Event {
        let place = Place { topic: "orders".to_owned(), partition: 0, offset };
        Event { place: Some(place), ..Event::new("record-put-aside", "bad") }
    }

    #[test]
    fn bad_records_are_counted_and_do_not_push_out_what_matters() {
        let events = Events::default();
        events.push(Event::new("published", "revision 2"));
        (0..1000).for_each(|offset| events.push(bad_record(offset)));
        events.push(Event::new("published", "revision 3"));
        let all = events.all();
        assert_eq!(
            all.iter().map(|event| (event.kind, event.count)).collect::<Vec<_>>(),
            [("published", 1), ("record-put-aside", 1000), ("published", 1)]
        );
        assert_eq!(all[1].place.as_ref().map(|place| place.offset), Some(999));
    }

    #[test]
    fn whoever_follows_gets_each_event_once_and_a_repetition_again() {
        let events = Events::default();
        events.push(bad_record(1));
        events.push(Event::new("published", "revision 2"));
        let seen = events.all();
        let last = seen[1].id;
        assert_eq!(events.after(seen[0].id), seen[1..]);
        assert_eq!(events.after(last), []);
        let mut news = events.news();
        assert!(!news.has_changed().expect("the list is there"));
        (2..5).for_each(|offset| events.push(bad_record(offset)));
        assert!(news.has_changed().expect("the list is there"));
        let after = events.after(last);
        assert_eq!(after.iter().map(|event| event.count).collect::<Vec<_>>(), [3], "three times, and one event");
        news.mark_unchanged();
        events.push(bad_record(5));
        assert_eq!(events.after(after[0].id)[0].count, 4, "it has happened again");
    }

    #[test]
    fn the_name_of_an_event_of_another_list_is_before_all() {
        let (before, events) = (Events::default(), Events::default());
        (0..5).for_each(|_| before.push(Event::new("published", "")));
        events.push(Event::new("published", ""));
        let elsewhere = EventId { list: events.list - 1, number: 5 };
        assert_eq!(events.after(elsewhere).len(), 1);
        let name = before.all()[4].id;
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["", "-", "5", "x-1", "1-x", "1-2-3", "-1-1"] {
            assert_eq!(text.parse::<EventId>(), Err(NotAnEvent), "{text}");
        }
    }

    #[test]
    fn the_oldest_events_go_first() {
        let events = Events::default();
        (0..300).for_each(|number| events.push(Event::new("published", number.to_string())));
        assert_eq!(events.all().len(), EVENTS_MAX);
        assert_eq!(events.all()[0].message, "44");
    }
}
