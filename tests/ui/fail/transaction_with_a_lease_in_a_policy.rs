use idem_runtime::Policy;
use std::time::Duration;

const TRANSFERS: Policy = Policy::new("transfers").transaction().lease(Duration::from_secs(1)).validate();

fn main() {
    let _ = TRANSFERS;
}
