//! `top`: a live view of a daemon's links at a terminal.
//!
//! Reading order: `look` asks the daemon, on a thread of its own. `view` is what a person sees and does, without any terminal. `draw` makes lines of it, with
//! `pages` for what is told of one link and `columns` for tables. `screen` has the terminal.
//!
//! Invariants
//! - Whatever ends it, a key, a signal or a panic, the terminal is as it was before.
//! - A daemon that does not answer keeps back neither keys nor drawing.
//! - What strangers have named or written reaches the terminal as text, and steers nothing.

mod columns;
mod draw;
mod look;
mod pages;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use super::args::top::TopArgs;
use super::client::Client;
use super::failure::Failure;
use look::{Ask, Feed, Look};
use screen::Screen;
use view::{View, Wish};

/// How long nothing happens at most: then the picture is drawn anew, since times in it go on.
const TICK: Duration = Duration::from_millis(250);

/// The width of a picture that goes to no terminal.
const ONCE_COLUMNS: u16 = 120;

pub(super) fn top(args: &TopArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.daemon)?;
    if args.once {
        return once(&client, args, out);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::new("this is no terminal", "`tidegate top --once` prints one picture as text"));
    }
    live(client, args)
}

fn once(client: &Client, args: &TopArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let look = Look::take(client, args.link.as_deref())?;
    let mut view = View::new(args);
    view.hear_look(look, Instant::now());
    let columns = if io::stdout().is_terminal() { screen::columns() } else { None };
    view.size.0 = columns.unwrap_or(ONCE_COLUMNS);
    let lines = draw::everything(&view, Instant::now());
    Ok(lines.iter().try_for_each(|line| writeln!(out, "{}", line.to_string().trim_end()))?)
}

fn live(client: Client, args: &TopArgs) -> Result<(), Failure> {
    let mut view = View::new(args);
    let feed = Feed::start(client, args.interval, args.link.clone())?;
    let ended = screen::watch_signals();
    let mut screen = Screen::open()?;
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        loop {
            match feed.heard.try_recv() {
                Ok(heard) => view.hear(heard, Instant::now()).into_iter().for_each(|id| feed.ask(Ask::Watch(id))),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(Failure::new("what asks the daemon has ended", "report it with what was printed"));
                }
            }
        }
        view.size = screen.size()?;
        screen.draw(&draw::picture(&view, Instant::now()))?;
        let Some(key) = screen.key(TICK)? else { continue };
        match view.press(key) {
            Some(Wish::End) => break,
            Some(Wish::Ask(ask)) => feed.ask(ask),
            None => {}
        }
    }
    Ok(())
}
