//! The books: who has spent what, and what is set aside for calls under way.
//!
//! Pure: no clock, no disk. Every change is a [`Change`], which is what the
//! journal holds; replaying them makes the same books.
use std::{collections::BTreeSet, sync::Arc};

use foldhash::HashMap;

use super::{
    claim::{Claim, Name, Scope, Short},
    window::Period,
};

/// A budget passed a mark for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The mark: [`NEARLY`] or [`FULLY`], in percent.
    pub mark: u8,
    /// Whose budget, and of when.
    pub name: Name,
    /// When it starts anew, in seconds since 1970.
    pub end: i64,
    /// Spent by then.
    pub spent: u64,
    /// Of this much.
    pub cap: u64,
}

/// The mark at which an operator should know.
pub const NEARLY: u8 = 80;
/// The mark at which calls are refused.
pub const FULLY: u8 = 100;
/// The most budgets that one call falls under.
pub const MOST_CLAIMS: usize = 8;
/// How long a day's account is kept after its end, in seconds.
const KEEP_DAY: i64 = 2 * 86_400;
/// How long a month's account is kept after its end, in seconds.
const KEEP_MONTH: i64 = 62 * 86_400;
/// How long a call may come late to settle what was charged in full, in milliseconds.
const LATE: u64 = 86_400_000;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose, and of when.
    pub name: Name,
    /// When it starts anew, in seconds since 1970.
    pub end: i64,
    /// The cap that it was last measured by.
    pub cap: u64,
    /// Spent, [`Account::unsettled`] included.
    pub spent: u64,
    /// Set aside for calls under way.
    pub reserved: u64,
    /// Of `spent`: charged in full for calls that nobody could account for.
    pub unsettled: u64,
    /// The highest mark that was told.
    pub told: u8,
    /// Calls that have something set aside, or may yet come to settle.
    holds: u32,
}

/// What happens to the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// An account is opened.
    Open { account: u32, name: Name, end: i64 },
    /// An account has come to this: in a snapshot.
    State { account: u32, cap: u64, spent: u64, unsettled: u64, told: u8 },
    /// Money is set aside for a call until `expires`, in milliseconds since 1970.
    Reserve { call: u64, amount: u64, expires: u64, on: Entries },
    /// More of it.
    Extend { call: u64, more: u64 },
    /// A call has cost this; what is left of its reservation is free again.
    Settle { call: u64, cost: u64 },
    /// Nobody told what a call cost: it is charged in full.
    Expire { call: u64 },
    /// A mark is told.
    Tell { account: u32, mark: u8 },
    /// An account is over.
    Close { account: u32 },
    /// A call that was charged in full will not settle any more.
    Forget { call: u64 },
}

/// Accounts and the caps they were measured by; as many as a call can fall under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    len: u8,
    of: [(u32, u64); MOST_CLAIMS],
}

impl Entries {
    /// The accounts, each with its cap.
    pub(super) fn as_slice(&self) -> &[(u32, u64)] {
        &self.of[..usize::from(self.len)]
    }

    /// One more. Past [`MOST_CLAIMS`] it is refused.
    pub(super) fn push(&mut self, account: u32, cap: u64) -> bool {
        let Some(place) = self.of.get_mut(usize::from(self.len)) else { return false };
        *place = (account, cap);
        self.len += 1;
        true
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    amount: u64,
    expires: u64,
    on: Entries,
    /// It was charged in full; its call may still come.
    expired: bool,
}

/// The books.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    accounts: HashMap<u32, Account>,
    index: HashMap<Name, u32>,
    held: HashMap<u64, Held>,
    /// By when a lease ends, or is forgotten.
    due: BTreeSet<(u64, u64)>,
    /// How many accounts of users each tenant has: their names are callers' words.
    users: HashMap<Arc<str>, usize>,
    next_account: u32,
    next_call: u64,
}

impl PartialEq for Books {
    fn eq(&self, other: &Self) -> bool {
        self.accounts == other.accounts && self.index == other.index && self.held == other.held
    }
}

impl Books {
    /// The changes that set `amount` aside in every one of `claims`, or none. Tells the call's number.
    pub(super) fn reserve(
        &self,
        claims: &[Claim],
        amount: u64,
        expires: u64,
        changes: &mut Vec<Change>,
    ) -> Result<u64, Box<Short>> {
        let mut found = [None; MOST_CLAIMS];
        for (found, claim) in found.iter_mut().zip(claims) {
            *found = self.find(claim);
        }
        self.suffice(found.into_iter().zip(claims.iter().map(|claim| claim.cap)), amount)
            .map_err(|index| Box::new(self.short(claims[index].clone(), amount)))?;
        let mut on = Entries::default();
        let mut fresh = self.next_account;
        for (claim, account) in claims.iter().zip(found) {
            let account = account.unwrap_or_else(|| {
                changes.push(Change::Open { account: fresh, name: claim.name.clone(), end: claim.end });
                fresh += 1;
                fresh - 1
            });
            on.push(account, claim.cap);
        }
        changes.push(Change::Reserve { call: self.next_call, amount, expires, on });
        Ok(self.next_call)
    }

    /// The change that sets more aside for a call. A call that is not there any more gets nothing.
    pub(super) fn extend(&self, call: u64, more: u64) -> Result<Change, Option<Box<Short>>> {
        let held = self.held.get(&call).filter(|held| !held.expired).ok_or(None)?;
        let on = held.on.as_slice();
        self.suffice(on.iter().map(|(account, cap)| (Some(*account), *cap)), more).map_err(|index| {
            let (account, cap) = on[index];
            self.accounts.get(&account).map(|account| {
                Box::new(self.short(Claim { name: account.name.clone(), end: account.end, cap }, more))
            })
        })?;
        Ok(Change::Extend { call, more })
    }

    /// The change that accounts for a call; none where it has been.
    pub(super) fn settle(&self, call: u64, cost: u64) -> Option<Change> {
        self.held.contains_key(&call).then_some(Change::Settle { call, cost })
    }

    /// The changes that are due: leases that have ended.
    pub(super) fn due(&self, now_ms: u64, changes: &mut Vec<Change>) {
        for (_, call) in self.due.range(..=(now_ms, u64::MAX)) {
            let Some(held) = self.held.get(call) else { continue };
            changes.push(match held.expired {
                false => Change::Expire { call: *call },
                true => Change::Forget { call: *call },
            });
        }
    }

    /// The changes that close accounts that are over, and those that nothing was spent of.
    pub(super) fn over(&self, now: i64, changes: &mut Vec<Change>) {
        for (number, account) in &self.accounts {
            let keep = match account.name.period {
                Period::Day => KEEP_DAY,
                Period::Month => KEEP_MONTH,
            };
            let over = account.end.saturating_add(keep) < now || account.spent == 0;
            if over && account.holds == 0 {
                changes.push(Change::Close { account: *number });
            }
        }
    }

    /// The changes after a crash: nobody knows what the calls that were under way have cost.
    pub(super) fn abandon(&self, changes: &mut Vec<Change>) {
        for (call, held) in &self.held {
            if !held.expired {
                changes.push(Change::Expire { call: *call });
            }
            changes.push(Change::Forget { call: *call });
        }
    }

    /// The changes that tell of marks that a call's accounts have passed.
    pub(super) fn marks(&self, on: &Entries, changes: &mut Vec<Change>, passed: &mut Vec<Passed>) {
        for (number, cap) in on.as_slice() {
            let Some(account) = self.accounts.get(number) else { continue };
            let share = u128::from(account.spent) * 100;
            let reached = |mark: u8| *cap > 0 && share >= u128::from(*cap) * u128::from(mark);
            let mark = [FULLY, NEARLY].into_iter().find(|mark| reached(*mark)).unwrap_or(0);
            if mark > account.told {
                changes.push(Change::Tell { account: *number, mark });
                passed.push(Passed::of(mark, account, *cap));
            }
        }
    }

    /// The change that tells that a budget is used up: its next call was refused.
    pub(super) fn refused(&self, short: &Short, passed: &mut Vec<Passed>) -> Option<Change> {
        let number = self.find(&short.claim)?;
        let account = self.accounts.get(&number)?;
        let nearly = u128::from(account.spent) * 100 >= u128::from(short.claim.cap) * u128::from(NEARLY);
        if !nearly || account.told >= FULLY || short.is_held() {
            return None;
        }
        passed.push(Passed::of(FULLY, account, short.claim.cap));
        Some(Change::Tell { account: number, mark: FULLY })
    }

    /// The accounts of a call.
    pub(super) fn accounts_of(&self, call: u64) -> Option<Entries> {
        self.held.get(&call).map(|held| held.on)
    }

    /// The books as they are, as changes to empty ones.
    pub(super) fn snapshot(&self, changes: &mut Vec<Change>) {
        for (number, account) in &self.accounts {
            let (name, end) = (account.name.clone(), account.end);
            changes.push(Change::Open { account: *number, name, end });
            let Account { cap, spent, unsettled, told, .. } = *account;
            changes.push(Change::State { account: *number, cap, spent, unsettled, told });
        }
        for (call, held) in &self.held {
            let Held { amount, expires, on, expired } = *held;
            if expired {
                // Charged already, and part of its accounts' state: who comes late finds it.
                changes.push(Change::Reserve { call: *call, amount: 0, expires, on });
                changes.push(Change::Expire { call: *call });
                changes.push(Change::Extend { call: *call, more: amount });
            } else {
                changes.push(Change::Reserve { call: *call, amount, expires, on });
            }
        }
        // No number is given twice.
        if let Some(last) = self.next_call.checked_sub(1).filter(|last| !self.held.contains_key(last)) {
            changes.push(Change::Forget { call: last });
        }
    }

    /// The one way in which the books change.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Open { account, name, end } => {
                self.next_account = self.next_account.max(account + 1);
                if let Scope::User(tenant, _) = &name.scope {
                    *self.users.entry(tenant.clone()).or_default() += 1;
                }
                self.index.insert(name.clone(), *account);
                self.accounts.insert(*account, Account::new(name.clone(), *end));
            }
            Change::State { account, cap, spent, unsettled, told } => {
                if let Some(account) = self.accounts.get_mut(account) {
                    (account.cap, account.spent) = (*cap, *spent);
                    (account.unsettled, account.told) = (*unsettled, *told);
                }
            }
            Change::Reserve { call, amount, expires, on } => {
                self.next_call = self.next_call.max(call + 1);
                self.each(on, |account, cap| {
                    account.reserved += amount;
                    account.holds += 1;
                    account.cap = cap;
                });
                let held = Held { amount: *amount, expires: *expires, on: *on, expired: false };
                self.held.insert(*call, held);
                self.due.insert((*expires, *call));
            }
            Change::Extend { call, more } => {
                let Some(held) = self.held.get_mut(call) else { return };
                held.amount += more;
                if !held.expired {
                    let on = held.on;
                    self.each(&on, |account, _| account.reserved += more);
                }
            }
            Change::Settle { call, cost } => {
                let Some(Held { amount, expires, on, expired }) = self.held.remove(call) else { return };
                self.due.remove(&(due(expires, expired), *call));
                self.each(&on, |account, _| {
                    if expired {
                        account.spent = account.spent.saturating_sub(amount);
                        account.unsettled = account.unsettled.saturating_sub(amount);
                    } else {
                        account.reserved = account.reserved.saturating_sub(amount);
                    }
                    account.spent = account.spent.saturating_add(*cost);
                    account.holds = account.holds.saturating_sub(1);
                });
            }
            Change::Expire { call } => {
                let Some(held) = self.held.get_mut(call).filter(|held| !held.expired) else { return };
                held.expired = true;
                let (amount, on) = (held.amount, held.on);
                self.due.remove(&(due(held.expires, false), *call));
                self.due.insert((due(held.expires, true), *call));
                self.each(&on, |account, _| {
                    account.reserved = account.reserved.saturating_sub(amount);
                    account.spent = account.spent.saturating_add(amount);
                    account.unsettled = account.unsettled.saturating_add(amount);
                });
            }
            Change::Tell { account, mark } => {
                if let Some(account) = self.accounts.get_mut(account) {
                    account.told = account.told.max(*mark);
                }
            }
            Change::Close { account } => {
                let Some(Account { name, .. }) = self.accounts.remove(account) else { return };
                self.index.remove(&name);
                if let Scope::User(tenant, _) = &name.scope
                    && let Some(users) = self.users.get_mut(tenant)
                {
                    *users -= 1;
                    if *users == 0 {
                        self.users.remove(tenant);
                    }
                }
            }
            Change::Forget { call } => {
                self.next_call = self.next_call.max(call + 1);
                let Some(Held { expires, on, expired, .. }) = self.held.remove(call) else { return };
                self.due.remove(&(due(expires, expired), *call));
                self.each(&on, |account, _| account.holds = account.holds.saturating_sub(1));
            }
        }
    }

    /// Whether nothing is set aside.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// All accounts.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Whether these changes may be made where `most` accounts are kept. Keys, tenants and all
    /// together are as many as the operator made; users are as many as callers say, so that
    /// a tenant has at most half of the room that the others leave.
    pub(super) fn has_room(&self, changes: &[Change], most: usize) -> bool {
        let mut fresh = changes.iter().filter_map(|change| match change {
            Change::Open { name: Name { scope: Scope::User(tenant, _), .. }, .. } => Some(tenant),
            _ => None,
        });
        let Some(tenant) = fresh.next() else { return true };
        let more = 1 + fresh.count();
        let own = self.users.get(tenant).copied().unwrap_or(0);
        let others = self.accounts.len() - own;
        own + more <= most.saturating_sub(others) / 2
    }

    fn find(&self, claim: &Claim) -> Option<u32> {
        self.index.get(&claim.name).copied()
    }

    /// Whether every account has room for `amount` below its cap; else the index of the one that
    /// has none for longest.
    fn suffice(&self, accounts: impl Iterator<Item = (Option<u32>, u64)>, amount: u64) -> Result<(), usize> {
        let mut worst: Option<((bool, i64), usize)> = None;
        for (index, (account, cap)) in accounts.enumerate() {
            let account = account.and_then(|number| self.accounts.get(&number));
            let (spent, reserved) = account.map_or((0, 0), |account| (account.spent, account.reserved));
            let used = spent.saturating_add(reserved);
            if used.saturating_add(amount) <= cap {
                continue;
            }
            // A window that is new has its end still before it: it lasts longest of all. What is
            // spent stands in the way for longer than what is only set aside.
            let rank = (spent.saturating_add(amount) > cap, account.map_or(i64::MAX, |account| account.end));
            if worst.is_none_or(|(latest, _)| rank >= latest) {
                worst = Some((rank, index));
            }
        }
        worst.map_or(Ok(()), |(_, index)| Err(index))
    }

    fn short(&self, claim: Claim, wanted: u64) -> Short {
        let account = self.find(&claim).and_then(|number| self.accounts.get(&number));
        let (spent, reserved) = account.map_or((0, 0), |account| (account.spent, account.reserved));
        Short { claim, spent, reserved, wanted }
    }

    fn each(&mut self, on: &Entries, mut change: impl FnMut(&mut Account, u64)) {
        for (number, cap) in on.as_slice() {
            if let Some(account) = self.accounts.get_mut(number) {
                change(account, *cap);
            }
        }
    }
}

/// When something is due of a call: its charge in full, then that it is forgotten.
fn due(expires: u64, charged: bool) -> u64 {
    if charged { expires.saturating_add(LATE) } else { expires }
}

impl Account {
    /// One that is kept elsewhere. `money` is its cap, what is spent, reserved and unsettled.
    pub(super) fn known(name: Name, end: i64, money: [u64; 4], told: u8) -> Self {
        let [cap, spent, reserved, unsettled] = money;
        Self { cap, spent, reserved, unsettled, told, ..Self::new(name, end) }
    }

    fn new(name: Name, end: i64) -> Self {
        Self { name, end, cap: 0, spent: 0, reserved: 0, unsettled: 0, told: 0, holds: 0 }
    }
}

impl Passed {
    fn of(mark: u8, account: &Account, cap: u64) -> Self {
        Self { mark, name: account.name.clone(), end: account.end, spent: account.spent, cap }
    }
}
