//! The payment provider: a sandbox whose money is lines in the ledger and whose card decides how a charge ends.
//!
//! Like a real provider it is told a key with every charge. Unlike one it does not look at it, except for `tok_flaky`:
//! were a charge to happen twice, the ledger would show it.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use idem_runtime::Attempt;
use serde::{Deserialize, Serialize};

use super::ledger::{Effect, Entry, Ledger, LedgerError};

/// A client of the provider.
#[derive(Debug, Clone)]
pub(super) struct Psp {
    ledger: Arc<Ledger>,
}

/// What to charge. Nothing that cannot be charged deserializes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Charge {
    /// In the currency's smallest unit.
    pub(super) amount: NonZeroU32,
    pub(super) currency: Currency,
    pub(super) source: Source,
}

/// Three lower-case letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Currency(String);

/// A card of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names callers write")]
pub(super) enum Source {
    TokVisa,
    TokMastercard,
    /// Declined.
    TokDeclined,
    /// The provider cannot be reached; nothing is charged.
    TokGatewayDown,
    /// Succeeds after two seconds.
    TokSlow,
    /// Charges, then the service panics.
    TokPanic,
    /// The provider cannot be reached the first time it is charged under a key, then it succeeds.
    TokFlaky,
}

/// Why no money moved.
#[derive(Debug)]
pub(super) enum PspError {
    Declined,
    Down,
    NoSuchPayment,
    TooMuch { refundable: u64 },
    Ledger(LedgerError),
}

impl Psp {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    pub(super) async fn charge(&self, caller: &str, attempt: &Attempt, charge: Charge) -> Result<Entry, PspError> {
        let source = charge.source;
        let entry = Entry::new("pay", caller, attempt, Effect::Charge(charge))?;
        match source {
            Source::TokVisa | Source::TokMastercard | Source::TokPanic => {}
            Source::TokDeclined => return Err(PspError::Declined),
            Source::TokGatewayDown => return Err(PspError::Down),
            Source::TokSlow => tokio::time::sleep(Duration::from_secs(2)).await,
            Source::TokFlaky => {
                let first_time = self.ledger.note(&entry.key).await?;
                if first_time {
                    return Err(PspError::Down);
                }
            }
        }
        self.ledger.append(entry.clone()).await?;
        assert!(source != Source::TokPanic, "`tok_panic` panics once its charge is in the ledger");
        Ok(entry)
    }

    /// Gives part of a payment back, never more than is left of it.
    pub(super) async fn refund(
        &self,
        caller: &str,
        attempt: &Attempt,
        payment: &str,
        amount: NonZeroU32,
    ) -> Result<Entry, PspError> {
        let entry = Entry::new("re", caller, attempt, Effect::Refund { payment: payment.to_owned(), amount })?;
        let (caller, payment) = (caller.to_owned(), payment.to_owned());
        let enough_left = move |entries: &[Entry]| {
            let refundable = refundable(entries, &caller, &payment).ok_or(PspError::NoSuchPayment)?;
            if u64::from(amount.get()) > refundable { Err(PspError::TooMuch { refundable }) } else { Ok(()) }
        };
        self.ledger.append_if(entry.clone(), enough_left).await?;
        Ok(entry)
    }
}

/// What is left of a payment after its refunds, if the caller has such a payment.
pub(super) fn refundable(entries: &[Entry], caller: &str, payment: &str) -> Option<u64> {
    let mine = || entries.iter().filter(|entry| entry.caller == caller);
    let charged = mine().find_map(|entry| match &entry.effect {
        Effect::Charge(charge) if entry.id == payment => Some(u64::from(charge.amount.get())),
        _ => None,
    })?;
    let refunds = mine().filter_map(|entry| match &entry.effect {
        Effect::Refund { payment: of, amount } if of == payment => Some(u64::from(amount.get())),
        _ => None,
    });
    Some(charged.saturating_sub(refunds.sum()))
}

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_lowercase()) {
            Ok(Self(code))
        } else {
            Err("a currency is three lower-case letters, such as `usd`")
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LedgerError> for PspError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}
