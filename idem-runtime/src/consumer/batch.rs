//! Many events at once: their claims in one round trip, a result for each.

use std::{collections::HashMap, fmt, future::Future, sync::Arc};

use futures_util::{StreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Concluded, ConsumeError, Consumer, Delivery, Entry, Event, ProcessError, Processed,
    attempt::{Given, Work},
};
use crate::{Attempt, engine::Granted, record::Answer};

/// What a delivery comes to if the same event is in the batch before it.
enum Follow {
    /// What the first delivery's handler returned.
    Kept(Answer),
    Refused(ConsumeError),
}

impl Consumer {
    /// As [`process`](Self::process) for each event, in their order: one round trip claims them all, and at most
    /// [`at_once`](Self::at_once) handlers run beside each other.
    ///
    /// Each event is settled by itself: acknowledge those whose result says so, and have the others delivered again. An event
    /// that is in the batch twice runs once; if it fails, its second delivery is told that the event is
    /// [in flight](ConsumeError::InFlight).
    pub async fn process_many<T, E, F, Fut>(
        &self,
        events: Vec<Event>,
        handler: F,
    ) -> Vec<Result<Processed<T>, ProcessError<E>>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Fn(Event, Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        if let Err(error) = self.refuse_transaction() {
            return events.iter().map(|_| Err(error.clone().into())).collect();
        }
        let handler = Arc::new(handler);
        let handle = |event: &Event| {
            let (handler, event) = (handler.clone(), event.clone());
            move |attempt| handler(event, attempt)
        };
        let mut results: Vec<Option<Result<Processed<T>, ProcessError<E>>>> = events.iter().map(|_| None).collect();
        let (mut leaders, mut followers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashMap::new();
        for (place, event) in events.into_iter().enumerate() {
            match self.enter(&event) {
                Entry::Guarded(operation) => match seen.get(&operation.key) {
                    None => {
                        seen.insert(operation.key, (place, operation.fingerprint));
                        let given = Given::new(handle(&event));
                        leaders.push((place, event, operation, given));
                    }
                    Some((leader, fingerprint)) if *fingerprint == operation.fingerprint => {
                        followers.push((place, *leader, operation));
                    }
                    // Another payload: parked once the first one has its record.
                    Some(_) => others.push((place, event)),
                },
                Entry::Unguarded | Entry::Parked(_) => others.push((place, event)),
            }
        }

        let work = leaders.iter().map(|(_, event, operation, given)| {
            let (work, given) = (Work::new(self, event), given.clone());
            (*operation, move |granted: Granted<'_>| work.attempt::<T, E, _, _>(given, granted.keep()))
        });
        let ran = self.runtime.engine().run_many(work.collect(), self.at_once).await;
        let mut follow = HashMap::new();
        for ((place, event, operation, given), ran) in leaders.into_iter().zip(ran) {
            let run = |operation| {
                let (work, given) = (Work::new(self, &event), given.clone());
                async move {
                    self.runtime.engine().run(&operation, move |granted| work.attempt(given, granted.keep())).await
                }
            };
            let concluded = self.conclude(operation, &event, ran, run).await;
            follow.insert(place, Follow::of(&concluded));
            set(&mut results, place, concluded.result);
        }
        for (place, leader, operation) in followers {
            let result = match follow.get(&leader) {
                Some(Follow::Kept(kept)) => self.replay(&operation.key, kept),
                Some(Follow::Refused(error)) => Err(error.clone()),
                None => Err(ConsumeError::NO_ANSWER),
            };
            set(&mut results, place, result.map_err(ProcessError::Refused));
        }
        let others = others.into_iter().map(|(place, event)| {
            let handler = handle(&event);
            async move { (place, self.process(event, handler).await) }
        });
        let mut others = stream::iter(others).buffer_unordered(self.at_once);
        while let Some((place, result)) = others.next().await {
            set(&mut results, place, result);
        }
        drop(others);
        results
            .into_iter()
            .map(|result| result.unwrap_or(Err(ProcessError::Refused(ConsumeError::NO_ANSWER))))
            .collect()
    }
}

impl Follow {
    fn of<T, E>(leader: &Concluded<T, E>) -> Self {
        match (&leader.result, &leader.kept) {
            // Another run's value is what is kept: the next delivery gets that one.
            (Ok(done), _) if done.lost_claim => Self::Refused(ConsumeError::CHANGED),
            (Ok(_), Some(kept)) => Self::Kept(kept.clone()),
            (Ok(_), None) => Self::Refused(ConsumeError::NotKept),
            (Err(ProcessError::Refused(error)), _) => Self::Refused(error.clone()),
            (Err(failed @ ProcessError::Failed { .. }), _) => Self::Refused(match failed.delivery() {
                Delivery::Acknowledge => ConsumeError::Parked(super::ParkedReason::Failed),
                Delivery::Retry { after } => ConsumeError::InFlight { retry_after: after },
            }),
        }
    }
}

fn set<T>(results: &mut [Option<T>], place: usize, result: T) {
    if let Some(slot) = results.get_mut(place) {
        *slot = Some(result);
    }
}
