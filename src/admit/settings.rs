//! How many calls may be under way, as it is written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Span;

/// How many calls may be under way.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Calls at the same time, streams to their end included.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_in_flight: u32,
    /// The share of them that one model may have, in percent, unless its route has a `max_in_flight` of its own:
    /// one that is slow leaves the rest to the others. 100 is no bound.
    #[garde(range(min = 1, max = 100))]
    pub per_model_percent: u32,
    /// Calls that may wait for a place: as many for each model and each provider that has a bound.
    #[garde(range(max = 1_000_000))]
    pub queue: u32,
    /// How long they wait. Who would wait longer is refused at once.
    #[garde(skip)]
    pub queue_wait: Span,
    /// Whether each provider is asked for as many answers at the same time as its latency shows it can take,
    /// up to its `max_in_flight`.
    #[garde(skip)]
    pub adaptive: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: 4096,
            per_model_percent: 75,
            queue: 1024,
            queue_wait: Span::secs(2),
            adaptive: false,
        }
    }
}

impl Settings {
    /// The places of a model whose route says so, or says nothing; `None` is no bound.
    pub fn places_of_model(&self, own: Option<u32>) -> Option<u32> {
        let share = (u64::from(self.max_in_flight) * u64::from(self.per_model_percent)).div_ceil(100) as u32;
        own.or((self.per_model_percent < 100).then_some(share))
    }
}
