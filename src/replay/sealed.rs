//! What leaves the process is sealed: kept where others may read it, it tells nothing.
//!
//! The key of a seal is made (HKDF-SHA-256) of the server's pepper, the API key
//! that the caller showed, the caller, and a word that the caller alone knows:
//! the `Idempotency-Key`, or the name of a stream. It is kept nowhere: only who
//! asks again with all of it can open what was kept. Names and fingerprints
//! beside it are keyed hashes, so that the word cannot be guessed from them.
use std::{fmt, sync::Arc};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    hmac,
};

use crate::caller::Rights;

/// What the server adds to every seal and name, so that they tell nothing without it.
#[derive(Clone)]
pub struct Root(Arc<Inner>);

struct Inner {
    salt: Salt,
    names: hmac::Key,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root")
    }
}

impl Root {
    /// Made of a secret of the server; `None` where its gateways have none in common: then what
    /// callers know must do.
    pub fn new(secret: Option<&[u8; 32]>) -> Self {
        let secret = secret.map_or(&[][..], |secret| &secret[..]);
        let names = hmac::Key::new(hmac::HMAC_SHA256, &[b"sluice names 2", secret].concat());
        Self(Arc::new(Inner { salt: Salt::new(HKDF_SHA256, secret), names }))
    }

    /// The seal of this caller, who shows this API key (empty where none is needed) and knows this word.
    pub fn seal(&self, shown: &str, owner: &Rights, word: &str) -> Seal {
        let mut known = Vec::with_capacity(256);
        for part in [shown, &owner.tenant.name, &owner.id, word] {
            known.extend_from_slice(&(part.len() as u64).to_le_bytes());
            known.extend_from_slice(part.as_bytes());
        }
        let made = self.0.salt.extract(&known);
        let key = made.expand(&[b"sluice seal 2"], &AES_256_GCM).map(UnboundKey::from);
        Seal(key.ok().map(LessSafeKey::new))
    }

    /// A keyed digest in which no part can be taken for the end of another.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.0.names);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(mac.sign().as_ref());
        digest
    }
}

/// What closes and opens.
pub struct Seal(Option<LessSafeKey>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Seals `text`, for this `place` alone.
    pub fn close(&self, place: &[u8], text: Vec<u8>) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = text;
        let key = self.0.as_ref()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .ok()?;
        sealed.extend_from_slice(&nonce);
        Some(sealed)
    }

    /// Opens what was sealed for this place by the same caller, with the same key and word.
    pub fn open(&self, place: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] =
            sealed.split_off(sealed.len().checked_sub(NONCE_LEN)?).try_into().ok()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.0.as_ref()?.open_in_place(nonce, Aad::from(place), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Caller;

    #[test]
    fn only_who_has_pepper_key_and_word_opens_and_only_at_its_place() {
        let (root, who) = (Root::new(Some(&[7; 32])), Caller::named("k", "t").rights);
        let seal = root.seal("sk-a", &who, "word");
        let sealed = seal.close(b"here", b"my number is 5".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"number"));
        assert_eq!(root.seal("sk-a", &who, "word").open(b"here", sealed.clone()).unwrap(), b"my number is 5");
        assert!(seal.open(b"there", sealed.clone()).is_none());
        let (other, elsewhere) = (Caller::named("k2", "t").rights, Caller::named("k", "t2").rights);
        for other in [
            root.seal("sk-b", &who, "word"),
            root.seal("sk-a", &who, "other"),
            root.seal("sk-aw", &who, "ord"),
            root.seal("sk-a", &other, "word"),
            root.seal("sk-a", &elsewhere, "word"),
            Root::new(Some(&[8; 32])).seal("sk-a", &who, "word"),
            Root::new(None).seal("sk-a", &who, "word"),
        ] {
            assert!(other.open(b"here", sealed.clone()).is_none());
        }
        for end in 0..sealed.len() {
            assert!(seal.open(b"here", sealed[..end].to_vec()).is_none());
        }
    }
}
