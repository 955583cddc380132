//! Asks the daemon.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::super::client::{Client, RequestError};
use super::super::failure::Failure;
use super::super::links;
use crate::api::wire::{Event, Link, LinkHealth, LinkTransition, Status};

/// What the daemon has answered, all in one round.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The daemon itself.
    pub(super) status: Status,
    /// Its links, by id.
    pub(super) links: Vec<Link>,
    /// More about the link that is watched.
    pub(super) watched: Option<Watched>,
}

/// What is asked of one link only.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) link: String,
    pub(super) health: LinkHealth,
    /// The last events, the newest first.
    pub(super) events: Vec<Event>,
}

/// What the view wants of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// From now on, more about this link.
    Watch(String),
    /// A look at once.
    Again,
    /// Steer a link.
    Steer(String, LinkTransition),
}

/// What has come of it.
pub(super) enum Heard {
    /// An answer.
    Look(Box<Look>),
    /// The daemon has not answered, and why.
    Lost(String),
    /// What has become of a wish to steer, in words.
    Steered(String),
}

/// The thread that asks.
pub(super) struct Feed {
    asks: Sender<Ask>,
    pub(super) heard: Receiver<Heard>,
}

impl Look {
    /// Ask for everything.
    pub(super) fn take(client: &Client, watched: Option<&str>) -> Result<Self, RequestError> {
        let status = client.get(&["status"], &[])?;
        let links = links::all(client)?;
        let watched = watched.map(|link| Watched::take(client, link)).transpose()?;
        Ok(Self { status, links, watched })
    }
}

impl Watched {
    fn take(client: &Client, link: &str) -> Result<Self, RequestError> {
        let health = client.get(&["replication", "links", link, "health"], &[])?;
        let mut events: Vec<Event> = client.get(&["replication", "links", link, "events"], &[])?;
        events.sort_by_key(|event| std::cmp::Reverse(event.time));
        Ok(Self { link: link.to_owned(), health, events })
    }
}

impl Feed {
    /// Ask every `interval`, until this is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(client: Client, interval: Duration, watched: Option<String>) -> Result<Self, Failure> {
        let (asks, asked) = channel();
        let (tell, heard) = channel();
        let work = move || run(&client, interval, watched, &asked, &tell);
        let spawned = thread::Builder::new().name("look".to_owned()).spawn(work);
        spawned.map_err(|error| Failure::new(format!("no thread: {error}"), "raise the limit of processes"))?;
        Ok(Self { asks, heard })
    }

    /// The thread hears of it when it has an answer to what it has asked before.
    pub(super) fn ask(&self, ask: Ask) {
        // If the thread has ended, whoever listens to it finds out.
        let _ended = self.asks.send(ask);
    }
}

/// Nobody listens any more.
struct Over;

fn run(client: &Client, interval: Duration, mut watched: Option<String>, asked: &Receiver<Ask>, tell: &Sender<Heard>) {
    while tell.send(look(client, watched.as_deref())).is_ok() {
        if wait(client, Instant::now() + interval, &mut watched, asked, tell).is_err() {
            return;
        }
    }
}

/// A look; without more about the link that is watched if the daemon does not tell: it may be gone.
fn look(client: &Client, watched: Option<&str>) -> Heard {
    let taken = match Look::take(client, watched) {
        Err(RequestError::Refused(_)) if watched.is_some() => Look::take(client, None),
        taken => taken,
    };
    match taken {
        Ok(look) => Heard::Look(Box::new(look)),
        Err(error) => Heard::Lost(in_words(error)),
    }
}

/// Wait for the next look, and do what is asked meanwhile.
fn wait(
    client: &Client,
    until: Instant,
    watched: &mut Option<String>,
    asked: &Receiver<Ask>,
    tell: &Sender<Heard>,
) -> Result<(), Over> {
    let mut until = until;
    loop {
        match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ask::Watch(link)) => *watched = Some(link),
            Ok(Ask::Again) => {}
            Ok(Ask::Steer(link, transition)) => {
                tell.send(Heard::Steered(steer(client, &link, transition))).map_err(|_| Over)?;
            }
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(Over),
        }
        // Whatever else was asked is done first: one look for all of it.
        until = Instant::now();
    }
}

fn steer(client: &Client, link: &str, transition: LinkTransition) -> String {
    let path = ["replication", "links", link, transition.word()];
    let done: Result<Link, _> = client.post(&path, &[], "application/json", b"");
    match done {
        Ok(link) => format!("{} is {}", link.id, link.status),
        Err(error) => in_words(error),
    }
}

fn in_words(error: RequestError) -> String {
    match Failure::from(error) {
        Failure::Told { message, .. } => message,
        _ => "no answer".to_owned(),
    }
}
