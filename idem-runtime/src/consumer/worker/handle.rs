//! The ways in which events are handled: each by itself, or a batch with one claim.

use std::{convert::identity, fmt, future::Future, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;

use super::{Handle, Job};
use crate::{
    Attempt,
    consumer::{ConsumeError, Consumer, Event, Outcome, ParkedReason, ProcessError, Processed},
    decode::{Undecodable, decode},
};

/// Each event by itself, in a task of its own.
pub(in crate::consumer) struct Each<F>(Arc<F>);

/// All events that were fetched together, claimed in one round trip.
pub(in crate::consumer) struct Batches<F> {
    consumer: Consumer,
    handler: Arc<F>,
}

/// The same, for payloads that are JSON.
pub(in crate::consumer) struct JsonBatches<D, F> {
    consumer: Consumer,
    handler: Arc<F>,
    decoded: PhantomData<fn() -> D>,
}

impl<F> Each<F> {
    pub(in crate::consumer) fn new(handler: F) -> Self {
        Self(Arc::new(handler))
    }
}

impl<F> Batches<F> {
    pub(in crate::consumer) fn new(consumer: &Consumer, handler: F, at_once: usize) -> Self {
        Self { consumer: consumer.clone().at_once(at_once), handler: Arc::new(handler) }
    }
}

impl<D, F> JsonBatches<D, F> {
    pub(in crate::consumer) fn new(consumer: &Consumer, handler: F, at_once: usize) -> Self {
        Self { consumer: consumer.clone().at_once(at_once), handler: Arc::new(handler), decoded: PhantomData }
    }
}

impl<R, F, Fut, O> Handle<R> for Each<F>
where
    R: Clone + Send + Sync + 'static,
    F: Fn(Event) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
    O: Outcome,
{
    fn begin(&self, jobs: Vec<(Event, Job<R>)>, running: &mut JoinSet<()>) {
        for (event, job) in jobs {
            let handler = self.0.clone();
            running.spawn(async move {
                let outcome = handler(event.clone()).await;
                job.settle(event, &outcome);
            });
        }
    }
}

impl<R, F, Fut, T, E> Handle<R> for Batches<F>
where
    R: Clone + Send + Sync + 'static,
    F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    fn begin(&self, jobs: Vec<(Event, Job<R>)>, running: &mut JoinSet<()>) {
        let (consumer, handler) = (self.consumer.clone(), self.handler.clone());
        running.spawn(async move { process(&consumer, jobs, move |event, attempt| handler(event, attempt)).await });
    }
}

impl<R, D, F, Fut, T, E> Handle<R> for JsonBatches<D, F>
where
    R: Clone + Send + Sync + 'static,
    D: DeserializeOwned + Send + 'static,
    F: Fn(D, Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    fn begin(&self, jobs: Vec<(Event, Job<R>)>, running: &mut JoinSet<()>) {
        let (consumer, handler) = (self.consumer.clone(), self.handler.clone());
        running.spawn(async move {
            let mut sound = Vec::with_capacity(jobs.len());
            for (event, job) in jobs {
                // An event without an id is parked for that.
                match decode::<D>(event.payload()) {
                    Err(error) if event.id().is_some() => {
                        let parked = consumer.park(&event, error).await;
                        let parked = parked.map_or_else(identity, |()| ConsumeError::Parked(ParkedReason::Undecodable));
                        job.settle(event, &parked);
                    }
                    _ => sound.push((event, job)),
                }
            }
            process(&consumer, sound, move |event, attempt| {
                // Decoded twice: before the claim, to see whether it may run at all, and here, for a batch is of bytes.
                let decoded = decode::<D>(event.payload()).map(|decoded| handler(decoded, attempt));
                async move {
                    match decoded {
                        Ok(handled) => handled.await.map_err(Trouble::Handler),
                        Err(error) => Err(Trouble::Undecodable(error)),
                    }
                }
            })
            .await;
        });
    }
}

async fn process<R, F, Fut, T, E>(consumer: &Consumer, jobs: Vec<(Event, Job<R>)>, handler: F)
where
    R: Clone,
    F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let events = jobs.iter().map(|(event, _)| event.clone()).collect();
    let results: Vec<Result<Processed<T>, ProcessError<E>>> = consumer.process_many(events, handler).await;
    for ((event, job), result) in jobs.into_iter().zip(results) {
        job.settle(event, &result);
    }
}

/// Why there is no value.
enum Trouble<E> {
    Handler(E),
    Undecodable(Undecodable),
}

impl<E: fmt::Display> fmt::Display for Trouble<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(error) => error.fmt(f),
            Self::Undecodable(error) => error.fmt(f),
        }
    }
}
