//! What a person sees and does: no terminal, no clock, no daemon.

use std::time::{Duration, Instant};

use super::super::args::top::TopArgs;
use super::look::{Ask, Heard, Look};
use super::{draw, pages};
use crate::api::wire::{Event, Link, LinkStatus, LinkTransition, Stage};

/// Two looks that are nearer than this say nothing of rates.
const RATES_FROM: Duration = Duration::from_millis(100);

/// How long a line about what was done stays.
const NOTE_TIME: Duration = Duration::from_secs(10);

/// Rows that a page key goes on.
const PAGE_ROWS: usize = 10;

/// A key, as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    Back,
    NextPage,
    PageBefore,
    Pause,
    Again,
    Yes,
    Quit,
    /// One that means nothing; where there is a question, no.
    Other,
}

/// What comes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Ask(Ask),
    End,
}

/// What is told of a link that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Partitions,
    Plugins,
    Events,
}

impl Page {
    pub(super) const ALL: [Self; 4] = [Self::Overview, Self::Partitions, Self::Plugins, Self::Events];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Partitions => "partitions",
            Self::Plugins => "plugins",
            Self::Events => "events",
        }
    }

    fn beside(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|page| *page == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// A question that is to be answered first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) link: String,
    pub(super) transition: LinkTransition,
}

/// A look, and when it was heard of.
pub(super) struct Answer {
    pub(super) look: Look,
    pub(super) at: Instant,
}

/// What is seen.
pub(super) struct View {
    pub(super) url: String,
    pub(super) ascii: bool,
    pub(super) interval: Duration,
    pub(super) now: Option<Answer>,
    before: Option<Answer>,
    /// Since when the daemon does not answer, and why.
    pub(super) lost: Option<(Instant, String)>,
    /// The row of the chosen link in the list, and its id.
    pub(super) row: usize,
    pub(super) chosen: Option<String>,
    /// What is told of the chosen link, if it is open.
    pub(super) page: Option<Page>,
    /// The first line of the page that is shown.
    pub(super) scroll: usize,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    pub(super) question: Option<Question>,
    note: Option<(Instant, String)>,
}

impl View {
    pub(super) fn new(args: &TopArgs) -> Self {
        Self {
            url: args.daemon.url.clone(),
            ascii: args.ascii,
            interval: args.interval,
            now: None,
            before: None,
            lost: None,
            row: 0,
            chosen: args.link.clone(),
            page: args.link.as_ref().map(|_| Page::Overview),
            scroll: 0,
            size: (80, 24),
            question: None,
            note: None,
        }
    }

    /// Take in what was heard. The answer is the link that is to be watched from now on, where that is another one.
    pub(super) fn hear(&mut self, heard: Heard, at: Instant) -> Option<String> {
        match heard {
            Heard::Look(look) => return self.hear_look(*look, at),
            Heard::Lost(why) => {
                let since = self.lost.take().map_or(at, |(since, _)| since);
                self.lost = Some((since, why));
            }
            Heard::Steered(what) => self.note = Some((at, what)),
        }
        None
    }

    /// The same for an answer of the daemon.
    pub(super) fn hear_look(&mut self, look: Look, at: Instant) -> Option<String> {
        self.lost = None;
        let found = self.chosen.as_ref().and_then(|id| look.links.iter().position(|link| link.id == *id));
        if let (None, Some(id), Some(_)) = (found, &self.chosen, self.page) {
            self.note = Some((at, format!("there is no link {id}")));
            self.page = None;
        }
        self.row = found.unwrap_or_else(|| self.row.min(look.links.len().saturating_sub(1)));
        let before = self.chosen.take();
        self.chosen = look.links.get(self.row).map(|link| link.id.clone());
        let is_soon = self.now.as_ref().is_some_and(|now| at.saturating_duration_since(now.at) < RATES_FROM);
        let earlier = self.now.replace(Answer { look, at });
        if !is_soon {
            self.before = earlier;
        }
        self.chosen.clone().filter(|chosen| before.as_ref() != Some(chosen))
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key) -> Option<Wish> {
        if let Some(question) = self.question.take() {
            let steer = Ask::Steer(question.link, question.transition);
            return (key == Key::Yes).then_some(Wish::Ask(steer));
        }
        match key {
            Key::Quit => return Some(Wish::End),
            Key::Again => return Some(Wish::Ask(Ask::Again)),
            Key::Pause => self.ask_first(),
            Key::Open if self.page.is_none() && self.chosen.is_some() => self.open(Page::Overview),
            Key::Back => self.page = None,
            Key::NextPage => self.turn(1),
            Key::PageBefore => self.turn(Page::ALL.len() - 1),
            Key::Up => return self.go(|at| at.saturating_sub(1)),
            Key::Down => return self.go(|at| at.saturating_add(1)),
            Key::PageUp => return self.go(|at| at.saturating_sub(PAGE_ROWS)),
            Key::PageDown => return self.go(|at| at.saturating_add(PAGE_ROWS)),
            Key::First => return self.go(|_| 0),
            Key::Last => return self.go(|_| usize::MAX),
            Key::Open | Key::Yes | Key::Other => {}
        }
        None
    }

    fn open(&mut self, page: Page) {
        self.page = Some(page);
        self.scroll = 0;
    }

    /// Another page of the link that is open; in the list, the first one of the chosen link.
    fn turn(&mut self, steps: usize) {
        match self.page {
            Some(page) => self.open(page.beside(steps)),
            None if self.chosen.is_some() => self.open(Page::Overview),
            None => {}
        }
    }

    /// Scroll the page, or choose another link.
    fn go(&mut self, to: impl Fn(usize) -> usize) -> Option<Wish> {
        if self.page.is_some() {
            self.scroll = to(self.scroll).min(self.scroll_max());
            return None;
        }
        let links = &self.now.as_ref()?.look.links;
        let row = to(self.row).min(links.len().saturating_sub(1));
        let id = links.get(row)?.id.clone();
        let is_other = self.chosen.as_ref() != Some(&id);
        self.row = row;
        self.chosen = Some(id.clone());
        is_other.then_some(Wish::Ask(Ask::Watch(id)))
    }

    /// As far as the page can be scrolled: until its last line is the last that is shown.
    pub(super) fn scroll_max(&self) -> usize {
        let (columns, rows) = self.size;
        let lines = self.page.map_or(0, |page| pages::page(self, page, columns).len());
        lines.saturating_sub(draw::body_rows(rows))
    }

    fn ask_first(&mut self) {
        let Some(link) = self.link() else { return };
        let transition = match link.status {
            LinkStatus::Active | LinkStatus::Degraded | LinkStatus::Starting => LinkTransition::Pause,
            LinkStatus::Paused => LinkTransition::Resume,
            _ => {
                let note = format!("{} is {}: `tidegate link start {}` starts it", link.id, link.status, link.id);
                let at = self.now.as_ref().map_or_else(Instant::now, |now| now.at);
                self.note = Some((at, note));
                return;
            }
        };
        self.question = Some(Question { link: link.id.clone(), transition });
    }

    /// All links.
    pub(super) fn links(&self) -> &[Link] {
        self.now.as_ref().map(|now| &*now.look.links).unwrap_or_default()
    }

    /// The chosen link.
    pub(super) fn link(&self) -> Option<&Link> {
        self.links().get(self.row)
    }

    /// The last events of the chosen link, the newest first, if they are known.
    pub(super) fn events(&self) -> Option<&[Event]> {
        let watched = self.now.as_ref()?.look.watched.as_ref()?;
        (self.chosen.as_ref() == Some(&watched.link)).then_some(&*watched.events)
    }

    /// What was done last, for a while.
    pub(super) fn note(&self, now: Instant) -> Option<&str> {
        let (at, note) = self.note.as_ref()?;
        (now.saturating_duration_since(*at) < NOTE_TIME).then_some(note)
    }

    /// Since when the daemon has not answered, and why if that is known: at the latest when three answers are late.
    pub(super) fn silence(&self, now: Instant) -> Option<(Duration, &str)> {
        if let Some((since, why)) = &self.lost {
            return Some((now.saturating_duration_since(*since), why));
        }
        let silent = now.saturating_duration_since(self.now.as_ref()?.at);
        (silent > self.interval.saturating_mul(3) + NOTE_TIME).then_some((silent, "no answer from the daemon"))
    }

    /// How much a number of a stage has grown a second between the last two looks; `None` if that is not known.
    pub(super) fn rate(&self, link: &str, stage: &str, number: impl Fn(&Stage) -> u64) -> Option<f64> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let of = |look: &Look| {
            let link = look.links.iter().find(|it| it.id == link)?;
            link.stages.iter().find(|it| it.stage == stage).map(&number)
        };
        // A daemon that was started again counts from nothing.
        let grown = of(&now.look)?.checked_sub(of(&before.look)?)?;
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }
}
