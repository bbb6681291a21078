//! One shared connection to one server: opened when it is needed, replaced when it breaks, falls silent or leads to a
//! server that is no longer the master.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, ConnectionInfo, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    check,
    fault::{Cause, Fault},
    script::Kind,
    sentinel::Sentinels,
    wire::Wire,
};

/// A cheap handle; clones share the connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

/// Where a link leads.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// To this server.
    Server(Box<ConnectionInfo>),
    /// To whichever server the Sentinels call the master.
    Master(Arc<Sentinels>),
}

/// How long is waited for a server, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// How long a connection may take to open.
    pub(super) connect: Duration,
    /// How long a command waits for a sign of life before its connection is taken for dead. One that had less time says
    /// nothing of it.
    pub(super) silence: Duration,
    /// Whether a claim is only for a server that evicts no records.
    pub(super) keeps: bool,
}

struct Shared {
    target: Target,
    terms: Terms,
    current: RwLock<Option<Live>>,
    opening: Mutex<Opening>,
    /// The last look at what the Sentinels say. Held while they are asked: whoever waits for it is told the same.
    looked: tokio::sync::Mutex<Option<Look>>,
    made: Instant,
    /// When the current connection was last known to lead to the master, in milliseconds since `made`.
    known: AtomicU64,
}

struct Look {
    began: Instant,
    word: Word,
}

/// What the Sentinels say of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It leads to the master.
    Stays,
    /// It does not, and is gone.
    Moved,
    /// Most of them gave no answer in time.
    Unheard,
}

/// The open connection of a link, to send over.
pub(super) struct Line<'a> {
    link: &'a Link,
    live: Live,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// Also what tells one connection from the next.
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Opening {
    /// One attempt at a time, whoever waits for it.
    under_way: Option<watch::Receiver<Option<Cause>>>,
    /// The last attempt, if it failed.
    failed: Option<(Instant, Cause)>,
}

/// After a failed attempt nobody tries again for this long: a dead server must not be met with a storm of attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Behind a connection that was quiet for longer, another server may have become the master: sooner no Sentinel calls one down.
const QUIET: Duration = Duration::from_secs(1);

impl Link {
    pub(super) fn new(target: Target, terms: Terms) -> Self {
        Self(Arc::new(Shared {
            target,
            terms,
            current: RwLock::new(None),
            opening: Mutex::new(Opening::default()),
            looked: tokio::sync::Mutex::new(None),
            made: Instant::now(),
            known: AtomicU64::new(0),
        }))
    }

    /// Sends one command once.
    pub(super) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Fault> {
        self.line(deadline).await?.send(command, deadline).await
    }

    /// The open connection, or a new one.
    pub(super) async fn line(&self, deadline: Instant) -> Result<Line<'_>, Fault> {
        let live = match self.current() {
            Some(live) => live,
            None => Box::pin(self.opened(deadline)).await?,
        };
        Ok(Line { link: self, live })
    }

    /// The server has come to power, and is asked whether it evicts before it is given a claim. Over a new connection
    /// it was asked.
    pub(super) fn doubt(&self) {
        if let Some(live) = self.current()
            && self.0.terms.keeps
        {
            live.wire.may_evict.store(true, Ordering::Relaxed);
        }
    }

    /// The next command opens a new connection.
    pub(super) fn replace(&self) {
        *write(&self.0.current) = None;
    }

    /// Asks the Sentinels where the master is, and lets go of a connection to any other server, `beside` too if there
    /// is one. Many who ask at once are one look, or two.
    pub(super) async fn verify(&self, beside: Option<&Self>, deadline: Instant) -> Word {
        let Target::Master(sentinels) = &self.0.target else { return Word::Stays };
        let asked = Instant::now();
        let Ok(mut looked) = timeout_at(deadline, self.0.looked.lock()).await else { return Word::Unheard };
        if let Some(Look { began, word }) = *looked
            && began >= asked
        {
            return word;
        }
        let began = Instant::now();
        let word = match timeout_at(deadline, sentinels.agreed()).await {
            Ok(Ok(master)) => {
                if let Some(beside) = beside {
                    beside.compare(&master);
                }
                self.compare(&master)
            }
            Ok(Err(_)) | Err(_) => Word::Unheard,
        };
        *looked = Some(Look { began, word });
        word
    }

    fn compare(&self, master: &ConnectionInfo) -> Word {
        let mut current = write(&self.0.current);
        match &*current {
            Some(live) if *live.wire.address == *master.addr().to_string() => {
                self.0.is_known();
                Word::Stays
            }
            _ => {
                *current = None;
                Word::Moved
            }
        }
    }

    /// Whether nothing was heard for so long over a connection that Sentinels chose that they may have chosen anew.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = self.0.made.elapsed().saturating_sub(Duration::from_millis(self.0.known.load(Ordering::Relaxed)));
        matches!(self.0.target, Target::Master(_)) && quiet > QUIET && self.current().is_some()
    }

    fn drop_if_current(&self, live: &Live) -> bool {
        let mut current = write(&self.0.current);
        let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.wire, &live.wire));
        if is_current {
            *current = None;
        }
        is_current
    }

    fn current(&self) -> Option<Live> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn opened(&self, deadline: Instant) -> Result<Live, Fault> {
        // A connection may break again before its waiters run, so they look more than once; the deadline ends it.
        loop {
            if let Some(live) = self.current() {
                return Ok(live);
            }
            let mut opened = self.open()?;
            match timeout_at(deadline, opened.wait_for(Option::is_some)).await {
                // The attempt is over and its sender gone: look what it left.
                Ok(Err(_)) => {}
                Ok(Ok(cause)) => {
                    if let Some(cause) = cause.clone() {
                        return Err(Fault::Unreachable(cause));
                    }
                }
                Err(_) => return Err(Fault::Unreachable(Cause::unavailable("no connection in time"))),
            }
        }
    }

    /// Joins the attempt under way, or begins one. It runs on its own: the request that began it may have less time than
    /// the attempt takes, or be dropped.
    fn open(&self) -> Result<watch::Receiver<Option<Cause>>, Fault> {
        let mut opening = lock(&self.0.opening);
        if self.current().is_some() {
            // Opened since the caller looked. The channel is closed already, so it looks again at once.
            return Ok(watch::channel(None).1);
        }
        if let Some(under_way) = &opening.under_way {
            return Ok(under_way.clone());
        }
        if let Some((at, cause)) = &opening.failed
            && at.elapsed() < PAUSE
        {
            return Err(Fault::Unreachable(cause.clone()));
        }
        let (done, opened) = watch::channel(None);
        opening.under_way = Some(opened.clone());
        drop(opening);
        let attempt = Attempt { shared: self.0.clone(), done };
        tokio::spawn(async move {
            let result = attempt.shared.connect().await;
            attempt.finish(result);
        });
        Ok(opened)
    }
}

impl Line<'_> {
    /// Sends one command once.
    pub(super) async fn send(&mut self, command: &Cmd, deadline: Instant) -> Result<Value, Fault> {
        let send = async |connection: &mut MultiplexedConnection| {
            connection.send_packed_command(command).await.and_then(Value::extract_error)
        };
        self.exchange(send, deadline).await
    }

    /// Sends commands one behind the other, once. Their replies may be errors.
    pub(super) async fn send_all(
        &mut self,
        commands: &redis::Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, Fault> {
        let send = async |connection: &mut MultiplexedConnection| {
            connection.send_packed_commands(commands, 0, commands.len()).await
        };
        self.exchange(send, deadline).await
    }

    /// Whether its server is to be [asked](Self::require_keeping) before it is given a claim.
    pub(super) fn may_evict(&self) -> bool {
        self.live.wire.may_evict.load(Ordering::Relaxed)
    }

    /// Asks whether the server evicts records, and refuses it if it does. Again for each claim: whoever sets the server
    /// right need not restart anything.
    pub(super) async fn require_keeping(&mut self, deadline: Instant) -> Result<(), Fault> {
        let info = self.send(&check::command(), deadline).await?;
        let wire = &self.live.wire;
        match check::judge_eviction(&wire.address, &info) {
            Ok(()) => {
                wire.may_evict.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(cause) => {
                if !wire.is_told.swap(true, Ordering::Relaxed) {
                    tracing::error!(cause = %cause.context, "claims are refused until redis keeps what it is given");
                }
                Err(Fault::Untrusted(cause))
            }
        }
    }

    async fn exchange<T>(
        &mut self,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
        deadline: Instant,
    ) -> Result<T, Fault> {
        let Self { link, live } = self;
        let (sent, heard) = (Instant::now(), live.wire.heard.load(Ordering::Relaxed));
        if sent >= deadline {
            // Nobody hears of what it would do: a claim that is won now holds up the next one for a whole lease.
            return Err(Fault::Silent);
        }
        live.wire.announce();
        let Ok(reply) = timeout_at(deadline, send(&mut live.connection)).await else {
            self.silent(heard, sent);
            return Err(Fault::Silent);
        };
        live.wire.heard.fetch_add(1, Ordering::Relaxed);
        link.0.is_known();
        reply.map_err(|error| {
            let fault = Fault::from(error);
            if matches!(fault, Fault::Broken(_)) {
                link.drop_if_current(live);
            }
            fault
        })
    }

    /// A command ran out of time. If it had enough of it, and nothing else was heard meanwhile either, the connection
    /// is taken for dead: a black hole never breaks it. What was left of a step's time may be too little for any
    /// server.
    fn silent(&self, heard: u64, sent: Instant) {
        let Self { link, live } = self;
        let silence = sent.elapsed();
        let is_dead = silence >= link.0.terms.silence && live.wire.heard.load(Ordering::Relaxed) == heard;
        if is_dead && link.drop_if_current(live) {
            tracing::warn!(server = %live.wire.address, ?silence, "redis has been silent; connecting anew");
        }
    }
}

/// Names no address: it may hold a password.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.current().map(|live| live.wire.address.clone());
        f.debug_struct("Link").field("connected", &address).finish_non_exhaustive()
    }
}

/// Clears the way for the next attempt even if its task is dropped with its runtime.
struct Attempt {
    shared: Arc<Shared>,
    done: watch::Sender<Option<Cause>>,
}

impl Attempt {
    fn finish(self, result: Result<Live, Cause>) {
        match result {
            Ok(live) => {
                *write(&self.shared.current) = Some(live);
                self.shared.is_known();
                lock(&self.shared.opening).failed = None;
            }
            Err(cause) => {
                lock(&self.shared.opening).failed = Some((Instant::now(), cause.clone()));
                self.done.send_replace(Some(cause));
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        lock(&self.shared.opening).under_way = None;
    }
}

impl Shared {
    fn is_known(&self) {
        if matches!(self.target, Target::Master(_)) {
            let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.known.store(now, Ordering::Relaxed);
        }
    }

    async fn connect(&self) -> Result<Live, Cause> {
        let deadline = Instant::now() + self.terms.connect;
        timeout_at(deadline, async {
            let (info, is_found) = match &self.target {
                Target::Server(info) => (ConnectionInfo::clone(info), false),
                Target::Master(sentinels) => (sentinels.master().await?, true),
            };
            let (mut connection, wire) = Wire::open(info, self.terms.connect).await?;
            if is_found {
                require_master(&mut connection, &wire.address).await?;
            }
            let may_evict = load_scripts(&mut connection, &wire.address, self.terms.keeps).await?;
            wire.may_evict.store(may_evict, Ordering::Relaxed);
            Ok(Live { connection, wire: Arc::new(wire) })
        })
        .await
        .unwrap_or_else(|_| Err(Cause::unavailable("no connection within the connect time-out")))
    }
}

/// A server that was the master when the Sentinels were asked may have been demoted since.
async fn require_master(connection: &mut MultiplexedConnection, address: &str) -> Result<(), Cause> {
    let reply = connection.send_packed_command(&redis::cmd("ROLE")).await.and_then(Value::extract_error);
    let role = reply.map_err(|error| Cause::of(&error))?;
    match &role {
        Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master") => Ok(()),
        _ => Err(Cause::unavailable(format!("`{address}` is not the master"))),
    }
}

/// Makes the first request as cheap as the next: one command for a claim, not two. Told on the same way: whether the
/// server may evict records, if that is asked. Whoever takes over from the one that was checked at the start has
/// settings of its own.
async fn load_scripts(connection: &mut MultiplexedConnection, address: &str, asks: bool) -> Result<bool, Cause> {
    let mut load = Kind::load_scripts();
    let scripts = load.len();
    if asks {
        load.add_command(check::command());
    }
    let mut replies = connection.send_packed_commands(&load, 0, load.len()).await.map_err(|error| Cause::of(&error))?;
    let info = replies.split_off(scripts.min(replies.len())).pop();
    for reply in replies {
        match reply.extract_error() {
            // Who may not load a script may still be allowed to send it along with the first command.
            Err(error) if error.code() == Some("NOPERM") => {}
            Err(error) => return Err(Cause::of(&error)),
            Ok(_) => {}
        }
    }
    Ok(info.is_some_and(|info| check::judge_eviction(address, &info).is_err()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::store::redis::fake::{Fake, OK};

    const FAR: Duration = Duration::from_secs(60);

    /// A server that answers `GET` once for each permit, and a link to it that is open.
    async fn opened(silence: Duration) -> (Fake, Link, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(0));
        let server = Fake::start({
            let permits = permits.clone();
            move |command| {
                let permits = permits.clone();
                async move {
                    if command.starts_with("GET") {
                        permits.acquire().await.expect("nobody closes it").forget();
                    }
                    OK.to_owned()
                }
            }
        })
        .await;
        let terms = Terms { connect: FAR, silence, keeps: false };
        let link = Link::new(Target::Server(server.info().into()), terms);
        link.send(&redis::cmd("PING"), Instant::now() + FAR).await.expect("a reply");
        (server, link, permits)
    }

    /// What was left of a step's time says nothing of a server that needs more.
    #[tokio::test]
    async fn a_connection_outlives_a_command_that_had_hardly_any_time() {
        let (server, link, permits) = opened(FAR).await;
        let spent = link.send(&redis::cmd("GET"), Instant::now() + Duration::from_millis(1)).await;
        assert!(matches!(spent, Err(Fault::Silent)), "{spent:?}");
        permits.add_permits(1);
        link.send(&redis::cmd("PING"), Instant::now() + FAR).await.expect("a reply");
        assert_eq!(server.connections(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_is_silent_for_long_enough_is_replaced() {
        let patience = Duration::from_millis(1);
        let (server, link, _permits) = opened(patience).await;
        let silent = link.send(&redis::cmd("GET"), Instant::now() + patience).await;
        assert!(matches!(silent, Err(Fault::Silent)), "{silent:?}");
        link.send(&redis::cmd("PING"), Instant::now() + FAR).await.expect("a reply");
        assert_eq!(server.connections(), 2);
    }
}
