//! Documents into passages: by heading and paragraph, each about as long as asked.
use std::ops::Range;

use super::{sentence, words};

/// A document as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path within the knowledge folder, with `/`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A passage, before it is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The headings above it, joined by ` › `.
    pub heading: String,
    /// Where it is in the document, in bytes.
    pub range: Range<usize>,
}

/// The passages of a document. Paragraphs of one section are joined up to about
/// `chars` characters; a longer paragraph is cut between sentences; code is never cut.
pub fn chunks(document: &Document, chars: usize) -> Vec<Chunk> {
    let text = &document.text;
    let markdown = !is_plain(&document.name);
    let body = front_matter(text);
    let mut out = Vec::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut open: Option<Range<usize>> = None;
    for block in blocks(text, body, markdown) {
        let line = text[block.clone()].trim();
        if markdown && sentence::is_heading(line) {
            close(text, &path, &mut open, chars, &mut out);
            let level = line.bytes().take_while(|b| *b == b'#').count();
            path.retain(|(above, _)| *above < level);
            path.push((level, line.trim_matches(['#', ' '])));
            continue;
        }
        match &mut open {
            // A code block belongs to the paragraph that introduces it, however long.
            Some(range) if block.end - range.start <= chars || sentence::fence_mark(line).is_some() => {
                range.end = block.end;
            }
            _ => {
                close(text, &path, &mut open, chars, &mut out);
                open = Some(block);
            }
        }
    }
    close(text, &path, &mut open, chars, &mut out);
    out
}

/// What a reader would call the document: its first heading, else its file's name.
pub fn title(document: &Document) -> &str {
    let file = document.name.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let body = &document.text[front_matter(&document.text)..];
    let heading = body.lines().map(str::trim).find(|line| line.starts_with("# "));
    heading.filter(|_| !is_plain(&document.name)).map_or(stem, |line| line.trim_matches(['#', ' ']))
}

fn is_plain(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("txt"))
}

/// Where the text begins after a byte order mark and front matter.
fn front_matter(text: &str) -> usize {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let Some(rest) = text[start..].strip_prefix("---").filter(|rest| rest.starts_with(['\n', '\r'])) else {
        return start;
    };
    let mut at = text.len() - rest.len();
    for line in rest.split_inclusive('\n') {
        at += line.len();
        if matches!(line.trim_end(), "---" | "...") {
            return at;
        }
    }
    start
}

/// Paragraphs, headings and fenced blocks, from `start` on.
fn blocks(text: &str, start: usize, markdown: bool) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let mut fence: Option<&str> = None;
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        let range = at..at + line.len();
        at = range.end;
        let trimmed = line.trim();
        if let Some(mark) = fence {
            if let Some(block) = &mut open {
                block.end = range.end;
            }
            if trimmed.starts_with(mark) && trimmed.trim_start_matches(mark).is_empty() {
                out.extend(open.take());
                fence = None;
            }
            continue;
        }
        fence = sentence::fence_mark(trimmed).filter(|_| markdown);
        if fence.is_some() {
            out.extend(open.take());
            open = Some(range);
        } else if trimmed.is_empty() {
            out.extend(open.take());
        } else if markdown && sentence::is_heading(trimmed) {
            out.extend(open.take());
            out.push(range);
        } else if let Some(block) = &mut open {
            block.end = range.end;
        } else {
            open = Some(range);
        }
    }
    out.extend(open);
    out
}

fn close(
    text: &str,
    path: &[(usize, &str)],
    open: &mut Option<Range<usize>>,
    chars: usize,
    out: &mut Vec<Chunk>,
) {
    let Some(range) = open.take() else { return };
    let heading = path.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" › ");
    let mut push = |range: Range<usize>| {
        let kept = text[range.clone()].trim_end().len();
        if kept > 0 {
            out.push(Chunk { heading: heading.clone(), range: range.start..range.start + kept });
        }
    };
    // Only a single paragraph can be too long here, or one with its code.
    if range.len() <= chars.saturating_mul(2) {
        push(range);
        return;
    }
    let mut start = range.start;
    let mut last = range.start;
    for piece in sentence::pieces(&text[range.clone()]) {
        let (begin, end) = (range.start + piece.range.start, range.start + piece.range.end);
        if end - start > chars && begin > start && piece.kind != sentence::Kind::Code {
            push(start..last);
            start = begin;
        }
        last = end;
        // Text without a full stop for pages is cut where it must be.
        while piece.kind != sentence::Kind::Code && last - start > chars.saturating_mul(2) {
            let cut = floor(text, start, start + chars.max(4));
            push(start..cut);
            start = cut;
        }
    }
    push(start..last.max(start));
}

/// The nearest end of a word, else of a character, at or before `at`; always after `start`.
fn floor(text: &str, start: usize, at: usize) -> usize {
    let at = words::beginning(text, at).len();
    let from = words::beginning(text, at.saturating_sub(64)).len().max(start);
    text[from..at]
        .rfind(char::is_whitespace)
        .filter(|space| from + space > start)
        .map_or(at, |space| from + space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(name: &str, text: &str, chars: usize) -> Vec<(String, String)> {
        let document = Document { name: name.into(), text: text.into() };
        chunks(&document, chars).into_iter().map(|c| (c.heading, text[c.range].to_owned())).collect()
    }

    #[test]
    fn passages_follow_the_headings_and_skip_the_front_matter() {
        let text = "---\na: b\n---\n# Guide\n\nOne.\n\n## Limits\n\nTwo.\n\nThree.\n\n# End\nFour.";
        let want = [("Guide", "One."), ("Guide › Limits", "Two.\n\nThree."), ("End", "Four.")];
        let got = cut("a.md", text, 400);
        assert_eq!(got.iter().map(|(h, t)| (h.as_str(), t.as_str())).collect::<Vec<_>>(), want);
    }

    #[test]
    fn code_is_kept_whole_with_the_words_that_introduce_it() {
        let code = format!("```\n# no heading\n\n{}\n```", "x. Y ".repeat(60));
        let got = cut("a.md", &format!("Run this:\n\n{code}\n\nThen stop."), 80);
        assert_eq!(got.len(), 2);
        assert!(got[0].1.ends_with("```") && got[0].1.contains(&code));
    }

    #[test]
    fn long_text_is_cut_between_sentences_and_at_worst_between_words() {
        let sentences = "This is a sentence of some length. ".repeat(20);
        assert!(cut("a.txt", &sentences, 100).iter().all(|(_, t)| t.len() <= 200 && t.ends_with('.')));
        let endless = "wörd ".repeat(500);
        let got = cut("a.txt", &endless, 100);
        assert!(
            got.iter().all(|(_, t)| t.len() <= 200),
            "{:?}",
            got.iter().map(|g| g.1.len()).collect::<Vec<_>>()
        );
        let all: String = got.iter().flat_map(|(_, t)| t.split_whitespace()).collect();
        assert_eq!(all, "wörd".repeat(500));
    }

    #[test]
    fn a_title_is_the_first_heading_or_the_files_name() {
        let document = |name: &str, text: &str| Document { name: name.into(), text: text.into() };
        assert_eq!(title(&document("x/limits.md", "# Limits\n")), "Limits");
        assert_eq!(title(&document("x/limits.txt", "# Limits\n")), "limits");
    }
}
