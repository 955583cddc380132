//! A daemon with three links: one that hostile filters are published to, one for hostile transforms, and a neighbour that minds
//! its own business.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tidegate::api::wire::{Link, LinkStatus, Record, Records};

use crate::harness::{Client, Daemon, Site, wait_until};
use crate::template::{Template, counted};

/// The link whose stage takes filters.
pub const FILTERS: &str = "filters";
/// The link whose stage takes transforms.
pub const TRANSFORMS: &str = "transforms";
/// The link that nothing is done to.
pub const NEIGHBOUR: &str = "neighbour";

/// The stage of each link. Its limits are small, so that a row takes little time, and they are what the words of the table speak of.
const STAGE: &str = r#"
    lanes = 1
    [links.LINK.config]
    checkpoint_interval_ms = 5
    [links.LINK.probation]
    records = 0
    [links.LINK.breaker]
    rejected_percent = 100
    trapped_percent = 100
    [[links.LINK.pipeline]]
    stage = "keep"
    plugin = "PLUGIN.wasm"
    [links.LINK.pipeline.limits]
    time_ms = 50
    record_time_ms = 50
    memory = "16MiB"
    output_bytes = "1MiB"
    state_bytes = "256KiB"
    host_calls_per_record = 20000
"#;

const CLUSTERS: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.filters]
    [clusters.east.topics.transforms]
    [clusters.east.topics.neighbour]
    [clusters.west]
    kind = "embedded"
"#;

fn config() -> String {
    let link = |link: &str, plugin: &str| {
        let head = format!("[links.{link}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"{link}\"]");
        head + &STAGE.replace("LINK", link).replace("PLUGIN", plugin)
    };
    [CLUSTERS, &link(FILTERS, "filter"), &link(TRANSFORMS, "transform"), &link(NEIGHBOUR, "neighbour")].concat()
}

/// Where a topic of the target has been read to.
#[derive(Debug, Default)]
struct Seen {
    copies: i64,
    letters: i64,
}

/// What became of the records that were produced last.
#[derive(Debug, Default)]
pub struct News {
    pub copies: Vec<Record>,
    pub letters: Vec<Record>,
}

/// The running daemon.
pub struct House {
    site: Site,
    daemon: Daemon,
    filters: Seen,
    transforms: Seen,
    /// What the neighbour is to have copied.
    neighbours: Vec<Value>,
}

impl House {
    pub fn open() -> Self {
        let site = Site::new(&config());
        let neighbour = Template::filter().work(counted("{}", [0, 0]));
        let plugins = [("filter", Template::filter()), ("transform", Template::transform()), ("neighbour", neighbour)];
        for (name, template) in plugins {
            fs::write(site.path(&format!("{name}.wasm")), template.bytes()).expect("a file");
        }
        let daemon = site.start();
        let (filters, transforms) = (Seen::default(), Seen::default());
        Self { site, daemon, filters, transforms, neighbours: Vec::new() }
    }

    pub fn close(self) {
        self.daemon.terminate();
    }

    fn client(&self) -> &Client {
        &self.site.client
    }

    /// Publish a component; what the command prints.
    pub fn publish(&self, link: &str, component: &[u8]) -> Result<String, String> {
        let file = self.site.path("published.wasm");
        fs::write(&file, component).expect("a file");
        said(&self.site.cli(&["plugin", "publish", link, "keep", &file.display().to_string()]))
    }

    pub fn start(&self, link: &str) -> Result<String, String> {
        said(&self.site.cli(&["link", "start", link]))
    }

    /// A link as the command line shows it.
    pub fn show(&self, link: &str) -> Result<Link, String> {
        let shown = said(&self.site.cli(&["link", "show", link, "--json"]))?;
        serde_json::from_str(&shown).map_err(|error| format!("{error}: {shown}"))
    }

    /// Give three records, which are one batch, to a link, and one to the neighbour.
    pub fn produce(&mut self, link: &str, name: &str) {
        let record = |index: usize, bytes: usize| {
            let key = format!("{name}, {index}");
            json!({"key": key, "value": "v".repeat(bytes), "headers": [["name", "value"]]})
        };
        let neighbour = record(self.neighbours.len(), 10);
        self.client().produce("east", NEIGHBOUR, std::slice::from_ref(&neighbour));
        self.neighbours.push(neighbour);
        self.client().produce("east", link, &[record(0, 200), record(1, 5), record(2, 0)]);
    }

    /// Wait until a link has done with everything; why it stopped, if it did.
    pub fn settle(&self, link: &str) -> Result<(), String> {
        let mut failed = None;
        wait_until(&format!("{link} has done with everything"), || {
            let shown = self.client().link(link);
            failed = match shown.status {
                LinkStatus::Failed | LinkStatus::Paused => Some(format!("it is {}: {:?}", shown.status, shown.error)),
                _ => None,
            };
            let source = self.client().ends("east", link);
            let done: Vec<_> =
                shown.lanes.iter().flat_map(|lane| &lane.partitions).map(|partition| partition.target_offset).collect();
            failed.is_some() || done == source.into_iter().map(Some).collect::<Vec<_>>()
        });
        failed.map_or(Ok(()), Err)
    }

    /// Wait until a link has stopped by itself; why.
    pub fn await_failure(&self, link: &str) -> String {
        let mut why = None;
        wait_until(&format!("{link} has stopped"), || {
            let shown = self.client().link(link);
            why = shown.error.filter(|_| shown.status == LinkStatus::Failed);
            why.is_some()
        });
        why.map_or_else(String::new, |error| format!("{}: {}", error.code, error.message))
    }

    /// What came into the target of a link since this was asked last.
    pub fn news(&mut self, link: &str) -> News {
        let seen = if link == FILTERS { &self.filters } else { &self.transforms };
        let copies = self.records_from(link, seen.copies);
        let letters = self.records_from(&format!("{link}.dead-letters"), seen.letters);
        let seen = if link == FILTERS { &mut self.filters } else { &mut self.transforms };
        seen.copies += copies.len() as i64;
        seen.letters += letters.len() as i64;
        News { copies, letters }
    }

    fn records_from(&self, topic: &str, offset: i64) -> Vec<Record> {
        let Some(end) = self.client().ends("west", topic).first().copied() else { return Vec::new() };
        let mut records = Vec::new();
        let mut next = offset;
        while next < end {
            let page: Records = self.client().read(&format!(
                "/api/v1/clusters/west/topics/{topic}/records?partition=0&offset={next}&max_records=1000&max_bytes=8388608"
            ));
            records.extend(page.records);
            next = page.next_offset;
        }
        records
    }

    /// The source offset of the last record of a link, and one more.
    pub fn end(&self, link: &str) -> i64 {
        self.client().ends("east", link)[0]
    }

    /// What is wrong with what the neighbour has copied.
    pub fn fault_of_neighbour(&self) -> Option<String> {
        if let Err(stopped) = self.settle(NEIGHBOUR) {
            return Some(stopped);
        }
        let copied = self.records_from(NEIGHBOUR, 0);
        let keys = |records: &[Value]| records.iter().map(|record| record["key"].clone()).collect::<Vec<_>>();
        let copied: Vec<Value> = copied.iter().map(|record| serde_json::to_value(record).expect("JSON")).collect();
        let strip = |record: &Value| (record["key"].clone(), record["value"].clone(), record["headers"].clone());
        let same = copied.iter().map(strip).eq(self.neighbours.iter().map(strip));
        (!same).then(|| format!("the neighbour has copied {:?} of {:?}", keys(&copied), keys(&self.neighbours)))
    }

    /// The topics of the target.
    pub fn topics(&self) -> Vec<String> {
        self.client().topics("west").into_iter().map(|topic| topic.name).collect()
    }

    /// The memory that the daemon has, in bytes.
    pub fn resident_bytes(&self) -> i64 {
        let status: tidegate::api::wire::Status = self.client().read("/api/v1/status");
        let status = fs::read_to_string(format!("/proc/{}/status", status.pid)).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the memory in use");
        line.trim().trim_end_matches(" kB").parse::<i64>().expect("a number") << 10
    }
}

/// What a command printed, or its error.
fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(1) => Err(text(&output.stderr)),
        status => panic!("the command ended with {status:?}: {}", text(&output.stderr)),
    }
}
