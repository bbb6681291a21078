//! The digest of the request a key was first used with.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    canonical_json::{self, JsonError, Value},
    digest,
    key::KeyRequest,
    policy::{FingerprintRule, KeySpace},
};

/// SHA-256 over what two requests with one key must have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// What the function of `fingerprint = from_fn(..)` may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no fingerprint",
    label = "not a `Fingerprint`, nor an `Option` or a `Result` of one",
    note = "write `Fingerprint::of_bytes(..)` or `Fingerprint::of_json(..)`",
    note = "a future is no fingerprint: the function of `from_fn` is not async"
)]
pub trait ToFingerprint {
    /// The fingerprint; `None`: the request cannot be compared.
    fn to_fingerprint(self) -> Option<Fingerprint>;
}

/// Why a request has no fingerprint.
#[derive(Debug)]
pub(crate) enum NoFingerprint {
    /// The rule reads JSON, and the body is none.
    Json(JsonError),
    /// The function says so.
    Function,
}

/// What of a request a fingerprint may cover. Who sent it, and through which proxies, is not part of it.
#[derive(Clone, Copy)]
pub(crate) struct RequestParts<'a> {
    pub(crate) method: &'a str,
    /// The path as the client sent it, whatever routers are nested; where the target was replaced, with the new one.
    pub(crate) path: &'a str,
    /// Absent and empty are alike: some proxies drop a lone `?`.
    pub(crate) query: Option<&'a str>,
    /// Absent and empty are alike.
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) body: &'a [u8],
}

impl Fingerprint {
    /// A fingerprint from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, as stores keep them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of an operation whose input is these bytes, exactly.
    pub fn of_bytes(input: &[u8]) -> Self {
        let mut parts = Parts::new();
        parts.push(tag::INPUT, input);
        parts.finish()
    }

    /// The fingerprint of an operation whose input is this value: the order of members, of a `HashMap` say, and the
    /// spelling of a number (`1` or `1.0`) do not count.
    ///
    /// # Errors
    /// When a float is infinite or not a number, a map's keys are not text, a name stands twice in one object, the
    /// value nests deeper than 128 or its `Serialize` fails.
    pub fn of_json(input: &(impl Serialize + ?Sized)) -> Result<Self, JsonError> {
        Self::of_json_text(&canonical_json::to_json(input)?)
    }

    /// The fingerprint of an operation whose input is this JSON text: as [`of_json`](Self::of_json) of what it says,
    /// with numbers of any size compared digit for digit.
    ///
    /// # Errors
    /// When it is not JSON, a name stands twice in one object, a string holds half a surrogate pair, or it nests deeper
    /// than 128.
    pub fn of_json_text(input: &[u8]) -> Result<Self, JsonError> {
        let mut parts = Parts::new();
        parts.push(tag::JSON_INPUT, &canonical_json::canonical(input)?);
        Ok(parts.finish())
    }

    /// The fingerprint of an event by the rule of its policy.
    ///
    /// # Errors
    /// When the rule reads JSON and the payload is none, or holds a member twice.
    pub(crate) fn of_payload(rule: FingerprintRule, payload: &[u8]) -> Result<Self, JsonError> {
        match rule {
            // No policy of events has a function: there is no request that it could be asked of.
            FingerprintRule::Bytes | FingerprintRule::Function(_) => Ok(Self::of_bytes(payload)),
            FingerprintRule::Json => Self::of_json_text(payload),
            FingerprintRule::Fields(pointers) => {
                let mut parts = Parts::new();
                parts.push_fields(pointers, payload)?;
                Ok(parts.finish())
            }
            FingerprintRule::Off => Ok(Parts::new().finish()),
        }
    }

    /// The fingerprint of a request by the rule of its policy.
    ///
    /// `whole` is the request for a function, asked for only where the rule is one.
    ///
    /// # Errors
    /// When the rule reads JSON and the body is none, or holds a member twice; when a function makes nothing of it.
    pub(crate) fn of_request<'a>(
        rule: FingerprintRule,
        key_space: KeySpace,
        request: &RequestParts<'_>,
        whole: impl FnOnce() -> KeyRequest<'a>,
    ) -> Result<Self, NoFingerprint> {
        let mut parts = Parts::new();
        match rule {
            FingerprintRule::Bytes => {
                parts.push_target(request);
                parts.push(tag::BODY, request.body);
            }
            FingerprintRule::Json => {
                parts.push_target(request);
                parts.push(tag::JSON_BODY, &canonical_json::canonical(request.body)?);
            }
            FingerprintRule::Fields(pointers) => {
                parts.push_endpoint(request);
                parts.push_fields(pointers, request.body)?;
            }
            FingerprintRule::Function(find) => {
                let Self(made) = find(&whole()).ok_or(NoFingerprint::Function)?;
                parts.push_endpoint(request);
                parts.push(tag::MADE, &made);
            }
            FingerprintRule::Off => match key_space {
                // Endpoints are kept apart by the storage key.
                KeySpace::Endpoint => {}
                KeySpace::Scope => parts.push_endpoint(request),
            },
        }
        Ok(parts.finish())
    }
}

impl From<JsonError> for NoFingerprint {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

#[diagnostic::do_not_recommend]
impl ToFingerprint for Fingerprint {
    fn to_fingerprint(self) -> Option<Fingerprint> {
        Some(self)
    }
}

#[diagnostic::do_not_recommend]
impl ToFingerprint for Option<Fingerprint> {
    fn to_fingerprint(self) -> Option<Fingerprint> {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<E> ToFingerprint for Result<Fingerprint, E> {
    fn to_fingerprint(self) -> Option<Fingerprint> {
        self.ok()
    }
}

/// The first eight hex digits: enough to tell two apart in a log, too little to test a guessed body against.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// What fingerprints digest; it changes only together with this byte.
const LAYOUT: u8 = 1;

/// Tags of the digested [`Parts`](digest::Parts).
mod tag {
    pub(super) const METHOD: u8 = 1;
    pub(super) const PATH: u8 = 2;
    pub(super) const QUERY: u8 = 3;
    pub(super) const CONTENT_TYPE: u8 = 4;
    pub(super) const BODY: u8 = 5;
    pub(super) const JSON_BODY: u8 = 6;
    pub(super) const POINTER: u8 = 7;
    pub(super) const FIELD: u8 = 8;
    pub(super) const INPUT: u8 = 9;
    pub(super) const JSON_INPUT: u8 = 10;
    pub(super) const MADE: u8 = 11;
}

/// The digest so far.
struct Parts(digest::Parts<Sha256>);

impl Parts {
    fn new() -> Self {
        Self(digest::Parts::new(Sha256::new(), LAYOUT))
    }

    fn push_target(&mut self, request: &RequestParts<'_>) {
        self.push_endpoint(request);
        self.push(tag::QUERY, request.query.unwrap_or_default().as_bytes());
        self.push(tag::CONTENT_TYPE, request.content_type.unwrap_or_default());
    }

    fn push_endpoint(&mut self, request: &RequestParts<'_>) {
        self.push(tag::METHOD, request.method.as_bytes());
        self.push(tag::PATH, request.path.as_bytes());
    }

    fn push_fields(&mut self, pointers: &[&str], text: &[u8]) -> Result<(), JsonError> {
        let document = Value::parse(text)?;
        let mut canonical = Vec::new();
        for pointer in pointers {
            self.push(tag::POINTER, pointer.as_bytes());
            // A member that is `null` is there, and so another one than none.
            if let Some(value) = document.pointer(pointer)? {
                canonical.clear();
                value.write_canonical(&mut canonical);
                self.push(tag::FIELD, &canonical);
            }
        }
        Ok(())
    }

    fn push(&mut self, tag: u8, part: &[u8]) {
        self.0.push(tag, part);
    }

    fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finish().finalize().into())
    }
}

#[cfg(test)]
mod tests;
