//! The figures, as a table.

use std::time::Duration;

use super::{
    load::{Keys, Load},
    subject::Subject,
};

/// Every round of every row.
pub(super) struct Report {
    rows: Vec<Row>,
}

struct Row {
    subject: Subject,
    keys: Keys,
    per_second: Vec<f64>,
    requests: u64,
    commands: u64,
    cpu: Duration,
}

impl Report {
    pub(super) fn new(measured: &[(Subject, Keys)]) -> Self {
        let row = |&(subject, keys)| Row {
            subject,
            keys,
            per_second: Vec::new(),
            requests: 0,
            commands: 0,
            cpu: Duration::ZERO,
        };
        Self { rows: measured.iter().map(row).collect() }
    }

    pub(super) fn add(&mut self, row: usize, load: &Load, commands: u64, cpu: Duration) {
        let row = &mut self.rows[row];
        row.per_second.push(load.per_second());
        row.requests += load.requests;
        row.commands += commands;
        row.cpu += cpu;
    }

    pub(super) fn print(&self) {
        println!(
            "{:<15}{:>8}{:>12}{:>9}{:>9}{:>12}{:>10}",
            "", "keys", "requests/s", "of bare", "of floor", "redis/req", "cpu/req"
        );
        for row in &self.rows {
            let ratio = |base: Subject| {
                let base = self.rows.iter().find(|other| other.subject == base && other.keys == row.keys);
                base.map_or(f64::NAN, |base| row.median() / base.median())
            };
            let of_floor = match row.subject {
                Subject::Floor | Subject::Redis => format!("{:.2}", ratio(Subject::Floor)),
                Subject::Bare | Subject::Memory | Subject::Layer => String::new(),
            };
            println!(
                "{:<15}{:>8}{:>12.0}{:>9.2}{:>9}{:>12.2}{:>7.1} us",
                row.subject.to_string(),
                row.keys.to_string(),
                row.median(),
                ratio(Subject::Bare),
                of_floor,
                row.commands as f64 / row.requests as f64,
                row.cpu.as_secs_f64() * 1e6 / row.requests as f64,
            );
        }
    }
}

impl Row {
    fn median(&self) -> f64 {
        let mut rounds = self.per_second.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
