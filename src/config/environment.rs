//! Settings from the environment: `SLUICE__SECTION__KEY=value`.
use serde_json::Value;

use super::{Config, Problem};

const PREFIX: &str = "SLUICE__";

/// Puts the variables' values in. A value is read as YAML: `8`, `30s`, `[a, b]`, `{env: X}`.
pub(super) fn apply(
    config: Config,
    variables: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> Config {
    let mut ours: Vec<(String, String)> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // A shorter name sets a whole section, which a longer one then changes.
    ours.sort_by_key(|(name, _)| name.len());
    let mut config = config;
    for (name, value) in ours {
        match with(&config, &name, &value) {
            Ok(changed) => config = changed,
            Err(message) => problems.push(Problem { origin: name, place: None, line: None, message }),
        }
    }
    config
}

fn with(config: &Config, name: &str, value: &str) -> Result<Config, String> {
    let mut tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    let path = name[PREFIX.len()..].to_lowercase();
    let mut at = &mut tree;
    for key in path.split("__") {
        if at.is_null() {
            *at = Value::Object(serde_json::Map::new());
        }
        let object =
            at.as_object_mut().ok_or_else(|| format!("`{}` has no keys", path.replace("__", ".")))?;
        at = object.entry(key).or_insert(Value::Null);
    }
    let as_text = || Value::String(value.to_owned());
    *at = if value.is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str(value).unwrap_or_else(|_| as_text())
    };
    let read = |tree: &Value| serde_json::from_value::<Config>(tree.clone());
    read(&tree).map_err(|error| format!("`{}`: {error}", path.replace("__", ".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> (Config, Vec<String>) {
        let mut problems = Vec::new();
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = apply(Config::default(), pairs, &mut problems);
        (config, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn variables_set_keys_and_mistakes_name_the_variable() {
        let (config, problems) = set(&[
            ("SLUICE__SERVER__LISTEN", "127.0.0.1:9"),
            ("SLUICE__CACHE__TTL", "5m"),
            ("SLUICE__LIMITS__REQUESTS_PER_MINUTE__USER", "7"),
            ("SLUICE__LIMITS__REQUESTS_PER_MINUTE__ADDRESS", ""),
            ("SLUICE__PROVIDERS__MINE__KIND", "ollama"),
            ("SLUICE__RETRY__ATEMPTS", "2"),
            ("SLUICE__RETRY__ATTEMPTS", "many"),
            ("OTHER", "x"),
        ]);
        assert_eq!(config.server.listen.port(), 9);
        assert_eq!(config.cache.ttl.0.as_secs(), 300);
        assert_eq!(config.limits.requests_per_minute.user, Some(7));
        assert_eq!(config.limits.requests_per_minute.address, None);
        assert!(config.providers.contains_key("mine"));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("SLUICE__RETRY__ATEMPTS") && p.contains("unknown field")));
    }
}
