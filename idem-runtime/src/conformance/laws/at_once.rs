//! Two steps on one record at once: whatever either has read, it writes nothing over what the other one did.

use std::{sync::Arc, time::Duration};

use crate::{
    conformance::{
        Fixture,
        case::*,
        ways::{Way, ways},
    },
    record::Answer,
    store::{Claimed, Outcome, Ownership, Release, Renew, Resolve, Resolved, Store, Token, Verdict},
};

/// A renewal that meets the owner's last word must not bring back what is in flight: its lease would run out, and the
/// operation run again.
pub async fn a_renewal_never_undoes_how_it_ended(fixture: &dyn Fixture) {
    enum End {
        Complete,
        MakeUnknown,
        Release,
    }
    let (here, there) = both_ends(fixture).await;
    for end in [End::Complete, End::MakeUnknown, End::Release] {
        for way in ways() {
            let (case, owner, (answer, outcome)) = (here.another(), token(), answer_of(random::<8>()));
            let claim = case.by(owner);
            let won = case.win(claim).await;
            let ending = async {
                match end {
                    End::Complete => case.complete(owner, outcome).await,
                    End::MakeUnknown => case.complete(owner, Outcome::Unknown).await,
                    End::Release => case.release(owner).await,
                }
            };
            let (ended, _) = way.take(ending, renewing(&there, Renew::of(&claim))).await;
            require_eq!(ended, Ownership::Held, "the owner ends, and renews at once");
            match end {
                End::Complete => case.require_completed(Some(&answer), "completed, and renewed at once").await,
                End::MakeUnknown => case.require_unknown(won, "unknown, and renewed at once").await,
                End::Release => _ = case.require_absent_after(won, "released, and renewed at once").await,
            }
        }
    }
}

/// The owner wakes at the moment its key is taken over: either it has the lease again and the other one waits, or it is
/// told that it is the owner no longer.
pub async fn a_renewal_and_a_take_over_never_both_win(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for Abandoned { way, case, owner, .. } in abandoned(&here, [None]).await {
        let next = case.by(token());
        let (claimed, renewal) = way.take(case.claim(next), renewing(&there, Renew::of(&case.by(owner)))).await;
        let wins = match (renewal, &claimed) {
            (Ownership::Held, Claimed::Busy { .. }) => owner,
            (Ownership::Lost, Claimed::Won { attempt: 2, .. }) => next.token,
            found => fail(format_args!("a renewal and a take-over at once: found {found:?}")),
        };
        for who in [owner, next.token] {
            let wanted = if who == wins { Ownership::Held } else { Ownership::Lost };
            require_eq!(case.renew(case.by(who)).await, wanted, "a renewal after one that met a take-over");
        }
    }
}

/// A release that meets the completion must not forget that it ran.
pub async fn a_release_and_a_completion_never_both_win(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for remember in [None, Some(LONG)] {
        for way in ways() {
            let (case, owner, (answer, outcome)) = (here.another(), token(), answer_of(random::<8>()));
            let won = case.win(case.by(owner)).await;
            let releasing = releasing(&there, Release { remember, ..Release::new(case.key, owner) });
            match way.take(case.complete(owner, outcome), releasing).await {
                (Ownership::Held, Ownership::Lost) => {
                    case.require_completed(Some(&answer), "completed, and too late released").await;
                }
                (Ownership::Lost, Ownership::Held) => require_released(&case, won, remember).await,
                found => fail(format_args!("a completion and a release at once: found {found:?}")),
            }
        }
    }
}

/// A release that comes late must not free the key under who took it over, so that a third would run beside it.
pub async fn a_release_and_a_take_over_never_both_win(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for Abandoned { way, case, owner, remember } in abandoned(&here, [None, Some(LONG)]).await {
        let next = token();
        let releasing = releasing(&there, Release { remember, ..Release::new(case.key, owner) });
        let (claimed, release) = way.take(case.claim(case.by(next)), releasing).await;
        let attempt = if release == Ownership::Held && remember.is_none() { 1 } else { 2 };
        require_eq!(won(&claimed).map(|won| won.attempt), Some(attempt), "a claim and a release ({release:?}) at once");
        case.require_busy("claimed, and released by its former owner at once").await;
        require_eq!(case.renew(case.by(next)).await, Ownership::Held, "who claimed is the owner");
    }
}

/// Two operators, or an operator and a recovery function: one of them settles it, the other is told that it is settled.
pub async fn of_two_verdicts_at_once_one_is_applied(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for is_parked in [false, true] {
        for way in ways() {
            let case = here.another();
            let owner =
                if is_parked { case.parked_by(token(), &answer("why")).await } else { case.unknown_by(token()).await };
            let (first, second) = (answer(random::<8>()), answer(random::<8>()));
            // What is settled is there or not: a verdict must not mistake either for what it has read.
            let other = if is_parked { ran(&second) } else { Verdict::NotExecuted };
            let resolving = resolving(&there, Resolve::new(case.key, other).fence(owner.fence));
            match way.take(case.resolve(ran(&first)), resolving).await {
                (Resolved::Applied, Resolved::NotUnknown) => {
                    case.require_completed(Some(&first), "the one verdict was applied").await;
                }
                (Resolved::NotUnknown, Resolved::Applied) if is_parked => {
                    case.require_completed(Some(&second), "the other verdict was applied").await;
                }
                (Resolved::NotUnknown, Resolved::Applied) => {
                    case.require_absent_after(owner, "the other verdict was applied").await;
                }
                found => fail(format_args!("two verdicts at once: found {found:?}")),
            }
        }
    }
}

/// An owner that was thought dead tells at the moment somebody else settles it: one of them is heard.
pub async fn a_verdict_and_a_late_completion_never_both_win(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for way in ways() {
        let (case, owner) = (here.another(), token());
        case.unknown_by(owner).await;
        let (late, found) = (answer(random::<8>()), answer(random::<8>()));
        let resolving = resolving(&there, Resolve::new(case.key, ran(&found)));
        let stands = match way.take(case.complete(owner, Outcome::Answer(late.clone())), resolving).await {
            (Ownership::Held, Resolved::NotUnknown) => late,
            (Ownership::Lost, Resolved::Applied) => found,
            found => fail(format_args!("a late completion and a verdict at once: found {found:?}")),
        };
        case.require_completed(Some(&stands), "a late completion and a verdict at once").await;
    }
}

/// A verdict is about the run it was asked about: where that one's owner gives the key back, whoever claims it next is not
/// settled with it.
pub async fn a_verdict_never_settles_the_next_run(fixture: &dyn Fixture) {
    let (here, there) = both_ends(fixture).await;
    for way in ways() {
        let (case, owner, next) = (here.another(), token(), token());
        let unknown = case.unknown_by(owner).await;
        let resolving = resolving(&there, Resolve::new(case.key, Verdict::NotExecuted).fence(unknown.fence));
        let running_again = async {
            let released = case.release(owner).await;
            (released, case.claim(case.by(next)).await)
        };
        let ((released, claimed), resolved) = way.take(running_again, resolving).await;
        let is_one = (released == Ownership::Held) != (resolved == Resolved::Applied);
        require!(is_one, "a release and a verdict at once: found {released:?} and {resolved:?}");
        require_eq!(won(&claimed).map(|won| won.attempt), Some(1), "claimed behind a release or a verdict");
        case.require_busy("the next run, and a verdict on the one before at once").await;
        require_eq!(case.renew(case.by(next)).await, Ownership::Held, "the next run's owner is the owner");
    }
}

/// Over one connection the steps of one side, and the other side's over another.
async fn both_ends(fixture: &dyn Fixture) -> (Case<'_>, Arc<dyn Store>) {
    (Case::new(fixture).await, store_of(fixture).await)
}

/// A record in flight past its lease, and what is to be tried on it.
struct Abandoned<'a> {
    way: Way,
    case: Case<'a>,
    owner: Token,
    remember: Option<Duration>,
}

/// One for each way and each of these.
async fn abandoned<'a>(here: &Case<'a>, remember: impl IntoIterator<Item = Option<Duration>>) -> Vec<Abandoned<'a>> {
    let mut all = Vec::new();
    for remember in remember {
        for way in ways() {
            let (case, owner) = (here.another(), token());
            case.win(case.briefly(owner)).await;
            all.push(Abandoned { way, case, owner, remember });
        }
    }
    here.pass_brief().await;
    all
}

fn renewing(there: &Arc<dyn Store>, renew: Renew) -> impl Future<Output = Ownership> + Send + use<> {
    let there = Arc::clone(there);
    async move { answered("renew", there.renew(renew).await) }
}

fn releasing(there: &Arc<dyn Store>, release: Release) -> impl Future<Output = Ownership> + Send + use<> {
    let there = Arc::clone(there);
    async move { answered("release", there.release(release).await) }
}

fn resolving(there: &Arc<dyn Store>, resolve: Resolve) -> impl Future<Output = Resolved> + Send + use<> {
    let there = Arc::clone(there);
    async move { answered("resolve", there.resolve(&resolve).await) }
}

async fn require_released(case: &Case<'_>, last: Won, remember: Option<Duration>) {
    const WHY: &str = "released, and too late completed";
    if remember.is_some() {
        case.require_next_attempt(last, case.by(token()), WHY).await;
    } else {
        case.require_absent_after(last, WHY).await;
    }
}

fn ran(answer: &Answer) -> Verdict {
    Verdict::Completed { answer: Some(answer.clone()), ttl: LONG, remember: LONG }
}
