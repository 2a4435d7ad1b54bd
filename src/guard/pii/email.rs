//! E-mail addresses, those with `[at]` and `[dot]` and with names in quotes too.
use super::{
    kind::Kind,
    spoken,
    text::{Found, Text},
    words::Hit,
};

/// The longest address, and the longest name and domain of one (RFC 5321), in bytes.
pub(super) const LONGEST: usize = LONGEST_NAME + 1 + LONGEST_DOMAIN;
pub(super) const LONGEST_NAME: usize = 64;
const LONGEST_DOMAIN: usize = 255;

/// Endings of files, which pictures in two sizes (`logo@2x.png`) and packages have.
const FILES: [&str; 27] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "json", "ts", "html", "htm", "xml", "yaml",
    "yml", "md", "txt", "py", "rs", "java", "tsx", "jsx", "mjs", "map", "tgz", "gz", "exe",
];

/// Those that are countries' endings, too: of a file only where the rest has a digit (`lib@2.rs`).
const COUNTRIES: [&str; 3] = ["md", "py", "rs"];

/// An address around the at sign at `at`.
pub(super) fn find(text: &Text<'_>, at: usize) -> Option<Found> {
    let start = quoted(text, at).unwrap_or_else(|| at - name_before(text, at));
    let end = domain_after(text, at + 1)?;
    // `git@host:path` is a repository, `root@host.example:~$` a prompt of a shell, `ann@host.example:/srv` a place to copy to.
    let next = (text.byte(end), text.byte(end + 1));
    let ssh = (matches!(next.0, b':' | b'/') && &text.bytes[start..at] == b"git")
        || matches!(next, (b':', b'/' | b'~'));
    // `@ann@mastodon.example` is a name on a network, `https://ann:word@host` a login.
    let handle = matches!(text.before(start), b'@');
    (start < at && !ssh && !handle).then_some(Found { kind: Kind::Email, start, end })
}

/// Where the name begins that stands before the at sign at `at`, spelled out or not.
pub(super) fn begins(text: &Text<'_>, at: usize) -> usize {
    let end = at - text.bytes[..at].iter().rev().take_while(|b| **b == b' ').take(2).count();
    end - name_before(text, end)
}

/// An address whose at sign is spelled out, as `hit`.
pub(super) fn hidden(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let spaces = |bytes: &[u8]| bytes.iter().take_while(|b| **b == b' ').take(2).count();
    let before = text.bytes[..hit.start].iter().rev().take_while(|b| **b == b' ').take(2).count();
    let name_end = hit.start - before;
    let start = name_end - name_before(text, name_end);
    let mut at = hit.end + spaces(&text.bytes[hit.end..]);
    let domain = at;
    let bracketed =
        !text.byte(hit.start).is_ascii_alphabetic() && !matches!(text.byte(hit.start), b' ' | b'_' | b'-');
    // `ann_at_example.org`: one word, and as good as brackets where a domain follows; `created_at_utc.now` is code.
    let tied = matches!(text.byte(hit.start), b'_' | b'-');
    let (mut labels, mut dotted) = (0, false);
    let end = loop {
        let label = text.bytes[at..]
            .iter()
            .take(LONGEST_NAME)
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'-')
            .count();
        if label == 0 {
            return None;
        }
        (labels, at) = (labels + 1, at + label);
        match dot(&text.bytes[at..]) {
            Some(length) if labels < 8 && text.byte(at + length).is_ascii_alphanumeric() => {
                dotted |= length > 1;
                at += length;
            }
            _ => break at,
        }
    };
    let last = text.str[..end].rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let formed = start < name_end && labels >= 2 && last.len() >= 2 && text.begins(start) && text.ends(end);
    let said = || (dotted || tied) && spoken::is_address(text, (start, name_end), (domain, end), tied);
    if !formed || !(bracketed || said()) {
        return None;
    }
    // In an answer what stands further back has left.
    let start = if text.ahead { spoken::name_from(text, start) } else { start };
    Some(Found { kind: Kind::Email, start, end })
}

/// Whether a word is the ending of a file.
pub(super) fn is_file(word: &str) -> bool {
    FILES.iter().any(|file| word.eq_ignore_ascii_case(file))
}

/// The length of a dot, spelled out or not.
fn dot(bytes: &[u8]) -> Option<usize> {
    let words: [&[u8]; 7] = [b".", b"[dot]", b"(dot)", b" [dot] ", b" (dot) ", b" dot ", b"{dot}"];
    words
        .iter()
        .find(|word| bytes.len() >= word.len() && bytes[..word.len()].eq_ignore_ascii_case(word))
        .map(|word| word.len())
}

/// Where a name in quotes begins that ends at `at`: `"ann lee"@example.org` (RFC 5321), in JSON `\"ann lee\"@…`. In an
/// answer its last word: every quote could be such a name's, and all behind it would have to wait.
fn quoted(text: &Text<'_>, at: usize) -> Option<usize> {
    let end = at.checked_sub(1).filter(|end| text.byte(*end) == b'"')?;
    let escaped = text.before(end) == b'\\';
    let end = end - usize::from(escaped);
    let name = text.bytes[..end].iter().rev().take(LONGEST_NAME).take_while(|b| {
        **b != b'"' && (text.ahead || !b.is_ascii_whitespace()) && !matches!(b, b'\n' | b'<' | b'>')
    });
    let length = name.count();
    let start = end - length;
    let written = &text.bytes[start..end];
    let outer = |b: Option<&u8>| b.is_some_and(|b| !b.is_ascii_whitespace() && !b",:;)]}".contains(b));
    if length == LONGEST_NAME || !outer(written.first()) || !outer(written.last()) {
        return None;
    }
    if !text.ahead && text.before(start) != b'"' {
        return Some(super::text::ceil(text.str, start));
    }
    let open = start.checked_sub(1).filter(|open| text.byte(*open) == b'"')?;
    let open = open - usize::from(escaped && text.before(open) == b'\\');
    // A quote in the middle of a word, or behind the sign of a field, begins no name.
    (!text.before(open).is_ascii_alphanumeric()).then_some(open)
}

/// The length of the name that ends at `at`.
fn name_before(text: &Text<'_>, at: usize) -> usize {
    let mut length = 0;
    for c in text.str[..at].chars().rev() {
        let sign = c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'' | '&' | '~');
        let foreign = !c.is_ascii() && c.is_alphanumeric() && !super::text::is_wide(c);
        if !(sign || foreign) || length + c.len_utf8() > LONGEST_NAME {
            break;
        }
        length += c.len_utf8();
    }
    // Quotes and dots before it are the sentence's.
    let name = &text.str[at - length..at];
    name.trim_start_matches(['.', '\'', '-', '&', '~', '%', '+']).len()
}

/// The end of the domain that begins at `from`.
fn domain_after(text: &Text<'_>, from: usize) -> Option<usize> {
    let foreign = |c: char| !c.is_ascii() && c.is_alphanumeric() && !super::text::is_wide(c);
    let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-') || foreign(c);
    let length: usize =
        text.str[from..].chars().take_while(|c| sign(*c)).map(char::len_utf8).take(LONGEST_DOMAIN).sum();
    let domain = &text.str[from..from + length];
    // `ann@example.org...now`
    let domain = domain.split("..").next().unwrap_or_default().trim_end_matches(['.', '-']);
    let (mut host, mut last) = domain.rsplit_once('.')?;
    // `ann@example.org.txt`: a file that is called as she is.
    let domain = match host.rsplit_once('.') {
        Some((inner, ending)) if is_file(last) && spoken::is_ending(ending) => {
            let domain = host;
            (host, last) = (inner, ending);
            domain
        }
        _ => domain,
    };
    // `ann@example.org—thanks`: no ending has a hyphen within.
    let cut = last.split('-').next().filter(|cut| cut.len() < last.len() && spoken::is_ending(cut));
    let (domain, last) = match cut {
        Some(cut) if !last.starts_with("xn--") => (&domain[..host.len() + 1 + cut.len()], cut),
        _ => (domain, last),
    };
    let ending =
        last.starts_with("xn--") || (last.chars().count() >= 2 && last.chars().all(char::is_alphabetic));
    let labels =
        domain.split('.').all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-'));
    let country = COUNTRIES.iter().any(|country| last.eq_ignore_ascii_case(country));
    let file = is_file(last) && (!country || host.bytes().any(|b| b.is_ascii_digit()));
    let good = ending && labels && !host.is_empty() && !file && last.len() <= 24;
    (good && text.byte(from + domain.len()) != b'_').then_some(from + domain.len())
}
