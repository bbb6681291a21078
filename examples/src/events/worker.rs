//! One worker: a broker on one side, a store on the other, and an effect in between.

use std::time::Duration;

use idem_runtime::{
    Attempt, Drained, Idempotency, Policy, PostgresStore, SqliteStore, Tx,
    consumer::{BrokerError, Consumer, Event},
    store::Transactions,
};
use serde::{Deserialize, Serialize};

use super::{
    broker::{Broker, Pace, Worker},
    effects::{Effect, Effects, INSERT},
};
use crate::stores::AnyStore;

/// What one worker is made of.
pub(super) struct Job {
    pub(super) run: String,
    pub(super) name: String,
    pub(super) store: AnyStore,
    pub(super) effects: Effects,
    pub(super) broker: Broker,
    pub(super) haste: Haste,
}

/// How soon others take over what a dead worker held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// Nobody is expected to die, and nobody who is only slow must be taken for dead.
    Calm,
    /// Somebody dies every second.
    Chaos,
}

/// What a worker saw. Counted from its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) duplicates: u64,
}

/// How often a worker says what it saw.
const SAY: Duration = Duration::from_millis(50);

impl Haste {
    pub(super) const fn pace(self, effects: &Effects) -> Pace {
        let silence = match self {
            Self::Calm => Duration::from_secs(20),
            Self::Chaos => Duration::from_millis(1500),
        };
        let at_once = match effects {
            Effects::Lines(_) => 64,
            // As many transactions as its store has connections for.
            Effects::Postgres(_) => 5,
            // One writes at a time; the next one waits close by.
            Effects::Sqlite(_) => 2,
        };
        Pace { silence, at_once }
    }

    /// Records are kept longer than the stream lives. A worker that is killed costs its events an attempt: with chaos that
    /// must park nothing.
    pub(super) fn policy(self) -> Policy {
        let lease = match self {
            Self::Calm => Duration::from_secs(30),
            Self::Chaos => Duration::from_secs(2),
        };
        Policy::new("events")
            .ttl(Duration::from_secs(24 * 60 * 60))
            .lease(lease)
            .max_attempts(100)
            .validate_for_events()
    }
}

impl Job {
    /// Works until `stop` resolves, and says now and then, and in the end, what it saw.
    pub(super) async fn work(self, say: impl Fn(Seen), stop: impl Future<Output = ()>) -> Result<(), String> {
        let idempotency = Idempotency::builder_shared(self.store.shared()).shared().build();
        let consumer = idempotency.consumer(self.haste.policy());
        let worker = self.broker.worker(&self.name, self.haste.pace(&self.effects));
        let working = self.handle(&worker, &consumer, stop);
        tokio::pin!(working);
        let mut clock = tokio::time::interval(SAY);
        let worked = loop {
            tokio::select! {
                worked = &mut working => break worked,
                _ = clock.tick() => say(worker.seen()),
            }
        };
        say(worker.seen());
        let drained = worked.map_err(|error| error.to_string())?;
        if !drained.finished {
            return Err(format!("{} events were still being handled", drained.left));
        }
        Ok(())
    }

    async fn handle(
        &self,
        worker: &Worker,
        consumer: &Consumer,
        stop: impl Future<Output = ()>,
    ) -> Result<Drained, BrokerError> {
        match (&self.store, &self.effects) {
            (AnyStore::Postgres(store, _), Effects::Postgres(_)) => {
                self.write_rows(worker, consumer, store, insert_in_postgres, stop).await
            }
            // What decides is the database.
            (AnyStore::Tiered(store, _), Effects::Postgres(_)) => {
                self.write_rows(worker, consumer, store.authority(), insert_in_postgres, stop).await
            }
            (AnyStore::Sqlite(store), Effects::Sqlite(_)) => {
                self.write_rows(worker, consumer, store, insert_in_sqlite, stop).await
            }
            (_, Effects::Lines(ledger)) => {
                let (effect, ledger) = (self.effect(), ledger.clone());
                let handler = move |event: Event, _: Attempt| {
                    let (effect, ledger) = (effect.of(&event), ledger.clone());
                    async move { ledger.add(effect).await }
                };
                worker.run_until(consumer, handler, stop).await
            }
            (_, Effects::Postgres(_) | Effects::Sqlite(_)) => {
                unreachable!("rows are in the database of the records")
            }
        }
    }

    /// Each event in a transaction of its own: its record and its row.
    async fn write_rows<D, F, Fut>(
        &self,
        worker: &Worker,
        consumer: &Consumer,
        store: &D,
        insert: F,
        stop: impl Future<Output = ()>,
    ) -> Result<Drained, BrokerError>
    where
        D: Transactions,
        F: Fn(Tx<D>, Effect) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), sqlx::Error>> + Send + 'static,
    {
        let (consumer, store, effect) = (consumer.clone(), store.clone(), self.effect());
        let handler = move |event: Event| {
            let (consumer, store, effect) = (consumer.clone(), store.clone(), effect.of(&event));
            async move { consumer.transact(&store, event, move |tx, _| insert(tx, effect.clone())).await }
        };
        worker.run_each_until(handler, stop).await
    }

    fn effect(&self) -> Effect {
        Effect { run: self.run.clone(), event: String::new(), worker: self.name.clone() }
    }
}

async fn insert_in_postgres(mut tx: Tx<PostgresStore>, effect: Effect) -> Result<(), sqlx::Error> {
    let Effect { run, event, worker } = effect;
    sqlx::query(INSERT).bind(run).bind(event).bind(worker).execute(&mut tx).await.map(drop)
}

async fn insert_in_sqlite(mut tx: Tx<SqliteStore>, effect: Effect) -> Result<(), sqlx::Error> {
    let Effect { run, event, worker } = effect;
    sqlx::query(INSERT).bind(run).bind(event).bind(worker).execute(&mut tx).await.map(drop)
}
