//! The processes that are measured: the command itself, serving one subject, and the servers it keeps records in.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;

use super::{
    Pair, Result,
    postgres::Postgres,
    subject::{Needs, Subject},
};

/// This command, serving one subject.
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
}

/// A `redis-server` on a free port that keeps nothing on disk.
struct Redis {
    _process: Process,
    url: String,
    connection: MultiplexedConnection,
}

/// The servers that the subjects of these pairs need, and files for those that need none.
pub(super) struct Servers {
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    files: usize,
    // Last, so that it outlives the servers that write into it.
    folder: Folder,
}

/// Gone when dropped.
struct Folder(PathBuf);

/// Ended when dropped.
pub(super) struct Process {
    child: Child,
    politely: bool,
}

impl Servers {
    pub(super) async fn start(pairs: &[Pair]) -> Result<Self> {
        let needs =
            |what: fn(Needs) -> bool| pairs.iter().any(|pair| what(pair.subject.needs()) || what(pair.base.needs()));
        let folder = Folder(std::env::temp_dir().join(format!("idem-speed-{}", std::process::id())));
        fs::create_dir(&folder.0)?;
        Ok(Self {
            redis: if needs(Needs::redis) { Some(Redis::start().await?) } else { None },
            postgres: if needs(Needs::postgres) { Some(Postgres::start(&folder.0).await?) } else { None },
            files: 0,
            folder,
        })
    }

    /// Where a process that serves `subject` is to keep its records; a file is another one each time.
    pub(super) fn place(&mut self, subject: Subject) -> String {
        match subject.needs() {
            Needs::Nothing => String::new(),
            Needs::Redis => self.redis_url().to_owned(),
            Needs::Postgres => self.postgres_url().to_owned(),
            Needs::Both => format!("{} {}", self.postgres_url(), self.redis_url()),
            Needs::File => {
                self.files += 1;
                self.folder.0.join(format!("{}.db", self.files)).display().to_string()
            }
        }
    }

    fn redis_url(&self) -> &str {
        self.redis.as_ref().map_or("", |redis| &redis.url)
    }

    fn postgres_url(&self) -> &str {
        self.postgres.as_ref().map_or("", Postgres::url)
    }

    /// Redis forgets every record.
    pub(super) async fn forget(&self) -> Result<()> {
        match &self.redis {
            Some(redis) => redis.ask(&["FLUSHALL"]).await,
            None => Ok(()),
        }
    }

    pub(super) async fn reset_count(&self) -> Result<()> {
        match &self.redis {
            Some(redis) => redis.ask(&["CONFIG", "RESETSTAT"]).await,
            None => Ok(()),
        }
    }

    /// How many round trips to Redis were made since.
    pub(super) async fn round_trips(&self) -> Result<u64> {
        match &self.redis {
            Some(redis) => redis.round_trips().await,
            None => Ok(0),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Process {
    fn new(child: Child) -> Self {
        Self { child, politely: false }
    }

    /// Asked to end, and waited for.
    pub(super) fn ended_politely(child: Child) -> Self {
        Self { child, politely: true }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let asked = self.politely && Command::new("kill").args(["-INT", &id]).status().is_ok_and(|sent| sent.success());
        if !asked {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Server {
    pub(super) fn start(subject: Subject, place: &str, threads: u16) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve").arg(subject.argument()).arg("--place").arg(place);
        command.arg("--threads").arg(threads.to_string());
        let mut process = Process::new(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("`{subject}` did not start"))?;
        Ok(Self { process, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the process has used of the processors; zero where the system does not tell.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        cpu_time(Path::new(&format!("/proc/{}/stat", self.process.child.id())))
    }
}

/// What this process has used, which asks.
pub(super) fn own_cpu_time() -> Result<Duration> {
    cpu_time(Path::new("/proc/self/stat"))
}

fn cpu_time(stat: &Path) -> Result<Duration> {
    let Ok(stat) = fs::read_to_string(stat) else {
        return Ok(Duration::ZERO);
    };
    // Behind the name in parentheses: state is field 3, user and system time are 14 and 15, in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

impl Redis {
    async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--maxmemory-policy", "noeviction"]);
        let process = Process::new(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| format!("`redis-server` cannot be started ({error}); install redis-server"))?,
        );
        let url = format!("redis://127.0.0.1:{port}/");
        let client = redis::Client::open(url.as_str())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        Ok(Self { _process: process, url, connection })
    }

    async fn ask(&self, command: &[&str]) -> Result<()> {
        let mut connection = self.connection.clone();
        let (name, args) = command.split_first().ok_or("no command")?;
        Ok(redis::cmd(name).arg(args).query_async::<()>(&mut connection).await?)
    }

    /// How many round trips clients have made since. What a script does inside the server is none.
    async fn round_trips(&self) -> Result<u64> {
        let mut connection = self.connection.clone();
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
        // It is counted as commands too: every script reads its record by one `GET`, as a plain replay does; a claim without a
        // script is a `SET` and, in the same write, one `PEXPIRETIME`. The floor has only `SET`.
        let calls = |name: &str| -> Option<u64> {
            let line = stats.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(":calls=")?.split(',').next()?.parse().ok()
        };
        match (calls("cmdstat_pexpiretime"), calls("cmdstat_get")) {
            (None, None) => Ok(calls("cmdstat_set").unwrap_or(0)),
            (claims, others) => Ok(claims.unwrap_or(0) + others.unwrap_or(0)),
        }
    }
}
