//! The options of the store, and how it connects.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{
    Inner, PostgresStore, expiry,
    fault::Fault,
    link::{Link, Source},
    own::Own,
    schema::{self, Table},
    statement::{Texts, milliseconds},
    transaction::{self, Transacting},
};
use crate::store::StoreError;

/// The options of a [`PostgresStore`].
///
/// ```no_run
/// # async fn example() -> Result<(), idem_runtime::store::StoreError> {
/// use std::time::Duration;
/// use idem_runtime::PostgresStore;
///
/// let store = PostgresStore::builder()
///     .schema("shop")
///     .max_connections(10)
///     .command_timeout(Duration::from_millis(200))
///     .connect("postgres://app:secret@10.0.0.1/shop")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options connect to nothing"]
pub struct PostgresStoreBuilder {
    table: Table,
    max_connections: u32,
    max_transactions: u32,
    command_timeout: Duration,
    statement_timeout: Option<Duration>,
    lock_timeout: Duration,
    acquire_timeout: Duration,
    connect_timeout: Duration,
    isolation: Isolation,
    transaction_pooler: bool,
    sweep: Option<Duration>,
}

/// How far [transactions](crate::store::Transactions) that the store begins are kept apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see what was committed before the first one. What meets another is undone, and run again.
    RepeatableRead,
    /// As if the transactions had run one after the other. What does not fit is undone, and run again.
    Serializable,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            table: Table { schema: None, name: schema::DEFAULT_TABLE.to_owned() },
            max_connections: 5,
            max_transactions: 5,
            command_timeout: Duration::from_millis(500),
            statement_timeout: None,
            lock_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            isolation: Isolation::ReadCommitted,
            transaction_pooler: false,
            sweep: Some(Duration::from_secs(60)),
        }
    }

    /// The table of the records, of `a` to `z`, `0` to `9` and `_`. Default `idem_records`. Beside it lies `NAME_schema`.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table.name = name.into();
        self
    }

    /// The schema that the table is in. Default: the first of the login's `search_path` that has it as the store
    /// connects.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.table.schema = Some(name.into());
        self
    }

    /// How many connections are open at most for claims, completions and whatever else is one statement. Default 5. Over
    /// a pool of yours its own maximum counts.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// How many [transactions](crate::store::Transactions) are open at most, each on a connection of its own. Default 5.
    /// None is opened before the first one. Over a pool of yours its own maximum counts.
    pub fn max_transactions(mut self, transactions: u32) -> Self {
        self.max_transactions = transactions;
        self
    }

    /// How long one step may take, waiting for a connection and further attempts included. Default 500 ms; at least
    /// 1 ms, at most an hour.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// When the server itself ends a statement of the store. Default: as the command time-out; at least 1 ms, at
    /// most an hour.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
        self
    }

    /// How long a claim in a transaction waits for another one with the same key, before it is told that it is busy.
    /// Default 2 s; at least 1 ms, at most an hour. Where others have the key one after the other, it is told up to a command
    /// time-out later.
    ///
    /// A claim outside of one waits for half a command time-out.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long a transaction waits for others to end when there are as many as may be, and a
    /// [migration](Self::migrate) for another that makes a table. Default 10 s; at least 1 ms, at most an hour.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long opening a connection may take, name resolution, TLS and login included. Default 1 s; at least 1 ms, at
    /// most an hour. Requests do not wait for it longer than their command time-out.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How far transactions that the store begins are kept apart. Default [`Isolation::ReadCommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Works behind a pooler that gives a connection to a transaction, not to a session: `PgBouncer` with
    /// `pool_mode = transaction`. Nothing is prepared and nothing set for a session; each step is a transaction of four
    /// round trips instead of one.
    pub fn transaction_pooler(mut self) -> Self {
        self.transaction_pooler = true;
        self
    }

    /// How often records past their time are deleted, give or take a quarter; `None`: only by
    /// [`expire`](PostgresStore::expire). Default once a minute; at least 1 ms, at most a day. Up to 20,000 of them go at
    /// once; where more are left, the next go about a second later, and it is told in a warning if that lasts.
    pub fn sweep_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.sweep = interval.into();
        self
    }

    /// As [`PostgresStore::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, StoreError> {
        self.connect_with(parse(url).map_err(|fault| wrong("connect", fault))?).await
    }

    /// A store over connections with the driver's own options.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`].
    pub async fn connect_with(self, options: PgConnectOptions) -> Result<PostgresStore, StoreError> {
        self.try_connect(options).await.map_err(|fault| wrong("connect", fault))
    }

    /// A store over a pool of one's own, whose connections other code uses too.
    ///
    /// Other code can leave a connection inside a transaction, by a `begin` that was dropped halfway: what is claimed on it
    /// would vanish with that transaction. So each step begins by ending whatever is open, and is a transaction of
    /// three round trips instead of one statement of one. And while other code has every connection of the pool,
    /// nothing can be claimed.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`].
    pub async fn with_pool(self, pool: PgPool) -> Result<PostgresStore, StoreError> {
        self.try_pool(pool).await.map_err(|fault| wrong("connect", fault))
    }

    /// As [`PostgresStore::migrate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn migrate(self, url: &str) -> Result<(), StoreError> {
        self.try_migrate(url).await.map_err(|fault| wrong("migrate", fault))
    }

    /// Zero would be a step that is never taken, or a task that never rests; and no deadline is as far as `Duration::MAX`.
    fn validate(&self) -> Result<(), Fault> {
        self.table.validate()?;
        let timeouts = [
            ("command_timeout", self.command_timeout, "millis(500)"),
            ("statement_timeout", self.ends_after(), "millis(500)"),
            ("lock_timeout", self.lock_timeout, "secs(2)"),
            ("acquire_timeout", self.acquire_timeout, "secs(10)"),
            ("connect_timeout", self.connect_timeout, "secs(1)"),
        ];
        for (option, timeout, default) in timeouts {
            if !(SHORTEST..=LONGEST_TIMEOUT).contains(&timeout) {
                return Err(Fault::misconfigured(format!(
                    "`{option}` is not between 1 ms and 1 hour: write `Duration::from_{default}`"
                )));
            }
        }
        match self.sweep {
            Some(interval) if !(SHORTEST..=LONGEST_INTERVAL).contains(&interval) => Err(Fault::misconfigured(
                "`sweep_every` is not between 1 ms and 1 day: write `Duration::from_secs(60)`, or `None` for never",
            )),
            _ => Ok(()),
        }
    }

    async fn try_migrate(self, url: &str) -> Result<(), Fault> {
        self.validate()?;
        let own = self.own(parse(url)?);
        let mut connection = own.open().await?;
        // Longer than the server waits for others, so that it can say so.
        let limit = self.acquire_timeout.saturating_add(self.connect_timeout);
        match timeout(limit, schema::migrate(&mut connection, &self.table, self.acquire_timeout)).await {
            Ok(migrated) => migrated,
            Err(_) => Err(Fault::unreachable("no answer within the acquire time-out and the connect time-out")),
        }
    }

    async fn try_connect(mut self, options: PgConnectOptions) -> Result<PostgresStore, Fault> {
        self.validate()?;
        let place = place(&options);
        // The server's own default may be one that a claim cannot work in. A pooler takes no such options.
        let mine = match self.transaction_pooler {
            true => options.clone(),
            false => options.clone().options([
                ("default_transaction_isolation", "read committed".to_owned()),
                ("statement_timeout", milliseconds(self.ends_after())),
                ("lock_timeout", milliseconds(self.command_timeout / 2)),
                // A plan made while the table was small would go on reading all of it when it is not.
                ("enable_seqscan", "off".to_owned()),
            ]),
        };
        let own = self.own(mine);
        let mut first = own.open().await?;
        self.table = self.check(&mut first).await?;
        own.keep(first);
        let transactions = match self.transaction_pooler {
            true => options.statement_cache_capacity(0).extra_float_digits(None),
            false => options,
        };
        let transactions = Own::new(transactions, self.max_transactions, self.connect_timeout);
        let places = self.max_transactions;
        self.finish(Source::Own(own), Source::Own(transactions), places, place)
    }

    async fn try_pool(mut self, pool: PgPool) -> Result<PostgresStore, Fault> {
        self.validate()?;
        let place = place(&pool.connect_options());
        let mut connection = match timeout(self.connect_timeout, pool.acquire()).await {
            Ok(connection) => connection.map_err(|error| Fault::from(error).before_sending())?,
            Err(_) => return Err(Fault::unreachable("no connection of the pool within the connect time-out")),
        };
        let checked = match transaction::clear(&mut connection, self.connect_timeout).await {
            Ok(true) => self.check(&mut connection).await,
            _ => Err(Fault::unreachable("the connection of the pool does not answer")),
        };
        if checked.is_err() {
            connection.close_on_drop();
        }
        self.table = checked?;
        let places = pool.options().get_max_connections();
        self.finish(Source::Users(pool.clone()), Source::Users(pool), places, place)
    }

    /// Which table it is.
    async fn check(&self, connection: &mut PgConnection) -> Result<Table, Fault> {
        match timeout(self.connect_timeout, schema::check(connection, &self.table)).await {
            Ok(checked) => checked,
            Err(_) => Err(Fault::unreachable("no answer within the connect time-out")),
        }
    }

    fn own(&self, options: PgConnectOptions) -> Arc<Own> {
        // Nothing here is a float, and a pooler refuses to hear of them.
        Own::new(options.extra_float_digits(None), self.max_connections, self.connect_timeout)
    }

    fn finish(self, source: Source, transactions: Source, places: u32, place: String) -> Result<PostgresStore, Fault> {
        let framed = self.transaction_pooler || matches!(source, Source::Users(_));
        let frame = framed.then(|| -> Arc<str> {
            // The first `BEGIN` is for a transaction that somebody left open: without one to end, `ROLLBACK` writes a
            // warning into the server's log.
            format!(
                "BEGIN; ROLLBACK; BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {}; \
                 SET LOCAL lock_timeout = {}; SET LOCAL enable_seqscan = off",
                milliseconds(self.ends_after()),
                milliseconds(self.command_timeout / 2),
            )
            .into()
        });
        let begin: Arc<str> = match self.isolation {
            Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
        .into();
        let places = usize::try_from(places).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        let inner = Arc::new(Inner {
            link: Link { source, budget: self.command_timeout, frame, prepared: !self.transaction_pooler },
            texts: Texts::new(&self.table.quoted(), self.lock_timeout),
            transacting: Transacting {
                source: transactions,
                places: Arc::new(Semaphore::new(places)),
                begin,
                away: Notify::new(),
                lock_timeout: self.lock_timeout,
                acquire_timeout: self.acquire_timeout,
            },
            place,
            table: self.table.quoted(),
        });
        let sweeping = self.sweep.map(|interval| expiry::sweep(Arc::downgrade(&inner), interval));
        Ok(PostgresStore { inner, _sweeping: sweeping.map(Arc::new) })
    }

    fn ends_after(&self) -> Duration {
        self.statement_timeout.unwrap_or(self.command_timeout)
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The server's address and the database, never the login.
fn place(options: &PgConnectOptions) -> String {
    let host =
        options.get_socket().map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
    format!("{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default())
}

fn parse(url: &str) -> Result<PgConnectOptions, Fault> {
    const FORM: &str = "the URL does not parse: write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Fault::misconfigured(FORM));
    }
    PgConnectOptions::from_str(url).map_err(|_| Fault::misconfigured(FORM))
}

/// At the start nothing was entrusted to the server yet, and a primary can still be named.
fn wrong(doing: &str, fault: Fault) -> StoreError {
    fault.before_sending().into_error(doing)
}

/// Shows no login: there is none in it.
impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("table", &self.table.quoted())
            .field("max_connections", &self.max_connections)
            .field("max_transactions", &self.max_transactions)
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}
