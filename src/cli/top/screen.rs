//! The terminal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;
use ratatui::layout::Rect;
use ratatui::text::Line;
use tokio::signal::unix::{SignalKind, signal};

use super::view::Key;

/// The terminal as long as it is ours. A panic gives it back before it says anything.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // Half of it may be done.
                let _as_good_as_possible = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Show these lines. What does not fit is not shown.
    pub(super) fn draw(&mut self, lines: &[Line<'static>]) -> io::Result<()> {
        let drawn = self.terminal.draw(|frame| put(lines, frame.area(), frame.buffer_mut()));
        drawn.map(drop)
    }

    /// The next key that means something, if one comes within this time. A change of size ends the wait, too.
    pub(super) fn key(&mut self, patience: Duration) -> io::Result<Option<Key>> {
        if !event::poll(patience)? {
            return Ok(None);
        }
        match event::read()? {
            Event::Key(key) => Ok(meaning(key)),
            _ => Ok(None),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _nobody_to_tell = ratatui::try_restore();
    }
}

/// Put lines into a buffer, from the top.
pub(super) fn put(lines: &[Line<'static>], area: Rect, buffer: &mut Buffer) {
    for (row, line) in (area.y..area.bottom()).zip(lines) {
        buffer.set_line(area.x, row, line, area.width);
    }
}

/// How wide the terminal is.
pub(super) fn columns() -> Option<u16> {
    terminal::size().ok().map(|(columns, _)| columns)
}

/// What a key means.
pub(super) fn meaning(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Key::Quit),
            KeyCode::Char('l') => Some(Key::Again),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Key::First,
        KeyCode::End | KeyCode::Char('G') => Key::Last,
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => Key::Open,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left | KeyCode::Char('h') => Key::Back,
        KeyCode::Tab => Key::NextPage,
        KeyCode::BackTab => Key::PageBefore,
        KeyCode::Char('p') => Key::Pause,
        KeyCode::Char('r') => Key::Again,
        KeyCode::Char('y') => Key::Yes,
        KeyCode::Char('q') => Key::Quit,
        _ => Key::Other,
    })
}

/// Whether a signal says that it is time to end. Of those that would end the process the terminal would stay as it is.
pub(super) fn watch_signals() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
            let [Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)] = kinds else { return };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
            flag.store(true, Relaxed);
        });
    });
    ended
}
