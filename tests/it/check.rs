//! `sluice check`, and the start, name what is wrong around the gateway: its stores, secrets and files.
use std::{path::Path, process::Command};

use serde_json::{Value, json};
use sluice::{
    observe::Metrics,
    settings::SecretFrom,
    store::{Settings, sql::Sql},
};

use crate::support::{Setup, Upstream, Wire, ms, servers};

/// What `sluice check` says of a file in this folder, and whether it is good.
fn check(folder: &Path, text: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let file = folder.join("sluice.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(crate::support::gateway::binary());
    command.arg("check").env("SLUICE_CONFIG", &file).current_dir(folder);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn what_the_stores_say_of_the_world_is_looked_at_with_line_and_caret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("folder")).unwrap();
    std::fs::write(path.join("file"), "").unwrap();
    let environment = [
        ("EMPTY", ""),
        ("MYSQL", "mysql://me:hunter2@host/db"),
        ("NO_URL", "postgres://me:hunter2@host:port:port/db"),
        ("HTTP", "http://:hunter2@host"),
        ("SHORT", "hunter2"),
        ("POSTGRES", "postgres://me:hunter2@host/db"),
        ("REDIS", "redis://:hunter2@host:6379/1"),
        ("PEPPER", "hunter2hunter2hunter2hunter2hunter2"),
    ];
    for (row, wanted) in [
        (
            "store: {postgres: {env: NOT_SET_AT_ALL}}",
            "`store.postgres.env`: the environment variable `NOT_SET_AT_ALL` is unset",
        ),
        ("store: {postgres: {env: EMPTY}}", "variable `EMPTY` is empty"),
        (
            "store: {postgres: {file: nowhere}}",
            "`store.postgres.file`: the file `nowhere` cannot be read: No such file",
        ),
        ("store: {postgres: {env: MYSQL}}", "`MYSQL` holds no URL such as `postgres://"),
        ("store: {postgres: {env: NO_URL}}", "`NO_URL` holds no URL such as `postgres://"),
        ("store: {postgres: {env: 'postgres://me:hunter2@host/db'}}", "this is not the name of a variable"),
        (
            "store: {redis: {env: NOT_SET_AT_ALL}}",
            "`store.redis.env`: the environment variable `NOT_SET_AT_ALL` is unset",
        ),
        ("store: {redis: {file: folder}}", "`store.redis.file`: the file `folder` cannot be read"),
        ("store: {redis: {env: HTTP}}", "`HTTP` holds no URL such as `redis://"),
        ("auth: {pepper: {env: SHORT}}", "`SHORT` holds fewer than 32 characters"),
        ("auth: {pepper: {env: NOT_SET_AT_ALL}}", "`auth.pepper.env`"),
        (
            "budget: {webhook: 'http://127.0.0.1/', webhook_secret: {env: EMPTY}}",
            "`budget.webhook_secret.env`",
        ),
        ("store: {sqlite: folder}", "`store.sqlite`: `folder` is a folder"),
        ("store: {sqlite: file/x.db}", "`store.sqlite`: `file/x.db` cannot be made: `file` is not a folder"),
        ("budget: {journal: folder}", "`budget.journal`: `folder` is a folder"),
        ("budget: {journal: file/a/b}", "`budget.journal`: `file/a/b` cannot be made"),
        ("store: {timeout: 0s}", "`store.timeout`: must be more than 0"),
        ("store: {redis_timeout: 0ms}", "`store.redis_timeout`: must be more than 0"),
        ("store: {redis_timeout: 1h}", "`store.redis_timeout`: must be at most 10s"),
        ("store: {connections: 0}", "`store.connections`: must be at least 1"),
        ("idempotency: {keep: 0s}", "`idempotency.keep`: must be more than 0"),
        ("idempotency: {keep: 31d}", "`idempotency.keep`: must be at most 30d"),
        ("idempotency: {max_reply: 0}", "`idempotency.max_reply`: must be more than 0"),
        ("idempotency: {max_reply: 1GiB}", "`idempotency.max_reply`: 1GiB is more than there is for all"),
        ("idempotency: {max_bytes: 9999999999GiB}", "`idempotency.max_bytes`: must be at most 1024GiB"),
        ("resume: {max_stream: 64MiB}", "`resume.max_stream`: 64MiB is more than there is for all"),
        ("resume: {max_bytes: 0}", "`resume.max_bytes`: must be more than 0"),
        ("resume: {keep: 2d}", "`resume.keep`: must be at most 1d"),
    ] {
        let (good, said) = check(path, &format!("# A comment.\n{row}\n"), &environment);
        assert!(
            !good && said.contains(wanted) && said.contains(":2:") && said.contains('^'),
            "{row}\n{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
    let good = "store: {postgres: {env: POSTGRES}, redis: {env: REDIS}, sqlite: folder}\nauth: {pepper: {env: PEPPER}}\nbudget: {journal: folder}\n";
    let (good, said) = check(path, good, &environment);
    assert!(good, "what is not used need not be good: {said}");
}

#[test]
fn what_would_not_start_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("words")).unwrap();
    for (row, wanted) in [
        (
            "providers: {p: {kind: openai, api_key: {env: NOT_SET_AT_ALL}}}",
            "`providers.p.api_key.env`: its key is missing: the environment variable `NOT_SET_AT_ALL` is unset",
        ),
        ("providers: {p: {kind: openai}}", "`OPENAI_API_KEY` is unset"),
        (
            "providers: {p: {kind: openai, api_key: {file: nowhere}}}",
            "`providers.p.api_key.file`: its key is missing: the file `nowhere` cannot be read",
        ),
        ("prices: nowhere.yaml", "`prices`: nowhere.yaml"),
        ("prompts: {path: words, version: v9}", "`prompts.version`: there is no prompt version `v9`"),
        ("auth: {keys_file: nowhere.yaml}", "`auth.keys_file`: cannot be read"),
        (
            "default_model: p/x\nproviders: {p: {kind: openai, base_url: 'http://127.0.0.1:9/v1', models: [gpt-*]}}",
            "`default_model`: there is no route `p/x`, and `providers.p.models` does not lend `x`",
        ),
    ] {
        let (good, said) = check(path, &format!("# A comment.\n{row}\n"), &[]);
        assert!(
            !good && said.contains(wanted) && said.contains(":2:") && said.contains('^'),
            "{row}\n{said}"
        );
    }
    let (good, said) = check(path, "", &[("OPENAI_BASE_URL", "foo")]);
    assert!(!good && said.contains("`OPENAI_BASE_URL`") && said.contains("`http://`"), "{said}");
    for (name, value, wanted) in [
        ("LOG_LEVEL", "loud", "\"loud\" is no level"),
        ("SLUICE_CACHE__TTL", "1h", "did you mean `SLUICE__CACHE__TTL`?"),
    ] {
        let (good, said) = check(path, "", &[(name, value)]);
        assert!(good && said.contains(wanted), "{said}");
    }
    let (_, said) = check(path, "", &[("LOG_LEVEL", "info,sluice=debug"), ("SLUICE__CACHE__TTL", "1h")]);
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_journal_that_nobody_needs_may_have_no_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "").unwrap();
    let elsewhere = "audit: {folder: elsewhere}";
    let (good, said) = check(folder.path(), elsewhere, &[]);
    assert!(good, "{said}");
    for needed in ["budget: {global: {day_usd: 5}}", "tenants: {a: {budget: {month_usd: 5}}}"] {
        let (good, said) = check(folder.path(), &format!("{elsewhere}\n{needed}"), &[]);
        assert!(!good && said.contains("budget.journal"), "{needed}: {said}");
    }
}

/// A secret in a file.
fn written(folder: &Path, secret: &str) -> SecretFrom {
    std::fs::write(folder.join("secret"), secret).unwrap();
    SecretFrom::File(folder.join("secret"))
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_why_at_the_start() {
    let mut server = servers::Postgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let open = async |url: String, timeout: &str| {
        let postgres = Some(written(folder.path(), &url.replace("postgres@", "postgres:hunter2@")));
        let settings = Settings { postgres, timeout: timeout.parse().unwrap(), ..Settings::default() };
        let refused = Sql::open(&settings, &[], &Metrics::new().unwrap()).await.unwrap_err();
        assert!(!refused.contains("hunter2") && !refused.contains("pool"), "{refused}");
        refused
    };
    let url = server.url();
    let absent = open(url.replace("/postgres", "/absent").replace("//absent", "//postgres"), "30s").await;
    assert!(absent.contains("\"absent\" does not exist"), "{absent}");
    let stranger = open(url.replace("postgres@", "stranger:hunter2@"), "30s").await;
    assert!(stranger.contains("\"stranger\" does not exist"), "{stranger}");
    server.freeze();
    let frozen = open(url.clone(), "300ms").await;
    assert!(frozen.contains("does not answer"), "{frozen}");
    server.thaw();
    server.kill();
    let gone = open(url, "300ms").await;
    assert!(gone.contains("refused"), "{gone}");
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_says_why_in_the_log() {
    let mut server = servers::Redis::start().await;
    let upstream = Upstream::answering().await;
    let store = json!({"store": {"redis": {"env": "TEST_REDIS"}}});
    let url = server.url();
    let said = async |url: &str| {
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(&store).env("TEST_REDIS", url).start().await;
        let log = gateway.log();
        assert!(!log.contains("hunter2"), "{log}");
        let away = log.lines().find(|line| line.contains("Redis is away")).unwrap_or_else(|| panic!("{log}"));
        serde_json::from_str::<Value>(away).unwrap().to_string()
    };
    let absent = said(&format!("{url}/9999")).await;
    assert!(absent.contains("index is out of range"), "{absent}");
    let _: () = server.ask(redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("the true one")).await;
    let wrong = said(&url.replace("redis://", "redis://:hunter2@")).await;
    assert!(wrong.contains("WRONGPASS") || wrong.contains("authentication failed"), "{wrong}");
    let none = said(&url).await;
    assert!(none.contains("NOAUTH") || none.contains("uthentication required"), "{none}");
    server.freeze();
    let frozen = said(&url).await;
    assert!(frozen.contains("does not answer"), "{frozen}");
    server.thaw();
    server.kill();
    tokio::time::sleep(ms(10)).await;
    let gone = said(&url).await;
    assert!(gone.contains("refused"), "{gone}");
}
