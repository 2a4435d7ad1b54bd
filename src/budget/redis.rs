//! The books of several gateways: in one Redis, one script for each change, by its clock.
//!
//! Where Redis is away nothing is set aside, and calls that a budget applies
//! to are refused: no gateway counts by itself. What calls have cost waits
//! until Redis is back; a gateway that ends before leaves its leases to run
//! out, and they are charged in full.
use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use redis::Script;
use tokio::sync::Notify;

use super::{
    Refusal, Told,
    books::{Account, Passed},
    claim::{Claim, Name, Scope, Short},
    now_ms,
    window::Period,
};
use crate::store::redis::{Away, Redis};

/// What all keys begin with. The braces keep them in one slot of a cluster.
const PREFIX: &str = "{sluice:budget}:";
/// How long a call may come late to settle what was charged in full, in milliseconds.
const LATE: u64 = 86_400_000;
/// How long a number is not taken that was given back before it was heard of, in milliseconds.
const VOID: u64 = 600_000;
/// How long accounts are kept after their end, in seconds.
const KEEP: i64 = 62 * 86_400;
/// How often it is tried to account for calls while Redis is away.
const AGAIN: Duration = Duration::from_millis(250);
/// How many calls are accounted for at once: one by one, a distant Redis would be slower than they come.
const AT_ONCE: usize = 32;
/// The most accounts that are listed.
const MOST_LISTED: usize = 10_000;

/// What the scripts share: a call that was never accounted for is charged in full.
const EXPIRE: &str = r"
local function expire(leases, id)
  redis.call('ZREM', leases, id)
  local call = '{sluice:budget}:call:' .. id
  local held = redis.call('HMGET', call, 'amount', 'expired', 'accounts')
  if not held[1] or held[2] == '1' then return end
  redis.call('HSET', call, 'expired', '1')
  for account in string.gmatch(held[3], '[^\n]+') do
    redis.call('HINCRBY', account, 'reserved', '-' .. held[1])
    redis.call('HINCRBY', account, 'spent', held[1])
    redis.call('HINCRBY', account, 'unsettled', held[1])
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";

/// `KEYS`: leases, index, the call, its accounts. `ARGV`: amount, lease in ms, the call's number, how
/// long it may come late, how long accounts are kept, and each account's cap and end.
static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{EXPIRE}{}",
        r"
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 64)) do expire(KEYS[1], id) end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'void'} end
local amount, worst, found = tonumber(ARGV[1]), nil, nil
for i = 4, #KEYS do
  local cap, ends = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
  local state = redis.call('HMGET', KEYS[i], 'spent', 'reserved', 'told')
  local spent, reserved = tonumber(state[1] or '0'), tonumber(state[2] or '0')
  -- What is spent stands in the way for longer than what is only set aside.
  local rank = ends
  if spent + amount > cap then rank = rank + 1e12 end
  if spent + reserved + amount > cap and (not worst or rank >= worst) then
    worst = rank
    local told = '0'
    if spent * 100 >= cap * 80 and spent + amount > cap and tonumber(state[3] or '0') < 100 then told = '100' end
    found = {'short', tostring(i - 4), state[1] or '0', state[2] or '0', told, KEYS[i]}
  end
end
if found then
  if found[5] == '100' then redis.call('HSET', found[6], 'told', '100') end
  return found
end
local accounts = {}
for i = 4, #KEYS do
  redis.call('HINCRBY', KEYS[i], 'reserved', ARGV[1])
  redis.call('HSET', KEYS[i], 'cap', ARGV[2 * i - 2], 'end', ARGV[2 * i - 1])
  redis.call('EXPIREAT', KEYS[i], tonumber(ARGV[2 * i - 1]) + tonumber(ARGV[5]))
  redis.call('ZADD', KEYS[2], ARGV[2 * i - 1], KEYS[i])
  accounts[#accounts + 1] = KEYS[i]
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. (time[1] - tonumber(ARGV[5])))
local expires = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[3], 'amount', ARGV[1], 'expired', '0', 'accounts', table.concat(accounts, '\n'))
redis.call('PEXPIREAT', KEYS[3], expires + tonumber(ARGV[4]))
redis.call('ZADD', KEYS[1], expires, ARGV[3])
return {'ok'}
"
    ))
});

/// `KEYS`: the call. `ARGV`: how much more.
static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local held = redis.call('HMGET', KEYS[1], 'amount', 'expired', 'accounts')
if not held[1] or held[2] == '1' then return {'gone'} end
local more = tonumber(ARGV[1])
for account in string.gmatch(held[3], '[^\n]+') do
  local state = redis.call('HMGET', account, 'spent', 'reserved', 'cap', 'end')
  if tonumber(state[1] or '0') + tonumber(state[2] or '0') + more > tonumber(state[3] or '0') then
    return {'short', account, state[1] or '0', state[2] or '0', state[3] or '0', state[4] or '0'}
  end
end
for account in string.gmatch(held[3], '[^\n]+') do redis.call('HINCRBY', account, 'reserved', ARGV[1]) end
redis.call('HINCRBY', KEYS[1], 'amount', ARGV[1])
return {'ok'}
",
    )
});

/// `KEYS`: leases, the calls. `ARGV`: for how long a call may not be made any more that was not
/// found, and of each call its cost and its number.
static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local passed = {}
local function settle(call, cost, id)
  redis.call('ZREM', KEYS[1], id)
  local held = redis.call('HMGET', call, 'amount', 'expired', 'accounts')
  if not held[1] then
    -- A reservation that is still on its way comes too late.
    redis.call('HSET', call, 'expired', '1')
    redis.call('PEXPIRE', call, ARGV[1])
    return
  end
  redis.call('DEL', call)
  for account in string.gmatch(held[3], '[^\n]+') do
    if held[2] == '1' then
      redis.call('HINCRBY', account, 'spent', '-' .. held[1])
      redis.call('HINCRBY', account, 'unsettled', '-' .. held[1])
    else
      redis.call('HINCRBY', account, 'reserved', '-' .. held[1])
    end
    redis.call('HINCRBY', account, 'spent', cost)
    local state = redis.call('HMGET', account, 'spent', 'cap', 'told', 'end')
    local share, mark = tonumber(state[1]) * 100, 0
    local cap = tonumber(state[2] or '0')
    if cap > 0 and share >= cap * 100 then mark = 100 elseif cap > 0 and share >= cap * 80 then mark = 80 end
    if mark > tonumber(state[3] or '0') then
      redis.call('HSET', account, 'told', mark)
      for _, one in ipairs({account, tostring(mark), state[1], state[2], state[4] or '0'}) do passed[#passed + 1] = one end
    end
  end
end
for i = 2, #KEYS do settle(KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1]) end
return passed
",
    )
});

/// `KEYS`: leases, index. `ARGV`: how many are listed.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{EXPIRE}{}",
        r"
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 64)) do expire(KEYS[1], id) end
local listed = {}
for _, account in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], time[1], '+inf', 'LIMIT', 0, ARGV[1])) do
  local state = redis.call('HMGET', account, 'end', 'cap', 'spent', 'reserved', 'unsettled', 'told')
  listed[#listed + 1] = account
  for i = 1, 6 do listed[#listed + 1] = state[i] or '0' end
end
return listed
"
    ))
});

/// The books of several gateways. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inner>);

struct Inner {
    redis: Redis,
    told: Told,
    /// What is to be told to Redis: calls and what they have cost. No longer than calls were under way.
    costs: Mutex<VecDeque<(u64, u64)>>,
    more: Notify,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("unsettled", &self.costs.lock().len()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The books in `redis`.
    pub fn new(redis: Redis, told: Told) -> Self {
        let inner = Inner { redis, told, costs: Mutex::default(), more: Notify::new() };
        let this = Self(Arc::new(inner));
        tokio::spawn(settle_all(Arc::downgrade(&this.0)));
        this
    }

    /// Sets money aside in every account, or in none.
    pub(super) async fn reserve(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<u64, Refusal> {
        // Never one that another gateway gives.
        let call: u64 = rand::random();
        let mut script = RESERVE.key(leases());
        script.key(index()).key(call_key(call));
        script.arg(amount).arg(expires.saturating_sub(now_ms())).arg(call.to_string()).arg(LATE).arg(KEEP);
        for claim in claims {
            script.key(account_key(&claim.name)).arg(claim.cap).arg(claim.end);
        }
        let answer: Result<Vec<String>, Away> = self.0.redis.run(&script).await;
        let answer = answer.map_err(|away| {
            // It may have been set aside all the same: then it is given back as soon as that can be said.
            if away != Away::Gone {
                self.settle(call, 0);
            }
            Refusal::Away(away.to_string())
        })?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["ok"] => Ok(call),
            ["short", which, spent, reserved, told, _] => {
                let claim = which.parse().ok().and_then(|which: usize| claims.get(which));
                let Some(claim) = claim.cloned() else { return Err(strange()) };
                let (spent, reserved) = (number(spent), number(reserved));
                if told == "100" {
                    let (name, end, cap) = (claim.name.clone(), claim.end, claim.cap);
                    (self.0.told)(Passed { mark: 100, name, end, spent, cap });
                }
                Err(Refusal::Short(Box::new(Short { claim, spent, reserved, wanted: amount })))
            }
            _ => Err(strange()),
        }
    }

    /// Sets more aside for a call.
    pub(super) async fn extend(&self, call: u64, more: u64) -> Result<(), Refusal> {
        let mut script = EXTEND.key(call_key(call));
        script.arg(more);
        let answer: Result<Vec<String>, Away> = self.0.redis.run(&script).await;
        let answer = answer.map_err(|away| Refusal::Away(away.to_string()))?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["ok"] => Ok(()),
            ["gone"] => Err(Refusal::Away("the call's lease has ended".to_owned())),
            ["short", account, spent, reserved, cap, end] => {
                let name = name(account).ok_or_else(strange)?;
                let claim = Claim { name, end: number(end) as i64, cap: number(cap) };
                let (spent, reserved) = (number(spent), number(reserved));
                Err(Refusal::Short(Box::new(Short { claim, spent, reserved, wanted: more })))
            }
            _ => Err(strange()),
        }
    }

    /// Accounts for a call, as soon as Redis hears of it.
    pub(super) fn settle(&self, call: u64, cost: u64) {
        self.0.costs.lock().push_back((call, cost));
        self.0.more.notify_one();
    }

    /// Waits until all calls are accounted for, at most `patience`.
    pub(super) async fn flush(&self, patience: Duration) {
        let end = tokio::time::Instant::now() + patience;
        while !self.0.costs.lock().is_empty() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The accounts of the present days and months.
    pub(super) async fn accounts(&self) -> Result<Vec<Account>, Refusal> {
        let mut script = LIST.key(leases());
        script.key(index()).arg(MOST_LISTED);
        let listed: Result<Vec<String>, Away> = self.0.redis.run(&script).await;
        let listed = listed.map_err(|away| Refusal::Away(away.to_string()))?;
        let account = |row: &[String]| {
            let [end, cap, spent, reserved, unsettled, told] =
                [1, 2, 3, 4, 5, 6].map(|at| row.get(at).map_or(0, |text| number(text)));
            let name = name(&row[0])?;
            Some(Account::known(name, end as i64, [cap, spent, reserved, unsettled], told as u8))
        };
        Ok(listed.chunks_exact(7).filter_map(account).collect())
    }
}

/// Tells Redis what calls have cost, in order, and again until it has heard.
async fn settle_all(inner: std::sync::Weak<Inner>) {
    while let Some(this) = inner.upgrade() {
        let next: Vec<_> = this.costs.lock().iter().take(AT_ONCE).copied().collect();
        if next.is_empty() {
            // The last handle may be dropped while nothing is left to tell.
            let _ = tokio::time::timeout(Duration::from_secs(1), this.more.notified()).await;
            continue;
        }
        let mut script = SETTLE.key(leases());
        script.arg(VOID);
        for (call, cost) in &next {
            script.key(call_key(*call)).arg(*cost).arg(call.to_string());
        }
        let answer: Result<Vec<String>, Away> = this.redis.run(&script).await;
        match answer {
            Ok(passed) => {
                this.costs.lock().drain(..next.len());
                for row in passed.chunks_exact(5) {
                    let Some(name) = name(&row[0]) else { continue };
                    let [mark, spent, cap, end] = [1, 2, 3, 4].map(|at| number(&row[at]));
                    (this.told)(Passed { mark: mark as u8, name, end: end as i64, spent, cap });
                }
            }
            Err(Away::Refused(why)) => {
                tracing::error!(why, "Redis does not take what a call has cost; it is tried again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn leases() -> String {
    format!("{PREFIX}leases")
}

fn index() -> String {
    format!("{PREFIX}accounts")
}

fn call_key(call: u64) -> String {
    format!("{PREFIX}call:{call}")
}

/// A name as a key: JSON, which has no line breaks and can be read back.
fn account_key(name: &Name) -> String {
    let (kind, one, two): (&str, &str, &str) = match &name.scope {
        Scope::Global => ("global", "", ""),
        Scope::Tenant(tenant) => ("tenant", tenant, ""),
        Scope::Key(tenant, id) => ("key", tenant, id),
        Scope::User(tenant, user) => ("user", tenant, user),
    };
    let month = name.period == Period::Month;
    format!("{PREFIX}account:{}", serde_json::json!([kind, one, two, month, name.start]))
}

fn name(key: &str) -> Option<Name> {
    let text = key.strip_prefix(PREFIX)?.strip_prefix("account:")?;
    let (kind, one, two, month, start): (String, String, String, bool, i64) =
        serde_json::from_str(text).ok()?;
    let (one, two) = (one.into(), two.into());
    let scope = match kind.as_str() {
        "global" => Scope::Global,
        "tenant" => Scope::Tenant(one),
        "key" => Scope::Key(one, two),
        "user" => Scope::User(one, two),
        _ => return None,
    };
    let period = if month { Period::Month } else { Period::Day };
    Some(Name { scope, period, start })
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn strange() -> Refusal {
    Refusal::Away("Redis answered what no script of ours says".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_from_its_key() {
        for scope in [
            Scope::Global,
            Scope::Tenant("a\nb".into()),
            Scope::Key("t".into(), "\"k\"".into()),
            Scope::User("t".into(), "ü:{x}".into()),
        ] {
            let one = Name { scope, period: Period::Month, start: -5 };
            let key = account_key(&one);
            assert!(!key.contains('\n'));
            assert_eq!(name(&key), Some(one));
        }
    }
}
