//! What reporters print, which say an error and then what it came from: each thing once.

use std::{error::Error, fmt, iter::successors};

use idem_runtime::{
    ConsumeError, ExecuteError, Operation, Policy, Principal, Refusal,
    consumer::{Event, ProcessError},
    derive_key,
    store::{StoreError, StoreErrorKind},
};

use crate::support::*;

/// As an error of a service, which names what it came from.
#[derive(Debug)]
struct Declined(fmt::Error);

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("card declined")
    }
}

impl Error for Declined {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[track_caller]
fn said(error: &(dyn Error + 'static)) -> Vec<String> {
    let said: Vec<String> = successors(Some(error), |error| (**error).source()).map(ToString::to_string).collect();
    for (at, below) in said.iter().enumerate() {
        assert!(said[..at].iter().all(|above| !above.contains(below)), "{said:?}");
    }
    said
}

#[tokio::test]
async fn a_chain_of_errors_says_each_thing_once() {
    let idempotency = runtime(memory());
    let cause = fmt::Error.to_string();
    let operation = Operation::new(Policy::new("chain"), Principal::SHARED, "key-1");
    let called = idempotency.execute(operation, async |_| Err::<u8, _>(Declined(fmt::Error))).await;
    assert_eq!(said(&called.unwrap_err()), ["card declined", &cause]);
    let consumer = idempotency.consumer(Policy::new("chain"));
    let processed = consumer.process(Event::new("evt_1", "{}"), async |_| Err::<u8, _>(Declined(fmt::Error))).await;
    assert_eq!(said(&processed.unwrap_err()), ["card declined", &cause]);

    let refused: ExecuteError<Declined> = ExecuteError::Refused(Refusal::Unknown);
    assert_eq!(said(&refused), [Refusal::Unknown.to_string()]);
    let refused: ProcessError<Declined> = ConsumeError::from(StoreError::new(StoreErrorKind::Full, "claim")).into();
    assert_eq!(said(&refused), ["the idempotency store is full"]);
    let no_key = derive_key("order-7", "charge", f64::NAN).unwrap_err();
    assert!(said(&no_key)[0].contains("infinite or not a number"), "{no_key}");
}
