//! Who gets a place: by priority, fair between tenants, within the client's own
//! time, and never at the cost of another model.
use serde_json::{Value, json};

use crate::support::{Act, Answer, Gateway, Setup, Sse, Upstream, Wire, client::Ask, key, ms, soon};

fn chat(text: &str) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": text}]})
}

/// A stream that has begun and never ends by itself.
async fn occupant(gateway: &Gateway, upstream: &Upstream) -> Sse {
    upstream.script([Act::default().hang_after(4)]);
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "I stay", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    stream
}

async fn count(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> u64 {
    gateway.metric(name, labels).await as u64
}

fn one_place() -> Value {
    json!({
        "admit": {"max_in_flight": 1, "queue": 16, "queue_wait": "20s"},
        "timeouts": {"idle": "20s", "first_token": "20s", "total": "30s"},
    })
}

/// Sends it, and returns when it stands in the queue as the `nth`.
async fn queued(gateway: &Gateway, ask: Ask, nth: usize) -> tokio::task::JoinHandle<Answer> {
    let task = tokio::spawn(ask.send());
    for _ in 0..500 {
        if gateway.metric("sluice_calls_waiting", &[]).await >= nth as f64 {
            return task;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("the {nth}th never came to wait");
}

/// What the provider was asked, in order, less the occupant's.
fn order(upstream: &Upstream) -> Vec<String> {
    let text = |body: &Value| {
        body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().into()
    };
    upstream.seen().iter().skip(1).map(|seen| text(&seen.body)).collect()
}

#[tokio::test]
async fn the_more_urgent_comes_first_whichever_api_it_asks() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&one_place()).start().await;
    let stays = occupant(&gateway, &upstream).await;
    let native = |text: &str, priority: &str| {
        let body = json!({"question": text, "user_id": "u", "mode": "chat", "priority": priority});
        gateway.ask("POST", "/query").json(&body)
    };
    let openai = |text: &str| gateway.ask("POST", "/v1/chat/completions").json(&chat(text));
    let asks = [
        native("low", "low"),
        openai("normal"),
        openai("high").header("x-priority", "high"),
        native("high too", "high").header("x-priority", "low"),
    ];
    let mut tasks = Vec::new();
    for (nth, ask) in asks.into_iter().enumerate() {
        tasks.push(queued(&gateway, ask, nth + 1).await);
    }
    let waiting = |priority| [("priority", priority)];
    assert_eq!(count(&gateway, "sluice_calls_waiting", &waiting("high")).await, 2);
    assert_eq!(count(&gateway, "sluice_calls_waiting", &waiting("low")).await, 1);
    drop(stays);
    for task in tasks {
        task.await.unwrap().expect(200);
    }
    assert_eq!(order(&upstream), ["high", "high too", "normal", "low"]);
    assert_eq!(count(&gateway, "sluice_queue_wait_seconds_count", &[]).await, 4);
    openai("x").header("x-priority", "urgent").send().await.expect(400);
}

#[tokio::test]
async fn a_flood_of_one_tenant_does_not_hold_up_another() {
    let upstream = Upstream::answering().await;
    let (mut a, mut b) = (key("a", "sk-a"), key("b", "sk-b"));
    (a["tenant"], b["tenant"]) = ("a".into(), "b".into());
    let setup = Setup::one(Wire::OpenAi, &upstream).set(&one_place());
    let gateway = setup.set(&json!({"auth": {"keys": [a, b]}, "admit": {"queue": 6}})).start().await;
    upstream.script([Act::default().hang_after(4)]);
    let stays =
        gateway.ask("POST", "/stream").bearer("sk-a").json(&json!({"prompt": "I stay", "mode": "chat"}));
    let mut stays = stays.stream().await;
    stays.next().await.unwrap();
    let ask =
        |key: &str, text: &str| gateway.ask("POST", "/v1/chat/completions").bearer(key).json(&chat(text));
    let mut flood = Vec::new();
    for nth in 1..=6 {
        flood.push(queued(&gateway, ask("sk-a", &format!("a{nth}")), nth).await);
    }
    ask("sk-a", "a7").send().await.expect(503);
    // The queue is full of the other's calls: the youngest of those makes room.
    let b = tokio::spawn(ask("sk-b", "b1").send());
    let displaced = flood.pop().unwrap().await.unwrap();
    assert_eq!(displaced.expect(503)["error"]["code"], "overloaded");
    assert!(displaced.header("retry-after").is_some());
    drop(stays);
    b.await.unwrap().expect(200);
    for task in flood {
        task.await.unwrap().expect(200);
    }
    assert_eq!(order(&upstream), ["a1", "b1", "a2", "a3", "a4", "a5"]);
    let shed = |reason| [("reason", reason), ("priority", "normal")];
    assert_eq!(count(&gateway, "sluice_calls_shed_total", &shed("displaced")).await, 1);
    assert_eq!(count(&gateway, "sluice_calls_shed_total", &shed("queue_full")).await, 1);
}

#[tokio::test]
async fn the_clients_own_time_bounds_every_attempt_and_speaks_against_nobody() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream)
        .set(&json!({"timeouts": {"idle": "20s", "first_token": "20s", "total": "20s"}}))
        .start()
        .await;
    let ask = |text: &str| gateway.ask("POST", "/v1/chat/completions").json(&chat(text));
    // The second attempt has what time is left. More often than the breaker takes failures:
    upstream.script([Act::failed()]);
    for _ in 0..6 {
        upstream.script([Act::hang()]);
        let late = ask("Hi").header("x-request-timeout-ms", "150").send().await;
        assert_eq!(late.expect(504)["error"]["code"], "deadline_exceeded");
        upstream.gone(ms(2000)).await;
    }
    assert_eq!(upstream.asked(), 7);
    ask("Hi").send().await.expect(200);
    upstream.script([Act::default().hang_after(4)]);
    let stream = gateway.ask("POST", "/stream").json(&json!({"prompt": "Hi", "mode": "chat"}));
    let messages = stream.header("x-request-timeout-ms", "150").stream().await.messages().await;
    assert_eq!(&messages[messages.len() - 2..], ["[TIMEOUT]", "[DONE]"]);
    for nonsense in ["0", "-1", "1.5", "soon", ""] {
        let refused = ask("Hi").header("x-request-timeout-ms", nonsense).send().await;
        assert!(refused.expect(400)["error"]["message"].as_str().unwrap().contains("x-request-timeout-ms"));
    }
    ask("Hi").header("x-request-timeout-ms", "999999999999").send().await.expect(200);
}

#[tokio::test]
async fn who_has_no_time_to_wait_is_told_so_when_it_is_over() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&one_place()).start().await;
    let _stays = occupant(&gateway, &upstream).await;
    let ask = gateway.ask("POST", "/v1/chat/completions").json(&chat("Hi"));
    let late = ask.header("x-request-timeout-ms", "100").send().await;
    assert_eq!(late.expect(504)["error"]["code"], "deadline_exceeded");
    assert_eq!(upstream.asked(), 1);
    assert_eq!(count(&gateway, "sluice_calls_shed_total", &[("reason", "deadline")]).await, 1);
}

#[tokio::test]
async fn a_slow_model_takes_no_places_from_the_others() {
    let (slow, quick) = (Upstream::start(Act::hang()).await, Upstream::answering().await);
    let settings = json!({
        "admit": {"max_in_flight": 8, "queue": 4, "queue_wait": "20s"},
        "models": {"other": {"targets": [{"provider": "spare", "model": "model-b"}]}, "main": {"fallback": []}},
        "timeouts": {"first_token": "20s"},
    });
    let gateway = Setup::two(&slow, Wire::OpenAi, &quick).set(&settings).start().await;
    let mut held: Vec<_> = (0..16)
        .map(|_| tokio::spawn(gateway.ask("POST", "/v1/chat/completions").json(&chat("Hi")).send()))
        .collect();
    assert!(soon(ms(5000), || slow.busy() == 6).await, "{} of 6 places", slow.busy());
    // Ten more: four wait, and the others are refused at once.
    assert!(soon(ms(5000), || held.iter().filter(|task| task.is_finished()).count() == 6).await);
    held.retain(|task| !task.is_finished());
    for _ in 0..4 {
        let mut body = chat("Hi");
        body["model"] = "other".into();
        gateway.post("/v1/chat/completions", &body).await.expect(200);
    }
    assert_eq!(count(&gateway, "sluice_places_taken", &[("kind", "model"), ("name", "main")]).await, 6);
    assert_eq!(slow.busy(), 6);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_provider_at_its_bound_passes_calls_on_and_is_none_the_worse_for_it() {
    let (primary, spare) = (Upstream::answering().await, Upstream::answering().await);
    let bound = json!({"providers": {"primary": {"max_in_flight": 1}}, "timeouts": {"idle": "20s"}});
    let gateway = Setup::two(&primary, Wire::OpenAi, &spare).set(&bound).start().await;
    let stays = occupant(&gateway, &primary).await;
    for _ in 0..10 {
        gateway.post("/v1/chat/completions", &chat("Hi")).await.expect(200);
    }
    assert_eq!((primary.asked(), spare.asked()), (1, 10));
    assert_eq!(count(&gateway, "sluice_breaker_state", &[]).await, 0);
    // The only target is waited for.
    let mut solo = chat("Hi");
    solo["model"] = "solo".into();
    let waits = queued(&gateway, gateway.ask("POST", "/v1/chat/completions").json(&solo), 1).await;
    drop(stays);
    waits.await.unwrap().expect(200);
    assert_eq!(primary.asked(), 2);
}

#[tokio::test]
async fn a_reload_resizes_and_who_waits_goes_on_waiting() {
    let upstream = Upstream::answering().await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&one_place()).start().await;
    let _stays = occupant(&gateway, &upstream).await;
    let waits = queued(&gateway, gateway.ask("POST", "/v1/chat/completions").json(&chat("Hi")), 1).await;
    gateway.rewrite(&json!({"admit": {"max_in_flight": 2, "per_model_percent": 100}}));
    waits.await.unwrap().expect(200);
    assert_eq!(count(&gateway, "sluice_calls_in_flight", &[]).await, 1);
    assert_eq!(count(&gateway, "sluice_places", &[("kind", "all")]).await, 2);
}
