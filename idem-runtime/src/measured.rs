//! Private parts that the benches measure, under a feature that nobody else needs.
#![allow(missing_docs)]

use bytes::{BufMut, Bytes};

use crate::{
    key::{EndpointName, Pepper, Principal, StorageKey},
    policy::Policy,
    record::{Answer, Kind},
};

#[derive(Debug)]
pub struct Secret(Pepper);

impl Secret {
    pub fn new(secret: &[u8]) -> Self {
        Self(Pepper::new(secret))
    }
}

pub fn storage_key(policy: &Policy, principal: &Principal, key: &str, secret: Option<&Secret>) -> StorageKey {
    let endpoint = EndpointName { method: "POST", path: "/payments" };
    StorageKey::of(policy, principal, key, Some(endpoint), secret.map(|Secret(pepper)| pepper))
}

pub fn seal(content: &[u8]) -> Answer {
    Answer::seal(Kind::Response, content.len(), |bytes| bytes.put_slice(content))
}

pub fn open(answer: &Answer) -> Option<Bytes> {
    answer.open(Kind::Response).ok()
}
