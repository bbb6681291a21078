//! One PostgreSQL server, of a test's own or shared by the tests of a process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use super::{
    eventually,
    process::{Process, Watchdog, free_port},
};

/// A PostgreSQL server that writes to disk before it answers, unless a setting says otherwise.
///
/// Everybody on 127.0.0.1 is believed to be who they say they are, but for the role `secured`, which needs a password.
#[derive(Debug)]
pub struct PostgresServer {
    process: Process,
    port: u16,
    settings: Vec<String>,
    directory: TempDir,
    _watchdog: Watchdog,
}

/// A schema of its own in the shared server, gone with it.
#[derive(Debug, Clone)]
pub struct PostgresSchema {
    /// How the server is reached.
    pub url: String,
    /// What it is called.
    pub name: String,
}

/// Where a server says its number.
const PID: &str = "data/postmaster.pid";

const START: Duration = Duration::from_secs(60);

/// A server that has forgotten everything when it is killed, and is fast.
const CARELESS: [&str; 4] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=400"];

impl PostgresServer {
    /// A server as it comes.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with settings, such as `["default_transaction_isolation=serializable"]`.
    #[must_use]
    pub fn with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let copied = Command::new("cp").arg("-a").arg(template()).arg(data(&directory)).status();
        assert!(copied.is_ok_and(|status| status.success()), "cannot copy a database");
        own(directory.path());
        Self::on(directory, settings)
    }

    /// A standby of this server, which must have `wal_level=replica`, the default.
    #[must_use]
    pub fn standby(&self) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        own(directory.path());
        let target = data(&directory);
        let port = self.port.to_string();
        let backup = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-N", "-D"];
        let mut command = as_somebody(&program("pg_basebackup"));
        let made = command.args(backup).arg(&target).current_dir(directory.path()).output().expect("pg_basebackup");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        Self::on(directory, &[])
    }

    /// The server that the tests of this process share. It is not to be stopped or set up otherwise.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::with(&CARELESS))
    }

    /// A new schema in the shared server, empty.
    #[must_use]
    pub fn schema() -> PostgresSchema {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = Self::shared();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.run(&format!("CREATE SCHEMA {name}"));
        PostgresSchema { url: server.url(), name }
    }

    fn on(directory: TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        let mut all = vec![
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "shared_buffers=32MB".to_owned(),
            // Tests look for what statements wait for, by what stands in them.
            "track_activity_query_size=16kB".to_owned(),
        ];
        all.extend(settings.iter().map(|&setting| setting.to_owned()));
        let watchdog = Watchdog::over(directory.path(), PID, "QUIT");
        let process = launch(&directory, &all);
        let mut server = Self { process, port, settings: all, directory, _watchdog: watchdog };
        server.wait_until_ready();
        server
    }

    /// How it is reached, as its owner.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// How it is reached, as this role, which may have `:PASSWORD` behind it.
    #[must_use]
    pub fn url_of(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        // Stopped first, it does not see its children go, and starts no others.
        self.pause();
        self.children("KILL");
        self.process.kill();
    }

    /// Starts it again on the same port and directory.
    pub fn restart(&mut self) {
        if self.process.is_running() {
            self.kill();
        }
        self.process = launch(&self.directory, &self.settings);
        self.wait_until_ready();
    }

    /// Makes it stand still, its connections open.
    pub fn pause(&self) {
        self.process.signal("STOP");
        self.children("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.children("CONT");
        self.process.signal("CONT");
    }

    /// Runs statements, and gives back what they say: columns with `|` between them, a row on each line.
    ///
    /// # Panics
    ///
    /// If the server refuses them.
    pub fn run(&self, statements: &str) -> String {
        self.try_run(statements).unwrap_or_else(|error| panic!("`{statements}`: {error}"))
    }

    /// Runs statements.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub fn try_run(&self, statements: &str) -> Result<String, String> {
        psql(&self.url(), statements)
    }

    fn children(&self, signal: &str) {
        // Without any there is nothing to signal.
        let _ = Command::new("pkill").args([&format!("-{signal}"), "-P", &self.process.id().to_string()]).status();
    }

    fn wait_until_ready(&mut self) {
        let what = format!("a PostgreSQL server on port {}", self.port);
        eventually(&what, START, || {
            if !self.process.is_running() {
                let log = self.log();
                // What is left of a server that was killed may take a moment to go.
                assert!(log.contains("is still in use") || log.contains("lock file"), "the server has ended: {log}");
                self.process = launch(&self.directory, &self.settings);
            }
            self.try_run("SELECT 1").ok()
        });
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.process.is_running() {
            self.kill();
        }
    }
}

fn launch(directory: &TempDir, settings: &[String]) -> Process {
    let mut command = as_somebody(&program("postgres"));
    command.arg("-D").arg(data(directory));
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    Process::spawn(command, directory.path())
}

fn psql(url: &str, statements: &str) -> Result<String, String> {
    let output = Command::new(program("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements])
        .arg(format!("{url}?connect_timeout=5"))
        .output()
        .expect("psql");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A database that was never started, made once.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(TempDir, Watchdog)> = OnceLock::new();
    let (directory, _) = TEMPLATE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        own(directory.path());
        let watchdog = Watchdog::over(directory.path(), PID, "QUIT");
        let args =
            ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", "-D"];
        let mut command = as_somebody(&program("initdb"));
        let made = command.args(args).arg(data(&directory)).current_dir(directory.path()).output();
        let made = made.expect("`initdb`, which this test needs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let access = data(&directory).join("pg_hba.conf");
        let rules = fs::read_to_string(&access).expect("the access list");
        fs::write(&access, format!("host all secured 127.0.0.1/32 scram-sha-256\n{rules}")).expect("the access list");
        (directory, watchdog)
    });
    Box::leak(data(directory).into_boxed_path())
}

fn data(directory: &TempDir) -> PathBuf {
    directory.path().join("data")
}

/// A command that is not run as root, as whom PostgreSQL refuses to work.
fn as_somebody(program: &Path) -> Command {
    let Some(user) = somebody() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

/// Gives a directory, and what is in it, to whom servers are run as.
fn own(directory: &Path) {
    if let Some(user) = somebody() {
        let owned = Command::new("chown").args(["-R", user]).arg(directory).status();
        assert!(owned.is_ok_and(|status| status.success()), "cannot give away {}", directory.display());
    }
}

/// The number of a user to run servers as; `None`: this one.
fn somebody() -> Option<&'static str> {
    static SOMEBODY: OnceLock<Option<String>> = OnceLock::new();
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let found = SOMEBODY.get_or_init(|| {
        let root = id(&["-u"])? == "0";
        root.then(|| id(&["-u", "postgres"]).or_else(|| id(&["-u", "nobody"])).expect("a user to run a server as"))
    });
    found.as_deref()
}

/// The newest program of this name that Debian's packages bring, or that of the `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| version.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin").join(name).exists())
        .max();
    match newest {
        Some(version) => Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin").join(name),
        None => PathBuf::from(name),
    }
}

/// A PgBouncer in front of a server, which gives each transaction one of three connections.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: u16,
    _directory: TempDir,
    _watchdog: Watchdog,
}

impl PgBouncer {
    /// One in front of this server.
    #[must_use]
    pub fn start(server: &PostgresServer) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n\
             pidfile = {}\n",
            server.port(),
            directory.path().join("pid").display(),
        );
        fs::write(directory.path().join("pgbouncer.ini"), settings).expect("its settings");
        own(directory.path());
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let mut command = as_somebody(Path::new(program.unwrap_or("pgbouncer")));
        command.arg("pgbouncer.ini");
        let watchdog = Watchdog::over(directory.path(), "pid", "QUIT");
        let mut process = Process::spawn(command, directory.path());
        let log = directory.path().join("server.log");
        eventually("a PgBouncer", START, || {
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(process.is_running(), "PgBouncer has ended: {}", log());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { _process: process, port, _directory: directory, _watchdog: watchdog }
    }

    /// How the server is reached through it, as its owner.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The time-outs for locks and statements that the next client finds, a line each.
    #[must_use]
    pub fn settings(&self) -> String {
        psql(&self.url(), "SHOW lock_timeout; SHOW statement_timeout").expect("the settings")
    }
}
