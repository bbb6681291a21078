//! Every law can fail: for each there is a store that breaks it, and the law says so.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idem_runtime::conformance::{check, each_law, suite};
use tests::broken::{Broken, FAULTS, Fault};

// Not every store can forget: one that says so keeps every law.
suite!(that_cannot_forget, Broken::by(Fault::CannotForget), damage: yes, restart: yes);

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

macro_rules! never_ends {
    ($($step:ident: $module:ident::$law:ident,)*) => {
        /// A method that never ends fails each law that calls it.
        mod never_ends {
            use super::*;

            $(
                #[test]
                fn $step() {
                    let broken = Broken::by(Fault::NeverEnds(stringify!($step)));
                    // Nobody waits a minute for it: time moves on as soon as everybody waits.
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                    let law = async { idem_runtime::conformance::laws::$module::$law(&broken).await };
                    let message = fails(|| runtime.unwrap().block_on(law)).unwrap();
                    let rule = concat!("every method must come to an end by itself: `", stringify!($step), "`");
                    assert!(message.contains(rule), "{message}");
                }
            )*
        }
    };
}

never_ends! {
    claim: claim::a_won_claim_is_exclusive,
    claim_many: many::many_claims_are_answered_in_their_order,
    renew: lease::a_renewal_extends_the_lease,
    complete: complete::a_tombstone_says_that_it_ran,
    release: release::a_release_makes_the_key_absent,
    resolve: at_once::of_two_verdicts_at_once_one_is_applied,
    parked: restart::parked_outlives_a_restart,
    forget: forget::what_is_absent_is_not_forgotten,
}

/// Requires that every fault of this law makes it fail, with the law's own words.
fn refute(law: &str, check: impl Fn(Broken)) {
    let faults: Vec<Fault> =
        FAULTS.iter().filter(|(of, _)| *of == law).flat_map(|(_, faults)| *faults).copied().collect();
    assert!(!faults.is_empty(), "no broken store proves that `{law}` can fail: add a fault to `FAULTS`");
    for fault in faults {
        let Some(message) = fails(|| check(Broken::by(fault))) else {
            panic!("`{law}` holds for a store that breaks it by {fault:?}")
        };
        assert!(message.starts_with("the store breaks this law: "), "{fault:?} ended `{law}` by `{message}`");
    }
}

/// What a law says that does not hold; `None`: it holds.
fn fails(law: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(law)).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}
