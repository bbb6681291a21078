//! Keys: where one comes from, what the client sent, and what a store sees of it.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256, digest::Update};

use crate::{
    digest::Parts,
    fingerprint::Fingerprint,
    policy::{KeySpace, Policy},
};

/// Where the idempotency key of a request comes from.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum KeySource {
    /// A header, by its lower-case name: bare, or as a quoted string ([RFC 9651](https://www.rfc-editor.org/rfc/rfc9651)).
    Header(&'static str),
    /// A parameter of the route's path, decoded. On a route without it a request is answered with 500, and nothing runs.
    Path(&'static str),
    /// A parameter of the query, decoded. Given twice, it is refused.
    Query(&'static str),
    /// A string or an integer in a JSON body, by JSON pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)).
    Body(&'static str),
    /// A function of the request.
    Function(fn(&KeyRequest<'_>) -> Option<String>),
    /// The handler's arguments. Only the attribute can evaluate it.
    #[doc(hidden)]
    Arguments,
}

/// What a function that makes a key or a fingerprint may look at: the request before the handler's last argument took it apart.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct KeyRequest<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target as the client sent it, whatever routers are nested; where it was replaced on its way to the
    /// guard, the new one.
    pub uri: &'a Uri,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a Bytes,
}

/// What can be an idempotency key or a principal: text and whole numbers.
///
/// `None` is no key at all. Floats, booleans and dates are left out on purpose: write the text you mean.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can be neither an idempotency key nor a principal",
    label = "neither text nor a whole number",
    note = "write `.to_string()` if its text is the same on every retry",
    note = "a future is no key: the function of `from_fn` is not async"
)]
pub trait ToKey {
    /// The key's text, or `None` if there is none.
    fn to_key(&self) -> Option<Cow<'_, str>>;
}

/// Which record of a store: SHA-256 over scope, principal, key and, unless the key space is the scope, the endpoint.
///
/// `{}` writes the first eight of its hex digits, as logs do; `{:x}` all 64, by which a store names the record:
///
/// | store | where |
/// |---|---|
/// | Redis | the key `idem:{HEX}`, braces and all, or another prefix; a copy `idem-copy:{HEX}` |
/// | Postgres | the row of `idem_records` `WHERE key = '\xHEX'` |
/// | SQLite | the row of `idem_records` `WHERE key = x'HEX'` |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageKey([u8; 32]);

/// Whose key it is. Two principals with one key never meet.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal(Option<Arc<str>>);

/// Mixed into every storage key and fingerprint, so that whoever reads the store cannot test guesses of keys and requests.
#[derive(Clone)]
pub(crate) struct Pepper(Arc<[u8]>);

/// What, beside scope and key, makes an operation another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointName<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

/// Which event of a consumer a record is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EventName<'a> {
    /// The one with this id.
    Id(&'a str),
    /// One whose id was used with another payload before, by the digest of its own.
    Reused { id: &'a str, payload: &'a [u8; 32] },
    /// One without an id, by the digest of its payload.
    Anonymous(&'a [u8; 32]),
    /// One whose bytes are not what they should be, by their digest; those of another id are another event.
    Undecodable { id: Option<&'a str>, payload: &'a [u8; 32] },
    /// One that was parked under this key and runs beside it.
    Redriven(&'a StorageKey),
}

impl KeySource {
    /// The `Idempotency-Key` header.
    pub const DEFAULT: Self = Self::Header("idempotency-key");
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "Header({name:?})"),
            Self::Path(name) => write!(f, "Path({name:?})"),
            Self::Query(name) => write!(f, "Query({name:?})"),
            Self::Body(pointer) => write!(f, "Body({pointer:?})"),
            Self::Function(_) => f.write_str("Function(..)"),
            Self::Arguments => f.write_str("Arguments"),
        }
    }
}

/// Never the target, the headers or the body: keys, tokens and whatever the client sent.
impl fmt::Debug for KeyRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").field("method", self.method).finish_non_exhaustive()
    }
}

impl<'a> KeyRequest<'a> {
    /// A request with these parts, for a test of a function that is given one.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use idem_runtime::KeyRequest;
    ///
    /// fn event_id(request: &KeyRequest<'_>) -> Option<String> {
    ///     Some(request.headers.get("x-event-id")?.to_str().ok()?.to_owned())
    /// }
    ///
    /// # fn main() -> Result<(), http::Error> {
    /// let sent = Request::post("/orders").header("x-event-id", "evt_1").body(Bytes::new())?;
    /// let request = KeyRequest::new(sent.method(), sent.uri(), sent.headers(), sent.body());
    /// assert_eq!(event_id(&request).as_deref(), Some("evt_1"));
    /// # Ok(())
    /// # }
    /// ```
    pub const fn new(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap, body: &'a Bytes) -> Self {
        Self { method, uri, headers, body }
    }
}

macro_rules! text_keys {
    ($($text:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl ToKey for $text {
            fn to_key(&self) -> Option<Cow<'_, str>> {
                Some(Cow::Borrowed(self))
            }
        }
    )*};
}

macro_rules! number_keys {
    ($($number:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl ToKey for $number {
            fn to_key(&self) -> Option<Cow<'_, str>> {
                Some(Cow::Owned(self.to_string()))
            }
        }
    )*};
}

text_keys!(str, String, Cow<'_, str>, Box<str>, Arc<str>);
number_keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl<T: ToKey + ?Sized> ToKey for &T {
    fn to_key(&self) -> Option<Cow<'_, str>> {
        (**self).to_key()
    }
}

impl<T: ToKey> ToKey for Option<T> {
    fn to_key(&self) -> Option<Cow<'_, str>> {
        self.as_ref().and_then(ToKey::to_key)
    }
}

impl Principal {
    /// Everybody: one key space for all callers. Right only where keys are unguessable or callers are one party.
    pub const SHARED: Self = Self(None);

    /// The caller called `name`: an account, a tenant, never a token that changes while the account stays.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Some(name.into()))
    }

    pub(crate) fn is_unnamed(&self) -> bool {
        self.0.as_deref().is_some_and(str::is_empty)
    }
}

/// Never the name.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Principal(..)" } else { "Principal(shared)" })
    }
}

impl Pepper {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Arc::from(secret))
    }

    /// What a store keeps of a fingerprint. Plain it would confirm a guess of what the request holds: a card's number, say, of whose digits
    /// the answer beside it shows most, or the key itself, where that stands in the target or the body.
    pub(crate) fn seal(&self, fingerprint: Fingerprint) -> Fingerprint {
        let StorageKey(sealed) = StorageKey::of_parts(&[(tag::FINGERPRINT, fingerprint.as_bytes())], Some(self));
        Fingerprint::from_bytes(sealed)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// The layout that [`StorageKey`] digests; it changes only together with this byte.
const LAYOUT: u8 = 1;

/// Tags of the digested [`Parts`].
mod tag {
    pub(super) const SCOPE: u8 = 1;
    pub(super) const SHARED: u8 = 2;
    pub(super) const PRINCIPAL: u8 = 3;
    pub(super) const KEY: u8 = 4;
    pub(super) const METHOD: u8 = 5;
    pub(super) const PATH: u8 = 6;
    pub(super) const EVENT: u8 = 7;
    pub(super) const PAYLOAD: u8 = 8;
    pub(super) const UNDECODABLE: u8 = 9;
    pub(super) const REDRIVEN: u8 = 10;
    pub(super) const FINGERPRINT: u8 = 11;
}

impl StorageKey {
    /// A storage key from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Digests length-prefixed, tagged parts, so that no two lists of parts meet.
    pub(crate) fn of(
        policy: &Policy,
        principal: &Principal,
        key: &str,
        endpoint: Option<EndpointName<'_>>,
        pepper: Option<&Pepper>,
    ) -> Self {
        let mut parts: [(u8, &[u8]); 5] = [(tag::SHARED, b""); 5];
        let mut used = 0;
        let mut push = |tag, part| {
            parts[used] = (tag, part);
            used += 1;
        };
        push(tag::SCOPE, policy.scope_name().as_bytes());
        match &principal.0 {
            Some(name) => push(tag::PRINCIPAL, name.as_bytes()),
            None => push(tag::SHARED, b""),
        }
        push(tag::KEY, key.as_bytes());
        if let (KeySpace::Endpoint, Some(endpoint)) = (policy.reach(), endpoint) {
            push(tag::METHOD, endpoint.method.as_bytes());
            push(tag::PATH, endpoint.path.as_bytes());
        }
        Self::of_parts(&parts[..used], pepper)
    }

    /// The key of an event of the consumer `policy` is of. Events have tags of their own, so that none meets a request's key.
    pub(crate) fn of_event(policy: &Policy, event: EventName<'_>, pepper: Option<&Pepper>) -> Self {
        let scope = (tag::SCOPE, policy.scope_name().as_bytes());
        match event {
            EventName::Id(id) => Self::of_parts(&[scope, (tag::EVENT, id.as_bytes())], pepper),
            EventName::Reused { id, payload } => {
                Self::of_parts(&[scope, (tag::EVENT, id.as_bytes()), (tag::PAYLOAD, payload)], pepper)
            }
            EventName::Anonymous(payload) => Self::of_parts(&[scope, (tag::PAYLOAD, payload)], pepper),
            EventName::Undecodable { id: None, payload } => {
                Self::of_parts(&[scope, (tag::UNDECODABLE, payload)], pepper)
            }
            EventName::Undecodable { id: Some(id), payload } => {
                Self::of_parts(&[scope, (tag::EVENT, id.as_bytes()), (tag::UNDECODABLE, payload)], pepper)
            }
            EventName::Redriven(key) => Self::of_parts(&[scope, (tag::REDRIVEN, key.as_bytes())], pepper),
        }
    }

    fn of_parts(parts: &[(u8, &[u8])], pepper: Option<&Pepper>) -> Self {
        match pepper {
            None => Self(digest_of(parts, Sha256::new()).finalize().into()),
            Some(Pepper(secret)) => {
                // HMAC hashes a secret longer than a block, so every length is one it takes.
                let Ok(digest) = Hmac::<Sha256>::new_from_slice(secret) else {
                    unreachable!("HMAC takes a secret of any length")
                };
                Self(digest_of(parts, digest).finalize().into_bytes().into())
            }
        }
    }
}

fn digest_of<D: Update>(parts: &[(u8, &[u8])], digest: D) -> D {
    let mut digested = Parts::new(digest, LAYOUT);
    for (tag, part) in parts {
        digested.push(*tag, part);
    }
    digested.finish()
}

/// The first eight hex digits: enough to follow one key through a log.
impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// All 64 hex digits, as a store names the record.
impl fmt::LowerHex for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({self})")
    }
}

#[cfg(test)]
mod tests;
