//! Digests over parts: a layout byte, then of each part its tag, its length in eight bytes, big endian, and its bytes. No two lists
//! of parts meet.

use sha2::digest::Update;

/// The parts so far.
pub(crate) struct Parts<D>(D);

impl<D: Update> Parts<D> {
    pub(crate) fn new(digest: D, layout: u8) -> Self {
        Self(digest.chain([layout]))
    }

    pub(crate) fn push(&mut self, tag: u8, part: &[u8]) {
        let mut prefix = [tag; 9];
        prefix[1..].copy_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.update(&prefix);
        self.0.update(part);
    }

    /// The digest of them all.
    pub(crate) fn finish(self) -> D {
        self.0
    }
}
