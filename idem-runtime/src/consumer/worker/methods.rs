//! What every broker's worker can do, and what its builder can be told, in the same words.

/// The methods of `Worker`, whose fields are `broker`, `limits` and `counters`, and of `WorkerBuilder`, whose `limits` they set.
macro_rules! worker_methods {
    () => {
        impl Worker {
            /// Handles events until `shutdown` resolves, then finishes those it began. Events that are fetched together are
            /// claimed in one round trip to the store, run beside each other, and are settled together when the last of
            /// them is done.
            ///
            /// What still runs when the time to [drain](WorkerBuilder::drain) is over goes on in the runtime, as
            /// [`Idempotency::drain`](crate::Idempotency::drain) tells; its deliveries, which [`Drained::left`] counts, are not
            /// acknowledged and come again.
            ///
            /// # Errors
            /// When the broker refuses at the start. One that cannot be reached, then or later, is waited for.
            pub async fn run_until<T, E, F, Fut>(
                &self,
                consumer: &Consumer,
                handler: F,
                shutdown: impl Future<Output = ()>,
            ) -> Result<Drained, BrokerError>
            where
                T: Serialize + DeserializeOwned + Send + 'static,
                E: fmt::Display + Send + 'static,
                F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = Result<T, E>> + Send + 'static,
            {
                let handle = worker::Batches::new(consumer, handler, self.limits.batch);
                worker::run(self.broker.clone(), self.limits.clone(), self.counters.clone(), handle, shutdown).await
            }

            /// As [`run_until`](Self::run_until), for payloads that are JSON. One that does not decode is parked at once.
            ///
            /// # Errors
            /// As [`run_until`](Self::run_until).
            pub async fn run_json_until<D, T, E, F, Fut>(
                &self,
                consumer: &Consumer,
                handler: F,
                shutdown: impl Future<Output = ()>,
            ) -> Result<Drained, BrokerError>
            where
                D: DeserializeOwned + Send + 'static,
                T: Serialize + DeserializeOwned + Send + 'static,
                E: fmt::Display + Send + 'static,
                F: Fn(D, Attempt) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = Result<T, E>> + Send + 'static,
            {
                let handle = worker::JsonBatches::new(consumer, handler, self.limits.batch);
                worker::run(self.broker.clone(), self.limits.clone(), self.counters.clone(), handle, shutdown).await
            }

            /// Hands each event to `handler`, in a task of its own, until `shutdown` resolves, and does with the delivery
            /// what it says. Each is settled by itself as soon as it is done.
            ///
            /// The handler asks a [`Consumer`] itself: for events that take effect in a transaction, or by a function under
            /// `#[idempotent_consumer]`.
            ///
            /// # Errors
            /// As [`run_until`](Self::run_until).
            pub async fn run_each_until<F, Fut, O>(
                &self,
                handler: F,
                shutdown: impl Future<Output = ()>,
            ) -> Result<Drained, BrokerError>
            where
                F: Fn(Event) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = O> + Send + 'static,
                O: Outcome,
            {
                let handle = worker::Each::new(handler);
                worker::run(self.broker.clone(), self.limits.clone(), self.counters.clone(), handle, shutdown).await
            }

            /// Makes a parked event runnable again and publishes it to where this worker's deliveries come from.
            ///
            /// [`Redriven::Deliver`] holds what was published. An event whose payload was too large to be kept is only
            /// made runnable.
            ///
            /// # Errors
            /// When the store gave no answer, or when the event may run now and was not published.
            pub async fn redrive(&self, consumer: &Consumer, event: &ParkedEvent) -> Result<Redriven, RedriveError> {
                worker::redrive(&*self.broker, consumer, event).await
            }

            /// Publishes an event to where this worker's deliveries come from.
            ///
            /// # Errors
            /// When the broker did not confirm it; it may be published all the same.
            pub async fn publish(&self, event: &Event) -> Result<(), BrokerError> {
                self.broker.publish(event).await
            }

            /// What this worker did so far.
            pub fn metrics(&self) -> WorkerMetrics {
                self.counters.snapshot()
            }
        }

        impl WorkerBuilder {
            /// How many events are handled at once; no more are fetched. Default: 64.
            pub const fn concurrency(mut self, events: usize) -> Self {
                self.limits.concurrency = if events == 0 { 1 } else { events };
                self
            }

            /// How many events are fetched, and claimed, together. Default: 64.
            ///
            /// Those of one batch are settled when the last of them is done, but for
            /// [`run_each_until`](Worker::run_each_until): a long handler keeps the slots of its whole batch. A small batch beside
            /// a large [`concurrency`](Self::concurrency) is for handlers that take long.
            pub const fn batch(mut self, events: usize) -> Self {
                self.limits.batch = if events == 0 { 1 } else { events };
                self
            }

            /// Between which bounds of time an event that is open comes again, whatever the consumer advises: it
            /// doubles with each attempt, from a tenth of a second up to half a minute. Default: none, and a minute.
            ///
            /// A duplicate that meets its event in flight at another worker comes again when that one's lease would be out. It is
            /// done much sooner as a rule: a small `most` has the duplicate acknowledged sooner too.
            pub const fn backoff(mut self, least: Duration, most: Duration) -> Self {
                self.limits.backoff = (least, most);
                self
            }

            /// How long a worker that stops waits for what it began. Default: 30 seconds.
            pub fn drain(mut self, deadline: Duration) -> Self {
                self.limits.drain = deadline.min(LONGEST);
                self
            }
        }
    };
}

pub(in crate::consumer) use worker_methods;
