//! JSON pointers: [RFC 6901](https://www.rfc-editor.org/rfc/rfc6901).

use std::borrow::Cow;

use super::{JsonError, JsonErrorKind, Value};

/// What a JSON body holds where a key was looked for.
#[derive(PartialEq, Eq)]
pub(crate) enum BodyKey {
    /// Nothing, or `null`.
    Absent,
    /// A string, decoded, or the digits of a whole number.
    Text(String),
    /// A fraction, an exponent, a boolean, an array or an object: no key is made of these, as in
    /// [`ToKey`](crate::ToKey).
    Unusable,
}

/// The key at `pointer` in a JSON body.
pub(crate) fn body_key(body: &[u8], pointer: &str) -> Result<BodyKey, JsonError> {
    Ok(match Value::parse(body)?.pointer(pointer)? {
        None | Some(Value::Null) => BodyKey::Absent,
        Some(Value::String(text)) => BodyKey::Text(text.clone().into_owned()),
        Some(Value::Number(number)) => {
            number.integer().map_or(BodyKey::Unusable, |digits| BodyKey::Text(digits.to_owned()))
        }
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => BodyKey::Unusable,
    })
}

/// Whether it is a pointer at all: nothing, or `/` before each name, and `~` only in `~0` and `~1`.
pub(crate) const fn is_pointer(pointer: &str) -> bool {
    let bytes = pointer.as_bytes();
    if !bytes.is_empty() && bytes[0] != b'/' {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'~' && !(at + 1 < bytes.len() && matches!(bytes[at + 1], b'0' | b'1')) {
            return false;
        }
        at += 1;
    }
    true
}

impl<'a> Value<'a> {
    /// The value at `pointer`, if there is one.
    pub(crate) fn pointer(&self, pointer: &str) -> Result<Option<&Value<'a>>, JsonError> {
        if !is_pointer(pointer) {
            return Err(JsonError::new(JsonErrorKind::Pointer, 0));
        }
        // Before the first `/` stands nothing: the whole value.
        Ok(pointer.split('/').skip(1).try_fold(self, |value, step| value.step(step)))
    }

    fn step(&self, step: &str) -> Option<&Value<'a>> {
        match self {
            Self::Object(members) => {
                let name = unescape(step);
                let index = members.binary_search_by(|member| (*member.name).cmp(&name)).ok()?;
                members.get(index).map(|member| &member.value)
            }
            Self::Array(items) => items.get(index(step)?),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => None,
        }
    }
}

/// `~1` first: `~01` is `~1`, not `/`.
fn unescape(step: &str) -> Cow<'_, str> {
    if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
}

/// Digits without a leading zero; `-`, the place behind the last item, is never there to be read.
fn index(step: &str) -> Option<usize> {
    let canonical = step == "0" || !step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { step.parse().ok() } else { None }
}
