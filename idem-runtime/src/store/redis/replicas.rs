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
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

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
    /// Until when somebody waits.
    deadline: Instant,
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
    pub(super) async fn ask(&self, command: Cmd, deadline: Instant) -> Result<Value, Fault> {
        self.enqueue(command, false, deadline).await
    }

    /// The same for a slot that is on its way to this server.
    pub(super) async fn ask_while_moving(&self, command: Cmd, deadline: Instant) -> Result<Value, Fault> {
        self.enqueue(command, true, deadline).await
    }

    async fn enqueue(&self, command: Cmd, moving: bool, deadline: Instant) -> Result<Value, Fault> {
        let (done, answer) = oneshot::channel();
        let is_served = {
            let mut queue = self.0.queue();
            queue.steps.push(Waiting { command, moving, deadline, done });
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            // On its own: the request that found the queue idle may be dropped, the others wait on.
            let shared = self.0.clone();
            tokio::spawn(Serving { shared, is_over: false }.run());
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            // Out of time here, or there.
            Ok(Err(_)) | Err(_) => Err(Fault::Silent),
        }
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
                // Whoever still waits must not wait for what nobody does.
                let now = Instant::now();
                queue.steps.retain(|waiting| waiting.is_awaited(now));
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

impl Waiting {
    /// What nobody waits for is not sent: a claim that is won now would hold up the next one for a whole lease.
    fn is_awaited(&self, now: Instant) -> bool {
        now < self.deadline && !self.done.is_closed()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut batch: Vec<Waiting>) {
        let limit = self.quorum.timeout + self.margin;
        let mut line = match self.link.line(Instant::now() + limit).await {
            Ok(line) => line,
            Err(fault) => return fail(batch, fault),
        };
        // A connection may have taken longer to open than they had.
        let now = Instant::now();
        batch.retain(|waiting| waiting.is_awaited(now));
        if batch.is_empty() {
            return;
        }
        let mut commands = redis::pipe();
        for waiting in &batch {
            if waiting.moving {
                commands.cmd("ASKING");
            }
            commands.add_command(waiting.command.clone());
        }
        let timeout = self.quorum.timeout.as_millis().max(1);
        commands.cmd("WAIT").arg(self.quorum.replicas).arg(u64::try_from(timeout).unwrap_or(u64::MAX));

        match line.send_all(&commands, now + limit).await {
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
            Err(fault) => fail(batch, fault),
        }
    }
}

fn fail(batch: Vec<Waiting>, fault: Fault) {
    let mut fault = Some(fault);
    for waiting in batch {
        drop(waiting.done.send(Err(fault.take().unwrap_or(Fault::Silent))));
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::TcpListener};

    use futures_util::{FutureExt, future::join};
    use redis::IntoConnectionInfo;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::store::redis::{
        fake::{Fake, OK},
        link::{Target, Terms},
    };

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_any_more_is_not_sent() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        server.set_nonblocking(true).expect("a server that is asked who came");
        let url = format!("redis://{}", server.local_addr().expect("an address"));
        let info = url.into_connection_info().expect("a URL of Redis");
        let soon = Duration::from_millis(100);
        let link = Link::new(Target::Server(info.into()), Terms { connect: soon, silence: soon, keeps: false });
        let replicas = Replicas::new(link, Quorum { replicas: 1, timeout: soon }, soon);
        assert!(replicas.ask(redis::cmd("PING"), Instant::now() + soon).now_or_never().is_none());
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        let came = server.accept().expect_err("nobody has to connect for it");
        assert_eq!(came.kind(), io::ErrorKind::WouldBlock);
        assert!(!replicas.0.queue().is_served);
    }

    /// Both are of one batch, and the connection opens when only one of them still waits.
    #[tokio::test]
    async fn a_step_whose_time_is_up_before_there_is_a_connection_is_not_sent() {
        let opens = Arc::new(Semaphore::new(0));
        let server = Fake::start({
            let opens = opens.clone();
            move |command| {
                let opens = opens.clone();
                async move {
                    if command.starts_with("SCRIPT") {
                        drop(opens.acquire().await);
                    }
                    if command.starts_with("WAIT") { ":1\r\n" } else { OK }.to_owned()
                }
            }
        })
        .await;
        let far = Duration::from_secs(60);
        let link = Link::new(Target::Server(server.info().into()), Terms { connect: far, silence: far, keeps: false });
        let replicas = Replicas::new(link, Quorum { replicas: 1, timeout: far }, far);
        let late = async {
            let late = replicas.ask(redis::cmd("LATE"), Instant::now() + Duration::from_millis(10)).await;
            opens.add_permits(1);
            late
        };
        let (late, patient) = join(late, replicas.ask(redis::cmd("PATIENT"), Instant::now() + far)).await;
        assert!(matches!(late, Err(Fault::Silent)), "{late:?}");
        patient.expect("a reply");
        assert_eq!((server.count("LATE"), server.count("PATIENT")), (0, 1));
    }
}
