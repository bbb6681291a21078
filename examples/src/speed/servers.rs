//! The processes that are measured: the command itself, serving one subject, and a Redis of its own.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;

use super::{Result, subject::Subject};

/// This command, serving one subject.
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
}

/// A `redis-server` on a free port that keeps nothing on disk.
pub(super) struct Redis {
    _process: Process,
    url: String,
    connection: MultiplexedConnection,
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    pub(super) async fn start(subject: Subject, redis: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve").arg(subject.argument()).arg("--redis").arg(redis);
        let mut process = Process(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
        let stdout = process.0.stdout.take().ok_or("no standard output")?;
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
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id())) else {
            return Ok(Duration::ZERO);
        };
        // Behind the name in parentheses: state is field 3, user and system time are 14 and 15, in hundredths of a second.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Redis {
    pub(super) async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--maxmemory-policy", "noeviction"]);
        let process = Process(
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

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Forgets every record and every count.
    pub(super) async fn reset(&self) -> Result<()> {
        let mut connection = self.connection.clone();
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
        Ok(redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(&mut connection).await?)
    }

    /// How many commands clients have sent since. What a script does inside the server is not a round trip.
    pub(super) async fn commands(&self) -> Result<u64> {
        let mut connection = self.connection.clone();
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await?;
        // What a script does inside the server is no round trip, though it is counted as commands too; the floor uses
        // plain commands, and nothing else does.
        let calls = |name: &str| -> Option<u64> {
            let line = stats.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(":calls=")?.split(',').next()?.parse().ok()
        };
        Ok(match calls("cmdstat_evalsha") {
            Some(scripts) => scripts,
            None => calls("cmdstat_set").unwrap_or(0),
        })
    }
}
