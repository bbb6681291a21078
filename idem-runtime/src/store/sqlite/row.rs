//! A record as one row of a table.
//!
//! # Format 1
//!
//! | column | what |
//! |---|---|
//! | `key` | 32 bytes |
//! | `format` | 1 |
//! | `state` | 1 in flight, 2 completed with an answer, 3 tombstone, 4 unknown, 5 parked |
//! | `fingerprint` | 32 bytes |
//! | `token` | 16 bytes; null: nobody's, after a verdict or where an attempt is remembered |
//! | `fence`, `attempt` | of the last owner |
//! | `until` | in flight: end of the lease; with an answer: end of its `ttl`; else null |
//! | `forget` | when the record is absent; null: it is kept until it is settled |
//! | `length` | how many bytes the answer or note has; null: there is none |
//! | `answer` | the answer, or the note of a parked record |
//!
//! Times are microseconds since the Unix epoch by the store's clock.

use bytes::Bytes;

use crate::{
    fingerprint::Fingerprint,
    record::Answer,
    store::{Fence, Token},
};

/// The format that this version writes, and the only one it reads.
pub(super) const FORMAT: i64 = 1;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) fingerprint: Fingerprint,
    /// Whose it is; nobody's after a verdict, and where an attempt is remembered.
    pub(super) token: Option<Token>,
    pub(super) fence: Fence,
    pub(super) attempt: u32,
    pub(super) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    InFlight { lease_end: u64, forget: Option<u64> },
    Answered { answer: Answer, until: u64, forget: u64 },
    Tombstone { forget: u64 },
    Unknown,
    Parked { note: Answer },
}

/// All columns but the key, as a driver gives and takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) format: i64,
    pub(super) state: i64,
    pub(super) fingerprint: Vec<u8>,
    pub(super) token: Option<Vec<u8>>,
    pub(super) fence: i64,
    pub(super) attempt: i64,
    pub(super) until: Option<i64>,
    pub(super) forget: Option<i64>,
    pub(super) length: Option<i64>,
    pub(super) answer: Option<Vec<u8>>,
}

/// Those of them that say what state a record is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateColumns {
    pub(super) state: i64,
    pub(super) until: Option<i64>,
    pub(super) forget: Option<i64>,
    pub(super) length: Option<i64>,
    pub(super) answer: Option<Vec<u8>>,
}

impl Record {
    /// Whether it is absent by now.
    pub(super) fn is_past_its_time(&self, now: u64) -> bool {
        match self.state {
            State::InFlight { forget, .. } => forget.is_some_and(|forget| forget <= now),
            State::Answered { forget, .. } | State::Tombstone { forget } => forget <= now,
            State::Unknown | State::Parked { .. } => false,
        }
    }

    /// `None`: the row is of another format, or broken.
    pub(super) fn from_columns(columns: Columns) -> Option<Self> {
        let Columns { format, state, fingerprint, token, fence, attempt, until, forget, length, answer } = columns;
        if format != FORMAT {
            return None;
        }
        let answer = match (length, answer) {
            (Some(length), Some(answer)) if usize::try_from(length).ok()? == answer.len() => {
                Some(Answer::from_bytes(Bytes::from(answer)))
            }
            (None, None) => None,
            _ => return None,
        };
        let token = match token {
            Some(token) => Some(Token::from_bytes(token.try_into().ok()?)),
            None => None,
        };
        let state = match (state, time(until)?, time(forget)?, answer) {
            (1, Some(lease_end), forget, None) => State::InFlight { lease_end, forget },
            (2, Some(until), Some(forget), Some(answer)) => State::Answered { answer, until, forget },
            (3, None, Some(forget), None) => State::Tombstone { forget },
            (4, None, None, None) => State::Unknown,
            (5, None, None, Some(note)) => State::Parked { note },
            _ => return None,
        };
        Some(Self {
            fingerprint: Fingerprint::from_bytes(fingerprint.try_into().ok()?),
            token,
            fence: Fence::new(u64::try_from(fence).ok()?),
            attempt: u32::try_from(attempt).ok()?,
            state,
        })
    }

    pub(super) fn into_columns(self) -> Columns {
        let Self { fingerprint, token, fence, attempt, state } = self;
        let StateColumns { state, until, forget, length, answer } = state.into_columns();
        Columns {
            format: FORMAT,
            state,
            fingerprint: fingerprint.as_bytes().to_vec(),
            token: token.map(|token| token.as_bytes().to_vec()),
            fence: number(fence.get()),
            attempt: i64::from(attempt),
            until,
            forget,
            length,
            answer,
        }
    }
}

impl State {
    pub(super) fn into_columns(self) -> StateColumns {
        let (state, until, forget, answer) = match self {
            Self::InFlight { lease_end, forget } => (1, Some(lease_end), forget, None),
            Self::Answered { answer, until, forget } => (2, Some(until), Some(forget), Some(answer)),
            Self::Tombstone { forget } => (3, None, Some(forget), None),
            Self::Unknown => (4, None, None, None),
            Self::Parked { note } => (5, None, None, Some(note)),
        };
        StateColumns {
            state,
            until: until.map(number),
            forget: forget.map(number),
            length: answer.as_ref().map(|answer| number(answer.len() as u64)),
            answer: answer.map(|answer| answer.as_bytes().to_vec()),
        }
    }
}

/// The number as a column holds it: a time or a fence beyond the year 294,000 is that year's.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `None`: not a time.
fn time(column: Option<i64>) -> Option<Option<u64>> {
    column.map(u64::try_from).transpose().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State) -> Record {
        Record {
            fingerprint: Fingerprint::from_bytes([7; 32]),
            token: Some(Token::from_bytes([9; 16])),
            fence: Fence::new(1_767_225_600_000_000),
            attempt: 3,
            state,
        }
    }

    fn every_state() -> [Record; 7] {
        let answer = Answer::from_bytes(Bytes::from_static(b"answer"));
        [
            record(State::InFlight { lease_end: 10, forget: Some(20) }),
            record(State::InFlight { lease_end: 10, forget: None }),
            Record { token: None, ..record(State::InFlight { lease_end: 10, forget: Some(20) }) },
            record(State::Answered { answer: answer.clone(), until: 10, forget: 20 }),
            record(State::Tombstone { forget: 20 }),
            record(State::Unknown),
            record(State::Parked { note: answer }),
        ]
    }

    #[test]
    fn columns_are_read_as_they_were_written() {
        for record in every_state() {
            assert_eq!(Record::from_columns(record.clone().into_columns()), Some(record));
        }
    }

    #[test]
    fn a_broken_row_is_no_record() {
        type Break = fn(&mut Columns);
        let breaks: [(&str, Break); 12] = [
            ("a newer format", |columns| columns.format = 2),
            ("format 0", |columns| columns.format = 0),
            ("a state of no format", |columns| columns.state = 6),
            ("a cut fingerprint", |columns| columns.fingerprint.truncate(31)),
            ("a cut token", |columns| columns.token = Some(vec![9; 15])),
            ("an empty token", |columns| columns.token = Some(vec![])),
            ("a fence below zero", |columns| columns.fence = -1),
            ("an attempt below zero", |columns| columns.attempt = -1),
            ("a time below zero", |columns| columns.until = Some(-1)),
            ("an answer cut to nothing", |columns| columns.answer = Some(vec![])),
            ("another length", |columns| columns.length = Some(columns.length.map_or(0, |length| length - 1))),
            ("no length", |columns| {
                columns.length = None;
                columns.answer = Some(vec![1]);
            }),
        ];
        for record in every_state() {
            for (name, break_it) in breaks {
                let mut columns = record.clone().into_columns();
                break_it(&mut columns);
                assert_eq!(Record::from_columns(columns), None, "{name}: {record:?}");
            }
            for state in 1..=5 {
                let mut columns = record.clone().into_columns();
                if columns.state != state {
                    columns.state = state;
                    let read = Record::from_columns(columns);
                    assert_eq!(read, None, "state {state} with the columns of another: {record:?}");
                }
            }
        }
    }
}
