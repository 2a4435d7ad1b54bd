//! Limits that several gateways share over one Redis, and what holds while it is away.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, ms, servers::Redis, soon};

fn question(user: &str) -> Value {
    json!({"question": "Hi", "user_id": user, "mode": "chat"})
}

/// A gateway that counts in `redis`.
async fn gateway(upstream: &Upstream, redis: &Redis, limits: &Value) -> Gateway {
    let settings = json!({"limits": limits, "store": {"redis": {"env": "TEST_REDIS"}}});
    Setup::one(Wire::OpenAi, upstream).set(&settings).env("TEST_REDIS", &redis.url()).start().await
}

/// What became of requests at a steady pace.
#[derive(Default)]
struct Seen {
    admitted: AtomicUsize,
    refused: AtomicUsize,
    other: AtomicUsize,
    slowest_ms: AtomicUsize,
}

/// Asks the gateways in turn, one request every two milliseconds.
async fn offer(
    gateways: &[SocketAddr],
    many: u32,
    mut meanwhile: impl AsyncFnMut(u32),
) -> (Arc<Seen>, Duration) {
    let seen = Arc::new(Seen::default());
    let mut asks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for number in 0..many {
        tokio::time::sleep_until((began + ms(2) * number).into()).await;
        meanwhile(number).await;
        let (address, seen) = (gateways[number as usize % gateways.len()], seen.clone());
        asks.spawn(async move {
            let asked = Instant::now();
            let answer = Ask::new(address, "POST", "/query").json(&question("u1")).send().await;
            let count = match answer.status {
                200 => &seen.admitted,
                429 => &seen.refused,
                _ => &seen.other,
            };
            count.fetch_add(1, Relaxed);
            seen.slowest_ms.fetch_max(asked.elapsed().as_millis() as usize, Relaxed);
        });
    }
    while let Some(asked) = asks.join_next().await {
        asked.unwrap();
    }
    (seen, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_admit_together_what_one_may() {
    let (upstream, redis) = (Upstream::answering().await, Redis::start().await);
    let limits = json!({"requests_per_minute": {"user": 6000}, "burst": {"user": 20}});
    let one = gateway(&upstream, &redis, &limits).await;
    let two = gateway(&upstream, &redis, &limits).await;
    let (seen, took) = offer(&[one.address, two.address], 1500, async |_| {}).await;
    assert_eq!(upstream.asked(), seen.admitted.load(Relaxed));
    assert_eq!(seen.other.load(Relaxed), 0);
    let (admitted, took) = (seen.admitted.load(Relaxed) as f64, took.as_secs_f64());
    let alone = one.metric("sluice_limit_decisions_total", &[("source", "local")]).await
        + two.metric("sluice_limit_decisions_total", &[("source", "local")]).await;
    // A machine that is too busy to answer Redis in time decides alone, and then a little more is admitted.
    assert!(admitted <= 21.0 + 101.0 * took + alone, "{admitted} in {took} s, {alone} alone");
    assert!(admitted >= 20.0 + 90.0 * 3.0, "{admitted} in {took} s");
}

#[tokio::test]
async fn tokens_and_calls_in_flight_are_shared_and_given_back() {
    let (upstream, redis) = (Upstream::start(Act::default().hang_after(4)).await, Redis::start().await);
    let limits = json!({"in_flight": {"user": 1}, "tokens_per_minute": {"global": 5000}});
    let one = gateway(&upstream, &redis, &limits).await;
    let two = gateway(&upstream, &redis, &limits).await;
    let mut stream = one.stream("/stream", &question("u1")).await;
    stream.next().await.unwrap();
    let refused = two.post("/query", &question("u1")).await;
    refused.expect(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    upstream.set_default(Act::default().usage(Some((300, 400))));
    drop(stream);
    let mut answer = two.post("/query", &question("u1")).await;
    for _ in 0..100 {
        if answer.status == 200 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
        answer = two.post("/query", &question("u1")).await;
    }
    answer.expect(200);
    // Both have ended: what was set aside is back, what they took is gone.
    let mut left = 0;
    for _ in 0..100 {
        let answer = one.post("/query", &question("u2")).await;
        left = answer.header("x-ratelimit-remaining-tokens").unwrap().parse::<i64>().unwrap();
        if (2000..4300).contains(&left) {
            break;
        }
        tokio::time::sleep(ms(50)).await;
    }
    assert!((2000..4300).contains(&left), "{left}");
    let names: Vec<String> = redis.ask(redis::cmd("KEYS").arg("sluice:{limits}:*")).await;
    assert!(!names.is_empty());
    assert!(names.iter().all(|name| !name.contains("u1")), "{names:?}");
    for name in names {
        let left: i64 = redis.ask(redis::cmd("PTTL").arg(&name)).await;
        assert!(left > 0, "{name} does not end");
    }
}

/// Traffic while something happens to Redis, and what must hold all the time.
async fn through(trouble: impl AsyncFnOnce(&mut Redis), end: impl AsyncFnOnce(&mut Redis)) {
    let (upstream, mut redis) = (Upstream::answering().await, Redis::start().await);
    let limits = json!({"requests_per_minute": {"user": 6000}, "burst": {"user": 20}});
    let gateway = gateway(&upstream, &redis, &limits).await;
    let decided =
        async |source: &str| gateway.metric("sluice_limit_decisions_total", &[("source", source)]).await;
    let (mut trouble, mut end) = (Some(trouble), Some(end));
    let (seen, took) = offer(&[gateway.address], 1500, async |number| {
        if number == 500
            && let Some(trouble) = trouble.take()
        {
            trouble(&mut redis).await;
        }
        if number == 1000
            && let Some(end) = end.take()
        {
            end(&mut redis).await;
        }
    })
    .await;
    assert_eq!(seen.other.load(Relaxed), 0, "no 5xx");
    assert!(decided("local").await > 0.0);
    let (admitted, took) = (seen.admitted.load(Relaxed) as f64, took.as_secs_f64());
    // One gateway: what it counted itself held all the time. A Redis that comes
    // back empty may give the burst once more.
    assert!(admitted <= 21.0 + 101.0 * took + 40.0, "{admitted} in {took} s");
    assert!(admitted >= 90.0 * 3.0, "{admitted} in {took} s");
    let slowest = seen.slowest_ms.load(Relaxed);
    assert!(slowest < 2000, "{slowest} ms");
    let before = decided("redis").await;
    let began = Instant::now();
    loop {
        gateway.post("/query", &question("u2")).await;
        if decided("redis").await > before {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "Redis is not asked again");
        tokio::time::sleep(ms(50)).await;
    }
    assert!(soon(ms(1000), || gateway.log().contains("Redis is back")).await);
    assert!(gateway.log().matches("Redis is away").count() <= 3, "a line a change of state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_lets_a_gateway_go_on_alone() {
    through(async |redis| redis.freeze(), async |redis| redis.thaw()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_lets_a_gateway_go_on_alone() {
    through(async |redis| redis.kill(), async |redis| redis.restart().await).await;
}
