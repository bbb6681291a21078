//! Every law can fail: for each there is a store that breaks it, and the law says so.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idem_runtime::conformance::{check, each_law, suite};
use tests::broken::{Broken, FAULTS, Fault};

// What is wrong with a broken store is its fault, not what carries the fault.
suite!(without_a_fault, Broken::by_nothing(), damage: yes, restart: yes);

macro_rules! refuted {
    ([$group:ident] $($module:ident { $($law:ident)* })*) => {
        mod $group {
            use super::*;

            pub(super) const LAWS: &[&str] = &[$($(stringify!($law)),*),*];

            $($(
                #[test]
                fn $law() {
                    refute(stringify!($law), |broken| {
                        check(async move { idem_runtime::conformance::laws::$module::$law(&broken).await });
                    });
                }
            )*)*
        }
    };
}

each_law!(always(refuted)[always]);
each_law!(damage(refuted)[damage]);
each_law!(restart(refuted)[restart]);

#[test]
fn every_fault_belongs_to_a_law() {
    for (law, _) in FAULTS {
        let found = [always::LAWS, damage::LAWS, restart::LAWS].concat().contains(law);
        assert!(found, "`{law}` is not a law");
    }
}

/// Requires that every fault of this law makes it fail, with the law's own words.
fn refute(law: &str, check: impl Fn(Broken)) {
    let faults: Vec<Fault> =
        FAULTS.iter().filter(|(of, _)| *of == law).flat_map(|(_, faults)| *faults).copied().collect();
    assert!(!faults.is_empty(), "no broken store proves that `{law}` can fail: add a fault to `FAULTS`");
    for fault in faults {
        let panic = catch_unwind(AssertUnwindSafe(|| check(Broken::by(fault))));
        let Err(panic) = panic else { panic!("`{law}` holds for a store that breaks it by {fault:?}") };
        let message = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(message.starts_with("the store breaks this law: "), "{fault:?} ended `{law}` by `{message}`");
    }
}
