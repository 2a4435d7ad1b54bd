//! One call's money: set aside once, shared by its attempts, accounted for at the end.
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;

use super::{Ledger, Settings, bound::Bound};
use crate::{
    call::Target,
    chat::{Cost, Request},
    error::{Error, Result},
    price::Prices,
    purse::{Purse, Share},
};

/// One call's money. It is accounted for when the call has ended and all shares are settled.
#[derive(Debug)]
pub struct Funds {
    ledger: Arc<Ledger>,
    prices: Arc<Prices>,
    settings: Arc<Settings>,
    call: u64,
    state: Mutex<State>,
}

/// No attempt costs more than a million US dollars, whatever a provider says: sums stay within
/// what both kinds of books can hold.
const MOST_COST: u64 = 1_000_000 * 1_000_000_000;

/// All in billionths of a US dollar.
#[derive(Debug)]
struct State {
    /// Set aside in the ledger. Never less than `spent` and `open` together.
    reserved: u64,
    /// What attempts have cost.
    spent: u64,
    /// What attempts that are not settled may cost.
    open: u64,
    /// Who may still come: the call itself, and its shares.
    holders: u32,
}

/// The call itself, as a holder of its funds. Dropped when the call has ended.
#[derive(Debug)]
pub struct Holder(Arc<Funds>);

#[derive(Debug)]
struct Part {
    funds: Arc<Funds>,
    worst: u64,
    output: u64,
    settled: AtomicBool,
}

impl Funds {
    /// The money that was set aside as `call`.
    pub fn new(
        ledger: Arc<Ledger>,
        prices: Arc<Prices>,
        settings: Arc<Settings>,
        call: u64,
        reserved: u64,
    ) -> (Arc<Self>, Holder) {
        let state = Mutex::new(State { reserved, spent: 0, open: 0, holders: 1 });
        let this = Arc::new(Self { ledger, prices, settings, call, state });
        (this.clone(), Holder(this))
    }

    fn leave(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.holders -= 1;
        let last = (state.holders == 0).then_some(state.spent);
        drop(state);
        if let Some(spent) = last {
            self.ledger.settle(self.call, spent);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.leave(|_| ());
    }
}

impl Purse for Funds {
    fn cover(self: Arc<Self>, chat: &Request, target: &Target) -> BoxFuture<'static, Result<Arc<dyn Share>>> {
        let bound = Bound::of(chat, &self.settings).and_then(|bound| {
            let worst = self.prices.at_most(&target.model, bound.input, bound.output);
            let worst = worst.ok_or_else(|| Error::Unpriced(chat.model.clone()))?;
            Ok((bound.output, worst.0))
        });
        let taken = bound.map(|(output, worst)| {
            let mut state = self.state.lock();
            state.holders += 1;
            state.open = state.open.saturating_add(worst);
            let missing = state.spent.saturating_add(state.open).saturating_sub(state.reserved);
            // Two attempts at once each see to their own part.
            state.reserved = state.reserved.saturating_add(missing);
            drop(state);
            let settled = AtomicBool::new(false);
            (Part { funds: self.clone(), worst, output, settled }, missing)
        });
        async move {
            let (part, missing) = taken?;
            if missing > 0
                && let Err(error) = self.ledger.extend(self.call, missing).await
            {
                self.state.lock().reserved -= missing;
                // It was never made.
                part.settle(Cost(0));
                return Err(error);
            }
            let share: Arc<dyn Share> = Arc::new(part);
            Ok(share)
        }
        .boxed()
    }
}

impl Share for Part {
    fn output_tokens(&self) -> u64 {
        self.output
    }

    fn settle(&self, cost: Cost) {
        if self.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        if cost.0 > self.worst {
            // The books have the truth all the same.
            tracing::warn!(cost_usd = %cost, bound_usd = %Cost(self.worst), "a provider billed more than was possible by what it was asked");
        }
        let cost = cost.0.min(MOST_COST);
        self.funds.leave(|state| {
            state.open = state.open.saturating_sub(self.worst);
            state.spent = state.spent.saturating_add(cost);
        });
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.settle(Cost(self.worst));
    }
}
