//! US social security numbers and payment card numbers, by their shape.
use std::ops::Range;

use super::Guard;

/// A US social security number, as `123-45-6789`.
pub const SSN: Guard = Guard {
    name: "ssn",
    find: |text, from, ended| find(ssn, SSN.longest, text, from, ended),
    may_match: |b| b.is_ascii_digit() || b == b'-',
    longest: 11,
};

/// A payment card number: sixteen digits that stand alone.
pub const CARD: Guard = Guard {
    name: "card",
    find: |text, from, ended| find(card, CARD.longest, text, from, ended),
    may_match: |b| b.is_ascii_digit(),
    longest: 16,
};

/// The length of the number that begins with `run` digits, if it is one.
type Shape = fn(bytes: &[u8], run: usize) -> Option<usize>;

fn ssn(bytes: &[u8], run: usize) -> Option<usize> {
    let is = |at: usize| match at {
        3 | 6 => bytes[at] == b'-',
        _ => bytes[at].is_ascii_digit(),
    };
    (run == 3 && bytes.len() >= 11 && (3..11).all(is)).then_some(11)
}

fn card(_: &[u8], run: usize) -> Option<usize> {
    (run == 16).then_some(16)
}

/// By hand rather than by a pattern: it runs for every piece of every stream,
/// and looks only at what is new and as far back as a match can reach.
fn find(shape: Shape, longest: usize, text: &str, from: usize, ended: bool) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = from.saturating_sub(longest).min(bytes.len());
    while let Some(gap) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + gap;
        let run = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        at = start + run;
        let Some(length) = shape(&bytes[start..], run) else { continue };
        let end = start + length;
        let alone = |beside: Option<char>| !beside.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let over = if end == bytes.len() { ended } else { alone(text[end..].chars().next()) };
        if end > from && over && alone(text[..start].chars().next_back()) {
            return Some(start..end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn numbers_are_found_by_shape_and_only_whole() {
        assert_eq!((SSN.find)("my 123-45-6789.", 0, false), Some(3..14));
        assert_eq!((SSN.find)("my 123-45-6789", 0, false), None, "a further digit may come");
        assert_eq!((SSN.find)("my 123-45-6789", 0, true), Some(3..14));
        assert_eq!((SSN.find)("my 123-45-6789.", 14, true), None, "it is known");
        assert_eq!((SSN.find)("123-45-67890 ", 0, true), None);
        assert_eq!((SSN.find)("123-45-6", 0, true), None);
        assert_eq!((CARD.find)("4111111111111111 ", 0, false), Some(0..16));
        assert_eq!((CARD.find)("41111111111111112", 0, true), None);
        assert_eq!((CARD.find)("x4111111111111111", 0, true), None);
        assert_eq!((CARD.find)("é4111111111111111", 0, true), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_pattern_finds(text in "([0-9]{1,4}|[0-9]{16}|[0-9]{3}-[0-9]{2}-[0-9]{4}|-|[ x_é.]){0,12}", from in 0_usize..60) {
            for (guard, pattern) in
                [(SSN, r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b"), (CARD, r"\b[0-9]{16}\b")]
            {
                let pattern = Regex::new(pattern).unwrap();
                let expected = pattern.find_iter(&text).map(|found| found.range()).find(|found| found.end > from);
                prop_assert_eq!((guard.find)(&text, from, true), expected);
            }
        }
    }
}
