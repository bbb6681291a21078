//! What is kept of an operation that ran, as bytes that any version can check before it believes them.
//!
//! An answer is one envelope: a format byte, a kind byte, four bytes of checksum, then the content. The layout is
//! frozen by golden tests; a reader that meets a newer format or broken bytes says so and never takes them for absent.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::{BufMut, Bytes};
use serde::Serialize;

/// What a store keeps for a completed operation: opaque to the store, given back byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Answer(Bytes);

/// What the content of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A response: status, headers, body, trailers.
    Response,
    /// A value of the program, as JSON.
    Value,
    /// Why an event is parked, and the event.
    Parked,
    /// Nothing: the event was parked and may run now, under a key of its own.
    Redriven,
}

/// The bytes are not an answer this version can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

const FORMAT: u8 = 1;
const CHECKSUM: usize = 4;
const HEADER: usize = 2 + CHECKSUM;

impl Answer {
    /// An answer from the bytes a store kept.
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes to keep.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes there are to keep.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none. An answer that was sealed is never empty.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seals the `size` bytes that `write` puts. Where they are not as many, it costs another buffer and is as right.
    pub(crate) fn seal(kind: Kind, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + size);
        bytes.put_u8(FORMAT);
        bytes.put_u8(kind.byte());
        bytes.put_bytes(0, CHECKSUM);
        write(&mut bytes);
        let checksum = checksum(kind, &bytes[HEADER..]);
        bytes[2..HEADER].copy_from_slice(&checksum);
        Self(bytes.into())
    }

    /// A value as JSON of at most `max` bytes. `None`: it is larger, or cannot be written, be it that its `Serialize` panics.
    pub(crate) fn of_value(value: &(impl Serialize + ?Sized), max: usize) -> Option<Self> {
        // Unwind safe: a value is only looked at, and one that panics is not looked at again.
        let json = catch_unwind(AssertUnwindSafe(|| serde_json::to_vec(value))).ok()?.ok()?;
        (json.len() <= max).then(|| Self::seal(Kind::Value, json.len(), |bytes| bytes.put_slice(&json)))
    }

    /// The content, if the bytes are whole and of this kind.
    pub(crate) fn open(&self, kind: Kind) -> Result<Bytes, Unreadable> {
        let header = self.0.get(..HEADER).ok_or(Unreadable)?;
        if header[0] != FORMAT || header[1] != kind.byte() {
            return Err(Unreadable);
        }
        let content = self.0.slice(HEADER..);
        if header[2..] == checksum(kind, &content) { Ok(content) } else { Err(Unreadable) }
    }
}

/// Never the content: it may be what only one customer may see.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Response => 1,
            Self::Value => 2,
            Self::Parked => 3,
            Self::Redriven => 4,
        }
    }
}

/// CRC-32, as zlib computes it, over everything else. It is there against bytes that broke, and tells each error of up to 32 bits
/// in a row; whoever may write to the store could compute any checksum.
fn checksum(kind: Kind, content: &[u8]) -> [u8; CHECKSUM] {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[FORMAT, kind.byte()]);
    checksum.update(content);
    checksum.finalize().to_be_bytes()
}

#[cfg(test)]
mod tests;
