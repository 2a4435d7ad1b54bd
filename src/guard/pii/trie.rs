//! Many words looked for in one pass, where a word may begin.
//!
//! Most bytes of a text stand within a word that was seen to be none of them:
//! they are passed over, eight at a time. Where a word may begin, its first four
//! letters mostly say that it is none. An automaton over all words looks
//! at every byte in a table of megabytes; this needs a hundred kilobytes.
use std::collections::VecDeque;

/// Words, each with what it means.
pub(super) struct Trie<T> {
    nodes: Vec<Node>,
    entries: Vec<T>,
    /// By the first byte: its node, 0 for none.
    roots: [u32; 256],
    /// Words of three bytes at most: by the last five bits of the first two bytes the third ones, by theirs.
    short: Box<[u32]>,
    /// Which first four bytes longer words have: a bit each, where [`place`] says.
    long: Box<[u64]>,
}

/// A beginning of words. Its children stand together.
#[derive(Clone, Copy, Default)]
struct Node {
    label: u8,
    children: u8,
    /// The place of its entry from 1 on; 0 where no word ends here.
    entry: u16,
    first: u32,
}

/// The place of the words that begin with two bytes. Capital and small letters have the same last five bits.
fn beginning(first: u8, second: u8) -> usize {
    usize::from(first & 31) << 5 | usize::from(second & 31)
}

/// Places of beginnings, as a power of two.
const PLACES: u32 = 15;

/// The place of the words that begin with four bytes: a hash of the last five bits of each (Knuth's, by multiplication).
fn place(first: [u8; 4]) -> usize {
    let bits = u32::from_le_bytes(first) & 0x1f1f_1f1f;
    (bits.wrapping_mul(0x9e37_79b1) >> (32 - PLACES)) as usize
}

/// The same byte eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH: u64 = eight(0x80);

/// What stood before eight bytes, in the lowest byte's highest bit.
#[derive(Default)]
struct Before {
    letter: u64,
    small: u64,
}

/// At which of eight bytes a word may begin, a bit each.
fn beginnings(bytes: [u8; 8], before: &mut Before) -> u64 {
    let bytes = u64::from_le_bytes(bytes);
    // What is in a byte's highest bit does not carry into the next one's.
    let folded = (bytes | eight(0x20)) & !HIGH;
    let from_a = folded + eight(0x80 - b'a');
    let after_z = folded + eight(0x80 - b'z' - 1);
    let letters = from_a & !after_z & !bytes & HIGH;
    // The bit that makes a letter small, moved to the highest.
    let small = letters & (bytes << 2);
    let after_letter = letters << 8 | before.letter;
    let after_small = small << 8 | before.small;
    *before = Before { letter: letters >> 56, small: small >> 56 };
    // What begins a character of several bytes begins with two bits.
    let others = bytes & (bytes << 1) & HIGH;
    let all = others | letters & (!after_letter | (!small & after_small));
    // The bytes' highest bits, side by side.
    (all >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

impl<T> Trie<T> {
    /// Of words in small letters, each once. `None` where there are more than it can hold.
    pub(super) fn new(mut words: Vec<(String, T)>) -> Option<Self> {
        words.sort_by(|a, b| a.0.cmp(&b.0));
        let (texts, entries): (Vec<String>, Vec<T>) = words.into_iter().unzip();
        u16::try_from(entries.len() + 1).ok()?;
        let mut short = vec![0; 1 << 10].into_boxed_slice();
        let mut long = vec![0; 1 << (PLACES - 6)].into_boxed_slice();
        for text in &texts {
            match *text.as_bytes() {
                // None begins with a sign: there it would not be looked for.
                [] | [..0x41 | 0x5b..0x61 | 0x7b..0x80, ..] => return None,
                // Whatever follows.
                [first] => (0..32).for_each(|second| short[beginning(first, second)] = u32::MAX),
                [first, second] => short[beginning(first, second)] = u32::MAX,
                [first, second, third] => short[beginning(first, second)] |= 1 << (third & 31),
                [first, second, third, fourth, ..] => {
                    let place = place([first, second, third, fourth]);
                    long[place / 64] |= 1 << (place % 64);
                }
            }
        }
        let mut this = Self { nodes: vec![Node::default()], entries, roots: [0; 256], short, long };
        // Beginnings whose children are still to be made: node, words, length.
        let mut open = VecDeque::from([(0, 0..texts.len(), 0)]);
        while let Some((node, mut words, depth)) = open.pop_front() {
            if texts[words.start].len() == depth {
                this.nodes[node].entry = words.start as u16 + 1;
                words.start += 1;
            }
            this.nodes[node].first = u32::try_from(this.nodes.len()).ok()?;
            while let Some(label) = texts[words.clone()].first().map(|text| text.as_bytes()[depth]) {
                let count =
                    texts[words.clone()].iter().take_while(|text| text.as_bytes()[depth] == label).count();
                open.push_back((this.nodes.len(), words.start..words.start + count, depth + 1));
                this.nodes.push(Node { label, ..Node::default() });
                this.nodes[node].children = this.nodes[node].children.checked_add(1)?;
                words.start += count;
            }
        }
        for byte in 0..=u8::MAX {
            let root = this.child(this.nodes[0], byte.to_ascii_lowercase());
            this.roots[usize::from(byte)] = root.unwrap_or_default();
        }
        Some(this)
    }

    fn below(&self, node: Node) -> &[Node] {
        &self.nodes[node.first as usize..][..usize::from(node.children)]
    }

    fn child(&self, node: Node, label: u8) -> Option<u32> {
        let at = self.below(node).iter().position(|child| child.label == label)?;
        Some(node.first + at as u32)
    }

    /// Shows every word that begins where one may: start, end and meaning. Not
    /// where letters stand before it, unless it begins with a capital after a small one: `userPhone`.
    pub(super) fn each(&self, bytes: &[u8], found: &mut impl FnMut(usize, usize, &T)) {
        let mut before = Before::default();
        for (number, piece) in bytes.chunks(64).enumerate() {
            let mut begins = 0;
            let (chunks, rest) = piece.as_chunks();
            for (at, chunk) in chunks.iter().enumerate() {
                begins |= beginnings(*chunk, &mut before) << (8 * at);
            }
            if !rest.is_empty() {
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                begins |= beginnings(last, &mut before) << (8 * chunks.len());
            }
            while begins > 0 {
                let at = number * 64 + begins.trailing_zeros() as usize;
                begins &= begins - 1;
                let rest = &bytes[at..];
                if rest.first_chunk().is_none_or(|first| self.may_be(*first)) {
                    self.follow(rest, at, found);
                }
            }
        }
    }

    /// Whether some word may begin with these bytes.
    fn may_be(&self, first: [u8; 4]) -> bool {
        let place = place(first);
        self.long[place / 64] >> (place % 64) & 1 == 1
            || self.short[beginning(first[0], first[1])] >> (first[2] & 31) & 1 == 1
    }

    /// Shows every word that `rest` begins with, which is what there is from `at` on.
    fn follow(&self, rest: &[u8], at: usize, found: &mut impl FnMut(usize, usize, &T)) {
        let mut node = self.nodes[0];
        for (length, byte) in rest.iter().enumerate() {
            let child = match length {
                0 => Some(self.roots[usize::from(*byte)]).filter(|root| *root > 0),
                _ => self.child(node, byte.to_ascii_lowercase()),
            };
            let Some(child) = child else { return };
            node = self.nodes[child as usize];
            if let Some(entry) = usize::from(node.entry).checked_sub(1) {
                found(at, at + length + 1, &self.entries[entry]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(trie: &Trie<String>, text: &str) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        trie.each(text.as_bytes(), &mut |start, end, word| {
            assert!(text.as_bytes()[start..end].eq_ignore_ascii_case(word.as_bytes()));
            all.push((start, end));
        });
        all
    }

    fn trie(words: &[&str]) -> Trie<String> {
        Trie::new(words.iter().map(|word| ((*word).to_owned(), (*word).to_owned())).collect()).unwrap()
    }

    #[test]
    fn words_begin_where_no_letter_stands_before_them() {
        let trie = trie(&["phone", "phone number", "tel", "電話", "§"]);
        assert_eq!(found(&trie, "Phone number"), [(0, 5), (0, 12)]);
        assert_eq!(found(&trie, "headphones hotel 7tel userPhone USERPHONE"), [(18, 21), (26, 31)]);
        assert_eq!(found(&trie, "私の電話 https://x §"), [(6, 12), (23, 25)]);
        assert_eq!(found(&trie, ""), []);
    }

    proptest! {
        #[test]
        fn nothing_is_missed(words in prop::collection::btree_set("[a-cé][a-c:é ]{0,3}", 1..20), text in "[a-cA-C:é 1]{0,40}") {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let trie = trie(&words);
            let mut wanted = Vec::new();
            for at in 0..text.len() {
                let before = at.checked_sub(1).map_or(0, |at| text.as_bytes()[at]);
                let first = text.as_bytes()[at];
                let within = before.is_ascii_alphabetic() && first.is_ascii_alphabetic()
                    && !(before.is_ascii_lowercase() && first.is_ascii_uppercase());
                for word in words.iter().filter(|_| !within) {
                    let piece = text.as_bytes().get(at..at + word.len());
                    if piece.is_some_and(|piece| piece.eq_ignore_ascii_case(word.as_bytes())) {
                        wanted.push((at, at + word.len()));
                    }
                }
            }
            let mut found = found(&trie, &text);
            found.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }
}
