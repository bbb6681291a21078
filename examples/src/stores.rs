//! The store that a URL names, for every example that takes `--store`.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use idem_runtime::{
    MemoryStore, PostgresStore, RedisStore, SqliteStore, Store, TieredStore,
    store::{StoreError, StoreErrorKind, redis::RedisCache},
};
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// Where answers are kept. Its `Display` names the place and no password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`: in this process, until it ends.
    Memory,
    /// `sqlite:PATH`: in a file.
    Sqlite(PathBuf),
    /// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`.
    Redis(String),
    /// `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DB`.
    Postgres(String),
    /// `tiered:postgres://..,redis://..`: Postgres decides, Redis holds copies of answers.
    Tiered {
        /// The URL of the Postgres.
        postgres: String,
        /// The URL of the Redis.
        redis: String,
    },
}

/// A store that is open and has its tables. Clones are one store.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as their types")]
pub enum AnyStore {
    Memory(MemoryStore),
    Sqlite(SqliteStore),
    Redis(RedisStore),
    /// With a pool for the service's own statements.
    Postgres(PostgresStore, PgPool),
    /// With the same.
    Tiered(TieredStore<PostgresStore>, PgPool),
}

/// How long a server that may be away is waited for, on start or by a request.
const PATIENCE: Duration = Duration::from_secs(2);

impl StoreUrl {
    /// Opens the store. A database gets its tables, unless it has them.
    ///
    /// # Errors
    /// What is wrong, in one line and without a password.
    pub async fn open(&self) -> Result<AnyStore, String> {
        self.try_open().await.map_err(|error| format!("cannot use the store: {self}: {}", chain(&error)))
    }

    async fn try_open(&self) -> Result<AnyStore, StoreError> {
        Ok(match self {
            Self::Memory => AnyStore::Memory(MemoryStore::new()),
            Self::Sqlite(path) => AnyStore::Sqlite(SqliteStore::open(path).await?),
            Self::Redis(url) => AnyStore::Redis(RedisStore::connect(url).await?),
            Self::Postgres(url) => {
                let (store, pool) = open_postgres(url).await?;
                AnyStore::Postgres(store, pool)
            }
            Self::Tiered { postgres, redis } => {
                let (authority, pool) = open_postgres(postgres).await?;
                let cache = RedisCache::server(redis)?;
                require_redis(redis).await?;
                AnyStore::Tiered(TieredStore::new(authority, cache), pool)
            }
        })
    }
}

impl AnyStore {
    /// The store as a runtime takes it.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Store> {
        match self.clone() {
            Self::Memory(store) => Arc::new(store),
            Self::Sqlite(store) => Arc::new(store),
            Self::Redis(store) => Arc::new(store),
            Self::Postgres(store, _) => Arc::new(store),
            Self::Tiered(store, _) => Arc::new(store),
        }
    }
}

/// Refuses without repeating the value: it may hold a password.
impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        const FORMS: &str =
            "write `memory:`, `sqlite:PATH`, `redis://..`, `postgres://..` or `tiered:postgres://..,redis://..`";
        match url.split_once(':').ok_or(FORMS)? {
            ("memory", "") => Ok(Self::Memory),
            ("sqlite", path) => match path.strip_prefix("//").unwrap_or(path) {
                "" | ":memory:" => Err("`sqlite:` needs a file, such as `sqlite:payments.db`"),
                path if path.contains('?') => {
                    Err("`sqlite:` takes no parameters: write the file alone, such as `sqlite:payments.db`")
                }
                path => Ok(Self::Sqlite(path.into())),
            },
            ("redis" | "rediss", _) => Ok(Self::Redis(url.to_owned())),
            ("postgres" | "postgresql", _) => Ok(Self::Postgres(url.to_owned())),
            ("tiered", both) => {
                // A password may hold a comma; behind the last one that `redis` follows stands its URL.
                let (postgres, redis) = both.rsplit_once(",redis").ok_or(FORMS)?;
                match (postgres.parse()?, format!("redis{redis}").parse()?) {
                    (Self::Postgres(postgres), Self::Redis(redis)) => Ok(Self::Tiered { postgres, redis }),
                    _ => Err(FORMS),
                }
            }
            _ => Err(FORMS),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory, forgotten on exit"),
            Self::Sqlite(path) => write!(f, "sqlite, {}", path.display()),
            Self::Redis(url) => write!(f, "redis, {}", place(url)),
            Self::Postgres(url) => write!(f, "postgres, {}", place(url)),
            Self::Tiered { postgres, redis } => write!(f, "postgres, {}, and redis, {}", place(postgres), place(redis)),
        }
    }
}

/// Never the URL: it may hold a password.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Host, port and path: a URL without its scheme, its user, its password and its query.
pub(crate) fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    rest.get(user..).unwrap_or_default()
}

async fn open_postgres(url: &str) -> Result<(PostgresStore, PgPool), StoreError> {
    PostgresStore::migrate(url).await?;
    let store = PostgresStore::connect(url).await?;
    let pool = PgPoolOptions::new()
        .acquire_timeout(PATIENCE)
        .connect_lazy(url)
        .map_err(|e| StoreError::new(StoreErrorKind::Misconfigured, "the URL of the database").with_source(e))?;
    Ok((store, pool))
}

/// Asks the Redis of a tiered store once. It may be away, for it only holds copies, but not be one that never does.
async fn require_redis(url: &str) -> Result<(), StoreError> {
    let patient =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let asked: Result<(), RedisError> = async {
        let mut connection = Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?;
        redis::cmd("TIME").exec_async(&mut connection).await
    }
    .await;
    let Err(error) = asked else { return Ok(()) };
    let (place, cause) = (place(url), one_line(&error.to_string()));
    if will_never_do(&error) {
        return Err(StoreError::new(StoreErrorKind::Misconfigured, format!("redis, {place}: {cause}")));
    }
    tracing::warn!("redis, {place}, cannot be used, so each replay comes from the database meanwhile: {cause}");
    Ok(())
}

fn will_never_do(error: &RedisError) -> bool {
    let is_refused = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    // No Redis; a login or a database that it does not know.
    is_refused
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
        || error.to_string().contains("refused to switch database")
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    one_line(&text)
}

/// A driver may have written several.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        for (url, shown) in [
            ("memory:", "memory, forgotten on exit"),
            ("sqlite:payments.db", "sqlite, payments.db"),
            ("sqlite:///var/lib/payments.db", "sqlite, /var/lib/payments.db"),
            ("redis://:s3cret@cache:6380/1", "redis, cache:6380/1"),
            ("rediss://u:s3c@ret@cache", "redis, cache"),
            ("postgres://u:s3cret@db:5433/pay?password=s3cret", "postgres, db:5433/pay"),
            ("postgresql://db/pay", "postgres, db/pay"),
            ("tiered:postgres://u:s3,cret@db/pay,redis://:s3cret@cache", "postgres, db/pay, and redis, cache"),
        ] {
            let parsed: StoreUrl = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(parsed.to_string(), shown, "{url}");
            assert_eq!(format!("{parsed:?}"), format!("StoreUrl({shown})"));
        }
    }

    #[test]
    fn every_other_form_is_refused() {
        for url in [
            "",
            "memory",
            "memory:x",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:pay.db?mode=rwc",
            "sqlite://pay.db?mode=ro",
            "mongodb://u:s3cret@host",
            "tiered:postgres://u:s3cret@db/pay",
            "tiered:redis://a,redis://b",
            "tiered:sqlite:pay.db,redis://b",
        ] {
            let error = url.parse::<StoreUrl>().expect_err(url);
            assert!(error.contains("write `") || error.contains("such as `"), "{url}: {error}");
        }
    }
}
