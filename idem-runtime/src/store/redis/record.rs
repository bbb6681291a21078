//! The record as a Redis string, and the key it lies under.
//!
//! # Layout 1
//!
//! Numbers are big endian. An answer's bytes follow the header; every other record is the header alone.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version of the layout: 1 |
//! | 1 | 1 | state: 1 in flight, 2 completed with an answer, 3 tombstone, 4 unknown |
//! | 2 | 32 | fingerprint |
//! | 34 | 16 | token of the last owner; zeros after a verdict |
//! | 50 | 8 | fence |
//! | 58 | 4 | attempt |
//! | 62 | 8 | in flight: end of the lease; answer: kept until, 0 as long as the record; unknown: since; tombstone: kept until, unused |
//! | 70 | 4 | length of the answer |
//! | 74 | | the answer |
//!
//! Times are microseconds since the Unix epoch by the server's clock.
//!
//! The key is `PREFIX:{HEX}`, the 64 lower-case hex digits of the storage key in a Cluster hash tag.

use std::time::Duration;

use bytes::Bytes;
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
}

/// The key of a record.
pub(super) struct Key {
    bytes: Vec<u8>,
    tag: usize,
}

const VERSION: u8 = 1;
const HEADER: usize = 74;
const HEX: usize = 64;
const SLOTS: u16 = 16384;

/// Version and state, as a record begins.
pub(super) const fn head(state: State) -> [u8; 2] {
    [VERSION, state as u8]
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
        Value::Array(parts) => match parts.as_slice() {
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

impl Key {
    pub(super) fn new(prefix: &str, key: &StorageKey) -> Self {
        let tag = prefix.len() + 2;
        let mut bytes = Vec::with_capacity(tag + HEX + 1);
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(b":{");
        for byte in key.as_bytes() {
            bytes.push(DIGITS[usize::from(byte >> 4)]);
            bytes.push(DIGITS[usize::from(byte & 15)]);
        }
        bytes.push(b'}');
        Self { bytes, tag }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The slot of a Cluster: CRC16 (XMODEM) of what is between the braces.
    pub(super) fn slot(&self) -> u16 {
        let mut crc = 0_u16;
        for byte in &self.bytes[self.tag..self.tag + HEX] {
            crc = (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)];
        }
        crc % SLOTS
    }
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
        assert_eq!(Key::new("idem", &key).as_bytes(), format!("idem:{{{digits}}}").as_bytes());
        assert_eq!(Key::new("a", &key).slot(), Key::new("another", &key).slot());
    }

    #[test]
    fn the_slot_is_that_of_redis() {
        // `CLUSTER KEYSLOT 'idem:{0000..}'` and so on, asked of a Redis 7.0.15.
        for (byte, slot) in [(0x00, 16_090), (0x11, 11_666), (0xff, 13_894)] {
            assert_eq!(Key::new("idem", &StorageKey::from_bytes([byte; 32])).slot(), slot);
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
