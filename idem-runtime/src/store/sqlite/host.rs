//! The clock that all processes of a host share, and that nobody can set.
//!
//! It counts from the host's start. When that was, by the store's clock, is written into the file by the first process
//! that opens it after a start; all others go by it, whatever the wall clock says by then.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::clock::{Clock, micros};

/// This run of the host.
#[derive(Debug)]
pub(super) struct Boot {
    /// Another one after each start.
    pub(super) id: String,
    uptime: Uptime,
}

/// Counts from the host's start.
#[derive(Debug)]
struct SinceBoot {
    /// In microseconds since the Unix epoch.
    started_at: u64,
    /// Locked for a moment, to be set right where the host slept.
    uptime: Mutex<Uptime>,
}

/// How long the host is up, the time it slept included.
#[derive(Debug, Clone, Copy)]
struct Uptime {
    /// At `read`.
    uptime: Duration,
    read: Instant,
}

/// The system counts hundredths of a second; what is further off is a time the host slept, which [`Instant`] leaves out.
const SLEPT: Duration = Duration::from_millis(50);

impl Boot {
    /// `None`: this system does not tell.
    pub(super) fn read() -> Option<Self> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { id: id.trim().to_owned(), uptime: Uptime::read()? })
    }

    /// When the host started, if it is `now`, which is microseconds since the Unix epoch.
    pub(super) fn started_at(&self, now: u64) -> u64 {
        now.saturating_sub(micros(self.uptime.now()))
    }

    /// The clock of a file that has this time for the host's start.
    pub(super) fn clock(&self, started_at: u64) -> impl Clock + use<> {
        SinceBoot { started_at, uptime: Mutex::new(self.uptime) }
    }
}

impl Uptime {
    fn read() -> Option<Self> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self { uptime: Duration::try_from_secs_f64(seconds).ok()?, read: Instant::now() })
    }

    fn now(&self) -> Duration {
        self.uptime + self.read.elapsed()
    }
}

impl Clock for SinceBoot {
    fn now(&self) -> u64 {
        // Read outside the lock.
        let read = Uptime::read();
        let mut uptime = self.uptime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.filter(|read| read.now() > uptime.now() + SLEPT) {
            *uptime = read;
        }
        self.started_at.saturating_add(micros(uptime.now()))
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

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_that_the_host_slept_counts_for_who_was_there_before() {
        let boot = Boot::read().expect("a Linux says when it started");
        // As one that was opened before the host slept for an hour: `Instant` did not count it.
        let before = Boot { uptime: Uptime { uptime: boot.uptime.uptime.saturating_sub(HOUR), ..boot.uptime }, ..boot };
        let clock = before.clock(HOUR.as_micros() as u64);
        let after = Boot::read().expect("a Linux says when it started").clock(HOUR.as_micros() as u64);
        let (one, other) = (clock.now(), after.now());
        assert!(one.abs_diff(other) < 80_000, "{one} {other}");
        assert!(clock.now() >= one, "and goes on from there");
    }

    const HOUR: Duration = Duration::from_secs(60 * 60);
}
