//! The same limits, counted in one Redis by several gateways.
//!
//! One script looks at all scopes of a call and takes from all or none; it
//! goes by Redis's own clock, so that no two gateways need to agree on the
//! time. A call in flight is a lease that ends by itself some time after the
//! call's deadline: a gateway that dies holds nobody up for longer. All keys
//! share the hash tag `{limits}`, so that a cluster keeps them on one node.
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::IntCounter;
use redis::{Script, ScriptInvocation};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::{
    bucket::Debt,
    counters::{Ask, Asks, Counted, Kind, Refused},
    scope::{Scope, Terms, Who},
};
use crate::{
    observe::Metrics,
    store::redis::{Away, Redis},
};

/// Counts a call in all scopes, or in none and tells how long to wait.
pub(super) const ADMIT: &str = r"
local UNIT = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tokens, lease, lasts = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local rows, wait, scope, kind = {}, 0, 0, 0
local function refuse(longer, index, what)
  if longer > wait then wait, scope, kind = longer, index, what end
end
local function melted(debt, rate, past)
  return rate > 0 and math.max(0, (tonumber(debt) or 0) - past * rate) or 0
end
local function over(debt, size, rate) return math.ceil(math.max(0, debt - size * UNIT) / rate) end
for index = 1, #KEYS / 2 do
  local first = 3 + (index - 1) * 4
  local row = {
    debts = KEYS[index * 2 - 1], leases = KEYS[index * 2],
    rate = tonumber(ARGV[first + 1]), burst = tonumber(ARGV[first + 2]),
    per = tonumber(ARGV[first + 3]), most = tonumber(ARGV[first + 4]),
  }
  local was = redis.call('HMGET', row.debts, 'at', 'requests', 'tokens')
  local past = math.max(0, now - (tonumber(was[1]) or now))
  row.requests, row.tokens = melted(was[2], row.rate, past), melted(was[3], row.per, past)
  row.aside = math.min(tokens, row.per)
  if row.rate > 0 then refuse(over(row.requests + UNIT, row.burst, row.rate), index, 1) end
  if row.per > 0 then refuse(over(row.tokens + row.aside * UNIT, row.per, row.per), index, 2) end
  if row.most > 0 then
    redis.call('ZREMRANGEBYSCORE', row.leases, '-inf', now)
    if redis.call('ZCARD', row.leases) >= row.most then refuse(1000000, index, 3) end
  end
  rows[index] = row
end
local told = {wait, scope, kind}
for index, row in ipairs(rows) do
  if wait == 0 then
    local melts = 0
    if row.rate > 0 then
      row.requests = row.requests + UNIT
      melts = row.requests / row.rate
    end
    if row.per > 0 then
      row.tokens = row.tokens + row.aside * UNIT
      melts = math.max(melts, row.tokens / row.per)
    end
    if melts > 0 then
      redis.call('HSET', row.debts, 'at', string.format('%.0f', now),
        'requests', string.format('%.0f', row.requests), 'tokens', string.format('%.0f', row.tokens))
      redis.call('PEXPIRE', row.debts, math.ceil(melts / 1000) + 1000)
    end
    if row.most > 0 then
      redis.call('ZADD', row.leases, string.format('%.0f', now + lasts), lease)
      local left = redis.call('PTTL', row.leases)
      redis.call('PEXPIRE', row.leases, math.max(left, math.ceil(lasts / 1000) + 1000))
    end
  end
  told[#told + 1], told[#told + 2] = row.requests, row.tokens
end
return told
";

/// What a call truly took is known: what was set aside for it is put right.
pub(super) const SETTLE: &str = r"
local UNIT = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local aside, truly = tonumber(ARGV[1]), tonumber(ARGV[2])
for index = 1, #KEYS do
  local rate, per = tonumber(ARGV[index * 4 - 1]), tonumber(ARGV[index * 4 + 1])
  local was = redis.call('HMGET', KEYS[index], 'at', 'requests', 'tokens')
  local past = math.max(0, now - (tonumber(was[1]) or now))
  local requests = math.max(0, (tonumber(was[2]) or 0) - past * rate)
  local tokens = math.max(0, (tonumber(was[3]) or 0) - past * per)
  tokens = math.max(0, tokens + (truly - math.min(aside, per)) * UNIT)
  local melts = tokens / per
  if rate > 0 then melts = math.max(melts, requests / rate) else requests = 0 end
  redis.call('HSET', KEYS[index], 'at', string.format('%.0f', now),
    'requests', string.format('%.0f', requests), 'tokens', string.format('%.0f', tokens))
  redis.call('PEXPIRE', KEYS[index], math.ceil(melts / 1000) + 1000)
end
";

/// A call is not in flight any more.
pub(super) const RELEASE: &str = r"
for index = 1, #KEYS do redis.call('ZREM', KEYS[index], ARGV[1]) end
";

static SCRIPTS: LazyLock<[Script; 3]> = LazyLock::new(|| [ADMIT, SETTLE, RELEASE].map(Script::new));

/// Above this a number of the script would not be exact enough; far above any limit that limits.
const MOST: u64 = 100_000_000_000;
/// A lease outlives its call's deadline by this much: whatever ends a call late is over by then.
const GRACE: Duration = Duration::from_secs(5);

/// The counters that gateways share.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Redis,
    /// Leases end in `drop`, on whatever thread that is.
    runtime: Handle,
    /// Tells the leases of gateways and calls apart.
    gateway: u64,
    next: AtomicU64,
    by_redis: IntCounter,
    alone: IntCounter,
}

/// A call's part of the shared counters.
#[derive(Debug)]
pub(super) struct Entry {
    shared: Arc<Shared>,
    asks: Asks,
    names: Vec<String>,
    id: u64,
}

/// A call in flight, for all gateways. Given back by drop, also where the
/// caller leaves while Redis is being asked.
#[derive(Debug)]
pub(super) struct Lease {
    entry: Arc<Entry>,
    /// Whether there is something to give back.
    held: bool,
    /// Whether it is certain that Redis has counted the call.
    counted: bool,
}

impl Shared {
    /// To be called on the runtime.
    pub(super) fn new(redis: Redis, metrics: &Metrics) -> Self {
        let by = |source| metrics.limit_decisions.with_label_values(&[source]);
        Self {
            redis,
            runtime: Handle::current(),
            gateway: rand::random(),
            next: AtomicU64::new(0),
            by_redis: by("redis"),
            alone: by("local"),
        }
    }

    /// Asks Redis. Where it is away or too slow it says nothing, and the
    /// caller decides alone. `lasts` is the longest that the call can last.
    pub(super) async fn admit(
        self: &Arc<Self>,
        asks: &Asks,
        names: Vec<String>,
        tokens: u64,
        lasts: Duration,
    ) -> (Option<Counted>, Lease) {
        let id = self.gateway.wrapping_add(self.next.fetch_add(1, Ordering::Relaxed));
        let entry = Arc::new(Entry { shared: self.clone(), asks: *asks, names, id });
        let held = asks.limit_in_flight();
        let question = entry.admit(tokens, lasts);
        let mut lease = Lease { entry, held, counted: false };
        match self.redis.run::<Vec<i64>>(&question).await {
            Ok(told) => {
                self.by_redis.inc();
                let counted = read(asks, &told);
                lease.counted = counted.refused.is_none();
                lease.held &= lease.counted;
                (Some(counted), lease)
            }
            Err(away) => {
                self.alone.inc();
                // What came too late may be carried out yet: then it is given back.
                lease.held &= away == Away::Late;
                (None, lease)
            }
        }
    }
}

impl Lease {
    /// Whom to tell what the call truly took: nobody where it is not certain
    /// that something was set aside.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        self.counted.then(|| self.entry.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held {
            self.entry.release();
        }
    }
}

impl Entry {
    fn rows(&self) -> impl Iterator<Item = (&Ask, &String)> {
        self.asks.iter().zip(&self.names)
    }

    pub(super) fn admit(&self, tokens: u64, lasts: Duration) -> ScriptInvocation<'static> {
        let mut call = SCRIPTS[0].prepare_invoke();
        call.arg(tokens.min(MOST)).arg(self.id).arg((lasts + GRACE).as_micros() as u64);
        for (ask, name) in self.rows() {
            call.key(debts(name)).key(leases(name));
            limits(&mut call, &ask.terms);
        }
        call
    }

    fn release(&self) {
        let mut call = SCRIPTS[2].prepare_invoke();
        call.arg(self.id);
        for (_, name) in self.rows().filter(|(ask, _)| ask.terms.in_flight.is_some()) {
            call.key(leases(name));
        }
        self.send(call);
    }

    /// What was set aside is put right.
    pub(super) fn settle(&self, aside: u64, truly: u64) {
        let mut call = SCRIPTS[1].prepare_invoke();
        call.arg(aside.min(MOST)).arg(truly.min(MOST));
        for (ask, name) in self.rows().filter(|(ask, _)| ask.terms.tokens.is_some()) {
            call.key(debts(name));
            limits(&mut call, &ask.terms);
        }
        self.send(call);
    }

    /// Nobody waits for it. If Redis is away, a lease ends by itself and a debt melts.
    fn send(&self, call: ScriptInvocation<'static>) {
        let redis = self.shared.redis.clone();
        self.shared.runtime.spawn(async move {
            // That it is away is said and counted where it is asked.
            let _ = redis.run::<()>(&call).await;
        });
    }
}

/// Requests a minute, burst, tokens a minute, calls in flight; 0 is no limit.
pub(super) fn limits(call: &mut ScriptInvocation<'_>, terms: &Terms) {
    let (rate, burst) = terms.requests.map_or((0, 0), |bucket| (bucket.per_minute, bucket.burst));
    let tokens = terms.tokens.map_or(0, |bucket| bucket.per_minute);
    for number in [rate, burst, tokens, terms.in_flight.unwrap_or_default().into()] {
        call.arg(number.min(MOST));
    }
}

/// The name of a counter: what it is for, and a hash of whom, so that Redis holds no user's name.
pub(super) fn name(scope: Scope, who: Who<'_>) -> String {
    let mut digest = Sha256::new();
    match who {
        Who::Named(name) => digest.update(name),
        Who::User(tenant, user) => {
            digest.update((tenant.len() as u64).to_be_bytes());
            digest.update(tenant);
            digest.update(user);
        }
        Who::Address(address) => digest.update(super::scope::network(address)),
        Who::All => {}
    }
    let digest: [u8; 32] = digest.finalize().into();
    let half = u128::from_be_bytes(std::array::from_fn(|at| digest[at]));
    format!("{}:{half:032x}", scope.name())
}

pub(super) fn debts(name: &str) -> String {
    format!("sluice:{{limits}}:{name}")
}

pub(super) fn leases(name: &str) -> String {
    format!("sluice:{{limits}}:{name}:in_flight")
}

/// What the script says.
pub(super) fn read(asks: &Asks, told: &[i64]) -> Counted {
    let number = |at: usize| told.get(at).map_or(0, |&number| number.max(0) as u64);
    let mut counted = Counted::default();
    if number(0) > 0 {
        let scope =
            asks.iter().nth((number(1) as usize).saturating_sub(1)).map_or(Scope::Global, |ask| ask.scope);
        let kind = match number(2) {
            1 => Kind::Requests,
            2 => Kind::Tokens,
            _ => Kind::InFlight,
        };
        counted.refused = Some(Refused { scope, kind, wait: number(0) });
    }
    for (index, ask) in asks.iter().enumerate() {
        counted.leave(ask, Debt(number(3 + index * 2)), Debt(number(4 + index * 2)));
    }
    counted
}
