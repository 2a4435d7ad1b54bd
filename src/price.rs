//! What tokens cost, by the model that served them.
use std::{path::Path, sync::Arc};

use foldhash::HashMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::chat::{Cost, Usage};

/// The prices that come with Sluice.
const SHIPPED: &str = include_str!("../config/prices.yaml");

/// A price list. Prices are kept in thousandths of a dollar per million
/// tokens, that is in billionths of a dollar per token: all sums are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    models: HashMap<String, Price>,
    unknown: Price,
    /// A digest of the list as it was written.
    version: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Price {
    input: u64,
    output: u64,
    cached: u64,
    cache_write: u64,
}

/// The models that run within the gateway: they cost nothing, whatever a list says of others.
const EMBEDDED: [&str; 3] = ["extractive", "hashing", "sentiment"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    models: HashMap<String, Row>,
    unknown: Row,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    input: f64,
    output: f64,
    cached: Option<f64>,
    cache_write: Option<f64>,
}

impl Prices {
    /// Reads the file, or the list that comes with Sluice where none is named.
    pub fn load(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else { return Self::parse(SHIPPED) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let models = file.models.into_iter().map(|(name, row)| row.price(&name).map(|price| (name, price)));
        let mut models: HashMap<String, Price> = models.collect::<Result<_, _>>()?;
        for name in EMBEDDED {
            models.entry(name.into()).or_insert(Price { input: 0, output: 0, cached: 0, cache_write: 0 });
        }
        let digest: [u8; 32] = Sha256::digest(text).into();
        let version: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { models, unknown: file.unknown.price("unknown")?, version: version.into() })
    }

    /// A digest of the list, for records.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// What an answer of `model` cost.
    pub fn cost(&self, model: &str, usage: &Usage) -> Cost {
        let price = self.find(model).unwrap_or(self.unknown);
        let cached = usage.cached.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        let read = (usage.input - cached - written).saturating_mul(price.input);
        let cost = read.saturating_add(cached.saturating_mul(price.cached));
        let cost = cost.saturating_add(written.saturating_mul(price.cache_write));
        Cost(cost.saturating_add(usage.output.saturating_mul(price.output)))
    }

    /// The most that so many tokens of `model` cost; `None` where the list does not have it.
    pub fn at_most(&self, model: &str, input: u64, output: u64) -> Option<Cost> {
        let price = self.find(model)?;
        let read = input.saturating_mul(price.input.max(price.cached).max(price.cache_write));
        Some(Cost(read.saturating_add(output.saturating_mul(price.output))))
    }

    /// Whether the list has the model.
    pub fn known(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// Whether a model has a price of its own, by its name or by that without its date.
    pub fn has(&self, model: &str) -> bool {
        self.find(model).is_some()
    }

    /// `gpt-4o-2024-08-06` and `claude-haiku-4-5-20251001` cost what the undated names do.
    fn find(&self, model: &str) -> Option<Price> {
        self.models.get(model).copied().or_else(|| self.undated(model))
    }

    fn undated(&self, model: &str) -> Option<Price> {
        let starts = |name: &&String| {
            model.strip_prefix(name.as_str()).is_some_and(|rest| {
                rest.len() >= 9
                    && rest.starts_with('-')
                    && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-')
            })
        };
        let name = self.models.keys().filter(starts).max_by_key(|name| name.len())?;
        self.models.get(name).copied()
    }
}

impl Row {
    fn price(self, name: &str) -> Result<Price, String> {
        let nanos = |what: &str, dollars: f64| {
            if (0.0..=1e6).contains(&dollars) {
                Ok((dollars * 1000.0).round() as u64)
            } else {
                Err(format!("`{name}.{what}` must be 0 to 1000000 dollars per million tokens"))
            }
        };
        let input = nanos("input", self.input)?;
        let cached = self.cached.map_or(Ok(input), |cached| nanos("cached", cached))?;
        let cache_write = self.cache_write.map_or(Ok(input), |written| nanos("cache_write", written))?;
        Ok(Price { input, output: nanos("output", self.output)?, cached, cache_write })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, cached: u64) -> Usage {
        Usage { input, output, cached, ..Usage::default() }
    }

    #[test]
    fn costs_are_exact_and_dated_names_cost_what_undated_ones_do() {
        let prices = Prices::load(None).unwrap();
        assert_eq!(prices.cost("gpt-4o", &usage(1_000_000, 0, 0)).to_string(), "2.5");
        assert_eq!(prices.cost("gpt-4o-mini", &usage(1, 1, 0)), Cost(750));
        assert_eq!(prices.cost("gpt-4o-2024-08-06", &usage(1, 0, 0)), Cost(2500));
        assert_eq!(prices.cost("claude-haiku-4-5-20251001", &usage(0, 1, 0)), Cost(1250));
        assert_eq!(prices.cost("nobody-knows", &usage(1, 1, 0)), Cost(20_000));
        assert_eq!(prices.cost("gpt-4o", &usage(10, 0, 4)), Cost(6 * 2500 + 4 * 1250));
        assert_eq!(prices.cost("extractive", &usage(10, 10, 0)), Cost(0));
    }

    #[test]
    fn a_bad_list_is_refused() {
        assert!(
            Prices::parse("models: {a: {input: -1, output: 0}}\nunknown: {input: 1, output: 1}").is_err()
        );
        assert!(Prices::parse("models: {}").is_err());
    }
}
