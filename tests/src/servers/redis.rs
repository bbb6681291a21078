//! One redis-server.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use redis::FromRedisValue;
use tempfile::TempDir;

use super::{
    ask::ask,
    eventually,
    process::{Process, Watchdog, free_port},
};

/// A redis-server without persistence, unless an argument says otherwise.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    args: Vec<String>,
    password: Option<String>,
    tls: Option<Tls>,
    directory: TempDir,
    _watchdog: Watchdog,
}

/// The certificates of a server that speaks TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The port on which it does.
    pub port: u16,
    /// The certificate authority, as PEM.
    pub authority: String,
}

/// Where a server says its number.
pub(super) const PID: &str = "pid";

const START: Duration = Duration::from_secs(20);

impl RedisServer {
    /// A server as it comes.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with arguments, such as `["--appendonly", "yes"]`.
    #[must_use]
    pub fn with(args: &[&str]) -> Self {
        Self::on(free_port(), args, None)
    }

    /// A server on this port with this password for its default user.
    #[must_use]
    pub fn on(port: u16, args: &[&str], password: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut all: Vec<String> = ["--save", "", "--bind", "127.0.0.1", "--daemonize", "no"].map(str::to_owned).into();
        all.extend(["--port".to_owned(), port.to_string()]);
        all.extend(["--pidfile".to_owned(), directory.path().join(PID).display().to_string()]);
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        if let Some(password) = password {
            all.extend(["--requirepass".to_owned(), password.to_owned()]);
        }
        let watchdog = Watchdog::over(directory.path(), PID, "KILL");
        let process = Process::start("redis-server", &all, directory.path());
        let password = password.map(str::to_owned);
        let mut server = Self { process, port, args: all, password, tls: None, directory, _watchdog: watchdog };
        server.wait_until_ready();
        server
    }

    /// A server that also speaks TLS, with a certificate for `localhost` by an authority of its own.
    #[must_use]
    pub fn with_tls() -> Self {
        let certificates = tempfile::tempdir().expect("a directory");
        let file = |name: &str| certificates.path().join(name).display().to_string();
        make_certificates(certificates.path().to_path_buf());
        let port = free_port();
        let mut server = Self::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
        ]);
        let authority = fs::read_to_string(file("ca.pem")).expect("the authority's certificate");
        server.tls = Some(Tls { port, authority });
        server
    }

    /// How it is reached, password included.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its certificates, if it speaks TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and directory.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start("redis-server", &self.args, self.directory.path());
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

    /// Runs one command and reads its reply.
    ///
    /// # Panics
    ///
    /// If the server refuses it, or answers something else than a `T`.
    pub fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command).unwrap_or_else(|error| panic!("`{}`: {error}", command.join(" ")))
    }

    /// Runs one command.
    ///
    /// # Errors
    ///
    /// Whatever the server or the way there says.
    pub fn try_run<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        ask(self.port, self.password.as_deref(), command)
    }

    /// A field of `INFO`, empty if there is none.
    #[must_use]
    pub fn info(&self, field: &str) -> String {
        let info: String = self.run(&["INFO", "everything"]);
        let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().to_owned()
    }

    /// How often each command was called since the statistics were reset, but for those that ask for them.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, u64)> {
        let info: String = self.run(&["INFO", "commandstats"]);
        info.lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                let calls = rest.split(',').next()?.parse().ok()?;
                Some((name.to_owned(), calls))
            })
            .filter(|(name, _)| !matches!(name.as_str(), "info" | "config|resetstat" | "client|setinfo"))
            .collect()
    }

    /// How often this command was called.
    #[must_use]
    pub fn count(&self, command: &str) -> u64 {
        self.calls().into_iter().find_map(|(name, calls)| (name == command).then_some(calls)).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let what = format!("redis-server on port {}", self.port);
        eventually(&what, START, || {
            assert!(
                self.process.is_running(),
                "redis-server has ended: {}",
                fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
            );
            match self.try_run::<String>(&["PING"]) {
                Ok(pong) => (pong == "PONG").then_some(()),
                // Ready to refuse is ready.
                Err(error) => matches!(error.code(), Some("NOAUTH")).then_some(()),
            }
        });
    }
}

fn make_certificates(directory: PathBuf) {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("a file");
    for args in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test-authority \
         -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ] {
        let made = Command::new("openssl").args(args.split_whitespace()).current_dir(&directory).output();
        let made = made.expect("`openssl`, which this test needs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}
