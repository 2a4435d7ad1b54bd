//! Repeats and resumed streams over restarts, and over two gateways that share a Redis.
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Act, Answer, Frame, Gateway, Setup, Sse, Upstream, Wire, client::Ask, gateway::key, ms, servers::Redis,
};

const TEXT: &str = "one two three\nfour five six";
const CHAT: &str = "/v1/chat/completions";

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "My code is 4711"}], "stream": stream})
}

fn ask(gateway: &Gateway, word: &str, body: &Value) -> Ask {
    gateway.ask("POST", CHAT).bearer("sk-a").header("idempotency-key", word).json(body)
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

/// A gateway that shares this Redis.
async fn replica(upstream: &Upstream, redis: &Redis, change: &Value) -> Gateway {
    let keys = [key("a", "sk-a"), key("b", "sk-b")];
    let shared = json!({
        "auth": {"keys": keys},
        "store": {"redis": {"env": "TEST_REDIS"}, "redis_timeout": "500ms"},
        "timeouts": {"first_token": "20s", "idle": "20s", "total": "60s"},
    });
    let setup = Setup::one(Wire::OpenAi, upstream).set(&shared).set(change);
    setup.env("TEST_REDIS", &redis.url()).start().await
}

/// Asks until the first request is answered.
async fn settled(gateway: &Gateway, word: &str, body: &Value) -> Answer {
    for _ in 0..3000 {
        let answer = ask(gateway, word, body).send().await;
        if answer.status != 409 {
            return answer;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("the first request is never answered");
}

#[tokio::test]
async fn replies_outlive_the_process_and_unfinished_claims_do_not() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("sluice.db");
    let start = async || {
        let auth = json!({"keys": [key("a", "sk-a"), key("b", "sk-b")]});
        // What the audit keeps of questions and answers is told by its own setting, and is in the same file.
        let audit = json!({"content": "none"});
        let settings = json!({"store": {"sqlite": database}, "auth": auth, "audit": audit});
        Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await
    };
    let mut gateway = start().await;
    let bodies = [chat(false), chat(true)];
    let mut first = Vec::new();
    for (word, body) in ["whole", "streamed"].iter().zip(&bodies) {
        let all = join_all((0..50).map(|_| ask(&gateway, word, body).send())).await;
        assert!(all.iter().all(|answer| matches!(answer.status, 200 | 409)));
        first.push(all.into_iter().find(|answer| answer.status == 200).unwrap());
    }
    upstream.script([Act::hang()]);
    let waiting = ask(&gateway, "unfinished", &bodies[0]).send();
    assert!(tokio::time::timeout(ms(200), waiting).await.is_err());
    assert_eq!(upstream.asked(), 3);
    gateway.signal("KILL");
    gateway.exit(ms(5000)).await.unwrap();

    let on_disk: Vec<u8> = ["sluice.db", "sluice.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default())
        .collect();
    let text = String::from_utf8_lossy(&on_disk);
    for secret in ["Hello from", "chat.completion", "SGVsbG8gZnJvbQ", "sk-a", "streamed"] {
        assert!(!text.contains(secret), "`{secret}` can be read in the database");
    }

    let gateway = start().await;
    for ((word, body), first) in ["whole", "streamed"].iter().zip(&bodies).zip(&first) {
        let all = join_all((0..50).map(|_| ask(&gateway, word, body).send())).await;
        for answer in all {
            assert!(is_replay(&answer), "{answer:?}");
            assert_eq!((answer.status, &answer.body), (first.status, &first.body));
            assert_eq!(answer.header("x-request-id"), first.header("x-request-id"));
            assert_eq!(answer.header("content-type"), first.header("content-type"));
        }
        let other = gateway.ask("POST", CHAT).bearer("sk-b").header("idempotency-key", word).json(body);
        assert!(!is_replay(&other.send().await));
    }
    ask(&gateway, "whole", &bodies[1]).send().await.expect(422);
    assert_eq!(upstream.asked(), 5);
    let anew = ask(&gateway, "unfinished", &bodies[0]).send().await;
    assert_eq!((anew.status, is_replay(&anew)), (200, false));
}

#[tokio::test]
async fn two_gateways_answer_a_request_once() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::default().after(ms(300))).await;
    let (one, two) =
        (replica(&upstream, &redis, &json!({})).await, replica(&upstream, &redis, &json!({})).await);
    for stream in [false, true] {
        let (word, body, before) = (format!("w{stream}"), chat(stream), upstream.asked());
        let all = (0..50).map(|index| ask(if index % 2 == 0 { &one } else { &two }, &word, &body).send());
        let answers = join_all(all).await;
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 409)));
        let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(good.iter().filter(|answer| !is_replay(answer)).count(), 1);
        for gateway in [&one, &two] {
            let again = settled(gateway, &word, &body).await;
            assert!(is_replay(&again));
            assert_eq!((&again.body, again.status), (&good[0].body, 200));
            assert_eq!(again.header("x-request-id"), good[0].header("x-request-id"));
            ask(gateway, &word, &json!({"model": "main", "messages": []})).send().await.expect(422);
        }
        let other = two.ask("POST", CHAT).bearer("sk-b").header("idempotency-key", &word).json(&body);
        assert!(!is_replay(&other.send().await));
        assert_eq!(upstream.asked() - before, 2);
    }
    // What is shared tells nothing.
    let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("sluice:idempotency:*")).await;
    assert_eq!(keys.len(), 4);
    for name in keys {
        let value: Vec<u8> = redis.ask(redis::cmd("GET").arg(&name)).await;
        assert!(!String::from_utf8_lossy(&value).contains("Hello"));
        let left: i64 = redis.ask(redis::cmd("PTTL").arg(&name)).await;
        assert!((80_000_000..=86_400_000).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_failed_request_is_free_for_the_other_gateway_at_once() {
    let redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let single = json!({"retry": {"attempts": 1}});
    let (one, two) = (replica(&upstream, &redis, &single).await, replica(&upstream, &redis, &single).await);
    upstream.script([Act::failed()]);
    ask(&one, "w", &chat(false)).send().await.expect(502);
    let again = settled(&two, "w", &chat(false)).await;
    assert_eq!((again.status, is_replay(&again)), (200, false));
}

#[tokio::test]
async fn without_redis_each_gateway_goes_on_by_what_it_knows() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let one = replica(&upstream, &redis, &json!({"store": {"redis_timeout": "50ms"}})).await;
    ask(&one, "before", &chat(false)).send().await.expect(200);
    redis.freeze();
    for word in ["before", "during", "during"] {
        let answer = ask(&one, word, &chat(false)).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(upstream.asked(), 2);
    assert!(one.metric("sluice_idempotency_requests_total", &[("result", "local")]).await > 0.5);
    redis.thaw();
    redis.kill();
    for _ in 0..2 {
        ask(&one, "gone", &chat(true)).send().await;
    }
    assert_eq!(upstream.asked(), 3);
    redis.restart().await;
    for _ in 0..200 {
        if one.metric("sluice_store_up", &[("store", "redis")]).await > 0.5 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    ask(&one, "after", &chat(false)).send().await.expect(200);
    // What comes next is shared again, and so is, at once or a little later, what was kept meanwhile.
    let two = replica(&upstream, &redis, &json!({})).await;
    assert!(is_replay(&settled(&two, "after", &chat(false)).await));
    assert_eq!(upstream.asked(), 4);
}

async fn lasting(gateway: &Gateway) -> Sse {
    let body = json!({"prompt": "Hi", "mode": "chat", "resume": true});
    gateway.ask("POST", "/stream").bearer("sk-a").json(&body).stream().await
}

async fn rest(gateway: &Gateway, who: &str, last: &str) -> Sse {
    gateway.ask("GET", "/stream?prompt=Hi&mode=chat").bearer(who).header("last-event-id", last).stream().await
}

async fn some(stream: &mut Sse, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let Some(frame) = stream.next().await else { break };
        if frame.data.is_some() {
            frames.push(frame);
        }
    }
    frames
}

fn text(frames: &[Frame]) -> String {
    let words =
        frames.iter().filter(|frame| frame.event.is_empty()).filter_map(|frame| frame.data.as_deref());
    words.filter(|word| *word != "[DONE]").collect()
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_goes_on_at_the_other_gateway() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(3).every(ms(10))).await;
    let (one, two) =
        (replica(&upstream, &redis, &json!({})).await, replica(&upstream, &redis, &json!({})).await);
    let events = lasting(&one).await.rest().await.len();
    for cut in 1..=events {
        let asked = upstream.asked();
        let mut stream = lasting(&one).await;
        let mut frames = some(&mut stream, cut).await;
        drop(stream);
        let last = frames.last().unwrap().id.clone().unwrap();
        let mut on = rest(&two, "sk-a", &last).await;
        if cut == events {
            // The end may be on its way yet: then there is an end to follow, and nothing before it.
            assert!(matches!(on.head.status, 200 | 204));
        } else {
            assert_eq!(on.head.status, 200, "cut after {cut}");
        }
        frames.extend(on.rest().await);
        assert_eq!(text(&frames), TEXT, "cut after {cut}");
        let mut ids: Vec<_> = frames.iter().filter_map(|frame| frame.id.as_deref()).collect();
        ids.dedup();
        assert_eq!((ids.len(), frames.len()), (events, events));
        assert_eq!(upstream.asked(), asked + 1, "no second model call");
        assert_eq!(rest(&two, "sk-b", &last).await.head.status, 404);
    }
    let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("sluice:stream:*said")).await;
    assert_eq!(keys.len(), events + 1);
    let raw: redis::Value = redis.ask(redis::cmd("XRANGE").arg(&keys[0]).arg("-").arg("+")).await;
    let redis::Value::Array(entries) = &raw else { panic!("{raw:?}") };
    assert!(!entries.is_empty() && !format!("{raw:?}").contains("data:"), "what is shared tells nothing");
}

#[tokio::test]
async fn a_stream_is_followed_from_gateway_to_gateway_while_it_runs() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(2).every(ms(150))).await;
    let brief = json!({"resume": {"grace": "1s"}});
    let (one, two) = (replica(&upstream, &redis, &brief).await, replica(&upstream, &redis, &brief).await);
    let mut stream = lasting(&one).await;
    let mut frames = some(&mut stream, 2).await;
    drop(stream);
    // The grace is over before the answer is: who reads elsewhere counts.
    for gateway in [&two, &two, &one, &two] {
        let last = frames.last().unwrap().id.clone().unwrap();
        let mut on = rest(gateway, "sk-a", &last).await;
        assert_eq!(on.head.status, 200);
        frames.extend(some(&mut on, 2).await);
    }
    let last = frames.last().unwrap().id.clone().unwrap();
    frames.extend(rest(&two, "sk-a", &last).await.rest().await);
    assert_eq!(text(&frames), TEXT);
    assert_eq!(upstream.asked(), 1);
    assert!(upstream.last().gone.is_none());
    // Nobody reads the next one any more, here or there.
    upstream.set_default(Act::default().hang_after(3));
    let mut stream = lasting(&one).await;
    let first = some(&mut stream, 1).await;
    drop(stream);
    let mut on = rest(&two, "sk-a", first[0].id.as_deref().unwrap()).await;
    on.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(upstream.last().gone.is_none(), "it is read at the other gateway");
    drop(on);
    upstream.gone(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_stream_that_was_not_asked_to_last_is_known_to_the_other_gateway_when_it_has_ended() {
    let redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let (one, two) =
        (replica(&upstream, &redis, &json!({})).await, replica(&upstream, &redis, &json!({})).await);
    let body = json!({"prompt": "Hi", "mode": "chat"});
    let frames = one.ask("POST", "/stream").bearer("sk-a").json(&body).stream().await.rest().await;
    let (first, last) = (frames[0].id.as_deref().unwrap(), frames.last().unwrap().id.as_deref().unwrap());
    let mut status = 0;
    for _ in 0..200 {
        status = rest(&two, "sk-a", last).await.head.status;
        if status == 204 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(status, 204);
    assert_eq!(rest(&two, "sk-a", first).await.rest().await, frames[1..]);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn a_reader_of_a_gateway_that_died_is_told() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let mut one = replica(&upstream, &redis, &json!({})).await;
    let two = replica(&upstream, &redis, &json!({})).await;
    let mut stream = lasting(&one).await;
    let frames = some(&mut stream, 2).await;
    let mut on = rest(&two, "sk-a", frames[0].id.as_deref().unwrap()).await;
    assert_eq!(some(&mut on, 1).await[0].id, frames[1].id);
    one.signal("KILL");
    one.exit(ms(5000)).await.unwrap();
    let messages = on.messages().await;
    let [.., error, done] = messages.as_slice() else { panic!("{messages:?}") };
    assert!(error.starts_with("[ERROR: ") && done == "[DONE]", "{messages:?}");
}

#[tokio::test]
async fn a_stream_goes_on_where_redis_is_frozen() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(3).every(ms(30))).await;
    let one = replica(&upstream, &redis, &json!({"store": {"redis_timeout": "50ms"}})).await;
    redis.freeze();
    let mut stream = lasting(&one).await;
    let mut frames = some(&mut stream, 3).await;
    drop(stream);
    let last = frames.last().unwrap().id.clone().unwrap();
    frames.extend(rest(&one, "sk-a", &last).await.rest().await);
    assert_eq!(text(&frames), TEXT);
    assert_eq!(rest(&one, "sk-a", "AAAAAAAAAAAAAAAAAAAAAAAA-1").await.head.status, 404);
    redis.thaw();
}

#[tokio::test]
async fn a_name_that_no_gateway_gave_is_not_looked_up_and_a_true_one_waits_for_redis() {
    let redis = Redis::start().await;
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(3)).await;
    let change = json!({"store": {"redis_timeout": "50ms"}});
    let (one, two) = (replica(&upstream, &redis, &change).await, replica(&upstream, &redis, &change).await);
    let frames = lasting(&one).await.rest().await;
    let own = frames[0].id.clone().unwrap();
    // Only who looks a stream up reads one: what is written, and asked for otherwise, does not count.
    let looked = async || {
        let all: String = redis.ask(redis::cmd("INFO").arg("commandstats")).await;
        let of = all.lines().find(|line| line.starts_with("cmdstat_xrange:")).unwrap_or_default();
        of.split(['=', ',']).nth(1).and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0)
    };
    // Each stands for many: the whole name made up, one letter of it changed, the mark of another.
    let with_other = |at: usize| {
        let mut letters = own.clone().into_bytes();
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(letters).unwrap()
    };
    let before = looked().await;
    for forged in [
        "AAAAAAAAAAAAAAAAAAAAAAAA-1".to_owned(),
        with_other(0),
        with_other(15),
        with_other(16),
        with_other(23),
    ] {
        assert_eq!(rest(&two, "sk-a", &forged).await.head.status, 404, "{forged}");
    }
    assert_eq!(rest(&two, "sk-b", &own).await.head.status, 404, "somebody else's");
    assert_eq!(looked().await, before, "Redis is asked for none of them");
    assert_eq!(rest(&two, "sk-a", &own).await.head.status, 200);
    assert!(looked().await > before, "and for a true one it is");
    let (two, old) = (replica(&upstream, &redis, &change).await, two);
    drop(old);
    redis.freeze();
    for _ in 0..6 {
        let away = two.ask("GET", "/stream?prompt=Hi&mode=chat").bearer("sk-a").header("last-event-id", &own);
        let away = away.send().await;
        assert_eq!((away.status, away.header("retry-after")), (503, Some("1")));
        assert_eq!(away.json()["type"], "urn:sluice:problem:streams_away");
    }
    redis.thaw();
    let mut status = 503;
    for _ in 0..500 {
        status = rest(&two, "sk-a", &own).await.head.status;
        if status != 503 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(status, 200);
    assert_eq!(rest(&two, "sk-a", &own).await.rest().await, frames[1..]);
    let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("sluice:stream:*")).await;
    assert!(keys.iter().all(|key| !key.contains(&own[..16])), "the name opens the stream: {keys:?}");
}

#[tokio::test]
async fn what_was_claimed_and_kept_while_redis_was_away_is_known_when_it_is_back() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let change = json!({"store": {"redis_timeout": "50ms"}});
    let (one, two) = (replica(&upstream, &redis, &change).await, replica(&upstream, &redis, &change).await);
    let up = async |wanted: f64| {
        for gateway in [&one, &two] {
            for _ in 0..1000 {
                let is = gateway.metric("sluice_store_up", &[("store", "redis")]).await;
                if (is - wanted).abs() < 0.1 {
                    break;
                }
                tokio::time::sleep(ms(10)).await;
            }
        }
    };
    redis.kill();
    up(0.0).await;
    let kept = ask(&one, "kept", &chat(false)).send().await;
    kept.expect(200);
    // One that runs on until after Redis is back.
    upstream.script([Act::default().after(ms(6000))]);
    let (path, body) = (one.ask("POST", CHAT), chat(false));
    let running = tokio::spawn(path.bearer("sk-a").header("idempotency-key", "runs").json(&body).send());
    while upstream.asked() < 2 {
        tokio::time::sleep(ms(10)).await;
    }
    redis.restart().await;
    up(1.0).await;
    let keys = async || redis.ask::<Vec<String>>(redis::cmd("KEYS").arg("sluice:idempotency:*")).await.len();
    for _ in 0..3000 {
        if keys().await == 2 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    let there = ask(&two, "kept", &chat(false)).send().await;
    assert!(is_replay(&there), "{there:?}");
    let meanwhile = ask(&two, "runs", &chat(false)).send().await;
    // On a very busy machine it may have come to its end before it was asked for.
    if !running.is_finished() {
        assert_eq!(meanwhile.status, 409, "it still runs at the other gateway");
    }
    let first = running.await.unwrap();
    assert_eq!(first.status, 200, "{}", first.text());
    let again = settled(&two, "runs", &chat(false)).await;
    assert!(is_replay(&again) && again.body == first.body);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test]
async fn a_reply_that_is_torn_in_the_store_is_as_good_as_none() {
    let redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let (one, two) =
        (replica(&upstream, &redis, &json!({})).await, replica(&upstream, &redis, &json!({})).await);
    for (index, torn) in ["", "k", "kshort", "nonsense"].into_iter().enumerate() {
        let word = format!("w{index}");
        ask(&one, &word, &chat(false)).send().await.expect(200);
        // It is shared beside the reply: only what is there already can be torn.
        let kept = async || {
            let keys: Vec<String> = redis.ask(redis::cmd("KEYS").arg("sluice:idempotency:*")).await;
            let mut whole = 0;
            for key in &keys {
                let value: Vec<u8> = redis.ask(redis::cmd("GET").arg(key)).await;
                whole += usize::from(value.len() > 100);
            }
            (keys, whole)
        };
        let shared = async |what: &str| {
            let end = Instant::now() + ms(10_000);
            while kept().await.1 != 1 {
                assert!(Instant::now() < end, "{what} is not shared: {} {}", one.log(), two.log());
                tokio::time::sleep(ms(5)).await;
            }
        };
        shared("the reply").await;
        let (keys, _) = kept().await;
        for key in &keys {
            let value: Vec<u8> = redis.ask(redis::cmd("GET").arg(key)).await;
            // Without the word, or cut within what is sealed.
            let value = if torn.is_empty() { value[..value.len() - 1].to_vec() } else { torn.into() };
            let _: () = redis.ask(redis::cmd("SET").arg(key).arg(value).arg("PX").arg(60_000)).await;
        }
        let asked = upstream.asked();
        let anew = ask(&two, &word, &chat(false)).send().await;
        assert_eq!((anew.status, is_replay(&anew)), (200, false));
        assert_eq!(upstream.asked(), asked + 1);
        let lines = two.log().lines().filter(|line| line.contains("answered anew")).count();
        assert_eq!(lines, index + 1, "one line each:\n{}", two.log());
        assert!(is_replay(&ask(&two, &word, &chat(false)).send().await));
        shared("what is kept now").await;
        let _: () = redis.ask(&redis::cmd("FLUSHALL")).await;
    }
}

#[tokio::test]
async fn gateways_seal_with_the_pepper_that_is_configured() {
    let redis = Redis::start().await;
    let upstream = Upstream::answering().await;
    let with = async |pepper: &str| {
        let keys = [key("a", "sk-a")];
        let settings = json!({
            "auth": {"keys": keys, "pepper": {"env": "TEST_PEPPER"}},
            "store": {"redis": {"env": "TEST_REDIS"}, "redis_timeout": "500ms"},
        });
        let setup = Setup::one(Wire::OpenAi, &upstream).set(&settings).env("TEST_PEPPER", pepper);
        setup.env("TEST_REDIS", &redis.url()).start().await
    };
    let (one, two) = (with(&"a".repeat(32)).await, with(&"a".repeat(32)).await);
    let other = with(&"b".repeat(32)).await;
    ask(&one, "w", &chat(false)).send().await.expect(200);
    assert!(is_replay(&ask(&two, "w", &chat(false)).send().await));
    assert!(!is_replay(&ask(&other, "w", &chat(false)).send().await), "another pepper, another name");
    let frames = lasting(&one).await.rest().await;
    let first = frames[0].id.as_deref().unwrap();
    assert_eq!(rest(&two, "sk-a", first).await.rest().await, frames[1..]);
    assert_eq!(rest(&other, "sk-a", first).await.head.status, 404);
}
