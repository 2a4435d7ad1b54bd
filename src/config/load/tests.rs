use proptest::prelude::*;

use super::*;

pub(in crate::config) fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse("f", text, &variables, None, &|_| Vec::new())
}

fn config(text: &str, variables: &[(&str, &str)]) -> Config {
    read_with(text, variables).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn told(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    read_with(text, variables).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn tells(text: &str, start: &str) {
    let told = told(text, &[]);
    assert!(told.iter().any(|told| told.starts_with(&format!("error: {start}"))), "{start}\nin {told:#?}");
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "\
server:
  lisen: 1
  max_body: 1MB
  workers: many
retry: {attempts: 99, base: 1x}
modles: {}
models:
  m:
    targets:
      - provider: opneai
        model: x
        weight: 0
    fallback: [n]
default_model: o
";
    let lines = told(text, &[]);
    let heads: Vec<&str> = lines.iter().filter_map(|told| told.lines().next()).collect();
    assert_eq!(
        heads,
        [
            "error: f:2:3: there is no key `lisen` here; did you mean `listen`?",
            "error: f:3:13: `server.max_body`: `1MB` is not a size such as `512`, `64KiB` or `1MiB`",
            "error: f:4:12: `server.workers`: `many` is not a whole number from 0 on",
            "error: f:5:19: `retry.attempts`: must be at most 10",
            "error: f:5:29: `retry.base`: `1x` is not a duration such as `250ms`, `30s`, `5m` or `2h`",
            "error: f:6:1: there is no key `modles` here; did you mean `models`?",
            "error: f:10:19: `models.m.targets[0].provider`: there is no provider `opneai`; there are `extractive`, `sentiment`",
            "error: f:12:17: `models.m.targets[0].weight`: must be at least 1",
            "error: f:13:16: `models.m.fallback[0]`: `n` is neither another route nor `provider/model`",
            "error: f:14:16: `default_model`: there is no route `o`; there are `extractive`, `hashing`, `m`, `sentiment`",
        ]
    );
    assert!(
        lines[3].ends_with("5 | retry: {attempts: 99, base: 1x}\n  |                   ^^"),
        "{}",
        lines[3]
    );
}

#[test]
fn a_mistake_within_a_section_hides_no_other_and_makes_none() {
    let text = "providers:\n  p: {kind: openai, nope: 1}\n  q: 5\nmodels:\n  m: {targets: [{provider: p, model: x}, {provider: q, model: x}]}\n  n: {targets: [{provider: p}], fallback: [m]}\n";
    let told = told(text, &[]);
    assert_eq!(told.len(), 3, "{told:#?}");
    tells(text, "f:2:21: there is no key `nope` here");
    tells(text, "f:3:6: `providers.q`: `5` is not a mapping");
    tells(text, "f:6:17: the key `model` is missing");
}

#[test]
fn what_is_no_yaml_is_shown_where_it_breaks() {
    tells("server: [", "f:1:");
    tells("a: 1\n---\nb: 2\n", "f:3:1: multiple YAML documents detected");
    tells("- a\n", "f:1:1: a list is not a mapping");
    tells("server:\n  drain: 1s\n  drain: 2s\n", "f:3:3: the key `drain` is here twice");
    let bomb: String = (0..30).fold("x0: &a0 [z]\n".into(), |text: String, i| {
        text + &format!("x{}: &a{} [*a{i}, *a{i}, *a{i}, *a{i}]\n", i + 1, i + 1)
    });
    assert!(!told(&bomb, &[]).is_empty());
}

#[test]
fn no_secret_is_accepted_or_shown() {
    for (text, start) in [
        (
            "providers:\n  p:\n    api_key: hunter2\n",
            "f:3:14: `providers.p.api_key`: a secret is never written here",
        ),
        (
            "providers: {p: {kind: openai, api_key: hunter2, nope: 1}}",
            "f:1:40: `providers.p.api_key`: a secret",
        ),
        ("providers: {p: {kind: openai, nope: 1, api_key: hunter2}}", "f:1:31: there is no key `nope`"),
        (
            "providers: {p: {api_key: {env: sk-hunter2}}}",
            "f:1:32: `providers.p.api_key.env`: this is not the name",
        ),
        (
            "providers: {p: {headers: {Authorization: hunter2}}}",
            "f:1:42: `providers.p.headers.Authorization`: a secret",
        ),
        ("auth: {keys: [{name: a, hash: hunter2}]}", "f:1:31: `auth.keys[0].hash`: must be `sha256:`"),
        (
            "providers: {p: {base_url: 'http://me:hunter2@host'}}",
            "f:1:27: `providers.p.base_url`: the address must not hold",
        ),
        ("providers: {p: {api_key: hunter2", "f:1:"),
    ] {
        tells(text, start);
        let told = told(text, &[]).join("\n");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let told = told("", &[("SLUICE__PROVIDERS__P__API_KEY", "hunter2")]).join("\n");
    assert!(told.contains("SLUICE__PROVIDERS__P__API_KEY") && !told.contains("hunter2"), "{told}");
}

#[test]
fn variables_win_over_the_file_and_flags_over_both() {
    let file = "server: {listen: '127.0.0.1:1', drain: 1s}\nlimits: {requests_per_minute: {user: 5}}\n";
    let variables = [
        ("SLUICE__SERVER__LISTEN", "127.0.0.1:2"),
        ("SLUICE__LIMITS__REQUESTS_PER_MINUTE__ADDRESS", ""),
        ("SLUICE__SERVER__CORS__ORIGINS", "[https://a.example]"),
        ("SLUICE__PII__OUTPUT__CARD", "off"),
        ("SLUICE__PROVIDERS__MINE__KIND", "ollama"),
        ("SLUICE__PROVIDERS__MINE", "{models: ['*']}"),
        ("SLUICE_CONFIG", "elsewhere"),
    ];
    let read = config(file, &variables);
    assert_eq!((read.server.listen.port(), read.server.drain.to_string()), (2, "1s".into()));
    assert_eq!(
        (read.limits.requests_per_minute.user, read.limits.requests_per_minute.address),
        (Some(5), None)
    );
    assert_eq!(read.server.cors.origins, ["https://a.example"]);
    assert_eq!(read.pii.output.card, crate::guard::pii::Mode::Off);
    assert_eq!((read.providers["mine"].kind.row().name, read.providers["mine"].models.len()), ("ollama", 1));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let read = parse("f", file, &variables, Some(([127, 0, 0, 1], 3).into()), &|_| Vec::new()).unwrap();
    assert_eq!(read.server.listen.port(), 3);
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    let told = told(
        "",
        &[
            ("SLUICE__RETRY__ATEMPTS", "2"),
            ("SLUICE__RETRY__ATTEMPTS", "many"),
            ("SLUICE__A__", "1"),
            ("SLUICE__CACHE__TTL__X", "1"),
        ],
    );
    let told = told.join("\n");
    for line in [
        "error: environment variable `SLUICE__RETRY__ATEMPTS`: there is no key `atempts` here; did you mean `attempts`?",
        "error: environment variable `SLUICE__RETRY__ATTEMPTS`: `retry.attempts`: `many` is not a whole number from 0 to 4294967295",
        "error: environment variable `SLUICE__A__`: names no key; it is written `SLUICE__SECTION__KEY`",
        "error: environment variable `SLUICE__CACHE__TTL__X`: `cache.ttl`: a mapping is not a text",
    ] {
        assert!(told.contains(line), "{line}\nin\n{told}");
    }
}

#[test]
fn texts_may_look_like_something_else() {
    let read = config(
        "prompts: {version: 1.10}\npii: {output: {ssn: off}}\nproviders: {p: {models: [1e3, no]}}\n",
        &[],
    );
    assert_eq!((&*read.prompts.version, read.pii.output.ssn), ("1.10", crate::guard::pii::Mode::Off));
    assert_eq!(read.providers["p"].models, ["1e3", "no"]);
}

#[test]
fn anchors_and_empty_sections_are_fine() {
    let read = config(
        "server:\n# nothing\nmodels:\n  a: &a {targets: [{provider: extractive, model: extractive}]}\n  b:\n    <<: *a\n    aliases: [c]\n",
        &[],
    );
    assert_eq!(read.models["b"].targets, read.models["a"].targets);
    assert_eq!(read.server, Config::default().server);
}

#[test]
fn no_wait_is_endlessly_short() {
    tells("server:\n  keep_alive: 0s\n", "f:2:15: `server.keep_alive`: must be more than 0");
    tells(
        "models: {m: {targets: [{provider: extractive, model: x}], timeouts: {idle: 0ms}}}",
        "f:1:76: `models.m",
    );
    tells("providers: {p: {max_event: 0}}", "f:1:28: `providers.p.max_event`: must be more than 0");
    tells(
        "server: {metrics_listen: '127.0.0.1:8000'}",
        "f:1:26: `server.metrics_listen`: is the main address",
    );
}

#[test]
fn without_keys_it_listens_on_loopback_only() {
    tells("server:\n  listen: 0.0.0.0:80\n", "f:2:11: no key is configured");
    tells("server: {listen: '[::]:80'}", "f:1:18: no key is configured");
    let key = format!("auth: {{keys: [{{name: a, hash: 'sha256:{}'}}]}}", "0".repeat(64));
    assert!(read_with(&format!("server: {{listen: '0.0.0.0:80'}}\n{key}\n"), &[]).is_ok());
    assert!(read_with(&key, &[("SLUICE__SERVER__LISTEN", "0.0.0.0:80")]).is_ok());
    let open = [("SLUICE__SERVER__LISTEN", "0.0.0.0:80"), ("SLUICE__AUTH__OPEN", "true")];
    assert!(config("", &open).is_open(), "it says so when it starts");
    assert!(!config(&key, &open).is_open());
}

#[test]
fn providers_come_from_the_environment_where_none_is_written_down() {
    let none = config("# nothing\n", &[]);
    assert_eq!(none, Config::default().completed(&|_| None));
    assert_eq!(none.default_model.as_deref(), Some("extractive"));
    let keys = [("OPENAI_API_KEY", "x"), ("ANTHROPIC_API_KEY", "y"), ("OPENAI_BASE_URL", "http://here/v1")];
    let both = config("", &keys);
    let of = |config: &Config, name: &str| config.providers[name].models.join(" ");
    assert!(of(&both, "openai").starts_with("gpt-* ") && of(&both, "openai").ends_with(" *"));
    assert_eq!(of(&both, "anthropic"), "claude-*");
    let moved = ("ANTHROPIC_BASE_URL", "http://there");
    let all = config("", &[keys[0], keys[1], keys[2], moved]);
    assert_eq!((of(&all, "openai"), of(&all, "anthropic")), (of(&both, "openai"), "claude-*".into()));
    assert_eq!(all.default_model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(of(&config("", &[keys[0], keys[1], moved]), "anthropic"), "claude-* *");
    assert_eq!(both.default_model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(config("", &keys[1..2]).default_model.as_deref(), Some("claude-haiku-4-5"));
    let own = config("", &keys[2..]);
    assert_eq!(
        (own.providers.len(), own.default_model.as_deref()),
        (none.providers.len() + 1, Some("gpt-4o-mini"))
    );
    assert_eq!(own.providers["openai"].api_key, None, "a server of one's own may want none");
    let written = config("providers: {openai: {models: [gpt-5]}}", &keys);
    assert!(!written.providers.contains_key("anthropic"));
    assert_eq!(written.default_model.as_deref(), Some("extractive"));
}

#[test]
fn the_shipped_file_says_what_holds_anyway() {
    let text = include_str!("../../../config/sluice.yaml");
    let mut tree = Node::parse(text).ok().unwrap();
    let mut problems = Vec::new();
    assert_eq!(read_on(&mut tree, "f", text, &mut problems), Some(Config::default()), "{problems:?}");
    let default = serde_json::to_value(Config::default()).unwrap();
    every_key(&default, &tree, "");
}

/// That each key of `value` is written down.
fn every_key(value: &serde_json::Value, tree: &Node, path: &str) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        let Value::Map(entries) = &tree.value else { panic!("`{path}` is not in config/sluice.yaml") };
        let entry = entries.iter().find(|entry| entry.key == *key);
        every_key(
            value,
            &entry.unwrap_or_else(|| panic!("`{path}` is not in config/sluice.yaml")).node,
            &path,
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z:\\-\\[\\]{}\"'#&*!|<>%@ \\n\\t0-9é]{0,200}") {
        told(&text, &[("SLUICE__SERVER", &text), ("SLUICE__MODELS__M", &text)]);
    }

    #[test]
    fn no_wrong_value_anywhere_makes_it_panic(
        section in "(server|auth|limits|models|providers|cache|default_model|log)",
        key in "(listen|keys|p|requests_per_minute|ttl|level)",
        value in "(-?[0-9]{1,30}|[0-9]e[0-9]{1,4}|~|\\[[a-z]*\\]|\\{[a-z]: [0-9]\\}|é{1,90}|\\.inf|!!str x|'')",
    ) {
        told(&format!("{section}: {value}\n"), &[]);
        told(&format!("{section}:\n  {key}: {value}\n"), &[]);
        told(&format!("{section}: {{{key}: [{value}, {{{key}: {value}}}]}}\n"), &[]);
    }
}
