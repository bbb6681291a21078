//! The keys whose answers were seen of late: their next replay needs no claim.
//!
//! A plain `GET` costs the server a small part of what a claim does. It decides nothing: only an answer that is
//! kept as long as its record, under the claim's own fingerprint, is replayed from it; whatever else it finds, the script
//! judges.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::key::StorageKey;

/// How many keys there is a place for: 64 KiB. A key seen later takes the place of an earlier one.
const PLACES: usize = 1 << 13;

/// Some of the keys seen of late. It may name one whose record is gone, or another one's: that costs a `GET`.
pub(super) struct Recent(Box<[AtomicU64]>);

impl Recent {
    pub(super) fn note(&self, key: &StorageKey) {
        let (place, name) = self.place(key);
        place.store(name, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, key: &StorageKey) -> bool {
        let (place, name) = self.place(key);
        place.load(Ordering::Relaxed) == name
    }

    pub(super) fn forget(&self, key: &StorageKey) {
        let (place, name) = self.place(key);
        // Another key may have come meanwhile, and stays.
        let _ = place.compare_exchange(name, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A storage key is a digest: any of its bits spread evenly.
    fn place(&self, key: &StorageKey) -> (&AtomicU64, u64) {
        let [name, place, ..] = key.as_bytes().as_chunks().0 else { unreachable!("a key has 32 bytes") };
        // Zero is an empty place.
        (&self.0[u64::from_le_bytes(*place) as usize % PLACES], u64::from_le_bytes(*name) | 1)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recent(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_until_it_is_forgotten_or_another_takes_its_place() {
        let recent = Recent::default();
        let key =
            |name: u8| StorageKey::from_bytes([[name; 8], [7; 8], [name; 8], [0; 8]].concat().try_into().unwrap());
        assert!(!recent.holds(&key(4)));
        recent.note(&key(4));
        assert!(recent.holds(&key(4)));
        recent.note(&key(2));
        assert!(recent.holds(&key(2)) && !recent.holds(&key(4)));
        recent.forget(&key(4));
        assert!(recent.holds(&key(2)));
        recent.forget(&key(2));
        assert!(!recent.holds(&key(2)));
    }

    #[test]
    fn no_key_is_held_at_first() {
        assert!(!Recent::default().holds(&StorageKey::from_bytes([0; 32])));
    }
}
