//! What is logged of something that happens again and again.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a text that was logged is not logged again.
const QUIET: Duration = Duration::from_secs(60);

/// How many texts are remembered: of two that take turns, neither is news each time.
const TEXTS_MAX: usize = 64;

/// Says which of the texts that come again and again are logged: one that is new at once, and the
/// same one at most once a minute, with how often it has come since.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<VecDeque<Text>>);

#[derive(Debug)]
struct Text {
    text: String,
    logged: Instant,
    since: u64,
}

/// A text is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// How often it has come since it was logged last, without being logged.
    pub repeated: Option<NonZeroU64>,
}

impl Repeats {
    /// A text has come. Whether it is to be logged.
    pub fn news(&self, text: impl Into<String>, now: Instant) -> Option<News> {
        let text = text.into();
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = texts.iter().position(|known| known.text == text);
        let mut since = 0;
        if let Some(known) = known.and_then(|at| texts.get_mut(at)) {
            if now.saturating_duration_since(known.logged) < QUIET {
                known.since += 1;
                return None;
            }
            since = known.since;
        }
        // The one that was logged last is the last one, so the first is forgotten first.
        known.and_then(|at| texts.remove(at));
        if texts.len() == TEXTS_MAX {
            texts.pop_front();
        }
        texts.push_back(Text { text, logged: now, since: 0 });
        Some(News { repeated: NonZeroU64::new(since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(news: Option<News>) -> Option<u64> {
        news.map(|news| news.repeated.map_or(0, NonZeroU64::get))
    }

    #[test]
    fn what_comes_each_second_is_logged_once_a_minute_with_how_often_it_came() {
        let (repeats, begun) = (Repeats::default(), Instant::now());
        let logged = (0..300).filter_map(|second| {
            let news = repeats.news("cannot connect", begun + Duration::from_secs(second));
            Some((second, repeated(news)?))
        });
        assert_eq!(logged.collect::<Vec<_>>(), [(0, 0), (60, 59), (120, 59), (180, 59), (240, 59)]);
    }

    #[test]
    fn what_is_new_is_logged_at_once_and_what_takes_turns_is_not_new_each_time() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert_eq!(repeated(repeats.news("one", now)), Some(0));
        assert_eq!(repeated(repeats.news("other", now)), Some(0));
        for _ in 0..5 {
            assert_eq!(repeats.news("one", now), None);
            assert_eq!(repeats.news("other", now), None);
        }
        assert_eq!(repeated(repeats.news("one", now + QUIET)), Some(5));
    }

    #[test]
    fn only_so_many_texts_are_remembered() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..10 * TEXTS_MAX {
            assert_eq!(repeated(repeats.news(number.to_string(), now)), Some(0));
        }
        assert_eq!(repeats.0.lock().expect("no panic").len(), TEXTS_MAX);
    }
}
