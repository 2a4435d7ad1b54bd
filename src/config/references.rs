//! What one section says of another: names that must exist, secrets that must not be there.
use super::{Config, problem::nearest};
use crate::{
    provider::{self, transport},
    route,
    settings::{SecretFrom, Size, Span},
};

/// A mistake, and the path of keys that leads to it.
pub(super) struct Dangling {
    pub(super) path: String,
    pub(super) message: String,
    pub(super) secret: bool,
}

/// Headers that show a key or a person to the provider.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// All names that lead nowhere. `mentioned` tells whether a section has a key
/// that is not in `config`, because something else is wrong with it.
pub(super) fn check(config: &Config, mentioned: &dyn Fn(&str, &str) -> bool) -> Vec<Dangling> {
    let mut found = Vec::new();
    routes(config, mentioned, &mut found);
    vendors(config, mentioned, &mut found);
    secrets(config, &mut found);
    keys(config, &mut found);
    waits(config, &mut found);
    kept(config, &mut found);
    if config.server.metrics_listen == Some(config.server.listen) {
        let message = "is the main address, too; `null` serves the metrics there";
        found.push(Dangling::new("server.metrics_listen".into(), message.into()));
    }
    for (index, origin) in config.server.cors.origins.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if origin != "*" && host.is_none_or(|host| host.is_empty() || host.contains('/')) {
            let message = format!(
                "`{origin}` is not `*` or an origin such as `https://app.example.com`, without a path"
            );
            found.push(Dangling::new(format!("server.cors.origins[{index}]"), message));
        }
    }
    found
}

impl Dangling {
    pub(super) fn new(path: String, message: String) -> Self {
        Self { path, message, secret: false }
    }
}

fn routes(config: &Config, mentioned: &dyn Fn(&str, &str) -> bool, found: &mut Vec<Dangling>) {
    let mut say = |path: String, message: String| found.push(Dangling::new(path, message));
    let providers: Vec<&str> = config.providers.keys().map(String::as_str).collect();
    let provider = |name: &str| providers.contains(&name) || mentioned("providers", name);
    let aliases: Vec<&str> =
        config.models.values().flat_map(|route| &route.aliases).map(String::as_str).collect();
    let routes: Vec<&str> = config.models.keys().map(String::as_str).chain(aliases.iter().copied()).collect();
    let route = |name: &str| routes.contains(&name) || mentioned("models", name);
    let direct =
        |name: &str| name.split_once('/').is_some_and(|(name, model)| provider(name) && !model.is_empty());
    let lends = |provider: &provider::Settings, model: &str| {
        provider.models.iter().any(|pattern| route::matches(pattern, model))
    };
    // `provider/model` is never another provider's.
    let lent = |name: &str| match name.split_once('/') {
        Some((of, _)) if mentioned("providers", of) && !providers.contains(&of) => true,
        Some((of, model)) if providers.contains(&of) => {
            config.providers.get(of).is_some_and(|of| lends(of, model))
        }
        _ => config.providers.values().any(|provider| lends(provider, name)),
    };
    for (name, settings) in &config.models {
        for (index, target) in
            settings.targets.iter().enumerate().filter(|(_, target)| !provider(&target.provider))
        {
            let message = format!(
                "there is no provider `{}`; {}",
                target.provider,
                nearest(&target.provider, &providers)
            );
            say(format!("models.{name}.targets[{index}].provider"), message);
        }
        for (index, next) in settings.fallback.iter().enumerate() {
            let path = format!("models.{name}.fallback[{index}]");
            if next == name || settings.aliases.contains(next) {
                say(path, "a route does not fall back on itself".into());
            } else if !route(next) && !direct(next) {
                say(path, format!("`{next}` is neither another route nor `provider/model`"));
            }
        }
        for (index, alias) in settings.aliases.iter().enumerate() {
            let twice = aliases.iter().filter(|other| *other == alias).count() > 1;
            if config.models.contains_key(alias) || twice {
                say(format!("models.{name}.aliases[{index}]"), format!("`{alias}` names another route too"));
            }
        }
    }
    let asked = [
        ("default_model", config.default_model.as_deref()),
        ("predict_model", Some(&*config.predict_model)),
        ("session.summary_model", config.session.summary_model.as_deref()),
    ];
    for (key, name) in asked {
        let Some(name) = name.filter(|name| !route(name) && !lent(name)) else {
            continue;
        };
        let why = match name.split_once('/').filter(|_| direct(name)) {
            Some((of, model)) => {
                format!("there is no route `{name}`, and `providers.{of}.models` does not lend `{model}`")
            }
            None => format!("there is no route `{name}`; {}", nearest(name, &routes)),
        };
        say(key.into(), why);
    }
}

/// Where the vendors' own variables say where they are.
fn vendors(config: &Config, mentioned: &dyn Fn(&str, &str) -> bool, found: &mut Vec<Dangling>) {
    for (name, provider) in config.providers.iter().filter(|(name, _)| !mentioned("providers", name)) {
        let wrong = provider.base_url.as_deref().and_then(|url| transport::base_url(url).err());
        if let Some(why) = wrong {
            let variable = format!("{}_BASE_URL", name.to_uppercase());
            let message = format!("{why} (environment variable `{variable}`)");
            found.push(Dangling::new(format!("providers.{name}.base_url"), message));
        }
    }
}

fn secrets(config: &Config, found: &mut Vec<Dangling>) {
    let of_providers = config.providers.iter();
    let of_providers =
        of_providers.map(|(name, provider)| (format!("providers.{name}.api_key"), &provider.api_key));
    let others = [
        ("auth.pepper", &config.auth.pepper),
        ("store.postgres", &config.store.postgres),
        ("store.redis", &config.store.redis),
        ("budget.webhook_secret", &config.budget.webhook_secret),
        ("audit.key", &config.audit.key),
        ("injection.classifier.api_key", &config.injection.classifier.api_key),
        ("safety.moderation.service.api_key", &config.safety.moderation.service.api_key),
    ];
    for (path, from) in of_providers.chain(others.map(|(path, from)| (path.to_owned(), from))) {
        let Some(SecretFrom::Env(variable)) = from else { continue };
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !variable.chars().all(is_part) || !variable.starts_with(begins) {
            found.push(Dangling {
                path: format!("{path}.env"),
                message: "this is not the name of a variable; the secret itself is never written here".into(),
                secret: true,
            });
        }
    }
    for (name, provider) in &config.providers {
        for header in
            provider.headers.keys().filter(|h| CREDENTIALS.contains(&h.to_ascii_lowercase().as_str()))
        {
            found.push(Dangling {
                path: format!("providers.{name}.headers.{header}"),
                message: "a secret is never written here; say where it is in the provider's `api_key`".into(),
                secret: true,
            });
        }
    }
}

fn keys(config: &Config, found: &mut Vec<Dangling>) {
    let rows = &config.auth.keys;
    for (index, key) in rows.iter().enumerate() {
        for (field, message) in super::rows::contradictions(key) {
            found.push(Dangling::new(format!("auth.keys[{index}].{field}"), message));
        }
        if rows[..index].iter().any(|earlier| earlier.name == key.name) {
            found.push(Dangling::new(
                format!("auth.keys[{index}].name"),
                format!("two keys are named `{}`", key.name),
            ));
        }
        if rows[..index].iter().any(|earlier| earlier.hash.eq_ignore_ascii_case(&key.hash)) {
            found.push(Dangling::new(format!("auth.keys[{index}].hash"), "two rows have this key".into()));
        }
    }
}

/// A wait of no time would fail every call, and a size of nothing every answer.
fn waits(config: &Config, found: &mut Vec<Dangling>) {
    let server = &config.server;
    let mut spans: Vec<(String, Span)> = vec![
        ("server.body_timeout".into(), server.body_timeout),
        ("server.header_timeout".into(), server.header_timeout),
        ("server.write_timeout".into(), server.write_timeout),
        ("server.request_timeout".into(), server.request_timeout),
        ("server.keep_alive".into(), server.keep_alive),
        ("breaker.window".into(), config.breaker.window),
        ("routing.outlier.interval".into(), config.routing.outlier.interval),
        ("routing.outlier.eject_for".into(), config.routing.outlier.eject_for),
        ("breaker.open_for".into(), config.breaker.open_for),
        ("store.timeout".into(), config.store.timeout),
        ("store.redis_timeout".into(), config.store.redis_timeout),
        ("idempotency.keep".into(), config.idempotency.keep),
        ("session.ttl".into(), config.session.ttl),
        ("session.timeout".into(), config.session.timeout),
        ("review.claim".into(), config.review.claim),
        ("review.cache_ttl".into(), config.review.cache_ttl),
        ("review.retention".into(), config.review.retention),
        ("injection.classifier.timeout".into(), config.injection.classifier.timeout),
        ("safety.moderation.service.timeout".into(), config.safety.moderation.service.timeout),
    ];
    let mut sizes: Vec<(String, Size)> = vec![
        ("server.max_body".into(), server.max_body),
        ("idempotency.max_reply".into(), config.idempotency.max_reply),
        ("idempotency.max_bytes".into(), config.idempotency.max_bytes),
        ("resume.max_stream".into(), config.resume.max_stream),
        ("resume.max_bytes".into(), config.resume.max_bytes),
        ("audit.max_spool".into(), config.audit.max_spool),
    ];
    let of_routes = config.models.iter().filter_map(|(name, route)| {
        route.timeouts.as_ref().map(|timeouts| (format!("models.{name}.timeouts"), timeouts))
    });
    for (path, timeouts) in of_routes.chain([("timeouts".to_owned(), &config.timeouts)]) {
        spans.push((format!("{path}.first_token"), timeouts.first_token));
        spans.push((format!("{path}.idle"), timeouts.idle));
        spans.push((format!("{path}.total"), timeouts.total));
        spans.push((format!("{path}.rate_window"), timeouts.rate_window));
    }
    for (name, provider) in &config.providers {
        spans.push((format!("providers.{name}.connect_timeout"), provider.connect_timeout));
        sizes.push((format!("providers.{name}.max_response"), provider.max_response));
        sizes.push((format!("providers.{name}.max_event"), provider.max_event));
    }
    let no_time = spans.into_iter().filter(|(_, span)| span.0.is_zero()).map(|(path, _)| path);
    let nothing = sizes.into_iter().filter(|(_, size)| size.0 == 0).map(|(path, _)| path);
    found.extend(no_time.chain(nothing).map(|path| Dangling::new(path, "must be more than 0".into())));
}

/// The most that is kept in memory of one kind.
const MOST: Size = Size(1 << 40);

/// What is waited for or kept, and how much of it, within reason.
fn kept(config: &Config, found: &mut Vec<Dangling>) {
    let Config { store, idempotency, resume, .. } = config;
    let spans = [
        ("store.timeout", store.timeout, Span::secs(300)),
        ("store.redis_timeout", store.redis_timeout, Span::secs(10)),
        ("idempotency.keep", idempotency.keep, Span::secs(30 * 86_400)),
        ("resume.keep", resume.keep, Span::secs(86_400)),
        ("resume.grace", resume.grace, Span::secs(3600)),
    ];
    for (path, span, most) in spans {
        if span > most {
            found.push(Dangling::new(path.into(), format!("must be at most {most}")));
        }
    }
    let sizes = [
        ("idempotency", "max_reply", idempotency.max_reply, idempotency.max_bytes),
        ("resume", "max_stream", resume.max_stream, resume.max_bytes),
    ];
    for (section, key, one, all) in sizes {
        if one > all {
            let message = format!("{one} is more than there is for all: `{section}.max_bytes` is {all}");
            found.push(Dangling::new(format!("{section}.{key}"), message));
        }
        if all > MOST {
            found.push(Dangling::new(format!("{section}.max_bytes"), format!("must be at most {MOST}")));
        }
    }
}
