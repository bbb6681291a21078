//! The record as a Redis string, and the key it lies under.
//!
//! # Layouts 1 and 2
//!
//! Layout 2 is layout 1 with two more kinds of record, which a reader of layout 1 must not mistake: parked ones, and
//! ones in flight without an owner. Every other record is still written as layout 1.
//!
//! Numbers are big endian. An answer's bytes follow the header; every other record is the header alone.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version of the layout: 1 or 2 |
//! | 1 | 1 | state: 1 in flight, 2 completed with an answer, 3 tombstone, 4 unknown; layout 2: 5 parked |
//! | 2 | 32 | fingerprint |
//! | 34 | 16 | token of the last owner; zeros after a verdict, and (layout 2) in flight without an owner |
//! | 50 | 8 | fence |
//! | 58 | 4 | attempt |
//! | 62 | 8 | in flight: end of the lease; answer: kept until, 0 as long as the record; tombstone: kept until, unused; unknown: since; parked: 0 |
//! | 70 | 4 | length of the answer, or of the note of a parked record |
//! | 74 | | the answer, or the note |
//!
//! Times are microseconds since the Unix epoch by the server's clock.
//!
//! The key is `PREFIX:{HEX}`, the 64 lower-case hex digits of the storage key in a Cluster hash tag.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use redis::Value;

use crate::{
    key::StorageKey,
    record::Answer,
    store::{Claimed, Fence},
};

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Answer = 2,
    Tombstone = 3,
    Unknown = 4,
    Parked = 5,
}

const HEADER: usize = 74;
const HEX: usize = 64;
const SLOTS: u16 = 16384;

/// Version and state, as a record begins.
pub(super) const fn head(state: State) -> [u8; 2] {
    let version = if let State::Parked = state { 2 } else { 1 };
    [version, state as u8]
}

/// What the claim script said; `None`: nothing that it can say.
pub(super) fn claimed(reply: Value) -> Option<Claimed> {
    match reply {
        Value::Int(-1) => Some(Claimed::Unreadable),
        Value::Int(-2) => Some(Claimed::Mismatch),
        Value::Int(-3) => Some(Claimed::Completed { answer: None }),
        Value::Int(fence) => Some(Claimed::Won { fence: Fence::new(u64::try_from(fence).ok()?), attempt: 1 }),
        Value::BulkString(record) => {
            // The script judged the header; the header is cut off here without a copy of the answer.
            let record = Bytes::from(record);
            Some(match record.len() >= HEADER {
                true => Claimed::Completed { answer: Some(Answer::from_bytes(record.slice(HEADER..))) },
                false => Claimed::Unreadable,
            })
        }
        Value::Array(mut parts) => match parts.as_mut_slice() {
            [Value::Int(4), Value::Int(fence), Value::Int(attempt), Value::BulkString(note)] => Some(Claimed::Parked {
                note: Answer::from_bytes(std::mem::take(note).into()),
                fence: Fence::new(u64::try_from(*fence).ok()?),
                attempt: u32::try_from(*attempt).ok()?,
            }),
            [Value::Int(2), Value::Int(micros)] => {
                Some(Claimed::Busy { retry_after: Duration::from_micros(u64::try_from(*micros).ok()?) })
            }
            [Value::Int(what), Value::Int(fence), Value::Int(attempt)] => {
                let fence = Fence::new(u64::try_from(*fence).ok()?);
                let attempt = u32::try_from(*attempt).ok()?;
                match what {
                    1 => Some(Claimed::Won { fence, attempt }),
                    3 => Some(Claimed::Unknown { fence, attempt }),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

/// Writes the key of a record.
pub(super) fn put_key(to: &mut impl BufMut, prefix: &str, key: &StorageKey) {
    to.put_slice(prefix.as_bytes());
    to.put_slice(b":{");
    to.put_slice(&digits(key));
    to.put_u8(b'}');
}

/// How many bytes [`put_key`] writes.
pub(super) const fn key_length(prefix: &str) -> usize {
    prefix.len() + HEX + 3
}

/// The slot of a Cluster that a key lies in: CRC16 (XMODEM) of what is between the braces.
pub(super) fn slot(key: &StorageKey) -> u16 {
    let mut crc = 0_u16;
    for digit in digits(key) {
        crc = (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ digit)];
    }
    crc % SLOTS
}

fn digits(key: &StorageKey) -> [u8; HEX] {
    let mut digits = [0; HEX];
    for (byte, pair) in key.as_bytes().iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_frozen() {
        let key = StorageKey::from_bytes(std::array::from_fn(|index| index as u8));
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let mut written = Vec::new();
        put_key(&mut written, "idem", &key);
        assert_eq!(written, format!("idem:{{{digits}}}").as_bytes());
        assert_eq!(written.len(), key_length("idem"));
    }

    #[test]
    fn the_slot_is_that_of_redis() {
        // `CLUSTER KEYSLOT 'idem:{0000..}'` and so on, asked of a Redis 7.0.15.
        for (byte, in_slot) in [(0x00, 16_090), (0x11, 11_666), (0xff, 13_894)] {
            assert_eq!(slot(&StorageKey::from_bytes([byte; 32])), in_slot);
        }
    }

    #[test]
    fn replies_of_the_claim_script() {
        let int = Value::Int;
        let fence = Fence::new(1_767_225_600_000_000);
        for (reply, claimed_as) in [
            (int(1_767_225_600_000_000), Claimed::Won { fence, attempt: 1 }),
            (Value::Array(vec![int(1), int(1_767_225_600_000_000), int(3)]), Claimed::Won { fence, attempt: 3 }),
            (Value::Array(vec![int(2), int(1500)]), Claimed::Busy { retry_after: Duration::from_micros(1500) }),
            (Value::Array(vec![int(3), int(1_767_225_600_000_000), int(2)]), Claimed::Unknown { fence, attempt: 2 }),
            (int(-1), Claimed::Unreadable),
            (int(-2), Claimed::Mismatch),
            (int(-3), Claimed::Completed { answer: None }),
            (Value::BulkString(vec![1; 73]), Claimed::Unreadable),
            (
                Value::BulkString([[1; 74].as_slice(), b"answer"].concat()),
                Claimed::Completed { answer: Some(Answer::from_bytes(Bytes::from_static(b"answer"))) },
            ),
        ] {
            assert_eq!(claimed(reply), Some(claimed_as));
        }
        for strange in [Value::Nil, Value::Okay, Value::Array(vec![]), Value::Array(vec![int(9), int(1), int(1)])] {
            assert_eq!(claimed(strange), None);
        }
    }
}
