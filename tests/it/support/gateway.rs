//! The gateway as a child process, configured by a file in a folder of its own.
use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Answer, Sse, Upstream, Wire, client::Ask, soon};

/// What a gateway is started with.
pub struct Setup {
    /// JSON is YAML.
    config: Option<String>,
    value: Value,
    environment: Vec<(String, String)>,
    folder: TempDir,
    /// Where it is started; absent: where the tests are.
    started_in: Option<PathBuf>,
}

impl Setup {
    /// The routes `main`, `solo` and `embed`, all answered by `primary`.
    pub fn one(wire: Wire, primary: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let value = json!({
            "server": {"drain": "5s"},
            "providers": {"primary": provider(wire, primary)},
            "models": {
                "main": {"targets": [{"provider": "primary", "model": "model-a"}], "aliases": ["alias-of-main"]},
                "solo": {"targets": [{"provider": "primary", "model": "model-a"}]},
                "embed": {"targets": [{"provider": "primary", "model": "embed-a"}]},
            },
            "default_model": "main",
            "retry": {"attempts": 2, "base": "5ms", "cap": "20ms", "budget_percent": 100},
            "timeouts": {"first_token": "700ms", "idle": "700ms", "total": "10s"},
            "limits": {"requests_per_minute": {"user": null, "address": null}},
            "cache": {"enabled": false},
            "store": {"sqlite": folder.path().join("sluice.db")},
            "budget": {"journal": folder.path().join("budget.journal")},
            "audit": {"folder": folder.path().join("audit"), "file": folder.path().join("audit.jsonl")},
            "log": {"format": "json", "level": "info"},
        });
        let environment = vec![("TEST_PROVIDER_KEY".into(), "sk-provider".into())];
        Self { config: None, value, environment, folder, started_in: None }
    }

    /// As [`Setup::one`], and `main` falls back to `spare`.
    pub fn two(primary: &Upstream, wire: Wire, spare: &Upstream) -> Self {
        Self::one(Wire::OpenAi, primary).set(&json!({
            "providers": {"spare": provider(wire, spare)},
            "models": {"main": {"fallback": ["spare/model-b"]}},
        }))
    }

    /// No configuration at all.
    pub fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("audit.jsonl").display().to_string();
        let database = folder.path().join("sluice.db").display().to_string();
        let journal = folder.path().join("audit").display().to_string();
        let environment = vec![
            ("SLUICE__AUDIT__FILE".into(), audit),
            ("SLUICE__AUDIT__FOLDER".into(), journal),
            ("SLUICE__STORE__SQLITE".into(), database),
        ];
        Self { config: None, value: Value::Null, environment, folder, started_in: None }
    }

    /// This file, as it stands.
    pub fn yaml(text: &str) -> Self {
        Self { config: Some(text.into()), ..Self::bare() }
    }

    /// Changes the configuration where `change` has something else.
    pub fn set(mut self, change: &Value) -> Self {
        merge(&mut self.value, change);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts in this folder.
    pub fn folder(mut self, folder: &std::path::Path) -> Self {
        self.started_in = Some(folder.into());
        self
    }

    /// Starts the gateway and waits until it listens.
    pub async fn start(self) -> Gateway {
        let file = self.folder.path().join("sluice.yaml");
        let text = self.config.clone().or_else(|| (!self.value.is_null()).then(|| self.value.to_string()));
        let mut command = Command::new(binary());
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
            command.env("SLUICE_CONFIG", &file);
        }
        command
            .args(["--listen", "127.0.0.1:0"])
            .env_remove("OPENAI_API_KEY")
            .env_remove("ANTHROPIC_API_KEY")
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.started_in {
            command.current_dir(folder);
        }
        let (child, log) = run(&mut command);
        let address = ([127, 0, 0, 1], 0).into();
        let mut gateway =
            Gateway { address, command, child, log, value: self.value, file, folder: self.folder };
        gateway.listens().await;
        gateway
    }
}

/// Starts the process, and gathers what it logs.
fn run(command: &mut Command) -> (Child, Arc<Mutex<Vec<String>>>) {
    let mut child = command.spawn().unwrap();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let (lines, errors) = (log.clone(), child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    (child, log)
}

/// A gateway that runs. Killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    command: Command,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    value: Value,
    file: PathBuf,
    folder: TempDir,
}

impl Gateway {
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.address, method, path)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    /// Asks for what a key with the role `admin` may see.
    pub async fn get_as(&self, key: &str, path: &str) -> Answer {
        self.ask("GET", path).bearer(key).send().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path).json(body).send().await
    }

    pub async fn stream(&self, path: &str, body: &Value) -> Sse {
        self.ask("POST", path).json(body).stream().await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The audit's records, when there are at least `count`.
    pub async fn audit(&self, count: usize) -> Vec<Value> {
        let file = self.folder.path().join("audit.jsonl");
        let read = || -> Vec<Value> {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        soon(Duration::from_secs(5), || read().len() >= count).await;
        let records = read();
        assert!(records.len() >= count, "{} of {count} audit records:\n{}", records.len(), self.log());
        records
    }

    /// Runs the program beside it, with the same configuration: whether it went well, and what it said.
    pub fn sluice(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(binary());
        let set = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.args(arguments).envs(set).env("SLUICE_CONFIG", &self.file).stdin(Stdio::null());
        let done = command.output().unwrap();
        let told = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&told).into_owned())
    }

    /// The sum of a metric over all label sets that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.get("/metrics").await.text(), name, labels)
    }

    /// Changes the configuration file.
    pub fn rewrite(&mut self, change: &Value) {
        merge(&mut self.value, change);
        self.overwrite(&self.value.to_string());
    }

    /// Puts another text into the configuration file, all at once.
    pub fn overwrite(&self, text: &str) {
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &self.file).unwrap();
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it at once, without a word (`kill -9`).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same files, at another address.
    pub async fn restart(&mut self) {
        (self.child, self.log) = run(&mut self.command);
        self.listens().await;
    }

    async fn listens(&mut self) {
        let listens = || self.log.lock().unwrap().iter().find_map(|line| address(line));
        soon(Duration::from_secs(15), || listens().is_some() || exited(self)).await;
        self.address = listens().unwrap_or_else(|| panic!("the gateway did not start:\n{}", self.log()));
    }

    /// Waits for the end of the process.
    pub async fn exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = &mut self.child;
        let mut status = None;
        soon(limit, || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status
    }

    /// How many sockets the process has open, the listening ones included.
    pub fn sockets(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let links = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log());
        }
    }
}

/// The entry of a key in the configuration.
pub fn key(name: &str, text: &str) -> Value {
    let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"name": name, "hash": format!("sha256:{digest}")})
}

/// The sum of a metric over all label sets that contain `labels`.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (metric, set) = series.split_once('{').unwrap_or((series, ""));
        let all = labels.iter().all(|(label, value)| set.contains(&format!("{label}=\"{value}\"")));
        (metric == name && all).then(|| value.parse::<f64>().unwrap())
    });
    samples.sum()
}

fn provider(wire: Wire, upstream: &Upstream) -> Value {
    let base_url = wire.base_url(upstream.address);
    json!({"kind": wire.kind(), "base_url": base_url, "api_key": {"env": "TEST_PROVIDER_KEY"}, "connect_timeout": "500ms"})
}

/// Objects grow together; anything else is replaced.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn exited(gateway: &Gateway) -> bool {
    !std::path::Path::new(&format!("/proc/{}/exe", gateway.child.id())).exists()
}

/// The gateway that is tested: the one that was built with the tests, or `SLUICE_TEST_BINARY`,
/// such as a release build.
pub fn binary() -> OsString {
    std::env::var_os("SLUICE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluice").into())
}
