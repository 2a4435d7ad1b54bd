//! Requests per minute, by key, user, address and for all together.
//!
//! Counted in this process (governor's GCRA). The number of counted callers
//! is bounded: who has long not been seen makes room.
mod settings;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use moka::sync::Cache;

pub use settings::{PerMinute, Settings};

use crate::call::{Caller, Limit};

type Meter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A full minute after the last request a meter is as good as new.
const FORGET: Duration = Duration::from_secs(61);

/// The limits in force.
#[derive(Debug)]
pub struct Limits {
    settings: Settings,
    global: Option<Meter>,
    meters: Cache<Who, Arc<Meter>>,
    clock: DefaultClock,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Key(Arc<str>),
    // A user is a name within a tenant; two tenants' `u1` are two people.
    User(Arc<str>, Arc<str>),
    Address(std::net::IpAddr),
}

/// What the limits say of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The state of the limit that has least left.
    pub tightest: Option<Limit>,
    /// The limit that refuses the call, and when it will admit one.
    pub refused: Option<(&'static str, Duration)>,
}

impl Limits {
    /// Limits that start full.
    pub fn new(settings: &Settings) -> Self {
        let tracked = settings.max_tracked as u64;
        Self {
            global: settings.requests_per_minute.global.map(meter),
            meters: Cache::builder().max_capacity(tracked).time_to_idle(FORGET).build(),
            clock: DefaultClock::default(),
            settings: settings.clone(),
        }
    }

    /// Counts a call, or refuses it.
    pub fn check(&self, caller: &Caller) -> Verdict {
        let per_minute = &self.settings.requests_per_minute;
        let mut verdict = Verdict::default();
        if let (Some(limit), Some(address)) = (per_minute.address, caller.address) {
            self.one("address", limit, Who::Address(address), &mut verdict);
        }
        if let (Some(limit), Some(user)) = (per_minute.user, &caller.user) {
            self.one("user", limit, Who::User(caller.tenant().clone(), user.clone()), &mut verdict);
        }
        if let Some(limit) = caller.rights.quota.requests_per_minute.or(per_minute.key) {
            self.one("key", limit, Who::Key(caller.rights.id.clone()), &mut verdict);
        }
        if let (Some(limit), Some(meter)) = (per_minute.global, &self.global) {
            self.ask("global", limit, meter, &mut verdict);
        }
        verdict
    }

    fn one(&self, scope: &'static str, limit: u32, who: Who, verdict: &mut Verdict) {
        if verdict.refused.is_none() {
            let meter = self.meters.get_with(who, || Arc::new(meter(limit)));
            self.ask(scope, limit, &meter, verdict);
        }
    }

    fn ask(&self, scope: &'static str, limit: u32, meter: &Meter, verdict: &mut Verdict) {
        if verdict.refused.is_some() {
            return;
        }
        let (remaining, wait) = match meter.check() {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_yet) => (0, Some(not_yet.wait_time_from(self.clock.now()))),
        };
        // GCRA gives a request back every 60 s / limit.
        let used = limit.saturating_sub(remaining);
        let reset = Duration::from_secs_f64(60.0 * f64::from(used) / f64::from(limit.max(1)));
        if wait.is_some() || verdict.tightest.is_none_or(|tightest| remaining < tightest.remaining) {
            verdict.tightest = Some(Limit { limit, remaining, reset });
        }
        verdict.refused = wait.map(|wait| (scope, wait));
    }
}

fn meter(limit: u32) -> Meter {
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_minute(limit)).with_middleware::<StateInformationMiddleware>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(user: &str, tenant: &str) -> Caller {
        Caller { user: Some(user.into()), ..Caller::named("k", tenant) }
    }

    #[test]
    fn a_user_is_refused_alone_and_told_when_to_come_back() {
        let per_minute = PerMinute { user: Some(2), key: None, address: None, global: None };
        let limits = Limits::new(&Settings { requests_per_minute: per_minute, ..Settings::default() });
        assert_eq!(limits.check(&caller("a", "t")).tightest.unwrap().remaining, 1);
        assert_eq!(limits.check(&caller("a", "t")).refused, None);
        let (scope, wait) = limits.check(&caller("a", "t")).refused.unwrap();
        assert_eq!(scope, "user");
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
        assert_eq!(limits.check(&caller("b", "t")).refused, None, "another user");
        assert_eq!(
            limits.check(&caller("a", "other")).refused,
            None,
            "another tenant's user of the same name"
        );
    }
}
