//! What happened, on the way and in the end.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

/// What a run came to.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// How many events there were.
    pub(super) events: u64,
    /// Messages that the broker confirmed: each event twice.
    pub(super) published: u64,
    /// How often a message was handed to a worker.
    pub(super) delivered: u64,
    /// Deliveries of an event that had taken effect before.
    pub(super) duplicates: u64,
    /// Deliveries of a message that had been delivered before.
    pub(super) redeliveries: u64,
    /// Events that wait for an operator.
    pub(super) parked: u64,
    /// Rows, or lines.
    pub(super) effects: u64,
    /// Events that have at least one of them.
    pub(super) events_with_effect: u64,
    /// Workers that were killed, here or by somebody else, and replaced.
    pub(super) kills: u64,
    pub(super) seconds: f64,
    /// Where each effect is a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ledger: Option<PathBuf>,
    /// The counts that are exact. Others are told by workers, and a killed one takes what it saw last with it: at least
    /// so many.
    pub(super) exact: Vec<&'static str>,
}

/// Shows how far it is: as a bar on a terminal, else as a line now and then.
pub(super) struct Display {
    is_terminal: bool,
    silent: bool,
    total: u64,
    last: Option<Instant>,
}

/// How often a line is written where there is no terminal.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

/// How wide the bar is.
const WIDTH: u64 = 40;

impl Report {
    /// Every event took effect, and none of them twice.
    pub(super) const fn is_right(&self) -> bool {
        self.effects == self.events && self.events_with_effect == self.events
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("published", self.published, "messages, each event twice"),
            ("delivered", self.delivered, "times a message was handed to a worker"),
            ("redeliveries", self.redeliveries, "of these, not the first of their message"),
            ("duplicates", self.duplicates, "deliveries of an event that had taken effect before"),
            ("parked", self.parked, "events that wait for an operator"),
            ("effects", self.effects, if self.is_right() { "one for each event" } else { "NOT one for each event" }),
        ];
        for (name, count, meaning) in rows {
            let least = if self.exact.contains(&name) { "" } else { "at least " };
            let count = format!("{least}{count}");
            writeln!(f, "{name:<13}{count:>18}  {meaning}")?;
        }
        write!(f, "{} events in {:.1} s", self.events, self.seconds)?;
        if self.kills > 0 {
            write!(f, ", {} workers killed", self.kills)?;
        }
        Ok(())
    }
}

impl Display {
    /// `total`: how many messages there are to acknowledge.
    pub(super) fn new(total: u64, silent: bool) -> Self {
        Self { is_terminal: io::stderr().is_terminal(), silent, total, last: None }
    }

    pub(super) fn show(&mut self, published: u64, acknowledged: u64, kills: u64) {
        let due = self.is_terminal || self.last.is_none_or(|last| last.elapsed() >= NOW_AND_THEN);
        if self.silent || !due {
            return;
        }
        self.last = Some(Instant::now());
        let total = self.total.max(1);
        let counts =
            format!("{acknowledged} of {total} messages acknowledged, {published} published, {kills} workers killed");
        let mut err = io::stderr();
        // It may be closed.
        let _ = if self.is_terminal {
            let filled = usize::try_from((acknowledged * WIDTH / total).min(WIDTH)).unwrap_or_default();
            let width = WIDTH as usize;
            write!(err, "\r\x1b[K[{:<width$}] {counts}", "#".repeat(filled)).and_then(|()| err.flush())
        } else {
            writeln!(err, "{counts}")
        };
    }
}

/// Leaves the terminal as it was.
impl Drop for Display {
    fn drop(&mut self) {
        if self.is_terminal && !self.silent {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
