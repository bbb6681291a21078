//! A child process that a test can stop, continue and kill, and that does not outlive it.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts `program` in `directory`, its output in `server.log` there.
    pub(super) fn start(program: &str, args: &[String], directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::spawn(command, directory)
    }

    /// Starts a command in `directory`, its output in `server.log` there.
    pub(super) fn spawn(mut command: Command, directory: &Path) -> Self {
        let log = File::create(directory.join("server.log")).expect("a log file");
        let errors = log.try_clone().expect("a second handle of the log file");
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{program}`, which these tests need: {error}"));
        Self(child)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Sends a signal by its name, without `SIG`.
    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send {name}");
    }

    /// SIGKILL, also to a stopped process.
    pub(super) fn kill(&mut self) {
        // Gone already is gone as well.
        let _: std::io::Result<()> = self.0.kill();
        let _: std::io::Result<_> = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends a server and its files when this process is gone, however it went: its input is then at its end.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Over the server in `directory` whose number is in the first line of `file` there, and which ends at once by `signal`. One started
    /// in the background of a shell inherits that it ignores `QUIT`, unless it handles that itself.
    pub(super) fn over(directory: &Path, file: &str, signal: &str) -> Self {
        const SCRIPT: &str = r#"read -r _
pid=$(head -n 1 "$0/$1") && kill -s "$2" "$pid" && kill -CONT "$pid" && pkill -CONT -P "$pid"
# One that still ends may still write.
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" || break; sleep 0.1; done
rm -rf "$0""#;
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).arg(directory).arg(file).arg(signal).stdin(Stdio::piped());
        Self(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 10_240;
    const PORTS: u32 = 20_480;
    loop {
        // Test binaries run at once: each begins somewhere else.
        let offset = std::process::id().wrapping_mul(397) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + offset % PORTS).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
