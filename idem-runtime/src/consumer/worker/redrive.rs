//! Back from the store to the broker.

use std::fmt;

use super::{Broker, BrokerError};
use crate::{
    consumer::{Consumer, Event, ParkedEvent, Redriven},
    store::StoreError,
};

/// Why a parked event was not redriven.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedriveError {
    /// The store gave no answer: the event is parked or runnable. Redriving it again tells.
    Store(StoreError),
    /// The event cannot be published; it is parked as before.
    Unpublishable(BrokerError),
    /// The event is runnable and was not published, or nobody knows whether it was: publish it again.
    #[non_exhaustive]
    NotPublished {
        /// What is to be published. Twice does no harm.
        event: Event,
        /// Why it was not.
        error: BrokerError,
    },
}

pub(in crate::consumer) async fn redrive(
    broker: &impl Broker,
    consumer: &Consumer,
    parked: &ParkedEvent,
) -> Result<Redriven, RedriveError> {
    if let Some(event) = parked.event() {
        broker.may_publish(&event).await.map_err(RedriveError::Unpublishable)?;
    }
    let redriven = consumer.redrive(parked).await.map_err(RedriveError::Store)?;
    if let Redriven::Deliver(event) = &redriven {
        // Not before: a worker that got it while it was parked would acknowledge it.
        let published = broker.publish(event).await;
        published.map_err(|error| RedriveError::NotPublished { event: event.clone(), error })?;
    }
    Ok(redriven)
}

impl fmt::Display for RedriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Unpublishable(error) => write!(f, "the event cannot be published, and is parked as before: {error}"),
            Self::NotPublished { error, .. } => write!(f, "the event may run again, but was not published: {error}"),
        }
    }
}

impl std::error::Error for RedriveError {
    // What each of them says is said above.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Unpublishable(error) | Self::NotPublished { error, .. } => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::store::StoreErrorKind;

    #[test]
    fn a_chain_of_errors_says_each_thing_once() {
        let store = StoreError::new(StoreErrorKind::Unreachable, "resolve").with_source("connection refused");
        let broker = || BrokerError::unavailable("it is away");
        let event = Event::new("evt_1", "{}");
        for (error, most) in [
            (RedriveError::Store(store), 2),
            (RedriveError::Unpublishable(broker()), 1),
            (RedriveError::NotPublished { event, error: broker() }, 1),
        ] {
            let chain = std::iter::successors(Some(&error as &dyn Error), |error| (**error).source());
            let said: Vec<String> = chain.map(ToString::to_string).collect();
            assert_eq!(said.len(), most, "{said:?}");
            assert!(said[1..].iter().all(|below| !said[0].contains(below)), "{said:?}");
        }
    }
}
