//! How a statement reaches the server: the only place, with `own`, that speaks the driver's language.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Either, Executor, PgConnection, PgPool, Postgres, Row as _, SqlSafeStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::{Instant, timeout_at};

use super::{
    fault::Fault,
    own::{Own, Taken},
    row::{Inserted, Row},
    statement::{Argument, Statement},
};

/// The way to the server.
pub(super) struct Link {
    pub(super) source: Source,
    /// How long one step may take, all attempts included.
    pub(super) budget: Duration,
    /// What opens a transaction around each step, where the session cannot be relied on.
    pub(super) frame: Option<Arc<str>>,
    /// Whether statements stay prepared.
    pub(super) prepared: bool,
}

/// Whose connections these are.
pub(super) enum Source {
    Own(Arc<Own>),
    /// The user's: other code may have left one inside a transaction.
    Users(PgPool),
}

/// What a statement came to.
pub(super) struct Reply<R = Row> {
    pub(super) rows: Vec<R>,
    pub(super) affected: u64,
}

enum Connection {
    Own(Taken),
    Users(Lent),
}

/// A connection of the user's pool, closed unless it is given back.
struct Lent {
    connection: Option<PoolConnection<Postgres>>,
}

impl Link {
    /// Whether the connections are those of a pool that other code uses too.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self.source, Source::Users(_))
    }

    /// Takes one step.
    pub(super) async fn ask(&self, statement: &Statement) -> Result<Reply, Fault> {
        let deadline = Instant::now() + self.budget;
        let mut sent = false;
        loop {
            let taken = self.take(deadline).await;
            let mut connection = taken.map_err(|fault| if sent { fault.after_sending() } else { fault })?;
            let Ok(reply) = timeout_at(deadline, self.step(connection.get()?, statement)).await else {
                connection.silent();
                return Err(Fault::silent());
            };
            match reply {
                Ok(reply) => {
                    connection.put_back();
                    return Ok(reply);
                }
                // It was not taken, and may be taken now.
                Err(fault) if fault.is_conflict() && Instant::now() < deadline => connection.put_back(),
                Err(fault) if !fault.broken => {
                    connection.put_back();
                    return Err(fault);
                }
                // Somebody left it in a state that it does not come out of.
                Err(fault) if fault.unsent && Instant::now() < deadline => {}
                // A new one that breaks says that the server has gone. Those that lay idle while it was away break one
                // after the other, and say nothing.
                Err(fault) if connection.is_fresh() || !statement.repeatable => return Err(fault.after_sending()),
                Err(_) => sent = true,
            }
        }
    }

    async fn take(&self, deadline: Instant) -> Result<Connection, Fault> {
        match &self.source {
            Source::Own(own) => own.take(deadline).await.map(Connection::Own),
            Source::Users(pool) => lend(pool, deadline).await.map(Connection::Users),
        }
    }

    async fn step(&self, connection: &mut PgConnection, statement: &Statement) -> Result<Reply, Fault> {
        let Some(frame) = &self.frame else { return self.send(connection, statement).await };
        simple(connection, AssertSqlSafe(frame.clone())).await.map_err(Fault::unsent)?;
        let reply = self.send(connection, statement).await;
        match &reply {
            Ok(_) => simple(connection, COMMIT).await?,
            Err(fault) if fault.broken => {}
            Err(_) => simple(connection, ROLLBACK).await?,
        }
        reply
    }

    /// Sends one statement on this connection, and reads all that it comes to.
    pub(super) async fn send<R: Decode>(
        &self,
        connection: &mut PgConnection,
        statement: &Statement,
    ) -> Result<Reply<R>, Fault> {
        let mut query = sqlx::query(AssertSqlSafe(statement.text.clone())).persistent(self.prepared);
        for argument in &statement.arguments {
            query = bind(query, argument);
        }
        let mut reply = Reply { rows: Vec::new(), affected: 0 };
        let mut stream = connection.fetch_many(query);
        while let Some(next) = stream.try_next().await? {
            match next {
                Either::Left(done) => reply.affected += done.rows_affected(),
                Either::Right(row) => reply.rows.push(R::decode(&row)?),
            }
        }
        Ok(reply)
    }
}

pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// Sends statements without arguments, in one message.
pub(super) async fn simple(connection: &mut PgConnection, text: impl SqlSafeStr) -> Result<(), Fault> {
    connection.execute(sqlx::raw_sql(text)).await?;
    Ok(())
}

impl Connection {
    fn get(&mut self) -> Result<&mut PgConnection, Fault> {
        match self {
            Self::Own(taken) => Ok(taken.get()),
            Self::Users(lent) => lent.connection.as_deref_mut().ok_or(Fault::unreachable("no connection")),
        }
    }

    fn is_fresh(&self) -> bool {
        match self {
            Self::Own(taken) => taken.fresh,
            // The pool says nothing of it, and has tested it.
            Self::Users(_) => true,
        }
    }

    fn put_back(self) {
        match self {
            Self::Own(taken) => taken.put_back(),
            Self::Users(mut lent) => drop(lent.connection.take()),
        }
    }

    fn silent(self) {
        if let Self::Own(taken) = self {
            taken.silent();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

async fn lend(pool: &PgPool, deadline: Instant) -> Result<Lent, Fault> {
    match timeout_at(deadline, pool.acquire()).await {
        Ok(connection) => {
            Ok(Lent { connection: Some(connection.map_err(|error| Fault::from(error).before_sending())?) })
        }
        Err(_) => Err(Fault::unreachable("no connection of the pool became free within the command time-out")),
    }
}

fn bind<'q>(query: Query<'q, Postgres, PgArguments>, argument: &'q Argument) -> Query<'q, Postgres, PgArguments> {
    match argument {
        Argument::Bytes(bytes) => query.bind(bytes.as_deref()),
        Argument::Number(number) => query.bind(*number),
        Argument::ManyBytes(many) => query.bind(many),
        Argument::ManyNumbers(many) => query.bind(many),
        Argument::ManyFlags(many) => query.bind(many),
    }
}

/// What the rows of a statement are read as: by place, for a search by name goes over all of them.
pub(super) trait Decode: Sized {
    fn decode(row: &PgRow) -> Result<Self, sqlx::Error>;
}

impl Decode for Row {
    fn decode(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            place: row.try_get(0)?,
            written: row.try_get(1)?,
            now: row.try_get(2)?,
            late: row.try_get(3)?,
            key: row.try_get(4)?,
            format: row.try_get(5)?,
            state: row.try_get(6)?,
            fingerprint: row.try_get(7)?,
            token: row.try_get(8)?,
            fence: row.try_get(9)?,
            attempt: row.try_get(10)?,
            until: row.try_get(11)?,
            forget: row.try_get(12)?,
            answer: row.try_get(13)?,
            answer_length: row.try_get(14)?,
        })
    }
}

impl Decode for Inserted {
    fn decode(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self { fence: row.try_get(0)?, late: row.try_get(1)? })
    }
}
