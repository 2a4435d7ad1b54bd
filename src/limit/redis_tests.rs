//! The scripts decide as the counters of one process do. They are run in a
//! Redis of the test's own, with a clock of the test's own.
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proptest::{option, prelude::*, test_runner::TestRunner};
use redis::{Connection, Script};

use super::{
    bucket::Bucket,
    counters::{Ask, Asks, Counted, Counters},
    redis::{ADMIT, RELEASE, SETTLE, debts, leases, limits, read},
    scope::{Scope, Terms},
};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server() -> (Server, Connection) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let started = command.stdout(Stdio::null()).spawn();
    let server =
        Server(started.expect("Redis is here; run ./test as root once, it installs Debian's `redis-server`"));
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let began = Instant::now();
    loop {
        if let Ok(connection) = client.get_connection() {
            return (server, connection);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "Redis does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A script that goes by the key `now`.
fn clocked(script: &str) -> Script {
    let real = "local now = time[1] * 1000000 + time[2]";
    assert!(script.contains(real));
    Script::new(&script.replace(real, "local now = tonumber(redis.call('GET', 'now'))"))
}

#[derive(Clone, Debug)]
enum Step {
    Ask { who: u64, tokens: u64 },
    End { which: usize, truly: u64 },
    Wait(u64),
}

fn terms() -> impl Strategy<Value = Terms> {
    let bucket = |most: u64| (1..most, option::of(1..most)).prop_map(|(per, burst)| Bucket::new(per, burst));
    let tokens = (1..5000_u64).prop_map(|per| Bucket::new(per, None));
    (option::of(bucket(50)), option::of(tokens), option::of(1..4_u32))
        .prop_map(|(requests, tokens, in_flight)| Terms { requests, tokens, in_flight })
}

fn step() -> impl Strategy<Value = Step> {
    let tokens = || prop_oneof![0..100_u64, 0..10_000_u64];
    prop_oneof![
        6 => (0..3_u64, tokens()).prop_map(|(who, tokens)| Step::Ask { who, tokens }),
        3 => (0..6_usize, tokens()).prop_map(|(which, truly)| Step::End { which, truly }),
        2 => prop_oneof![0..1_000_000_u64, 0..60_000_000_u64, 0..6_000_000_000_u64].prop_map(Step::Wait),
    ]
}

fn name(ask: &Ask) -> String {
    format!("{}:{}", ask.scope.name(), ask.id[0])
}

fn asks(terms: [Terms; 3], who: u64) -> Asks {
    let mut asks = Asks::default();
    let rows = [(Scope::User, who), (Scope::Key, who % 2), (Scope::Global, 0)];
    for ((scope, who), terms) in rows.into_iter().zip(terms) {
        asks.push(Ask { scope, terms, id: [who, scope as u64 * 100 + who] });
    }
    asks
}

#[test]
fn redis_decides_as_one_process_does() {
    let (_server, mut connection) = server();
    let redis = &mut connection;
    let (admit, settle, release) = (clocked(ADMIT), clocked(SETTLE), Script::new(RELEASE));
    let schedule = ([terms(), terms(), terms()], proptest::collection::vec(step(), 1..60));
    let cases = ProptestConfig { cases: 64, ..ProptestConfig::default() };
    // Far from nothing, as a real clock is.
    let mut start = 1_700_000_000_000_000_u64;
    let redis = std::cell::RefCell::new(redis);
    let start = std::cell::RefCell::new(&mut start);
    let run = TestRunner::new(cases).run(&schedule, |(terms, steps)| {
        let mut redis = redis.borrow_mut();
        let mut now = **start.borrow();
        redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
        let mut counters = Counters::default();
        let mut under_way: Vec<(Asks, u64, u64)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u64;
            redis::cmd("SET").arg("now").arg(now).exec(&mut redis).unwrap();
            match step {
                Step::Wait(micros) => now += micros,
                Step::Ask { who, tokens } => {
                    let asks = asks(terms, who);
                    let mut call = admit.prepare_invoke();
                    // Leases that do not end by themselves here: the reference has none.
                    call.arg(tokens).arg(number).arg(1_000_000_000_000_u64);
                    for ask in asks.iter() {
                        call.key(debts(&name(ask))).key(leases(&name(ask)));
                        limits(&mut call, &ask.terms);
                    }
                    let told: Vec<i64> = call.invoke(&mut redis).unwrap();
                    let there: Counted = read(&asks, &told);
                    let here = counters.admit(&asks, tokens, now, 1000);
                    prop_assert_eq!(here, there);
                    if here.refused.is_none() {
                        under_way.push((asks, tokens, number));
                    }
                }
                Step::End { which, truly } if which < under_way.len() => {
                    let (asks, aside, lease) = under_way.swap_remove(which);
                    counters.settle(&asks, aside, truly, now, 1000);
                    counters.release(&asks);
                    let (mut settling, mut releasing) = (settle.prepare_invoke(), release.prepare_invoke());
                    settling.arg(aside).arg(truly);
                    releasing.arg(lease);
                    for ask in asks.iter().filter(|ask| ask.terms.tokens.is_some()) {
                        settling.key(debts(&name(ask)));
                        limits(&mut settling, &ask.terms);
                    }
                    for ask in asks.iter() {
                        releasing.key(leases(&name(ask)));
                    }
                    settling.invoke::<()>(&mut redis).unwrap();
                    releasing.invoke::<()>(&mut redis).unwrap();
                }
                Step::End { .. } => {}
            }
        }
        **start.borrow_mut() = now;
        Ok(())
    });
    run.unwrap();
}

#[test]
fn keys_end_by_themselves_and_leases_too() {
    let (_server, mut connection) = server();
    let redis = &mut connection;
    let terms = Terms { requests: Some(Bucket::new(60, None)), tokens: None, in_flight: Some(1) };
    let script = Script::new(ADMIT);
    let ask = |redis: &mut Connection, lease: u64, lasts: u64| -> i64 {
        let mut call = script.prepare_invoke();
        call.arg(0).arg(lease).arg(lasts).key("debts").key("leases");
        limits(&mut call, &terms);
        call.invoke::<Vec<i64>>(redis).unwrap()[0]
    };
    assert_eq!(ask(redis, 1, 50_000), 0);
    assert_eq!(ask(redis, 2, 50_000), 1_000_000, "one is in flight");
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(ask(redis, 3, 60_000_000), 0, "its gateway has died");
    for (key, least, most) in [("debts", 1000, 3000), ("leases", 60_000, 61_000)] {
        let left: i64 = redis::cmd("PTTL").arg(key).query(redis).unwrap();
        assert!((least..=most).contains(&left), "{key}: {left}");
    }
}
