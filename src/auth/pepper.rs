//! The secret of the server that keys are hashed with: a stolen table of hashes is worth nothing without it.
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The fewest characters of a pepper.
const SHORTEST: usize = 32;

/// The pepper, ready to hash.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// Takes a secret; `None` where it is too short to be one.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.as_bytes();
        (secret.len() >= SHORTEST).then(|| Hmac::new_from_slice(secret).ok().map(Self)).flatten()
    }

    /// HMAC-SHA-256 of a key.
    pub fn hash(&self, key: &[u8]) -> [u8; 32] {
        let mut hmac = self.0.clone();
        hmac.update(key);
        hmac.finalize().into_bytes().into()
    }

    /// A hash as it is written down.
    pub fn hex(hash: &[u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
