//! Sets aside the most that a call can cost before it is made, in every
//! budget that it falls under. Who falls under none pays nothing for this.
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    budget::{
        Calendar, Claim, Funds, Ledger, MOST_CLAIMS, Name, Period, Scope, Settings, bound::Bound, now_ms,
    },
    call::{Call, Context},
    caller::Caps,
    chat::{Cost, Purpose, Request},
    error::{Error, Result},
    observe::Metrics,
    price::Prices,
    reply::Reply,
    route::Table,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Budget {
    /// The books.
    pub ledger: Arc<Ledger>,
    /// The budgets of those who have none of their own, and how bounds are found.
    pub settings: Arc<Settings>,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// Who may be asked.
    pub table: Arc<Table>,
    /// What day it is.
    pub calendar: Arc<Calendar>,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Budget {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        if !self.applies(&call.context) {
            return next.call(call).await;
        }
        let reserved = self.reserve(&mut call).await.inspect_err(|error| {
            self.metrics.budget_refusals.with_label_values(&[error.facts().code]).inc();
        })?;
        let Some((number, amount)) = reserved else { return next.call(call).await };
        let (ledger, prices) = (self.ledger.clone(), self.prices.clone());
        let (funds, holder) = Funds::new(ledger, prices, self.settings.clone(), number, amount);
        call.purse = Some(funds);
        // Held until the answer has ended; dropped with this future where there is none.
        Ok(next.call(call).await?.hold(holder))
    }
}

impl Budget {
    fn applies(&self, context: &Context) -> bool {
        let (rights, settings) = (&context.caller.rights, &self.settings);
        let some = |caps: Caps| caps.day_usd.is_some() || caps.month_usd.is_some();
        some(rights.budget)
            || some(rights.tenant.budget)
            || some(settings.key)
            || some(settings.tenant)
            || some(settings.global)
            || (some(settings.user) && context.caller.user.is_some())
    }

    /// Sets the most aside that the call can cost. `None` where it costs nothing, whoever answers.
    async fn reserve(&self, call: &mut Call) -> Result<Option<(u64, u64)>> {
        let bound = Bound::of(&call.chat, &self.settings)?;
        let amount = self.dearest(&call.chat, bound)?;
        if call.chat.max_tokens.is_none() && call.chat.purpose == Purpose::Chat && amount > 0 {
            // The provider must know the limit that was counted with.
            call.chat_mut().max_tokens = Some(self.settings.default_max_tokens);
        }
        if amount == 0 {
            return Ok(None);
        }
        let now = now_ms();
        let claims = self.claims(&call.context, (now / 1000) as i64);
        let left = call.context.time_left() + self.settings.lease_margin.0;
        let expires = now.saturating_add(left.as_millis() as u64);
        call.context.explain("budget", || {
            let budgets = claims.iter().map(|claim| {
                json!({"period": claim.name.period.name(), "scope": claim.name.scope.kind(), "cap_usd": Cost(claim.cap).usd()})
            });
            json!({"reserved_usd": Cost(amount).usd(), "at_most": {"input_tokens": bound.input, "output_tokens": bound.output},
                "budgets": budgets.collect::<Vec<_>>()})
        });
        let number = self.ledger.reserve(&claims, amount, expires).await?;
        Ok(Some((number, amount)))
    }

    /// The most that the call costs, whoever of its chain answers, in billionths of a US dollar.
    fn dearest(&self, chat: &Request, bound: Bound) -> Result<u64> {
        let (mut most, mut unpriced) = (0, false);
        self.table.each_model(&chat.model, |model| {
            match self.prices.at_most(model, bound.input, bound.output) {
                Some(cost) => most = most.max(cost.0),
                None => unpriced = true,
            }
        });
        if unpriced { Err(Error::Unpriced(chat.model.clone())) } else { Ok(most) }
    }

    fn claims(&self, context: &Context, now: i64) -> Vec<Claim> {
        let mut claims = Vec::with_capacity(MOST_CLAIMS);
        let (caller, settings) = (&context.caller, &self.settings);
        let (rights, tenant) = (&caller.rights, caller.tenant());
        let here = self.calendar.windows(now, &rights.tenant.time_zone);
        let mut claim = |scope: Scope, caps: Caps, windows: crate::budget::Windows| {
            for (period, cap) in [(Period::Day, caps.day_usd), (Period::Month, caps.month_usd)] {
                let Some(cap) = cap else { continue };
                let window = windows.of(period);
                let name = Name { scope: scope.clone(), period, start: window.start };
                claims.push(Claim { name, end: window.end, cap: cap.0 });
            }
        };
        claim(Scope::Key(tenant.clone(), rights.account.clone()), or(rights.budget, settings.key), here);
        if let Some(user) = &caller.user {
            claim(Scope::User(tenant.clone(), short(user)), settings.user, here);
        }
        claim(Scope::Tenant(tenant.clone()), or(rights.tenant.budget, settings.tenant), here);
        claim(Scope::Global, settings.global, self.calendar.windows(now, &TimeZone::UTC));
        claims
    }
}

/// A longer name of a user is known by its digest: names are callers' words.
const LONGEST_NAME: usize = 256;

fn short(user: &Arc<str>) -> Arc<str> {
    if user.len() <= LONGEST_NAME {
        return user.clone();
    }
    let digest: [u8; 32] = Sha256::digest(user.as_bytes()).into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// One's own caps, where there are some.
fn or(own: Caps, general: Caps) -> Caps {
    Caps { day_usd: own.day_usd.or(general.day_usd), month_usd: own.month_usd.or(general.month_usd) }
}
