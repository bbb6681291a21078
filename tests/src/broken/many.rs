//! Many claims, each right but for the fault.

use std::{collections::HashMap, time::Duration};

use idem_runtime::{
    Clock, Store,
    store::{Abandoned, Claim, Claimed, StoreError},
};

use super::{Broken, Fault, Origin, When, store::next};

impl Broken {
    pub(super) async fn claim_each(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let mut claimed = Vec::new();
        let mut of_keys = HashMap::new();
        for (at, claim) in claims.iter().enumerate() {
            if let Some(Fault::ManyDropDuplicates) = self.fault
                && let Some(first) = of_keys.get(&claim.key)
            {
                claimed.push(Ok(Claimed::clone(first)));
                continue;
            }
            let found = match self.fault {
                Some(Fault::ManyEndAt256) if at >= 256 => {
                    Ok(Claimed::Won { fence: next(self.book.page(self.key(claim.key)).fence), attempt: 1 })
                }
                Some(Fault::ManyInTwoSteps) => self.claim_of_many_in_two_steps(*claim).await,
                Some(Fault::ManyTakeOver) => self.claim(claim.abandoned(Abandoned::TakeOver)).await,
                Some(Fault::ManyAreAsTheFirst) => {
                    let Claim { lease, abandoned, retention, .. } = claims[0];
                    self.claim(
                        Claim::new(claim.key, claim.token, claim.fingerprint, lease)
                            .abandoned(abandoned)
                            .retention(retention),
                    )
                    .await
                }
                Some(Fault::ManyEndWithTheirLease) => self.claim(claim.retention(Some(Duration::ZERO))).await,
                _ => self.claim(*claim).await,
            };
            if let Ok(Claimed::Won { .. }) = found {
                self.book.write(self.key(claim.key), |page| page.origin = Origin::ManyClaims);
            }
            if let Ok(found) = &found {
                of_keys.insert(claim.key, found.clone());
            }
            claimed.push(found);
        }
        if let Some(Fault::ManyInTheOrderOfTheirKeys) = self.fault {
            let mut by_key: Vec<_> = claims.iter().map(|claim| claim.key).zip(claimed).collect();
            by_key.sort_by_key(|(key, _)| *key);
            claimed = by_key.into_iter().map(|(_, claimed)| claimed).collect();
        }
        claimed
    }

    async fn claim_of_many_in_two_steps(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let key = self.key(claim.key);
        let page = self.book.page(key);
        if page.when(self.clock.now()) == When::Absent
            && let Some(claimed) = self.claim_in_two_steps(key, &page, &claim).await?
        {
            return Ok(claimed);
        }
        self.claim(claim).await
    }
}
