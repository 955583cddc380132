//! `cargo xtask demo`: a million records from one embedded cluster to another through two plugins; one of them is replaced
//! while they flow, the daemon is killed and started again, and then every record is compared.

mod check;
mod client;
mod records;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::plugins::{self, Result};
use check::Checked;
use client::Client;
use records::{PARTITIONS, RECORDS};

/// The first line of the demo's configuration: what starts otherwise is not the demo's to replace.
const MARKER: &str = "# Written by `cargo xtask demo`, and by nobody else: it is written anew each time.";

/// Where the swap and the kill come, in records that are over.
const SWAP_AT: u64 = RECORDS / 4;
const KILL_AT: u64 = RECORDS * 6 / 10;

/// Longer than this nothing in the demo takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the scene showed.
struct Scene {
    seconds: f64,
    swap_pause: Duration,
    progress_after_kill: Duration,
    killed_at: u64,
}

/// Run the demo in the current directory.
pub(crate) fn run() -> Result<()> {
    let root = crate::root();
    let config = root.join("tidegate.toml");
    let data = root.join("tidegate-data");
    step("building the daemon and the plugins");
    crate::cargo(&["build", "--release", "--bin", "tidegate"])?;
    plugins::build(&["json-filter".to_owned(), "redact".to_owned()], &root.join("target/plugins"))?;
    let client = Client::new(free_port()?);
    prepare(&config, &data, client.port())?;

    let mut daemon = Daemon::start(&root, &config, &client)?;
    fill(&client)?;
    let scene = play(&root, &config, &client, &mut daemon)?;
    step("comparing every record of the source with the target");
    let checked = check::check(&client, &bar(RECORDS, "compared"))?;
    daemon.terminate()?;
    // What the person starts next listens where the README says.
    write_config(&config, 8081)?;
    report(&scene, &checked);
    if checked.faults.is_empty() { Ok(()) } else { Err("the check FAILED".to_owned()) }
}

fn step(text: &str) {
    eprintln!("\n» {text}");
}

/// A line above the bar; also where there is no terminal to draw a bar on.
fn say(bar: &ProgressBar, text: &str) {
    bar.suspend(|| eprintln!("{text}"));
}

fn bar(len: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:40.cyan} {human_pos:>9} of {human_len} {msg}  {per_sec}");
    let bar = ProgressBar::new(len).with_message(what.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("no port: {error}"))
}

fn prepare(config: &Path, data: &Path, port: u16) -> Result<()> {
    if config.exists() {
        let text = fs::read_to_string(config).map_err(|error| format!("{}: {error}", config.display()))?;
        if !text.starts_with(MARKER) {
            return Err(format!("{} is not the demo's: move it away first", config.display()));
        }
        if data.exists() {
            fs::remove_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        }
    } else if data.exists() {
        return Err(format!("{} is not the demo's: move it away first", data.display()));
    }
    write_config(config, port)
}

fn write_config(path: &Path, port: u16) -> Result<()> {
    let text = format!(
        r#"{MARKER}
[daemon]
data_dir = "./tidegate-data"
listen   = "127.0.0.1:{port}"

[clusters.east]
kind = "embedded"

[clusters.west]
kind = "embedded"

[links.orders]
name   = "East to West"
source = "east"
target = "west"
topics = ["orders"]
lanes  = 2
autostart = false

[[links.orders.pipeline]]
stage  = "only-large"
plugin = "target/plugins/json-filter.wasm"
config = {{ pointer = "/amount", at_least = 100 }}

[[links.orders.pipeline]]
stage  = "mask-cards"
plugin = "target/plugins/redact.wasm"
config = {{ pointers = ["/card"], keep_last = 4 }}
"#
    );
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Write the source's records.
fn fill(client: &Client) -> Result<()> {
    step(&format!("writing {RECORDS} records to topic orders of cluster east"));
    client.post("/clusters/east/topics", &json!({"name": "orders", "partitions": PARTITIONS}))?;
    let bar = bar(RECORDS, "written");
    for chunk in records::chunks() {
        client.post_lines("/clusters/east/topics/orders/records", &chunk.lines)?;
        bar.inc(chunk.records);
    }
    bar.finish();
    Ok(())
}

/// Let them flow, swap, kill, start again, and wait until all are over.
fn play(root: &Path, config: &Path, client: &Client, daemon: &mut Daemon) -> Result<Scene> {
    step("starting the link: east → only-large → mask-cards → west");
    let bar = bar(RECORDS, "over");
    let begun = Instant::now();
    client.post("/replication/links/orders/start", &json!(null))?;
    wait_for_progress(client, &bar, SWAP_AT)?;

    let component = fs::read(root.join("target/plugins/redact.wasm")).map_err(|error| error.to_string())?;
    let swapped =
        client.publish("orders", "mask-cards", &component, &json!({"pointers": ["/card"], "keep_last": 0}))?;
    let pause = Duration::from_micros(swapped["swap_pause_us_max"].as_u64().unwrap_or_default());
    say(&bar, &format!("  swapped mask-cards while records flow: revision {}, pause {pause:?}", swapped["revision"]));
    wait_for_progress(client, &bar, KILL_AT)?;

    let before = client.progress()?;
    daemon.kill()?;
    let killed = Instant::now();
    say(&bar, &format!("  kill -9 after {before} records; starting again"));
    *daemon = Daemon::start(root, config, client)?;
    wait_for_progress(client, &bar, before + 1)?;
    let progress_after_kill = killed.elapsed();
    say(&bar, &format!("  first new record {progress_after_kill:.0?} after the kill"));
    wait_for_progress(client, &bar, RECORDS)?;
    bar.finish();
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Scene { seconds, swap_pause: pause, progress_after_kill, killed_at: before })
}

fn wait_for_progress(client: &Client, bar: &ProgressBar, wanted: u64) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let progress = client.progress()?;
        bar.set_position(progress);
        if progress >= wanted {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(format!("no progress within {PATIENCE:?}: see tidegate-data/demo.log"))
}

fn report(scene: &Scene, checked: &Checked) {
    let rate = RECORDS as f64 / scene.seconds;
    eprintln!("\n  records in                 {RECORDS:>12}");
    eprintln!("  filtered                   {:>12}", checked.filtered);
    eprintln!("  transformed                {:>12}", checked.transformed);
    eprintln!("  out                        {:>12}", checked.out);
    eprintln!("  records per second         {rate:>12.0}   from start to end, the kill included");
    eprintln!("  longest pause of the swap  {:>12}", format!("{:.1?}", scene.swap_pause));
    eprintln!("  kill to first new record   {:>12}", format!("{:.0?}", scene.progress_after_kill));
    eprintln!("  killed after               {:>12}", scene.killed_at);
    for line in &checked.revisions {
        eprintln!("  {line}");
    }
    if checked.faults.is_empty() {
        eprintln!(
            "  check                      every record exactly once, in order, under the revision of the history"
        );
        eprintln!("\nThe data is still there. Try:");
        eprintln!("  target/release/tidegate run                                   (in another terminal)");
        eprintln!("  target/release/tidegate link show orders");
        eprintln!("  target/release/tidegate plugin history orders");
        eprintln!("  target/release/tidegate consume west orders --max 3 --json");
        eprintln!("  target/release/tidegate plugin rollback orders");
    } else {
        eprintln!("  check                      FAILED");
        checked.faults.iter().for_each(|fault| eprintln!("    {fault}"));
    }
}

/// A daemon of the demo. It dies with the demo.
struct Daemon(Child);

impl Daemon {
    fn start(root: &Path, config: &Path, client: &Client) -> Result<Self> {
        let log: PathBuf = root.join("tidegate-data/demo.log");
        fs::create_dir_all(root.join("tidegate-data")).map_err(|error| error.to_string())?;
        let log = fs::OpenOptions::new().create(true).append(true).open(log).map_err(|error| error.to_string())?;
        let child = Command::new(root.join("target/release/tidegate"))
            .args([Path::new("run"), Path::new("--config"), config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("tidegate run: {error}"))?;
        let mut daemon = Self(child);
        let until = Instant::now() + PATIENCE;
        while !client.is_ready() {
            if let Ok(Some(status)) = daemon.0.try_wait() {
                return Err(format!("tidegate run ended with {status}: see tidegate-data/demo.log"));
            }
            if Instant::now() > until {
                return Err("tidegate run does not become ready: see tidegate-data/demo.log".to_owned());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    /// Kill -9.
    fn kill(&mut self) -> Result<()> {
        self.0.kill().and_then(|()| self.0.wait()).map(|_| ()).map_err(|error| error.to_string())
    }

    /// End in order, as SIGTERM does.
    fn terminate(mut self) -> Result<()> {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map_err(|error| format!("kill: {error}"))?;
        let status = self.0.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
