//! International bank account numbers (ISO 13616): each country's length, and the check of ISO 7064.
use std::sync::LazyLock;

use super::{
    kind::Kind,
    text::{Found, Text},
};

/// The length in each country, as the registry of SWIFT has them.
const LENGTHS: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE BI"),
    (18, "DK FI FO GL NL SD FK"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU XK MN"),
    (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ TL OM SO"),
    (24, "AD CZ DZ ES MD PK RO SA SE SK TN VG"),
    (25, "AO CV LY MZ PT ST"),
    (26, "IR IS TR"),
    (27, "BF BJ CF CG CI CM DJ FR GA GF GP GQ GR GW IT MC MG ML MQ MR NC NE PF PM RE SM SN TD TF TG WF YT"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV KM MA"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

/// The longest number with its spaces, in bytes.
pub(super) const LONGEST: usize = 48;

/// A number whose check digits are the digits at `at`.
pub(super) fn find(text: &Text<'_>, at: usize) -> Option<Found> {
    let start = at.checked_sub(2)?;
    let length = length(&text.bytes[start..at])?;
    if !text.byte(at + 1).is_ascii_digit() || !begins(text, start) {
        return None;
    }
    let mut number = [0_u8; 34];
    let (mut have, mut end, mut by) = (0, start, 0);
    while have < length {
        match text.byte(end) {
            byte if byte.is_ascii_alphanumeric() => {
                number[have] = byte.to_ascii_uppercase();
                have += 1;
            }
            // Groups are parted by one sign, the same everywhere.
            sign @ (b' ' | b'-' | b'.')
                if have >= 2 && (by == 0 || by == sign) && text.byte(end + 1).is_ascii_alphanumeric() =>
            {
                by = sign;
            }
            _ => return None,
        }
        end += 1;
    }
    // `IBAN:DE89…BIC:…`: in a stream no number waits for the word.
    let bank = by == 0 && text.ahead && text.bytes[end..].starts_with(b"BIC");
    ((text.ends(end) || bank) && end - start <= LONGEST && checks(&number[..length])).then_some(Found {
        kind: Kind::Iban,
        start,
        end,
    })
}

/// Whether a number may begin here: also behind `IBAN` itself, and a digit and a colon, as in `:25:DE89…` (MT940).
fn begins(text: &Text<'_>, start: usize) -> bool {
    let named = || {
        let before = start.checked_sub(4).filter(|at| text.bytes[*at..start].eq_ignore_ascii_case(b"IBAN"));
        before.is_some_and(|at| text.begins(at))
    };
    text.begins(start) || text.before(start) == b':' || named()
}

/// Where the check digits are of a number that may go on behind the end of the text.
pub(super) fn unfinished(text: &Text<'_>) -> Option<usize> {
    let end = text.bytes.len();
    let begun = |at: usize| {
        let Some(start) = at.checked_sub(2) else { return false };
        let digits = text.byte(at).is_ascii_digit() && (at + 1 == end || text.byte(at + 1).is_ascii_digit());
        let Some(most) = length(&text.bytes[start..at]).filter(|_| digits && begins(text, start)) else {
            return false;
        };
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'.');
        let rest = &text.bytes[start..];
        // One sign more shows whether it ends where it must.
        rest.iter().all(plain) && rest.iter().filter(|b| b.is_ascii_alphanumeric()).count() <= most + 1
    };
    (end.saturating_sub(LONGEST)..end).filter(|at| text.byte(*at).is_ascii_digit()).find(|at| begun(*at))
}

/// The lengths by country, at the place that its letters make: two letters stand before many a number.
static TABLE: LazyLock<[u8; 26 * 26]> = LazyLock::new(|| {
    let mut table = [0; 26 * 26];
    for (length, countries) in LENGTHS {
        for place in countries.split(' ').filter_map(|country| place(country.as_bytes())) {
            table[place] = *length as u8;
        }
    }
    table
});

fn place(country: &[u8]) -> Option<usize> {
    let letter = |at: usize| {
        let letter = country.get(at)?.to_ascii_uppercase();
        letter.is_ascii_uppercase().then(|| usize::from(letter - b'A'))
    };
    Some(letter(0)? * 26 + letter(1)?)
}

/// The length of a country's numbers.
fn length(country: &[u8]) -> Option<usize> {
    let length = TABLE[place(country)?];
    (length > 0).then_some(usize::from(length))
}

/// The remainder of 97 (ISO 7064).
fn checks(number: &[u8]) -> bool {
    let rest = number[4..].iter().chain(&number[..4]).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    rest == 1
}
