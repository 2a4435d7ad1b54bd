//! A provider that fails as real ones do, under load, with a fallback.
//! `SLUICE_CHAOS_SECONDS` sets how long; 5 by default.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Act, Answer, Setup, Upstream, Wire, client::Ask, ms, soon, upstream::Chances};

const PER_SECOND: u64 = 300;
const TEXT: &str = "Right answer.";

#[tokio::test(flavor = "multi_thread")]
async fn at_least_999_of_1000_answers_are_right_and_nothing_leaks() {
    let seconds =
        std::env::var("SLUICE_CHAOS_SECONDS").map_or(5, |text| text.parse().expect("whole seconds"));
    let primary = Upstream::start(Act::say(TEXT).after(ms(5))).await;
    primary.misbehave(Chances { cut: 3, failed: 5, busy: 5 }, 42);
    let spare = Upstream::start(Act::say(TEXT).after(ms(5))).await;
    let settings = json!({
        "retry": {"attempts": 3, "base": "20ms", "cap": "100ms", "budget_percent": 10},
        "timeouts": {"first_token": "5s", "idle": "5s"},
    });
    let gateway = Setup::two(&primary, Wire::OpenAi, &spare).set(&settings).start().await;
    gateway.get("/health").await;
    let idle = gateway.sockets();

    let right = Arc::new(AtomicUsize::new(0));
    let mut asks = tokio::task::JoinSet::new();
    let began = Instant::now();
    let total = PER_SECOND * seconds;
    for number in 0..total {
        tokio::time::sleep_until((began + Duration::from_micros(number * 1_000_000 / PER_SECOND)).into())
            .await;
        let (address, right) = (gateway.address, right.clone());
        asks.spawn(async move {
            let stream = number % 2 == 0;
            let messages = json!([{"role": "user", "content": format!("question {number}")}]);
            let body = json!({"model": "main", "messages": messages, "stream": stream});
            let ask = Ask::new(address, "POST", "/v1/chat/completions").json(&body);
            right.fetch_add(usize::from(is_right(&ask.send().await, stream)), Relaxed);
        });
    }
    while asks.join_next().await.is_some() {}

    let (right, total) = (right.load(Relaxed), total as usize);
    let calls = primary.asked() + spare.asked();
    println!("{right} of {total} right; {calls} upstream calls: {} at the primary", primary.asked());
    assert!(right * 1000 >= total * 999, "{right} of {total} answers are right");
    assert!(calls * 10 <= total * 12, "{calls} upstream calls for {total} questions");
    assert!(soon(ms(3000), || primary.busy() + spare.busy() == 0).await, "upstream calls are left");
    // What is kept for reuse at the upstreams is no leak; clients' sockets would be.
    let kept = || primary.open() + spare.open();
    assert!(
        soon(ms(3000), || gateway.sockets() <= idle + kept()).await,
        "{} sockets, {} kept",
        gateway.sockets(),
        kept()
    );
    assert!(kept() < 300, "{} connections are kept", kept());
}

fn is_right(answer: &Answer, stream: bool) -> bool {
    if answer.status != 200 {
        return false;
    }
    let text = answer.text();
    if !stream {
        return answer.json()["choices"][0]["message"]["content"] == TEXT;
    }
    let chunks = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok());
    let said: String =
        chunks.filter_map(|c| Some(c["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect();
    said == TEXT && text.trim_end().ends_with("data: [DONE]")
}
