//! A record as a row, and what it says.
//!
//! # Layout 1
//!
//! | column | |
//! |---|---|
//! | `key` | the storage key, 32 bytes |
//! | `format` | layout of the row: 1 |
//! | `state` | 1 in flight, 2 completed with an answer, 3 tombstone, 4 unknown, 5 parked, 6 absent |
//! | `fingerprint` | 32 bytes |
//! | `token` | of the last owner, 16 bytes; null after a verdict and where nobody owns the record |
//! | `fence`, `attempt` | of the last owner |
//! | `until` | in flight: end of the lease; with an answer: how long it is kept |
//! | `forget` | from when on the row is absent; null: it is kept until it is settled |
//! | `answer`, `answer_length` | the answer or the note of a parked record, and its bytes |
//!
//! Times are microseconds since the Unix epoch by the server's clock. A row of another layout, and one whose columns do not
//! fit together, is unreadable and never absent.

use std::time::Duration;

use super::statement::length;
use crate::{
    key::StorageKey,
    record::Answer,
    store::{Claim, Claimed, Fence, ParkedRecord},
};

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    InFlight = 1,
    Answer = 2,
    Tombstone = 3,
    Unknown = 4,
    Parked = 5,
    Absent = 6,
}

/// A row as any driver hands it over, and what the claim says beside it.
pub(super) struct Row {
    /// The place of the claim in its batch, from 1.
    pub(super) place: i64,
    /// Written by this claim, or only read.
    pub(super) written: bool,
    /// The clock of the claim.
    pub(super) now: i64,
    /// How much older than this its fence is.
    pub(super) late: i64,
    pub(super) key: Vec<u8>,
    pub(super) format: i16,
    pub(super) state: i16,
    pub(super) fingerprint: Vec<u8>,
    pub(super) token: Option<Vec<u8>>,
    pub(super) fence: i64,
    pub(super) attempt: i32,
    pub(super) until: Option<i64>,
    pub(super) forget: Option<i64>,
    pub(super) answer: Option<Vec<u8>>,
    pub(super) answer_length: Option<i32>,
}

/// A row that a claim wrote for a key that had none, of which nothing but the time needs telling.
pub(super) struct Inserted {
    pub(super) fence: i64,
    pub(super) late: i64,
}

const FORMAT: i16 = 1;

/// A fence beyond would leave no room to grow.
const LARGEST_FENCE: i64 = (1 << 62) - 1;

/// How much later than its clock tells a new row may be written, in microseconds. Whoever had the key before and left no row has
/// a smaller fence, unless it could claim and be rolled back within that.
const LATE: i64 = 500;

impl Inserted {
    /// What the claim won.
    pub(super) fn claimed(&self) -> Claimed {
        Claimed::Won { fence: Fence::new(self.fence.unsigned_abs()), attempt: 1 }
    }

    /// Whether it was made with a clock that was behind by then.
    pub(super) const fn is_stale(&self) -> bool {
        self.late > LATE
    }
}

impl Row {
    /// What the claim found; `None`: the record changed under it, and it is to be asked again.
    pub(super) fn claimed(self, claim: &Claim) -> Option<Claimed> {
        let Some(state) = self.readable() else { return Some(Claimed::Unreadable) };
        let (fence, attempt) = (self.fence(), self.attempt());
        if self.written {
            return Some(match state {
                State::Unknown => Claimed::Unknown { fence, attempt },
                _ => Claimed::Won { fence, attempt },
            });
        }
        if self.forget.is_some_and(|forget| forget <= self.now) || state == State::Absent {
            return None;
        }
        if self.fingerprint != claim.fingerprint.as_bytes() {
            return Some(Claimed::Mismatch);
        }
        let left = self.until.map_or(0, |until| until.saturating_sub(self.now));
        Some(match state {
            State::InFlight
                if left > 0 && self.token.as_deref().is_some_and(|token| token != claim.token.as_bytes()) =>
            {
                Claimed::Busy { retry_after: Duration::from_micros(left.unsigned_abs()) }
            }
            State::InFlight | State::Absent => return None,
            State::Answer if left > 0 => Claimed::Completed { answer: self.answer() },
            State::Answer | State::Tombstone => Claimed::Completed { answer: None },
            State::Unknown => Claimed::Unknown { fence, attempt },
            State::Parked => Claimed::Parked { note: self.answer()?, fence, attempt },
        })
    }

    /// Whether the claim made the row with a clock that was behind by then.
    pub(super) fn is_stale(&self, claim: &Claim) -> bool {
        // A row that was there before has a fence that does not count from the same moment as its lease.
        let made = self.until.is_some_and(|until| until.saturating_sub(self.fence) == length(claim.lease));
        self.written && self.state == State::InFlight as i16 && made && self.late > LATE
    }

    /// The parked record; `None`: it is not one.
    pub(super) fn parked(self) -> Option<ParkedRecord> {
        let key = StorageKey::from_bytes(self.key.as_slice().try_into().ok()?);
        let (fence, attempt) = (self.fence(), self.attempt());
        (self.readable()? == State::Parked).then_some(())?;
        Some(ParkedRecord::new(key, self.answer()?, fence, attempt))
    }

    /// The answer that is still kept; `None`: there is none.
    #[cfg(feature = "redis")]
    pub(super) fn kept(self) -> Option<crate::store::tiered::Kept> {
        let key = StorageKey::from_bytes(self.key.as_slice().try_into().ok()?);
        let fingerprint = crate::fingerprint::Fingerprint::from_bytes(self.fingerprint.as_slice().try_into().ok()?);
        (self.readable()? == State::Answer).then_some(())?;
        let left = self.until?.min(self.forget?).checked_sub(self.now).filter(|left| *left > 0)?;
        let left = Duration::from_micros(left.unsigned_abs());
        Some(crate::store::tiered::Kept::new(key, fingerprint, self.answer()?, left))
    }

    /// The state, if the columns fit together. As `sql/readable.sql` judges it.
    fn readable(&self) -> Option<State> {
        let length = self.answer.as_ref().map(Vec::len);
        let whole = self.format == FORMAT
            && self.fingerprint.len() == 32
            && self.token.as_ref().is_none_or(|token| token.len() == 16)
            && (0..=LARGEST_FENCE).contains(&self.fence)
            && self.attempt >= 1
            && self.answer_length.map(i64::from) == length.and_then(|length| i64::try_from(length).ok());
        let (until, forget, answer) = (self.until.is_some(), self.forget.is_some(), self.answer.is_some());
        let state = match self.state {
            1 if until && !answer => State::InFlight,
            2 if until && forget && answer => State::Answer,
            3 if forget && !answer => State::Tombstone,
            4 if !forget && !answer => State::Unknown,
            5 if !forget && answer => State::Parked,
            6 if !answer => State::Absent,
            _ => return None,
        };
        whole.then_some(state)
    }

    fn fence(&self) -> Fence {
        Fence::new(self.fence.unsigned_abs())
    }

    fn attempt(&self) -> u32 {
        self.attempt.unsigned_abs()
    }

    fn answer(self) -> Option<Answer> {
        self.answer.map(|bytes| Answer::from_bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fingerprint::Fingerprint, store::Token};

    fn claim() -> Claim {
        let key = StorageKey::from_bytes([1; 32]);
        Claim::new(key, Token::from_bytes([2; 16]), Fingerprint::from_bytes([3; 32]), Duration::from_secs(1))
    }

    fn row(state: State) -> Row {
        let (kept, answered) = (state == State::Unknown || state == State::Parked, [2, 5].contains(&(state as i16)));
        Row {
            place: 1,
            written: false,
            now: 1_000,
            late: 0,
            key: vec![1; 32],
            format: 1,
            state: state as i16,
            fingerprint: vec![3; 32],
            token: Some(vec![9; 16]),
            fence: 7,
            attempt: 2,
            until: Some(3_000),
            forget: (!kept).then_some(9_000),
            answer: answered.then(|| b"answer".to_vec()),
            answer_length: answered.then_some(6),
        }
    }

    #[test]
    fn every_state_is_told() {
        let (fence, attempt) = (Fence::new(7), 2);
        let answer = || Answer::from_bytes("answer".into());
        for (state, claimed) in [
            (State::InFlight, Some(Claimed::Busy { retry_after: Duration::from_millis(2) })),
            (State::Answer, Some(Claimed::Completed { answer: Some(answer()) })),
            (State::Tombstone, Some(Claimed::Completed { answer: None })),
            (State::Unknown, Some(Claimed::Unknown { fence, attempt })),
            (State::Parked, Some(Claimed::Parked { note: answer(), fence, attempt })),
            (State::Absent, None),
        ] {
            assert_eq!(row(state).claimed(&claim()), claimed, "{state:?}");
        }
        let other = Claim { fingerprint: Fingerprint::from_bytes([4; 32]), ..claim() };
        assert_eq!(row(State::Answer).claimed(&other), Some(Claimed::Mismatch));
        assert_eq!(
            Row { now: 3_000, ..row(State::Answer) }.claimed(&claim()),
            Some(Claimed::Completed { answer: None })
        );
        // These are for the statement to win; that it did not means that the row is another one by now.
        for claimable in [
            Row { now: 3_000, ..row(State::InFlight) },
            Row { token: None, ..row(State::InFlight) },
            Row { token: Some(vec![2; 16]), ..row(State::InFlight) },
            Row { now: 9_000, ..row(State::Answer) },
        ] {
            assert_eq!(claimable.claimed(&claim()), None);
        }
        let won = Row { written: true, ..row(State::InFlight) };
        assert_eq!(won.claimed(&claim()), Some(Claimed::Won { fence, attempt }));
    }

    #[test]
    fn what_does_not_fit_together_is_unreadable() {
        for broken in [
            Row { format: 2, ..row(State::Answer) },
            Row { format: 0, ..row(State::Answer) },
            Row { state: 0, ..row(State::Answer) },
            Row { state: 7, ..row(State::Tombstone) },
            Row { fingerprint: vec![3; 31], ..row(State::Answer) },
            Row { token: Some(vec![9; 15]), ..row(State::InFlight) },
            Row { fence: -1, ..row(State::InFlight) },
            Row { fence: i64::MAX, ..row(State::InFlight) },
            Row { attempt: 0, ..row(State::InFlight) },
            Row { until: None, ..row(State::InFlight) },
            Row { until: None, ..row(State::Answer) },
            Row { forget: None, ..row(State::Answer) },
            Row { forget: None, ..row(State::Tombstone) },
            Row { forget: Some(9_000), ..row(State::Unknown) },
            Row { answer: Some(b"answe".to_vec()), ..row(State::Answer) },
            Row { answer: None, ..row(State::Answer) },
            Row { answer: None, answer_length: None, ..row(State::Parked) },
            Row { answer_length: None, ..row(State::Answer) },
            Row { format: 2, written: true, ..row(State::InFlight) },
        ] {
            assert_eq!(broken.claimed(&claim()), Some(Claimed::Unreadable));
        }
    }
}
