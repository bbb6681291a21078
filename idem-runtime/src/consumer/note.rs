//! What is written down of a parked event: frozen by a golden test, as every record is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};

use super::{Event, ParkedReason};
use crate::{
    clock::micros,
    policy::Policy,
    record::{Answer, Kind, Unreadable},
};

/// Why an event is parked, and what is needed to run it after all.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) scope: String,
    pub(super) reason: ParkedReason,
    /// How often it was tried; `None`: as often as the record says.
    pub(super) attempts: Option<u32>,
    pub(super) id: Option<String>,
    /// `None`: too large to be kept.
    pub(super) payload: Option<Bytes>,
    pub(super) error: Option<String>,
    /// How long its consumer remembers what it ran: whoever settles it may be built with another policy.
    pub(super) remember: Option<Duration>,
}

/// Tags of the parts. A part is its tag, its length as eight bytes, big endian, and its bytes; one that is not there is left out.
mod tag {
    pub(super) const SCOPE: u8 = 1;
    pub(super) const REASON: u8 = 2;
    pub(super) const ATTEMPTS: u8 = 3;
    pub(super) const ID: u8 = 4;
    pub(super) const PAYLOAD: u8 = 5;
    pub(super) const ERROR: u8 = 6;
    pub(super) const REMEMBER: u8 = 7;
}

/// How much of an error's text is kept, in bytes.
const MAX_ERROR: usize = 1024;

impl Note {
    pub(super) fn new(
        policy: &Policy,
        reason: ParkedReason,
        attempts: Option<u32>,
        event: &Event,
        max_payload: usize,
    ) -> Self {
        Self {
            scope: policy.scope_name().to_owned(),
            reason,
            attempts,
            id: event.id().map(str::to_owned),
            payload: (event.payload().len() <= max_payload).then(|| event.payload().clone()),
            error: None,
            remember: Some(policy.remembered()),
        }
    }

    pub(super) fn error(mut self, error: &(impl ToString + ?Sized)) -> Self {
        // Unwind safe: an error that cannot be written is not looked at again. The attempt failed all the same.
        let text = catch_unwind(AssertUnwindSafe(|| error.to_string()));
        let mut text = text.unwrap_or_else(|_| "the error panicked as it was written".to_owned());
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        self.error = Some(text);
        self
    }

    pub(super) fn seal(&self) -> Answer {
        let attempts = self.attempts.map(u32::to_be_bytes);
        let remember = self.remember.map(|remember| micros(remember).to_be_bytes());
        let parts = [
            (tag::SCOPE, Some(self.scope.as_bytes())),
            (tag::REASON, Some(&[code(self.reason)][..])),
            (tag::ATTEMPTS, attempts.as_ref().map(|attempts| &attempts[..])),
            (tag::ID, self.id.as_deref().map(str::as_bytes)),
            (tag::PAYLOAD, self.payload.as_deref()),
            (tag::ERROR, self.error.as_deref().map(str::as_bytes)),
            (tag::REMEMBER, remember.as_ref().map(|remember| &remember[..])),
        ];
        let parts = || parts.iter().filter_map(|(tag, part)| part.map(|part| (*tag, part)));
        let size = parts().map(|(_, part)| 9 + part.len()).sum();
        Answer::seal(Kind::Parked, size, |bytes| {
            for (tag, part) in parts() {
                bytes.put_u8(tag);
                bytes.put_u64(part.len() as u64);
                bytes.put_slice(part);
            }
        })
    }

    pub(super) fn open(note: &Answer) -> Result<Self, Unreadable> {
        let mut rest = note.open(Kind::Parked)?;
        let (mut scope, mut reason, mut attempts) = (None, None, None);
        let (mut id, mut payload, mut error, mut remember) = (None, None, None, None);
        while rest.has_remaining() {
            let tag = rest.try_get_u8().map_err(|_| Unreadable)?;
            let length = rest.try_get_u64().ok().and_then(|length| usize::try_from(length).ok()).ok_or(Unreadable)?;
            if length > rest.len() {
                return Err(Unreadable);
            }
            let part = rest.split_to(length);
            match tag {
                tag::SCOPE => scope = Some(text(&part)?),
                tag::REASON => reason = Some(named(&part)?),
                tag::ATTEMPTS => attempts = Some(u32::from_be_bytes(part[..].try_into().map_err(|_| Unreadable)?)),
                tag::ID => id = Some(text(&part)?),
                tag::PAYLOAD => payload = Some(part),
                tag::ERROR => error = Some(text(&part)?),
                tag::REMEMBER => {
                    let micros = u64::from_be_bytes(part[..].try_into().map_err(|_| Unreadable)?);
                    remember = Some(Duration::from_micros(micros));
                }
                _ => return Err(Unreadable),
            }
        }
        let (Some(scope), Some(reason)) = (scope, reason) else { return Err(Unreadable) };
        Ok(Self { scope, reason, attempts, id, payload, error, remember })
    }
}

const fn code(reason: ParkedReason) -> u8 {
    match reason {
        ParkedReason::Failed => 1,
        ParkedReason::OutcomeUnknown => 2,
        ParkedReason::KeyReused => 3,
        ParkedReason::NoId => 4,
        ParkedReason::Undecodable => 5,
    }
}

fn named(part: &[u8]) -> Result<ParkedReason, Unreadable> {
    match part {
        [1] => Ok(ParkedReason::Failed),
        [2] => Ok(ParkedReason::OutcomeUnknown),
        [3] => Ok(ParkedReason::KeyReused),
        [4] => Ok(ParkedReason::NoId),
        [5] => Ok(ParkedReason::Undecodable),
        _ => Err(Unreadable),
    }
}

fn text(part: &[u8]) -> Result<String, Unreadable> {
    String::from_utf8(part.to_vec()).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::hex;

    fn note(reason: ParkedReason) -> Note {
        Note::new(&Policy::new("ship"), reason, Some(5), &Event::new("evt_1", "payload"), 100)
    }

    /// A parked event must be read by every later version, so these bytes must never change. They come from
    /// `tests/data/golden.py`: an answer of kind 3 around the parts.
    #[test]
    fn golden() {
        let whole = note(ParkedReason::Failed).error("nö");
        let bare = Note {
            reason: ParkedReason::OutcomeUnknown,
            attempts: None,
            id: None,
            payload: None,
            remember: None,
            ..note(ParkedReason::Failed)
        };
        for (note, expected) in [
            (
                whole,
                "0103b8884d420100000000000000047368697002000000000000000101030000000000000004000000050400000000000000\
                 056576745f310500000000000000077061796c6f61640600000000000000036ec3b6070000000000000008000000141dd760\
                 00",
            ),
            (bare, "01037f92a3890100000000000000047368697002000000000000000102"),
        ] {
            let sealed = note.seal();
            assert_eq!(hex(sealed.as_bytes()), expected);
            assert!(Note::open(&sealed) == Ok(note));
        }
    }

    #[test]
    fn every_reason_comes_back() {
        for reason in [
            ParkedReason::Failed,
            ParkedReason::OutcomeUnknown,
            ParkedReason::KeyReused,
            ParkedReason::NoId,
            ParkedReason::Undecodable,
        ] {
            assert!(Note::open(&note(reason).seal()) == Ok(note(reason)));
        }
    }

    #[test]
    fn a_payload_that_is_too_large_is_left_out() {
        let event = Event::new("evt_1", "payload");
        for (max, kept) in [(6, false), (7, true)] {
            let note = Note::new(&Policy::new("ship"), ParkedReason::Failed, None, &event, max);
            assert_eq!(note.payload.is_some(), kept);
        }
    }

    /// Whole for its checksum, and still no note of this version.
    #[test]
    fn what_is_no_note_is_refused() {
        let part = |tag: u8, part: &[u8]| [&[tag][..], &(part.len() as u64).to_be_bytes(), part].concat();
        let (scope, reason) = (part(1, b"ship"), part(2, &[1]));
        for content in [
            Vec::new(),
            scope.clone(),
            reason.clone(),
            [scope.clone(), part(2, &[9])].concat(),
            [scope.clone(), part(2, &[1, 1])].concat(),
            [scope.clone(), reason.clone(), part(3, &[0, 0, 5])].concat(),
            [scope.clone(), reason.clone(), part(4, b"\xff")].concat(),
            [scope.clone(), reason.clone(), part(7, &[0, 0, 0, 5])].concat(),
            [scope.clone(), reason.clone(), part(77, b"")].concat(),
            [scope.clone(), reason.clone(), vec![5]].concat(),
            [scope.clone(), reason.clone(), vec![5, 0, 0, 0, 0, 0, 0, 0, 2, 0]].concat(),
            [scope.clone(), reason.clone(), [&[5][..], &[0xff; 8]].concat()].concat(),
        ] {
            let sealed = Answer::seal(Kind::Parked, content.len(), |bytes| bytes.put_slice(&content));
            assert!(Note::open(&sealed).is_err(), "{content:?}");
        }
        let other = Answer::seal(Kind::Value, 0, |bytes| bytes.put_slice(&[scope, reason].concat()));
        assert!(Note::open(&other).is_err());
    }
}
