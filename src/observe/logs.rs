//! Logs: JSON lines, or coloured text on a terminal, on standard error.
use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::LevelFilter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The target of the lines that say where the gateway listens. People and
/// scripts wait for them, so they are written at every level, `off` included.
pub const START: &str = "sluice::start";

/// How the gateway logs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The least level that is logged, such as `info`, or a filter such as
    /// `info,sluice=debug`. The environment variable `LOG_LEVEL` wins.
    #[garde(custom(is_filter))]
    pub level: String,
    /// The form of a line.
    #[garde(skip)]
    pub format: Format,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// A JSON object a line.
    Json,
    /// Text, coloured on a terminal.
    Text,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Auto }
    }
}

fn is_filter(text: &str, (): &()) -> garde::Result {
    match filter(text) {
        Some(_) => Ok(()),
        None => {
            Err(garde::Error::new("must be `error`, `warn`, `info`, `debug`, `trace` or a filter of these"))
        }
    }
}

fn filter(text: &str) -> Option<EnvFilter> {
    // A bare word that is no level would be taken for a target's name.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        levels.contains(&level.as_str())
    };
    text.split(',').all(known).then(|| EnvFilter::try_new(text.to_ascii_lowercase()).ok()).flatten()
}

/// Whether a text names a level, or levels of parts of the program; an empty one says nothing, which is good too.
pub(crate) fn is_level(text: &str) -> bool {
    text.trim().is_empty() || filter(text).is_some()
}

/// The level in force: the environment's, else the configured one.
fn level(settings: &Settings) -> EnvFilter {
    let set = std::env::var("LOG_LEVEL").ok().and_then(|text| filter(&text));
    set.or_else(|| filter(&settings.level)).unwrap_or_else(|| EnvFilter::new("info"))
}

/// What is written: all of the level in force, and where the gateway listens. Postgres says at each start that tables
/// are there already, which nobody needs to know.
fn shown(settings: &Settings) -> EnvFilter {
    let own = [format!("{START}=info"), "sqlx::postgres::notice=warn".to_owned()];
    own.iter().filter_map(|own| own.parse().ok()).fold(level(settings), EnvFilter::add_directive)
}

/// A running log whose level can be changed. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    handle: reload::Handle<EnvFilter, Registry>,
    json: bool,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Logs {
    /// Starts logging. Once a process.
    pub fn start(settings: &Settings) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let json = match settings.format {
            Format::Auto => !terminal,
            Format::Json => true,
            Format::Text => false,
        };
        let (filter, handle) = reload::Layer::new(shown(settings));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if json {
            // A module's path would come under the name that we give to models' targets.
            lines
                .json()
                .flatten_event(true)
                .with_target(false)
                .with_current_span(false)
                .with_span_list(false)
                .boxed()
        } else {
            lines.with_ansi(terminal).with_target(false).boxed()
        };
        // A second start, as in tests, keeps the first.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { handle, json }
    }

    /// Changes the level.
    pub fn reload(&self, settings: &Settings) {
        let _ = self.handle.reload(shown(settings));
    }

    /// As what a request's lines are written: JSON or not; `None` where the level hides them.
    pub fn request_lines(&self, settings: &Settings) -> Option<bool> {
        let shown = level(settings).max_level_hint().is_none_or(|level| level >= LevelFilter::INFO);
        shown.then_some(self.json)
    }

    /// Whether lines are JSON.
    pub fn json(&self) -> bool {
        self.json
    }
}
