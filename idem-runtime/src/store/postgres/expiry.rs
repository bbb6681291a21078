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
/// How many such statements follow each other: the rest waits for the next round.
const BATCHES: usize = 20;
/// How long, about, until the next round where one left something: not an interval, in which more may come than a round
/// deletes, and long enough that claims have the disk to themselves for most of the time.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many rounds in a row that left something an operator is told.
const MANY_ROUNDS: u32 = 60;

/// How long a row stays after its time. A claim that began before and is written only now must not find it gone: its
/// fence would be smaller than that of the row.
const GRACE: Duration = Duration::from_secs(10);

/// Deletes about every `interval`, and until nothing is left, as long as the store is there.
pub(super) fn sweep(store: Weak<Inner>, interval: Duration) -> Sweeping {
    let task = tokio::spawn(rounds(interval, move |batch| {
        let store = store.clone();
        async move { Some(expire(&*store.upgrade()?, batch).await) }
    }));
    Sweeping(task.abort_handle())
}

/// Round after round, until `expire` says that there is no store any more.
async fn rounds<E>(interval: Duration, expire: impl Fn(u32) -> E + Send + Sync)
where
    E: Future<Output = Option<Result<u64, StoreError>>> + Send,
{
    let mut batch = BATCH;
    // Rounds in a row that left something.
    let mut in_a_row = 0_u32;
    loop {
        tokio::time::sleep(about(if in_a_row == 0 { interval } else { PAUSE.min(interval) })).await;
        let Some(is_more_left) = round(&mut batch, &expire).await else { return };
        if is_more_left {
            batch = batch.saturating_mul(2).min(BATCH);
            in_a_row = in_a_row.saturating_add(1);
            if in_a_row.is_multiple_of(MANY_ROUNDS) {
                tracing::warn!(
                    rounds = in_a_row,
                    "records past their time are still left after many rounds of deletions: if this goes on, more come than \
                     are deleted, and the table grows"
                );
            }
        } else {
            (batch, in_a_row) = (BATCH, 0);
        }
    }
}

/// One statement after the other, as long as each deletes as much as it may. Says whether the last one did; `None`:
/// there is no store any more.
async fn round<E>(batch: &mut u32, expire: impl Fn(u32) -> E + Send + Sync) -> Option<bool>
where
    E: Future<Output = Option<Result<u64, StoreError>>> + Send,
{
    let mut is_more_left = false;
    for _ in 0..BATCHES {
        match expire(*batch).await? {
            Ok(deleted) if deleted >= u64::from(*batch) => is_more_left = true,
            Ok(_) => return Some(false),
            Err(error) => {
                tracing::debug!(%error, "records past their time are left for later");
                if error.kind() == StoreErrorKind::Unreachable {
                    return Some(false);
                }
                // Big answers, or a slow disk: fewer of them fit into the time that a statement has.
                *batch = (*batch / 4).max(1);
                is_more_left = false;
            }
        }
    }
    Some(is_more_left)
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::Instant;

    use super::*;

    /// For how long a table of so many rows is swept until less than a statement's are left, by statements that fail above
    /// `fits` rows and take no time.
    async fn time_for(rows: u64, fits: u32) -> Duration {
        let begun = Instant::now();
        let rows = &AtomicU64::new(rows);
        rounds(INTERVAL, |batch| async move {
            let there = rows.load(Ordering::Relaxed);
            let deleted = there.min(batch.into());
            if batch <= fits {
                rows.fetch_sub(deleted, Ordering::Relaxed);
            }
            let too_many = || StoreError::new(StoreErrorKind::Unavailable, "no answer in time");
            (there > batch.into()).then(|| (batch <= fits).then_some(deleted).ok_or_else(too_many))
        })
        .await;
        begun.elapsed()
    }

    const INTERVAL: Duration = Duration::from_secs(60 * 60);

    #[tokio::test(start_paused = true)]
    async fn what_one_round_leaves_waits_for_no_interval() {
        let elapsed = time_for(1_000_000, BATCH).await;
        assert!(elapsed < 2 * INTERVAL, "{elapsed:?}");
        // Not without a pause either.
        assert!(elapsed > 3 * INTERVAL / 4 + Duration::from_secs(30), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn statements_that_had_to_become_small_go_on_too() {
        let elapsed = time_for(100_000, BATCH / 3).await;
        assert!(elapsed < 2 * INTERVAL, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_none_is_asked_again_an_interval_later() {
        let asked = AtomicU64::new(0);
        let begun = Instant::now();
        rounds(INTERVAL, |_| {
            let goes_on = asked.fetch_add(1, Ordering::Relaxed) < 2 * BATCHES as u64;
            async move { goes_on.then(|| Err(StoreError::new(StoreErrorKind::Unavailable, "no answer in time"))) }
        })
        .await;
        assert!(begun.elapsed() > 2 * INTERVAL, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_interval_is_about_what_was_asked_for() {
        for _ in 0..1_000 {
            let interval = about(Duration::from_secs(60));
            assert!((Duration::from_secs(45)..=Duration::from_secs(75)).contains(&interval), "{interval:?}");
        }
    }
}
