//! The alerts and the Prometheus that watches them: the shipped files against
//! Prometheus's own tools, its server, and a gateway's real metrics.
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, ms};

const MISSING: &str = "Prometheus is here; run ./test as root once, it installs Debian's `prometheus`";

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn rules() -> Vec<Value> {
    let groups = yaml("config/alerts.yml")["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[track_caller]
fn promtool(arguments: &[&str], file: &str) {
    let Output { status, stdout, stderr } =
        Command::new("promtool").args(arguments).arg(shipped(file)).output().expect(MISSING);
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{said}");
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() {
    promtool(&["check", "rules"], "config/alerts.yml");
    promtool(&["check", "config"], "config/prometheus.yml");
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    promtool(&["test", "rules"], "config/alerts_test.yml");
    let tested = read("config/alerts_test.yml");
    for rule in rules() {
        let Some(alert) = rule["alert"].as_str() else { continue };
        assert!(tested.contains(&format!("alertname: {alert}\n")), "nothing makes `{alert}` fire");
        assert!(tested.contains(&format!("alertname: {alert}, exp_alerts: []")), "or keeps it quiet");
    }
}

#[test]
fn each_alert_says_what_to_do() {
    let guide = read("docs/alerts.md");
    for rule in rules() {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning"].contains(&severity), "`{alert}` is `{severity}`");
        for note in ["summary", "description"] {
            assert!(rule["annotations"][note].is_string(), "`{alert}` has no {note}");
        }
        let runbook = format!("docs/alerts.md#alert-{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], *runbook);
        assert!(guide.contains(&format!("\n### Alert {alert}\n")), "{runbook} leads nowhere");
    }
}

/// A gateway that has answered, failed, and opened a breaker.
async fn busy_gateway() -> Gateway {
    let upstream = Upstream::start(Act::failed()).await;
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.yaml");
    std::fs::write(&prices, "models: {model-a: {input: 1, output: 2}}\nunknown: {input: 5, output: 15}\n")
        .unwrap();
    let settings = json!({"retry": {"attempts": 1}, "breaker": {"failures": 1, "open_for": "10m"},
        "prices": prices, "budget": {"global": {"day_usd": 1.0}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let chat = json!({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]});
    gateway.post("/v1/chat/completions", &chat).await.expect(502);
    gateway
        .post("/query", &json!({"question": "How do I make a key?", "user_id": "u", "model": "extractive"}))
        .await
        .expect(200);
    gateway
}

#[tokio::test]
async fn the_alerts_ask_for_nothing_that_is_not_there() {
    let metrics = busy_gateway().await.get("/metrics").await.text();
    let mut known: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    // Prometheus's own, of each target.
    known.insert("up");
    let rules = rules();
    known.extend(rules.iter().filter_map(|rule| rule["record"].as_str()));
    let mut asked = 0;
    for rule in &rules {
        for name in metrics_of(rule["expr"].as_str().unwrap()) {
            assert!(known.contains(&*name), "no gateway has `{name}`, which {rule} asks for");
            asked += 1;
        }
    }
    assert!(asked >= rules.len() - 1, "the expressions were not understood");
}

#[test]
fn an_expressions_metrics_are_found() {
    let found = metrics_of(r#"sum by (le) (rate(a_total{x=~"b"}[5m])) / on (z) group:c > 0.8 and d"#);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a_total", "d", "group:c"]);
}

/// The names in an expression that are neither functions, labels nor words of the language.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
    const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(next) = rest.chars().next() {
        let word =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_:.".contains(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        // Neither what is in braces or brackets nor labels in parentheses are metrics.
        rest = match next {
            '{' => &rest[rest.find('}').unwrap()..],
            '[' => &rest[rest.find(']').unwrap()..],
            _ if BEFORE_LABELS.contains(&name) => &after[after.find(')').unwrap()..],
            _ if name.is_empty() => &rest[next.len_utf8()..],
            _ => {
                let is_function =
                    ["(", "by", "without"].iter().any(|next| after.trim_start().starts_with(next));
                if !next.is_ascii_digit() && !is_function && !WORDS.contains(&name) {
                    names.insert(name.to_owned());
                }
                after
            }
        };
    }
    names
}

/// A Prometheus that runs. Killed when dropped.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one with the shipped files. Only the target and the pace are the test's.
    fn watching(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = read("config/prometheus.yml");
        for (theirs, ours) in [
            ("[gateway:8000]", format!("['{target}']")),
            ("scrape_interval: 15s", "scrape_interval: 200ms".into()),
            ("evaluation_interval: 15s", "evaluation_interval: 200ms".into()),
        ] {
            assert!(config.contains(theirs), "`{theirs}` is not in prometheus.yml");
            config = config.replacen(theirs, &ours, 1);
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        std::fs::copy(shipped("config/alerts.yml"), folder.path().join("alerts.yml")).unwrap();
        let mut child = Command::new("prometheus")
            .current_dir(folder.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect(MISSING);
        let log = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = mpsc::channel();
        // Reads on to the end, or Prometheus would wait for us to.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let address = line.contains("Listening on").then(|| line.split("address=").nth(1)).flatten();
                let _ = address.and_then(|address| address.trim().parse().ok()).map(|at| tell.send(at));
            }
        });
        let address = told.recv_timeout(Duration::from_secs(30));
        let address = address.unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("Prometheus did not start")
        });
        Self { address, child, _folder: folder }
    }

    /// Asks its API until `wanted` is content with the answer's data.
    async fn tells(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut data = Value::Null;
        for _ in 0..300 {
            let answer = Ask::new(self.address, "GET", path).send().await;
            // Until it is ready it says 503.
            if answer.status == 200 {
                data = answer.json()["data"].take();
                if wanted(&data) {
                    break;
                }
            }
            tokio::time::sleep(ms(100)).await;
        }
        data
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_sees_the_gateway_and_its_open_breaker() {
    let gateway = busy_gateway().await;
    let prometheus = Prometheus::watching(gateway.address);

    let one = |data: &Value| data["result"][0]["value"][1] == "1";
    let up = prometheus.tells("/api/v1/query?query=up%7Bjob%3D%22sluice%22%7D", one).await;
    assert!(one(&up), "{up}");

    let states = |data: &Value| -> Vec<(String, String, String)> {
        let rules = data["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.iter().map(|rule| (text(rule, "name"), text(rule, "health"), text(rule, "state"))).collect()
    };
    let seen = |data: &Value| {
        let states = states(data);
        let waiting = |name: &str| name == "SluiceBreakerOpen";
        states.len() == rules().len()
            && states.iter().all(|(_, health, _)| health == "ok")
            && states.iter().any(|(name, _, state)| waiting(name) && state == "pending")
    };
    let data = prometheus.tells("/api/v1/rules", seen).await;
    assert!(seen(&data), "{:#?}", states(&data));

    // What it takes for a gateway that is gone.
    drop(gateway);
    let down =
        |data: &Value| states(data).iter().any(|(name, _, state)| name == "SluiceDown" && state == "pending");
    let data = prometheus.tells("/api/v1/rules", down).await;
    assert!(down(&data), "{:#?}", states(&data));
}
