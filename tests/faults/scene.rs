//! What every fault is played in: a source that is written all the time, a daemon that copies it, and the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_oracle::{Codec, Content, Plan, Watcher, Writer};
use tidegate::api::wire::{Event, LinkMetrics, LinkStatus, Reset, Trouble};

use crate::clusters::{Pair, Version};
use crate::harness::{Client, Daemon, Dice, LINKS, Site, percent_encoded, plugin_bytes};

pub const PARTITIONS: i32 = 4;
pub const LANES: u32 = 2;

/// The shortest that a link can have: what a zombie leaves open is ended after it.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// After this a broker that does not answer is given up.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What may take as long as it likes. Only "never" takes longer.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Records in a second.
const RATE: u64 = 2_000;

/// So many records have to come in each partition after a fault: more than can have been under way when it came.
const PROGRESS_RECORDS: usize = 250;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The stage of a scene with plugins.
const STAGE: &str = "once";

/// The kills of the long form; `None` in the short form.
pub fn long() -> Option<u64> {
    number("TIDEGATE_KILLS")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What a scene is to be like.
#[derive(Clone, Debug)]
pub struct Setup {
    name: String,
    pub source: String,
    target: String,
    daemon_source: String,
    daemon_target: String,
    plugins: bool,
    swaps: bool,
    lanes: u32,
    /// What the configuration says of the daemon.
    daemon: String,
    /// What else it says of the link.
    link: String,
}

impl Setup {
    /// Between these clusters, and with plugins where the version is the newer one.
    pub fn new(name: &str, version: Version, pair: &Pair) -> Self {
        let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
        Self {
            name: format!("{name}-{}", version.name()),
            daemon_source: source.clone(),
            daemon_target: target.clone(),
            source,
            target,
            plugins: version == Version::Two,
            swaps: true,
            lanes: LANES,
            daemon: String::new(),
            link: String::new(),
        }
    }

    /// Have the daemon, and it alone, connect through the proxies.
    pub fn proxied(self, pair: &Pair) -> Self {
        let through = |bootstrap: Option<String>| bootstrap.expect("proxies");
        let (source, target) = (pair.source.proxied_bootstrap(), pair.target.proxied_bootstrap());
        Self { daemon_source: through(source), daemon_target: through(target), ..self }
    }

    pub fn with_plugins(self, plugins: bool) -> Self {
        Self { plugins, ..self }
    }

    /// Leave the publishing of plugins to the scene.
    pub fn without_swaps(self) -> Self {
        Self { swaps: false, ..self }
    }

    pub fn with_lanes(self, lanes: u32) -> Self {
        Self { lanes, ..self }
    }

    /// With a daemon that calls itself so.
    pub fn named(self, name: &str) -> Self {
        Self { daemon: format!("name = {name:?}\n"), ..self }
    }

    /// With more that the configuration says of the link, which `LINK` stands for.
    pub fn with_link(self, more: &str) -> Self {
        Self { link: more.replace("LINK", &self.name), ..self }
    }

    /// With more that the configuration says of the daemon.
    pub fn with_daemon(self, more: &str) -> Self {
        Self { daemon: self.daemon + more, ..self }
    }

    pub fn config(&self) -> String {
        let cluster = |id: &str, bootstrap: &str| {
            let brokers: Vec<String> = bootstrap.split(',').map(|broker| format!("{broker:?}")).collect();
            let timeout = REQUEST_TIMEOUT.as_secs();
            format!(
                "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [{}]\n\
                 request_timeout = \"{timeout}s\"\nconnection_timeout = \"{timeout}s\"\n",
                brokers.join(", ")
            )
        };
        let Self { name, lanes, .. } = self;
        let link = format!(
            "[links.{name}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"{name}\", \"/{name}-.*/\"]\nlanes = {lanes}\n\
             [links.{name}.config]\ntransaction_timeout_ms = {}\n",
            TRANSACTION_TIMEOUT.as_millis()
        );
        let pipeline = format!(
            "[[links.{name}.pipeline]]\nstage = \"{STAGE}\"\nplugin = \"PLUGINS/dedupe.wasm\"\non_error = \"stop\"\n\
             config = {{ max_keys = 1000000 }}\n"
        );
        let clusters = cluster("east", &self.daemon_source) + &cluster("west", &self.daemon_target);
        self.daemon.clone() + &clusters + &link + &self.link + if self.plugins { &pipeline } else { "" }
    }

    /// Write to the source, start the daemon, and wait until records come in every partition.
    pub fn begin(self) -> Scene {
        let scene = self.prepare();
        scene.await_beginning();
        scene
    }

    /// The same, and do not wait.
    pub fn prepare(self) -> Scene {
        let seed = number("TIDEGATE_SEED")
            .unwrap_or_else(|| u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()));
        let name = self.name.clone();
        kafka_oracle::create(&self.source, &name, PARTITIONS, &[]).expect("a topic");
        let writer = self.write(&name, PARTITIONS, seed);
        let watcher = Watcher::start(&self.target, &name);
        let site = Site::new(&self.config());
        let daemon = Some(site.start());
        let swapper = (self.plugins && self.swaps).then(|| Swapper::start(&site.client, &name));
        Scene { setup: self, seed, dice: Dice::new(seed), link: name, site, daemon, writer, watcher, swapper }
    }
}

impl Setup {
    /// Write to a topic of the source all the time.
    pub fn write(&self, topic: &str, partitions: i32, seed: u64) -> Writer {
        Writer::start(Plan {
            bootstrap: self.source.clone(),
            topic: topic.to_owned(),
            partitions,
            seed,
            transactions: true,
            codecs: Codec::ALL.into(),
            rate: Some(RATE),
            records_max: None,
        })
    }

    /// The link, and its topic.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stop writing to a topic, give it more partitions, and go on with those too.
    pub fn write_more(&self, writer: Writer, topic: &str, partitions: i32, seed: u64) -> Writer {
        writer.stop().expect("the writer");
        kafka_oracle::widen(&self.source, topic, partitions as usize).expect("more partitions");
        self.write(topic, partitions, seed)
    }

    /// What the pipeline makes of a topic of the source.
    pub fn expected(&self, topic: &str) -> Content {
        let mut expected = kafka_oracle::read(&self.source, topic).expect("the source");
        if self.plugins {
            deduplicate(&mut expected);
        }
        expected
    }

    /// Wait until the target has exactly what the pipeline makes of a topic.
    pub fn await_copy(&self, topic: &str) -> Result<usize, String> {
        let expected = self.expected(topic);
        kafka_oracle::await_copy(&expected, &self.target, topic, PATIENCE).map(|copy| copy.records())
    }
}

/// A link between two clusters, while something goes wrong.
pub struct Scene {
    pub setup: Setup,
    pub seed: u64,
    pub dice: Dice,
    /// The link, and its topic on both sides.
    pub link: String,
    pub site: Site,
    pub daemon: Option<Daemon>,
    pub writer: Writer,
    watcher: Watcher,
    swapper: Option<Swapper>,
}

impl Scene {
    /// The daemon ends as by kill -9.
    pub fn kill(&mut self) {
        self.daemon.take().expect("a daemon").kill();
    }

    pub fn start(&mut self) {
        self.daemon = Some(self.site.start());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        self.daemon.as_ref().expect("a daemon").signal(signal);
    }

    /// Another daemon with the same link and a directory of its own.
    pub fn rival(&self) -> (Site, Daemon) {
        let site = Site::new(&self.setup.config());
        let daemon = site.start();
        (site, daemon)
    }

    /// How many records the target shows.
    pub fn records(&self) -> usize {
        self.watcher.records()
    }

    /// Wait until every lane is at work.
    fn await_beginning(&self) {
        let begun = Instant::now();
        while (0..PARTITIONS).any(|partition| self.watcher.records_of(partition) == 0) {
            if begun.elapsed() > PATIENCE {
                self.give_up("it does not begin");
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Wait until records come in every partition that were not under way before. The longest time in which a partition got none.
    pub fn await_progress(&self, after: &str) -> Duration {
        let begun = Instant::now();
        let progress = (0..PARTITIONS).map(|partition| Progress::begin(begun, self.watcher.records_of(partition)));
        let mut progress: Vec<Progress> = progress.collect();
        while !progress.iter().all(Progress::is_enough) {
            for (partition, progress) in (0..).zip(&mut progress) {
                progress.look(self.watcher.records_of(partition));
            }
            // Brokers on a busy machine are slow, and slow is not broken: only a partition that
            // stands still is.
            if let Some(partition) = progress.iter().position(|progress| progress.stands_still(PATIENCE)) {
                self.give_up(&format!("no records come in partition {partition} after {after}"));
            }
            thread::sleep(LOOK_EVERY);
        }
        let gap = progress.iter().map(|progress| progress.longest_gap).max().unwrap_or_default();
        println!("{}: {after}: records come again, the longest gap was {gap:.1?}", self.link);
        gap
    }

    /// Wait until the link shows a code.
    pub fn await_code(&self, code: &str) -> Trouble {
        let begun = Instant::now();
        loop {
            let error = self.site.client.link(&self.link).error;
            if let Some(trouble) = error.filter(|error| error.code == code) {
                println!("{}: {}: {}; {}", self.link, trouble.code, trouble.message, trouble.remedy);
                return trouble;
            }
            if begun.elapsed() > PATIENCE {
                self.give_up(&format!("the link does not say {code}"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Wait until the link has stopped by itself with a code.
    pub fn await_failure(&self, code: &str) -> Trouble {
        let trouble = self.await_code(code);
        let begun = Instant::now();
        while self.site.client.link(&self.link).status != LinkStatus::Failed {
            if begun.elapsed() > PATIENCE {
                self.give_up("the link goes on trying");
            }
            thread::sleep(LOOK_EVERY);
        }
        trouble
    }

    /// The codes of what the lanes met since the daemon was started.
    pub fn codes(&self) -> BTreeSet<String> {
        self.troubles().into_iter().filter_map(|event| event.code).collect()
    }

    /// Print what the lanes met since the daemon was started.
    pub fn print_troubles(&self) {
        let mut by_code: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for Event { code, count, message, .. } in self.troubles() {
            let (times, last) = by_code.entry(code.unwrap_or_default()).or_default();
            (*times, *last) = (*times + count, message);
        }
        for (code, (times, last)) in by_code {
            println!("{}: {times} × {code}, the last time: {last}", self.link);
        }
    }

    fn troubles(&self) -> Vec<Event> {
        let mut events: Vec<Event> = self.site.client.read(&format!("{LINKS}/{}/events", self.link));
        events.retain(|event| event.kind == "lane-failed");
        events
    }

    /// How often lanes have failed since the daemon was started.
    pub fn failures(&self) -> u64 {
        self.site.client.read::<LinkMetrics>(&format!("{LINKS}/{}/metrics", self.link)).total_errors
    }

    pub fn post(&self, what: &str) {
        let answer = self.site.client.post(&format!("{LINKS}/{}/{what}", self.link), "").expect("an answer");
        assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    }

    /// Say where the link goes on. `TOPIC` stands for its topic.
    pub fn reset(&self, request: &str) -> Reset {
        let path = format!("{LINKS}/{}/resets?by=test", self.link);
        let answer = self.site.client.post(&path, request.replace("TOPIC", &self.link)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("a reset")
    }

    /// Where a daemon's log is worth reading.
    pub fn give_up(&self, what: &str) -> ! {
        let link = self.site.client.get(&format!("{LINKS}/{}", self.link)).map(|answer| answer.body);
        let log = self.daemon.as_ref().map(Daemon::stderr).unwrap_or_default();
        panic!("{}, seed {}: {what}\n{link:?}\n{}", self.link, self.seed, last_lines(&log));
    }

    /// Stop writing, and compare all that there is: while the daemon runs, and again when it has ended.
    pub fn finish(mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        let swaps = self.swapper.take().map(Swapper::stop);
        self.print_troubles();
        let written = self.writer.stop().expect("the writer");
        let (link, Setup { target, .. }) = (&self.link, &self.setup);
        let expected = self.setup.expected(link);
        let daemon = self.daemon.take().expect("a daemon");
        let checked = |result: Result<(), String>, log: &str| {
            result.unwrap_or_else(|difference| panic!("{link}, seed {}: {difference}\n{}", self.seed, last_lines(log)));
        };
        checked(kafka_oracle::await_copy(&expected, target, link, PATIENCE).map(drop), &daemon.stderr());
        let log = daemon.stderr();
        assert!(!log.contains("panicked"), "{log}");
        daemon.terminate();
        let mut last = kafka_oracle::read(target, link).expect("the target");
        checked(kafka_oracle::compare(&expected, &last), &log);
        // It does not look at partitions that came later.
        last.0.retain(|partition, _| *partition < PARTITIONS);
        checked(self.watcher.finish(&last, PATIENCE), &log);
        println!(
            "{link}: {} records are the same, {} were aborted, swaps {swaps:?}, troubles of the writer {:?}",
            last.records(),
            written.aborted,
            written.troubles
        );
        assert!(swaps.is_none_or(|swaps| swaps > 0), "{link}: nothing was swapped");
    }
}

/// Wait until a link has stopped by itself with a code.
pub fn await_failure_of(site: &Site, link: &str, code: &str) -> Trouble {
    let begun = Instant::now();
    loop {
        let now = site.client.link(link);
        match now.error {
            Some(trouble) if trouble.code == code && now.status == LinkStatus::Failed => return trouble,
            other => assert!(begun.elapsed() < PATIENCE, "{link} does not fail with {code}: {other:?}"),
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// How a partition comes on.
struct Progress {
    enough: usize,
    records: usize,
    since: Instant,
    longest_gap: Duration,
}

impl Progress {
    fn begin(now: Instant, records: usize) -> Self {
        Self { enough: records + PROGRESS_RECORDS, records, since: now, longest_gap: Duration::ZERO }
    }

    fn is_enough(&self) -> bool {
        self.records >= self.enough
    }

    /// Whether it needs more records and has got none for so long.
    fn stands_still(&self, patience: Duration) -> bool {
        !self.is_enough() && self.since.elapsed() > patience
    }

    fn look(&mut self, records: usize) {
        if records > self.records {
            self.longest_gap = self.longest_gap.max(self.since.elapsed());
            (self.records, self.since) = (records, Instant::now());
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(50)..].join("\n")
}

/// What `dedupe` passes on: of each key in a partition the first record, and all without a key.
fn deduplicate(content: &mut Content) {
    for records in content.0.values_mut() {
        let mut seen = BTreeSet::new();
        records.retain(|placed| placed.record.key.as_ref().is_none_or(|key| seen.insert(key.clone())));
    }
}

/// Publishes the plugin again and again, with a configuration that differs in what makes no difference.
struct Swapper {
    stops: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Swapper {
    fn start(client: &Client, link: &str) -> Self {
        let (stops, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stop, count, client) = (stops.clone(), done.clone(), client.clone());
        let path = format!("{LINKS}/{link}/stages/{STAGE}/revisions");
        let thread = thread::spawn(move || {
            let component = plugin_bytes("dedupe");
            while !stop.load(Relaxed) {
                let keys = 1_000_001 + count.load(Relaxed);
                let config = percent_encoded(&format!("{{\"max_keys\":{keys}}}"));
                // A daemon that is dead, starting or without a target refuses; that is not what is tested here.
                let answer = client.post(&format!("{path}?config={config}"), &component);
                if answer.is_ok_and(|answer| answer.status < 300) {
                    count.fetch_add(1, Relaxed);
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { stops, done, thread }
    }

    fn stop(self) -> u64 {
        self.stops.store(true, Relaxed);
        self.thread.join().expect("the swapper");
        self.done.load(Relaxed)
    }
}
