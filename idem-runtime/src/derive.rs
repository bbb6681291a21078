//! Keys made from what an operation is about, for callers that send none.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    canonical_json::{self, JsonError, Value},
    key::{StorageKey, ToKey},
};

mod python;

/// The key of doing `action` to `entity` with `params`: 64 hex digits, the same on every machine, in every process and
/// for every order of fields.
///
/// It is SHA-256 over the byte 1 and three parts, each as a tag (1 entity, 2 action, 3 params), its length in eight
/// bytes, big endian, and its bytes. `params` is canonical JSON: no white space, members sorted by the code points of
/// their names, numbers with every digit and in the layout of [RFC 8785]. No two lists of parts meet: `a:b` with `c` is
/// not `a` with `b:c`, and no params (`()`, `null`) are not empty ones (`{}`).
///
/// ```
/// use std::collections::HashMap;
/// use idem_runtime::derive_key;
///
/// let params = HashMap::from([("amount", 1999), ("installment", 3)]);
/// let key = derive_key("order-123", "charge", &params)?;
/// assert_eq!(key, "7f68e5b3acdc964c609ff13c230d3ea5fa14d661cff3421053c07bf423086cc3");
/// # Ok::<(), idem_runtime::DeriveKeyError>(())
/// ```
///
/// Leave out of `params` what changes from one retry to the next: times, random numbers, and sets without an order such
/// as `HashSet`, whose items are not sorted. Write amounts as whole numbers or text: a float is what its reader made of it.
///
/// # Errors
/// When `entity` or `action` is `None`, or `params` cannot be written as JSON that says the same to every reader.
///
/// [RFC 8785]: https://www.rfc-editor.org/rfc/rfc8785
pub fn derive_key(entity: impl ToKey, action: impl ToKey, params: impl Serialize) -> Result<String, DeriveKeyError> {
    let entity = entity.to_key().ok_or(DeriveKeyError::NoEntity)?;
    let action = action.to_key().ok_or(DeriveKeyError::NoAction)?;
    let params = canonical_json::canonical(&canonical_json::to_json(&params)?)?;
    let mut digest = Sha256::new_with_prefix([LAYOUT]);
    for (tag, part) in [(1, entity.as_bytes()), (2, action.as_bytes()), (3, &params)] {
        digest.update([tag]);
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Ok(hex(&digest.finalize()))
}

/// The key that a recipe in common use gives, digit for digit, so that a Python client and this server agree. Prefer
/// [`derive_key`] where both sides can be changed.
///
/// ```python
/// def key(entity, action, params=None):
///     text = f"{entity}:{action}"
///     if params:
///         text += ":" + json.dumps(params, sort_keys=True)
///     return hashlib.sha256(text.encode()).hexdigest()[:32]
/// ```
///
/// `params` is what Python has after loading the JSON that serde_json writes: a map's whole-number keys are text and
/// sort as text, an `f32` is the shortest float that reads back as it.
///
/// Where `params` came as JSON, prefer [`python_recipe_key_from_json`] of that text. serde_json without its
/// `float_roundtrip` feature reads some floats of 16 or 17 digits as their neighbour, and then Python's key is another;
/// amounts of two decimals are read right. It also reads whole numbers beyond 64 bits as floats.
///
/// # Collisions
/// Different operations can meet in one key, by the recipe:
///
/// - the parts are joined: `a:b` with `c` is `a` with `b:c`, and an action that ends in `:{"x": 1}` is that action with
///   those params;
/// - empty params (`{}`, `[]`, `""`, `0`, `false`) are the same as none;
/// - 128 bits are kept of 256.
///
/// A key that came from elsewhere meets the fingerprint of the request it was first used with: another body under the
/// same key is refused, the same body is not. Keep `:` out of entities and actions.
///
/// ```
/// use idem_runtime::python_recipe_key;
///
/// let key = python_recipe_key("order-123", "create", serde_json::json!({ "currency": "USD", "amount": 100 }))?;
/// assert_eq!(key, "0681b5ad331e2ebe28b4f1ab218048a4");
/// # Ok::<(), idem_runtime::DeriveKeyError>(())
/// ```
///
/// # Errors
/// As [`derive_key`]. Python would print an infinite float; here it is refused, as it is not JSON.
pub fn python_recipe_key(
    entity: impl ToKey,
    action: impl ToKey,
    params: impl Serialize,
) -> Result<String, DeriveKeyError> {
    recipe(entity, action, &canonical_json::to_json(&params)?)
}

/// [`python_recipe_key`] of params that are JSON text already: what the client sent, before any number in it was rounded
/// to what a Rust type holds.
///
/// Python's `json.loads` reads a little more than JSON. What says nothing certain is refused here: a name twice in one
/// object, half a surrogate pair, `NaN`, nesting deeper than 128. A float too large for a double is `Infinity`, as there.
///
/// # Errors
/// As [`derive_key`], and when `params` is not JSON.
pub fn python_recipe_key_from_json(
    entity: impl ToKey,
    action: impl ToKey,
    params: &str,
) -> Result<String, DeriveKeyError> {
    recipe(entity, action, params.as_bytes())
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeriveKeyError {
    /// The entity is `None`.
    NoEntity,
    /// The action is `None`.
    NoAction,
    /// The params are not JSON, or cannot be written as JSON.
    Params(JsonError),
}

impl fmt::Display for DeriveKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntity => f.write_str("the entity is `None`; name what the key is about"),
            Self::NoAction => f.write_str("the action is `None`; name what is done"),
            Self::Params(error) => write!(f, "no key can be made of the params: {error}"),
        }
    }
}

impl std::error::Error for DeriveKeyError {}

impl From<JsonError> for DeriveKeyError {
    fn from(error: JsonError) -> Self {
        Self::Params(error)
    }
}

/// What [`derive_key`] digests; it changes only together with this byte.
const LAYOUT: u8 = 1;

const DOWNSTREAM_LAYOUT: u8 = 1;

fn recipe(entity: impl ToKey, action: impl ToKey, params: &[u8]) -> Result<String, DeriveKeyError> {
    let entity = entity.to_key().ok_or(DeriveKeyError::NoEntity)?;
    let action = action.to_key().ok_or(DeriveKeyError::NoAction)?;
    let params = Value::parse(params)?;
    let mut digest = Sha256::new().chain_update(&*entity).chain_update(":").chain_update(&*action);
    if python::is_true(&params) {
        digest.update(":");
        digest.update(python::dumps(&params));
    }
    let mut key = hex(&digest.finalize());
    key.truncate(32);
    Ok(key)
}

/// The key of one step of an operation at somebody else's service: SHA-256 over a label, the byte 1, the operation's
/// storage key, the step's length in eight bytes, big endian, and the step.
pub(crate) fn downstream_key(key: &StorageKey, step: &str) -> String {
    let digest = Sha256::new()
        .chain_update(b"idem downstream key")
        .chain_update([DOWNSTREAM_LAYOUT])
        .chain_update(key.as_bytes())
        .chain_update((step.len() as u64).to_be_bytes())
        .chain_update(step)
        .finalize();
    hex(&digest)
}

/// Two digits for each byte, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;

    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
