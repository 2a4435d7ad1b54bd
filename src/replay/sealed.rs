//! What leaves the process is sealed: kept where others may read it, it tells nothing.
//!
//! The key is made of the API key that the caller showed and of a word that
//! the caller alone knows (the `Idempotency-Key`, or the name of a stream), and
//! is kept nowhere: only who asks again with both can open what was kept.
use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// What closes and opens.
pub struct Seal(Option<LessSafeKey>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The seal of who shows this API key (empty where none is needed) and knows this word.
    pub fn new(shown: &str, word: &str) -> Self {
        let key = digest(&[b"sluice seal 1", shown.as_bytes(), word.as_bytes()]);
        Self(UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new))
    }

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

    /// Opens what was sealed for this place with the same key and word.
    pub fn open(&self, place: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] =
            sealed.split_off(sealed.len().checked_sub(NONCE_LEN)?).try_into().ok()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.0.as_ref()?.open_in_place(nonce, Aad::from(place), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// A digest in which no part can be taken for the end of another.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_key_and_word_opens_and_only_at_its_place() {
        let seal = Seal::new("sk-a", "word");
        let sealed = seal.close(b"here", b"my number is 5".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"number"));
        assert_eq!(Seal::new("sk-a", "word").open(b"here", sealed.clone()).unwrap(), b"my number is 5");
        assert!(seal.open(b"there", sealed.clone()).is_none());
        for other in [Seal::new("sk-b", "word"), Seal::new("sk-a", "other"), Seal::new("sk-aw", "ord")] {
            assert!(other.open(b"here", sealed.clone()).is_none());
        }
        for end in 0..sealed.len() {
            assert!(seal.open(b"here", sealed[..end].to_vec()).is_none());
        }
    }
}
