//! Waiting until replicas have what was written.
//!
//! `WAIT` blocks its whole connection, so it has one of its own. Steps that arrive while one `WAIT` is under way are
//! sent together and share the next.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::{sync::oneshot, time::Instant};

use super::{fault::Fault, link::Link};

/// A cheap handle; clones share the queue and the connection.
#[derive(Clone)]
pub(super) struct Replicas(Arc<Shared>);

/// How many replicas must confirm, and for how long they are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quorum {
    pub(super) replicas: u32,
    pub(super) timeout: Duration,
}

struct Shared {
    link: Link,
    quorum: Quorum,
    /// What a batch may take beyond the time-out of `WAIT`.
    margin: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    steps: Vec<Waiting>,
    is_served: bool,
}

struct Waiting {
    command: Cmd,
    /// For a slot that is on its way to this server.
    moving: bool,
    done: oneshot::Sender<Result<Value, Fault>>,
}

/// At most so many steps share one `WAIT`, so that the first of them is not held up by the writing of the last.
const BATCH: usize = 256;

impl Replicas {
    pub(super) fn new(link: Link, quorum: Quorum, margin: Duration) -> Self {
        Self(Arc::new(Shared { link, quorum, margin, queue: Mutex::default() }))
    }

    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    /// Sends one command, and answers when enough replicas have everything it wrote.
    pub(super) async fn ask(&self, command: Cmd) -> Result<Value, Fault> {
        self.enqueue(command, false).await
    }

    /// The same for a slot that is on its way to this server.
    pub(super) async fn ask_while_moving(&self, command: Cmd) -> Result<Value, Fault> {
        self.enqueue(command, true).await
    }

    async fn enqueue(&self, command: Cmd, moving: bool) -> Result<Value, Fault> {
        let (done, answer) = oneshot::channel();
        let is_served = {
            let mut queue = self.0.queue();
            queue.steps.push(Waiting { command, moving, done });
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            // On its own: the request that found the queue idle may be dropped, the others wait on.
            let shared = self.0.clone();
            tokio::spawn(Serving { shared, is_over: false }.run());
        }
        answer.await.unwrap_or(Err(Fault::Silent))
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").field("quorum", &self.0.quorum).finish_non_exhaustive()
    }
}

/// The one task that serves the queue.
struct Serving {
    shared: Arc<Shared>,
    is_over: bool,
}

impl Serving {
    async fn run(mut self) {
        loop {
            let batch = {
                let mut queue = self.shared.queue();
                // Nobody waits for these any more, and whoever still does must not wait for them.
                queue.steps.retain(|waiting| !waiting.done.is_closed());
                if queue.steps.is_empty() {
                    queue.is_served = false;
                    self.is_over = true;
                    return;
                }
                let at = queue.steps.len().min(BATCH);
                let rest = queue.steps.split_off(at);
                std::mem::replace(&mut queue.steps, rest)
            };
            self.shared.serve(batch).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.is_over {
            // Dropped with its runtime: nobody will answer these, and the next to ask must find the queue free.
            let mut queue = self.shared.queue();
            queue.steps.clear();
            queue.is_served = false;
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, batch: Vec<Waiting>) {
        let mut commands = redis::pipe();
        for waiting in &batch {
            if waiting.moving {
                commands.cmd("ASKING");
            }
            commands.add_command(waiting.command.clone());
        }
        let timeout = self.quorum.timeout.as_millis().max(1);
        commands.cmd("WAIT").arg(self.quorum.replicas).arg(u64::try_from(timeout).unwrap_or(u64::MAX));

        let deadline = Instant::now() + self.quorum.timeout + self.margin;
        match self.link.send_all(&commands, deadline).await {
            Ok(mut replies) => {
                let confirmed = match replies.pop() {
                    Some(Value::Int(replicas)) => replicas >= i64::from(self.quorum.replicas),
                    _ => false,
                };
                let mut replies = replies.into_iter();
                for waiting in batch {
                    let Some(reply) = replies.nth(usize::from(waiting.moving)) else { return };
                    let answer = match reply.extract_error() {
                        Ok(_) if !confirmed => Err(Fault::NotReplicated),
                        Ok(value) => Ok(value),
                        Err(error) => Err(Fault::from(error)),
                    };
                    // Who no longer waits asks again with the same token.
                    drop(waiting.done.send(answer));
                }
            }
            Err(fault) => {
                let mut fault = Some(fault);
                for waiting in batch {
                    drop(waiting.done.send(Err(fault.take().unwrap_or(Fault::Silent))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::TcpListener};

    use futures_util::FutureExt;
    use redis::IntoConnectionInfo;

    use super::*;
    use crate::store::redis::link::{Patience, Target};

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_any_more_is_not_sent() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        server.set_nonblocking(true).expect("a server that is asked who came");
        let url = format!("redis://{}", server.local_addr().expect("an address"));
        let info = url.into_connection_info().expect("a URL of Redis");
        let soon = Duration::from_millis(100);
        let link = Link::new(Target::Server(info.into()), Patience { connect: soon, silence: soon });
        let replicas = Replicas::new(link, Quorum { replicas: 1, timeout: soon }, soon);
        assert!(replicas.ask(redis::cmd("PING")).now_or_never().is_none());
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        let came = server.accept().expect_err("nobody has to connect for it");
        assert_eq!(came.kind(), io::ErrorKind::WouldBlock);
        assert!(!replicas.0.queue().is_served);
    }
}
