//! The figures, as a table.

use std::{fmt, time::Duration};

use super::{
    Pair,
    load::{Keys, Load},
    subject::Subject,
};

/// One turn of one side, or all of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) load: Load,
    /// To Redis.
    pub(super) round_trips: u64,
    /// What the server used of the processors.
    pub(super) cpu: Duration,
    /// What this command used of them to ask.
    pub(super) load_cpu: Duration,
}

/// Every pair of turns of every row.
pub(super) struct Report {
    rows: Vec<Row>,
}

struct Row {
    pair: Pair,
    ratios: Vec<f64>,
    per_second: Vec<f64>,
    base: Measured,
    subject: Measured,
}

/// The median of ratios, the least and the largest.
pub(super) struct Ratio {
    median: f64,
    least: f64,
    largest: f64,
}

impl Report {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let row = |&pair| Row {
            pair,
            ratios: Vec::new(),
            per_second: Vec::new(),
            base: Measured::default(),
            subject: Measured::default(),
        };
        Self { rows: pairs.iter().map(row).collect() }
    }

    pub(super) fn add(&mut self, row: usize, base: &Measured, subject: &Measured) {
        let row = &mut self.rows[row];
        row.ratios.push(subject.load.per_second() / base.load.per_second());
        row.per_second.push(subject.load.per_second());
        row.base.add(base);
        row.subject.add(subject);
    }

    pub(super) fn ratio(&self, row: usize) -> Ratio {
        Ratio::of(&self.rows[row].ratios)
    }

    pub(super) fn print(&self) {
        println!(
            "{:<15}{:>8}{:>12}{:>19}{:>19}{:>11}{:>11}{:>11}{:>11}",
            "", "keys", "requests/s", "of bare", "of floor", "redis/req", "cpu/req", "base cpu", "load cpu"
        );
        for row in &self.rows {
            let ratio = Ratio::of(&row.ratios).to_string();
            let (of_bare, of_floor) = match row.pair.base {
                Subject::Bare => (ratio, String::new()),
                _ => (String::new(), ratio),
            };
            let keys: Keys = row.pair.keys;
            println!(
                "{:<15}{:>8}{:>12.0}{of_bare:>19}{of_floor:>19}{:>11.2}{:>8.1} us{:>8.1} us{:>8.1} us",
                row.pair.subject.to_string(),
                keys.to_string(),
                median(&row.per_second),
                row.subject.round_trips as f64 / row.subject.load.requests as f64,
                row.subject.each(row.subject.cpu),
                row.base.each(row.base.cpu),
                row.subject.each(row.subject.load_cpu),
            );
        }
    }
}

impl Measured {
    fn add(&mut self, other: &Self) {
        self.load.add(other.load);
        self.round_trips += other.round_trips;
        self.cpu += other.cpu;
        self.load_cpu += other.load_cpu;
    }

    /// Microseconds for each request.
    fn each(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.load.requests as f64
    }
}

impl Ratio {
    fn of(ratios: &[f64]) -> Self {
        Self {
            median: median(ratios),
            least: ratios.iter().copied().fold(f64::NAN, f64::min),
            largest: ratios.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}

/// `0.88 (0.81-0.93)`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}-{:.2})", self.median, self.least, self.largest)
    }
}

/// The median; of an even count the mean of the two in the middle.
fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}
