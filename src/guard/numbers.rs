//! US social security numbers and payment card numbers, by their shape.
use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::Guard;

/// A US social security number, as `123-45-6789`.
pub const SSN: Guard = Guard {
    name: "ssn",
    find: |text, ended| find(SSN_SHAPE.as_ref(), 9, text, ended),
    may_match: |b| b.is_ascii_digit() || b == b'-',
    longest: 11,
};

/// A payment card number: sixteen digits that stand alone.
pub const CARD: Guard = Guard {
    name: "card",
    find: |text, ended| find(CARD_SHAPE.as_ref(), 16, text, ended),
    may_match: |b| b.is_ascii_digit(),
    longest: 16,
};

// The patterns are constants; a test compiles them.
static SSN_SHAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b").ok());
static CARD_SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b[0-9]{16}\b").ok());

fn find(shape: Option<&Regex>, digits: usize, text: &str, ended: bool) -> Option<Range<usize>> {
    // Nearly no text has that many, and counting them takes a tenth of the time of the search.
    if text.bytes().filter(u8::is_ascii_digit).count() < digits {
        return None;
    }
    let found = shape?.find_iter(text).find(|found| ended || found.end() < text.len());
    found.map(|found| found.range())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_shape_and_only_whole() {
        assert_eq!((SSN.find)("my 123-45-6789.", false), Some(3..14));
        assert_eq!((SSN.find)("my 123-45-6789", false), None, "a further digit may come");
        assert_eq!((SSN.find)("my 123-45-6789", true), Some(3..14));
        assert_eq!((SSN.find)("123-45-67890 ", true), None);
        assert_eq!((CARD.find)("4111111111111111 ", false), Some(0..16));
        assert_eq!((CARD.find)("41111111111111112", true), None);
        assert_eq!((CARD.find)("x4111111111111111", true), None);
    }
}
