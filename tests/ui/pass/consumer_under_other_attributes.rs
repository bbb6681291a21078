#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

mod inner {
    use super::*;

    /// Documented.
    #[tracing::instrument(skip_all)]
    #[idempotent_consumer(scope = "attributes", key = id, payload = (id, &text), runtime = idempotency)]
    #[must_use]
    #[allow(clippy::needless_lifetimes)]
    pub(super) async fn attributes<'t>(idempotency: &Idempotency, id: u64, text: &'t str) -> Result<Option<String>, ConsumeError> {
        let _ = idempotency;
        let found = text.strip_prefix("a").map(str::to_owned);
        for _ in 0..3 {
            if found.is_some() {
                return Ok(found);
            }
        }
        None::<u64>.map_or(Ok(None), |_| Err(ConsumeError::NotKept))
    }
}

macro_rules! consumers {
    ($($name:ident($id:ident): $scope:literal, $key:expr;)*) => {$(
        #[idempotent_consumer(scope = $scope, key = $key, payload = $id, runtime = idempotency)]
        async fn $name(idempotency: Idempotency, $id: u64) -> Result<u64, ConsumeError> {
            let _ = idempotency;
            Ok($id)
        }
    )*};
}

consumers! {
    one(id): "one", "x".repeat(3) + &id.to_string();
    two(id): "two", 7_u64 + id;
}

fn main() {
    let idempotency = support::runtime();
    support::wait(async {
        for _ in 0..2 {
            assert_eq!(inner::attributes(&idempotency, 1, "ab").await, Ok(Some("b".to_owned())));
            assert_eq!(inner::attributes(&idempotency, 2, "cb").await, Ok(None));
            assert_eq!(one(idempotency.clone(), 1).await, Ok(1));
            assert_eq!(two(idempotency.clone(), 2).await, Ok(2));
        }
    });
}
