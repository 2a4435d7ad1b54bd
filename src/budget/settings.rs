//! The budgets, as they are written down.
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    caller::Caps,
    settings::{SecretFrom, Span, is_address},
};

/// How much money may be spent, and how the most that a call can cost is found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// For one key, unless the key has a budget of its own.
    #[garde(dive)]
    pub key: Caps,
    /// For one user: `user_id` of the native API, `user` of the others.
    #[garde(dive)]
    pub user: Caps,
    /// For one tenant, unless the tenant has a budget of its own.
    #[garde(dive)]
    pub tenant: Caps,
    /// For all together.
    #[garde(dive)]
    pub global: Caps,
    /// The longest answer where a budget applies and the caller gives no limit, in tokens. The
    /// provider is told.
    #[garde(range(min = 1, max = 10_000_000))]
    pub default_max_tokens: u32,
    /// The most that one picture can count for, in tokens.
    #[garde(range(min = 1, max = 10_000_000))]
    pub image_tokens: u64,
    /// The most that one document can count for, in tokens; absent: documents are refused where a
    /// budget applies.
    #[garde(range(min = 1, max = 100_000_000))]
    pub file_tokens: Option<u64>,
    /// Parameters that make a call cost more than its tokens tell: refused where a budget applies.
    #[garde(inner(custom(is_parameter)))]
    pub refuse_parameters: Vec<String>,
    /// How long after its deadline a call that was not accounted for is charged in full.
    #[garde(skip)]
    pub lease_margin: Span,
    /// How many accounts are kept: one for each key, user and tenant with a budget, and period.
    #[garde(range(min = 16, max = 10_000_000))]
    pub max_accounts: usize,
    /// The file that the books are kept in.
    #[garde(skip)]
    pub journal: PathBuf,
    /// Where a budget's alerts are sent; absent: nowhere.
    #[garde(inner(custom(is_address)))]
    pub webhook: Option<String>,
    /// What signs them (HMAC-SHA-256); absent: they are not signed.
    #[garde(skip)]
    pub webhook_secret: Option<SecretFrom>,
}

/// What is billed by other measures than tokens, or brings in text from elsewhere.
const UNBOUNDED: [&str; 16] = [
    "background",
    "best_of",
    "container",
    "conversation",
    "fallbacks",
    "mcp_servers",
    "modalities",
    "models",
    "plugins",
    "prediction",
    "previous_response_id",
    "prompt",
    "route",
    "service_tier",
    "speed",
    "web_search_options",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: Caps::default(),
            user: Caps::default(),
            tenant: Caps::default(),
            global: Caps::default(),
            default_max_tokens: 4096,
            image_tokens: 50_000,
            file_tokens: None,
            refuse_parameters: UNBOUNDED.map(str::to_owned).into(),
            lease_margin: Span::secs(60),
            max_accounts: 100_000,
            journal: "data/budget.journal".into(),
            webhook: None,
            webhook_secret: None,
        }
    }
}

fn is_parameter(name: &str, (): &()) -> garde::Result {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let good = (1..=128).contains(&name.len()) && name.bytes().all(known);
    good.then_some(()).ok_or_else(|| garde::Error::new("is no name of a parameter"))
}
