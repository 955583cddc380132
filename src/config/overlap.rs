//! Topic names that go round: the intersection of what the links of a circle let in.
//!
//! A circle of links copies a name for ever if each of them lets in the name behind what the links
//! before have put in front of it. That is an intersection of regular languages. The search walks
//! through the automata of all links side by side, breadth first, and so finds the shortest name
//! that all accept, or that there is none (M. Rabin, D. Scott, "Finite automata and their decision
//! problems", 1959: the product construction). Links that rename by expressions are not followed
//! here: see [`sample`](super::sample).

use std::collections::{BTreeMap, HashSet, VecDeque};

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::flow::marks;
use super::link::LinkConfig;
use super::topics::{TOPIC_NAME_BYTES_MAX, TopicSelector};

/// The most links of a circle that are looked at together.
const LINKS_MAX: usize = 5;

/// The most circles that are looked at.
const CIRCLES_MAX: usize = 1_000;

/// The most links that are looked at to find these circles.
const LINKS_SEEN_MAX: usize = 100_000;

/// The most steps of automata for one circle, and for all. A new state costs as much time as the
/// expression is large, so these and the next bound keep a check within seconds.
const STEPS_MAX: usize = 20_000;
const ALL_STEPS_MAX: usize = 200_000;

/// The most bytes of an expression that is compiled, and of the states that are made of it. Names of
/// topics are ASCII, so a thousand characters of an expression seldom take more.
const EXPRESSION_BYTES_MAX: usize = 64 << 10;
const STATES_BYTES_MAX: usize = 1 << 20;

/// Names that stand for what expressions match.
#[must_use]
pub(super) enum Names {
    /// All that count.
    All(Vec<String>),
    /// Those that were found until the search ended. There may be others.
    Some(Vec<String>),
}

impl Names {
    /// With these in front.
    pub(super) fn with(self, mut names: Vec<String>) -> Self {
        let (is_all, found) = match self {
            Self::All(found) => (true, found),
            Self::Some(found) => (false, found),
        };
        names.extend(found);
        if is_all { Self::All(names) } else { Self::Some(names) }
    }
}

/// Names that go round in circles of these links, one of each circle that has any. Circles of more
/// than [`LINKS_MAX`] links, and those with links that rename by expressions, are looked at
/// elsewhere.
pub(super) fn names(links: &[&LinkConfig]) -> Names {
    let languages: Vec<Option<Language>> = links.iter().map(|link| Language::of(link)).collect();
    let mut steps_left = ALL_STEPS_MAX;
    let mut names = Vec::new();
    let (circles, mut is_all) = Search::circles(links);
    for circle in circles {
        // A step takes as many of these as links are walked through side by side.
        if steps_left <= LINKS_MAX {
            is_all = false;
            break;
        }
        let prefixes: Vec<&str> = circle.iter().map(|index| &*links[*index].topic_prefix).collect();
        let keeps_names = prefixes.iter().all(|prefix| prefix.is_empty());
        // Where names become longer it matters with which link the round begins, and that this one lets in what comes back.
        let rounds = if keeps_names { 1 } else { circle.len() };
        for begin in 0..rounds {
            let around = (0..=circle.len()).map(|step| (begin + step) % circle.len());
            let mut before = String::new();
            let mut readers = Vec::new();
            for at in around {
                let Some(language) = &languages[circle[at]] else { break };
                readers.push(Reader::new(language, &before));
                before.insert_str(0, prefixes[at]);
            }
            if readers.len() == circle.len() + 1 {
                let mut steps = steps_left.min(STEPS_MAX);
                steps_left -= steps;
                let readers = readers.into_iter().collect::<Option<Vec<_>>>();
                match readers.and_then(|mut readers| common(&mut readers, &mut steps)) {
                    Some(found) => names.extend(found),
                    None => is_all = false,
                }
                steps_left += steps;
            }
        }
    }
    if is_all { Names::All(names) } else { Names::Some(names) }
}

/// A search for circles of links. Each is found once, as places among all links.
struct Search<'a> {
    links: &'a [&'a LinkConfig],
    by_source: BTreeMap<&'a str, Vec<usize>>,
    found: Vec<Vec<usize>>,
    seen: usize,
    /// Whether it has ended before all were found.
    is_cut_short: bool,
}

impl<'a> Search<'a> {
    /// The circles, and whether these are all.
    fn circles(links: &'a [&'a LinkConfig]) -> (Vec<Vec<usize>>, bool) {
        if links.iter().all(|link| marks(link) && link.topic_prefix.is_empty()) {
            return (Vec::new(), true);
        }
        let mut by_source: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, link) in links.iter().enumerate() {
            by_source.entry(&link.source).or_default().push(index);
        }
        let mut search = Self { links, by_source, found: Vec::new(), seen: 0, is_cut_short: false };
        for first in 0..links.len() {
            search.extend(&mut vec![first]);
        }
        (search.found, !search.is_cut_short)
    }

    fn extend(&mut self, way: &mut Vec<usize>) {
        let (first, last) = (self.links[way[0]], self.links[way[way.len() - 1]]);
        if last.target == first.source {
            if may_go_round(self.links, way) {
                self.found.push(way.clone());
            }
            return;
        }
        if way.len() == LINKS_MAX {
            return;
        }
        for next in self.by_source.get(&*last.target).cloned().unwrap_or_default() {
            if self.seen >= LINKS_SEEN_MAX || self.found.len() >= CIRCLES_MAX {
                self.is_cut_short = true;
                return;
            }
            self.seen += 1;
            // Each cluster once.
            let was_there = way.iter().any(|index| self.links[*index].source == self.links[next].source);
            if next > way[0] && !was_there {
                way.push(next);
                self.extend(way);
                way.pop();
            }
        }
    }
}

/// Whether records or names can go round in a circle: a mark ends records, and no mark ends names that
/// become longer.
fn may_go_round(links: &[&LinkConfig], circle: &[usize]) -> bool {
    circle.iter().any(|index| !marks(links[*index]) || !links[*index].topic_prefix.is_empty())
}

/// The names that a link lets in.
struct Language {
    lets_in: DFA,
    leaves_out: DFA,
}

impl Language {
    /// `None` if it cannot be said by automata.
    fn of(link: &LinkConfig) -> Option<Self> {
        if !link.rename.is_empty() {
            return None;
        }
        let letters = link.letters_kept.iter().map(|name| regex_syntax::escape(name));
        let leaves_out = link.topics_exclude.iter().map(expression).chain(letters);
        // Topics that are named are followed by their names.
        let patterns = link.topics.iter().filter(|selector| matches!(selector, TopicSelector::Pattern(_)));
        Some(Self { lets_in: automaton(patterns.map(expression))?, leaves_out: automaton(leaves_out)? })
    }
}

fn expression(selector: &TopicSelector) -> String {
    match selector {
        TopicSelector::Name(name) => regex_syntax::escape(name),
        TopicSelector::Pattern(pattern) => pattern.expression().to_owned(),
    }
}

/// What accepts the whole names that one of these expressions matches.
fn automaton(expressions: impl Iterator<Item = String>) -> Option<DFA> {
    let any: Vec<String> = expressions.map(|expression| format!("(?:{expression})")).collect();
    // Of no expression nothing is accepted: two beginnings behind each other are nowhere.
    let any = if any.is_empty() { r"a\Aa".to_owned() } else { any.join("|") };
    let config = DFA::config()
        .match_kind(MatchKind::All)
        .cache_capacity(STATES_BYTES_MAX)
        .skip_cache_capacity_check(true)
        // States are compared with each other, so none may be made again under another number.
        .minimum_cache_clear_count(Some(0));
    let nfa = thompson::Config::new().nfa_size_limit(Some(EXPRESSION_BYTES_MAX));
    let build = |syntax| {
        let mut builder = DFA::builder();
        builder.configure(config.clone()).thompson(nfa.clone()).syntax(syntax);
        builder.build(&format!(r"\A(?:{any})\z")).ok()
    };
    // Names of topics are ASCII, where both mean the same. Automata know no word boundaries of
    // Unicode, and without Unicode there are no classes like `\p{Lu}`.
    build(syntax::Config::new().unicode(false).utf8(false)).or_else(|| build(syntax::Config::new()))
}

/// An automaton on its way through a name.
struct Walk<'a> {
    dfa: &'a DFA,
    cache: Cache,
    begin: LazyStateID,
}

impl<'a> Walk<'a> {
    /// Behind what precedes the name.
    fn new(dfa: &'a DFA, before: &str) -> Option<Self> {
        let mut cache = dfa.create_cache();
        let mut begin = dfa.start_state(&mut cache, &start::Config::new().anchored(Anchored::Yes)).ok()?;
        for byte in before.bytes() {
            begin = dfa.next_state(&mut cache, begin, byte).ok()?;
        }
        Some(Self { dfa, cache, begin })
    }

    fn next(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        self.dfa.next_state(&mut self.cache, state, byte).ok()
    }

    fn accepts(&mut self, state: LazyStateID) -> Option<bool> {
        Some(self.dfa.next_eoi_state(&mut self.cache, state).ok()?.is_match())
    }
}

/// A link on its way through a name.
struct Reader<'a> {
    lets_in: Walk<'a>,
    leaves_out: Walk<'a>,
}

impl<'a> Reader<'a> {
    fn new(language: &'a Language, before: &str) -> Option<Self> {
        let Language { lets_in, leaves_out } = language;
        Some(Self { lets_in: Walk::new(lets_in, before)?, leaves_out: Walk::new(leaves_out, before)? })
    }
}

/// The shortest name that all let in, if there is one; `None` if to find out takes more steps, or more
/// states, than there may be.
fn common(readers: &mut [Reader<'_>], steps: &mut usize) -> Option<Option<String>> {
    type States = Vec<[LazyStateID; 2]>;
    let letters = letters(readers);
    let begin: States = readers.iter().map(|reader| [reader.lets_in.begin, reader.leaves_out.begin]).collect();
    let mut seen: HashSet<States> = HashSet::from([begin.clone()]);
    let mut waiting: VecDeque<(States, String)> = VecDeque::from([(begin, String::new())]);
    while let Some((states, name)) = waiting.pop_front() {
        for letter in &letters {
            *steps = steps.checked_sub(readers.len())?;
            let mut next = States::with_capacity(states.len());
            for (reader, [lets_in, leaves_out]) in readers.iter_mut().zip(&states) {
                let lets_in = reader.lets_in.next(*lets_in, *letter)?;
                if lets_in.is_dead() {
                    break;
                }
                next.push([lets_in, reader.leaves_out.next(*leaves_out, *letter)?]);
            }
            if next.len() < readers.len() || !seen.insert(next.clone()) {
                continue;
            }
            let longer = format!("{name}{}", char::from(*letter));
            let mut all_let_in = true;
            for (reader, [lets_in, leaves_out]) in readers.iter_mut().zip(&next) {
                all_let_in &= reader.lets_in.accepts(*lets_in)? && !reader.leaves_out.accepts(*leaves_out)?;
            }
            if all_let_in {
                return Some(Some(longer));
            }
            if longer.len() < TOPIC_NAME_BYTES_MAX {
                waiting.push_back((next, longer));
            }
        }
    }
    Some(None)
}

/// Of the characters of topic names one of each kind that some automaton tells apart.
fn letters(readers: &[Reader<'_>]) -> Vec<u8> {
    let all = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z').chain(*b"-._");
    let walks = || readers.iter().flat_map(|reader| [&reader.lets_in, &reader.leaves_out]);
    let mut known: HashSet<Vec<u8>> = HashSet::new();
    all.filter(|letter| known.insert(walks().map(|walk| walk.dfa.byte_classes().get(*letter)).collect())).collect()
}
