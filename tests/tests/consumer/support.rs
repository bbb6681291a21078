//! What the tests of consumers share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use idem_runtime::{
    Idempotency, OnConflict, Policy,
    consumer::{ConsumeError, Consumer, Delivery, Event, ParkedEvent, ParkedReason, ProcessError, Processed, Redriven},
};
use tests::backend::Backend;
use tokio::sync::Barrier;

/// A consumer that nothing special is asked of.
pub(crate) const POLICY: Policy = Policy::new("ship").ttl(Duration::from_secs(7 * 24 * 60 * 60)).validate_for_events();

/// One that waits for another delivery of its event.
pub(crate) const PATIENT: Policy =
    Policy::new("ship").on_conflict(OnConflict::Wait(Duration::from_secs(50))).validate_for_events();

/// One whose effects must not be doubled, whatever it costs.
pub(crate) const FINANCIAL: Policy = Policy::new("charge").financial().validate_for_events();

/// An error that says what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broke(pub(crate) String);

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the handler returned, and whether this was a duplicate.
pub(crate) type Outcome = Result<(usize, bool), Trouble>;

pub(crate) fn outcome(result: Result<Processed<usize>, ProcessError<Broke>>) -> Outcome {
    result.map(|done| (done.value, done.duplicate)).map_err(Trouble::Told)
}

/// Why there is no value: as a consumer says it, or as a test expects it that cannot make what only a consumer makes.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    Told(ProcessError<Broke>),
    Failed { text: String, attempt: u32, parked: bool },
    Panicked { attempt: u32 },
}

impl Trouble {
    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Told(error) => error.delivery(),
            expected => panic!("nobody said this: {expected:?}"),
        }
    }
}

impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Told(ProcessError::Failed { error, attempt, parked, .. }),
                Self::Failed { text, attempt: nth, parked: is },
            ) => (&error.0, attempt, parked) == (text, nth, is),
            (
                Self::Told(ProcessError::Refused(ConsumeError::Panicked { attempt, .. })),
                Self::Panicked { attempt: nth },
            ) => attempt == nth,
            (Self::Told(told), Self::Told(other)) => told == other,
            _ => false,
        }
    }
}

/// A worker: one process with a connection of its own, and how often its effect happened.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) runtime: Idempotency,
    pub(crate) consumer: Consumer,
    effects: Arc<AtomicUsize>,
}

impl Worker {
    pub(crate) async fn start(backend: &Backend, policy: Policy) -> Self {
        let runtime = Idempotency::builder_shared(backend.connect().await).shared().build();
        Self { consumer: runtime.consumer(policy), runtime, effects: Arc::default() }
    }

    /// Another consumer of the same process.
    pub(crate) fn other(&self, policy: Policy) -> Self {
        Self { consumer: self.runtime.consumer(policy), runtime: self.runtime.clone(), effects: Arc::default() }
    }

    /// Another process, whose effects are counted with this one's.
    pub(crate) async fn replica(&self, backend: &Backend, policy: Policy) -> Self {
        Self { effects: self.effects.clone(), ..Self::start(backend, policy).await }
    }

    pub(crate) fn effects(&self) -> usize {
        self.effects.load(SeqCst)
    }

    /// A handler whose effect happens, and is the so-manieth.
    pub(crate) fn effect(&self) -> usize {
        self.effects.fetch_add(1, SeqCst) + 1
    }

    /// Delivers an event to a handler whose effect happens.
    pub(crate) async fn deliver(&self, event: &Event) -> Outcome {
        let worker = self.clone();
        outcome(self.consumer.process(event.clone(), move |_| async move { Ok(worker.effect()) }).await)
    }

    /// Delivers an event to a handler that fails.
    pub(crate) async fn fail(&self, event: &Event, text: &str) -> Outcome {
        let error = Broke(text.to_owned());
        outcome(self.consumer.process(event.clone(), move |_| async move { Err(error) }).await)
    }

    /// Delivers an event to a handler that panics.
    pub(crate) async fn panic(&self, event: &Event) -> Outcome {
        outcome(self.consumer.process(event.clone(), move |_| async move { panic!("as it should") }).await)
    }

    pub(crate) async fn parked(&self) -> Vec<ParkedEvent> {
        self.consumer.parked(100).await.expect("a list")
    }

    /// The only event that is parked.
    pub(crate) async fn parked_one(&self) -> ParkedEvent {
        let mut parked = self.parked().await;
        assert_eq!(parked.len(), 1, "{parked:?}");
        parked.remove(0)
    }

    /// Redrives the only event that is parked, for this reason.
    pub(crate) async fn redrive(&self, reason: ParkedReason) -> Event {
        let parked = self.parked_one().await;
        assert_eq!(parked.reason(), reason);
        match self.consumer.redrive(&parked).await.expect("an answer") {
            Redriven::Deliver(event) => event,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn event(id: &str) -> Event {
    Event::new(id, r#"{"order":7}"#)
}

pub(crate) fn refused(error: ConsumeError) -> Outcome {
    Err(Trouble::Told(ProcessError::Refused(error)))
}

pub(crate) fn failed(text: &str, attempt: u32, parked: bool) -> Outcome {
    Err(Trouble::Failed { text: text.to_owned(), attempt, parked })
}

pub(crate) const fn panicked(attempt: u32) -> Outcome {
    Err(Trouble::Panicked { attempt })
}

/// Whether the broker may forget the delivery that came to this.
pub(crate) fn is_acknowledged(outcome: &Outcome) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => error.delivery() == Delivery::Acknowledge,
    }
}

/// One delivery of `event` to each worker, all at once.
pub(crate) async fn at_once(workers: &[Worker], event: &Event) -> Vec<Outcome> {
    let barrier = Arc::new(Barrier::new(workers.len()));
    let deliveries = workers.iter().cloned().map(|worker| {
        let (barrier, event) = (barrier.clone(), event.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            worker.deliver(&event).await
        })
    });
    futures_util::future::join_all(deliveries).await.into_iter().map(|delivery| delivery.expect("no panic")).collect()
}

/// Work in a runtime of its own, which ends as soon as the work says that it stands: nothing of it runs on, as if it had
/// been killed there.
pub(crate) async fn killed_where_it_stands<F>(work: impl FnOnce(mpsc::Sender<()>) -> F + Send + 'static)
where
    F: Future<Output: Send> + Send + 'static,
{
    let killed = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (stands, standing) = mpsc::channel();
        runtime.spawn(work(stands));
        standing.recv_timeout(Duration::from_secs(30)).expect("it comes so far");
        runtime.shutdown_background();
    });
    killed.await.expect("no panic");
}
