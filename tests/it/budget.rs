//! Money: what is spent never passes a cap, and the books are exact. Asserted
//! against what the provider has seen.
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sluice::{
    budget::{Settings, bound::Bound},
    chat::{Message, Request, Role},
    tokens,
};
use tempfile::TempDir;

use crate::support::{
    Act, Answer, Gateway, Setup, Sse, Upstream, Wire, client::Ask, key, ms, servers::Redis, soon,
    upstream::Seen,
};

/// Billionths of a dollar for a token read, and for one written.
const INPUT: u64 = 1000;
const OUTPUT: u64 = 2000;

/// Asks models, and may see what is spent.
const KEY: &str = "sk-operator";

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    gateway.ask("POST", path).bearer(KEY).json(body).send().await
}

async fn streamed(gateway: &Gateway, path: &str, body: &Value) -> Sse {
    gateway.ask("POST", path).bearer(KEY).json(body).stream().await
}

/// A gateway in front of `upstream`, whose models cost a dollar and two per million tokens.
fn setup(upstream: &Upstream, budget: &Value) -> (Setup, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.yaml");
    let list = "models:\n  model-a: {input: 1, output: 2}\n  model-b: {input: 1, output: 3}\n  embed-a: {input: 1, output: 0}\nunknown: {input: 5, output: 15}\n";
    std::fs::write(&prices, list).unwrap();
    let mut row = key("operator", KEY);
    row["roles"] = json!(["app", "admin"]);
    let setup = Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": [row]}}))
        .set(&json!({"prices": prices, "budget": budget, "timeouts": {"first_token": "20s", "idle": "20s", "total": "30s"}}));
    (setup, folder)
}

fn global(usd: f64) -> Value {
    json!({"global": {"month_usd": usd}})
}

fn chat(text: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": text}]);
    json!({"model": "main", "messages": messages, "stream": stream, "max_tokens": 20})
}

fn nanos(usd: &Value) -> u64 {
    (usd.as_f64().unwrap() * 1e9).round() as u64
}

/// Spent, reserved and unsettled of a budget, in billionths of a dollar.
async fn books(gateway: &Gateway, scope: &str, period: &str) -> (u64, u64, u64) {
    let listed = gateway.get_as(KEY, "/admin/budgets").await.expect(200);
    let found = listed["budgets"].as_array().unwrap().iter();
    let mut found = found.filter(|one| one["scope"] == scope && one["period"] == period);
    found.next().map_or((0, 0, 0), |one| {
        (nanos(&one["spent_usd"]), nanos(&one["reserved_usd"]), nanos(&one["unsettled_usd"]))
    })
}

/// The books when nothing is set aside any more.
async fn settled(gateway: &Gateway) -> (u64, u64) {
    for _ in 0..2000 {
        let (spent, reserved, unsettled) = books(gateway, "global", "month").await;
        if reserved == 0 {
            return (spent, unsettled);
        }
        tokio::time::sleep(ms(5)).await;
    }
    panic!("money is still set aside: {:?}", books(gateway, "global", "month").await);
}

fn question(seen: &Seen) -> String {
    seen.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned()
}

/// What the gateway counts of a call whose provider told nothing.
fn estimate(question: &str, answer: &str) -> u64 {
    let chat = Request { messages: vec![Message::new(Role::User, question)], ..Request::default() };
    let usage = tokens::estimate(&chat, answer, None);
    usage.input * INPUT + usage.output * OUTPUT
}

fn bill((input, output): (u32, u32)) -> u64 {
    u64::from(input) * INPUT + u64::from(output) * OUTPUT
}

/// Failures, hangs and answers by the number in the question; each kind comes whole and streamed.
fn mixed(upstream: &Upstream) {
    let asked: Mutex<HashMap<String, u32>> = Mutex::default();
    upstream.choose(move |seen| {
        let question = question(seen);
        let times = {
            let mut asked = asked.lock().unwrap();
            let times = asked.entry(question.clone()).or_default();
            *times += 1;
            *times
        };
        let number: u32 = question.rsplit(' ').next().unwrap().parse().unwrap();
        match (number / 2 % 8, times) {
            // The first attempt fails, the second answers.
            (0, 1) => Act::failed(),
            // Breaks off within the answer: the question was read.
            (1, 1) => Act::default().cut_at(150),
            (2, 1) => Act::busy(None),
            // All attempts fail.
            (3, _) => Act::failed(),
            // The client leaves.
            (4, _) if seen.body["stream"] == true => Act::default().hang_after(4),
            _ => Act::default().after(ms(2)),
        }
    });
}

/// Asks; where the provider hangs, leaves when what it said has come. Tells that text.
async fn ask(address: std::net::SocketAddr, number: u32) -> (Option<Answer>, Option<String>) {
    let stream = number % 2 == 1;
    let ask = Ask::new(address, "POST", "/v1/chat/completions")
        .bearer(KEY)
        .json(&chat(&format!("case {number}"), stream));
    if !(stream && number / 2 % 8 == 4) {
        return (Some(ask.send().await), None);
    }
    let mut events = ask.stream().await;
    if events.head.status != 200 {
        return (None, None);
    }
    let mut said = String::new();
    // Four events of the upstream: who speaks, and three pieces of five letters.
    while said.len() < 15 {
        let event = events.next().await.expect("more is to come").json();
        said += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    (None, Some(said))
}

/// The most that a call may cost, which is charged where nobody knows what the provider bills.
fn most(question: &str) -> u64 {
    let messages = vec![Message::new(Role::User, question)];
    let chat = Request { messages, max_tokens: Some(20), ..Request::default() };
    let bound = Bound::of(&chat, &Settings::default()).unwrap();
    bound.input * INPUT + bound.output * OUTPUT
}

/// A whole answer that broke off: the provider may have written all of it.
fn is_unknown(seen: &Seen) -> bool {
    seen.billed.is_none() && seen.body["stream"] != true
}

/// What the provider bills for all that it has seen, by its own words or by the text that left it.
fn billed(upstream: &Upstream, said: &str) -> u64 {
    let one = |seen: &Seen| match seen.billed {
        Some(tokens) => bill(tokens),
        None if is_unknown(seen) => most(&question(seen)),
        None if seen.gone.is_some() => estimate(&question(seen), said),
        None => estimate(&question(seen), ""),
    };
    upstream.seen().iter().map(one).sum()
}

/// A thousand calls at once, over all gateways in turn. What is spent is what was billed, and the
/// cap is never passed.
async fn a_thousand_calls(gateways: &[&Gateway], upstream: &Upstream, cap: u64) {
    let mut asks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        asks.spawn(ask(gateways[number as usize % gateways.len()].address, number));
    }
    let (over, passed) = (AtomicBool::new(false), AtomicBool::new(false));
    let watch = async {
        while !over.load(SeqCst) {
            let (spent, reserved, _) = books(gateways[0], "global", "month").await;
            passed.fetch_or(spent + reserved > cap, SeqCst);
            tokio::time::sleep(ms(5)).await;
        }
    };
    let (mut answered, mut refused, mut said) = (0, 0, String::new());
    let all = async {
        while let Some(done) = asks.join_next().await {
            let (answer, heard) = done.unwrap();
            said = heard.unwrap_or(std::mem::take(&mut said));
            match answer {
                Some(answer) if answer.status == 200 => answered += 1,
                Some(answer) if answer.json()["error"]["code"] == "insufficient_quota" => {
                    let held = answer.text().contains("may be free again in a moment");
                    let again = if held { "true" } else { "false" };
                    assert_eq!((answer.status, answer.header("x-should-retry")), (429, Some(again)));
                    refused += 1;
                }
                _ => {}
            }
        }
        over.store(true, SeqCst);
    };
    tokio::join!(all, watch);
    let (spent, unsettled) = settled(gateways[0]).await;
    println!(
        "{answered} answered, {refused} refused, {} upstream calls, {spent} of {cap} spent",
        upstream.asked()
    );
    assert!(!passed.load(SeqCst), "what is spent and set aside passed the cap");
    assert_eq!(spent, billed(upstream, &said), "the books are not what the provider bills");
    assert!(spent <= cap && unsettled == 0);
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    let mut recorded = 0;
    for gateway in gateways {
        let records = gateway.audit(1000 / gateways.len()).await;
        recorded += records.iter().map(|record| nanos(&record["cost_usd"])).sum::<u64>();
    }
    // The records tell what was counted; the books charge in full where that cannot be all.
    let seen = upstream.seen();
    let unknown = seen.iter().filter(|seen| is_unknown(seen)).map(question);
    let beyond: u64 = unknown.map(|question| most(&question) - estimate(&question, "")).sum();
    assert_eq!(recorded + beyond, spent, "the records and the books disagree");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_at_once_spend_what_was_billed_and_never_more_than_the_cap() {
    let upstream = Upstream::answering().await;
    mixed(&upstream);
    // The cost of a hundred calls.
    let cap = 100 * bill((11, 7));
    let (setup, _folder) = setup(&upstream, &global(cap as f64 / 1e9));
    let gateway = setup.start().await;
    a_thousand_calls(&[&gateway], &upstream, cap).await;
}

fn over(redis: &Redis, setup: Setup) -> Setup {
    setup.env("TEST_REDIS", &redis.url()).set(&json!({"store": {"redis": {"env": "TEST_REDIS"}}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_with_one_redis_share_a_cap() {
    let (upstream, redis) = (Upstream::answering().await, Redis::start().await);
    mixed(&upstream);
    let cap = 100 * bill((11, 7));
    let patient = json!({"store": {"redis_timeout": "5s"}});
    let (one, _folder) = setup(&upstream, &global(cap as f64 / 1e9));
    let (two, _other) = setup(&upstream, &global(cap as f64 / 1e9));
    let one = over(&redis, one).set(&patient).start().await;
    let two = over(&redis, two).set(&patient).start().await;
    a_thousand_calls(&[&one, &two], &upstream, cap).await;
}

#[tokio::test]
async fn without_its_redis_a_budget_admits_nothing_and_nothing_is_lost() {
    let (upstream, redis) = (Upstream::start(Act::default().after(ms(100))).await, Redis::start().await);
    let budget = json!({"user": {"day_usd": 1.0}, "lease_margin": "0s"});
    let (setup, _folder) = setup(&upstream, &budget);
    let gateway = over(&redis, setup).start().await;
    let mut body = chat("Hi", false);
    body["user"] = "u".into();
    post(&gateway, "/v1/chat/completions", &body).await.expect(200);
    // It freezes while a call is under way: the call ends well, and is accounted for afterwards.
    let frozen = async {
        assert!(soon(Duration::from_secs(5), || upstream.busy() == 1).await);
        redis.freeze();
    };
    let (answer, ()) = tokio::join!(post(&gateway, "/v1/chat/completions", &body), frozen);
    answer.expect(200);
    let refused = post(&gateway, "/v1/chat/completions", &body).await;
    assert_eq!(refused.expect(503)["error"]["code"], "budget_unavailable");
    assert!(refused.header("retry-after").is_some());
    // Who has no budget does not notice.
    post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await.expect(200);
    assert_eq!(upstream.asked(), 3);
    redis.thaw();
    for _ in 0..500 {
        if post(&gateway, "/v1/chat/completions", &body).await.status == 200 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    let mut seen = (0, 0, 0);
    for _ in 0..500 {
        seen = books(&gateway, "user", "day").await;
        if seen.1 == 0 && seen.0 >= 3 * bill((11, 7)) {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(seen, (3 * bill((11, 7)), 0, 0), "a call that was refused is not charged");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_over_kill_9() {
    let rounds: u32 = std::env::var("SLUICE_KILL_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let upstream = Upstream::start(Act::default().after(ms(3)).every(ms(1))).await;
    let cap = u64::from(rounds) * 5000 * bill((11, 7));
    let (setup, _folder) = setup(&upstream, &global(cap as f64 / 1e9));
    let mut gateway = setup.start().await;
    for round in 0..rounds {
        load_and_kill(&[], &mut gateway, round).await;
        assert!(soon(Duration::from_secs(5), || upstream.busy() == 0).await);
        gateway.restart().await;
        let found = books(&gateway, "global", "month").await;
        assert_eq!(found.1, 0);
        true_books(&upstream, round, found, cap);
    }
    post(&gateway, "/v1/chat/completions", &chat("and on", false)).await;
}

/// One of two gateways with one Redis is killed: its calls are charged in full when their leases
/// end, the other's are as they are.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_over_kill_9_of_one_of_two_gateways() {
    let rounds: u32 = std::env::var("SLUICE_KILL_ROUNDS").map_or(1, |text| text.parse().unwrap());
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::default().after(ms(3)).every(ms(1))).await;
    let cap = u64::from(rounds) * 5000 * bill((11, 7));
    let mut budget = global(cap as f64 / 1e9);
    budget["lease_margin"] = "0s".into();
    let more = json!({"server": {"request_timeout": "2s"}, "store": {"redis_timeout": "5s"}});
    let (one, _folder) = setup(&upstream, &budget);
    let (two, _other) = setup(&upstream, &budget);
    let mut one = over(&redis, one).set(&more).start().await;
    let two = over(&redis, two).set(&more).start().await;
    for round in 0..rounds {
        load_and_kill(&[&two], &mut one, round).await;
        assert!(soon(Duration::from_secs(5), || upstream.busy() == 0).await);
        settled(&two).await;
        let found = books(&two, "global", "month").await;
        true_books(&upstream, round, found, cap);
        // Twenty calls of the killed one were under way, at most 0.00014 USD each, and a batch
        // of those that had ended.
        let lost = u64::from(round + 1) * 60 * 140_000;
        assert!(found.2 <= lost, "{} is more than calls that were under way could cost", found.2);
        one.restart().await;
    }
}

/// Calls without end to all gateways, until `gateway` is killed in the midst of them.
async fn load_and_kill(others: &[&Gateway], gateway: &mut Gateway, round: u32) {
    let over = Arc::new(AtomicBool::new(false));
    let mut asks = tokio::task::JoinSet::new();
    for number in 0..40_u32 {
        let mut addresses: Vec<_> = others.iter().map(|other| other.address).collect();
        addresses.push(gateway.address);
        let (address, over) = (addresses[number as usize % addresses.len()], over.clone());
        asks.spawn(async move {
            let body = chat(&format!("round {round} {number}"), number % 2 == 0).to_string();
            while !over.load(SeqCst) && raw(address, &body).await.is_some() {}
        });
    }
    tokio::time::sleep(ms(rand::random_range(50..400))).await;
    gateway.kill();
    over.store(true, SeqCst);
    while asks.join_next().await.is_some() {}
}

/// Whether all that was billed is in the books, and what was settled is as it was billed.
fn true_books(upstream: &Upstream, round: u32, (spent, _, unsettled): (u64, u64, u64), cap: u64) {
    let known: u64 = upstream.seen().iter().filter_map(|seen| seen.billed).map(bill).sum();
    let asked = upstream.asked();
    println!("round {round}: {asked} calls billed {known}, {spent} spent, {unsettled} of it unsettled");
    assert!(known <= spent, "{known} were billed and {spent} are in the books");
    assert!(spent - unsettled <= known, "calls that had been settled were charged more than they cost");
    assert!(spent <= cap);
}

/// A request over a connection of its own; `None` where the gateway is gone.
async fn raw(address: std::net::SocketAddr, body: &str) -> Option<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).await.ok()?;
    reply.ends_with(b"\r\n\r\n").then_some(()).or_else(|| reply.ends_with(b"}").then_some(()))
}

#[tokio::test]
async fn a_spent_budget_says_which_and_when_it_starts_anew_in_each_apis_words() {
    let upstream = Upstream::answering().await;
    let (setup, _folder) =
        setup(&upstream, &json!({"key": {"day_usd": 0.000_01}, "user": {"month_usd": 1.0}}));
    let gateway = setup.start().await;
    let refused = post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await;
    let error = refused.expect(429)["error"].clone();
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("insufficient_quota"), &json!("insufficient_quota"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("You've reached the daily budget of this key: 0.00001 of 0.00001 USD are left"),
        "{message}"
    );
    assert!(message.contains("It starts anew at 20"), "{message}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let native =
        post(&gateway, "/query", &json!({"question": "Hi", "user_id": "u", "mode": "chat", "model": "main"}))
            .await;
    let problem = native.expect(429);
    assert_eq!(problem["type"], "urn:sluice:problem:insufficient_quota");
    assert!(problem["detail"].as_str().unwrap().starts_with("You've reached the daily budget"));
    let anthropic = post(&gateway, "/v1/messages", &chat("Hi", false)).await;
    assert_eq!(anthropic.expect(429)["error"]["type"], "rate_limit_error");
    assert_eq!(anthropic.header("x-should-retry"), Some("false"));
    assert_eq!(upstream.asked(), 0);
    assert!(gateway.metric("sluice_budget_refusals_total", &[("reason", "insufficient_quota")]).await >= 3.0);
    // What costs nothing needs no money.
    post(&gateway, "/predict", &json!({"text": "good"})).await.expect(200);
    post(&gateway, "/query", &json!({"question": "What is Sluice?", "user_id": "u", "model": "extractive"}))
        .await
        .expect(200);
}

#[tokio::test]
async fn what_cannot_be_bounded_is_refused_where_a_budget_applies_and_nowhere_else() {
    let upstream = Upstream::answering().await;
    let route = json!({"models": {"odd": {"targets": [{"provider": "primary", "model": "nobody-knows"}]},
        "chain": {"targets": [{"provider": "primary", "model": "model-a"}], "fallback": ["odd"]}}});
    let keys = json!({"auth": {"keys": [key("app", "sk-app")]}});
    let (setup, _folder) = setup(&upstream, &json!({"user": {"day_usd": 1.0}}));
    let gateway = setup.set(&route).set(&keys).start().await;
    let ask = |body: Value| gateway.ask("POST", "/v1/chat/completions").bearer("sk-app").json(&body).send();
    let body = |model: &str, user: Option<&str>| {
        let mut body = chat("Hi", false);
        body["model"] = model.into();
        body["user"] = user.into();
        body
    };
    for model in ["odd", "chain"] {
        let refused = ask(body(model, Some("u"))).await;
        assert_eq!(refused.expect(403)["error"]["code"], "unpriced_model");
        ask(body(model, None)).await.expect(200);
    }
    let mut odd = body("main", Some("u"));
    odd["previous_response_id"] = "resp_1".into();
    let refused = ask(odd.clone()).await;
    assert_eq!(refused.expect(400)["error"]["param"], "previous_response_id");
    odd["user"] = Value::Null;
    ask(odd).await.expect(200);
    // The provider is told the limit that was counted with.
    let mut open = body("main", Some("u"));
    open.as_object_mut().unwrap().remove("max_tokens");
    ask(open.clone()).await.expect(200);
    assert_eq!(upstream.last().body["max_tokens"], 4096);
    open["user"] = Value::Null;
    ask(open).await.expect(200);
    assert_eq!(upstream.last().body.get("max_tokens"), None);
}

#[tokio::test]
async fn a_stream_past_its_reservation_is_cut_and_paid_for() {
    let upstream = Upstream::start(Act::say(&"word ".repeat(4000)).chunks_of(10).every(ms(1))).await;
    let (setup, _folder) = setup(&upstream, &global(1.0));
    let gateway = setup.start().await;
    let mut stream = streamed(&gateway, "/v1/chat/completions", &chat("Go on", true)).await;
    let (chunks, done) = stream.chunks().await;
    let last = chunks.last().unwrap();
    assert_eq!(last["error"]["code"], "over_reservation", "{last}");
    assert!(!done || chunks.len() < 100);
    upstream.gone(ms(2000)).await;
    let mut native = streamed(
        &gateway,
        "/stream",
        &json!({"prompt": "Go on", "model": "main", "mode": "chat", "max_tokens": 20}),
    )
    .await;
    let messages = native.messages().await;
    assert_eq!(messages.last().unwrap(), "[DONE]");
    assert!(messages[messages.len() - 2].starts_with("[ERROR: the answer was cut"), "{messages:?}");
    let (spent, _) = settled(&gateway).await;
    assert!(spent >= 2 * 20 * OUTPUT, "{spent}");
    assert!(spent < 2 * 60 * OUTPUT + 2 * 100 * INPUT, "{spent}");
}

#[tokio::test]
async fn a_further_attempt_needs_money_of_its_own() {
    // A worst case of about 100 tokens read and 20 written. What the broken attempt is billed
    // nobody knows: it is charged in full.
    let upstream = Upstream::start(Act::close()).await;
    let (setup, _folder) = setup(&upstream, &global(0.000_2));
    let gateway = setup.start().await;
    let refused = post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await;
    assert_eq!(refused.expect(429)["error"]["code"], "insufficient_quota");
    assert_eq!(upstream.asked(), 1, "a second attempt that there is no money for");
    let (spent, _) = settled(&gateway).await;
    assert!(spent > estimate("Hi", "") + 20 * OUTPUT, "{spent}");
    upstream.set_default(Act::default());
    post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await.expect(429);
    assert_eq!(settled(&gateway).await.0, spent);
}

#[tokio::test]
async fn whole_answers_that_nobody_waits_for_never_pass_the_budget() {
    // Each would be billed in full, unseen: room for two.
    let upstream = Upstream::start(Act::default().after(ms(400))).await;
    let (setup, _folder) = setup(&upstream, &global(0.000_3));
    let gateway = setup.start().await;
    let mut impatient = Vec::new();
    for _ in 0..6 {
        let ask = gateway.ask("POST", "/v1/chat/completions").bearer(KEY).json(&chat("Hi", false));
        let ask = ask.header("x-request-timeout-ms", "100");
        impatient.push(ask.send().await.status);
    }
    assert_eq!(impatient, [504, 504, 429, 429, 429, 429]);
    assert_eq!(upstream.asked(), 2);
    let (spent, _) = settled(&gateway).await;
    assert!(spent > 2 * (estimate("Hi", "") + 20 * OUTPUT), "{spent}");
}

#[tokio::test]
async fn a_budget_lasts_through_reloads_restarts_and_cached_answers_cost_nothing() {
    let upstream = Upstream::answering().await;
    let (setup, _folder) = setup(&upstream, &global(1.0));
    let mut gateway = setup.set(&json!({"cache": {"enabled": true}})).start().await;
    let mut body = chat("Hi", false);
    body["temperature"] = 0.into();
    post(&gateway, "/v1/chat/completions", &body).await.expect(200);
    let hit = post(&gateway, "/v1/chat/completions", &body).await;
    assert_eq!((hit.status, hit.header("x-cache"), hit.header("x-cost-usd")), (200, Some("HIT"), Some("0")));
    assert_eq!(settled(&gateway).await.0, bill((11, 7)));
    gateway.kill();
    gateway.restart().await;
    assert_eq!(settled(&gateway).await, (bill((11, 7)), 0));
    gateway.rewrite(&json!({"budget": {"global": {"month_usd": 0.000_03}}}));
    for _ in 0..200 {
        let refused = post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await;
        if refused.status == 429 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    let refused = post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await;
    refused.expect(429);
    let ratio =
        gateway.metric("sluice_budget_spent_ratio", &[("scope", "global"), ("period", "month")]).await;
    assert!(ratio > 0.0);
}

#[tokio::test]
async fn each_mark_is_told_once_as_log_metric_and_signed_webhook() {
    let (upstream, hook) = (Upstream::answering().await, Upstream::answering().await);
    // The webhook fails at first: it is asked again.
    hook.script([Act::failed(), Act::status(204, &json!({}))]);
    let mut budget = global(40.0 * bill((11, 7)) as f64 / 1e9);
    budget["webhook"] = format!("http://{}/hook", hook.address).into();
    budget["webhook_secret"] = json!({"env": "TEST_HOOK_SECRET"});
    let (setup, _folder) = setup(&upstream, &budget);
    let gateway = setup.env("TEST_HOOK_SECRET", "hunter2").start().await;
    let mut statuses = Vec::new();
    for _ in 0..50 {
        statuses.push(post(&gateway, "/v1/chat/completions", &chat("Hi", false)).await.status);
    }
    assert!(statuses.contains(&200) && statuses.last() == Some(&429), "{statuses:?}");
    let told = || hook.seen().iter().filter(|seen| seen.path == "/hook").count();
    assert!(soon(Duration::from_secs(20), || told() >= 3).await, "the webhook was not asked again");
    let first = hook.seen().remove(0);
    assert_eq!((&first.body["event"], &first.body["scope"]), (&json!("budget.passed"), &json!("global")));
    assert!(first.header("x-sluice-signature").unwrap().starts_with("sha256="));
    assert!((gateway.metric("sluice_budget_alerts_total", &[]).await - 2.0).abs() < 0.1);
    let log = gateway.log();
    for mark in ["80", "100"] {
        assert!(log.matches(&format!("a budget is spent to {mark} %")).count() == 1, "{log}");
    }
    assert!(!log.contains("hunter2") && !log.contains("/hook"));
}
