//! Who may write to a topic that stands by, and what a replacement does.

use std::sync::Barrier;

use super::*;
use crate::model::{Standby, StandbyTopics};

const KEY: &str = "genesis";

fn replacement(link: &str, known: Option<&str>, value: Option<&str>, standby: Option<Standby>) -> Command {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let (known, value) = (known.map(bytes), value.map(bytes));
    Command::ReplaceMetadata(Replacement { link: link.into(), key: KEY.to_owned(), known, value, standby })
}

fn stand_by(store: &Store, link: &str, standby: Standby, topics: &[&str]) {
    let known = store.metadata(link, KEY).expect("readable");
    let known = known.map(|bytes| String::from_utf8(bytes).expect("text"));
    let said = store.execute(replacement(link, known.as_deref(), None, Some(standby)));
    assert_eq!(said.expect("stored"), Outcome::Replaced(true));
    guard(store, link, topics, false);
}

fn guard(store: &Store, link: &str, topics: &[&str], only: bool) {
    let topics: StandbyTopics = topics.iter().map(|topic| ((*topic).into(), (*topic).into())).collect();
    store.execute(Command::GuardTopics { link: link.into(), topics, only }).expect("stored");
}

/// The code that an append is refused with, and who guards.
fn refusal(result: Result<Outcome, Error>) -> Option<String> {
    match result {
        Ok(Outcome::Appended(_)) => None,
        Err(Error::StandingBy { topic, link }) => Some(format!("{topic} of {link}")),
        other => unreachable!("{other:?}"),
    }
}

fn by_client(store: &Store, topic: TopicId) -> Option<String> {
    refusal(store.execute(Command::Append(vec![append(store, topic, 0, 0..1)])))
}

fn by_link(store: &Store, link: &str, topic: TopicId) -> Option<String> {
    let link: LinkId = link.into();
    let Outcome::Opened(epoch) = store.execute(Command::OpenLane { link: link.clone(), lane: 0 }).expect("opened")
    else {
        unreachable!("it opens")
    };
    refusal(store.execute(Command::CommitLane(CommitLane {
        link,
        lane: 0,
        epoch,
        appends: vec![append(store, topic, 0, 0..1)],
        checkpoints: BTreeMap::new(),
        states: Vec::new(),
        verbatim: false,
        revision_starts: BTreeMap::new(),
    })))
}

#[test]
fn only_its_links_write_to_a_topic_that_stands_by() {
    let home = Home::new();
    let guarded = Some("orders of a".to_owned());
    for (standby, refused) in [(None, None), (Some(Standby::Guarded), guarded), (Some(Standby::Promoted), None)] {
        let mut store = home.open();
        let (orders, other) = (topic(&store, "orders", 1), topic(&store, "orders.other", 1));
        if let Some(standby) = standby {
            stand_by(&store, "a", standby, &["orders"]);
        }
        for restarted in [false, true] {
            if restarted {
                drop(store);
                store = home.open();
            }
            let what = format!("{standby:?}, restarted {restarted}");
            assert_eq!(by_client(&store, orders), refused, "{what}");
            assert_eq!(by_link(&store, "b", orders), refused, "{what}");
            assert_eq!(by_link(&store, "a", orders), None, "{what}");
            assert_eq!((by_client(&store, other), by_link(&store, "b", other)), (None, None), "{what}");
        }
        store.execute(Command::Release { link: "a".into() }).expect("released");
        assert_eq!((by_client(&store, orders), by_link(&store, "b", orders)), (None, None), "{standby:?}, released");
        assert_eq!(
            (store.standbys().expect("readable").len(), store.standby_topics("a").expect("readable").len()),
            (0, 0)
        );
    }
}

#[test]
fn a_topic_of_two_links_stands_by_as_long_as_one_of_them_does() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    stand_by(&store, "a", Standby::Guarded, &["orders"]);
    stand_by(&store, "b", Standby::Guarded, &["orders"]);
    assert_eq!((by_link(&store, "a", orders), by_link(&store, "b", orders)), (None, None));
    stand_by(&store, "a", Standby::Promoted, &[]);
    assert_eq!(by_client(&store, orders).as_deref(), Some("orders of b"));
    stand_by(&store, "b", Standby::Promoted, &[]);
    assert_eq!(by_client(&store, orders), None);
    stand_by(&store, "b", Standby::Guarded, &[]);
    assert_eq!(by_client(&store, orders).as_deref(), Some("orders of b"), "what it guards is known still");
}

#[test]
fn topics_that_a_link_copies_to_no_more_are_released() {
    let home = Home::new();
    let store = home.open();
    stand_by(&store, "a", Standby::Guarded, &["one", "two"]);
    guard(&store, "a", &["two", "three"], true);
    assert_eq!(by_client(&store, topic(&store, "one", 1)), None);
    for guarded in ["two", "three"] {
        assert_eq!(by_client(&store, topic(&store, guarded, 1)), Some(format!("{guarded} of a")));
    }
    store.execute(Command::Release { link: "a".into() }).expect("released");
    guard(&store, "a", &["late"], false);
    assert!(store.standby_topics("a").expect("readable").is_empty(), "it had been released");
}

/// Whoever is told that a topic stands by has seen its last record.
#[test]
fn nothing_is_taken_after_a_guard_was_set() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    stand_by(&store, "a", Standby::Promoted, &["orders"]);
    for round in 0..20 {
        let before = Barrier::new(5);
        let end = std::thread::scope(|scope| {
            let write = || {
                before.wait();
                while by_client(&store, orders).is_none() {}
            };
            (0..4).for_each(|_| drop(scope.spawn(write)));
            before.wait();
            stand_by(&store, "a", Standby::Guarded, &[]);
            store.range(orders, 0).expect("there").end
        });
        assert_eq!(store.range(orders, 0).expect("there").end, end, "round {round}");
        stand_by(&store, "a", Standby::Promoted, &[]);
    }
}

#[test]
fn of_those_who_replace_at_once_one_is_first() {
    let home = Home::new();
    let store = home.open();
    for round in 0..20 {
        let before = Barrier::new(8);
        let known = round.to_string();
        let known = (round > 0).then_some(&*known);
        let first = std::thread::scope(|scope| {
            let replace = |_| {
                scope.spawn(|| {
                    before.wait();
                    let next = (round + 1).to_string();
                    store.execute(replacement("a", known, Some(&next), None)).expect("stored")
                })
            };
            let threads: Vec<_> = (0..8).map(replace).collect();
            let done = threads.into_iter().map(|thread| thread.join().expect("joined"));
            done.filter(|done| *done == Outcome::Replaced(true)).count()
        });
        assert_eq!(first, 1, "round {round}");
    }
}

#[test]
fn a_replacement_that_comes_second_changes_nothing() {
    let home = Home::new();
    let store = home.open();
    let orders = topic(&store, "orders", 1);
    stand_by(&store, "a", Standby::Promoted, &["orders"]);
    let replace = |known, value| store.execute(replacement("a", known, value, Some(Standby::Guarded))).expect("stored");
    assert_eq!(replace(Some("older"), Some("newer")), Outcome::Replaced(false));
    assert_eq!((store.metadata("a", KEY).expect("readable"), by_client(&store, orders)), (None, None));
    assert_eq!(replace(None, Some("newer")), Outcome::Replaced(true));
    assert_eq!(store.metadata("a", KEY).expect("readable").as_deref(), Some(&b"newer"[..]));
    assert_eq!(by_client(&store, orders).as_deref(), Some("orders of a"));
}

/// What is stored, number by number: files in the world have these.
#[test]
fn what_stands_by_is_stored_as_it_was() {
    assert_eq!([Standby::Guarded, Standby::Promoted].map(Standby::number), [1, 2]);
}

#[test]
fn a_file_from_before_there_were_guards_opens() {
    let home = Home::new();
    let orders = topic(&home.open(), "orders", 1);
    let database = redb::Database::open(home.path()).expect("opens");
    let transaction = database.begin_write().expect("begins");
    for name in ["standbys", "standby_topics"] {
        let tables = transaction.list_tables().expect("tables");
        let table = tables.into_iter().find(|table| redb::TableHandle::name(table) == name).expect("it is there");
        assert!(transaction.delete_table(table).expect("deleted"));
    }
    transaction.commit().expect("committed");
    drop(database);
    let store = home.open();
    assert_eq!((store.standbys().expect("readable").len(), store.standby_topics("a").expect("readable").len()), (0, 0));
    assert_eq!(by_client(&store, orders), None);
    stand_by(&store, "a", Standby::Guarded, &["orders"]);
    assert_eq!(by_client(&store, orders).as_deref(), Some("orders of a"));
}
