//! The five steps, each right but for the fault.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idem_runtime::{
    Answer, Clock, Fingerprint, StorageKey, Store,
    store::{
        Abandoned, Claim, Claimed, Complete, Fence, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release,
        Renew, Resolve, Resolved, StoreError, StoreErrorKind, Verdict,
    },
};

use super::{Broken, Fault, When, book::Page};

pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[async_trait]
impl Store for Broken {
    async fn claim(&self, mut claim: Claim) -> Result<Claimed, StoreError> {
        self.end("claim").await;
        let key = self.key(claim.key);
        let page = self.book.page(key);
        if page.damaged {
            return Ok(Claimed::Unreadable);
        }
        if let Some(overlay) = page.overlay {
            return Ok(overlay);
        }
        if let Some(claimed) = self.claim_wrongly(key, &page, &mut claim).await? {
            return Ok(claimed);
        }
        claim.key = page.inner_key(key);
        let claimed = self.inner.claim(claim).await?;
        self.book.write(key, |page| page.claimed(&claim, &claimed, self.clock.now()));
        Ok(self.tell_wrongly(&page, &claim, claimed))
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        self.end("claim_many").await;
        self.claim_each(claims).await
    }

    async fn renew(&self, mut renew: Renew) -> Result<Ownership, StoreError> {
        self.end("renew").await;
        let key = self.key(renew.key);
        let page = self.book.page(key);
        if page.damaged {
            return Ok(Ownership::Lost);
        }
        let (now, own) = (self.clock.now(), page.token == renew.token);
        let when = page.when(now);
        match self.fault {
            Some(Fault::RenewsNothing) if own && when == When::InFlight => return Ok(Ownership::Held),
            Some(Fault::RenewsByAdding) => renew.lease += Duration::from_micros(page.lease_end.saturating_sub(now)),
            Some(Fault::RenewsOnlyTheLiving) if when == When::Abandoned => return Ok(Ownership::Lost),
            Some(Fault::RenewKeepsRetention) => renew.retention = page.retention,
            Some(Fault::RenewsWhatIs(what)) if when == what => return Ok(Ownership::Held),
            Some(Fault::RememberedIsStillItsOwners) if page.was_released_by(renew.token) => return Ok(Ownership::Held),
            Some(Fault::RenewsForStrangers) if when == When::InFlight => renew.token = page.token,
            Some(Fault::RenewsForEarlierOwners) if page.was_owned_by(renew.token) => renew.token = page.token,
            Some(Fault::RetentionIsForever) => renew.retention = None,
            _ => {}
        }
        self.turn_between_halves().await;
        renew.key = page.inner_key(key);
        let ownership = self.inner.renew(renew).await?;
        if ownership == Ownership::Held {
            self.book.write(key, |page| page.renewed(&renew, self.clock.now()));
            return Ok(ownership);
        }
        Ok(self.renew_over(key, own && matches!(when, When::InFlight | When::Abandoned)))
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.end("complete").await;
        let mut complete = complete.clone();
        let key = self.key(complete.key);
        let page = self.book.page(key);
        if page.damaged {
            return Ok(Ownership::Lost);
        }
        if let Some(ownership) = self.complete_wrongly(key, &page, &mut complete).await? {
            return Ok(ownership);
        }
        complete.key = page.inner_key(key);
        let ownership = self.inner.complete(&complete).await?;
        if ownership == Ownership::Held {
            self.book.write(key, |page| page.completed(key, &complete, self.clock.now()));
        } else if self.fault == Some(Fault::CompletesInTwoSteps) && page.token == complete.token {
            return Ok(Ownership::Held);
        }
        Ok(ownership)
    }

    async fn release(&self, mut release: Release) -> Result<Ownership, StoreError> {
        self.end("release").await;
        let key = self.key(release.key);
        let page = self.book.page(key);
        let own = page.token == release.token;
        if page.damaged {
            if own && self.fault == Some(Fault::DamagedIsReleased) {
                self.book.write(key, Page::forget);
                return Ok(Ownership::Held);
            }
            return Ok(Ownership::Lost);
        }
        let when = page.when(self.clock.now());
        let finished = matches!(when, When::Completed | When::Tombstone);
        match self.fault {
            Some(Fault::ReleasesNothing) if own => return Ok(Ownership::Held),
            Some(Fault::ReleaseLeavesATombstone) if own => {
                self.book.write(key, |page| page.overlay = Some(Claimed::Completed { answer: None }));
                return Ok(Ownership::Held);
            }
            Some(Fault::ReleasesForStrangers) if when == When::InFlight => release.token = page.token,
            Some(Fault::ReleasesForEarlierOwners) if page.was_owned_by(release.token) => release.token = page.token,
            Some(Fault::ReleasesOnlyTheLiving) if when == When::Abandoned => return Ok(Ownership::Lost),
            Some(Fault::ReleasesWhatIsCompleted) if own && finished => {
                self.book.write(key, Page::forget);
                return Ok(Ownership::Held);
            }
            Some(Fault::ReleasesWhatIsParked) if own && when == When::Parked => {
                self.book.write(key, Page::forget);
                return Ok(Ownership::Held);
            }
            Some(Fault::RememberIsForgotten) => release.remember = None,
            Some(Fault::RememberedForever) => release.remember = release.remember.map(|_| FOREVER),
            Some(Fault::RememberedEndsWithItsLease) => {
                let left = Duration::from_micros(page.end.saturating_sub(self.clock.now()));
                release.remember = release.remember.map(|remember| remember.min(left));
            }
            Some(Fault::ReleasesWhatIsAbsent) if when == When::Absent => return Ok(Ownership::Held),
            Some(Fault::UnknownCannotBeReleased) if when == When::Unknown => return Ok(Ownership::Lost),
            Some(Fault::UnknownIsReleasedByStrangers) if when == When::Unknown => release.token = page.token,
            _ => {}
        }
        self.turn_between_halves().await;
        let ownership = self.release_inner(key, &page, release).await?;
        if ownership == Ownership::Held {
            return Ok(ownership);
        }
        Ok(self.release_over(key, own && matches!(when, When::InFlight | When::Abandoned)))
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.end("resolve").await;
        let mut resolve = resolve.clone();
        let key = self.key(resolve.key);
        let page = self.book.page(key);
        if page.damaged {
            return Ok(Resolved::NotUnknown);
        }
        if let Some(Fault::ResolvesWhatIs(what)) = self.fault
            && page.when(self.clock.now()) == what
        {
            self.book.write(key, Page::forget);
            return Ok(Resolved::Applied);
        }
        let when = page.when(self.clock.now());
        match self.fault {
            Some(Fault::SettlesOnlyWhatWasAskedFor) if when == When::Abandoned => return Ok(Resolved::NotUnknown),
            Some(Fault::SettlesWhatIsAlive) if when == When::InFlight && page.retention.is_none() => {
                self.book.write(key, Page::forget);
                return Ok(Resolved::Applied);
            }
            _ => {}
        }
        match (self.fault, &mut resolve.verdict) {
            (Some(Fault::VerdictsHaveNoAnswer), Verdict::Completed { answer, .. }) => *answer = None,
            (Some(Fault::VerdictsAreForever), Verdict::Completed { ttl, remember, .. }) => {
                (*ttl, *remember) = (FOREVER, FOREVER);
            }
            (Some(Fault::VerdictsForgetTheirRemember), Verdict::Completed { ttl, remember, .. }) => *remember = *ttl,
            (Some(Fault::VerdictsWithoutAnswerAreNotExecuted), verdict @ Verdict::Completed { answer: None, .. }) => {
                *verdict = Verdict::NotExecuted;
            }
            (Some(Fault::NotExecutedIsATombstone), verdict @ Verdict::NotExecuted) => {
                *verdict = Verdict::Completed { answer: None, ttl: FOREVER, remember: FOREVER };
            }
            (Some(Fault::IgnoresFencesOfVerdicts), _) => resolve.fence = None,
            (Some(Fault::VerdictsDoNotPark), Verdict::Parked(_)) if page.when(self.clock.now()) == When::Unknown => {
                return Ok(Resolved::Applied);
            }
            (Some(Fault::NotesStay), Verdict::Parked(_)) if page.when(self.clock.now()) == When::Parked => {
                return Ok(Resolved::Applied);
            }
            _ => {}
        }
        let when = page.when(self.clock.now());
        self.turn_between_halves().await;
        resolve.key = page.inner_key(key);
        let resolved = self.inner.resolve(&resolve).await?;
        if resolved == Resolved::Applied {
            self.book.write(key, |page| page.resolved(key, &resolve, self.clock.now()));
            return Ok(resolved);
        }
        Ok(self.resolve_over(key, when, &resolve))
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.end("parked").await;
        Ok(self.list(parked).await)
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.end("forget").await;
        let key = self.key(key);
        let page = self.book.page(key);
        let when = page.when(self.clock.now());
        match self.fault {
            Some(Fault::CannotForget) => {
                return Err(StoreError::new(StoreErrorKind::Misconfigured, "this store cannot forget"));
            }
            Some(Fault::ForgetsNothing) => return Ok(Forgotten::Done),
            Some(Fault::ForgetLeavesATombstone) if when == When::Completed => {
                self.book.write(key, |page| page.overlay = Some(Claimed::Completed { answer: None }));
                return Ok(Forgotten::Done);
            }
            Some(Fault::ForgetsWhatIs(what)) if when == what => {
                self.book.write(key, Page::forget);
                return Ok(Forgotten::Done);
            }
            Some(Fault::KeepsWhatCannotBeRead) if page.damaged => return Ok(Forgotten::Absent),
            Some(Fault::ForgetsInTwoSteps) if when == When::Tombstone => {
                self.until_changed(key, &page).await;
                self.book.write(key, Page::forget);
                return Ok(Forgotten::Done);
            }
            _ if page.damaged => {
                self.book.write(key, Page::forget);
                return Ok(Forgotten::Done);
            }
            _ => {}
        }
        let forgotten = self.inner.forget(page.inner_key(key)).await?;
        if forgotten == Forgotten::Done {
            self.book.write(key, |page| page.forgotten());
        }
        Ok(forgotten)
    }
}

impl Broken {
    pub(super) fn key(&self, key: StorageKey) -> StorageKey {
        let mut bytes = *key.as_bytes();
        match self.fault {
            Some(Fault::ShortKeys) => bytes[16..].fill(0),
            Some(Fault::CaselessKeys) => bytes.make_ascii_lowercase(),
            _ => {}
        }
        StorageKey::from_bytes(bytes)
    }

    /// Comes at once, unless the fault is that this step never ends.
    async fn end(&self, step: &'static str) {
        if self.fault == Some(Fault::NeverEnds(step)) {
            std::future::pending::<()>().await;
        }
    }

    /// What goes wrong before the right store is asked; `Some`: it is not asked at all.
    async fn claim_wrongly(
        &self,
        key: StorageKey,
        page: &Page,
        claim: &mut Claim,
    ) -> Result<Option<Claimed>, StoreError> {
        let now = self.clock.now();
        let (when, own) = (page.when(now), page.token == claim.token);
        let Some(fault) = self.fault else { return Ok(None) };
        match fault {
            Fault::OwnTokenIsBusy if own && when == When::InFlight => {
                return Ok(Some(Claimed::Busy { retry_after: claim.lease }));
            }
            Fault::OwnTokenIsTheNextAttempt if own && when == When::InFlight => {
                return Ok(Some(Claimed::Won { fence: page.fence, attempt: page.attempt + 1 }));
            }
            Fault::OwnTokenKeepsItsLease if own && matches!(when, When::InFlight | When::Abandoned) => {
                return Ok(Some(Claimed::Won { fence: page.fence, attempt: page.attempt }));
            }
            Fault::EveryTokenIsRemembered if page.was_owned_by(claim.token) => {
                let won = page.owners.iter().find(|(owner, ..)| *owner == claim.token);
                return Ok(won.map(|&(_, fence, attempt)| Claimed::Won { fence, attempt }));
            }
            Fault::IgnoresFingerprints(what) if when == what => claim.fingerprint = page.fingerprint,
            Fault::IgnoresFingerprintsOfTheOwner if own => claim.fingerprint = page.fingerprint,
            Fault::AbandonedIsBusy if when == When::Abandoned => {
                return Ok(Some(Claimed::Busy { retry_after: claim.lease }));
            }
            Fault::TakesOverWhatMustBeSettled if when == When::Abandoned && page.retention.is_none() => {
                self.drop_inner(key, page).await?;
            }
            Fault::AlwaysTakesOver => claim.abandoned = Abandoned::TakeOver,
            Fault::MarksTheLivingUnknown if when == When::InFlight && claim.abandoned == Abandoned::MarkUnknown => {
                let unknown = Complete::new(page.inner_key(key), page.token, Outcome::Unknown, FOREVER);
                _ = self.inner.complete(&unknown).await?;
            }
            Fault::UnknownIsTakenOver if when == When::Unknown => self.drop_inner(key, page).await?,
            Fault::UnknownRunsForItsOwner if when == When::Unknown && own => self.drop_inner(key, page).await?,
            Fault::UnknownExpires(origin)
                if when == When::Unknown && page.origin == origin && page.unknown_end <= now =>
            {
                self.drop_inner(key, page).await?;
            }
            Fault::ParkedExpires if when == When::Parked && page.unknown_end <= now => {
                self.settle_inner(key, page, Verdict::NotExecuted).await?;
            }
            Fault::ParkedRunsForItsOwner if when == When::Parked && own => {
                self.settle_inner(key, page, Verdict::NotExecuted).await?;
            }
            Fault::RememberedIsAbandoned if when == When::Released && claim.abandoned == Abandoned::MarkUnknown => {
                return Ok(Some(Claimed::Unknown { fence: page.fence, attempt: page.attempt }));
            }
            Fault::RememberedRunsForItsOwner if page.was_released_by(claim.token) => {
                return Ok(Some(Claimed::Won { fence: page.fence, attempt: page.attempt }));
            }
            Fault::CompletedRunsForItsOwner(what) if own && when == what => {
                return Ok(Some(Claimed::Won { fence: page.fence, attempt: page.attempt }));
            }
            Fault::ReleasedIsWonInTwoSteps if when == When::Released => {
                return self.claim_in_two_steps(key, page, claim).await;
            }
            Fault::RetentionIsForever => claim.retention = None,
            Fault::RetentionIsNeverForever => claim.retention = claim.retention.or(Some(Duration::ZERO)),
            Fault::ClaimsInTwoSteps if when == When::Absent => return self.claim_in_two_steps(key, page, claim).await,
            Fault::TakesOverInTwoSteps if when == When::Abandoned => {
                return self.claim_in_two_steps(key, page, claim).await;
            }
            Fault::MarksUnknownInTwoSteps if when == When::Abandoned => {
                self.until_changed(key, page).await;
                let unknown = Claimed::Unknown { fence: page.fence, attempt: page.attempt };
                self.book.write(key, |page| page.overlay = Some(unknown.clone()));
                return Ok(Some(unknown));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Decides by what was there, and does it when something else may be there.
    pub(super) async fn claim_in_two_steps(
        &self,
        key: StorageKey,
        page: &Page,
        claim: &Claim,
    ) -> Result<Option<Claimed>, StoreError> {
        self.until_changed(key, page).await;
        let mut claim = *claim;
        claim.key = page.inner_key(key);
        let claimed = self.inner.claim(claim).await?;
        self.book.write(key, |page| page.claimed(&claim, &claimed, self.clock.now()));
        Ok(Some(match claimed {
            Claimed::Busy { .. } => Claimed::Won { fence: next(page.fence), attempt: page.attempt + 1 },
            claimed => claimed,
        }))
    }

    /// What goes wrong with what the right store found.
    fn tell_wrongly(&self, page: &Page, claim: &Claim, claimed: Claimed) -> Claimed {
        let Some(fault) = self.fault else { return claimed };
        match (fault, claimed) {
            (Fault::BusyIsWon, Claimed::Busy { .. }) => Claimed::Won { fence: next(page.fence), attempt: 1 },
            (Fault::BusyIsTheWholeLease, Claimed::Busy { .. }) => Claimed::Busy { retry_after: claim.lease },
            (Fault::BusyIsNothing, Claimed::Busy { .. }) => Claimed::Busy { retry_after: Duration::ZERO },
            (Fault::TakeOverKeepsItsFence, Claimed::Won { attempt, .. }) if attempt > 1 => {
                let first = page.owners.first().map_or(page.fence, |&(_, fence, _)| fence);
                Claimed::Won { fence: first, attempt }
            }
            (Fault::TakeOverIsTheFirstAttempt, Claimed::Won { fence, .. }) => Claimed::Won { fence, attempt: 1 },
            (Fault::AttemptsStopAtTwo, Claimed::Won { fence, attempt }) => {
                Claimed::Won { fence, attempt: attempt.min(2) }
            }
            (Fault::FencesStartAgain, Claimed::Won { attempt, .. }) => {
                Claimed::Won { fence: Fence::new(attempt.into()), attempt }
            }
            (Fault::FencesAreTheTime, Claimed::Won { attempt, .. }) => {
                Claimed::Won { fence: Fence::new(self.clock.now()), attempt }
            }
            (Fault::UnknownForgetsItsFence, Claimed::Unknown { attempt, .. }) => {
                Claimed::Unknown { fence: Fence::new(0), attempt }
            }
            (Fault::ParkedIsUnknown, Claimed::Parked { fence, attempt, .. }) => Claimed::Unknown { fence, attempt },
            (Fault::ParkedLosesItsNote, Claimed::Parked { fence, attempt, .. }) => {
                Claimed::Parked { note: Answer::from_bytes(Bytes::new()), fence, attempt }
            }
            (Fault::ParkedForgetsItsFence, Claimed::Parked { note, attempt, .. }) => {
                Claimed::Parked { note, fence: Fence::new(0), attempt }
            }
            (fault, Claimed::Completed { answer: Some(answer) }) => {
                let answer = tell_answer_wrongly(fault, answer.as_bytes());
                Claimed::Completed { answer: answer.map(Answer::from_bytes) }
            }
            (Fault::TombstonesAreEmptyAnswers, Claimed::Completed { answer: None }) => {
                Claimed::Completed { answer: Some(Answer::from_bytes(Bytes::new())) }
            }
            (_, claimed) => claimed,
        }
    }

    /// What goes wrong before the right store is asked; `Some`: it is not asked at all.
    async fn complete_wrongly(
        &self,
        key: StorageKey,
        page: &Page,
        complete: &mut Complete,
    ) -> Result<Option<Ownership>, StoreError> {
        let now = self.clock.now();
        let (when, own, earlier) = (page.when(now), page.token == complete.token, page.was_owned_by(complete.token));
        let finished = matches!(when, When::Completed | When::Tombstone);
        let unknown = complete.outcome == Outcome::Unknown;
        let Some(fault) = self.fault else { return Ok(None) };
        match fault {
            Fault::RestartForgetsTokens => return Ok(Some(Ownership::Lost)),
            Fault::CompletesForStrangers if when == When::InFlight => complete.token = page.token,
            Fault::CompletesForEarlierOwners if earlier && when == When::InFlight => complete.token = page.token,
            Fault::CompletesOnlyTheLiving if when == When::Abandoned => return Ok(Some(Ownership::Lost)),
            Fault::CompletesInTwoSteps => self.until_changed(key, page).await,
            Fault::CompletesWhatIsAbsent if when == When::Absent => {
                let any = Fingerprint::from_bytes([0; 32]);
                let claim = Claim::new(page.inner_key(key), complete.token, any, complete.ttl);
                _ = self.inner.claim(claim).await?;
            }
            Fault::AgainIsLost if own && finished => return Ok(Some(Ownership::Lost)),
            Fault::AgainOverwrites if own && finished => return Ok(Some(self.overwrite(key, &complete.outcome))),
            Fault::AgainAddsTime if own && finished => {
                let answer = page.answer.clone();
                self.book.write(key, |page| page.overlay = Some(Claimed::Completed { answer }));
                return Ok(Some(Ownership::Held));
            }
            Fault::StrangersOverwrite if !own && finished => {
                return Ok(Some(self.overwrite(key, &complete.outcome)));
            }
            Fault::EarlierOwnersOverwrite if earlier && finished => {
                return Ok(Some(self.overwrite(key, &complete.outcome)));
            }
            Fault::TombstonesAreReleases if complete.outcome == Outcome::Tombstone => {
                let release = Release::new(complete.key, complete.token);
                return self.release_inner(key, page, release).await.map(Some);
            }
            Fault::UnknownIsReleased if unknown => {
                let release = Release::new(complete.key, complete.token);
                return self.release_inner(key, page, release).await.map(Some);
            }
            Fault::UnknownIsATombstone if unknown => complete.outcome = Outcome::Tombstone,
            Fault::UnknownAgainIsLost if unknown && when == When::Unknown => return Ok(Some(Ownership::Lost)),
            Fault::UnknownCannotBeCompleted if !unknown && when == When::Unknown => return Ok(Some(Ownership::Lost)),
            Fault::UnknownIsCompletedByStrangers if when == When::Unknown => complete.token = page.token,
            Fault::RememberedIsStillItsOwners if page.was_released_by(complete.token) => {
                return Ok(Some(Ownership::Held));
            }
            Fault::ParkedAgainIsLost if own && when == When::Parked => return Ok(Some(Ownership::Lost)),
            Fault::ParkedAgainOverwrites if own && when == When::Parked => {
                if let Outcome::Parked(note) = &complete.outcome {
                    self.settle_inner(key, page, Verdict::Parked(note.clone())).await?;
                    return Ok(Some(Ownership::Held));
                }
            }
            Fault::ParkedIsCompletedByItsOwner if own && when == When::Parked => {
                let verdict = Verdict::Completed { answer: None, ttl: FOREVER, remember: FOREVER };
                self.settle_inner(key, page, verdict).await?;
                return Ok(Some(Ownership::Held));
            }
            Fault::ParkedIsCompletedByStrangers if when == When::Parked => complete.token = page.token,
            Fault::ListForgetsInTwoSteps if matches!(complete.outcome, Outcome::Parked(_)) => {
                // The list is written first, and then there is time for whoever lists.
                self.book.write(key, |page| page.is_listed = true);
                self.until_unlisted(key).await;
            }
            Fault::ResolvedIsStillItsOwners if own && page.resolved => return Ok(Some(Ownership::Held)),
            Fault::TtlIsRemember => complete.ttl = complete.remember,
            Fault::RememberIsTtl => complete.remember = complete.ttl,
            Fault::TtlCountsFromTheClaim => {
                let ran = Duration::from_micros(now.saturating_sub(page.claimed_at));
                complete.ttl = complete.ttl.saturating_sub(ran);
            }
            Fault::AnswersAreForever if matches!(complete.outcome, Outcome::Answer(_)) => complete.remember = FOREVER,
            Fault::TombstonesAreForever if complete.outcome == Outcome::Tombstone => complete.remember = FOREVER,
            _ => {}
        }
        Ok(None)
    }

    /// What goes wrong between two steps needs somebody to come between them; whoever is about to, is given the time.
    pub(super) async fn until_changed(&self, key: StorageKey, page: &Page) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            if self.book.write(key, |now| now.owners.len() != page.owners.len() || now.answer != page.answer) {
                return;
            }
        }
    }

    fn overwrite(&self, key: StorageKey, outcome: &Outcome) -> Ownership {
        let answer = if let Outcome::Answer(answer) = outcome { Some(answer.clone()) } else { None };
        self.book.write(key, |page| page.overlay = Some(Claimed::Completed { answer }));
        Ownership::Held
    }

    async fn release_inner(&self, key: StorageKey, page: &Page, mut release: Release) -> Result<Ownership, StoreError> {
        release.key = page.inner_key(key);
        let ownership = self.inner.release(release).await?;
        if ownership == Ownership::Held {
            self.book.write(key, |page| page.released(&release, self.clock.now()));
        }
        Ok(ownership)
    }

    async fn settle_inner(&self, key: StorageKey, page: &Page, verdict: Verdict) -> Result<(), StoreError> {
        let resolve = Resolve::new(page.inner_key(key), verdict);
        _ = self.inner.resolve(&resolve).await?;
        self.book.write(key, |page| page.resolved(key, &resolve, self.clock.now()));
        Ok(())
    }

    async fn drop_inner(&self, key: StorageKey, page: &Page) -> Result<(), StoreError> {
        _ = self.release_inner(key, page, Release::new(key, page.token)).await?;
        Ok(())
    }
}

fn tell_answer_wrongly(fault: Fault, bytes: &Bytes) -> Option<Bytes> {
    Some(match fault {
        Fault::AnswersLoseTheirEnd => bytes.slice(..bytes.len().saturating_sub(1)),
        Fault::AnswersEndAt64K => bytes.slice(..bytes.len().min(64 << 10)),
        Fault::AnswersEndAtNul => bytes.slice(..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())),
        Fault::AnswersAreText => Bytes::from(String::from_utf8_lossy(bytes).into_owned()),
        Fault::EmptyLooksAbsent if bytes == "nil" || bytes == "0" => return None,
        _ => bytes.clone(),
    })
}

pub(super) fn next(fence: Fence) -> Fence {
    Fence::new(fence.get() + 1)
}
