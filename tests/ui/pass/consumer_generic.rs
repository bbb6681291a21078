#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, ToKey, idempotent_consumer};
use serde::{Serialize, de::DeserializeOwned};

#[idempotent_consumer(scope = "generic", key = id, payload = event, runtime = idempotency)]
async fn generic<'a, K, V>(
    idempotency: &Idempotency,
    runs: &'a support::Runs,
    id: K,
    event: &V,
    twice: impl Fn(&V) -> V,
) -> Result<V, ConsumeError>
where
    K: ToKey,
    V: Serialize + DeserializeOwned + PartialEq,
{
    runs.begin();
    Ok(twice(event))
}

fn main() {
    let (idempotency, runs) = (support::runtime(), support::Runs::default());
    support::wait(async {
        for _ in 0..2 {
            assert_eq!(generic(&idempotency, &runs, 7_u64, &4, |event| event * 2).await, Ok(8));
            assert_eq!(generic(&idempotency, &runs, "7a", &"b".to_owned(), |event| event.repeat(2)).await, Ok("bb".to_owned()));
        }
    });
    assert_eq!(runs.count(), 2);
}
