//! The record as a Redis string, and the key it lies under.
//!
//! # Layouts 1, 2 and 3
//!
//! Layout 2 is layout 1 with two more kinds of record, which a reader of layout 1 must not mistake: parked ones, and
//! ones in flight without an owner. Layout 3 is for one kind alone: in flight by a first claim, a single `SET`, which cannot look
//! at the clock. Its fence and the end of its lease follow from when the key expires. Every other record is still written
//! as layout 1.
//!
//! Numbers are big endian. An answer's bytes follow the header; every other record is the header alone.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version of the layout: 1, 2 or 3 |
//! | 1 | 1 | state: 1 in flight, 2 completed with an answer, 3 tombstone, 4 unknown; layout 2: 5 parked |
//! | 2 | 32 | fingerprint |
//! | 34 | 16 | token of the last owner; zeros after a verdict, and in flight without an owner, which is layout 2 |
//! | 50 | 8 | fence; it may be 0 once completed, and is where the expiry that dated the claim was taken away; layout 3: from the claim to the expiry of the key, in milliseconds |
//! | 58 | 4 | attempt; in flight without an owner: 0 if only the fence is to be remembered |
//! | 62 | 8 | in flight: end of the lease, 0 without an owner; answer: kept until, 0 as long as the record; tombstone: kept until, unused; unknown and parked: since; layout 3: the lease, in microseconds |
//! | 70 | 4 | length of the answer, or of the note of a parked record |
//! | 74 | | the answer, or the note |
//!
//! Times are microseconds since the Unix epoch by the server's clock. The fence of layout 3 is the end of the millisecond of the
//! claim.
//!
//! The key is `PREFIX:{HEX}`, the 64 lower-case hex digits of the storage key in a Cluster hash tag.
//!
//! # The list of parked records
//!
//! `PREFIX:parked` is a sorted set with an entry for every record that is or may be parked: score 0, member `HEX:BY`, `BY`
//! being 32 hex digits that no other parking has. An entry is written before its record is parked, so one may be there
//! without; one that is not is dropped by whoever lists. As every parking has an entry of its own, that never drops the
//! entry of a later one.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use redis::Value;

use crate::{
    fingerprint::Fingerprint,
    key::StorageKey,
    record::Answer,
    store::{Claim, Claimed, Fence, ParkedRecord, Token},
};

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Answer = 2,
    Tombstone = 3,
    Unknown = 4,
    Parked = 5,
}

const FINGERPRINT: usize = 2;
const FENCE: usize = 50;
const HEADER: usize = 74;
const HEX: usize = 64;
const SLOTS: u16 = 16384;
/// The first number that is no fence: in Lua it would lose its last digit.
const NO_FENCE: u64 = 1 << 53;

/// Version and state, as a record begins.
pub(super) const fn head(state: State) -> [u8; 2] {
    let version = if let State::Parked = state { 2 } else { 1 };
    [version, state as u8]
}

/// The record of a claim that finds none, to be kept for so many milliseconds, its lease in microseconds.
pub(super) fn first_claim(claim: &Claim, kept: u64, lease: u64) -> [u8; HEADER] {
    let mut record = [0; HEADER];
    let mut to = &mut record[..];
    to.put_slice(&[3, 1]);
    to.put_slice(claim.fingerprint.as_bytes());
    to.put_slice(claim.token.as_bytes());
    to.put_u64(kept);
    to.put_u32(1);
    to.put_u64(lease);
    record
}

/// What became of a first claim that is kept for so many milliseconds. `None`: the script is to judge.
pub(super) fn first_claimed(reply: Value, claim: &Claim, kept: u64) -> Option<Claimed> {
    let Value::Array(replies) = reply else { return None };
    match <[Value; 2]>::try_from(replies).ok()? {
        // As the scripts date it.
        [Value::Nil, Value::Int(expires)] => {
            let at = u64::try_from(expires).ok()?.checked_sub(kept)?;
            Some(Claimed::Won { fence: Fence::new(at.checked_mul(1000)?.checked_add(999)?), attempt: 1 })
        }
        [record, _] => replay(record, &claim.fingerprint),
    }
}

/// Whether a first claim was carried out, by what it found in its way, whatever became of the question behind it.
pub(super) fn is_written(reply: &Value) -> bool {
    match reply {
        Value::Array(replies) => matches!(replies.first(), Some(Value::Nil)),
        found => matches!(found, Value::Nil),
    }
}

/// What the claim script said; `None`: nothing that it can say.
pub(super) fn claimed(reply: Value) -> Option<Claimed> {
    match reply {
        Value::Int(-1) => Some(Claimed::Unreadable),
        Value::Int(-2) => Some(Claimed::Mismatch),
        Value::Int(-3) => Some(Claimed::Completed { answer: None }),
        Value::Int(fence) => Some(Claimed::Won { fence: Fence::new(u64::try_from(fence).ok()?), attempt: 1 }),
        // The script judged the header.
        Value::BulkString(record) if record.len() >= HEADER => Some(completed(record)),
        Value::BulkString(_) => Some(Claimed::Unreadable),
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

/// The answer in a record that `GET` gave, if it is kept as long as that and belongs to this fingerprint. `None`: whatever else
/// there is.
pub(super) fn replay(reply: Value, fingerprint: &Fingerprint) -> Option<Claimed> {
    let (true, Value::BulkString(record)) = (is_lasting(&reply), reply) else { return None };
    let of_claim = record.get(FINGERPRINT..FINGERPRINT + 32)? == fingerprint.as_bytes();
    of_claim.then(|| completed(record))
}

/// Whether the reply is a whole record with an answer that is kept as long as that, which needs no look at the clock.
pub(super) fn is_lasting(reply: &Value) -> bool {
    let Value::BulkString(record) = reply else { return false };
    header(record).is_some_and(|header| header.head == head(State::Answer) && header.until == 0)
}

/// Whether these bytes are a record, of any kind.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn is_record(bytes: &[u8]) -> bool {
    header(bytes).is_some_and(|header| matches!(header.head, [1..=3, 1..=5]))
}

/// What stands before the answer, but for fingerprint and token.
struct Header {
    /// Version and state.
    head: [u8; 2],
    fence: Fence,
    attempt: u32,
    until: u64,
}

/// `None`: not a whole record.
fn header(record: &[u8]) -> Option<Header> {
    let (mut header, answer) = record.split_at_checked(HEADER)?;
    let head = [header.get_u8(), header.get_u8()];
    header.advance(FENCE - head.len());
    let (fence, attempt, until, length) = (header.get_u64(), header.get_u32(), header.get_u64(), header.get_u32());
    let is_whole = answer.len() as u64 == u64::from(length) && fence < NO_FENCE;
    is_whole.then_some(Header { head, fence: Fence::new(fence), attempt, until })
}

/// The header is cut off without a copy of the answer.
fn completed(record: Vec<u8>) -> Claimed {
    Claimed::Completed { answer: Some(Answer::from_bytes(Bytes::from(record).slice(HEADER..))) }
}

/// What an entry of the list is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Parked(ParkedRecord),
    /// Its record may yet be parked, or cannot be read.
    Maybe,
    /// Whoever wrote it no longer owns the record.
    Stale,
}

/// Judges an entry by the record that `GET` gave.
pub(super) fn listed(key: StorageKey, reply: Value) -> Listed {
    let record = match reply {
        Value::BulkString(record) => Bytes::from(record),
        Value::Nil => return Listed::Stale,
        _ => return Listed::Maybe,
    };
    let Some(Header { head, fence, attempt, .. }) = header(&record) else { return Listed::Maybe };
    match head {
        [2, 5] => {
            let note = Answer::from_bytes(record.slice(HEADER..));
            Listed::Parked(ParkedRecord::new(key, note, fence, attempt))
        }
        [1, 2 | 3] | [2, 1] => Listed::Stale,
        _ => Listed::Maybe,
    }
}

/// The key of the list of parked records.
pub(super) fn list_key(prefix: &str) -> String {
    format!("{prefix}:parked")
}

/// The entry of a record that is about to be parked by `by`.
pub(super) fn entry(key: &StorageKey, by: &Token) -> Vec<u8> {
    [&digits::<32, HEX>(key.as_bytes())[..], b":", &digits::<16, 32>(by.as_bytes())].concat()
}

/// Which record an entry is of; `None`: it is none of ours.
pub(super) fn key_of(entry: &[u8]) -> Option<StorageKey> {
    let (hex, by) = entry.split_at_checked(HEX)?;
    let digit = |digit: u8| DIGITS.iter().position(|known| *known == digit);
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(hex.as_chunks().0) {
        let [high, low] = *pair;
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    by.starts_with(b":").then_some(StorageKey::from_bytes(key))
}

/// The lower bound of what is behind every entry of `key`.
pub(super) fn behind(key: &StorageKey) -> Vec<u8> {
    // The character that follows `:`.
    [b"(", &digits::<32, HEX>(key.as_bytes())[..], b";"].concat()
}

/// Writes the key of a record.
pub(super) fn put_key(to: &mut impl BufMut, prefix: &str, key: &StorageKey) {
    to.put_slice(prefix.as_bytes());
    to.put_slice(b":{");
    to.put_slice(&digits::<32, HEX>(key.as_bytes()));
    to.put_u8(b'}');
}

/// How many bytes [`put_key`] writes.
pub(super) const fn key_length(prefix: &str) -> usize {
    prefix.len() + HEX + 3
}

/// One of the keys that no operation has.
pub(super) fn nobodys(number: u32) -> StorageKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    StorageKey::from_bytes(bytes)
}

/// The slot of a Cluster that the record of this key lies in: that of what is between the braces.
pub(super) fn slot(key: &StorageKey) -> u16 {
    slot_of(&digits::<32, HEX>(key.as_bytes()))
}

/// The slot of a key without braces: CRC16 (XMODEM).
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)];
    key.iter().fold(0, step) % SLOTS
}

fn digits<const BYTES: usize, const HEX: usize>(bytes: &[u8; BYTES]) -> [u8; HEX] {
    let mut digits = [0; HEX];
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
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
    fn the_list_of_parked_records_is_frozen() {
        let key = StorageKey::from_bytes(std::array::from_fn(|index| index as u8));
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let entry = entry(&key, &Token::from_bytes([0xab; 16]));
        assert_eq!(entry, format!("{digits}:{}", "ab".repeat(16)).as_bytes());
        assert_eq!(key_of(&entry), Some(key));
        assert_eq!(list_key("idem"), "idem:parked");
        // `CLUSTER KEYSLOT idem:parked`, asked of a Redis 7.0.15.
        assert_eq!(slot_of(b"idem:parked"), 9943);

        let behind = behind(&key);
        assert!(behind[1..] > *entry && behind[1..] > *format!("{digits}:{}", "f".repeat(32)).as_bytes());
        let next = StorageKey::from_bytes(std::array::from_fn(|index| if index == 31 { 0x20 } else { index as u8 }));
        assert!(behind[1..] < *super::entry(&next, &Token::from_bytes([0; 16])));
        for strange in [&b""[..], b"x", digits.as_bytes(), digits.to_uppercase().as_bytes(), &[b'g'; 97], &[b':'; 97]] {
            assert_eq!(key_of(strange), None);
        }
    }

    #[test]
    fn what_an_entry_of_the_list_is_worth() {
        let key = StorageKey::from_bytes([7; 32]);
        let record = |head: [u8; 2], note: &[u8]| {
            let length = u32::try_from(note.len()).expect("a short note");
            let parts =
                [&head[..], &[1; 48], &9_u64.to_be_bytes(), &3_u32.to_be_bytes(), &[0; 8], &length.to_be_bytes()];
            [&parts.concat(), note].concat()
        };
        let judge = |record: Vec<u8>| listed(key, Value::BulkString(record));
        let note = Answer::from_bytes(Bytes::from_static(b"why"));
        let parked = ParkedRecord::new(key, note, Fence::new(9), 3);
        assert_eq!(judge(record([2, 5], b"why")), Listed::Parked(parked));
        assert_eq!(listed(key, Value::Nil), Listed::Stale);
        for (head, answer) in [([1, 2], &b"answer"[..]), ([1, 3], b""), ([2, 1], b"")] {
            assert_eq!(judge(record(head, answer)), Listed::Stale);
        }
        let cut = |by: usize| record([2, 5], b"why")[..77 - by].to_vec();
        for open in [record([1, 1], b""), record([1, 4], b""), record([3, 5], b"why"), cut(1), cut(4), cut(77)] {
            assert_eq!(judge(open), Listed::Maybe);
        }
        assert_eq!(listed(key, Value::Int(0)), Listed::Maybe);
    }

    #[test]
    fn only_a_lasting_answer_of_the_same_fingerprint_is_replayed_without_the_script() {
        let record = |head: [u8; 2], until: u64, answer: &[u8]| {
            let length = u32::try_from(answer.len()).expect("a short answer");
            let numbers = [&9_u64.to_be_bytes()[..], &1_u32.to_be_bytes(), &until.to_be_bytes(), &length.to_be_bytes()];
            [&head[..], &[7; 32], &[1; 16], &numbers.concat(), answer].concat()
        };
        let judge = |record: Vec<u8>, fingerprint| replay(Value::BulkString(record), &fingerprint);
        let own = Fingerprint::from_bytes([7; 32]);
        let whole = record([1, 2], 0, b"answer");
        let answer = Some(Answer::from_bytes(Bytes::from_static(b"answer")));
        assert_eq!(judge(whole.clone(), own), Some(Claimed::Completed { answer }));
        assert!(is_lasting(&Value::BulkString(whole.clone())));

        assert_eq!(judge(whole.clone(), Fingerprint::from_bytes([8; 32])), None);
        for head in [[1, 1], [1, 3], [1, 4], [2, 1], [2, 2], [2, 5], [3, 2], [0, 2]] {
            assert_eq!(judge(record(head, 0, b"answer"), own), None);
        }
        for other in [record([1, 2], 1, b"answer"), whole[..79].to_vec(), whole[..73].to_vec(), vec![]] {
            assert!(!is_lasting(&Value::BulkString(other.clone())));
            assert_eq!(judge(other, own), None);
        }
        let longer = [&whole[..], b"!"].concat();
        assert_eq!(judge(longer, own), None);
        for reply in [Value::Nil, Value::Int(1), Value::Okay] {
            assert_eq!(replay(reply, &own), None);
        }
    }

    #[test]
    fn replies_of_a_first_claim() {
        let claim = Claim::new(
            StorageKey::from_bytes([1; 32]),
            Token::from_bytes([2; 16]),
            Fingerprint::from_bytes([7; 32]),
            Duration::from_secs(30),
        );
        let judge = |replies: Vec<Value>| first_claimed(Value::Array(replies), &claim, 50_000);
        let fence = Fence::new(1_767_225_600_000_999);
        let won = judge(vec![Value::Nil, Value::Int(1_767_225_650_000)]);
        assert_eq!(won, Some(Claimed::Won { fence, attempt: 1 }));

        let answer = [&[1, 2][..], &[7; 32], &[1; 16], &[0; 20], &[0, 0, 0, 4], b"body"].concat();
        let completed = Claimed::Completed { answer: Some(Answer::from_bytes(Bytes::from_static(b"body"))) };
        let record = Value::BulkString(answer);
        assert_eq!(judge(vec![record.clone(), Value::Int(1_767_225_650_000)]), Some(completed));

        let own = Value::BulkString(first_claim(&claim, 50_000, 30_000_000).to_vec());
        let gone = vec![Value::Nil, Value::Int(-2)];
        for script in [gone, vec![own, Value::Int(1_767_225_650_000)], vec![Value::Nil], vec![Value::Nil, Value::Nil]] {
            assert_eq!(judge(script), None);
        }
        assert_eq!(first_claimed(record, &claim, 50_000), None, "of a slot on its way, without a question");
        assert_eq!(first_claimed(Value::Nil, &claim, 50_000), None);

        let refused = || Value::Array(vec![Value::Nil, Value::Okay]);
        assert!(is_written(&refused()) && is_written(&Value::Nil), "whatever the question came to");
        for found in [Value::BulkString(b"record".to_vec()), Value::Array(vec![Value::Okay, Value::Nil]), Value::Int(0)]
        {
            assert!(!is_written(&found));
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
            (
                Value::Array(vec![int(4), int(1_767_225_600_000_000), int(5), Value::BulkString(b"why".to_vec())]),
                Claimed::Parked { note: Answer::from_bytes(Bytes::from_static(b"why")), fence, attempt: 5 },
            ),
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
        for strange in [
            Value::Nil,
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![int(9), int(1), int(1)]),
            Value::Array(vec![int(4), int(1), int(1)]),
            Value::Array(vec![int(4), int(1), int(1), Value::Nil]),
        ] {
            assert_eq!(claimed(strange), None);
        }
    }
}
