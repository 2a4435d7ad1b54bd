//! Characters that are spelled out, as HTML and JSON spell them: `&#64;`, `&nbsp;`, `\u0040`, `\n`.
//!
//! To whom it was written such a character is what it stands for, so it is searched as that. What could end a
//! value in quotes is left as it is spelled: there it is a part of the value.
use std::borrow::Cow;

/// The longest escape that is read, in bytes.
const LONGEST: usize = 11;

/// The only one of them that has no digit and stands for a sign by which values are known.
pub(super) const AT_SIGN: &str = "&commat;";

/// The named ones that can be part of a value, or stand before it.
const NAMES: [(&str, char); 12] = [
    ("commat", '@'),
    ("period", '.'),
    ("lowbar", '_'),
    ("hyphen", '-'),
    ("dash", '-'),
    ("plus", '+'),
    ("colon", ':'),
    ("sol", '/'),
    ("nbsp", ' '),
    ("num", '#'),
    ("lpar", '('),
    ("rpar", ')'),
];

/// The next character from `from` on that is spelled out: where, which, and how long its spelling is in bytes. `\n` and
/// the like only with `blanks`.
pub(super) fn next(text: &str, mut from: usize, blanks: bool) -> Option<(usize, char, usize)> {
    let bytes = text.as_bytes();
    loop {
        let at = from + memchr::memchr2(b'&', b'\\', bytes.get(from..)?)?;
        // A backslash behind a backslash is one.
        if bytes[at..].starts_with(br"\\") {
            from = at + 2;
            continue;
        }
        match read(&bytes[at..]) {
            Some((c, length)) if blanks || length > 2 || c != ' ' => return Some((at, c, length)),
            _ => from = at + 1,
        }
    }
}

/// How long the spelling is that begins at the beginning of `text`; `None` where none does.
pub(super) fn length(text: &str) -> Option<usize> {
    read(text.as_bytes()).map(|(_, length)| length)
}

/// The text with nothing spelled out.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let Some(mut escape) = next(text, 0, true) else { return Cow::Borrowed(text) };
    let (mut plain, mut upto) = (String::with_capacity(text.len()), 0);
    loop {
        let (at, c, length) = escape;
        plain.push_str(&text[upto..at]);
        plain.push(c);
        upto = at + length;
        match next(text, upto, true) {
            Some(another) => escape = another,
            None => break,
        }
    }
    plain.push_str(&text[upto..]);
    Cow::Owned(plain)
}

/// Where a text ends without the escape at its end that is still to come in full.
pub(super) fn complete(text: &str) -> usize {
    let bytes = text.as_bytes();
    let from = bytes.len().saturating_sub(LONGEST);
    let Some(at) = memchr::memrchr2(b'&', b'\\', &bytes[from..]).map(|at| from + at) else {
        return bytes.len();
    };
    let rest = &bytes[at + 1..];
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let open = match (bytes[at], rest) {
        (_, []) => true,
        (b'&', [b'#']) => true,
        (b'&', [b'#', b'x' | b'X', digits @ ..]) => digits.len() <= 6 && hex(digits),
        (b'&', [b'#', digits @ ..]) => digits.len() <= 7 && digits.iter().all(u8::is_ascii_digit),
        (b'&', name) => NAMES.iter().any(|(known, _)| known.as_bytes().starts_with(name)),
        (_, [b'u', digits @ ..]) => digits.len() < 4 && hex(digits),
        (_, [b'x', digits @ ..]) => digits.len() < 2 && hex(digits),
        _ => false,
    };
    // A backslash that another one stands before is that one's.
    let paired = bytes[at] == b'\\' && bytes[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
    if open && !paired { at } else { bytes.len() }
}

/// What the escape at the beginning stands for, and its length.
fn read(bytes: &[u8]) -> Option<(char, usize)> {
    let (code, length) = match bytes {
        [b'&', b'#', b'x' | b'X', rest @ ..] => {
            let digits = rest.iter().take(7).take_while(|b| b.is_ascii_hexdigit()).count();
            (number(rest.get(..digits)?, 16).filter(|_| rest.get(digits) == Some(&b';'))?, digits + 4)
        }
        [b'&', b'#', rest @ ..] => {
            let digits = rest.iter().take(8).take_while(|b| b.is_ascii_digit()).count();
            (number(rest.get(..digits)?, 10).filter(|_| rest.get(digits) == Some(&b';'))?, digits + 3)
        }
        [b'&', rest @ ..] => {
            let named = |(name, _): &&(&str, char)| {
                rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&b';')
            };
            let (name, c) = NAMES.iter().find(named)?;
            return Some((*c, name.len() + 2));
        }
        [b'\\', b'u', rest @ ..] => (number(rest.get(..4)?, 16)?, 6),
        [b'\\', b'x', rest @ ..] => (number(rest.get(..2)?, 16)?, 4),
        // Not a line's end: a value in quotes goes on behind it.
        [b'\\', b'n' | b'r' | b't', ..] => return Some((' ', 2)),
        [b'\\', b'/', ..] => return Some(('/', 2)),
        _ => return None,
    };
    let c = char::from_u32(code)?;
    let part = !matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\' | '&');
    (part && (!c.is_control() || matches!(c, '\n' | '\r' | '\t'))).then_some((c, length))
}

fn number(digits: &[u8], base: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok().filter(|_| {
        // No sign before it.
        digits.iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_spelled_out_is_read() {
        for (spelled, read) in [
            ("a&#64;b", "a@b"),
            ("a&#x40;b &#X0040;", "a@b @"),
            ("1&nbsp;2&period;3", "1 2.3"),
            ("a&commat;b", "a@b"),
            (r"a\u0040b\x40", "a@b@"),
            (r"12\/3\/85\n\t", "12/3/85  "),
        ] {
            assert_eq!(plain(spelled), read);
        }
    }

    #[test]
    fn what_is_not_stays_as_it_is() {
        for text in [
            "R&D & &c; &#; &#x; &#64 &#99999999; &#xD800;",
            r"C:\\new \\u0040 \u00 \u+040 \xg0 \d",
            r#"&quot; \" \u0022 \u0027 \u003c &#34; &#0; \u0007"#,
        ] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn an_escape_that_is_to_come_is_waited_for() {
        for (text, upto) in [
            ("a&", 1),
            ("a&#x4", 1),
            ("a&peri", 1),
            ("a&comm", 1),
            (r"a\u00", 1),
            (r"a\", 1),
            (r"a\\", 3),
            (r"a\\\", 3),
            ("a&#64;", 6),
            ("a&b", 3),
            ("a & b", 5),
            (r"a\d", 3),
            (r"a\n", 3),
        ] {
            assert_eq!(complete(text), upto, "{text}");
        }
    }

    proptest! {
        /// Cut anywhere, the beginning up to where it is complete reads as it does in the whole.
        #[test]
        fn what_was_read_stays_what_it_is(text in r"([&\\#xu0-4a;n]|&#64;|\\u0040|&period;|é){0,12}") {
            let whole = plain(&text).into_owned();
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let upto = complete(&text[..at]);
                prop_assert!(text.is_char_boundary(upto));
                let begun = plain(&text[..upto]);
                prop_assert!(whole.starts_with(&*begun), "{text} at {at}: {begun} {whole}");
            }
        }
    }
}
