//! Many words looked for in one pass, where a word may begin.
//!
//! Most bytes of a text stand within a word that was seen to be none of them:
//! they cost a look into a small table. Where a word may begin, its first two
//! letters say nearly always that it is none. An automaton over all words looks
//! at every byte in a table of megabytes; this needs a hundred kilobytes.
use std::collections::VecDeque;

/// Words, each with what it means.
pub(super) struct Trie<T> {
    nodes: Vec<Node>,
    entries: Vec<T>,
    /// By the first byte: its node, 0 for none.
    roots: [u32; 256],
    /// By the first byte: which second bytes there are, by their last five bits; all where it is a word by itself.
    seconds: [u32; 256],
    /// What a byte is.
    kinds: [u8; 256],
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

/// An ASCII letter.
const LETTER: u8 = 1;
const CAPITAL: u8 = 2;
/// A byte that a word begins with.
const FIRST: u8 = 4;

impl<T> Trie<T> {
    /// Of words in small letters, each once. `None` where there are more than it can hold.
    pub(super) fn new(mut words: Vec<(String, T)>) -> Option<Self> {
        words.sort_by(|a, b| a.0.cmp(&b.0));
        let (texts, entries): (Vec<String>, Vec<T>) = words.into_iter().unzip();
        u16::try_from(entries.len() + 1).ok()?;
        let mut this = Self {
            nodes: vec![Node::default()],
            entries,
            roots: [0; 256],
            seconds: [0; 256],
            kinds: [0; 256],
        };
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
            let small = byte.to_ascii_lowercase();
            let root = this.child(this.nodes[0], small);
            let kind = &mut this.kinds[usize::from(byte)];
            *kind |= if byte.is_ascii_alphabetic() { LETTER } else { 0 };
            *kind |= if byte.is_ascii_uppercase() { CAPITAL } else { 0 };
            let Some(root) = root else { continue };
            *kind |= FIRST;
            let node = this.nodes[root as usize];
            this.roots[usize::from(byte)] = root;
            let seconds = this.below(node).iter().fold(0, |all, node| all | 1 << (node.label & 31));
            this.seconds[usize::from(byte)] = if node.entry > 0 { u32::MAX } else { seconds };
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
        let mut before = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let kind = self.kinds[usize::from(*byte)];
            // Letter after letter: a capital after a small one begins a word, anything else is within one.
            let within = before & kind & LETTER > 0 && (before & CAPITAL > 0 || kind & CAPITAL == 0);
            before = kind;
            if within || kind & FIRST == 0 {
                continue;
            }
            let second = bytes.get(at + 1).map_or(0, u8::to_ascii_lowercase);
            if self.seconds[usize::from(*byte)] >> (second & 31) & 1 == 1 {
                self.follow(bytes, at, found);
            }
        }
    }

    /// Shows every word that begins at `at`.
    fn follow(&self, bytes: &[u8], at: usize, found: &mut impl FnMut(usize, usize, &T)) {
        let mut node = self.nodes[self.roots[usize::from(bytes[at])] as usize];
        let mut end = at + 1;
        loop {
            if let Some(entry) = usize::from(node.entry).checked_sub(1) {
                found(at, end, &self.entries[entry]);
            }
            let Some(byte) = bytes.get(end) else { return };
            let Some(child) = self.child(node, byte.to_ascii_lowercase()) else { return };
            node = self.nodes[child as usize];
            end += 1;
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
        let trie = trie(&["phone", "phone number", "tel", "電話", "://", "§"]);
        assert_eq!(found(&trie, "Phone number"), [(0, 5), (0, 12)]);
        assert_eq!(found(&trie, "headphones hotel 7tel userPhone USERPHONE"), [(18, 21), (26, 31)]);
        assert_eq!(found(&trie, "私の電話 https://x §"), [(6, 12), (18, 21), (23, 25)]);
        assert_eq!(found(&trie, ""), []);
    }

    proptest! {
        #[test]
        fn nothing_is_missed(words in prop::collection::btree_set("[a-c:é ]{1,4}", 1..20), text in "[a-cA-C:é 1]{0,40}") {
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
