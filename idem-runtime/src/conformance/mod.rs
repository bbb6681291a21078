//! The laws a store must keep, one named test each: for our stores and for yours.
//!
//! A store that breaks one of them can charge a customer twice. Write a [`Fixture`] and one line:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use idem_runtime::{FakeClock, MemoryStore, Store, conformance::Fixture};
//!
//! struct Memory {
//!     store: Arc<dyn Store>,
//!     clock: FakeClock,
//! }
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     async fn store(&self) -> Arc<dyn Store> {
//!         Arc::clone(&self.store)
//!     }
//!
//!     async fn pass(&self, time: Duration) {
//!         self.clock.advance(time);
//!     }
//! }
//!
//! async fn fixture() -> Memory {
//!     let clock = FakeClock::new();
//!     Memory { store: Arc::new(MemoryStore::with_clock(clock.clone())), clock }
//! }
//!
//! idem_runtime::conformance::suite!(
//!     memory,
//!     fixture().await,
//!     damage: no("records are typed values: there are no bytes to break"),
//!     restart: no("a restart forgets every record, as the store says"),
//! );
//! ```
//!
//! This becomes `mod memory` with one `#[test]` for each law in [`laws`]. The fixture is an expression of an async
//! block and is made anew for each law; laws use random keys, so that all of them may share one server.
//!
//! Two groups of laws need more than time: `damage: yes` needs [`Damageable`], `restart: yes` needs [`Restartable`].
//! Whoever leaves a group out says so with a reason, in the one place where the suite is called; nothing is
//! skipped in silence.
//!
//! A slow machine fails no law: what must still be alive has an hour, only what must be over is brief. But every method
//! must come to an end by itself: one that has not after a minute fails the law that waits for it.

mod case;
pub mod laws;
mod limited;
mod ways;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{key::StorageKey, store::Store};

pub use crate::{__idem_conformance_suite as suite, __idem_each_law as each_law};

/// A store under test, and its time.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store. Every call gives one that shows the same records; a store on a server had better give another
    /// connection each time, as another replica of the service would have.
    async fn store(&self) -> Arc<dyn Store>;

    /// Returns once at least this much of the store's time has passed: move a fake clock, or wait.
    async fn pass(&self, time: Duration);
}

/// A store whose records can be damaged behind its back.
#[async_trait]
pub trait Damageable: Fixture {
    /// Damages the record of `key`, which is there.
    async fn damage(&self, key: StorageKey, damage: Damage);
}

/// A store that lasts over a restart of what keeps its records.
#[async_trait]
pub trait Restartable: Fixture {
    /// Ends the process or the server that keeps the records as hard as it can be ended, and starts it again. From
    /// then on [`Fixture::store`] gives a store that works.
    async fn restart(&self);
}

/// What can happen to a record behind the store's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A later version of the store wrote it, in a format that this one does not know.
    NewerFormat,
    /// Its bytes are not a record.
    BrokenBytes,
    /// It is gone: evicted, deleted, lost in a failover. The law passes time behind it, so that the store's clock can tell the
    /// next claim from the last one.
    Gone,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewerFormat => "a record of a newer format",
            Self::BrokenBytes => "a record with broken bytes",
            Self::Gone => "a record that is gone",
        })
    }
}

/// Runs one law on a runtime of its own. What [`suite!`](suite) expands to calls it.
///
/// # Panics
/// When the law does, and when the runtime cannot be made.
#[doc(hidden)]
#[allow(clippy::expect_used)]
pub fn check(law: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime for the law").block_on(law);
}

/// One `#[test]` for each law, in a module: `suite!(name, fixture, damage: .., restart: ..)`. See the
/// [module](crate::conformance).
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_conformance_suite {
    ($name:ident, $fixture:expr, damage: $damage:ident $(($($no_damage:tt)*))?, restart: $restart:ident $(($($no_restart:tt)*))? $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::__idem_law_tests! { always yes $fixture }
            $crate::__idem_law_tests! { damage $damage $(($($no_damage)*))? $fixture }
            $crate::__idem_law_tests! { restart $restart $(($($no_restart)*))? $fixture }
        }
    };
    ($name:ident, $fixture:expr, damage: $damage:ident $(($($no_damage:tt)*))? $(, $($rest:tt)*)?) => {
        $crate::__idem_law_tests! { restart }
    };
    ($name:ident, $fixture:expr $(, $($rest:tt)*)?) => {
        $crate::__idem_law_tests! { damage }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "this is no suite: write `suite!(a_name, the_fixture, damage: yes, restart: no(\"why\"))`"
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __idem_law_tests {
    ($group:ident yes $fixture:expr) => {
        $crate::__idem_each_law! { $group ($crate::__idem_law_test) ($fixture) }
    };
    ($group:ident no($why:literal) $fixture:expr) => {};
    ($group:ident $($other:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the group of laws `",
            ::core::stringify!($group),
            "` is missing or written wrong: write `",
            ::core::stringify!($group),
            ": yes` or, with your reason, `",
            ::core::stringify!($group),
            ": no(\"why\")`; `damage` is first, then `restart`, and nothing follows"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __idem_law_test {
    (($fixture:expr) $($module:ident { $($law:ident)* })*) => {$($(
        #[test]
        fn $law() {
            $crate::conformance::check(async {
                let fixture = $fixture;
                $crate::conformance::laws::$module::$law(&fixture).await;
            });
        }
    )*)*};
}

/// THE table of laws. `each_law!(group (callback) arguments)` calls `callback! { arguments module { law law } .. }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __idem_each_law {
    (always ($($callback:tt)+) $arguments:tt) => {
        $($callback)+! { $arguments
            claim {
                a_won_claim_is_exclusive
                of_a_hundred_claims_at_once_one_is_won
                a_claim_asked_again_is_won_again
                a_claim_asked_again_starts_its_lease_again
                a_stale_owner_cannot_claim_again
                busy_says_what_is_left_of_the_lease
                another_fingerprint_is_a_mismatch_in_flight
                another_fingerprint_is_a_mismatch_even_by_the_owner
                another_fingerprint_is_a_mismatch_when_abandoned
                another_fingerprint_is_a_mismatch_when_completed
                another_fingerprint_is_a_mismatch_on_a_tombstone
                another_fingerprint_is_a_mismatch_when_unknown
                keys_never_meet
            }
            lease {
                an_abandoned_record_is_taken_over
                attempts_count_every_take_over
                an_abandoned_record_becomes_unknown_when_asked
                a_living_lease_is_never_made_unknown
                a_renewal_extends_the_lease
                a_renewal_counts_from_now
                a_renewal_past_the_lease_is_held
                a_renewal_carries_its_retention
                only_what_is_in_flight_is_renewed
                a_stale_owner_cannot_renew
                a_stale_owner_cannot_complete
                a_stale_owner_cannot_release
                an_owner_past_its_lease_may_complete
                an_owner_past_its_lease_may_release
                an_abandoned_record_past_its_retention_is_absent
                an_abandoned_record_without_retention_stays
                what_must_be_settled_is_never_taken_over
                what_a_claim_made_unknown_outlives_its_retention
            }
            complete {
                an_answer_comes_back_byte_for_byte
                a_large_answer_comes_back_byte_for_byte
                hostile_answers_come_back_byte_for_byte
                a_tombstone_says_that_it_ran
                a_completion_asked_again_is_held_and_changes_nothing
                a_stranger_cannot_complete
                a_stranger_cannot_complete_again
                what_is_absent_cannot_be_completed
                an_answer_past_its_ttl_is_a_tombstone
                ttl_counts_from_completion
                an_answer_past_its_remember_is_absent
                a_tombstone_past_its_remember_is_absent
                fences_grow_after_expiry
                what_is_completed_is_completed_to_its_owner_too
            }
            release {
                a_release_makes_the_key_absent
                fences_grow_after_every_release
                a_stranger_cannot_release
                a_release_asked_again_leaves_the_next_owner_alone
                what_is_completed_cannot_be_released
                what_is_absent_cannot_be_released
            }
            unknown {
                a_completion_can_be_unknown
                an_unknown_completion_asked_again_is_held
                unknown_outlives_every_time
                unknown_is_unknown_to_its_owner_too
                the_owner_may_still_complete_what_is_unknown
                the_owner_may_still_release_what_is_unknown
                a_stranger_cannot_settle_what_is_unknown
                resolved_with_an_answer_it_is_replayed
                resolved_without_an_answer_it_is_a_tombstone
                a_resolution_counts_its_times_from_now
                resolved_as_not_executed_it_is_absent
                a_verdict_on_another_fence_changes_nothing
                a_verdict_on_what_is_in_flight_changes_nothing
                a_verdict_on_what_is_abandoned_changes_nothing
                a_verdict_settles_what_is_abandoned_and_must_be_settled
                a_verdict_on_what_is_alive_and_must_be_settled_changes_nothing
                a_verdict_on_what_is_completed_changes_nothing
                a_verdict_on_what_is_absent_changes_nothing
                what_is_resolved_is_no_longer_its_owners
            }
            many {
                many_claims_are_answered_in_their_order
                each_of_many_claims_is_exclusive
                of_two_claims_of_one_key_in_a_batch_the_second_finds_the_first
                of_batches_and_single_claims_at_once_one_wins_each_key
                each_of_many_claims_says_what_becomes_of_what_was_abandoned
                each_of_many_claims_has_its_own_lease_and_retention
            }
            remembered {
                a_remembered_release_makes_the_next_claim_the_next_attempt
                a_remembered_release_has_no_owner
                a_remembered_release_outlives_its_lease
                a_remembered_release_is_forgotten_in_its_time
                another_fingerprint_is_a_mismatch_when_remembered
                what_is_unknown_may_be_released_and_remembered
                what_is_over_is_not_released_and_remembered
                a_verdict_on_what_is_remembered_changes_nothing
                of_many_that_find_it_released_one_wins
            }
            parked {
                a_parked_record_says_why
                parked_outlives_every_time
                a_parked_completion_asked_again_is_held_and_changes_nothing
                what_is_parked_is_nobodys_to_run_or_release
                a_stranger_cannot_settle_what_is_parked
                another_fingerprint_is_a_mismatch_when_parked
                the_owner_may_still_park_what_is_unknown
                parked_resolved_with_an_answer_is_replayed
                parked_resolved_as_not_executed_is_absent
                a_verdict_may_park_what_is_unknown
                a_verdict_may_change_the_note_of_what_is_parked
                a_verdict_on_another_fence_leaves_it_parked
                a_verdict_parks_only_what_is_unknown_or_parked
            }
            listed {
                every_parked_record_is_listed
                what_is_parked_is_listed_in_pages_in_the_order_of_keys
                what_is_settled_is_no_longer_listed
                what_is_not_parked_is_not_listed
                a_page_is_full_unless_it_is_the_last
                what_is_parked_while_others_list_is_listed
            }
            forget {
                what_is_completed_is_forgotten
                what_is_in_flight_is_not_forgotten
                what_is_unknown_or_parked_is_not_forgotten
                a_remembered_attempt_is_forgotten
                what_is_absent_is_not_forgotten
                fences_grow_after_every_forgotten_record
                what_is_forgotten_is_no_longer_its_owners
                a_record_is_forgotten_once_and_never_the_next_run
            }
            together {
                of_many_that_find_it_abandoned_one_takes_over
                a_completion_and_a_take_over_never_both_win
                a_completion_is_never_lost_to_unknown
                a_key_has_one_owner_at_a_time
            }
            at_once {
                a_renewal_never_undoes_how_it_ended
                a_renewal_and_a_take_over_never_both_win
                a_release_and_a_completion_never_both_win
                a_release_and_a_take_over_never_both_win
                of_two_verdicts_at_once_one_is_applied
                a_verdict_and_a_late_completion_never_both_win
                a_verdict_never_settles_the_next_run
            }
        }
    };
    (damage ($($callback:tt)+) $arguments:tt) => {
        $($callback)+! { $arguments
            damage {
                a_record_of_a_newer_format_is_refused
                a_record_with_broken_bytes_is_refused
                what_cannot_be_read_hides_nothing_that_is_parked
                what_cannot_be_read_is_forgotten
                fences_grow_after_a_record_was_lost
            }
        }
    };
    (restart ($($callback:tt)+) $arguments:tt) => {
        $($callback)+! { $arguments
            restart {
                a_claim_outlives_a_restart
                many_claims_outlive_a_restart
                a_renewal_outlives_a_restart
                an_answer_outlives_a_restart
                unknown_outlives_a_restart
                what_a_claim_made_unknown_outlives_a_restart
                a_verdict_outlives_a_restart
                a_remembered_attempt_outlives_a_restart
                parked_outlives_a_restart
                fences_grow_over_a_restart
            }
        }
    };
}
