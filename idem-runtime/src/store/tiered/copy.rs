//! A copy of an answer, as Redis keeps it.
//!
//! # Layout 1
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version of the layout: 1 |
//! | 1 | 32 | storage key |
//! | 33 | 32 | fingerprint |
//! | 65 | 8 | checksum: the first bytes of SHA-256 over everything else, in this order |
//! | 73 | | the answer |
//!
//! A key whose record was forgotten has a mark in its place: a zero byte and the storage key. No copy is written over it.
//!
//! It lies under `PREFIX:{HEX}`, the 64 lower-case hex digits of the storage key in a Cluster hash tag, and expires there.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{fingerprint::Fingerprint, key::StorageKey, record::Answer};

/// What a copy says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) fingerprint: Fingerprint,
    pub(super) answer: Answer,
}

const VERSION: u8 = 1;
const FORGOTTEN: u8 = 0;
const CHECKSUM: usize = 8;
const HEADER: usize = 65 + CHECKSUM;

pub(super) fn seal(key: &StorageKey, fingerprint: &Fingerprint, answer: &Answer) -> Vec<u8> {
    let checksum = checksum(key, fingerprint.as_bytes(), answer.as_bytes());
    [&[VERSION], &key.as_bytes()[..], fingerprint.as_bytes(), &checksum, answer.as_bytes()].concat()
}

/// The copy of what is under `key`; `None`: these bytes are not one.
pub(super) fn open(key: &StorageKey, bytes: &Bytes) -> Option<Copy> {
    let (version, rest) = bytes.split_first_chunk::<1>()?;
    let (of, rest) = rest.split_first_chunk::<32>()?;
    let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
    let (written, answer) = rest.split_first_chunk::<CHECKSUM>()?;
    let is_whole = version == &[VERSION] && of == key.as_bytes() && *written == checksum(key, fingerprint, answer);
    is_whole.then(|| Copy {
        fingerprint: Fingerprint::from_bytes(*fingerprint),
        answer: Answer::from_bytes(bytes.slice(HEADER..)),
    })
}

/// What lies there while the record is forgotten.
pub(super) fn mark(key: &StorageKey) -> Vec<u8> {
    [&[FORGOTTEN], &key.as_bytes()[..]].concat()
}

/// Whether these bytes are for `key`, a copy or a mark, and not to be written over.
pub(super) fn is_ours(key: &StorageKey, bytes: &Bytes) -> bool {
    open(key, bytes).is_some() || bytes[..] == mark(key)
}

fn checksum(key: &StorageKey, fingerprint: &[u8; 32], answer: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update([VERSION]).chain_update(key.as_bytes());
    let digest = digest.chain_update(fingerprint).chain_update(answer).finalize();
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&digest[..CHECKSUM]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StorageKey = StorageKey::from_bytes([7; 32]);
    const PRINT: Fingerprint = Fingerprint::from_bytes([9; 32]);

    fn sealed(answer: &'static [u8]) -> Vec<u8> {
        seal(&KEY, &PRINT, &Answer::from_bytes(Bytes::from_static(answer)))
    }

    #[test]
    fn the_layout_is_frozen() {
        // The first bytes of SHA-256 over the rest, computed elsewhere.
        let checksum = [0x98, 0x3e, 0x4e, 0xc4, 0x7e, 0x67, 0x9f, 0x7a];
        assert_eq!(sealed(b"answer"), [&[1][..], &[7; 32], &[9; 32], &checksum, b"answer"].concat());
    }

    #[test]
    fn a_copy_is_read_back() {
        for answer in [&b""[..], b"answer", &[0; 70_000]] {
            let copy = open(&KEY, &sealed(answer).into());
            let answer = Answer::from_bytes(Bytes::from_static(answer));
            assert_eq!(copy, Some(Copy { fingerprint: PRINT, answer }));
        }
    }

    #[test]
    fn a_mark_is_no_copy_and_only_of_its_own_key() {
        let mark: Bytes = mark(&KEY).into();
        assert_eq!(mark[..], [&[0][..], &[7; 32]].concat());
        assert_eq!(open(&KEY, &mark), None);
        assert!(is_ours(&KEY, &mark) && is_ours(&KEY, &sealed(b"answer").into()));
        assert!(!is_ours(&StorageKey::from_bytes([8; 32]), &mark) && !is_ours(&KEY, &Bytes::from_static(b"garbage")));
    }

    #[test]
    fn what_is_no_copy_of_this_key_is_none() {
        let whole = sealed(b"answer");
        assert_eq!(open(&StorageKey::from_bytes([8; 32]), &whole.clone().into()), None, "of another key");
        for end in 0..whole.len() {
            assert_eq!(open(&KEY, &whole[..end].to_vec().into()), None, "cut off at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            assert_eq!(open(&KEY, &changed.into()), None, "changed at {at}");
        }
        assert_eq!(open(&KEY, &[&whole[..], b"!"].concat().into()), None, "longer");
        for strange in [&b"garbage"[..], &[0; 200], &[0xff; 200]] {
            assert_eq!(open(&KEY, &Bytes::from_static(strange)), None);
        }
    }
}
