//! What a guarded operation promises: every option of the attribute, as a plain value.
//!
//! One option is one method here, and the method has the option's name, so that the attribute, the layer and
//! [`execute`](crate::Idempotency::execute) speak one language.

use std::time::Duration;

use crate::{
    canonical_json::is_pointer,
    fingerprint::Fingerprint,
    key::{KeyRequest, KeySource},
    recovery::Recover,
};

/// Everything that can be chosen for one idempotent operation.
///
/// Built as a constant: a contradiction is then a compile error.
///
/// ```
/// use idem_runtime::{OnConflict, Policy};
/// use std::time::Duration;
///
/// const PAYMENTS: Policy = Policy::new("payments")
///     .ttl(Duration::from_secs(24 * 60 * 60))
///     .on_conflict(OnConflict::Wait(Duration::from_secs(5)))
///     .validate();
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "a policy does nothing until it is given to a layer, a handler or an operation"]
pub struct Policy {
    scope: &'static str,
    ttl: Duration,
    remember: Option<Duration>,
    key: &'static [KeySource],
    missing: Option<Missing>,
    key_space: KeySpace,
    fingerprint: FingerprintRule,
    store: StoreRule,
    on_conflict: OnConflict,
    lease: Option<Duration>,
    renew_for: Option<Duration>,
    on_abandoned: Option<OnAbandoned>,
    on_store_error: OnStoreError,
    financial: bool,
    max_attempts: u32,
    transaction: bool,
}

/// What happens to a request that carries no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// Refused with 400 `key-missing`; the handler does not run.
    Reject,
    /// Run without a guard: nothing is claimed and nothing stored.
    Run,
}

/// How far one key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySpace {
    /// Method and path are part of the key: the same key on another endpoint is another operation.
    Endpoint,
    /// One key is one operation in the whole scope: the same key on another endpoint is a mismatch.
    Scope,
}

/// What two requests with one key must have in common.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum FingerprintRule {
    /// Method, path, query, content type and the exact body.
    Bytes,
    /// As `Bytes`, with the body compared as JSON: white space, the order of members and the spelling of a
    /// number do not count. Numbers are compared exactly, never rounded. A duplicate member is refused.
    Json,
    /// Method, path and the values at these JSON pointers of the body ([RFC 6901]).
    ///
    /// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
    Fields(&'static [&'static str]),
    /// Method, path and what this function makes of the request: for a body of which the same request has another one each time it is
    /// sent, as a multipart body has another boundary. A policy of events cannot have it.
    ///
    /// Two requests for which it makes the same are one: what it leaves out may differ, and nobody sees that. It must make the same of
    /// the same request on every replica and in every version of the service that is deployed within `ttl`, so it reads the request
    /// alone. `None`: the request cannot be compared, and is refused with 400 `body-invalid`.
    Function(fn(&KeyRequest<'_>) -> Option<Fingerprint>),
    /// Nothing: any request with the key gets the first answer. With [`KeySpace::Scope`] still method and path.
    Off,
}

/// Which answers of the handler are kept and replayed. Every other answer releases the key, so that a retry runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreRule {
    /// 2xx, and 3xx: a redirect after the effect says that it happened.
    Success,
    /// 2xx, 3xx and those 4xx that will not change by asking again: all but 401, 403, 408, 425 and 429.
    Definitive,
    /// Every answer.
    All,
}

/// What a duplicate gets while the first request is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnConflict {
    /// 409 `in-flight` with `Retry-After`, at once.
    Reject,
    /// Wait this long for the first answer, then as `Reject`.
    Wait(Duration),
}

/// What happens to a key whose owner vanished: in flight, lease run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnAbandoned {
    /// The next request runs, as the next attempt with a larger fencing token; unless it was claimed under another rule, as by the version
    /// before: then it is as `Refuse`.
    Retry,
    /// Nobody runs: 409 `outcome-unknown` until somebody who knows resolves it.
    Refuse,
    /// As `Refuse`, but the next request asks this function. If it knows, the record is settled by its word: the request is answered
    /// with what it says, or runs.
    ///
    /// It is called with nothing held, by one request of a process at a time: meanwhile the others are told 409 `in-flight`, or wait for
    /// its word as [`on_conflict`](Policy::on_conflict) says. Of several processes that ask at once one settles the record. A panic, `None`, or no
    /// word within [`recovery_deadline`](crate::IdempotencySetup::recovery_deadline) leaves the outcome unknown.
    Recover(Recover),
}

/// What happens when the store gives no claim: it is away, full or set up wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreError {
    /// 503 `store-unavailable`; the handler does not run.
    Reject,
    /// Run without a guard, and count it. Two concurrent duplicates may both run.
    Run,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Policy {
    /// The defaults for one scope: a namespace of operations, 1 to 64 of `a-z A-Z 0-9 . _ -`.
    ///
    /// # Panics
    /// When `scope` is not of that form; in a constant, at compile time.
    pub const fn new(scope: &'static str) -> Self {
        assert!(is_scope(scope), "a scope is 1 to 64 characters of a-z A-Z 0-9 . _ -");
        Self {
            scope,
            ttl: DAY,
            remember: None,
            key: &[],
            missing: None,
            key_space: KeySpace::Endpoint,
            fingerprint: FingerprintRule::Bytes,
            store: StoreRule::Success,
            on_conflict: OnConflict::Reject,
            lease: None,
            renew_for: None,
            on_abandoned: None,
            on_store_error: OnStoreError::Reject,
            financial: false,
            max_attempts: 5,
            transaction: false,
        }
    }

    /// How long an answer is replayed, counted from completion. Default: 24 hours.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long it is remembered *that* the operation ran; at least `ttl`, and `ttl` by default.
    ///
    /// Between `ttl` and `remember` a retry is refused with 409 `response-not-kept` instead of run.
    pub const fn remember(mut self, remember: Duration) -> Self {
        self.remember = Some(remember);
        self
    }

    /// Where the key comes from; the first source that has one wins.
    ///
    /// Without this the key is the `Idempotency-Key` header and optional. With it the key is required.
    pub const fn key(mut self, sources: &'static [KeySource]) -> Self {
        self.key = sources;
        self
    }

    /// What a request without a key gets. Default: [`Missing::Reject`] if `key` is chosen, else [`Missing::Run`].
    pub const fn missing(mut self, missing: Missing) -> Self {
        self.missing = Some(missing);
        self
    }

    /// How far one key reaches. Default: [`KeySpace::Endpoint`].
    pub const fn key_space(mut self, key_space: KeySpace) -> Self {
        self.key_space = key_space;
        self
    }

    /// What two requests with one key must have in common. Default: [`FingerprintRule::Bytes`].
    pub const fn fingerprint(mut self, rule: FingerprintRule) -> Self {
        self.fingerprint = rule;
        self
    }

    /// Which answers are kept. Default: [`StoreRule::Success`].
    pub const fn store(mut self, rule: StoreRule) -> Self {
        self.store = rule;
        self
    }

    /// What a concurrent duplicate gets. Default: [`OnConflict::Reject`].
    pub const fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// How long a claim holds without a sign of life; renewed at a third of it while the handler runs.
    /// Default: 30 seconds.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long, counted from the claim, the lease of a handler that runs is renewed; at least `lease`. Default: as long as it runs.
    ///
    /// A handler that hangs is not stopped. Its lease runs out, at most a `lease` later, and [`on_abandoned`](Self::on_abandoned) says what
    /// the next request gets: under [`OnAbandoned::Retry`] it runs, **beside the one that hangs**, in this process too, with a larger
    /// [`fence`](crate::Attempt::fence); else the outcome is unknown. If the first one comes to its end after all while its claim is still
    /// its own, or whoever took over has lost the lease as well, it is recorded; else it has lost, as any owner that comes too late. Until
    /// then it keeps its place of
    /// [`max_in_flight`](crate::IdempotencySetup::max_in_flight), and [`drain`](crate::Idempotency::drain) waits for it.
    pub const fn renew_for(mut self, renew_for: Duration) -> Self {
        self.renew_for = Some(renew_for);
        self
    }

    /// What happens when the owner of a key vanished. Default: [`OnAbandoned::Retry`], or
    /// [`OnAbandoned::Refuse`] when `financial`.
    pub const fn on_abandoned(mut self, on_abandoned: OnAbandoned) -> Self {
        self.on_abandoned = Some(on_abandoned);
        self
    }

    /// What happens when the store gives no claim. Default: [`OnStoreError::Reject`].
    pub const fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// Money moves: [`validate`](Self::validate) refuses no `key`, [`Missing::Run`], [`OnStoreError::Run`], [`FingerprintRule::Off`], a
    /// `ttl` under 24 hours and a key in a header that names one delivery, as `x-request-id` does; and [`OnAbandoned::Refuse`] is the
    /// default. [`execute`](crate::Idempotency::execute) and its like refuse an operation without a
    /// [`fingerprint`](crate::Operation::fingerprint).
    ///
    /// An error answer that [`store`](Self::store) does not keep still frees the key: answer with
    /// [`Disposition::Unknown`](crate::Disposition::Unknown) where nobody can tell what happened.
    pub const fn financial(mut self) -> Self {
        self.financial = true;
        self
    }

    /// How often an event is tried before it is parked: returned errors, panics and vanished workers all count. Default: 5.
    ///
    /// Only consumers count attempts against it: a client that retries decides for itself when to stop.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The handler's own statements, the claim and the answer are one database transaction, which the handler takes as a
    /// [`Tx`](crate::Tx) argument: all of it is committed, or nothing.
    ///
    /// For the attribute. A layer refuses it, because a service takes no argument, and so do
    /// [`execute`](crate::Idempotency::execute) and a consumer's [`process`](crate::consumer::Consumer::process);
    /// [`transact`](crate::Idempotency::transact) needs no such word.
    pub const fn transaction(mut self) -> Self {
        self.transaction = true;
        self
    }

    /// The policy, once its options are known to agree with each other. The attribute calls this in a constant.
    ///
    /// # Panics
    /// When `ttl` is zero or over ten years, `lease` is not within 10 ms and 24 h, `renew_for` is shorter than `lease` or over ten years,
    /// `remember` is shorter than `ttl` or over ten years, `on_conflict` waits for over ten years, `max_attempts` is 0, `fields` is empty, a
    /// header's name or a JSON pointer is none, `financial` stands beside an option that
    /// it refuses, or `transaction` beside one that it has no use for. In a constant this is a compile error.
    pub const fn validate(self) -> Self {
        assert!(
            !(self.financial && self.key.is_empty()),
            "`financial` needs a `key`, `.key(&[KeySource::DEFAULT])`; for events and calls write `validate_for_events`"
        );
        self.validate_for_events()
    }

    /// As [`validate`](Self::validate), for a [`Consumer`](crate::consumer::Consumer): its key is the event's id, so none is asked for.
    ///
    /// # Panics
    /// As [`validate`](Self::validate).
    pub const fn validate_for_events(self) -> Self {
        assert!(self.max_attempts > 0, "`max_attempts` must be at least 1");
        assert!(!self.ttl.is_zero(), "`ttl` must be longer than zero");
        assert!(self.lease_time().as_millis() >= 10, "`lease` must be at least 10 ms");
        assert!(self.lease_time().as_secs() <= 24 * 60 * 60, "`lease` must be at most 24 h");
        if let Some(renew_for) = self.renew_for {
            assert!(renew_for.as_nanos() >= self.lease_time().as_nanos(), "`renew_for` must be at least `lease`");
            assert!(renew_for.as_secs() <= MAX_SECONDS, "`renew_for` must be at most 10 years");
        }
        if let OnConflict::Wait(limit) = self.on_conflict {
            assert!(limit.as_secs() <= MAX_SECONDS, "`wait` must be at most 10 years");
        }
        assert!(self.ttl.as_secs() <= MAX_SECONDS, "`ttl` must be at most 10 years");
        if let Some(remember) = self.remember {
            assert!(remember.as_nanos() >= self.ttl.as_nanos(), "`remember` must be at least `ttl`");
            assert!(remember.as_secs() <= MAX_SECONDS, "`remember` must be at most 10 years");
        }
        let mut source = 0;
        while source < self.key.len() {
            match self.key[source] {
                KeySource::Header(name) => {
                    assert!(is_header(name), "a header key has the name of a header, `x-event-id`");
                    assert!(
                        !self.financial || !names_a_delivery(name),
                        "`financial` needs a key that names the payment: `x-request-id` and the like name one delivery"
                    );
                }
                KeySource::Body(pointer) => {
                    assert!(is_pointer(pointer), "a body key is at a JSON pointer, `/order/id`");
                }
                _ => {}
            }
            source += 1;
        }
        if let FingerprintRule::Fields(pointers) = self.fingerprint {
            assert!(!pointers.is_empty(), "`fields` needs at least one JSON pointer");
            let mut field = 0;
            while field < pointers.len() {
                assert!(is_pointer(pointers[field]), "a field is at a JSON pointer, `/amount`");
                field += 1;
            }
        }
        if self.financial {
            assert!(!matches!(self.missing, Some(Missing::Run)), "`financial` cannot run without a key");
            assert!(matches!(self.on_store_error, OnStoreError::Reject), "`financial` cannot run without the store");
            assert!(!matches!(self.fingerprint, FingerprintRule::Off), "`financial` needs a fingerprint");
            assert!(self.ttl.as_nanos() >= DAY.as_nanos(), "`financial` needs a `ttl` of at least 24 h");
        }
        if self.transaction {
            assert!(self.lease.is_none(), "`transaction` holds no lease: leave `lease` out");
            assert!(self.renew_for.is_none(), "`transaction` holds no lease: leave `renew_for` out");
            assert!(self.on_abandoned.is_none(), "`transaction` leaves nothing abandoned: leave `on_abandoned` out");
            assert!(matches!(self.on_store_error, OnStoreError::Reject), "`transaction` cannot run without the store");
        }
        self
    }

    pub(crate) const fn scope_name(&self) -> &'static str {
        self.scope
    }

    pub(crate) const fn key_sources(&self) -> &'static [KeySource] {
        if self.key.is_empty() { &[KeySource::DEFAULT] } else { self.key }
    }

    pub(crate) const fn on_missing(&self) -> Missing {
        match self.missing {
            Some(missing) => missing,
            None if self.key.is_empty() => Missing::Run,
            None => Missing::Reject,
        }
    }

    /// Events without an id run only where that is written out.
    pub(crate) const fn runs_without_id(&self) -> bool {
        matches!(self.missing, Some(Missing::Run))
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.max_attempts
    }

    pub(crate) const fn reach(&self) -> KeySpace {
        self.key_space
    }

    pub(crate) const fn fingerprint_rule(&self) -> FingerprintRule {
        self.fingerprint
    }

    pub(crate) const fn store_rule(&self) -> StoreRule {
        self.store
    }

    pub(crate) const fn conflict(&self) -> OnConflict {
        self.on_conflict
    }

    pub(crate) const fn lease_time(&self) -> Duration {
        match self.lease {
            Some(lease) => lease,
            None => Duration::from_secs(30),
        }
    }

    pub(crate) const fn is_financial(&self) -> bool {
        self.financial
    }

    pub(crate) const fn renewed_for(&self) -> Option<Duration> {
        self.renew_for
    }

    pub(crate) const fn is_transaction(&self) -> bool {
        self.transaction
    }

    pub(crate) const fn abandoned(&self) -> OnAbandoned {
        match self.on_abandoned {
            Some(on_abandoned) => on_abandoned,
            None if self.financial => OnAbandoned::Refuse,
            None => OnAbandoned::Retry,
        }
    }

    /// Whether a retry runs after a handler that broke off, as a transaction has undone what it did, or asks what became of it.
    pub(crate) const fn goes_on_after_a_panic(&self) -> bool {
        self.transaction || !matches!(self.abandoned(), OnAbandoned::Refuse)
    }

    /// Whether a retry asks what became of an operation whose outcome is unknown.
    pub(crate) const fn recovers(&self) -> bool {
        !self.transaction && matches!(self.abandoned(), OnAbandoned::Recover(_))
    }

    pub(crate) const fn store_error(&self) -> OnStoreError {
        self.on_store_error
    }

    pub(crate) const fn answer_kept(&self) -> Duration {
        self.ttl
    }

    pub(crate) const fn remembered(&self) -> Duration {
        match self.remember {
            Some(remember) => remember,
            None => self.ttl,
        }
    }
}

/// Ten years: longer is a mistake, and far inside what every store can count.
pub(crate) const MAX_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// RFC 9110, section 5.1: a token.
const fn is_header(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let is_mark = matches!(
            bytes[at],
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        if !is_mark && !bytes[at].is_ascii_alphanumeric() {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

/// Whether whoever passes a request on makes up a new one for each retry.
const fn names_a_delivery(header: &str) -> bool {
    const NAMES: [&str; 5] = ["request-id", "traceparent", "x-amzn-trace-id", "x-correlation-id", "x-request-id"];
    let mut at = 0;
    while at < NAMES.len() {
        if header.eq_ignore_ascii_case(NAMES[at]) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_scope(scope: &str) -> bool {
    let bytes = scope.as_bytes();
    if bytes.is_empty() || bytes.len() > 64 {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// No request could ever have such a header.
    #[test]
    fn a_key_in_a_header_needs_the_name_of_one() {
        for (name, is_one) in
            [("x-event-id", true), ("X-Event-Id", true), ("", false), ("x event", false), ("x:y", false), ("é", false)]
        {
            let key: &'static [KeySource] = Box::leak(Box::new([KeySource::Header(name)]));
            assert_eq!(catch_unwind(|| Policy::new("a").key(key).validate()).is_ok(), is_one, "{name}");
        }
    }

    /// A retry that comes under another name would be charged again.
    #[test]
    fn a_key_of_one_delivery_is_none_where_money_moves() {
        const DELIVERY: Policy = Policy::new("a").key(&[KeySource::DEFAULT, KeySource::Header("X-Request-Id")]);
        assert!(catch_unwind(|| DELIVERY.financial().validate()).is_err());
        assert!(catch_unwind(|| DELIVERY.validate()).is_ok());
    }

    /// What is let go before its lease is out for the first time was never renewed.
    #[test]
    fn a_lease_is_renewed_for_at_least_its_own_time() {
        let renewed = |seconds| Policy::new("a").renew_for(Duration::from_secs(seconds));
        for (policy, holds) in [
            (renewed(30), true),
            (renewed(29), false),
            (renewed(10).lease(Duration::from_secs(10)), true),
            (renewed(9).lease(Duration::from_secs(10)), false),
            (renewed(MAX_SECONDS), true),
            (renewed(MAX_SECONDS + 1), false),
        ] {
            assert_eq!(catch_unwind(|| policy.validate_for_events()).is_ok(), holds, "{policy:?}");
        }
    }
}
