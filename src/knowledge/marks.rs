//! What in the documents looks like a placeholder for somebody's value, such as `[EMAIL_1]`.
//!
//! A model repeats what it reads. Were a number of the documents given to a
//! value of a caller's, the value would stand where the document has its own words.
use std::collections::HashMap;

/// The numbers that are noted, at most.
const MOST: usize = 65_536;
/// The longest label and number, in bytes.
const LABEL: usize = 32;
const NUMBER: usize = 8;

/// Numbers by their label, in capitals.
#[derive(Debug, Default)]
pub(super) struct Marks {
    labels: HashMap<Box<str>, Vec<u32>>,
    count: usize,
}

impl Marks {
    /// Notes what a text has.
    pub(super) fn read(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(gap) = bytes[at..].iter().position(u8::is_ascii_digit) {
            let start = at + gap;
            let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
            at = start + digits;
            let number = text[start..at].parse().ok().filter(|_| digits <= NUMBER);
            if let (Some(label), Some(number)) = (label(text, start), number) {
                self.note(label, number);
            }
        }
    }

    fn note(&mut self, label: &str, number: u32) {
        if self.count >= MOST {
            return;
        }
        let numbers = self.labels.entry(label.to_ascii_uppercase().replace('\\', "").into()).or_default();
        if let Err(place) = numbers.binary_search(&number) {
            numbers.insert(place, number);
            self.count += 1;
        }
    }

    /// The numbers that the documents give to a label.
    pub(super) fn of(&self, label: &str) -> &[u32] {
        self.labels.get(label).map_or(&[], Vec::as_slice)
    }
}

/// The label of the number at `start`: `[EMAIL_`, `email_`, `\\[EMAIL\\_`, `[Email `.
fn label(text: &str, start: usize) -> Option<&str> {
    let before = text[..start].trim_end_matches(['_', '-', ' ', '\\']);
    let by = &text[before.len()..start];
    if by.is_empty() || by.len() > 2 {
        return None;
    }
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'\\');
    let length = before.bytes().rev().take(LABEL).take_while(sign).count();
    let label = &before[before.len() - length..];
    let bracket = before[..before.len() - length].trim_end().ends_with('[');
    ((bracket || by.contains('_')) && label.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_could_repeat_is_noted() {
        let mut marks = Marks::default();
        marks.read("Write [EMAIL_1], \\[email\\_7\\], PHONE_12 or [Card 3]; see section 5, table-9 and é_4, [EMAIL_123456789].");
        assert_eq!(marks.of("EMAIL"), [1, 7]);
        assert_eq!((marks.of("PHONE"), marks.of("CARD")), (&[12][..], &[3][..]));
        assert_eq!((marks.of("SECTION"), marks.of("TABLE"), marks.count), (&[][..], &[][..], 4));
    }
}
