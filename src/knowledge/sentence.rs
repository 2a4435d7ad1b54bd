//! A text into the pieces an answer is made of: sentences, list items, table rows, code.
use std::ops::Range;

/// A piece of a text that can be said by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// Where it is in the text, in bytes.
    pub range: Range<usize>,
}

/// What a [`Piece`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sentence of running text.
    Sentence,
    /// An item of a list.
    Item,
    /// A row of a table.
    Row,
    /// A fenced block of code, fences included.
    Code,
}

/// The pieces of a Markdown or plain text, in order. Headings are left out: they are known otherwise.
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut open: Option<(Kind, Range<usize>)> = None;
    let mut fence: Option<(usize, &str)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let range = at..at + line.len();
        at = range.end;
        let trimmed = line.trim();
        if let Some((start, mark)) = fence {
            if trimmed.starts_with(mark) && trimmed.trim_start_matches(mark).is_empty() {
                out.push(Piece { kind: Kind::Code, range: start..range.start + line.trim_end().len() });
                fence = None;
            }
            continue;
        }
        if let Some(mark) = fence_mark(trimmed) {
            close(text, &mut open, &mut out);
            fence = Some((range.start, mark));
        } else if trimmed.is_empty() || is_heading(trimmed) || is_rule(trimmed) {
            close(text, &mut open, &mut out);
        } else if trimmed.starts_with('|') {
            close(text, &mut open, &mut out);
            push(text, Kind::Row, range, &mut out);
        } else if item_mark(trimmed) > 0 {
            close(text, &mut open, &mut out);
            open = Some((Kind::Item, range));
        } else if let Some((_, so_far)) = &mut open {
            so_far.end = range.end;
        } else {
            open = Some((Kind::Sentence, range));
        }
    }
    close(text, &mut open, &mut out);
    if let Some((start, _)) = fence {
        push(text, Kind::Code, start..text.len(), &mut out);
    }
    out
}

/// The length of a list item's mark (`- `, `* `, `+ `, `1. `), zero where `line` is none.
pub fn item_mark(line: &str) -> usize {
    if line.starts_with("- ") || line.starts_with("* ") || line.starts_with("+ ") {
        return 2;
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let marked = line[digits..].starts_with(". ") || line[digits..].starts_with(") ");
    if (1..=3).contains(&digits) && marked { digits + 2 } else { 0 }
}

/// The mark of a fenced block that begins with this line.
pub fn fence_mark(line: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark))
}

/// Whether the line is a heading such as `## Limits`.
pub fn is_heading(line: &str) -> bool {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&level) && (line.len() == level || line[level..].starts_with(' '))
}

fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.bytes().all(|b| matches!(b, b'-' | b'|' | b':' | b' ' | b'=' | b'_' | b'*'))
}

/// Ends the open paragraph or item.
fn close(text: &str, open: &mut Option<(Kind, Range<usize>)>, out: &mut Vec<Piece>) {
    let Some((kind, range)) = open.take() else { return };
    if kind == Kind::Item {
        push(text, kind, range, out);
        return;
    }
    let mut start = range.start;
    for end in sentence_ends(&text[range.clone()]) {
        push(text, kind, start..range.start + end, out);
        start = range.start + end;
    }
    push(text, kind, start..range.end, out);
}

fn push(text: &str, kind: Kind, range: Range<usize>, out: &mut Vec<Piece>) {
    let inner = &text[range.clone()];
    let start = range.start + (inner.len() - inner.trim_start().len());
    let end = start + inner.trim().len();
    if end > start {
        out.push(Piece { kind, range: start..end });
    }
}

/// Where the sentences of a paragraph end, the last one excepted.
pub fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '`' {
            quoted = !quoted;
        }
        if matches!(c, '。' | '！' | '？') {
            ends.push(at + c.len_utf8());
        }
        if quoted || !matches!(c, '.' | '!' | '?') {
            continue;
        }
        let after = &text[at + 1..];
        let closing = after.len() - after.trim_start_matches(['"', '\'', ')', ']', '”', '’', '*']).len();
        let rest = &after[closing..];
        let next = rest.trim_start();
        let begins = next.chars().next().is_some_and(|c| !c.is_lowercase() && !matches!(c, ',' | ';' | ')'));
        if rest.starts_with(char::is_whitespace) && begins && !(c == '.' && is_abbreviation(&text[..at])) {
            ends.push(at + 1 + closing);
        }
    }
    ends
}

fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let known = [
        "e.g", "i.e", "etc", "vs", "cf", "mr", "mrs", "ms", "dr", "prof", "no", "fig", "approx", "inc", "ltd",
    ];
    known.iter().any(|short| word.eq_ignore_ascii_case(short))
        || word.len() == 1 && word.chars().all(char::is_uppercase)
        || !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) && word.len() < 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<(Kind, &str)> {
        pieces(text).into_iter().map(|p| (p.kind, &text[p.range])).collect()
    }

    #[test]
    fn a_paragraph_becomes_its_sentences() {
        let text = "Set `a. B` first. It is\nread, e.g. at start! \"Really?\" Yes, by Dr. Who.";
        let want = ["Set `a. B` first.", "It is\nread, e.g. at start!", "\"Really?\"", "Yes, by Dr. Who."];
        assert_eq!(said(text).iter().map(|(_, s)| *s).collect::<Vec<_>>(), want);
    }

    #[test]
    fn items_rows_and_code_stay_whole() {
        let text = "# Head\n\n- one. Two\n  more\n2. next\n\n| a | b |\n|---|---|\n| c | d |\n\n```sh\n# no head\nrun. It\n```\n";
        let want = [
            (Kind::Item, "- one. Two\n  more"),
            (Kind::Item, "2. next"),
            (Kind::Row, "| a | b |"),
            (Kind::Row, "| c | d |"),
            (Kind::Code, "```sh\n# no head\nrun. It\n```"),
        ];
        assert_eq!(said(text), want);
    }

    #[test]
    fn an_unclosed_fence_ends_with_the_text() {
        assert_eq!(said("a\n```\nb"), [(Kind::Sentence, "a"), (Kind::Code, "```\nb")]);
    }
}
