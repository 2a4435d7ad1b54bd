//! Whose money, of which day or month, and why it did not suffice.
use std::sync::Arc;

use super::window::Period;

/// Whose money.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody's.
    Global,
    /// A tenant's.
    Tenant(Arc<str>),
    /// A key's, by its tenant and id.
    Key(Arc<str>, Arc<str>),
    /// A user's, by the tenant and the application's word for the person.
    User(Arc<str>, Arc<str>),
}

impl Scope {
    /// Its kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Tenant(_) => "tenant",
            Self::Key(..) => "key",
            Self::User(..) => "user",
        }
    }
}

/// One scope's money of one day or month.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Whose.
    pub scope: Scope,
    /// How long it lasts.
    pub period: Period,
    /// The first second, since 1970. Where a clock or a time zone changes, an account is another one.
    pub start: i64,
}

/// A budget that a call falls under.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose, and of when.
    pub name: Name,
    /// When it starts anew, in seconds since 1970.
    pub end: i64,
    /// The most that may be spent in it, in billionths of a US dollar.
    pub cap: u64,
}

/// Why money was not set aside.
#[derive(Clone, Debug)]
pub struct Short {
    /// The budget that does not suffice; of several one that is spent, of those the one that
    /// lasts longest.
    pub claim: Claim,
    /// Spent of it.
    pub spent: u64,
    /// Set aside for calls under way.
    pub reserved: u64,
    /// What was asked for.
    pub wanted: u64,
}

impl Short {
    /// Whether there is room but for what is set aside for calls under way: that may be free soon.
    pub fn is_held(&self) -> bool {
        self.spent.saturating_add(self.wanted) <= self.claim.cap
    }
}
