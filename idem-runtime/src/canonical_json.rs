//! JSON in one spelling, so that two texts can be compared by what they say.
//!
//! The canonical form has no white space, members in the order of their names' code points, strings with the
//! shortest escapes (only `"`, `\` and control characters have one) and numbers laid out as [RFC 8785] does, but with
//! every digit that was written: nothing is rounded to a double, so 2^53 and 2^53 + 1 stay apart. A number is its
//! value: `1`, `1.0` and `10e-1` are one, and so are `0`, `-0` and `-0.0`.
//!
//! The scanner takes [RFC 8259] and nothing more. What two readers could understand differently is refused: a member
//! given twice, half a surrogate pair. Errors say where and what kind, never what was written there.
//!
//! serde_json cannot do this: only its `arbitrary_precision` keeps digits, and switching that on would change how every
//! other crate of the same build reads numbers.
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259
//! [RFC 8785]: https://www.rfc-editor.org/rfc/rfc8785

mod number;
mod pointer;
mod scanner;
mod serialize;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

pub(crate) use self::{
    number::Number,
    pointer::{BodyKey, body_key, is_pointer},
    serialize::to_json,
};

/// One JSON value, borrowing what it can from the text it was read from.
///
/// Never printed: it is somebody's request.
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    /// In the order of the names' code points, no name twice.
    Object(Vec<Member<'a>>),
}

/// A member of an object.
pub(crate) struct Member<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Value<'a>,
}

/// A text is not JSON, or a value cannot be written as JSON that says the same to every reader.
///
/// Names the place and the kind of mistake, never what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    kind: JsonErrorKind,
    offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonErrorKind {
    /// A byte that cannot stand there.
    Unexpected,
    /// The text ends inside a value.
    End,
    /// Bytes behind the value.
    Trailing,
    /// Not UTF-8.
    Encoding,
    /// An escape of half a surrogate pair.
    Surrogate,
    /// A name twice in one object.
    Duplicate,
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// An exponent of more than 18 digits.
    Exponent,
    /// A float that is infinite or not a number.
    NotFinite,
    /// A value whose own `Serialize` fails, or a map whose keys are not text.
    Unserializable,
    /// A pointer that is not RFC 6901.
    Pointer,
}

/// How deep arrays and objects may nest. serde_json stops one level earlier, so that what it reads we read.
pub(crate) const MAX_DEPTH: usize = 128;

/// The canonical form of a JSON text. Takes memory in proportion to the text, whatever its exponents.
pub(crate) fn canonical(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let value = Value::parse(text)?;
    let mut out = Vec::with_capacity(text.len());
    value.write_canonical(&mut out);
    Ok(out)
}

impl<'a> Value<'a> {
    /// Reads a whole text, which must be one value.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        scanner::scan(text)
    }

    /// Appends the canonical form.
    pub(crate) fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => number.write_canonical(out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => write_list(b"[]", items, out, Self::write_canonical),
            Self::Object(members) => write_list(b"{}", members, out, |member, out| {
                write_string(&member.name, out);
                out.push(b':');
                member.value.write_canonical(out);
            }),
        }
    }
}

impl JsonError {
    pub(crate) const fn new(kind: JsonErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    pub(crate) const fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// How many bytes stand before the mistake. For a duplicate member: before its object. 0 if there is no text,
    /// because a value was to be written rather than read.
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.offset;
        match self.kind {
            JsonErrorKind::Unexpected => write!(f, "not JSON at byte {at}; write what RFC 8259 allows"),
            JsonErrorKind::End => write!(f, "the JSON ends too early, at byte {at}; send all of it"),
            JsonErrorKind::Trailing => write!(f, "more follows the JSON at byte {at}; send one value"),
            JsonErrorKind::Encoding => write!(f, "not UTF-8 at byte {at}; write JSON in UTF-8"),
            JsonErrorKind::Surrogate => {
                write!(f, "half a surrogate pair at byte {at}; escape both halves, or write the character itself")
            }
            JsonErrorKind::Duplicate => {
                write!(f, "a member stands twice in the object at byte {at}; write each name once")
            }
            JsonErrorKind::Depth => {
                write!(f, "nested too deep at byte {at}; nest arrays and objects at most {MAX_DEPTH} deep")
            }
            JsonErrorKind::Exponent => {
                write!(f, "an exponent is too large at byte {at}; write one of at most 18 digits")
            }
            JsonErrorKind::NotFinite => {
                f.write_str("a float is infinite or not a number, which JSON cannot say; write a finite one")
            }
            JsonErrorKind::Unserializable => f.write_str(
                "a value cannot be written as JSON; give maps keys that are text or whole numbers, and a `Serialize` \
                 that does not fail",
            ),
            JsonErrorKind::Pointer => f.write_str(
                "not a JSON pointer; write nothing or names after `/` each, with `~0` for `~` and `~1` for `/`",
            ),
        }
    }
}

impl std::error::Error for JsonError {}

/// As RFC 8785 and serde_json write a string: what needs no escape has none, the short ones before `\u00..`.
fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = escaped.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            0x08 => out.extend_from_slice(br"\b"),
            b'\t' => out.extend_from_slice(br"\t"),
            b'\n' => out.extend_from_slice(br"\n"),
            0x0c => out.extend_from_slice(br"\f"),
            b'\r' => out.extend_from_slice(br"\r"),
            byte => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(br"\u00");
                out.extend_from_slice(&digits);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_list<T>(brackets: &[u8; 2], items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    let [open, close] = *brackets;
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(close);
}
