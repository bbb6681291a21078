//! Deleting what is past its time.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Weak,
    time::Duration,
};

use tokio::task::AbortHandle;

use super::Inner;
use crate::store::{StoreError, StoreErrorKind};

/// The task that does it now and then. Ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sweeping(AbortHandle);

/// How many rows one statement deletes: few enough that it holds no lock for long.
const BATCH: u32 = 1_000;
/// How many such statements follow each other: the rest waits for the next time.
const BATCHES: usize = 20;

/// How long a row stays after its time. A claim that began before and is written only now must not find it gone: its
/// fence would be smaller than that of the row.
const GRACE: Duration = Duration::from_secs(10);

/// Deletes about every `interval`, as long as the store is there.
pub(super) fn sweep(store: Weak<Inner>, interval: Duration) -> Sweeping {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(about(interval)).await;
            let Some(inner) = store.upgrade() else { return };
            let mut batch = BATCH;
            for _ in 0..BATCHES {
                match expire(&inner, batch).await {
                    Ok(deleted) if deleted >= u64::from(batch) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::debug!(%error, "records past their time are left for later");
                        if error.kind() == StoreErrorKind::Unreachable {
                            break;
                        }
                        // Big answers, or a slow disk: fewer of them fit into the time that a statement has.
                        batch = (batch / 4).max(1);
                    }
                }
            }
        }
    });
    Sweeping(task.abort_handle())
}

/// Deletes at most `limit` rows, and says how many they were.
pub(super) async fn expire(inner: &Inner, limit: u32) -> Result<u64, StoreError> {
    let reply = inner.link.ask(&inner.texts.expire(limit, GRACE)).await;
    reply.map(|reply| reply.affected).map_err(|fault| fault.into_error("expire"))
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The interval, a quarter more or less: replicas that started together part.
fn about(interval: Duration) -> Duration {
    let dice = RandomState::new().hash_one(0) % 512;
    interval.mul_f64(0.75 + dice as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_about_what_was_asked_for() {
        for _ in 0..1_000 {
            let interval = about(Duration::from_secs(60));
            assert!((Duration::from_secs(45)..=Duration::from_secs(75)).contains(&interval), "{interval:?}");
        }
    }
}
