//! What is read at the start and at each reload: the configuration, and the files that it names.
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{
    auth::Key,
    config::{self, Config},
    price::Prices,
    prompt::Prompts,
};

/// A configuration and what was read for it: what a reload compares.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) keys: Vec<Key>,
    pub(super) prices: Arc<Prices>,
    pub(super) prompts: Arc<Prompts>,
    /// A digest of the providers' keys.
    secrets: [u8; 32],
}

impl Parts {
    /// Reads all that a configuration names. Blocks.
    pub(super) fn read(config: Config) -> Result<Self, String> {
        Ok(Self {
            keys: config::keys(&config.auth).map_err(|problems| super::listed(&problems))?,
            prices: Arc::new(Prices::load(config.prices.as_deref())?),
            prompts: Arc::new(Prompts::load(&config.prompts.path, &config.prompts.version)?),
            secrets: secrets(&config),
            config: Arc::new(config),
        })
    }

    /// Whether these are other parts.
    pub(super) fn differ(&self, other: &Self) -> bool {
        self.config != other.config
            || self.keys != other.keys
            || self.prices != other.prices
            || self.prompts.digest() != other.prompts.digest()
            || self.secrets != other.secrets
    }
}

/// A digest of the providers' keys, to see that one in a file was replaced.
fn secrets(config: &Config) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, provider) in &config.providers {
        let key = provider.key_source().and_then(|from| from.fetch());
        for part in [name.as_str(), key.as_ref().map_or("", |key| key.reveal())] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    digest.finalize().into()
}
