//! The routes, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Span;

/// A model's name, and who answers for it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Who answers. Several share the calls by weight; a user stays with one of them.
    #[garde(dive, length(min = 1))]
    pub targets: Vec<Target>,
    /// Who is asked when the chosen target fails, in order: other routes, or `provider/model`.
    #[garde(skip)]
    pub fallback: Vec<String>,
    /// Whether the next one goes on with a streamed answer that breaks off, from the text already sent.
    #[serde(rename = "continue")]
    #[garde(skip)]
    pub continues: bool,
    /// Other names of the route.
    #[garde(skip)]
    pub aliases: Vec<String>,
    /// Calls for it at the same time, streams to their end included; absent: `admit.per_model_percent` says.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// Waits of its own; absent: the general ones.
    #[garde(skip)]
    pub timeouts: Option<Timeouts>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            fallback: Vec::new(),
            continues: true,
            max_in_flight: None,
            aliases: Vec::new(),
            timeouts: None,
        }
    }
}

/// One model of one provider.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The provider's name under `providers`.
    #[garde(skip)]
    pub provider: String,
    /// The model, in the provider's words.
    #[garde(length(min = 1))]
    pub model: String,
    /// The version's name, shown in `x-model-version`; absent: the model.
    #[serde(default)]
    #[garde(skip)]
    pub version: Option<String>,
    /// Its share of the calls, next to the other targets' weights.
    #[serde(default = "one")]
    #[garde(range(min = 1, max = 1_000_000))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// How long to wait for a model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For the first content of a stream.
    #[garde(skip)]
    pub first_token: Span,
    /// Between two pieces of a stream.
    #[garde(skip)]
    pub idle: Span,
    /// For one attempt, to the end of its answer.
    #[garde(skip)]
    pub total: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { first_token: Span::secs(30), idle: Span::secs(30), total: Span::secs(300) }
    }
}
