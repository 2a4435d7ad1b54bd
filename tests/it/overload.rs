//! Five times as much as there is room for. `SLUICE_OVERLOAD_SECONDS` sets how
//! long; 3 by default.
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, ms};

/// What the provider can take: so many at the same time, each for so long.
const PLACES: usize = 10;
const SERVICE: Duration = ms(100);
const CAPACITY: u64 = PLACES as u64 * 1000 / SERVICE.as_millis() as u64;

struct Told {
    priority: &'static str,
    status: u16,
    took: Duration,
    retry_after: bool,
}

async fn ask(address: SocketAddr, priority: &'static str) -> Told {
    let body = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    let began = Instant::now();
    let ask = Ask::new(address, "POST", "/v1/chat/completions").header("x-priority", priority);
    let answer = ask.json(&body).send().await;
    let retry_after = answer.header("retry-after").is_some();
    Told { priority, status: answer.status, took: began.elapsed(), retry_after }
}

/// So many a second for so long, whatever becomes of them: 1 in 10 urgent, 3 in 10 not.
async fn offer(address: SocketAddr, per_second: u64, time: Duration) -> Vec<Told> {
    let (began, mut asks) = (Instant::now(), JoinSet::new());
    for number in 0..per_second * time.as_millis() as u64 / 1000 {
        let at = began + Duration::from_micros(number * 1_000_000 / per_second);
        tokio::time::sleep_until(at.into()).await;
        let priority = ["high", "low", "low", "low"].get(number as usize % 10).unwrap_or(&"normal");
        asks.spawn(ask(address, priority));
    }
    asks.join_all().await
}

/// The middle, and all but one in a hundred.
fn quantiles(times: impl Iterator<Item = Duration>) -> (Duration, Duration) {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    (at(50).copied().unwrap_or_default(), at(99).copied().unwrap_or_default())
}

async fn overload(gateway: &Gateway) {
    let seconds: u64 = std::env::var("SLUICE_OVERLOAD_SECONDS").map_or(3, |text| text.parse().unwrap());
    let address = gateway.address;
    // The peak: as much as the provider takes, asked by as many as it has places for.
    let (began, time) = (Instant::now(), Duration::from_secs(2));
    let mut closed = JoinSet::new();
    for _ in 0..PLACES {
        closed.spawn(async move {
            let mut answers = 0;
            while began.elapsed() < time {
                answers += u64::from(ask(address, "normal").await.status == 200);
            }
            answers
        });
    }
    let peak = closed.join_all().await.into_iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64();

    let began = Instant::now();
    let told = offer(address, CAPACITY * 5, Duration::from_secs(seconds)).await;
    let goodput = told.iter().filter(|one| one.status == 200).count() as f64 / began.elapsed().as_secs_f64();
    let refusals = told.iter().filter(|one| one.status == 503);
    let (middle, most) = quantiles(refusals.clone().map(|one| one.took));
    let urgent = told.iter().filter(|one| one.priority == "high");
    let answered = urgent.clone().filter(|one| one.status == 200).count();
    let (urgent_middle, urgent_most) = quantiles(urgent.clone().map(|one| one.took));
    println!(
        "peak {peak:.0}/s, goodput {goodput:.0}/s of {}/s offered; refused in {middle:?}, 99 % in {most:?}; \
         urgent: {answered} of {} in {urgent_middle:?}, 99 % in {urgent_most:?}",
        CAPACITY * 5,
        urgent.clone().count(),
    );
    assert!(goodput >= 0.8 * peak, "{goodput} of {peak} a second");
    assert!(told.iter().all(|one| matches!(one.status, 200 | 503)));
    assert!(refusals.clone().all(|one| one.retry_after));
    // Far from the two seconds for which one waits; in calm, it is a millisecond.
    assert!(middle < ms(200), "refused in {middle:?}");
    // How long a refusal takes depends on the machine, whether it comes at the door does not.
    let (mut door, mut late) = (0.0, 0.0);
    for priority in ["low", "normal"] {
        for reason in ["queue_full", "displaced", "queue_wait"] {
            let labels = [("reason", reason), ("priority", priority)];
            let many = gateway.metric("sluice_calls_shed_total", &labels).await;
            *(if reason == "queue_full" { &mut door } else { &mut late }) += many;
        }
    }
    println!("{late} refused after a wait, {door} at the door");
    assert!(late * 10.0 <= door, "{late} refused after a wait, {door} at the door");
    assert_eq!(answered, urgent.count(), "urgent calls are not refused");
    assert!(urgent_middle < SERVICE * 4, "urgent calls take {urgent_middle:?}");

    let calm = Instant::now();
    let mut quick = 0;
    while quick < 5 {
        let one = ask(address, "low").await;
        quick = if one.status == 200 && one.took < SERVICE * 3 { quick + 1 } else { 0 };
        assert!(calm.elapsed() < Duration::from_secs(5), "not as before 5 s after");
    }
    println!("as before after {:?}", calm.elapsed().saturating_sub(SERVICE * 5));
}

fn patient() -> Value {
    json!({"timeouts": {"first_token": "20s", "idle": "20s"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_are_answered_as_without_it_and_the_rest_is_told_at_once() {
    let upstream = Upstream::start(Act::default().after(SERVICE)).await.with_places(PLACES);
    let places = json!({"admit": {"max_in_flight": PLACES, "per_model_percent": 100}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient()).set(&places).start().await;
    overload(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_that_nobody_wrote_down_is_found() {
    let upstream = Upstream::start(Act::default().after(SERVICE)).await.with_places(PLACES);
    let gateway = Setup::one(Wire::OpenAi, &upstream)
        .set(&patient())
        .set(&json!({"admit": {"adaptive": true}}))
        .start()
        .await;
    overload(&gateway).await;
    let places = gateway.metric("sluice_places", &[("kind", "provider"), ("name", "primary")]).await;
    println!("{places} places for {PLACES}");
    assert!((4.0..100.0).contains(&places), "{places} places for {PLACES}");
}
