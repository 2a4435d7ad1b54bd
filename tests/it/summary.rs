//! How a tenant's calls went.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms};

fn keyed(name: &str, tenant: &str) -> Value {
    let mut row = key(name, &format!("sk-{name}"));
    row["tenant"] = tenant.into();
    row["roles"] = json!(["app", "admin"]);
    row
}

async fn ask(gateway: &Gateway, key: &str, stream: bool, model: &str) -> u16 {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, "temperature": 0});
    gateway.ask("POST", "/v1/chat/completions").bearer(key).json(&body).send().await.status
}

async fn summary(gateway: &Gateway, key: &str, calls: u64) -> Value {
    let mut last = Value::Null;
    for _ in 0..500 {
        last = gateway.ask("GET", "/summary?hours=2").bearer(key).send().await.expect(200);
        if last["total_calls"] == calls {
            return last;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("{calls} calls are not told: {last}");
}

#[tokio::test]
async fn a_summary_is_of_the_tenants_own_calls_streams_included_and_lasts_over_a_restart() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.yaml");
    let list = "models:\n  model-a: {input: 1000, output: 2000}\nunknown: {input: 5, output: 15}\n";
    std::fs::write(&prices, list).unwrap();
    let keys = json!([keyed("one", "t1"), keyed("two", "t2")]);
    let setup = Setup::one(Wire::OpenAi, &upstream)
        .set(&json!({"prices": prices, "cache": {"enabled": true}, "retry": {"attempts": 1}}));
    let setup = setup.set(&json!({"auth": {"keys": keys}}));
    let mut gateway = setup.start().await;
    let empty = gateway.ask("GET", "/summary").bearer("sk-one").send().await.expect(200);
    assert_eq!(empty, json!({"total_calls": 0, "total_cost_usd": 0.0}));
    assert_eq!(ask(&gateway, "sk-one", false, "main").await, 200);
    assert_eq!(ask(&gateway, "sk-one", true, "main").await, 200, "from the cache");
    assert_eq!(ask(&gateway, "sk-one", true, "solo").await, 200);
    upstream.script([Act::failed()]);
    let failed = json!({"model": "main", "messages": [{"role": "user", "content": "other"}]});
    gateway.ask("POST", "/v1/chat/completions").bearer("sk-one").json(&failed).send().await.expect(502);
    assert_eq!(ask(&gateway, "sk-two", false, "main").await, 200);
    // Two calls of 11 and 7 tokens were paid for, and one came from the cache.
    let one = summary(&gateway, "sk-one", 4).await;
    assert_eq!(one["total_cost_usd"], 0.05);
    assert_eq!(one["success_rate"], 0.75);
    assert_eq!(one["saved_usd"], 0.025);
    assert_eq!(one["cache_hit_rate"], 0.25);
    assert_eq!((&one["total_input_tokens"], &one["total_output_tokens"]), (&json!(22), &json!(14)));
    assert_eq!(one["by_model"][0]["model"], "model-a");
    assert_eq!(
        one["by_hour"].as_array().unwrap().iter().map(|hour| hour["calls"].as_u64().unwrap()).sum::<u64>(),
        4
    );
    assert!(one["p95_latency_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(one["partial"], false);
    summary(&gateway, "sk-two", 1).await;
    gateway.ask("GET", "/summary?hours=0").bearer("sk-one").send().await.expect(422);
    gateway.get("/summary").await.expect(401);
    gateway.signal("TERM");
    gateway.exit(ms(10_000)).await.unwrap();
    gateway.restart().await;
    let again = summary(&gateway, "sk-one", 4).await;
    assert_eq!(again["total_cost_usd"], one["total_cost_usd"]);
    assert_eq!(again["p95_latency_ms"], one["p95_latency_ms"]);
}
