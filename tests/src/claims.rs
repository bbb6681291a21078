//! Claims by number, for tests of a store.

use std::time::Duration;

use bytes::Bytes;
use idem_runtime::{
    Answer, Fingerprint, StorageKey, Store,
    store::{Claim, Claimed, Complete, Fence, Outcome, Token},
};

/// The lease of [`claim`].
pub const LEASE: Duration = Duration::from_secs(30);
/// How long [`complete`] keeps an answer.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The key of this number.
pub fn key(number: u32) -> StorageKey {
    let mut bytes = [0xab; 32];
    // In front, so that neighbours lie in different slots of a Cluster.
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    StorageKey::from_bytes(bytes)
}

/// The key as Redis sees it.
pub fn redis_key(number: u32) -> String {
    redis_key_of(key(number))
}

/// Any key as Redis sees it.
pub fn redis_key_of(key: StorageKey) -> String {
    let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("idem:{{{digits}}}")
}

/// The token of this number.
pub fn token(number: u8) -> Token {
    Token::from_bytes([number; 16])
}

/// The fingerprint of this number.
pub fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 32])
}

/// Key and token by number, fingerprint 1.
pub fn claim(at: u32, by: u8) -> Claim {
    Claim::new(key(at), token(by), fingerprint(1), LEASE)
}

/// An answer of this text.
pub fn answer(text: &'static str) -> Answer {
    Answer::from_bytes(Bytes::from_static(text.as_bytes()))
}

/// A completion with an answer, by number.
pub fn complete(at: u32, by: u8, text: &'static str) -> Complete {
    Complete::new(key(at), token(by), Outcome::Answer(answer(text)), DAY)
}

/// Claims, and must win.
///
/// # Panics
///
/// If it does not.
pub async fn win(store: &impl Store, claim: Claim) -> (Fence, u32) {
    match store.claim(claim).await {
        Ok(Claimed::Won { fence, attempt }) => (fence, attempt),
        other => panic!("not won: {other:?}"),
    }
}
