//! One broker and controller: a Java process that can be stopped, killed, paused and started again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{Jars, Proxy, Result, port, process, wire};

/// How long a broker may take to start or to stop. Only what is broken ever takes this long.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a broker is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of the log is shown when a broker does not start, in lines.
const LOG_LINES_SHOWN: usize = 12;
/// How much of a line, in characters: a broker says its whole state in each line of an election.
const LOG_LINE_SHOWN: usize = 160;

/// One broker, which is a controller too. It ends when this is dropped.
#[derive(Debug)]
pub struct Broker {
    node: i32,
    ports: Ports,
    /// Where it listens beside that, by name.
    listeners: BTreeMap<String, u16>,
    /// In front of a listener of its own, if the cluster has proxies.
    proxy: Option<Proxy>,
    /// Holds `data`, the configuration and the log.
    dir: PathBuf,
    jars: Jars,
    java_options: Vec<String>,
    /// None while the broker is down.
    process: Option<Child>,
}

/// Where a broker listens on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
struct Ports {
    /// For clients: settings may ask for TLS and passwords here.
    client: u16,
    /// For the other brokers, and to see that this one answers: always in the clear.
    internal: u16,
    controller: u16,
    /// For the proxy; nobody listens if there is none.
    proxied: u16,
}

impl Broker {
    /// A broker that has ports but neither storage nor a process yet.
    pub(crate) fn plan(
        node: i32,
        dir: PathBuf,
        jars: Jars,
        java_options: Vec<String>,
        listeners: &[String],
    ) -> Result<Self> {
        let listeners = listeners.iter().map(|name| Ok((name.clone(), port::free()?))).collect::<Result<_>>()?;
        let [client, internal, controller, proxied] = [port::free()?, port::free()?, port::free()?, port::free()?];
        let ports = Ports { client, internal, controller, proxied };
        Ok(Self { node, ports, listeners, proxy: None, dir, jars, java_options, process: None })
    }

    /// Put a proxy in front of a listener of its own.
    pub(crate) fn plan_proxy(&mut self) -> Result<()> {
        self.proxy = Some(Proxy::start((Ipv4Addr::LOCALHOST, self.ports.proxied).into())?);
        Ok(())
    }

    /// The proxy of this broker. None: the cluster was not started with [`crate::Options::proxied`].
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The number of the broker in its cluster, from 1.
    pub fn node(&self) -> i32 {
        self.node
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.client).into()
    }

    /// Where a listener of [`crate::Options::listeners`] is.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).map(|port| (Ipv4Addr::LOCALHOST, *port).into())
    }

    /// Where the other brokers connect.
    pub(crate) fn internal_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.internal).into()
    }

    /// The process; none while the broker is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// This broker in the list of controllers.
    pub(crate) fn voter(&self) -> String {
        format!("{}@127.0.0.1:{}", self.node, self.ports.controller)
    }

    /// Write the configuration: what is this broker's own, and then the lines of its cluster.
    pub(crate) fn configure(&self, of_the_cluster: &str) -> Result<()> {
        let Self { node, ports: Ports { client, internal, controller, proxied }, .. } = self;
        let data = self.dir.join("data");
        let more = self.listeners.iter().map(|(name, port)| format!(",{name}://127.0.0.1:{port}")).collect::<String>();
        let always = format!("CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}{more}");
        let (listener, advertised) = self.proxy.as_ref().map_or_else(Default::default, |proxy| {
            (format!(",PROXIED://127.0.0.1:{proxied}"), format!(",PROXIED://{}", proxy.address()))
        });
        let text = format!(
            "process.roles=broker,controller\n\
             node.id={node}\n\
             broker.rack=rack-{node}\n\
             log.dirs={}\n\
             listeners={always},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             advertised.listeners={always}{advertised}\n\
             {of_the_cluster}",
            data.display()
        );
        fs::create_dir_all(&data).and_then(|()| fs::write(self.configuration(), text)).map_err(|error| self.says(error))
    }

    /// Start to make the storage.
    pub(crate) fn format(&mut self, arguments: &[String]) -> Result<()> {
        let mut command = self.jars.java("kafka.tools.StorageTool", &[]);
        command.arg("format").arg("--config").arg(self.configuration()).args(arguments);
        self.run(command)
    }

    /// Wait until the storage has been made.
    pub(crate) fn await_formatted(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Err(self.says("it was not being formatted")) };
        let status = process.wait().map_err(|error| self.says(error))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.says(format!("its storage cannot be formatted: {}", self.log())))
        }
    }

    /// Start the process of a broker that is down, and do not wait.
    pub(crate) fn launch(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Err(self.says("it runs already"));
        }
        let mut command = self.jars.java("kafka.Kafka", &self.java_options);
        command.arg(self.configuration());
        self.run(command)
    }

    /// Start a broker that was stopped or killed, on the same ports and with its data, and wait until it serves.
    ///
    /// Errors: it runs already, or it ends or does not answer within 90 s.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.await_serving(&[self.node])
    }

    /// Wait until the broker answers and knows all these brokers to be alive.
    pub(crate) fn await_serving(&mut self, nodes: &[i32]) -> Result<()> {
        let begun = Instant::now();
        let internal = self.internal_address();
        let knows_all =
            || wire::living_brokers(internal).is_ok_and(|living| nodes.iter().all(|node| living.contains(node)));
        // A broker opens its listeners one after the other.
        let listens = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
        while !(knows_all() && listens(&self.ports.client) && self.listeners.values().all(listens)) {
            if self.has_ended()? {
                return Err(self.says(format!("it ended while it started: {}", self.log())));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.says(format!("it does not serve after {PATIENCE:?}: {}", self.log())));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Stop the broker in order, and wait until it is down: it hands its leaderships over first.
    ///
    /// Errors: it is down already, or it does not end within 90 s.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        while !self.has_ended()? {
            if begun.elapsed() > PATIENCE {
                return Err(self.says(format!("it does not stop within {PATIENCE:?}; kill it: {}", self.log())));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Kill the broker as `kill -9` does, and wait until it is gone. One that is down stays down.
    ///
    /// Errors: the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill().and_then(|()| process.wait()).map_err(|error| self.says(error))?;
        Ok(())
    }

    /// Stop the process where it is, with its connections open, until [`Broker::resume`].
    ///
    /// Errors: the broker is down.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Let a paused process go on.
    ///
    /// Errors: the broker is down.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().ok_or_else(|| self.says("it is down; start it first"))?;
        process::signal(process, signal).map_err(|error| self.says(error))
    }

    fn has_ended(&mut self) -> Result<bool> {
        let Some(process) = &mut self.process else { return Ok(true) };
        let ended = process.try_wait().map_err(|error| format!("broker {}: {error}", self.node))?.is_some();
        if ended {
            self.process = None;
        }
        Ok(ended)
    }

    /// Run a command as the process of this broker; what it says goes to the end of the log.
    fn run(&mut self, mut command: Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file()).map_err(|error| self.says(error))?;
        let also = log.try_clone().map_err(|error| self.says(error))?;
        command.current_dir(&self.dir).stdout(log).stderr(also);
        self.process = Some(process::start(command).map_err(|error| self.says(error))?);
        Ok(())
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The last lines of the log, each without what is beyond a screen's width.
    fn log(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(LOG_LINE_SHOWN).collect()).collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn says(&self, what: impl std::fmt::Display) -> String {
        format!("broker {}: {what}", self.node)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("broker {} has said last:\n{}", self.node, self.log());
        }
        // An owner that goes cannot do more; the system ends the process with this one.
        let _gone = self.kill();
    }
}
