//! What stands for a masked value in an earlier turn, told apart from what
//! stands for one now.
//!
//! The values of a call are forgotten with it. In a conversation a value has
//! the same number in every turn, made by a key: `[EMAIL_482136597]` (see
//! `guard/pii/mask.rs`); there is nothing to tell apart. Others are counted
//! from 1 in each call: those that a model or a person made up, and those of
//! turns from before there were keys. So in the history such a one of the
//! third turn is `[EMAIL_T3_1]`: it is no placeholder of the present call, and
//! never turns into a value of it.
use std::{borrow::Cow, fmt::Write};

/// The longest placeholder, in bytes.
const LONGEST: usize = 96;

/// A turn's text, as it is given to later calls and shown.
pub(super) fn of_turn(text: &str, turn: i64) -> Cow<'_, str> {
    let mut named = String::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = text[at..].find('[').map(|open| at + open) {
        // The next bracket may open within these.
        at = open + 1;
        let close = text.bytes().enumerate().skip(at).take(LONGEST).find(|(_, byte)| *byte == b']');
        let Some((close, _)) = close else { continue };
        if let Some((label, number)) = placeholder(&text[at..close]) {
            named.push_str(&text[from..at]);
            // Writing to a string cannot fail.
            let _ = write!(named, "{label}_T{turn}_{number}");
            (from, at) = (close, close);
        }
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    named.push_str(&text[from..]);
    Cow::Owned(named)
}

/// The label and the number of what stands between the brackets; nothing where that is of an earlier turn already.
fn placeholder(inside: &str) -> Option<(&str, &str)> {
    let (label, number) = inside.rsplit_once('_')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_label = label.starts_with(|c: char| c.is_ascii_uppercase()) && label.bytes().all(upper);
    let is_old = label.rsplit_once('_').is_some_and(|(_, turn)| turn.strip_prefix('T').is_some_and(digits));
    let is_keyed = number.len() == 9 && !number.starts_with('0');
    (is_label && digits(number) && !is_old && !is_keyed).then_some((label, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_get_their_turn_and_nothing_else_changes() {
        let named = |text| of_turn(text, 3).into_owned();
        assert_eq!(named("[EMAIL_1], [UK_NHS_12]."), "[EMAIL_T3_1], [UK_NHS_T3_12].");
        assert_eq!(named("[EMAIL_T1_1] and [PHONE_2]"), "[EMAIL_T1_1] and [PHONE_T3_2]");
        for plain in [
            "[EMAIL_482136597]",
            "",
            "[",
            "[x_1]",
            "[1]",
            "[EMAIL]",
            "[_1]",
            "[EMAIL_1",
            "[EMAIL_\n1]",
            "a [1] b [EMAIL_x]",
            "é][",
        ] {
            assert!(matches!(of_turn(plain, 3), Cow::Borrowed(_)), "{plain}");
        }
        assert_eq!(named("[[A_1]]"), "[[A_T3_1]]");
    }

    proptest! {
        #[test]
        fn none_of_the_present_call_is_left_and_twice_is_once(text in "[\\[\\]A-C_T0-9 é\n]{0,60}") {
            let once = of_turn(&text, 7).into_owned();
            prop_assert_eq!(of_turn(&once, 8).into_owned(), once);
        }
    }
}
