//! Requests and tokens a minute and calls in flight, by client address, user,
//! key, tenant, model and for all together.
//!
//! All or nothing: a call is counted in every scope that limits it, in one
//! critical section, or in none. What is counted lies in this process; it is
//! bounded, and there is nothing to clean up by the clock. Gateways that share
//! a Redis count there together; each keeps its own count beside it, and goes
//! by that while Redis is away. `bucket.rs` has the arithmetic, `counters.rs`
//! the table, `redis.rs` the same for several gateways, `scope.rs` who is
//! counted, `held.rs` what lasts as long as an answer.
mod bucket;
mod counters;
mod held;
mod redis;
mod scope;
mod settings;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{
    counters::{Ask, Asks, Counted, Counters, Left},
    redis::Lease,
    scope::{Names, Rules, Scope, Who},
};
pub use self::{
    held::{Held, Tally},
    settings::{PerMinute, PerScope, Settings},
};
use crate::{
    call::{Caller, Limit},
    observe::Metrics,
    store::redis::Redis,
};

/// The limits in force.
#[derive(Debug)]
pub struct Limits {
    rules: Rules,
    most: usize,
    answer_tokens: u32,
    shared: Arc<Shared>,
    together: Option<Arc<redis::Shared>>,
}

/// What was counted so far. It outlives the limits: a change of one gives nobody a fresh start.
#[derive(Debug)]
struct Shared {
    began: Instant,
    names: Names,
    counters: Mutex<Counters>,
}

impl Shared {
    /// Microseconds on the counters' own clock, which cannot go back.
    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }
}

/// What the limits say of a call.
#[derive(Debug)]
pub struct Verdict {
    /// The request limit that has least left, or that refuses the call.
    pub requests: Option<Limit>,
    /// The same of the token limits.
    pub tokens: Option<Limit>,
    /// Whether the call is admitted, and what it holds until its answer has ended.
    pub admitted: Result<Option<Held>, Refused>,
}

/// Which limit refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit: `address`, `user`, `key`, `tenant`, `model` or `global`.
    pub scope: &'static str,
    /// What is limited: `requests`, `tokens`, `in_flight`, or `tracked` where
    /// nobody else can be counted.
    pub kind: &'static str,
    /// After this long the call is admitted, if nobody else takes its place.
    pub wait: Duration,
}

impl Verdict {
    /// The verdict in JSON, for whoever asked to have it explained.
    pub fn explained(&self) -> Value {
        let left = |limit: &Limit| json!({"limit": limit.limit, "remaining": limit.remaining, "reset_ms": limit.reset.as_millis() as u64});
        let mut told = json!({
            "requests": self.requests.as_ref().map(left),
            "tokens": self.tokens.as_ref().map(left),
        });
        if let Err(Refused { scope, kind, wait }) = &self.admitted {
            let code = "rate_limit_exceeded";
            let wait = wait.as_millis() as u64;
            told["refuses"] =
                json!({"status": 429, "code": code, "scope": scope, "kind": kind, "retry_after_ms": wait});
        }
        told
    }
}

impl Limits {
    /// Limits that nobody has used yet.
    pub fn new(settings: &Settings) -> Self {
        let shared = Shared { began: Instant::now(), names: Names::default(), counters: Mutex::default() };
        Self::over(settings, Arc::new(shared), None)
    }

    /// Limits that are counted together with other gateways. To be called on the runtime.
    pub fn together(settings: &Settings, redis: &Redis, metrics: &Metrics) -> Self {
        let together = Some(Arc::new(redis::Shared::new(redis.clone(), metrics)));
        Self { together, ..Self::new(settings) }
    }

    /// Other limits over what these have counted.
    pub fn changed(&self, settings: &Settings) -> Self {
        Self::over(settings, self.shared.clone(), self.together.clone())
    }

    fn over(settings: &Settings, shared: Arc<Shared>, together: Option<Arc<redis::Shared>>) -> Self {
        Self {
            rules: Rules::new(settings),
            most: settings.max_tracked,
            answer_tokens: settings.answer_tokens,
            shared,
            together,
        }
    }

    /// Whether other gateways count with this one.
    pub fn are_shared(&self) -> bool {
        self.together.is_some()
    }

    /// Counts a call for the model (a route's name), or refuses it. `now` is
    /// when it began. `tokens` is asked only where tokens are limited: given
    /// the most that is set aside for one answer, it tells what the call may take, about.
    pub fn admit(
        &self,
        caller: &Caller,
        model: &str,
        now: Instant,
        tokens: impl FnOnce(u32) -> u64,
    ) -> Verdict {
        let asks = self.asks(caller, model, |_, _| {});
        let aside = asks.limit_tokens().then(|| tokens(self.answer_tokens));
        let now = self.shared.micros(now);
        let counted = self.shared.counters.lock().admit(&asks, aside.unwrap_or_default(), now, self.most);
        self.verdict(&counted, &asks, aside, None)
    }

    /// The same, asking the Redis that gateways share, for a call that is over
    /// after `lasts`. Where Redis does not answer in time, this gateway decides
    /// by what it has counted itself.
    pub async fn admit_together(
        &self,
        caller: &Caller,
        model: &str,
        now: Instant,
        lasts: Duration,
        tokens: impl FnOnce(u32) -> u64,
    ) -> Verdict {
        let Some(together) = &self.together else { return self.admit(caller, model, now, tokens) };
        let mut names = Vec::new();
        let asks = self.asks(caller, model, |scope, who| names.push(redis::name(scope, who)));
        if names.is_empty() {
            return self.verdict(&Counted::default(), &asks, None, None);
        }
        let aside = asks.limit_tokens().then(|| tokens(self.answer_tokens));
        let set_aside = aside.unwrap_or_default();
        let (decided, lease) = together.admit(&asks, names, set_aside, lasts).await;
        let now = self.shared.micros(now);
        let mut counters = self.shared.counters.lock();
        let counted = match decided {
            Some(counted) => {
                if counted.refused.is_none() {
                    counters.count(&asks, set_aside, now, self.most);
                }
                counted
            }
            None => counters.admit(&asks, set_aside, now, self.most),
        };
        drop(counters);
        self.verdict(&counted, &asks, aside, Some(lease))
    }

    /// The scopes that limit a call; `also` is told of each.
    fn asks(&self, caller: &Caller, model: &str, mut also: impl FnMut(Scope, Who<'_>)) -> Asks {
        let mut asks = Asks::default();
        self.rules.each(caller, model, |scope, terms, who| {
            asks.push(Ask { scope, terms, id: self.shared.names.id(scope, who) });
            also(scope, who);
        });
        asks
    }

    fn verdict(&self, counted: &Counted, asks: &Asks, aside: Option<u64>, lease: Option<Lease>) -> Verdict {
        let holds = aside.is_some() || asks.limit_in_flight();
        let held = || Held { shared: self.shared.clone(), asks: *asks, most: self.most, aside, lease };
        Verdict {
            requests: counted.requests.map(limit),
            tokens: counted.tokens.map(limit),
            admitted: match counted.refused {
                None => Ok(holds.then(held)),
                Some(refused) => Err(refusal(refused)),
            },
        }
    }

    /// What [`Self::admit`] would say of a call, which is not counted.
    pub fn look(
        &self,
        caller: &Caller,
        model: &str,
        now: Instant,
        tokens: impl FnOnce(u32) -> u64,
    ) -> Verdict {
        let asks = self.asks(caller, model, |_, _| {});
        let aside = if asks.limit_tokens() { tokens(self.answer_tokens) } else { 0 };
        let counted = self.shared.counters.lock().look(&asks, aside, self.shared.micros(now));
        Verdict {
            requests: counted.requests.map(limit),
            tokens: counted.tokens.map(limit),
            admitted: counted.refused.map_or(Ok(None), |refused| Err(refusal(refused))),
        }
    }

    /// How many keys, users, addresses, tenants and models are counted.
    pub fn tracked(&self) -> usize {
        self.shared.counters.lock().len()
    }
}

fn refusal(refused: counters::Refused) -> Refused {
    let (scope, kind) = (refused.scope.name(), refused.kind.name());
    Refused { scope, kind, wait: Duration::from_micros(refused.wait) }
}

fn limit(left: Left) -> Limit {
    Limit { limit: left.limit, remaining: left.remaining, reset: Duration::from_micros(left.reset) }
}

#[cfg(test)]
mod redis_tests;
#[cfg(test)]
mod tests;
