//! What is seen of made-up answers, and what keys do.

use std::time::{Duration, Instant};

use clap::Parser as _;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::args::address::Address;
use super::super::args::{Cli, Command};
use super::super::client::Client;
use super::super::tests::{Scene, told};
use super::look::{Ask, Feed, Heard, Look};
use super::view::{Key, Page, Question, View, Wish};
use super::{draw, screen};
use crate::api::wire::{Event, LaneState, Link, LinkStatus, LinkTransition, Time, Trouble};

fn view(words: &[&str]) -> View {
    let Command::Top(args) = Cli::try_parse_from([&["tidegate", "top"], words].concat()).expect("usage").command else {
        unreachable!("{words:?}")
    };
    View::new(&args)
}

fn address(url: &str) -> Address {
    Address {
        url: url.to_owned(),
        token_file: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
        insecure_plaintext: false,
    }
}

/// What the daemon in memory answers.
fn look() -> Look {
    let scene = Scene::new();
    let client = Client::new(&address(&scene.url)).expect("a client");
    Look::take(&client, Some("orders")).map_err(|_| ()).expect("a look")
}

/// The same with links of these names.
fn look_with(names: &[&str]) -> Look {
    let mut look = look();
    let link = look.links.remove(0);
    look.links = names.iter().map(|name| Link { id: (*name).to_owned(), ..link.clone() }).collect();
    look
}

fn trouble(message: &str) -> Trouble {
    Trouble {
        code: "connection-lost".into(),
        message: message.into(),
        remedy: "look at the network".into(),
        stage: None,
        place: None,
        lost: None,
    }
}

/// What a terminal of this size shows.
fn shown(view: &mut View, columns: u16, rows: u16, now: Instant) -> String {
    view.size = (columns, rows);
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    let lines = draw::picture(view, now);
    terminal.draw(|frame| screen::put(&lines, frame.area(), frame.buffer_mut())).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn links_are_listed_on_80_columns_and_24_rows() {
    let (mut view, now) = (view(&["--url", "http://h:1"]), Instant::now());
    let mut look = look_with(&["audit", "orders"]);
    look.links[0].status = LinkStatus::Failed;
    look.links[0].metrics.messages_per_second = 1234.5;
    look.links[0].metrics.bytes_per_second = 5e6;
    look.links[0].metrics.replication_lag = Some(61_000);
    assert_eq!(view.hear(Heard::Look(Box::new(look)), now), Some("audit".into()));
    let picture = shown(&mut view, 80, 24, now);
    assert_eq!(picture, include_str!("tests/list.txt").trim_end(), "\n{picture}");
}

#[test]
fn every_size_shows_what_fits_and_none_breaks() {
    let long = "a-very-long-name.of-a-link.that-nobody-can-read-in-a-narrow-column.and-that-goes-on";
    for names in [vec![], vec!["orders"], vec![long, "b", "日本語のリンク"], vec!["x"; 100]] {
        let now = Instant::now();
        let mut look = look_with(&names);
        for link in &mut look.links {
            link.error = Some(trouble(&"no way ".repeat(100)));
            link.lanes[0].error = Some(trouble("x"));
            link.lanes[0].daemon = Some(long.to_owned());
            link.stages[0].plugin = long.repeat(5);
            link.lanes[0].partitions[0].lag = None;
            link.lanes[0].partitions[0].source_offset = None;
        }
        for page in [None].into_iter().chain(Page::ALL.map(Some)) {
            for (columns, rows) in [(80, 24), (200, 60), (40, 12), (20, 7), (5, 3), (1, 1), (300, 2)] {
                let mut view = view(&["--ascii"]);
                view.hear_look(look.clone(), now);
                view.page = page;
                let picture = shown(&mut view, columns, rows, now);
                assert_eq!(picture.lines().count().max(1), picture.lines().count().min(rows.into()).max(1));
                assert!(picture.is_ascii(), "{page:?} {columns}x{rows}\n{picture}");
                view.press(Key::Last);
                view.press(Key::Up);
                shown(&mut view, columns, rows, now);
            }
        }
    }
}

#[test]
fn the_chosen_link_is_always_seen() {
    let names: Vec<String> = (0..100).map(|number| format!("link-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut view, now) = (view(&[]), Instant::now());
    view.hear_look(look_with(&names), now);
    for _ in 0..99 {
        view.press(Key::Down);
        let chosen = view.chosen.clone().expect("a link");
        for rows in [24, 12, 8] {
            let picture = shown(&mut view, 80, rows, now);
            assert!(picture.contains(&chosen) && picture.contains("LINK "), "{chosen}\n{picture}");
        }
    }
}

#[test]
fn what_strangers_have_written_steers_no_terminal() {
    let (mut view, now) = (view(&[]), Instant::now());
    let mut look = look();
    let evil = "\u{1b}[2J\u{7}\r\nrm";
    look.links[0].id = evil.into();
    look.links[0].error = Some(trouble(evil));
    look.links[0].stages[0].plugin = evil.into();
    let watched = look.watched.as_mut().expect("a watched link");
    watched.link = evil.into();
    watched.health.issues.push(evil.into());
    let event = Event {
        id: evil.into(),
        time: Time(0),
        kind: evil.into(),
        code: None,
        count: 1,
        message: evil.into(),
        stage: None,
        place: None,
    };
    watched.events.push(event);
    view.hear_look(look, now);
    for page in [None].into_iter().chain(Page::ALL.map(Some)) {
        view.page = page;
        for line in draw::picture(&view, now).iter().chain(&draw::everything(&view, now)) {
            assert!(!line.to_string().contains(char::is_control), "{line}");
        }
    }
}

#[test]
fn pages_tell_what_is_known_and_a_line_for_what_is_not() {
    let (mut view, now) = (view(&["orders"]), Instant::now());
    let mut first = look();
    first.links[0].lanes[0].state = LaneState::Retrying;
    first.links[0].lanes[0].error = Some(trouble("broker 1 hung up"));
    let mut second = first.clone();
    second.links[0].stages[0].records_in += 500;
    view.hear_look(first, now);
    view.hear_look(second, now + Duration::from_secs(2));
    let now = now + Duration::from_secs(2);
    for (page, texts) in [
        (
            Page::Overview,
            &["orders: east -> west", "latency p50 61 ms", "lane 0: broker 1 hung up (connection-lost)", "retrying"][..],
        ),
        (Page::Partitions, &["TOPIC", "orders", "  7 ", "  10 "]),
        (Page::Plugins, &["mask", " 250 ", "mask could not handle: not-json 2, plugin-panic 1"]),
        (Page::Events, &["nothing has happened since the daemon started"]),
    ] {
        view.page = Some(page);
        let picture = shown(&mut view, 100, 30, now);
        for text in texts {
            assert!(picture.contains(text), "{page:?}: {text}\n{picture}");
        }
    }
    // The daemon was started again: what it counts is less, and no rate is known.
    let mut third = look();
    third.links[0].stages[0].records_in = 1;
    view.hear_look(third, now + Duration::from_secs(2));
    assert_eq!(view.rate("orders", "mask", |stage| stage.records_in), None);
}

#[test]
fn a_daemon_that_goes_away_is_told_and_so_is_its_return() {
    let (mut view, now) = (view(&["--interval", "1s"]), Instant::now());
    assert!(shown(&mut view, 80, 24, now).contains("waiting for the first answer"));
    view.hear(Heard::Lost("connection refused".into()), now);
    let later = now + Duration::from_secs(5);
    assert!(shown(&mut view, 80, 24, later).contains("no answer for 5.0 s: connection refused"));
    view.hear(Heard::Look(Box::new(look())), later);
    assert!(!shown(&mut view, 80, 24, later).contains("no answer"));
    // One that hangs says nothing: the answers are missing. What was known stays to be seen.
    let picture = shown(&mut view, 80, 24, later + Duration::from_secs(60));
    assert!(picture.contains("no answer for 60.0 s") && picture.contains("orders"), "{picture}");
    view.hear(Heard::Lost("refused".into()), later);
    view.hear(Heard::Lost("refused again".into()), later + Duration::from_secs(9));
    assert!(shown(&mut view, 80, 24, later + Duration::from_secs(9)).contains("no answer for 9.0 s: refused again"));
}

#[test]
fn keys_choose_open_turn_and_end() {
    let mut view = view(&[]);
    assert_eq!((view.press(Key::Open), view.press(Key::Down), view.press(Key::Pause)), (None, None, None));
    view.hear_look(look_with(&["a", "b", "c"]), Instant::now());
    assert_eq!(view.press(Key::Down), Some(Wish::Ask(Ask::Watch("b".into()))));
    assert_eq!(view.press(Key::Last), Some(Wish::Ask(Ask::Watch("c".into()))));
    assert_eq!(view.press(Key::Down), None);
    assert_eq!(view.press(Key::First), Some(Wish::Ask(Ask::Watch("a".into()))));
    view.press(Key::Open);
    assert_eq!((view.page, view.press(Key::Down), &*view.chosen.clone().unwrap()), (Some(Page::Overview), None, "a"));
    for page in [Page::Partitions, Page::Plugins, Page::Events, Page::Overview] {
        view.press(Key::NextPage);
        assert_eq!(view.page, Some(page));
    }
    view.press(Key::PageBefore);
    assert_eq!(view.page, Some(Page::Events));
    view.press(Key::Back);
    assert_eq!((view.page, view.press(Key::Quit)), (None, Some(Wish::End)));
    assert_eq!(view.press(Key::Again), Some(Wish::Ask(Ask::Again)));
}

#[test]
fn a_link_is_paused_and_resumed_after_a_question_and_not_without() {
    let now = Instant::now();
    let mut view = view(&[]);
    let steer = |transition| Some(Wish::Ask(Ask::Steer("orders".into(), transition)));
    for (status, transition) in [
        (LinkStatus::Active, LinkTransition::Pause),
        (LinkStatus::Degraded, LinkTransition::Pause),
        (LinkStatus::Paused, LinkTransition::Resume),
    ] {
        let mut look = look();
        look.links[0].status = status;
        view.hear_look(look, now);
        assert_eq!(view.press(Key::Pause), None);
        assert_eq!(view.question, Some(Question { link: "orders".into(), transition }));
        assert!(shown(&mut view, 80, 24, now).contains(&format!("{transition} orders? y: yes")));
        for no in [Key::Other, Key::Quit, Key::Open, Key::Pause] {
            assert_eq!((view.press(no), &view.question), (None, &None), "{no:?}");
            view.press(Key::Pause);
        }
        assert_eq!(view.press(Key::Yes), steer(transition));
    }
    let mut look = look();
    look.links[0].status = LinkStatus::Stopped;
    view.hear_look(look, now);
    view.press(Key::Pause);
    assert_eq!(view.question, None);
    assert!(shown(&mut view, 80, 24, now).contains("orders is stopped: `tidegate link start orders` starts it"));
}

#[test]
fn the_chosen_link_stays_chosen_when_others_come_and_go() {
    let (mut view, now) = (view(&[]), Instant::now());
    view.hear_look(look_with(&["a", "b", "c"]), now);
    view.press(Key::Down);
    assert_eq!(view.hear_look(look_with(&["0", "a", "b"]), now), None);
    assert_eq!((view.row, view.chosen.as_deref()), (2, Some("b")));
    view.press(Key::Open);
    assert_eq!(view.hear_look(look_with(&["0", "a"]), now), Some("a".into()));
    assert_eq!((view.page, view.note(now)), (None, Some("there is no link b")));
    assert_eq!(view.hear_look(look_with(&[]), now), None);
    assert_eq!(view.press(Key::Down), None);
}

#[test]
fn keys_mean_what_the_last_line_says() {
    let key = |code, modifiers| screen::meaning(KeyEvent::new(code, modifiers));
    for (code, meant) in [
        (KeyCode::Up, Key::Up),
        (KeyCode::Char('j'), Key::Down),
        (KeyCode::Enter, Key::Open),
        (KeyCode::Esc, Key::Back),
        (KeyCode::Tab, Key::NextPage),
        (KeyCode::Char('p'), Key::Pause),
        (KeyCode::Char('r'), Key::Again),
        (KeyCode::Char('q'), Key::Quit),
        (KeyCode::Char('n'), Key::Other),
    ] {
        assert_eq!(key(code, KeyModifiers::NONE), Some(meant), "{code:?}");
    }
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
    assert_eq!(key(KeyCode::Char('y'), KeyModifiers::CONTROL), None);
}

#[test]
fn the_feed_looks_watches_and_steers() {
    let scene = Scene::new();
    let feed = Feed::start(Client::new(&address(&scene.url)).expect("a client"), Duration::from_secs(3600), None)
        .expect("a thread");
    let hear = || feed.heard.recv_timeout(Duration::from_secs(60)).expect("something");
    assert!(matches!(hear(), Heard::Look(look) if look.watched.is_none()));
    feed.ask(Ask::Watch("orders".into()));
    assert!(matches!(hear(), Heard::Look(look) if look.watched.is_some()));
    feed.ask(Ask::Steer("orders".into(), LinkTransition::Start));
    assert!(matches!(hear(), Heard::Steered(what) if what == "orders is active"));
    assert!(matches!(hear(), Heard::Look(look) if look.links[0].status == LinkStatus::Active));
    feed.ask(Ask::Steer("nope".into(), LinkTransition::Start));
    assert!(matches!(hear(), Heard::Steered(what) if what == "there is no link nope"));
    // A link that is gone is no reason to see nothing.
    feed.ask(Ask::Watch("nope".into()));
    let is_gone = |heard: Heard| matches!(heard, Heard::Look(look) if look.watched.is_none());
    while !is_gone(hear()) {}
}

#[test]
fn a_single_picture_is_text() {
    let scene = Scene::new();
    let listed = scene.run(&["top", "--once"]).expect("a picture");
    assert!(listed.contains("orders  stopped  healthy  east  west"), "{listed}");
    let opened = scene.run(&["top", "orders", "--once", "--ascii"]).expect("a picture");
    for text in ["overview:", "partitions:", "plugins:", "events:", "mask"] {
        assert!(opened.contains(text), "{text}\n{opened}");
    }
    assert!(opened.is_ascii() && !opened.contains('\u{1b}'), "{opened}");
    assert_eq!(told(scene.run(&["top", "nope", "--once"])).0, "there is no link nope");
}
