//! Money: what may be spent, what is set aside, what is spent.
//!
//! Before a call goes to a provider, the most that it can cost is set aside
//! in every budget that it falls under, or the call is refused. When it is
//! over, what it did cost is spent, and the rest is free again. So what is
//! spent never passes a cap, however many calls there are at once.
//!
//! The books are in `books` (pure), on disk in `journal`, together in
//! [`Local`]; those of several gateways are in Redis, as [`Shared`]. [`bound`] knows the most that a call can take.
mod books;
pub mod bound;
mod claim;
mod journal;
mod local;
mod purse;
mod redis;
mod settings;
#[cfg(test)]
mod tests;
mod window;

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use books::{Account, FULLY, MOST_CLAIMS, NEARLY, Passed};
pub use claim::{Claim, Name, Scope, Short};
pub use local::Local;
pub use purse::Funds;
pub use redis::Shared;
pub use settings::Settings;
pub use window::{Calendar, Period, Window, Windows};

use crate::{
    chat::Cost,
    error::{Error, Result},
};

/// Hears once of every mark that a budget passes. Called where calls end: it does not wait.
pub type Told = Arc<dyn Fn(Passed) + Send + Sync>;

/// Where the books are kept.
#[derive(Debug)]
pub enum Ledger {
    /// In this process, with a journal on disk.
    Local(Local),
    /// In a Redis that several gateways share.
    Redis(Shared),
}

/// Why money was not set aside.
#[derive(Debug)]
pub enum Refusal {
    /// A budget does not suffice.
    Short(Box<Short>),
    /// There are as many accounts as may be kept.
    Full,
    /// The books cannot be written; why, for the log.
    Away(String),
}

impl Ledger {
    /// Sets `amount` aside in every account, or in none, until `expires` (milliseconds since
    /// 1970). Tells the number under which it is settled.
    pub async fn reserve(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<u64> {
        match self {
            Self::Local(local) => local.reserve(claims, amount, expires).await,
            Self::Redis(shared) => shared.reserve(claims, amount, expires).await,
        }
        .map_err(|refusal| refusal.error(true))
    }

    /// Sets more aside for a call.
    pub async fn extend(&self, call: u64, more: u64) -> Result<()> {
        match self {
            Self::Local(local) => local.extend(call, more).await,
            Self::Redis(shared) => shared.extend(call, more).await,
        }
        // What stands in the way may be the call itself.
        .map_err(|refusal| refusal.error(false))
    }

    /// Accounts for a call; what is left of its reservation is free again. Does not wait.
    pub fn settle(&self, call: u64, cost: u64) {
        match self {
            Self::Local(local) => local.settle(call, cost),
            Self::Redis(shared) => shared.settle(call, cost),
        }
    }

    /// Waits until all that was accounted for is written down, as the process ends; at most
    /// `patience`.
    pub async fn flush(&self, patience: Duration) {
        match self {
            Self::Local(local) => local.flush(),
            Self::Redis(shared) => shared.flush(patience).await,
        }
    }

    /// All accounts, as they are.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        match self {
            Self::Local(local) => Ok(local.accounts()),
            Self::Redis(shared) => shared.accounts().await.map_err(|refusal| refusal.error(false)),
        }
    }
}

impl Refusal {
    /// As it is told to the caller; `others`: whether it is others' calls that have something set aside.
    fn error(self, others: bool) -> Error {
        match self {
            Self::Short(short) => short.error(now_ms(), others && short.is_held()),
            // Calls of those who have an account already go on; accounts that nothing was spent of
            // make room within a minute.
            Self::Full => Error::BooksAway {
                retry_after: Duration::from_secs(60),
                source: "there are as many accounts as `budget.max_accounts` allows".into(),
            },
            Self::Away(why) => Error::BooksAway { retry_after: Duration::from_secs(1), source: why.into() },
        }
    }
}

impl Short {
    /// As it is told to the caller. What others spend is not told.
    fn error(&self, now_ms: u64, held: bool) -> Error {
        let Claim { name, end, cap } = &self.claim;
        let whose = match &name.scope {
            Scope::Global => "this gateway".to_owned(),
            Scope::Tenant(tenant) => format!("tenant `{tenant}`"),
            Scope::Key(..) => "this key".to_owned(),
            Scope::User(_, user) => format!("user `{user}`"),
        };
        let anew = jiff::Timestamp::from_second(*end).map(|end| end.to_string()).unwrap_or_default();
        let adjective = name.period.adjective();
        let mut message = match held {
            false => format!("You've reached the {adjective} budget of {whose}"),
            true => {
                format!("What is left of the {adjective} budget of {whose} is set aside for calls under way")
            }
        };
        if name.scope != Scope::Global {
            let left = cap.saturating_sub(self.spent);
            let (of, aside, wanted) = (Cost(*cap), Cost(self.reserved.min(left)), Cost(self.wanted));
            let left = Cost(left);
            // Writing to a string cannot fail.
            let _ = write!(
                message,
                ": {left} of {of} USD are left, {aside} of them set aside for calls under way, and this call may cost up to {wanted} USD"
            );
        }
        let _ = write!(message, ". It starts anew at {anew}.");
        if held {
            message.push_str(" Some of it may be free again in a moment, when calls under way end.");
        }
        let wait = match held {
            true => 1000,
            false => end.saturating_mul(1000).saturating_sub(now_ms as i64).max(0) as u64,
        };
        Error::BudgetSpent { message, wait: Duration::from_millis(wait), held }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}
