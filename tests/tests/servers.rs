//! What tests start does not outlive them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tests::servers::{NatsServer, RedisServer, SentinelTrio, eventually};

/// Makes this binary one that starts servers, says where they are, and goes on for ever.
const HOLDS: &str = "IDEM_TEST_HOLDS_SERVERS";

/// As a time limit of CI kills it, and who has had enough of waiting.
#[test]
fn servers_and_their_files_are_gone_after_a_test_that_was_killed() {
    if let Some(directory) = env::var_os(HOLDS) {
        hold(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut test = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "servers_and_their_files_are_gone_after_a_test_that_was_killed"])
        .env(HOLDS, directory.path())
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(test.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ports: Vec<u16> = said
        .map_while(|line| (line != "ready").then_some(line))
        .filter_map(|line| line.strip_prefix("port ")?.parse().ok())
        .collect();
    // Kills it as no destructor sees.
    test.kill().unwrap();
    test.wait().unwrap();
    assert_eq!(ports.len(), 7);
    let limit = Duration::from_secs(20);
    for port in ports {
        eventually("the server is gone", limit, || is_refused(port).then_some(()));
    }
    let is_empty = || fs::read_dir(directory.path()).unwrap().next().is_none().then_some(());
    eventually("the files are gone", limit, is_empty);
}

/// One that stands still does not refuse.
fn is_refused(port: u16) -> bool {
    let connected = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(1));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn hold(directory: &Path) -> ! {
    assert_eq!(env::temp_dir(), directory);
    let (redis, nats, trio) = (RedisServer::start(), NatsServer::start(), SentinelTrio::start());
    // Stopped ones too.
    redis.pause();
    let sentinels = trio.urls();
    let sentinels = sentinels.iter().map(|url| url.rsplit(':').next().unwrap().parse().unwrap());
    let ports = [redis.port(), nats.port(), trio.master.port(), trio.replica.port()];
    let ports: String = ports.into_iter().chain(sentinels).map(|port| format!("port {port}\n")).collect();
    // What runs this has not ended its line yet.
    io::stdout().write_all(format!("\n{ports}ready\n").as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}
