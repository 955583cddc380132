//! Starts the real daemon and talks to it the way its users do: over the REST API, the command line and signals.

#[path = "contract.rs"]
mod contract;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::api::wire;
use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderValue, Request};
use ureq::middleware::MiddlewareNext;
use ureq::tls::TlsConfig;

/// How long anything may take before the test gives up. Only what is broken ever takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a state is looked at while a test waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where the daemon's link stands in its API.
pub const LINKS: &str = "/api/v1/replication/links";

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub headers: HeaderMap,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A client of one daemon. It outlives the daemon's process.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    pub url: String,
}

impl Client {
    pub fn new(port: u16) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Self { agent: config.build().into(), url: format!("http://127.0.0.1:{port}") }
    }

    /// The same for a daemon that wants to know who asks, or that speaks TLS.
    pub fn known(port: u16, token: Option<&str>, tls: Option<TlsConfig>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        // A connection that the daemon ends after what was no request must not be used for the next one.
        let config = config.max_idle_connections(0);
        let config = config.tls_config(tls.unwrap_or_default());
        let value = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")).expect("a token"));
        let say = move |mut request: Request<SendBody>, next: MiddlewareNext| {
            if let Some(value) = &value {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            next.handle(request)
        };
        Self { agent: config.middleware(say).build().into(), url: format!("{scheme}://localhost:{port}") }
    }

    /// Errors: nobody answers.
    pub fn get(&self, path: &str) -> Result<Answer, ureq::Error> {
        read("GET", path, self.agent.get(format!("{}{path}", self.url)).call()?)
    }

    /// Errors: nobody answers. Then nothing is known of what the daemon did.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Result<Answer, ureq::Error> {
        read("POST", path, self.agent.post(format!("{}{path}", self.url)).send(body.as_ref())?)
    }

    /// Errors: nobody answers.
    pub fn delete(&self, path: &str) -> Result<Answer, ureq::Error> {
        read("DELETE", path, self.agent.delete(format!("{}{path}", self.url)).call()?)
    }

    /// Any request to a daemon that is known to run. `version` goes into `If-Match`.
    pub fn send(&self, method: &str, path: &str, version: Option<&str>, body: &str) -> Answer {
        self.try_send(method, path, version, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Errors: nobody answers. Then nothing is known of what the daemon did.
    pub fn try_send(&self, method: &str, path: &str, version: Option<&str>, body: &str) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(version) = version {
            request = request.header("If-Match", version);
        }
        let request = request.body(body.to_owned()).expect("a request");
        read(method, path, self.agent.run(request)?)
    }

    /// What a daemon answers that is known to run.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.get(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body))
    }

    pub fn link(&self, link: &str) -> wire::Link {
        self.read(&format!("{LINKS}/{link}"))
    }

    pub fn revisions(&self, link: &str) -> Vec<wire::Revision> {
        self.read(&format!("{LINKS}/{link}/revisions"))
    }

    /// The partitions' ends by number; none if there is no such topic.
    pub fn ends(&self, cluster: &str, topic: &str) -> Vec<i64> {
        let path = format!("/api/v1/clusters/{cluster}/topics/{topic}");
        let answer = self.get(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        if answer.status == 404 {
            return Vec::new();
        }
        let topic: wire::Topic = serde_json::from_str(&answer.body).expect("a topic");
        topic.partitions.iter().map(|partition| partition.end).collect()
    }

    pub fn topics(&self, cluster: &str) -> Vec<wire::TopicSummary> {
        self.read(&format!("/api/v1/clusters/{cluster}/topics"))
    }

    /// All records of a partition, in order.
    pub fn records(&self, cluster: &str, topic: &str, partition: u32) -> Vec<wire::Record> {
        let mut records = Vec::new();
        let mut next = 0;
        loop {
            let page: wire::Records = self.read(&format!(
                "/api/v1/clusters/{cluster}/topics/{topic}/records?partition={partition}&offset={next}&max_records=10000&max_bytes=8388608"
            ));
            records.extend(page.records);
            next = page.next_offset;
            if next >= page.end {
                return records;
            }
        }
    }

    /// Append records, each a JSON object, to a topic of a daemon that is known to run.
    pub fn produce(&self, cluster: &str, topic: &str, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        let path = format!("/api/v1/clusters/{cluster}/topics/{topic}/records");
        let answer = self.post(&path, lines.join("\n")).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Whether the daemon runs and its links have been started.
    pub fn is_ready(&self) -> bool {
        self.get("/api/v1/readyz").is_ok_and(|answer| answer.status == 200)
    }

    /// Whether every partition of the source topics was copied to its end and committed.
    pub fn is_caught_up(&self, link: &str) -> bool {
        let link = self.link(link);
        assert_ne!(link.status, wire::LinkStatus::Failed, "{:?}", link.error);
        let ends: BTreeMap<&str, Vec<i64>> =
            link.topics.iter().map(|topic| (topic.as_str(), self.ends(&link.source, topic))).collect();
        let done = link.lanes.iter().flat_map(|lane| &lane.partitions).filter(|partition| {
            ends[partition.topic.as_str()].get(partition.partition as usize) == partition.target_offset.as_ref()
        });
        done.count() == ends.values().map(Vec::len).sum::<usize>()
    }

    pub fn await_caught_up(&self, link: &str) {
        wait_until(&format!("{link} has copied everything"), || self.is_caught_up(link));
    }
}

/// Whatever is answered must be what the description of the API says of it.
fn read(method: &str, path: &str, mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let body = response.body_mut().with_config().limit(256 << 20).read_to_string()?;
    let answer = Answer { status: response.status().as_u16(), body, headers: response.headers().clone() };
    let media_type = answer.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().expect("a media type"));
    let path = path.split('?').next().unwrap_or_default();
    contract::check(method, path, answer.status, media_type, &answer.body);
    Ok(answer)
}

/// Look at something until it holds.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    assert!(comes_true(PATIENCE, holds), "this did not come true within {PATIENCE:?}: {what}");
}

/// Look at something until it holds, or for so long. Whether it does.
pub fn comes_true(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() >= within {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}

/// A directory with a configuration, and a port of its own.
pub struct Site {
    dir: TempDir,
    pub port: u16,
    pub client: Client,
}

impl Site {
    /// `clusters_and_links` is what follows `[daemon]`; in it `PLUGINS` stands for the directory of the built plugins.
    pub fn new(clusters_and_links: &str) -> Self {
        let port = free_port();
        let site = Self { dir: tempfile::tempdir().expect("a directory"), port, client: Client::new(port) };
        site.configure(clusters_and_links);
        site
    }

    /// Write the configuration anew.
    pub fn configure(&self, clusters_and_links: &str) {
        let daemon = format!("[daemon]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{}\"\n", self.port);
        self.write_config(&(daemon + clusters_and_links));
    }

    /// Write the whole configuration, `[daemon]` included.
    pub fn write_config(&self, text: &str) {
        let plugins = plugin_dir().display().to_string();
        fs::write(self.config(), text.replace("PLUGINS", &plugins)).expect("the configuration");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("tidegate.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Start the daemon without waiting for it.
    pub fn spawn(&self) -> Daemon {
        self.spawn_with(self.command())
    }

    /// The command that runs the daemon here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config()).env("TIDEGATE_LOG", "warn,tidegate::link=info");
        command
    }

    pub fn spawn_with(&self, mut command: Command) -> Daemon {
        // A file and no pipe: nobody has to read it for the daemon to go on.
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("the log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the daemon starts");
        Daemon { child, log: self.log() }
    }

    /// Start the daemon and wait until it is ready.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        self.await_ready(&mut daemon);
        daemon
    }

    pub fn await_ready(&self, daemon: &mut Daemon) {
        wait_until("the daemon is ready", || {
            if let Some(status) = daemon.child.try_wait().expect("a child") {
                panic!("the daemon ended with {status}: {}", daemon.stderr());
            }
            self.client.is_ready()
        });
    }

    /// Run the daemon where it cannot start: how it ends and what it says.
    pub fn run_to_end(&self) -> (ExitStatus, String) {
        let _ = fs::remove_file(self.log());
        let mut daemon = self.spawn();
        let status = daemon.await_end();
        (status, daemon.stderr())
    }

    fn log(&self) -> PathBuf {
        self.path("stderr")
    }

    /// Run another command of the binary against this daemon.
    pub fn cli(&self, words: &[&str]) -> Output {
        let output = Command::new(binary()).args(words).env("TIDEGATE_URL", &self.client.url).output();
        output.expect("the command runs")
    }

    /// What a command with `--json` prints; it must be done.
    pub fn cli_json<T: DeserializeOwned>(&self, words: &[&str]) -> T {
        let output = self.cli(&[words, &["--json"]].concat());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"))
    }
}

/// A running daemon. It is killed when the test ends.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// SIGKILL: it cannot finish anything.
    pub fn kill(mut self) {
        self.child.kill().expect("a child to kill");
        self.child.wait().expect("a killed child");
    }

    /// SIGTERM, and wait: it must finish what it has begun and end well.
    pub fn terminate(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.await_end();
        assert!(status.success(), "the daemon ended with {status}: {}", self.stderr());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Send a signal, such as SIGSTOP.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a child that lives");
    }

    pub fn await_end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _it_may_have_ended = self.child.kill();
        let _it_may_have_ended = self.child.wait();
    }
}

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidegate"))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Below the ports that the system gives to connections (`ip_local_port_range`): a daemon that is
    // started again finds its port free.
    const PORTS: std::ops::Range<u32> = 20_000..32_000;
    loop {
        let number = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (PORTS.start + number % PORTS.len() as u32) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn plugin_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/plugins")
}

/// The component of a plugin, which is as new as the sources of all plugins.
pub fn plugin(name: &str) -> PathBuf {
    static CHANGED: LazyLock<SystemTime> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dirs = ["plugins", "wit", "tests/plugins", "benches/byte-filter", "benches/state-filter"];
        let dirs = dirs.map(|dir| last_change(&root.join(dir)));
        dirs.into_iter().max().expect("a directory")
    });
    let file = plugin_dir().join(format!("{name}.wasm"));
    let built = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let is_new = built.is_some_and(|built| built >= *CHANGED);
    assert!(is_new, "{} is missing or older than its sources: run `cargo xtask plugins` first", file.display());
    file
}

/// When the last of the sources in a directory was changed.
fn last_change(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let changes = entries.filter_map(|entry| {
        let path = entry.path();
        let is_source =
            path.extension().is_some_and(|extension| ["rs", "toml", "wit"].iter().any(|is| extension == *is));
        let modified = || entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        if path.is_dir() { Some(last_change(&path)) } else { is_source.then(modified) }
    });
    changes.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

pub fn plugin_bytes(name: &str) -> Vec<u8> {
    fs::read(plugin(name)).expect("the component")
}

/// A text for a URL.
pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Numbers that follow from a seed (xorshift64*), so that a failure can be made again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
