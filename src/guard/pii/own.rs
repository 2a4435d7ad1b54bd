//! What the caller sent: a value of it in an answer is not news to him.
use std::{
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use memchr::memmem;

use super::super::encoded;
use crate::{
    call::Trail,
    chat::{Part, Request, Source},
};

/// Long values are looked up by blocks of this size, in bytes.
const BLOCK: usize = 16;
/// How much is searched for all values of an answer that are not looked up, in
/// bytes: some hundredths of a second. What comes after counts as not the
/// caller's. Without a bound, the work would be question times answer.
const SEARCHED: usize = 256 << 20;

/// The letters and digits of all that the caller sent, and of the documents that were found for it.
pub(super) struct Own {
    plain: Vec<u8>,
    /// Where each whole block of it stands first.
    blocks: OnceLock<HashMap<[u8; BLOCK], usize, foldhash::fast::RandomState>>,
    /// What may still be searched.
    left: AtomicUsize,
}

impl Own {
    pub(super) fn new(chat: &Request, trail: &Trail) -> Self {
        let mut plain = Vec::new();
        for part in chat.messages.iter().flat_map(|message| &message.parts) {
            texts(part, &mut |text| add(text, &mut plain));
        }
        let grounding = trail.note(|notes| notes.grounding.clone());
        for passage in grounding.iter().flat_map(|grounding| &grounding.passages) {
            add(&passage.text, &mut plain);
        }
        Self { plain, blocks: OnceLock::new(), left: AtomicUsize::new(SEARCHED) }
    }

    /// Whether a value is in it, however it is grouped and whatever its case.
    pub(super) fn has(&self, value: &str) -> bool {
        let mut wanted = Vec::with_capacity(value.len() + 1);
        add(value, &mut wanted);
        // Without the end of a text.
        wanted.pop();
        self.looked_up(&wanted).unwrap_or_else(|| self.found(&wanted))
    }

    /// By its blocks; `None` where those do not decide it.
    fn looked_up(&self, wanted: &[u8]) -> Option<bool> {
        // Of a value that is shorter, no whole block may be in the table.
        if wanted.len() < 2 * BLOCK - 1 || self.plain.len() < 64 * BLOCK {
            return None;
        }
        let blocks = self.blocks.get_or_init(|| {
            let (blocks, _) = self.plain.as_chunks::<BLOCK>();
            let mut first =
                HashMap::with_capacity_and_hasher(blocks.len(), foldhash::fast::RandomState::default());
            for (at, block) in blocks.iter().enumerate() {
                first.entry(*block).or_insert(at * BLOCK);
            }
            first
        });
        let mut known = false;
        for (offset, window) in wanted.array_windows::<BLOCK>().enumerate().take(BLOCK) {
            let Some(at) = blocks.get(window) else { continue };
            known = true;
            if at.checked_sub(offset).is_some_and(|begin| self.plain[begin..].starts_with(wanted)) {
                return Some(true);
            }
        }
        // The same block may stand elsewhere, too.
        (!known).then_some(false)
    }

    fn found(&self, wanted: &[u8]) -> bool {
        let size = self.plain.len();
        let spent = |left: usize| left.checked_sub(size);
        let paid = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok();
        paid && memmem::find(&self.plain, wanted).is_some()
    }
}

/// The letters and digits of a text in lower case, and an end that no value has.
fn add(text: &str, plain: &mut Vec<u8>) {
    for c in text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase) {
        plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    plain.push(b' ');
}

/// The texts of a piece of a message.
fn texts(part: &Part, each: &mut impl FnMut(&str)) {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) | Part::Reasoning { text, .. } => each(text),
        Part::ToolCall(call) => each(&call.arguments),
        Part::ToolResult { parts, .. } => parts.iter().for_each(|part| texts(part, each)),
        Part::File(media) => match &media.source {
            Source::Text(text) => each(text),
            Source::Base64(file) => encoded::text(file).iter().for_each(|text| each(text)),
            Source::Url(_) | Source::Id(_) => {}
        },
        Part::Other(value) => each(&value.to_string()),
        Part::Image(_) | Part::Audio(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::{Message, Role};

    fn own(text: &str) -> Own {
        let messages = vec![Message::new(Role::User, text)];
        Own::new(&Request { messages, ..Request::default() }, &Trail::default())
    }

    #[test]
    fn a_value_is_known_however_it_is_written() {
        let own = own("Call 555-123 4567, or mail Jane.Doe@Example.com");
        assert!(own.has("(555) 123-4567") && own.has("jane.doe@example.com"));
        assert!(!own.has("555-123-4568") && !own.has("4567 or mail jane x"));
    }

    #[test]
    fn no_value_is_put_together_from_two_texts() {
        let messages = ["a 5551", "234567 b"].map(|text| Message::new(Role::User, text)).into();
        let own = Own::new(&Request { messages, ..Request::default() }, &Trail::default());
        assert!(!own.has("555-1234-567") && own.has("555 1"));
    }

    #[test]
    fn long_values_are_not_searched_for() {
        let word = |i: u64| {
            (i * 8..i * 8 + 8)
                .map(|n| format!("{:016x}", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .collect()
        };
        let words: Vec<String> = (0..2_000).map(word).collect();
        let own = own(&words.join(" "));
        assert!(words.iter().all(|word| own.has(word) && own.has(&word[17..90])));
        assert!(!(2_000..4_000).any(|i| own.has(&word(i))));
        assert_eq!(own.left.load(Ordering::Relaxed), SEARCHED);
    }

    #[test]
    fn the_work_is_bounded() {
        let own = own(&"12345678901 ".repeat(200_000));
        let found = (0..10_000_u64).filter(|i| own.has(&format!("{:011}", 12_345_678_901 + (i % 2)))).count();
        assert!(found < 10_000, "{found}");
        assert!(own.left.load(Ordering::Relaxed) < own.plain.len());
    }

    proptest! {
        #[test]
        fn it_says_what_a_search_says(text in "[a-c ]{0,3000}", at in 0_usize..3000, size in 0_usize..80, other in "[a-c]{20,40}") {
            let own = own(&text);
            let plain: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
            let at = at.min(plain.len());
            let part = &plain[at..(at + size).min(plain.len())];
            prop_assert!(own.has(part));
            prop_assert_eq!(own.has(&other), plain.contains(&other));
        }
    }
}
