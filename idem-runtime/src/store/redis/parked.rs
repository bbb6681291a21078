//! The list of parked records.

use std::iter::zip;

use futures_util::future::try_join_all;
use redis::Value;

use super::{
    RedisStore,
    record::{self, Listed},
    script::Step,
};
use crate::{
    key::StorageKey,
    store::{Parked, ParkedRecord, StoreError, Token},
};

/// How many entries are read at once.
const BURST: usize = 128;

/// How many records are asked for at once: each may be as large as an answer, and requests wait behind them.
const AT_ONCE: usize = 4;

impl RedisStore {
    /// Writes the entry of a record that is about to be parked by `by`.
    pub(super) async fn enlist(&self, key: &StorageKey, by: &Token) -> Result<(), StoreError> {
        let step = Step::enlist(&self.0.prefix, &record::entry(key, by));
        self.take(&step, |reply| matches!(reply.value, Value::Int(_)).then_some(())).await
    }

    /// Reads on until the page is full or the list at its end: an entry need not have a parked record.
    pub(super) async fn list(&self, Parked { after, limit }: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        let mut page = Vec::new();
        let mut from = after.map_or_else(|| b"-".to_vec(), |after| record::behind(&after));
        while page.len() < limit {
            let wanted = BURST.min(limit - page.len());
            let step = Step::list(&self.0.prefix, &from, wanted);
            let entries = self.take(&step, |reply| redis::from_redis_value::<Vec<Vec<u8>>>(reply.value).ok()).await?;
            let is_last = entries.len() < wanted;
            if let Some(last) = entries.last() {
                let behind = record::key_of(last).map(|key| record::behind(&key));
                from = behind.unwrap_or_else(|| [b"(", &last[..]].concat());
            }
            // Whoever parked one key twice left two entries, side by side.
            let mut keys: Vec<_> = entries.iter().filter_map(|entry| record::key_of(entry)).collect();
            keys.dedup();
            let mut stale = Vec::new();
            let mut records = Vec::with_capacity(keys.len());
            for keys in keys.chunks(AT_ONCE) {
                records.extend(try_join_all(keys.iter().map(|key| self.listed(*key))).await?);
            }
            for (key, listed) in zip(keys, records) {
                match listed {
                    Listed::Parked(record) => page.push(record),
                    Listed::Stale => stale.push(key),
                    Listed::Maybe => {}
                }
            }
            if !stale.is_empty() {
                let is_stale = |entry: &Vec<u8>| record::key_of(entry).is_some_and(|key| stale.contains(&key));
                let dropped: Vec<_> = entries.into_iter().filter(is_stale).collect();
                let step = Step::unlist(&self.0.prefix, &dropped);
                self.take(&step, |reply| matches!(reply.value, Value::Int(_)).then_some(())).await?;
            }
            if is_last {
                break;
            }
        }
        Ok(page)
    }

    async fn listed(&self, key: StorageKey) -> Result<Listed, StoreError> {
        self.take(&Step::read(&self.0.prefix, &key), |reply| Some(record::listed(key, reply.value))).await
    }
}
