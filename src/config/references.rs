//! What one section says of another: names that must exist, secrets that must be there.
use super::Config;

/// A mistake, and the path of keys that leads to it.
pub(super) struct Dangling {
    pub(super) path: Vec<String>,
    pub(super) message: String,
}

/// All names that lead nowhere.
pub(super) fn check(config: &Config) -> Vec<Dangling> {
    let mut found = Vec::new();
    let mut say = |path: &[&str], message: String| {
        found.push(Dangling { path: path.iter().map(|&key| key.to_owned()).collect(), message });
    };
    let provider = |name: &str| config.providers.contains_key(name);
    let route = |name: &str| {
        config.models.contains_key(name)
            || config.models.values().any(|route| route.aliases.iter().any(|alias| alias == name))
    };
    let providers = || config.providers.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
    for (name, settings) in &config.models {
        for (index, target) in settings.targets.iter().enumerate() {
            if !provider(&target.provider) {
                let message =
                    format!("there is no provider `{}`; there are `{}`", target.provider, providers());
                say(&["models", name, "targets", &index.to_string(), "provider"], message);
            }
        }
        for (index, next) in settings.fallback.iter().enumerate() {
            let known = route(next) || next.split_once('/').is_some_and(|(name, _)| provider(name));
            if !known || next == name {
                let message = format!("`{next}` is neither another route nor `provider/model`");
                say(&["models", name, "fallback", &index.to_string()], message);
            }
        }
        for (index, alias) in settings.aliases.iter().enumerate() {
            let twice = config.models.contains_key(alias)
                || config.models.iter().any(|(other, route)| other != name && route.aliases.contains(alias));
            if twice {
                say(
                    &["models", name, "aliases", &index.to_string()],
                    format!("`{alias}` names another route too"),
                );
            }
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, key) in config.auth.keys.iter().enumerate() {
        if names.contains(&key.name.as_str()) {
            say(&["auth", "keys", &index.to_string(), "name"], format!("two keys are named `{}`", key.name));
        }
        names.push(&key.name);
    }
    if config.server.cors.origins.iter().any(|origin| origin != "*" && !origin.starts_with("http")) {
        say(&["server", "cors", "origins"], "an origin is `*` or begins with `http://` or `https://`".into());
    }
    found
}
