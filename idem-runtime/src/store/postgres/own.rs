//! The store's own connections: a few, of which each carries one step or one transaction at a time.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::fault::Fault;

/// The connections there are.
pub(super) struct Own {
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// One for each connection that may be open.
    places: Arc<Semaphore>,
    /// Those nobody uses. The one used last is on top.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

/// A connection for one step or transaction. Put back only if that came to its end on it, else closed: a statement that
/// was cut off midway, or a transaction that was, ends with its connection.
pub(super) struct Taken {
    connection: PgConnection,
    /// Opened for this step.
    pub(super) fresh: bool,
    opened: Instant,
    own: Arc<Own>,
    place: OwnedSemaphorePermit,
}

/// Servers and what lies between change: no connection is older.
const OLDEST: Duration = Duration::from_secs(30 * 60);
/// Firewalls forget connections that nothing goes through.
const LONGEST_IDLE: Duration = Duration::from_secs(5 * 60);

impl Own {
    pub(super) fn new(options: PgConnectOptions, most: u32, connect_timeout: Duration) -> Arc<Self> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        Arc::new(Self { options, connect_timeout, places, idle: Mutex::default() })
    }

    /// A connection: one that was used before, or else a new one.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Taken, Fault> {
        let place = match timeout_at(deadline, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => place,
            _ => return Err(Fault::unreachable("every connection was in use for the whole command time-out")),
        };
        let own = self.clone();
        if let Some(Idle { connection, opened, .. }) = self.newest() {
            return Ok(Taken { connection, fresh: false, opened, own, place });
        }
        // Apart from the request: that one cannot wait does not make the next one begin anew.
        let (opened, opening) = oneshot::channel();
        tokio::spawn(async move {
            let connected = own.open().await;
            let connected =
                connected.map(|connection| Taken { connection, fresh: true, opened: Instant::now(), own, place });
            if let Err(Ok(nobodys)) = opened.send(connected) {
                nobodys.put_back();
            }
        });
        match timeout_at(deadline, opening).await {
            Ok(Ok(opened)) => opened,
            _ => Err(Fault::unreachable("no connection within the command time-out")),
        }
    }

    /// Opens a connection outside of the count.
    pub(super) async fn open(&self) -> Result<PgConnection, Fault> {
        match timeout(self.connect_timeout, self.options.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Fault::from(error).before_sending()),
            Err(_) => Err(Fault::unreachable("no connection within the connect time-out")),
        }
    }

    /// Keeps a connection that was opened outside of the count for whoever takes one next.
    pub(super) fn keep(&self, connection: PgConnection) {
        let now = Instant::now();
        self.idle().push(Idle { connection, opened: now, since: now });
    }

    /// A connection fell silent: those that lie idle may be as dead, and each would cost a request to find out.
    pub(super) fn distrust(&self) {
        let idle = mem::take(&mut *self.idle());
        drop(idle);
    }

    fn newest(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|idle| now.duration_since(idle.since) < LONGEST_IDLE && now.duration_since(idle.opened) < OLDEST);
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    pub(super) fn get(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) const fn shared(&self) -> &PgConnection {
        &self.connection
    }

    /// The step came to its end: the next one may have it.
    pub(super) fn put_back(self) {
        let Self { connection, opened, own, place, .. } = self;
        own.idle().push(Idle { connection, opened, since: Instant::now() });
        drop(place);
    }

    /// No answer came.
    pub(super) fn silent(self) {
        self.own.distrust();
    }
}
