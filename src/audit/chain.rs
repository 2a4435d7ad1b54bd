//! The chain of records: each has a keyed hash over the one before and itself.
use std::fmt;

use ring::{digest as sums, hmac};

use super::frame::UserRef;

/// A SHA-256, keyed or not.
pub type Hash = [u8; 32];

/// The key of a chain. Who does not have it can make no link.
#[derive(Clone)]
pub struct Key {
    links: hmac::Key,
    name: String,
}

// The key itself is never shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl Key {
    /// A key from a secret.
    pub fn new(secret: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let links = hmac::sign(&root, b"sluice audit chain 1");
        let name = hmac::sign(&root, b"sluice audit key name 1");
        Self {
            links: hmac::Key::new(hmac::HMAC_SHA256, links.as_ref()),
            name: hex(name.as_ref().get(..8).unwrap_or_default()),
        }
    }

    /// By what a key is told from another. It tells nothing of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// HMAC-SHA-256 over the parts.
    pub fn mac(&self, parts: &[&[u8]]) -> Hash {
        let mut context = hmac::Context::with_key(&self.links);
        parts.iter().for_each(|part| context.update(part));
        array(context.sign().as_ref())
    }

    /// By what a user's records are found once the name is gone; zeros for nobody.
    pub fn user(&self, tenant: &str, user: &str) -> UserRef {
        if user.is_empty() {
            return UserRef::default();
        }
        let length = (tenant.len() as u64).to_le_bytes();
        array(&self.mac(&[b"user", &length, tenant.as_bytes(), user.as_bytes()]))
    }
}

/// SHA-256 over the parts.
pub(super) fn digest(parts: &[&[u8]]) -> Hash {
    let mut context = sums::Context::new(&sums::SHA256);
    parts.iter().for_each(|part| context.update(part));
    array(context.finish().as_ref())
}

/// The first bytes; both hashes here have 32.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

/// As hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// From hexadecimal digits; `None` where they are none, or not as many.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut out = [0; N];
    for (to, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *to = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_shown_and_users_are_told_apart() {
        let key = Key::new(b"a secret");
        assert!(!format!("{key:?}").contains("secret"));
        assert_ne!(key.name(), Key::new(b"another").name());
        assert_ne!(key.user("a", "bc"), key.user("ab", "c"));
        assert_ne!(key.user("a", "b"), Key::new(b"another").user("a", "b"));
        assert_eq!(key.user("a", ""), UserRef::default());
        assert_eq!(unhex::<3>(&hex(&[0, 255, 16])), Some([0, 255, 16]));
        assert_eq!(unhex::<3>("00ff1"), None);
        assert_eq!(unhex::<2>("00fx"), None);
    }
}
