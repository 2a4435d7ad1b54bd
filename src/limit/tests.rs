//! The limiter against a slow reference, and what it promises one by one.
use std::{collections::BTreeMap, ops::Range};

use proptest::prelude::*;

use super::*;
use crate::caller::{Quota, Rights, Tenant};

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

fn caller(user: &str, tenant: &str) -> Caller {
    Caller { user: Some(user.into()), ..Caller::named("k", tenant) }
}

fn unlimited() -> Settings {
    let requests_per_minute = PerMinute { user: None, address: None, ..PerMinute::default() };
    Settings { requests_per_minute, ..Settings::default() }
}

fn users(limit: u32) -> Settings {
    let requests_per_minute = PerMinute { user: Some(limit), address: None, ..PerMinute::default() };
    Settings { requests_per_minute, ..Settings::default() }
}

/// Limits with a clock that only moves when it is told to, in microseconds.
struct Bench {
    limits: Limits,
    now: u64,
}

impl Bench {
    fn new(settings: &Settings) -> Self {
        Self { limits: Limits::new(settings), now: 0 }
    }

    fn ask(&self, caller: &Caller) -> Verdict {
        self.ask_for(caller, "m", 0)
    }

    fn ask_for(&self, caller: &Caller, model: &str, tokens: u64) -> Verdict {
        let now = self.limits.shared.began + Duration::from_micros(self.now);
        self.limits.admit(caller, model, now, |_| tokens)
    }

    fn admits(&self, caller: &Caller) -> bool {
        self.ask(caller).admitted.is_ok()
    }

    /// The tokens of a call that has ended by now are settled.
    fn settle(&self, held: Held, truly: u64) {
        let mut counters = self.limits.shared.counters.lock();
        counters.settle(&held.asks, held.aside.unwrap(), truly, self.now, held.most);
        drop(counters);
        drop(held);
    }
}

#[test]
fn a_user_is_refused_alone_and_told_when_to_come_back() {
    let mut bench = Bench::new(&users(2));
    assert_eq!(bench.ask(&caller("a", "t")).requests.unwrap().remaining, 1);
    assert_eq!(bench.ask(&caller("a", "t")).requests.unwrap().remaining, 0);
    bench.now += 1;
    let verdict = bench.ask(&caller("a", "t"));
    let refused = verdict.admitted.unwrap_err();
    assert_eq!((refused.scope, refused.kind), ("user", "requests"));
    assert_eq!(refused.wait, Duration::from_micros(30 * SECOND - 1));
    assert_eq!(verdict.requests.unwrap().reset, Duration::from_micros(MINUTE - 1));
    assert!(bench.admits(&caller("b", "t")), "another user");
    assert!(bench.admits(&caller("a", "other")), "another tenant's user of the same name");
    bench.now += 30 * SECOND - 2;
    assert!(!bench.admits(&caller("a", "t")), "a microsecond too early");
    bench.now += 1;
    assert!(bench.admits(&caller("a", "t")), "when it was told to");
}

#[test]
fn a_thousand_a_second_against_a_hundred_with_a_burst_of_twenty() {
    let mut settings = users(6000);
    settings.burst.user = Some(20);
    let mut bench = Bench::new(&settings);
    let mut admitted = Vec::new();
    for _ in 0..10 {
        let before = admitted.len();
        for _ in 0..1000 {
            bench.now += 1000;
            if bench.admits(&caller("a", "t")) {
                admitted.push(bench.now);
            }
        }
        let count = admitted.len() - before;
        assert_eq!(count, if before == 0 { 119 } else { 100 });
    }
}

#[test]
fn a_refused_call_takes_nothing_in_any_scope() {
    let mut settings = users(100);
    settings.requests_per_minute.global = Some(1);
    settings.in_flight.key = Some(5);
    settings.tokens_per_minute.tenant = Some(1000);
    let bench = Bench::new(&settings);
    let a = caller("a", "t");
    let held = bench.ask_for(&a, "m", 10).admitted.unwrap().unwrap();
    let before = bench.ask_for(&a, "m", 10);
    let refused = before.admitted.unwrap_err();
    assert_eq!((refused.scope, refused.kind), ("global", "requests"));
    for user in ["a", "b", "c"] {
        assert!(bench.ask_for(&caller(user, "t"), "m", 10).admitted.is_err());
    }
    assert_eq!(bench.limits.tracked(), 4, "user a, key, tenant, global: not b and c");
    let after = bench.ask_for(&a, "m", 10);
    assert_eq!(after.tokens, before.tokens);
    let counters = bench.limits.shared.counters.lock();
    assert_eq!(counters.in_flight(), [1]);
    drop(counters);
    drop(held);
    assert!(bench.limits.shared.counters.lock().in_flight().is_empty());
}

#[test]
fn with_several_scopes_the_longest_wait_is_told() {
    let mut settings = users(60);
    settings.burst.user = Some(1);
    settings.requests_per_minute.global = Some(6);
    settings.burst.global = Some(1);
    let bench = Bench::new(&settings);
    assert!(bench.admits(&caller("a", "t")));
    let refused = bench.ask(&caller("a", "t")).admitted.unwrap_err();
    assert_eq!((refused.scope, refused.wait), ("global", Duration::from_secs(10)));
}

#[test]
fn a_key_and_a_tenant_may_have_limits_of_their_own() {
    let mut settings = unlimited();
    settings.requests_per_minute.key = Some(1);
    settings.burst.key = Some(1);
    let bench = Bench::new(&settings);
    let quota = Quota { requests_per_minute: Some(3), ..Quota::default() };
    let tenant = Tenant {
        name: "t".into(),
        quota: Quota { in_flight: Some(2), ..Quota::default() },
        ..Tenant::default()
    };
    let rights = Rights { account: "own".into(), quota, tenant: Arc::new(tenant), ..Rights::default() };
    let own = Caller { rights: Arc::new(rights), ..Caller::default() };
    let verdict = bench.ask(&own);
    assert_eq!(verdict.requests.unwrap().remaining, 2, "its own rate, and a burst of a whole minute");
    let (first, second) = (verdict.admitted.unwrap(), bench.ask(&own).admitted.unwrap());
    let refused = bench.ask(&own).admitted.unwrap_err();
    assert_eq!((refused.scope, refused.kind, refused.wait), ("tenant", "in_flight", Duration::from_secs(1)));
    drop((first, second));
    assert!(bench.admits(&own));
    assert!(bench.admits(&Caller::named("general", "t")));
    assert!(!bench.admits(&Caller::named("general", "t")));
}

#[test]
fn an_address_is_an_ipv6_network() {
    let mut settings = unlimited();
    settings.requests_per_minute.address = Some(1);
    let bench = Bench::new(&settings);
    let at = |address: &str| Caller { address: Some(address.parse().unwrap()), ..Caller::default() };
    assert!(bench.admits(&at("2001:db8::1")));
    assert!(!bench.admits(&at("2001:db8::ffff:1")));
    assert!(bench.admits(&at("2001:db8:0:1::1")));
    assert!(bench.admits(&at("10.0.0.1")) && bench.admits(&at("10.0.0.2")));
}

#[test]
fn tokens_are_set_aside_and_settled() {
    let mut settings = unlimited();
    settings.tokens_per_minute.key = Some(600);
    let mut bench = Bench::new(&settings);
    let k = caller("a", "t");
    let first = bench.ask_for(&k, "m", 500);
    assert_eq!(first.tokens.map(|limit| (limit.limit, limit.remaining)), Some((600, 100)));
    let refused = bench.ask_for(&k, "m", 200).admitted.unwrap_err();
    assert_eq!((refused.kind, refused.wait), ("tokens", Duration::from_secs(10)));
    bench.settle(first.admitted.unwrap().unwrap(), 50);
    let second = bench.ask_for(&k, "m", 200);
    assert_eq!(second.tokens.unwrap().remaining, 350, "450 came back");
    bench.settle(second.admitted.unwrap().unwrap(), 1400);
    let refused = bench.ask_for(&k, "m", 1).admitted.unwrap_err();
    // 50 and 1400 of 600 are taken: 851 have to melt at ten a second.
    assert_eq!(refused.wait, Duration::from_millis(85_100));
    bench.now += 85_100_000;
    // More than the limit has in all: it comes when the limit is whole.
    let large = bench.ask_for(&k, "m", 1_000_000).admitted.unwrap_err();
    assert_eq!(large.wait, Duration::from_millis(59_900));
    bench.now += 59_900_000;
    let large = bench.ask_for(&k, "m", 1_000_000);
    assert_eq!(large.tokens.unwrap().remaining, 0);
    bench.settle(large.admitted.unwrap().unwrap(), 0);
    assert_eq!(bench.ask_for(&k, "m", 0).tokens.unwrap().remaining, 600);
}

#[test]
fn what_is_counted_later_counts() {
    let mut settings = unlimited();
    settings.tokens_per_minute.key = Some(6000);
    let limits = Limits::new(&settings);
    let k = caller("a", "t");
    let left = |limits: &Limits| limits.admit(&k, "m", Instant::now(), |_| 0).tokens.unwrap().remaining;
    let held = limits.admit(&k, "m", Instant::now(), |_| 1000).admitted.unwrap().unwrap();
    let tally = Arc::new(held.ended(10).unwrap());
    let late = tally.clone();
    drop(tally);
    assert!((5000..5100).contains(&left(&limits)), "until all is counted, what was set aside counts");
    late.add(190);
    drop(late);
    assert!((5800..5900).contains(&left(&limits)), "{}", left(&limits));
}

#[test]
fn other_limits_go_on_from_what_was_counted() {
    let a = caller("a", "t");
    let mut bench = Bench::new(&users(3));
    for _ in 0..3 {
        assert!(bench.admits(&a));
    }
    bench.limits = bench.limits.changed(&users(5));
    assert!(bench.admits(&a) && bench.admits(&a));
    assert!(!bench.admits(&a), "two more, not five");
    bench.limits = bench.limits.changed(&users(1));
    let wait = bench.ask(&a).admitted.unwrap_err().wait;
    assert_eq!(wait, Duration::from_secs(5 * 60));
}

#[test]
fn many_new_names_do_not_wash_out_one_that_is_used_up() {
    let settings = Settings { max_tracked: 100, ..users(60) };
    let mut bench = Bench::new(&settings);
    let victim = caller("victim", "t");
    while bench.admits(&victim) {}
    for n in 0..20_000 {
        // More than a hundred a second: all that are tracked owe something.
        bench.now += 1000;
        assert!(bench.admits(&caller(&n.to_string(), "t")));
        assert!(bench.limits.tracked() <= 100);
    }
    let admitted = (0..60).filter(|_| bench.admits(&victim)).count();
    assert_eq!(admitted, 20, "what has melted in 20 seconds, and no more");
}

#[test]
fn who_owes_nothing_makes_room_and_is_forgotten() {
    let mut bench = Bench::new(&users(60));
    for n in 0..1000 {
        bench.admits(&caller(&n.to_string(), "t"));
    }
    assert_eq!(bench.limits.tracked(), 1000);
    bench.now += MINUTE;
    for n in 1000..1600 {
        bench.admits(&caller(&n.to_string(), "t"));
    }
    assert!(bench.limits.tracked() <= 601, "{}", bench.limits.tracked());
}

#[test]
fn counters_of_calls_in_flight_are_never_given_away() {
    let mut settings = Settings { max_tracked: 16, ..unlimited() };
    settings.in_flight.user = Some(1);
    let mut bench = Bench::new(&settings);
    let ask = |bench: &Bench, n: usize| bench.ask(&caller(&n.to_string(), "t")).admitted;
    let mut held: Vec<_> = (0..16).map(|n| ask(&bench, n).unwrap()).collect();
    bench.now += 10 * MINUTE;
    assert_eq!(ask(&bench, 99).unwrap_err().kind, "tracked");
    assert_eq!(ask(&bench, 3).unwrap_err().kind, "in_flight");
    held.pop();
    held.push(ask(&bench, 99).unwrap());
    assert_eq!(ask(&bench, 3).unwrap_err().kind, "in_flight");
    drop(held);
    assert!(ask(&bench, 3).is_ok());
}

/// The reference: for each name and kind a level that is filled by hand.
#[derive(Default)]
struct Reference {
    debts: BTreeMap<(&'static str, String), (u128, u64)>,
    in_flight: BTreeMap<(&'static str, String), u32>,
}

type Rows = Vec<(&'static str, String, Quota)>;

impl Reference {
    fn owed(&self, kind: &'static str, who: &str, rate: u64, now: u64) -> u128 {
        let (debt, at) = self.debts.get(&(kind, who.into())).copied().unwrap_or_default();
        debt.saturating_sub(u128::from(now - at) * u128::from(rate))
    }

    fn add(&mut self, kind: &'static str, who: &str, rate: u64, now: u64, by: i128) {
        let debt = (self.owed(kind, who, rate, now) as i128 + by * 60_000_000).max(0) as u128;
        self.debts.insert((kind, who.into()), (debt, now));
    }

    /// The wait until it may be admitted, in microseconds, or nothing: then it was.
    fn ask(&mut self, rows: &Rows, tokens: u64, now: u64) -> Option<u64> {
        let mut wait = 0_u64;
        let mut until = |owed: u128, size: u64, rate: u64| {
            let over = owed.saturating_sub(u128::from(size) * 60_000_000);
            wait = wait.max(over.div_ceil(u128::from(rate)) as u64);
        };
        for (_, who, quota) in rows {
            if let Some(rate) = quota.requests_per_minute {
                let size = quota.burst.unwrap_or(rate);
                until(self.owed("r", who, rate.into(), now) + 60_000_000, size.into(), rate.into());
            }
            if let Some(rate) = quota.tokens_per_minute {
                let all = u128::from(tokens.min(rate)) * 60_000_000;
                until(self.owed("t", who, rate, now) + all, rate, rate);
            }
        }
        for (_, who, quota) in rows {
            let there = self.in_flight.get(&("f", who.clone())).copied().unwrap_or_default();
            if quota.in_flight.is_some_and(|most| there >= most) {
                wait = wait.max(SECOND);
            }
        }
        if wait > 0 {
            return Some(wait);
        }
        for (_, who, quota) in rows {
            if let Some(rate) = quota.requests_per_minute {
                self.add("r", who, rate.into(), now, 1);
            }
            if let Some(rate) = quota.tokens_per_minute {
                self.add("t", who, rate, now, tokens.min(rate).into());
            }
            if quota.in_flight.is_some() {
                *self.in_flight.entry(("f", who.clone())).or_default() += 1;
            }
        }
        None
    }

    fn end(&mut self, rows: &Rows, tokens: u64, truly: u64, now: u64) {
        for (_, who, quota) in rows {
            if let Some(rate) = quota.tokens_per_minute {
                let aside = i128::from(tokens.min(rate));
                self.add("t", who, rate, now, i128::from(truly) - aside);
            }
            if quota.in_flight.is_some() {
                *self.in_flight.entry(("f", who.clone())).or_default() -= 1;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask {
        user: usize,
        model: usize,
        key: usize,
        tokens: u64,
    },
    /// Ends one of the calls under way, which took so many tokens.
    End {
        which: usize,
        truly: u64,
    },
    Wait(u64),
    /// Waits as long as the last refusal said, or a microsecond less.
    Obey {
        early: bool,
    },
}

fn number(range: Range<u32>) -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), range.prop_map(Some)]
}

fn per_scope(range: Range<u32>) -> impl Strategy<Value = PerScope> {
    let n = || number(range.clone());
    (n(), n(), n(), n(), n()).prop_map(|(key, user, tenant, model, global)| PerScope {
        key,
        user,
        tenant,
        model,
        global,
        address: None,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (per_scope(1..50), per_scope(1..20), per_scope(1..5000), per_scope(1..5)).prop_map(
        |(requests, burst, tokens_per_minute, in_flight)| {
            let PerScope { key, user, tenant, model, global, .. } = requests;
            let requests_per_minute = PerMinute { key, user, tenant, model, global, address: None };
            Settings { requests_per_minute, burst, tokens_per_minute, in_flight, ..Settings::default() }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let tokens = prop_oneof![0..100_u64, 0..10_000_u64];
    prop_oneof![
        6 => (0..3_usize, 0..2_usize, 0..2_usize, tokens.clone())
            .prop_map(|(user, model, key, tokens)| Step::Ask { user, model, key, tokens }),
        3 => (0..8_usize, tokens).prop_map(|(which, truly)| Step::End { which, truly }),
        2 => prop_oneof![0..SECOND, 0..MINUTE, 0..100 * MINUTE].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(|early| Step::Obey { early }),
    ]
}

proptest! {
    #[test]
    fn it_decides_as_the_reference_does(settings in settings(), steps in proptest::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new(&settings);
        let mut reference = Reference::default();
        let mut under_way: Vec<(Option<Held>, Rows, u64)> = Vec::new();
        let (mut last, mut told) = (None, 0);
        for step in steps {
            let (user, model, key, tokens) = match step {
                Step::Wait(micros) => {
                    bench.now += micros;
                    continue;
                }
                Step::End { which, truly } => {
                    if which < under_way.len() {
                        let (held, rows, tokens) = under_way.swap_remove(which);
                        if let Some(held) = held.filter(Held::counts_tokens) {
                            bench.settle(held, truly);
                        }
                        reference.end(&rows, tokens, truly, bench.now);
                    }
                    continue;
                }
                Step::Ask { user, model, key, tokens } => (user, model, key, tokens),
                Step::Obey { early } => {
                    let Some(again) = last else { continue };
                    bench.now += told - u64::from(early && told > 0);
                    again
                }
            };
            let who = Caller { user: Some(format!("u{user}").into()), ..Caller::named(&format!("k{key}"), "t") };
            let rows = rows(&settings, user, model, key);
            let expected = reference.ask(&rows, tokens, bench.now);
            let verdict = bench.ask_for(&who, &format!("m{model}"), tokens);
            match (verdict.admitted, expected) {
                (Ok(held), None) => {
                    under_way.push((held, rows, tokens));
                    (last, told) = (None, 0);
                }
                (Err(refused), Some(wait)) => {
                    prop_assert_eq!(refused.wait, Duration::from_micros(wait));
                    (last, told) = (Some((user, model, key, tokens)), wait);
                }
                (was, should) => prop_assert!(false, "{was:?}, but the reference says {should:?}"),
            }
        }
    }
}

fn rows(settings: &Settings, user: usize, model: usize, key: usize) -> Rows {
    let quota = |pick: fn(&PerScope) -> Option<u32>| {
        let PerMinute { key, user, tenant, model, global, address } = settings.requests_per_minute.clone();
        let requests = PerScope { key, user, address, tenant, model, global };
        Quota {
            requests_per_minute: pick(&requests),
            burst: pick(&settings.burst),
            tokens_per_minute: pick(&settings.tokens_per_minute).map(u64::from),
            in_flight: pick(&settings.in_flight),
        }
    };
    vec![
        ("user", format!("u{user}"), quota(|s| s.user)),
        ("key", format!("k{key}"), quota(|s| s.key)),
        ("tenant", "t".into(), quota(|s| s.tenant)),
        ("model", format!("m{model}"), quota(|s| s.model)),
        ("global", "all".into(), quota(|s| s.global)),
    ]
}
