//! Digests over parts: a layout byte, then of each part its tag, its length and its bytes. No two lists of parts meet.
//!
//! A length below 255 is one byte, as a digest is paid for by the block of 64; another is the byte 255 and the length in eight bytes,
//! big endian.

use sha2::digest::Update;

/// In place of a length that eight bytes tell.
const LONG: u8 = u8::MAX;

/// The parts so far.
pub(crate) struct Parts<D>(D);

impl<D: Update> Parts<D> {
    pub(crate) fn new(digest: D, layout: u8) -> Self {
        Self(digest.chain([layout]))
    }

    pub(crate) fn push(&mut self, tag: u8, part: &[u8]) {
        match u8::try_from(part.len()) {
            Ok(length) if length != LONG => self.0.update(&[tag, length]),
            _ => {
                self.0.update(&[tag, LONG]);
                self.0.update(&(part.len() as u64).to_be_bytes());
            }
        }
        self.0.update(part);
    }

    /// The digest of them all.
    pub(crate) fn finish(self) -> D {
        self.0
    }
}
