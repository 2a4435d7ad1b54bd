//! The configuration: one value, checked once, never changed.
//!
//! Defaults, then the file, then the environment, then flags. Each section's
//! settings live with the thing that they set; here they come together.
#[cfg(test)]
mod documented;
mod effect;
mod environment;
mod load;
mod outside;
mod problem;
mod read;
mod references;
mod rows;
mod schema;
mod tree;
pub mod watch;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::{Loaded, Source, load};
pub use problem::{Place, Problem};
pub use rows::keys;
pub use schema::schema;

use crate::{
    admit, audit,
    auth::{Auth, Tenants},
    budget, cache,
    guard::{leak, pii, safety, schema as form, settings::Injection},
    http::settings::Server,
    knowledge, limit, observe,
    pipeline::settings::{Confidence, Input, Retry},
    prompt, provider, replay, review, route, session,
    settings::SecretFrom,
    store,
};

/// All settings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The server.
    #[garde(dive)]
    pub server: Server,
    /// Who may call.
    #[garde(dive)]
    pub auth: Auth,
    /// What the keys of a tenant may ask for together, by its name. One that is not here is not limited.
    #[garde(dive)]
    pub tenants: Tenants,
    /// How much a caller may ask for.
    #[garde(dive)]
    pub limits: limit::Settings,
    /// How much money may be spent.
    #[garde(dive)]
    pub budget: budget::Settings,
    /// How many calls may be under way.
    #[garde(dive)]
    pub admit: admit::Settings,
    /// What a question may look like.
    #[garde(dive)]
    pub input: Input,
    /// What becomes of a question that looks like prompt injection or a jailbreak.
    #[garde(dive)]
    pub injection: Injection,
    /// What becomes of unsafe content, in what is asked and in what is answered.
    #[garde(dive)]
    pub safety: safety::Settings,
    /// What becomes of an answer that gives the system prompt away.
    #[garde(dive)]
    pub leak: leak::Settings,
    /// What becomes of answers that have to follow a JSON Schema.
    #[garde(dive)]
    pub schema: form::Settings,
    /// Personal data and secrets, in questions and answers.
    #[garde(dive)]
    pub pii: pii::Settings,
    /// What becomes of an answer from documents that little speaks for.
    #[garde(dive)]
    pub confidence: Confidence,
    /// How answers are kept.
    #[garde(dive)]
    pub cache: cache::Settings,
    /// What becomes of requests that are sent twice with one `Idempotency-Key`.
    #[garde(dive)]
    pub idempotency: replay::settings::Idempotency,
    /// What becomes of a native stream whose reader lost the connection.
    #[garde(dive)]
    pub resume: replay::settings::Resume,
    /// What is remembered of a conversation.
    #[garde(dive)]
    pub session: session::Settings,
    /// Which answers wait for a person.
    #[garde(dive)]
    pub review: review::Settings,
    /// The documents that answers rest on.
    #[garde(dive)]
    pub knowledge: knowledge::Settings,
    /// The prompts.
    #[garde(dive)]
    pub prompts: prompt::Settings,
    /// Who answers, by name. With none, `OPENAI_API_KEY` and
    /// `ANTHROPIC_API_KEY` make one each; the embedded ones are always there.
    #[garde(dive)]
    pub providers: BTreeMap<String, provider::Settings>,
    /// The routes: a model's name, and who answers for it.
    #[garde(dive)]
    pub models: BTreeMap<String, route::RouteSettings>,
    /// How targets are chosen, for all routes.
    #[garde(dive)]
    pub routing: route::RoutingSettings,
    /// The route of callers who name none; absent: the best that there is.
    #[garde(skip)]
    pub default_model: Option<String>,
    /// The route that `/predict` asks.
    #[garde(length(min = 1))]
    pub predict_model: String,
    /// How long a model is waited for.
    #[garde(dive)]
    pub timeouts: route::Timeouts,
    /// How often, and how soon, a failed call is tried again.
    #[garde(dive)]
    pub retry: Retry,
    /// When a target is left alone.
    #[garde(dive)]
    pub breaker: route::BreakerSettings,
    /// The file with what tokens cost; absent: the prices that come with Sluice.
    #[garde(skip)]
    pub prices: Option<PathBuf>,
    /// Where state is kept that is shared or must last.
    #[garde(dive)]
    pub store: store::Settings,
    /// How records of calls are kept.
    #[garde(dive)]
    pub audit: audit::Settings,
    /// How the gateway logs.
    #[garde(dive)]
    pub log: observe::logs::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            auth: Auth::default(),
            tenants: Tenants::new(),
            limits: limit::Settings::default(),
            budget: budget::Settings::default(),
            admit: admit::Settings::default(),
            input: Input::default(),
            pii: pii::Settings::default(),
            injection: Injection::default(),
            safety: safety::Settings::default(),
            leak: leak::Settings::default(),
            schema: form::Settings::default(),
            confidence: Confidence::default(),
            cache: cache::Settings::default(),
            idempotency: replay::settings::Idempotency::default(),
            resume: replay::settings::Resume::default(),
            session: session::Settings::default(),
            review: review::Settings::default(),
            knowledge: knowledge::Settings::default(),
            prompts: prompt::Settings::default(),
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            routing: route::RoutingSettings::default(),
            default_model: None,
            predict_model: "sentiment".into(),
            timeouts: route::Timeouts::default(),
            retry: Retry::default(),
            breaker: route::BreakerSettings::default(),
            prices: None,
            store: store::Settings::default(),
            audit: audit::Settings::default(),
            log: observe::logs::Settings::default(),
        }
    }
}

/// The routes that are always there, and the embedded provider of each.
pub const EMBEDDED: [(&str, &str); 3] =
    [("extractive", "extractive"), ("hashing", "extractive"), ("sentiment", "sentiment")];

/// Models that OpenAI's own API serves.
const OPENAI_MODELS: [&str; 6] = ["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*"];
/// Models that Anthropic's own API serves.
const ANTHROPIC_MODELS: [&str; 1] = ["claude-*"];

impl Config {
    /// Adds what needs no writing down: providers whose keys are in the
    /// environment, the embedded ones and their routes, the default model.
    #[must_use]
    pub fn completed(mut self, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        if self.providers.is_empty() {
            self.providers_from(environment);
        }
        if self.default_model.is_none() {
            let models = [("openai", "gpt-4o-mini"), ("anthropic", "claude-haiku-4-5")];
            let found = models.into_iter().find(|(provider, model)| {
                let patterns = self.providers.get(*provider).map(|provider| &provider.models);
                patterns.is_some_and(|patterns| patterns.iter().any(|pattern| route::matches(pattern, model)))
            });
            let own = self.models.keys().next().cloned();
            let first = own.or(found.map(|(_, model)| model.to_owned()));
            self.default_model = Some(first.unwrap_or_else(|| EMBEDDED[0].0.to_owned()));
        }
        for (name, provider) in EMBEDDED {
            if let Ok(kind) = provider.parse() {
                self.providers.entry(provider.into()).or_insert_with(|| provider::Settings::of(kind));
            }
            let target = route::TargetSettings {
                provider: provider.into(),
                model: name.into(),
                version: None,
                weight: 1,
                region: None,
            };
            let route = route::RouteSettings { targets: vec![target], ..route::RouteSettings::default() };
            self.models.entry(name.into()).or_insert(route);
        }
        self
    }

    fn providers_from(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mut others = false;
        for (kind, own) in [("openai", &OPENAI_MODELS[..]), ("anthropic", &ANTHROPIC_MODELS[..])] {
            let key = format!("{}_API_KEY", kind.to_uppercase());
            let base_url = set(&format!("{}_BASE_URL", kind.to_uppercase()));
            // A server of one's own may want no key.
            let api_key = set(&key).map(|_| SecretFrom::Env(key));
            if api_key.is_none() && base_url.is_none() {
                continue;
            }
            let mut models: Vec<String> = own.iter().map(|&model| model.to_owned()).collect();
            // Another server has other models, too: it lends whatever it has. Of two, the first one.
            if base_url.is_some() && !others {
                models.push("*".into());
                others = true;
            }
            let Ok(known) = kind.parse() else { continue };
            let settings = provider::Settings { base_url, api_key, models, ..provider::Settings::of(known) };
            self.providers.insert(kind.into(), settings);
        }
    }

    /// Why the server must not start like this, if it must not.
    pub fn refusal(&self) -> Option<String> {
        (self.is_open() && !self.auth.open).then(|| {
            format!(
                "no key is configured, so the server may listen on loopback only, not on {}; \
                 make a key with `sluice key new NAME` and put its row under `auth.keys`, or set \
                 `auth.open` where something else keeps strangers out",
                self.server.listen
            )
        })
    }

    /// Whether callers from other machines need no key.
    pub fn is_open(&self) -> bool {
        let keyless = self.auth.keys.is_empty() && self.auth.keys_file.is_none();
        keyless && !self.server.listen.ip().is_loopback()
    }
}
