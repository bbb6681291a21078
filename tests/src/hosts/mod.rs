//! Hosts of one service: a process each, whose wall clock the test sets as it likes. Linux only: it takes `LD_PRELOAD`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::client::{Ask, Client};

/// One process of the program `replica`, killed when it is dropped.
#[derive(Debug)]
pub struct Host {
    process: Child,
    client: Client,
    directory: TempDir,
}

impl Host {
    /// A host whose clock is off by so many seconds, on a store: `memory:` or the URL of another.
    ///
    /// # Panics
    ///
    /// If `program` cannot be started, or if there is no C compiler.
    pub async fn start(program: &'static str, store: &str, clock_off_by: i64) -> Self {
        let store = store.to_owned();
        let started = tokio::task::spawn_blocking(move || {
            let directory = tempfile::tempdir().expect("a directory");
            let library = compile(directory.path());
            set_clock(directory.path(), clock_off_by);
            let mut process = Command::new(program)
                .arg(store)
                .env("LD_PRELOAD", library)
                .env("CLOCK_SHIFT", directory.path().join("shift"))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start `{program}`: {error}"));
            let mut line = String::new();
            let output = process.stdout.take().expect("its output");
            BufReader::new(output).read_line(&mut line).expect("a line of its output");
            let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
            (process, address.unwrap_or_else(|| panic!("`{program}` does not listen: `{line}`")), directory)
        });
        let (process, address, directory) = started.await.expect("a host");
        Self { process, client: Client::new(address), directory }
    }

    /// Sets its clock, while it runs.
    pub fn set_clock(&self, off_by: i64) {
        set_clock(self.directory.path(), off_by);
    }

    /// A POST of account `acct_1`.
    pub fn post(&self, path: &str) -> Ask {
        self.client.post(path)
    }

    /// The text that it answers to a GET.
    pub async fn get(&self, path: &str) -> String {
        let reply = self.client.ask(http::Method::GET, path).send().await;
        assert_eq!(reply.status, 200, "{reply}");
        reply.text()
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.process.kill().expect("a signal");
        self.process.wait().expect("its end");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Gone already is gone as well.
        let _: std::io::Result<()> = self.process.kill();
        let _: std::io::Result<_> = self.process.wait();
    }
}

fn compile(directory: &Path) -> std::path::PathBuf {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, include_str!("clock.c")).expect("a file");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    let compiled = compiled.expect("`cc`, which this test needs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

/// Renamed into its place, so that nobody reads half of it.
fn set_clock(directory: &Path, off_by: i64) {
    let next = directory.join("shift.next");
    fs::write(&next, off_by.to_string()).expect("a file");
    fs::rename(next, directory.join("shift")).expect("a file in its place");
}
