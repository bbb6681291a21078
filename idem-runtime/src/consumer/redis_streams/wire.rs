//! One connection: opened when it is needed, let go of when it breaks or falls silent.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, Value, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::BrokerError;
use crate::store::{
    StoreErrorKind,
    redis::{Cause, open},
};

/// A connection to the server that a client names.
pub(super) struct Wire {
    client: Client,
    live: Mutex<Option<MultiplexedConnection>>,
}

const CONNECT: Duration = Duration::from_secs(2);

impl Wire {
    pub(super) const fn new(client: Client) -> Self {
        Self { client, live: Mutex::new(None) }
    }

    /// Sends one command and reads its reply, an error of the server included.
    pub(super) async fn send(&self, command: &Cmd, limit: Duration) -> Result<Value, BrokerError> {
        let mut live = self.live().await?;
        let reply = timeout(limit, live.send_packed_command(command)).await;
        let reply = self.heard(reply)?;
        self.look_at(&reply);
        reply.extract_error().map_err(|error| fault(&error))
    }

    /// Sends commands one behind the other. Their replies may be errors.
    pub(super) async fn send_all(&self, commands: &Pipeline, limit: Duration) -> Result<Vec<Value>, BrokerError> {
        let mut live = self.live().await?;
        let replies = timeout(limit, live.send_packed_commands(commands, 0, commands.len())).await;
        let replies = self.heard(replies)?;
        replies.iter().for_each(|reply| self.look_at(reply));
        Ok(replies)
    }

    /// A server that is a replica by now is not the one that the address leads to.
    fn look_at(&self, reply: &Value) {
        if matches!(reply, Value::ServerError(error) if error.code() == "READONLY") {
            *self.lock() = None;
        }
    }

    fn heard<T>(&self, reply: Result<Result<T, RedisError>, tokio::time::error::Elapsed>) -> Result<T, BrokerError> {
        match reply {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                    *self.lock() = None;
                }
                Err(fault(&error))
            }
            Err(_) => {
                // A black hole never breaks a connection.
                *self.lock() = None;
                Err(BrokerError::unavailable("no reply in time"))
            }
        }
    }

    async fn live(&self) -> Result<MultiplexedConnection, BrokerError> {
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        let info = self.client.get_connection_info().clone();
        let opened = timeout(CONNECT, open(info, CONNECT)).await;
        let opened = opened.unwrap_or_else(|_| Err(Cause::unavailable("no connection in time")));
        let live = opened.map_err(|cause| told(cause.kind, &cause.context))?;
        *self.lock() = Some(live.clone());
        Ok(live)
    }

    fn lock(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never the address, which may hold a password.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("connected", &self.lock().is_some()).finish_non_exhaustive()
    }
}

/// What an error of the driver means, in words that name no key and no password.
pub(super) fn fault(error: &RedisError) -> BrokerError {
    match error.code() {
        Some("WRONGTYPE") => BrokerError::misconfigured("the key of the stream holds something else"),
        _ => {
            let cause = Cause::of(error);
            told(cause.kind, &cause.context)
        }
    }
}

fn told(kind: StoreErrorKind, context: &str) -> BrokerError {
    match kind {
        StoreErrorKind::Misconfigured => BrokerError::misconfigured(context),
        _ => BrokerError::unavailable(context),
    }
}
