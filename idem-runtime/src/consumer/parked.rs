//! Events that wait for an operator.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::{Consumer, Event, ParkedReason, note::Note};
use crate::{
    fingerprint::Fingerprint,
    key::{EventName, StorageKey},
    record::{Answer, Kind},
    store::{
        Claimed, Complete, Fence, Outcome, Ownership, Parked, ParkedRecord, Resolve, Resolved, StoreError,
        StoreErrorKind, Verdict,
    },
};

/// An event that does not run until somebody redrives it.
#[derive(Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    key: StorageKey,
    fence: Fence,
    attempts: u32,
    note: Note,
}

/// What [`Consumer::redrive`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a redriven event runs only when it is delivered again"]
pub enum Redriven {
    /// It may run: deliver this again.
    Deliver(Event),
    /// It may run: its payload was larger than
    /// [`max_answer_bytes`](crate::IdempotencySetup::max_answer_bytes) and is not kept, so take it from where it came from.
    PayloadNotKept,
    /// Somebody redrove or settled it before; nothing changed.
    NotParked,
}

/// How many records one question to the store asks for.
///
/// Those of others are among them, and each may have a payload of [`max_answer_bytes`](crate::IdempotencySetup::max_answer_bytes), which
/// must all come within the store's time-out: few at first, and more as long as they are light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page(usize);

impl Page {
    const FIRST: Self = Self(8);
    const LARGEST: Self = Self(128);
    /// A page of this many bytes is heavy.
    const HEAVY: usize = 256 << 10;

    /// The page behind these records.
    fn next(self, records: &[ParkedRecord]) -> Self {
        let bytes: usize = records.iter().map(|record| record.note.len()).sum();
        if bytes < Self::HEAVY { Self((self.0 * 4).min(Self::LARGEST.0)) } else { Self::FIRST }
    }
}

impl Consumer {
    /// The first `limit` parked events of this consumer, in an order that means nothing and stays the same.
    ///
    /// The store is asked for every parked record, those of other consumers too, until there are enough.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn parked(&self, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        self.parked_behind(None, limit).await
    }

    /// The next `limit` parked events behind `last`.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn parked_after(&self, last: &ParkedEvent, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        self.parked_behind(Some(last.key), limit).await
    }

    /// Makes a parked event runnable again, with all its attempts, and gives it back to be delivered.
    ///
    /// Until it is delivered it is nowhere: deliver it through the broker, or hand it to [`process`](Self::process).
    ///
    /// | parked because | what runs when it is delivered again |
    /// |---|---|
    /// | it failed, its outcome is unknown | the event, under its id |
    /// | its id was used with another payload | the event, beside the first one and under a key of its own, as long as the first is remembered |
    /// | it has no id | the event, under the digest of its payload; or under its id, if it was given one |
    /// | its bytes are not what they should be | whatever they are by then: mended, it runs; else it is parked again |
    ///
    /// # Errors
    /// When the store gives no answer; the event is then parked or runnable.
    pub async fn redrive(&self, event: &ParkedEvent) -> Result<Redriven, StoreError> {
        let verdict = match event.note.reason {
            ParkedReason::KeyReused | ParkedReason::NoId => {
                let remember = self.remember(event);
                let answer = Some(Answer::seal(Kind::Redriven, 0, |_| ()));
                Verdict::Completed { answer, ttl: remember, remember }
            }
            ParkedReason::Failed | ParkedReason::OutcomeUnknown | ParkedReason::Undecodable => Verdict::NotExecuted,
        };
        Ok(match self.resolve(event, verdict).await? {
            Resolved::NotUnknown => Redriven::NotParked,
            Resolved::Applied => event.event().map_or(Redriven::PayloadNotKept, Redriven::Deliver),
        })
    }

    /// Settles a parked event as done, on an operator's word: whoever delivers it again is told that it took effect, and it does not
    /// run, as long as this consumer or the one that parked it remembers what ran, whichever is longer. One whose id was used by
    /// another event is found beside that one: once that one is forgotten, the id is free.
    ///
    /// # Errors
    /// When the store gives no answer; the event is then parked or settled.
    pub async fn settle(&self, event: &ParkedEvent) -> Result<Resolved, StoreError> {
        self.settle_id(event).await?;
        let remember = self.remember(event);
        self.resolve(event, Verdict::Completed { answer: None, ttl: remember, remember }).await
    }

    /// Nobody has looked under the id of an event that could not be decoded; a consumer that has learnt to decode it will.
    async fn settle_id(&self, event: &ParkedEvent) -> Result<(), StoreError> {
        let Note { reason: ParkedReason::Undecodable, id: Some(id), payload: Some(payload), .. } = &event.note else {
            return Ok(());
        };
        let Ok(fingerprint) = Fingerprint::of_payload(self.policy.fingerprint_rule(), payload) else { return Ok(()) };
        let claim = self.operation(self.key(EventName::Id(id)), fingerprint).claim();
        let store = self.runtime.engine().store();
        // What anybody knows of this id already stays as it is.
        if let Claimed::Won { .. } = store.claim(claim).await? {
            let remember = self.remember(event);
            let done = Complete::new(claim.key, claim.token, Outcome::Tombstone, remember).remember(remember);
            // Lost: somebody runs it by now, and it is theirs to record.
            let (Ownership::Held | Ownership::Lost) = store.complete(&done).await?;
        }
        Ok(())
    }

    fn remember(&self, event: &ParkedEvent) -> Duration {
        let own = self.policy.remembered();
        event.note.remember.map_or(own, |parked_by| own.max(parked_by))
    }

    async fn resolve(&self, event: &ParkedEvent, verdict: Verdict) -> Result<Resolved, StoreError> {
        self.runtime.engine().store().resolve(&Resolve::new(event.key, verdict).fence(event.fence)).await
    }

    async fn parked_behind(&self, mut last: Option<StorageKey>, limit: usize) -> Result<Vec<ParkedEvent>, StoreError> {
        let mut events = Vec::new();
        let mut page = Page::FIRST;
        while events.len() < limit {
            let question = Parked::first(page.0);
            let question = last.map_or(question, |last| question.after(last));
            let records = match self.runtime.engine().store().parked(question).await {
                Ok(records) => records,
                // Too much at once, perhaps.
                Err(error) if error.kind() == StoreErrorKind::Unavailable && page != Page::FIRST => {
                    page = Page::FIRST;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let whole = records.len() >= question.limit;
            page = page.next(&records);
            last = records.last().map(|record| record.key);
            for record in records {
                // A note that this version cannot read is not ours to judge.
                let Ok(note) = Note::open(&record.note) else { continue };
                if note.scope == self.policy.scope_name() && events.len() < limit {
                    let attempts = note.attempts.unwrap_or(record.attempt);
                    events.push(ParkedEvent { key: record.key, fence: record.fence, attempts, note });
                }
            }
            if !whole {
                break;
            }
        }
        Ok(events)
    }
}

impl ParkedEvent {
    /// What its producer calls it, if it has an id.
    pub fn id(&self) -> Option<&str> {
        self.note.id.as_deref()
    }

    /// Its bytes; `None`: there were more than [`max_answer_bytes`](crate::IdempotencySetup::max_answer_bytes).
    pub const fn payload(&self) -> Option<&Bytes> {
        self.note.payload.as_ref()
    }

    /// As it was delivered, if its payload is kept.
    pub(super) fn event(&self) -> Option<Event> {
        let payload = self.note.payload.clone()?;
        Some(match &self.note.id {
            Some(id) => Event::new(id, payload),
            None => Event::without_id(payload),
        })
    }

    /// Why it is parked.
    pub const fn reason(&self) -> ParkedReason {
        self.note.reason
    }

    /// The text of the last error, its first 1024 bytes; `None`: nothing failed.
    pub fn error(&self) -> Option<&str> {
        self.note.error.as_deref()
    }

    /// How often it was tried.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Never the id, the payload or the error's text, which may quote either.
impl fmt::Debug for ParkedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedEvent")
            .field("key", &self.key)
            .field("reason", &self.note.reason)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
