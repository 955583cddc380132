//! What happened to a link lately, for people. What must last is in the history and in the dead letters.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::failure::Place;
use super::lane::now_ms;
use super::status::lock;

/// How many events are kept.
const EVENTS_MAX: usize = 256;

/// Something that happened, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
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
        Self { at_ms: now_ms(), kind, code: None, count: 1, message: message.into(), stage: None, place: None }
    }
}

/// The latest events of a link, oldest first.
#[derive(Debug, Default)]
pub struct Events {
    events: Mutex<VecDeque<Event>>,
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
        events.push_back(Event { count, ..event });
        if events.len() > EVENTS_MAX {
            events.pop_front();
        }
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
    fn the_oldest_events_go_first() {
        let events = Events::default();
        (0..300).for_each(|number| events.push(Event::new("published", number.to_string())));
        assert_eq!(events.all().len(), EVENTS_MAX);
        assert_eq!(events.all()[0].message, "44");
    }
}
