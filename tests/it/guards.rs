//! What may not leave, and what comes in.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire};

const CHAT: &str = "/v1/chat/completions";
const FILTERED: &str = "[Output filtered for security]";

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

async fn gateway(upstream: &Upstream) -> Gateway {
    Setup::one(Wire::OpenAi, upstream)
        .set(&json!({"pii": {"output": {"ssn": "block", "card": "block"}}}))
        .start()
        .await
}

async fn streamed(gateway: &Gateway) -> String {
    let (chunks, done) = gateway.stream(CHAT, &chat(true)).await.chunks().await;
    assert!(done);
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_social_security_or_card_number_never_leaves_whole() {
    for secret in ["078-05-1120", "4111111111111111"] {
        let upstream = Upstream::start(Act::say(&format!("It is {secret}, keep it."))).await;
        let gateway = gateway(&upstream).await;
        let body = gateway.post(CHAT, &chat(false)).await.expect(200);
        assert_eq!(body["choices"][0]["message"]["content"], FILTERED);
        // What it took is what the provider says, although that comes last.
        assert_eq!(
            (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
            (&json!(11), &json!(7))
        );
        let body = gateway
            .post("/query", &json!({"question": "Hi", "user_id": "u", "mode": "chat"}))
            .await
            .expect(200);
        assert_eq!(body["answer"], FILTERED);
        assert_eq!(body["usage"]["output_tokens"], 7);
    }
}

#[tokio::test]
async fn no_digit_of_it_leaves_in_a_stream_wherever_it_is_cut() {
    for chunk in 1..12 {
        let upstream = Upstream::start(Act::say("Sure. It is 078-05-1120, keep it.").chunks_of(chunk)).await;
        let gateway = gateway(&upstream).await;
        let text = streamed(&gateway).await;
        assert!(!text.contains("078"), "{chunk} characters a chunk: {text}");
        assert!(text.ends_with(FILTERED), "{chunk} characters a chunk: {text}");
        let text = gateway.stream("/stream?prompt=Hi&mode=chat", &json!({})).await.messages().await.concat();
        assert!(!text.contains("078-05"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_is_ended_early_says_what_it_took() {
    // The provider would have said it after the rest; Anthropic's API says before it what it knows by then.
    let words = "one two three four five six seven ".repeat(9);
    let upstream = Upstream::start(Act::say(&format!("{words}078-05-1120, keep it.")).chunks_of(4)).await;
    for (durability, wire) in
        ["strict", "relaxed", "off"].into_iter().flat_map(|word| Wire::BOTH.map(|wire| (word, wire)))
    {
        let gateway = Setup::one(wire, &upstream)
            .set(&json!({
                "pii": {"output": {"ssn": "block"}},
                "audit": {"durability": durability},
            }))
            .start()
            .await;
        let mut asked = chat(true);
        asked["stream_options"] = json!({"include_usage": true});
        let (chunks, done) = gateway.stream(CHAT, &asked).await.chunks().await;
        let usage = &chunks.last().unwrap()["usage"];
        let took = |name: &str| usage[name].as_u64().unwrap_or_default();
        assert!(done && took("prompt_tokens") > 0 && took("completion_tokens") > 0, "{durability}: {usage}");

        let mut stream = gateway.stream("/stream?prompt=Hi&mode=chat", &json!({})).await;
        let frames = stream.rest().await;
        let told = frames.iter().find(|frame| frame.event == "usage").unwrap();
        let told: Value = serde_json::from_str(told.data.as_deref().unwrap()).unwrap();
        assert_eq!(told["usage"]["estimated"], true, "{durability}: {told}");
        assert!(told["usage"]["output_tokens"].as_u64() > Some(50), "{durability}: {told}");
        assert!(told["usage"]["cost_usd"].as_f64() > Some(0.0), "{durability}: {told}");
        if durability == "strict" {
            let record = &gateway.audit(2).await[1];
            assert_eq!(record["output_tokens"], told["usage"]["output_tokens"], "{record}");
            assert_eq!(record["input_tokens"], told["usage"]["input_tokens"], "{record}");
        }
    }
}

#[tokio::test]
async fn tool_arguments_are_judged_too() {
    let upstream =
        Upstream::start(Act::call_tool("mail", &json!({"text": "078-05-1120"})).chunks_of(4)).await;
    let gateway = gateway(&upstream).await;
    for stream in [false, true] {
        let answer = gateway.ask("POST", CHAT).json(&chat(stream)).send().await;
        assert!(!answer.text().contains("1120"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_system_prompt_never_leaves_however_it_is_spelled() {
    const PROMPT: &str =
        "You sell boats for Heron Yachts. Never tell anybody that our margin is forty percent.";
    let settings = json!({"leak": {"mode": "block"}});
    let asked = |stream: bool| {
        json!({"model": "main", "stream": stream, "messages": [
            {"role": "system", "content": PROMPT}, {"role": "user", "content": "Hi"}]})
    };
    let hex: String = PROMPT.bytes().map(|byte| format!("{byte:02x} ")).collect();
    let letters: String = PROMPT.chars().flat_map(|letter| [letter, ' ']).collect();
    let lines = json!({"body": PROMPT.replace(' ', "\n")});
    for act in [Act::say(&letters), Act::say(&hex), Act::call_tool("mail", &lines)] {
        let upstream = Upstream::start(act.chunks_of(5)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
        for stream in [false, true] {
            let said = gateway.ask("POST", CHAT).json(&asked(stream)).send().await.text();
            assert!(said.contains(FILTERED), "{said}");
            assert!(!["Y o", "59 6", "sell", "f o"].iter().any(|piece| said.contains(piece)), "{said}");
        }
    }
    let innocent = "We sell boats: S-L-O-O-P-S. 59 6f 75 20 is hex, 89 111 117 &#89; %20 \\u0059 <b>too</b>, \"aGVsbG8\"";
    for chunk in [1, 4, 9] {
        let upstream = Upstream::start(Act::say(innocent).chunks_of(chunk)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
        let (chunks, done) = gateway.stream(CHAT, &asked(true)).await.chunks().await;
        let said = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
        assert!(done);
        assert_eq!(said.collect::<String>(), innocent);
    }
}

#[tokio::test]
async fn an_innocent_answer_is_unchanged() {
    let text = "Call 555-0199 on 2024-05-11, order 12345678901234567, pay 1000-00-0001 or 078-05-112.";
    for chunk in [1, 3, 7, 100] {
        let upstream = Upstream::start(Act::say(text).chunks_of(chunk)).await;
        let gateway = gateway(&upstream).await;
        assert_eq!(streamed(&gateway).await, text);
    }
}

#[tokio::test]
async fn switched_off_it_lets_everything_pass() {
    let upstream = Upstream::start(Act::say("078-05-1120")).await;
    for mode in ["off", "log"] {
        let settings = json!({"pii": {"output": {"ssn": mode, "card": mode}}});
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
        assert_eq!(streamed(&gateway).await, "078-05-1120", "{mode}");
    }
}

#[tokio::test]
async fn control_characters_do_not_reach_the_model() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let asked = json!({"question": "a\u{0}b\u{1b}[31mc\nd\te\u{202e}f", "user_id": "u", "mode": "chat"});
    let answer = gateway.post("/query", &asked).await;
    if answer.status == 200 {
        let sent = upstream.last().body["messages"].to_string();
        assert!(!sent.contains("\\u0000") && !sent.contains("\\u001b"), "{sent}");
        assert!(sent.contains(r"c\nd\te"), "line breaks and tabs stay: {sent}");
    } else {
        answer.expect(422);
    }
}

#[tokio::test]
async fn too_much_text_is_refused_before_the_model_is_asked() {
    let upstream = Upstream::answering().await;
    let small = json!({"input": {"max_chars": 100, "max_messages": 2}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&small).start().await;
    let mut asked = chat(false);
    asked["messages"][0]["content"] = "x".repeat(101).into();
    assert!((400..500).contains(&gateway.post(CHAT, &asked).await.status));
    let mut asked = chat(false);
    asked["messages"] = json!(vec![json!({"role": "user", "content": "Hi"}); 3]);
    let body = gateway.post(CHAT, &asked).await.expect(400);
    assert!(body["error"]["param"].as_str().unwrap().contains("messages"), "{body}");
    assert_eq!(upstream.asked(), 0);
}
