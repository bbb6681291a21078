//! Two steps at once, each time in another way: wherever a step waits between reading and writing, in some of the ways the
//! other one comes in between.

use std::{future::poll_fn, panic::resume_unwind, pin::pin, task::Poll};

/// How two steps meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Which of them begins.
    second_first: bool,
    /// How often whichever began has come to wait before the other one begins. It waits for a server, or in its turn.
    waits: usize,
    /// Whether they are two threads' instead of two steps of one.
    apart: bool,
}

/// Every way, for a key each.
pub(super) fn ways() -> impl Iterator<Item = Way> {
    // One after the other: whoever waits once between reading and writing may do so in any of them.
    let in_turn = (1..=6).map(|waits| (waits, false));
    let on_two_threads = (0..4).map(|waits| (waits, true));
    let orders = |(waits, apart)| [false, true].map(|second_first| Way { second_first, waits, apart });
    in_turn.chain(on_two_threads).flat_map(orders)
}

impl Way {
    /// What both come to.
    pub(super) async fn take<A, B>(
        self,
        a: impl Future<Output = A>,
        b: impl Future<Output = B> + Send + 'static,
    ) -> (A, B)
    where
        B: Send + 'static,
    {
        if self.apart {
            return self.on_two_threads(a, b).await;
        }
        if self.second_first {
            let (b, a) = self.one_behind(b, a).await;
            return (a, b);
        }
        self.one_behind(a, b).await
    }

    async fn one_behind<A, B>(self, first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
        let (mut first, mut second) = (pin!(first), pin!(second));
        let (mut of_first, mut of_second) = (None, None);
        let mut waits = 0;
        poll_fn(|context| {
            if of_first.is_none() {
                match first.as_mut().poll(context) {
                    Poll::Ready(value) => of_first = Some(value),
                    Poll::Pending => waits += 1,
                }
            }
            let has_begun = of_first.is_some() || waits >= self.waits;
            if has_begun
                && of_second.is_none()
                && let Poll::Ready(value) = second.as_mut().poll(context)
            {
                of_second = Some(value);
            }
            match (of_first.take(), of_second.take()) {
                (Some(first), Some(second)) => Poll::Ready((first, second)),
                (first, second) => {
                    (of_first, of_second) = (first, second);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// No thread can tell how often the other has waited: each lets turns of its own pass.
    async fn on_two_threads<A, B>(
        self,
        a: impl Future<Output = A>,
        b: impl Future<Output = B> + Send + 'static,
    ) -> (A, B)
    where
        B: Send + 'static,
    {
        let (turns_of_a, turns_of_b) = if self.second_first { (self.waits, 0) } else { (0, self.waits) };
        let b = tokio::spawn(async move {
            some_turns(turns_of_b).await;
            b.await
        });
        some_turns(turns_of_a).await;
        let a = a.await;
        // A task that panicked is a law that failed, with its own words.
        (a, b.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic())))
    }
}

async fn some_turns(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}
