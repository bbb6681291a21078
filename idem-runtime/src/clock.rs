//! Time, as a store that lives in this process judges it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Tells the time to a store that has no server to ask.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Microseconds since the Unix epoch. Must not run back while the process lives.
    fn now(&self) -> u64;
}

/// The monotonic clock of this process, anchored at the wall clock when it was made: setting the host's clock
/// moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    anchor: Instant,
    epoch: u64,
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<AtomicU64>);

impl SystemClock {
    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn new() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros);
        Self { anchor: Instant::now(), epoch }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        self.epoch.saturating_add(micros(self.anchor.elapsed()))
    }
}

impl FakeClock {
    /// A clock at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_767_225_600_000_000)))
    }

    /// Moves every clone of this clock ahead.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(micros(by), Ordering::SeqCst);
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Microseconds, at most as many as a `u64` holds.
pub(crate) fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}
