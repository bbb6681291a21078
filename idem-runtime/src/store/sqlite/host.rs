//! The clock that all processes of a host share, and that nobody can set.
//!
//! It counts from the host's start. When that was, by the store's clock, is written into the file by the first process
//! that opens it after a start; all others go by it, whatever the wall clock says by then.

use std::{fs, time::Duration};

use crate::clock::{Clock, micros};

/// This run of the host.
#[derive(Debug)]
pub(super) struct Boot {
    /// Another one after each start.
    pub(super) id: String,
}

/// Counts from the host's start.
#[derive(Debug)]
struct SinceBoot {
    /// In microseconds since the Unix epoch.
    started_at: u64,
}

impl Boot {
    /// `None`: this system does not tell.
    pub(super) fn read() -> Option<Self> {
        if cfg!(not(target_os = "linux")) {
            return None;
        }
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { id: id.trim().to_owned() })
    }

    /// When the host started, if it is `now`, which is microseconds since the Unix epoch.
    pub(super) fn started_at(&self, now: u64) -> u64 {
        now.saturating_sub(micros(uptime()))
    }

    /// The clock of a file that has this time for the host's start.
    pub(super) fn clock(&self, started_at: u64) -> impl Clock + use<> {
        SinceBoot { started_at }
    }
}

impl Clock for SinceBoot {
    fn now(&self) -> u64 {
        self.started_at.saturating_add(micros(uptime()))
    }
}

/// How long the host is up, the time it slept included: neither `Instant` counts that, nor does `/proc/uptime` say it where a
/// container has one of its own.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(uptime).unwrap_or_default()
}

/// Nobody asks: it is not known which start of the host it is.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    Duration::ZERO
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn whoever_reads_it_when_has_the_same_time() {
        let wall = SystemClock::new().now();
        let first = Boot::read().expect("a Linux says when it started");
        let started_at = first.started_at(wall);
        let clock = first.clock(started_at);
        assert!(clock.now().abs_diff(wall) < 1_000_000, "{} {wall}", clock.now());
        std::thread::sleep(Duration::from_millis(20));
        let second = Boot::read().expect("a Linux says when it started");
        assert_eq!(first.id, second.id);
        let (before, other, after) = (clock.now(), second.clock(started_at).now(), clock.now());
        assert!((before..=after).contains(&other), "{before} {other} {after}");
    }
}
