//! Who asks for things: one deed after the other, each answer held against the model.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use tidegate::api::wire::Time;

use super::books::Books;
use super::model::{Deed, Model, Reply, Told};
use super::{Drill, Tally, name, topic};
use crate::harness::{Answer, Dice, LINKS, comes_true};

/// What may take as long as it likes. Only "never" takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a daemon says that does not know its links yet, or changes one at this moment. Nothing is known then of what was asked for.
const NOT_NOW: [&str; 2] = ["starting", "link-replaced"];

/// Somebody who is at work on some of the links, one after the other.
pub struct Hand<'d> {
    drill: &'d Drill<'d>,
    books: &'d Books,
    tally: &'d Tally,
    dice: Dice,
    seed: u64,
    pub models: Vec<(u64, Model)>,
    /// What was asked of each link lately, and what was answered: for who has to find out what went wrong.
    lately: Mutex<BTreeMap<u64, Vec<String>>>,
}

impl<'d> Hand<'d> {
    pub fn new(drill: &'d Drill<'d>, books: &'d Books, tally: &'d Tally, seed: u64, number: u64) -> Self {
        let mine = (0..drill.links).filter(|link| link % drill.hands == number);
        let models = mine.map(|link| (link, Model::new())).collect();
        Self {
            drill,
            books,
            tally,
            dice: Dice::new(seed.wrapping_add(number * 7919 + 1)),
            seed,
            models,
            lately: Mutex::default(),
        }
    }

    /// Do something to one of the links.
    pub fn act(&mut self) {
        let at = self.dice.below(self.models.len() as u64) as usize;
        let (link, model) = self.models[at].clone();
        let now = match self.dice.below(24) {
            0..=2 => {
                self.settle(link, &model, false);
                model
            }
            3 | 4 if model.is_over && model.is_defined => self.write_there(link, model),
            5 if model.is_defined && !model.is_over => self.storm(link, model),
            _ => {
                let deed = self.choose(&model);
                self.request(link, model, deed)
            }
        };
        self.models[at].1 = now;
    }

    /// What has a sense in most cases, and anything else now and then.
    fn choose(&mut self, model: &Model) -> Deed {
        let batch_size = 10 + self.dice.below(200);
        let lanes = 1 + self.dice.below(4);
        let define = Deed::Define { batch_size, lanes };
        let change = Deed::Change { batch_size, lanes: (self.dice.below(4) == 0).then_some(lanes) };
        let throttle = Deed::Throttle(50_000 + self.dice.below(1_000_000));
        let any = [
            define,
            Deed::Start,
            Deed::Stop,
            Deed::Pause,
            Deed::Resume,
            change,
            Deed::ChangeWrongly,
            Deed::ChangeOutdated,
            Deed::Delete,
            Deed::DeleteOutdated,
            throttle,
            Deed::Unthrottle,
            Deed::FailOver,
            Deed::PlanFailover,
            Deed::FailBack,
            Deed::PlanFailback,
            Deed::CallOff,
            Deed::Relane(lanes),
        ];
        let useful: &[Deed] = match (model.is_defined, model.is_over, model.told) {
            (false, ..) => &[define],
            (true, true, _) => &[Deed::FailBack, Deed::FailBack, change, Deed::Delete, Deed::PlanFailback],
            (true, false, Told::Stopped) => &[Deed::Start, Deed::Start, Deed::Delete, change],
            (true, false, Told::Running) => &[Deed::Pause, Deed::Stop, Deed::FailOver, throttle, Deed::Unthrottle],
            (true, false, Told::Paused) => &[Deed::Resume, Deed::Resume, change, Deed::Stop, Deed::FailOver],
        };
        let from = if self.dice.below(3) == 0 { &any } else { useful };
        from[self.dice.below(from.len() as u64) as usize]
    }

    fn definition(&self, link: u64, batch_size: u64, lanes: u64) -> Value {
        let [source, target] = self.drill.clusters;
        json!({
            "name": "Soaked", "source_cluster": { "cluster_id": source }, "target_cluster": { "cluster_id": target },
            "topics": [topic(link)], "lanes": lanes,
            "config": { "batch_size": batch_size, "max_messages": 300, "checkpoint_interval_ms": 20, "transaction_timeout_ms": 10_000 },
            // Only who is asked to fails over; and nobody else writes to the target before.
            "failover_config": { "enabled": true, "failover_timeout_ms": 86_400_000, "failover_threshold": 1_000_000_000,
                "max_consecutive_failures": 1_000_000 },
        })
    }

    fn send(&self, link: u64, model: &Model, deed: Deed) -> Option<Answer> {
        let (method, rest, body) =
            deed.request(&name(link), |batch_size, lanes| self.definition(link, batch_size, lanes));
        let path =
            if let Deed::Define { .. } = deed { LINKS.to_owned() } else { format!("{LINKS}/{}{rest}", name(link)) };
        let version = match deed {
            Deed::ChangeOutdated | Deed::DeleteOutdated => Some(format!("\"{}\"", model.version + 7)),
            Deed::Change { .. } | Deed::Delete => Some(format!("\"{}\"", model.version)),
            _ => None,
        };
        let answer = self.drill.site.client.try_send(method, &path, version.as_deref(), &body).ok();
        *self.tally.done.lock().expect("a tally").entry(kind(deed)).or_default() += 1;
        if answer.is_none() {
            self.tally.lost.fetch_add(1, Relaxed);
        }
        let said = answer.as_ref().map(|answer| (answer.status, answer.body.chars().take(120).collect::<String>()));
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.entry(link).or_default().push(format!("{} {deed:?}: {said:?}", Time::now()));
        drop(lately);
        answer.filter(|answer| !self.is_not_now(answer))
    }

    /// Whether a daemon has just been started, or the link is just being changed.
    fn is_not_now(&self, answer: &Answer) -> bool {
        let is_one = answer.status == 503 && NOT_NOW.iter().any(|code| answer.json()["code"] == **code);
        self.tally.not_now.fetch_add(u64::from(is_one), Relaxed);
        is_one
    }

    /// Ask for something, and see whether the answer is the model's. What the link is now.
    fn request(&self, link: u64, model: Model, deed: Deed) -> Model {
        let (reply, after) = model.expect(deed);
        let Some(answer) = self.send(link, &model, deed) else { return self.find_out(link, &[model, after], deed) };
        let refused = (answer.status >= 400).then(|| answer.json());
        let agrees = match &reply {
            Reply::Done(statuses) => statuses.contains(&answer.status),
            Reply::Refused(status, code, allowed) => {
                let said = refused.as_ref().map(|it| (it["code"].clone(), it["allowed"].clone()));
                let none = if allowed.is_empty() { Value::Null } else { json!(allowed) };
                answer.status == *status && said == Some((json!(code), none))
            }
        };
        if !agrees {
            self.disagree(
                link,
                &format!("{deed:?} of {model:?}: expected {reply:?}, found {} {}", answer.status, answer.body),
            );
        }
        if matches!(deed, Deed::FailBack | Deed::FailOver | Deed::Relane(_) | Deed::Change { .. })
            && answer.status < 300
        {
            self.await_nothing_under_way(link, &after);
        }
        self.settle(link, &after, matches!(deed, Deed::FailBack));
        after
    }

    /// Wait until what takes its time is done.
    fn await_nothing_under_way(&self, link: u64, model: &Model) {
        let is_quiet = || {
            let events = self.get(link, "/failovers").filter(|answer| answer.status == 200);
            let all_done = events.is_some_and(|answer| {
                answer.json().as_array().is_some_and(|events| events.iter().all(|event| event["success"] == true))
            });
            all_done
                && self.get(link, "").is_some_and(|answer| answer.status == 200 && answer.json()["relane"].is_null())
        };
        if model.is_defined && !comes_true(PATIENCE, is_quiet) {
            self.disagree(link, "something is under way for ever");
        }
    }

    fn get(&self, link: u64, rest: &str) -> Option<Answer> {
        let answer = self.drill.site.client.get(&format!("{LINKS}/{}{rest}", name(link))).ok()?;
        Some(answer).filter(|answer| !self.is_not_now(answer))
    }

    /// Wait until the link is what the model says. In between it may be starting, and while it fails back it has still failed over.
    fn settle(&self, link: u64, model: &Model, is_returning: bool) {
        let begun = Instant::now();
        loop {
            if let Some(answer) = self.get(link, "") {
                match (model.status(), answer.status) {
                    (None, 404) => return,
                    (Some(expected), 200) => {
                        let found = answer.json();
                        let status = found["status"].as_str().unwrap_or_default();
                        if status == expected {
                            return self.compare(link, model, &answer);
                        }
                        if status != "starting" && !(is_returning && status == "failed_over") {
                            self.disagree(link, &format!("{model:?} is {status}: {}", found["error"]));
                        }
                    }
                    (_, status) => self.disagree(link, &format!("{model:?} answers {status}: {}", answer.body)),
                }
            }
            if begun.elapsed() > PATIENCE {
                self.disagree(link, &format!("{model:?} does not come to be"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether the link says of itself what the model does.
    fn compare(&self, link: u64, model: &Model, answer: &Answer) {
        let found = answer.json();
        let etag = answer.headers.get("etag").map(|etag| etag.to_str().expect("text").to_owned());
        let said = (
            etag,
            found["version"].as_u64(),
            found["config"]["batch_size"].as_u64(),
            found["throttle"]["throttle_rate_bytes_per_sec"].as_u64(),
            found["managed_by"].as_str(),
        );
        let version = model.version;
        let expected = (Some(format!("\"{version}\"")), Some(version), Some(model.batch_size), model.rate, Some("api"));
        if said != expected {
            self.disagree(link, &format!("{model:?}: expected {expected:?}, found {said:?}"));
        }
    }

    /// Nobody knows whether something was done: it was or it was not, and nothing in between.
    fn find_out(&self, link: u64, candidates: &[Model], deed: Deed) -> Model {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            thread::sleep(LOOK_EVERY);
            let Some(answer) = self.get(link, "") else { continue };
            last.clone_from(&answer.body);
            if answer.status == 404 {
                match candidates.iter().find(|model| !model.is_defined) {
                    Some(model) => return model.clone(),
                    None => self.disagree(link, &format!("after {deed:?} was lost it is gone: {candidates:?}")),
                }
            }
            let found = answer.json();
            if found["status"] == "starting" {
                continue;
            }
            let defined = candidates.iter().find(|model| model.is_defined);
            if let Some(defined) = defined {
                self.await_nothing_under_way(link, defined);
            }
            if matches!(deed, Deed::FailOver | Deed::FailBack) {
                // What would be done is said by what the target knows. The status follows that, and may be that of before for a moment.
                let path = format!("{LINKS}/{}/failback?dry_run=true", name(link));
                let Ok(plan) = self.drill.site.client.post(&path, "") else { continue };
                if self.is_not_now(&plan) {
                    continue;
                }
                let now = candidates.iter().find(|model| model.is_over == (plan.status == 200));
                let now = now.unwrap_or_else(|| self.disagree(link, &format!("{candidates:?}: {}", plan.body)));
                self.settle(link, now, matches!(deed, Deed::FailBack));
                return now.clone();
            }
            let Some(answer) = self.get(link, "").filter(|answer| answer.status == 200) else { continue };
            let found = answer.json();
            let is_it = |model: &&Model| {
                model.status().is_some_and(|status| found["status"] == status)
                    && found["version"].as_u64() == Some(model.version)
                    && found["throttle"]["throttle_rate_bytes_per_sec"].as_u64() == model.rate
            };
            if let Some(model) = candidates.iter().find(is_it) {
                self.compare(link, model, &answer);
                return model.clone();
            }
        }
        self.disagree(link, &format!("after {deed:?} was lost it is none of {candidates:?}: {last}"))
    }

    /// Append records to the target, which has the source's place.
    fn write_there(&mut self, link: u64, model: Model) -> Model {
        let partition = self.dice.below(u64::from(self.drill.partitions)) as u32;
        let target = self.drill.clusters[1];
        let count = 1 + self.dice.below(self.drill.records_max);
        let status = self.books.write(&self.drill.site.client, target, &topic(link), partition, count);
        // A daemon that has just been started may not know yet that the target was promoted.
        if !matches!(status, None | Some(200 | 503)) {
            self.settle(link, &model, false);
            let again = self.books.write(&self.drill.site.client, target, &topic(link), partition, count);
            if !matches!(again, None | Some(200 | 503)) {
                self.disagree(link, &format!("{model:?}: its target answers a writer {status:?}, {again:?}"));
            }
        }
        model
    }

    /// Several people at once. Whoever comes last is right, and nothing is left between two states.
    fn storm(&mut self, link: u64, model: Model) -> Model {
        let (first, second) = (100 + self.dice.below(50), 200 + self.dice.below(50));
        let change = |batch_size| Deed::Change { batch_size, lanes: None };
        let all = [Deed::Start, Deed::Pause, Deed::Resume, Deed::Stop, change(first), change(second)];
        let turn = self.dice.below(6) as usize;
        let deeds: Vec<Deed> = (0..4).map(|at| all[(turn + at * 5) % 6]).collect();
        let (me, before) = (&*self, &model);
        let answers: Vec<Option<Answer>> = thread::scope(|scope| {
            let threads: Vec<_> = deeds.iter().map(|deed| scope.spawn(move || me.send(link, before, *deed))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let mut now = model.clone();
        let mut may_be = vec![model.told];
        let mut versions = (model.version, model.version);
        for (deed, answer) in deeds.iter().zip(&answers) {
            let status = answer.as_ref().map(|answer| answer.status);
            let may_be_done = status.is_none_or(|status| status < 300);
            if !matches!(status, None | Some(200 | 202 | 409 | 412)) {
                self.disagree(link, &format!("{deed:?} among {deeds:?} of {model:?}: {answer:?}"));
            }
            let mut after = model.clone();
            after.become_done(*deed);
            if may_be_done && (after.told != model.told || matches!(deed, Deed::Start | Deed::Resume)) {
                may_be.push(after.told);
            }
            if may_be_done && matches!(deed, Deed::Change { .. }) {
                versions.1 += 1;
                versions.0 += u64::from(status.is_some());
            }
            now.was_started |= may_be_done && matches!(deed, Deed::Start | Deed::Resume);
        }
        self.see_after_storm(link, now, &may_be, versions, &deeds)
    }

    /// What a link has become that several people were at work on.
    fn see_after_storm(&self, link: u64, model: Model, may_be: &[Told], versions: (u64, u64), deeds: &[Deed]) -> Model {
        let mut found = None;
        let is_settled = || {
            found = self.get(link, "").filter(|answer| answer.status == 200).map(|answer| answer.json());
            found.as_ref().is_some_and(|found| found["status"] != "starting")
        };
        if !comes_true(PATIENCE, is_settled) {
            self.disagree(link, &format!("it does not settle after {deeds:?}: {found:?}"));
        }
        let found = found.expect("a link");
        let told = match found["status"].as_str() {
            Some("stopped") => Told::Stopped,
            Some("active") => Told::Running,
            Some("paused") => Told::Paused,
            other => self.disagree(link, &format!("after {deeds:?} it is {other:?}: {}", found["error"])),
        };
        let version = found["version"].as_u64().expect("a version");
        if !may_be.contains(&told) || !(versions.0..=versions.1).contains(&version) {
            let wrong =
                format!("after {deeds:?} it is {told:?} of version {version}, and not {may_be:?} of {versions:?}");
            self.disagree(link, &wrong);
        }
        let batch_size = found["config"]["batch_size"].as_u64().expect("a size");
        let now = Model { told, version, batch_size, ..model };
        self.settle(link, &now, false);
        now
    }

    /// Have all links run, as fast as they can.
    pub fn bring_all_up(&mut self) {
        for at in 0..self.models.len() {
            let (link, mut model) = self.models[at].clone();
            let mut deeds = Vec::new();
            if !model.is_defined {
                deeds.push(Deed::Define { batch_size: 100, lanes: 2 });
            }
            deeds.push(Deed::Unthrottle);
            if model.is_over {
                deeds.push(Deed::FailBack);
            }
            deeds.push(Deed::Start);
            for deed in deeds {
                model = self.request(link, model, deed);
            }
            self.models[at].1 = model;
        }
    }

    /// The model and the daemon do not agree.
    fn disagree(&self, link: u64, what: &str) -> ! {
        let events = self.get(link, "/events").map(|answer| answer.body);
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = lately.get(&link).map(|all| all[all.len().saturating_sub(8)..].join("\n")).unwrap_or_default();
        panic!("seed {}, {}: {what}\n{events:?}\n{lately}", self.seed, name(link));
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.tally.is_lost.fetch_or(thread::panicking(), Relaxed);
    }
}

/// The name of a deed, without what it is done with.
fn kind(deed: Deed) -> String {
    let text = format!("{deed:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}
