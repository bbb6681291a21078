//! What a handler sees around it: spans and task-locals of the one who called it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use idem_runtime::{Idempotency, store::StoreErrorKind};
use tests::{
    faulty_store::{Fault, Step},
    gate::Gate,
    probe::Runs,
};
use tracing::{Instrument, info, info_span};

use crate::support::*;

/// Everything that is logged in this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        tracing::subscriber::set_default(
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(move || log.clone())
                .finish(),
        )
    }

    fn line(&self, text: &str) -> String {
        let log = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no `{text}` in {log}")).to_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

tokio::task_local! {
    static REQUEST: u32;
}

#[tokio::test(start_paused = true)]
async fn a_handler_keeps_the_span_of_its_request_when_the_caller_is_gone() {
    let log = Log::default();
    let _logging = log.start();
    let (store, idempotency) = faulty();
    store.yielding(1);
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Misconfigured));
    let (runs, gate) = (Runs::default(), Gate::new());
    let effect = {
        let gate = gate.clone();
        async move |_| {
            info!("in place");
            gate.pass().await;
            info!("on its own");
            Ok("paid".to_owned())
        }
    };
    let called = pay_with(&idempotency, RETRY, &runs, effect).instrument(info_span!("request", number = 7));
    tokio::select! {
        biased;
        result = called => panic!("{result:?}"),
        () = gate.reached() => {}
    }
    gate.open();
    store.called(Step::Complete, 2).await;
    assert!(log.line("in place").contains("request{number=7}"));
    assert!(log.line("on its own").contains("request{number=7}"), "{}", log.line("on its own"));
    // The engine's own words on it, too.
    assert!(log.line("completion failed").contains("request{number=7}"), "{}", log.line("completion failed"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_has_the_task_locals_of_its_caller() {
    let (store, idempotency) = faulty();
    store.yielding(3);
    let runs = Runs::default();
    let effect = async |_| {
        tokio::task::yield_now().await;
        Ok(REQUEST.get().to_string())
    };
    let paid = REQUEST.scope(7, pay_with(&idempotency, RETRY, &runs, effect)).await;
    assert_eq!(paid.unwrap().value, "7");
}

/// As axum's way to pass state to an `IntoResponse` reads one.
#[tokio::test(start_paused = true)]
async fn a_handler_takes_the_task_locals_along_that_the_service_names() {
    let carrying = Idempotency::builder(memory()).shared().on_detach(|run| match REQUEST.try_with(|number| *number) {
        Ok(number) => Box::pin(REQUEST.scope(number, run)),
        Err(_) => run,
    });
    for (idempotency, taken) in [(carrying.build(), "7"), (runtime(memory()), "none")] {
        let (runs, gate) = (Runs::default(), Gate::new());
        let effect = {
            let gate = gate.clone();
            async move |_| {
                gate.pass().await;
                Ok(REQUEST.try_with(u32::to_string).unwrap_or_else(|_| "none".to_owned()))
            }
        };
        tokio::select! {
            biased;
            result = REQUEST.scope(7, pay_with(&idempotency, RETRY, &runs, effect)) => panic!("{result:?}"),
            () = gate.reached() => {}
        }
        assert_eq!(idempotency.metrics().detached, 1);
        gate.open();
        settled(&idempotency).await;
        assert_replay_of(&pay(&idempotency, RETRY, &runs).await, taken);
        assert_eq!((runs.begun(), runs.ended()), (1, 1));
    }
}

/// A thread that belongs to no runtime, such as one of another language, asked for the operation and gives it up.
#[tokio::test]
async fn an_operation_given_up_outside_of_every_runtime_runs_to_its_end() {
    let idempotency = runtime(memory());
    let (runs, gate) = (Runs::default(), Gate::new());
    let effect = {
        let gate = gate.clone();
        async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        }
    };
    let mut asked = {
        let (idempotency, runs) = (idempotency.clone(), runs.clone());
        Box::pin(async move { pay_with(&idempotency, RETRY, &runs, effect).await })
    };
    tokio::select! {
        biased;
        result = &mut asked => panic!("{result:?}"),
        () = gate.reached() => {}
    }
    std::thread::spawn(move || drop(asked)).join().unwrap();
    gate.open();
    settled(&idempotency).await;
    assert_replay(&pay(&idempotency, RETRY, &runs).await);
    assert_eq!((runs.begun(), runs.ended()), (1, 1));
}
