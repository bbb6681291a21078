use idem_runtime::{Idempotency, MemoryStore};

fn main() {
    let _ = Idempotency::builder(MemoryStore::new()).build();
}
