//! The routes, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{order::Strategy, outlier};
use crate::{reply::Pace, settings::Span};

/// How targets are chosen, for all routes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// The region whose targets are asked first, where a route has no own; absent: none.
    #[garde(skip)]
    pub prefer_region: Option<String>,
    /// When an endpoint that does worse than the others of its model is left out.
    #[garde(dive)]
    pub outlier: outlier::Settings,
    /// When a late stream's next target is asked as well.
    #[garde(dive)]
    pub hedge: Hedge,
}

/// When a late stream's next target is asked as well.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// Whether it is done: both are paid for.
    #[garde(skip)]
    pub enabled: bool,
    /// The first token is late when it takes longer than 95 of 100 did, and this.
    #[garde(skip)]
    pub min_delay: Span,
    /// At most this share of the calls is asked twice, in percent.
    #[garde(range(max = 100))]
    pub max_percent: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { enabled: false, min_delay: Span::millis(500), max_percent: 5 }
    }
}

/// A model's name, and who answers for it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Who answers. Several share the calls by weight, and a user stays with one
    /// of them; those that serve the same model stand in for each other.
    #[garde(dive, length(min = 1))]
    pub targets: Vec<Target>,
    /// By what they are ranked: `weighted`, `latency` (soonest first token first) or `cost` (cheapest first).
    #[garde(skip)]
    pub strategy: Strategy,
    /// The region whose targets are asked first; absent: `routing.prefer_region`.
    #[garde(skip)]
    pub prefer_region: Option<String>,
    /// Who is asked when the chosen target fails, in order: other routes, or `provider/model`.
    #[garde(skip)]
    pub fallback: Vec<String>,
    /// Whether the next one goes on with a streamed answer that breaks off, from the text already sent.
    #[serde(rename = "continue")]
    #[garde(skip)]
    pub continues: bool,
    /// Other names of the route.
    #[garde(inner(length(min = 1)))]
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
            strategy: Strategy::Weighted,
            prefer_region: None,
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
    /// Where it is, as `prefer_region` names it.
    #[serde(default)]
    #[garde(skip)]
    pub region: Option<String>,
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
    /// The slowest that a stream may be, in characters a second; 0: however slow.
    #[garde(range(max = 10_000))]
    pub min_rate: u32,
    /// Over which time it is taken.
    #[garde(skip)]
    pub rate_window: Span,
}

impl Timeouts {
    /// The slowest that a stream may be, where there is such a bound.
    pub fn pace(&self) -> Option<Pace> {
        (self.min_rate > 0).then_some(Pace { floor: self.min_rate, window: self.rate_window.0 })
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_token: Span::secs(30),
            idle: Span::secs(30),
            total: Span::secs(300),
            min_rate: 0,
            rate_window: Span::secs(10),
        }
    }
}
