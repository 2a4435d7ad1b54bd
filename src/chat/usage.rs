//! What an answer takes: tokens and money.
use std::fmt;

/// Tokens, as the provider counted them, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, those from a prompt cache included.
    pub input: u64,
    /// Tokens written, reasoning included.
    pub output: u64,
    /// Of `input`: read from the provider's prompt cache.
    pub cached: u64,
    /// Of `input`: written to the provider's prompt cache.
    pub cache_write: u64,
    /// Of `output`: spent on thinking.
    pub reasoning: u64,
    /// Whether we counted, because the provider did not.
    pub estimated: bool,
    /// The price of it all, once the target that served it is known.
    pub cost: Option<Cost>,
}

impl Usage {
    /// All tokens.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// What this and `other` took together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let cost = match (self.cost, other.cost) {
            (Some(one), Some(two)) => Some(Cost(one.0.saturating_add(two.0))),
            (one, two) => one.or(two),
        };
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            estimated: self.estimated || other.estimated,
            cost,
        }
    }
}

/// Money, in billionths of a US dollar: exact for every per-million-token
/// price with up to three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

impl Cost {
    /// In US dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// As decimal US dollars without trailing zeros, such as `0.00015`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, mut rest, mut digits) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000, 9);
        if rest == 0 {
            return write!(f, "{dollars}");
        }
        while rest % 10 == 0 {
            (rest, digits) = (rest / 10, digits - 1);
        }
        write!(f, "{dollars}.{rest:0digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_all_reason_are_added_up() {
        let usage = Usage { input: u64::MAX, output: 1, ..Usage::default() };
        assert_eq!(usage.total(), u64::MAX);
    }

    #[test]
    fn money_is_shown_without_rounding() {
        assert_eq!(Cost(0).to_string(), "0");
        assert_eq!(Cost(150).to_string(), "0.00000015");
        assert_eq!(Cost(12_500_000_000).to_string(), "12.5");
    }
}
