//! Making a key.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::Pepper;

/// A key of 256 random bits.
pub fn key() -> String {
    format!("sk-sluice-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// Makes a key; gives back what a person needs: the key, shown this once, and
/// its row for the configuration.
pub fn row(name: &str, tenant: &str) -> Result<String, String> {
    for (what, text) in [("name", name), ("tenant", tenant)] {
        if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(format!("the {what} must be 1 to 128 characters long, without control characters"));
        }
    }
    let key = key();
    // JSON's way of writing a text is YAML's too.
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
    Ok(format!(
        "key (shown this once): {key}\n\nput this under auth.keys, or into auth.keys_file:\n\n- name: {}\n  hash: {}\n  tenant: {}\n",
        quoted(name)?,
        hash(&key),
        quoted(tenant)?,
    ))
}

/// How the configuration holds a key.
fn hash(key: &str) -> String {
    format!("sha256:{}", Pepper::hex(&Sha256::digest(key.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Key, Keyring, Tenants};

    #[test]
    fn the_printed_row_lets_the_printed_key_in_and_no_other() {
        let made = row("my \"app\"", "t").unwrap();
        let (key, rest) = made.split_once("\n\nput this").unwrap();
        let key = key.rsplit(' ').next().unwrap();
        let printed = rest.split_once("\n\n").unwrap().1;
        let rows: Vec<Key> = serde_saphyr::from_str(printed).unwrap();
        let ring = Keyring::new(&rows, &Tenants::new(), None, false);
        let caller = |key: &str| ring.caller(Some(key));
        assert_eq!(&**caller(key).unwrap().key(), "my \"app\"");
        assert!(caller(&format!("{key}x")).is_none());
        assert!(caller("").is_none());
        assert_ne!(row("a", "b").unwrap(), row("a", "b").unwrap());
    }
}
