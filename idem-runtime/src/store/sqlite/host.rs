//! The clock that all processes of a host share, and that nobody can set.
//!
//! It counts from the host's start. When that was, by the store's clock, is written into the file by the first process
//! that opens it after a start; all others go by it, whatever the wall clock says by then.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::clock::{Clock, micros};

/// This run of the host.
#[derive(Debug)]
pub(super) struct Boot {
    /// Another one after each start.
    pub(super) id: String,
    /// Read at `read`.
    uptime: Duration,
    read: Instant,
}

/// Counts from the host's start.
#[derive(Debug)]
struct SinceBoot {
    /// At `read`, in microseconds since the Unix epoch.
    time: u64,
    read: Instant,
}

impl Boot {
    /// `None`: this system does not tell.
    pub(super) fn read() -> Option<Self> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
        let uptime = Duration::try_from_secs_f64(seconds).ok()?;
        Some(Self { id: id.trim().to_owned(), uptime, read: Instant::now() })
    }

    /// When the host started, if it is `now`, which is microseconds since the Unix epoch.
    pub(super) fn started_at(&self, now: u64) -> u64 {
        now.saturating_sub(micros(self.uptime + self.read.elapsed()))
    }

    /// The clock of a file that has this time for the host's start.
    pub(super) fn clock(&self, started_at: u64) -> impl Clock + use<> {
        SinceBoot { time: started_at.saturating_add(micros(self.uptime)), read: self.read }
    }
}

impl Clock for SinceBoot {
    fn now(&self) -> u64 {
        self.time.saturating_add(micros(self.read.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    #[cfg(target_os = "linux")]
    fn whoever_reads_it_when_has_the_same_time() {
        let wall = SystemClock::new().now();
        let first = Boot::read().expect("a Linux says when it started");
        let started_at = first.started_at(wall);
        let clock = first.clock(started_at);
        assert!(clock.now().abs_diff(wall) < 1_000_000, "{} {wall}", clock.now());
        std::thread::sleep(Duration::from_millis(60));
        let second = Boot::read().expect("a Linux says when it started");
        assert_eq!(first.id, second.id);
        let (one, other) = (clock.now(), second.clock(started_at).now());
        // The system counts hundredths of a second.
        assert!(one.abs_diff(other) < 30_000, "{one} {other}");
    }
}
