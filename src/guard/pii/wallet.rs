//! Addresses of crypto wallets: base58check, bech32 and its variants, and
//! Ethereum's with the checksum in its capitals (EIP-55).
use sha2::{Digest, Sha256};
use sha3::Keccak256;

use super::{
    kind::Kind,
    text::{Found, Text},
    words::Class,
};

/// The shortest and the longest address that is looked at, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 25..=120;
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The same letters as Ripple puts them in order.
const RIPPLE: &[u8; 58] = b"rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz";
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// An address that is the word at `start..end`.
pub(super) fn find(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    let word = &text.bytes[start..end];
    if !LENGTHS.contains(&word.len())
        || !text.begins(start) && !matches!(text.before(start), b':' | b'/')
        || text.byte(end) == b'_'
    {
        return None;
    }
    let announced = || text.announced(Class::WALLET, Class::DIGEST, start, end);
    // Solana's addresses have no checksum; Monero's is not looked at.
    let unchecked = || {
        let mixed = word.iter().any(u8::is_ascii_lowercase)
            && word.iter().any(u8::is_ascii_uppercase)
            && word.iter().any(u8::is_ascii_digit);
        let length = matches!(word.len(), 32..=44) || (word.len() == 95 && matches!(word[0], b'4' | b'8'));
        mixed && length && word.iter().all(|b| BASE58.contains(b)) && announced()
    };
    let found = match word {
        [b'0', b'x' | b'X', digits @ ..] => {
            digits.len() == 40
                && ethereum(digits, announced, || text.distance(Class::DIGEST, start).is_some())
        }
        _ => base58check(word) || bech32(word) || unchecked(),
    };
    found.then_some(Found { kind: Kind::Wallet, start, end })
}

/// Forty hexadecimal digits. In capitals and small letters both, the capitals
/// are the checksum; else something must say that it is a wallet.
fn ethereum(digits: &[u8], announced: impl Fn() -> bool, is_digest: impl Fn() -> bool) -> bool {
    // Where coins are sent that nobody is to have, and contracts of the chain itself, are nobody's.
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let same = digits.iter().all(|digit| digit.eq_ignore_ascii_case(&digits[0]));
    if !digits.iter().all(u8::is_ascii_hexdigit) || zeros >= 32 || same {
        return false;
    }
    if !digits.iter().any(u8::is_ascii_uppercase) || !digits.iter().any(u8::is_ascii_lowercase) {
        return announced() || !is_digest();
    }
    let hash = Keccak256::digest(digits.to_ascii_lowercase());
    let capital = |at: usize| (hash[at / 2] >> (4 * (1 - at % 2))) & 8 != 0;
    digits.iter().enumerate().all(|(at, b)| !b.is_ascii_alphabetic() || b.is_ascii_uppercase() == capital(at))
}

/// A version, twenty bytes and the first four bytes of their hash's hash; longer for extended keys.
fn base58check(word: &[u8]) -> bool {
    let (alphabet, ripple) = if word[0] == b'r' { (RIPPLE, true) } else { (BASE58, false) };
    if !(word.len() <= 36 || word.len() == 111) || ripple && word.len() > 36 {
        return false;
    }
    let mut bytes = [0_u8; 84];
    let mut length = 0;
    for sign in word {
        let Some(digit) = alphabet.iter().position(|known| known == sign) else { return false };
        let mut carry = digit as u32;
        for byte in &mut bytes[..length] {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            let Some(byte) = bytes.get_mut(length) else { return false };
            *byte = carry as u8;
            carry >>= 8;
            length += 1;
        }
    }
    let zeros = word.iter().take_while(|sign| **sign == alphabet[0]).count();
    let all = (length + zeros).min(bytes.len());
    bytes[..all].reverse();
    if !matches!(all, 25 | 26 | 82) {
        return false;
    }
    let (payload, check) = bytes[..all].split_at(all - 4);
    let hash = Sha256::digest(Sha256::digest(payload));
    hash[..4] == *check
}

/// A readable part, a 1, and letters whose last six check the others.
fn bech32(word: &[u8]) -> bool {
    let Some(one) = word.iter().rposition(|sign| *sign == b'1') else { return false };
    let capital = word.iter().any(u8::is_ascii_uppercase);
    if one == 0 || one > 16 || word.len() - one < 8 || (capital && word.iter().any(u8::is_ascii_lowercase)) {
        return false;
    }
    let step = |sum: u32, value: u32| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ value;
        let generators = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        generators
            .iter()
            .enumerate()
            .fold(sum, |sum, (bit, generator)| if top >> bit & 1 == 1 { sum ^ generator } else { sum })
    };
    let name = || word[..one].iter().map(|sign| u32::from(sign.to_ascii_lowercase()));
    let mut sum = name().map(|sign| sign >> 5).fold(1, step);
    sum = step(sum, 0);
    sum = name().map(|sign| sign & 31).fold(sum, step);
    for sign in &word[one + 1..] {
        let Some(value) = BECH32.iter().position(|known| *known == sign.to_ascii_lowercase()) else {
            return false;
        };
        sum = step(sum, value as u32);
    }
    // The second sum is that of bech32m.
    matches!(sum, 1 | 0x2bc8_30a3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(word: &str) -> bool {
        find(&Text::new(word, true, false, true), 0, word.len()).is_some()
    }

    #[test]
    fn checksums_tell_addresses_from_other_words() {
        for good in [
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
            "bc1p5d7rjq7g6rdk2yhzks9smlaqtedr4dekq08ge8ztwac72sfr9rusxg3297",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "rN7n7otQDd6FczFgLdSqtcsAUxDkw6fzRH",
            "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed",
        ] {
            assert!(!is(bad), "{bad}");
        }
    }
}
