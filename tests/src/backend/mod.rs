//! The stores that the acceptance tests run on. A new store is one [`Fixture`] and one row of [`on_every_store`](crate::on_every_store).

mod memory;
mod postgres;
mod redis;
mod sqlite;
mod tiered;
mod watched;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::Store;

pub use self::{memory::Memory, postgres::Postgres, redis::Redis, sqlite::Sqlite, tiered::Tiered, watched::Watched};

/// The records that one test works on, and what it may do to them.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Records of the test's own, none yet.
    async fn start() -> Self
    where
        Self: Sized;

    /// Another connection to the same records: what another replica has, or this one after a restart.
    async fn connect(&self) -> Arc<dyn Store>;

    /// How many rounds of a hundred requests it takes in some ten seconds.
    fn rounds(&self) -> usize;

    /// How many records there are.
    async fn records(&self) -> usize;

    /// The time by the store's own clock, since some beginning.
    async fn now(&self) -> Duration;

    /// Lets this much time go by, by the store's own clock.
    async fn pass(&self, time: Duration);
}

/// A store under test. Clones are one.
#[derive(Clone)]
pub struct Backend(Arc<dyn Fixture>);

impl Backend {
    /// A store of this kind, empty.
    pub async fn start<F: Fixture>() -> Self {
        Self::of(Arc::new(F::start().await))
    }

    /// These records, of which the test knows more.
    #[must_use]
    pub fn of(fixture: Arc<impl Fixture>) -> Self {
        Self(fixture)
    }

    /// Another connection to the same records.
    pub async fn connect(&self) -> Arc<dyn Store> {
        self.0.connect().await
    }

    /// How many rounds of a hundred requests it takes in some ten seconds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.0.rounds()
    }

    /// How many records there are.
    pub async fn records(&self) -> usize {
        self.0.records().await
    }

    /// The time by the store's own clock, since some beginning.
    pub async fn now(&self) -> Duration {
        self.0.now().await
    }

    /// Lets this much time go by, by the store's own clock.
    pub async fn pass(&self, time: Duration) {
        self.0.pass(time).await;
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend(..)")
    }
}

/// Makes of every function `async fn name(backend: Backend)` one test for each store: `memory::name`, `redis::name` ...
///
/// A function that is written and not listed is dead code, and so a warning.
#[macro_export]
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        $crate::on_store!(memory, $crate::backend::Memory, $($test),*);
        $crate::on_store!(redis, $crate::backend::Redis, $($test),*);
        $crate::on_store!(sqlite, $crate::backend::Sqlite, $($test),*);
        $crate::on_store!(postgres, $crate::backend::Postgres, $($test),*);
        $crate::on_store!(tiered, $crate::backend::Tiered, $($test),*);
    };
}

/// The same for one store.
#[macro_export]
macro_rules! on_store {
    ($store:ident, $fixture:ty, $($test:ident),* $(,)?) => {
        mod $store {
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::backend::Backend::start::<$fixture>().await).await;
                }
            )*
        }
    };
}
