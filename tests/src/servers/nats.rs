//! One nats-server with JetStream.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    eventually,
    process::{Process, Watchdog, free_port},
};

/// A nats-server whose streams live in a directory of its own, and so outlive a restart.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    port: u16,
    args: Vec<String>,
    directory: TempDir,
    _watchdog: Watchdog,
}

/// Where the server says its number.
const PID: &str = "pid";

const START: Duration = Duration::from_secs(20);

impl NatsServer {
    /// A server that is ready.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let file = |name| directory.path().join(name).display().to_string();
        let (port_text, streams, pid) = (port.to_string(), file("streams"), file(PID));
        let args = ["-a", "127.0.0.1", "-p", &port_text, "-js", "-sd", &streams, "-P", &pid];
        let args: Vec<String> = args.map(str::to_owned).into();
        let watchdog = Watchdog::over(directory.path(), PID, "KILL");
        let process = Process::start("nats-server", &args, directory.path());
        let mut server = Self { process, port, args, directory, _watchdog: watchdog };
        server.wait_until_ready();
        server
    }

    /// How it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and directory.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start("nats-server", &self.args, self.directory.path());
        self.wait_until_ready();
    }

    /// Makes it stand still, its connections open.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    fn wait_until_ready(&mut self) {
        let what = format!("nats-server on port {}", self.port);
        eventually(&what, START, || {
            assert!(
                self.process.is_running(),
                "nats-server has ended: {}",
                fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
            );
            self.greeting().filter(|greeting| greeting.contains("\"jetstream\":true")).map(drop)
        });
    }

    /// The line with which it meets a client.
    fn greeting(&self) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let connection = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).ok()?;
        Some(line)
    }
}
