//! Values behind a word that announces a secret, such as `password`.
use super::{
    kind::Kind,
    looks::{
        chancy, is_about, is_address, is_method, is_name, jumbled, mixed, phrase, plain_word, stand_in,
        strange,
    },
    text::{Found, Text, ceil, floor},
    words::{Class, Hit},
};

/// The longest secret that only what stands before it tells, in bytes.
pub(super) const LONGEST_VALUE: usize = 512;

/// The end of the run of signs without white space from `at` on, as far as runs are followed.
pub(super) fn run(text: &Text<'_>, at: usize) -> usize {
    at + text.bytes[at..].iter().take(LONGEST_VALUE).take_while(|b| !b.is_ascii_whitespace()).count()
}

/// A value that the word `hit` announces: `password = x`, `"api_key": "x"`, `the token is x`.
pub(super) fn announced(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let password = hit.class.meets(Class::PASSWORD);
    let bytes = text.bytes;
    // The rest of the name of a field.
    let name = bytes[hit.end..]
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        .count();
    if is_about(&text.str[hit.end..hit.end + name]) {
        return None;
    }
    // `sessionid=…` is a cookie, `"sessionid": …` an id like others.
    let thing = hit.class.meets(Class::THING);
    if thing && text.byte(hit.end + name) != b'=' {
        return None;
    }
    let (value, tie) = value_after(text, hit.end + name, hit)?;
    // `Authorization: Basic x`: a name and a password in base64.
    if text.bytes[value..].get(..6).is_some_and(|head| head.eq_ignore_ascii_case(b"basic ")) {
        return super::login::basic(text, value + 5, true);
    }
    let quoted = matches!(text.before(value), b'"' | b'\'' | b'`');
    let end = if quoted {
        value
            + closing(&bytes[..bytes.len().min(value + LONGEST_VALUE)], value)
                .unwrap_or_else(|| bytes.len().min(value + LONGEST_VALUE) - value)
    } else {
        // A bracket ends it where one is open before it.
        let line =
            &bytes[value - bytes[..value].iter().rev().take(120).take_while(|b| **b != b'\n').count()..value];
        let closes = |b: u8| match b {
            b')' => line.contains(&b'('),
            b']' => line.contains(&b'['),
            b'}' => line.contains(&b'{'),
            _ => false,
        };
        let stop = |b: u8| {
            b.is_ascii_whitespace()
                || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>')
                || (matches!(b, b',' | b';') || closes(b)) && tie != Tie::Prose
        };
        let length = bytes[value..].iter().take(LONGEST_VALUE).take_while(|b| !stop(**b)).count();
        let shown = text.str.get(value..value + length)?;
        // In scripts without spaces a sentence goes on right behind it: `パスワードはx1y2z3です`.
        let wide = || shown.find(super::text::is_wide).unwrap_or(shown.len());
        let shown = if shown.starts_with(|c: char| c.is_ascii()) { &shown[..wide()] } else { shown };
        value
            + shown
                .trim_end_matches(|c| {
                    matches!(c, '.' | ',' | ';' | ':' | '?') || c.is_ascii() && closes(c as u8)
                })
                .len()
    };
    let word = text.str.get(value..end)?;
    let good = match tie {
        // `change their password: ann@example.org`: that is known by itself.
        _ if is_address(word) => false,
        _ if stand_in(word) || word.contains("://") => false,
        // `if password == confirm_password`, `AccountKey=…;` has a name of its own.
        _ if !quoted && is_name(word, password) && !(password && is_setting(text, hit, value, word)) => false,
        Tie::Bare => strange(word) || jumbled(word) || phrase(word, 4),
        Tie::Prose if password => {
            let wide = || text.str[..value].trim_end_matches(' ').ends_with(super::text::is_wide);
            let number = || (6..=16).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
            strange(word) || jumbled(word) || phrase(word, 4) || (wide() && number())
        }
        Tie::Prose => word.len() >= 12 && (strange(word) && chancy(word.as_bytes()) || jumbled(word)),
        _ if password => {
            (strange(word) && word.len() >= 4)
                || (quoted && word.len() >= 8 && !word.contains(' '))
                || (word.len() >= 6 && word.bytes().all(|b| b.is_ascii_digit()))
                || (tie == Tie::Tight && word.len() >= 6 && !word.contains(['(', '.']) && plain_word(word))
                || (tie == Tie::Colon && word.len() >= 6 && plain_word(word) && signs_in(text, hit))
                || jumbled(word)
                || phrase(word, 3)
        }
        _ => {
            word.len() >= if thing { 20 } else { 10 }
                && !word.contains(' ')
                && (chancy(word.as_bytes()) || jumbled(word))
        }
    };
    good.then_some(Found { kind: Kind::Secret, start: value, end })
}

/// Whether a shell is told a value by the name of a variable: `PGPASSWORD=secret`, where a name would begin with a sign.
fn is_setting(text: &Text<'_>, hit: &Hit, value: usize, word: &str) -> bool {
    let name = text.bytes.get(hit.start..value).and_then(|name| name.strip_suffix(b"="));
    name.is_some_and(|name| name.iter().all(|b| b.is_ascii_uppercase() || *b == b'_'))
        && word.bytes().all(|b| b.is_ascii_lowercase())
}

/// The second of two passwords: `from x to y`. `first` is where the first is.
pub(super) fn changed(text: &Text<'_>, first: &Found) -> Option<Found> {
    let rest =
        text.str[..first.start].ends_with("from ").then(|| text.str[first.end..].strip_prefix(" to "))??;
    let word = rest.split_ascii_whitespace().next()?.trim_end_matches(['.', ',', ';']);
    let start = text.str.len() - rest.len();
    let good =
        word.len() <= LONGEST_VALUE && (strange(word) || jumbled(word) || phrase(word, 3)) && !stand_in(word);
    good.then_some(Found { kind: Kind::Secret, start, end: start + word.len() })
}

/// Where the value begins that the word `hit` announces, if it may go on behind the end of the text.
pub(super) fn unfinished(text: &Text<'_>, hit: &Hit) -> Option<usize> {
    let name = text.bytes[hit.end..]
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        .count();
    let Some((value, _)) = value_after(text, hit.end + name, hit) else {
        // `and password x`: what the word looks like is not known before its end.
        let from = hit.end + name;
        let rest = text.bytes.get(from..)?;
        let value = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let word = &rest[value..];
        let open = (1..=3).contains(&value) && word.len() <= 64 && !word.iter().any(u8::is_ascii_whitespace);
        return (open && hit.class.meets(Class::PASSWORD)).then_some(from + value);
    };
    // First of all: what stands further back would be read to its end for every word.
    let rest = text.bytes.get(value..).filter(|rest| rest.len() <= LONGEST_VALUE)?;
    let quoted = matches!(text.before(value), b'"' | b'\'' | b'`');
    let stop = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>');
    let ended = if quoted { closing(text.bytes, value).is_some() } else { rest.iter().any(stop) };
    (!ended).then_some(value)
}

/// The length of the value in quotes that begins at `value`, if its quote is closed: not by one behind a
/// backslash, except where the first stands behind one, as in JSON within JSON.
fn closing(bytes: &[u8], value: usize) -> Option<usize> {
    let quote = bytes[value - 1];
    let escaped = value >= 2 && bytes[value - 2] == b'\\';
    let mut at = value;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        match *byte {
            b'\n' => return Some(at - value),
            byte if byte == quote => return Some(at - value),
            b'\\' if escaped && next.is_none_or(|next| *next == quote) => {
                return next.map(|_| at - value);
            }
            b'\\' if !escaped => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// What ties a value to the word that announces it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// `=`, or a colon right after it and no space.
    Tight,
    /// A colon.
    Colon,
    /// Nothing but a space.
    Bare,
    /// A verb.
    Prose,
}

/// Where the announced value begins.
fn value_after(text: &Text<'_>, mut at: usize, hit: &Hit) -> Option<(usize, Tie)> {
    let bytes = text.bytes;
    let spaces = |at: usize| {
        bytes[at.min(bytes.len())..].iter().take_while(|b| matches!(b, b' ' | b'\t')).take(3).count()
    };
    let quote = |at: usize| {
        let escape = usize::from(text.byte(at) == b'\\' && text.byte(at + 1) == b'"');
        escape + usize::from(matches!(text.byte(at + escape), b'"' | b'\'' | b'`' | b'*'))
    };
    // `pass:` has its sign with it.
    at -= usize::from(at == hit.end && matches!(text.before(at), b':' | b'='));
    // `<password>x</password>`, but not `<password>@host`.
    if text.byte(at) == b'>'
        && !matches!(text.byte(at + 1), b'@' | b':' | b'/')
        && text.str[..hit.start]
            .trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'))
            .ends_with('<')
    {
        return Some((at + 1, Tie::Tight));
    }
    if hit.class.meets(Class::PASSWORD) && text.str[at..].starts_with("'s ") {
        return Some((at + 3, Tie::Prose));
    }
    at += quote(at);
    at += quote(at);
    at += usize::from(text.byte(at) == b']');
    let before = spaces(at);
    at += before;
    let sign = text.byte(at);
    let tie = match sign {
        b'=' | b':' => {
            at += 1 + usize::from(matches!(text.byte(at + 1), b'=' | b'>'));
            let blank = spaces(at);
            at += blank;
            if sign == b'=' || blank == 0 { Tie::Tight } else { Tie::Colon }
        }
        // `Password - x`
        b'-' if before > 0 && text.byte(at + 1) == b' ' => {
            at += 1;
            Tie::Colon
        }
        // `--password x`, `Bearer x`.
        _ if before > 0
            && (text.str[..hit.start].ends_with("--")
                || text.str[hit.start..hit.end].eq_ignore_ascii_case("bearer")) =>
        {
            Tie::Colon
        }
        // `and password x`: the value follows at once, and looks like one.
        _ if before > 0 && hit.class.meets(Class::PASSWORD) && bare(text, at, hit) => Tie::Bare,
        _ if before > 0 || sign >= 0x80 => {
            let rest = &text.str[at..];
            // `the password for the box is x`
            if let Some(to) = thing(rest) {
                return Some((at + to, Tie::Prose));
            }
            let verbs = [
                "is set to ",
                "is now ",
                "was changed to ",
                "is: ",
                "is:",
                "is ",
                "was ",
                "are ",
                "to ",
                "from ",
                "ist ",
                "lautet ",
                "est ",
                "es ",
                "è ",
                "é ",
                "это ",
                "of ",
            ];
            // In scripts without spaces a word is as good as a sentence.
            let wide = ["是", "は", "는", "은"].iter().find_map(|verb| rest.strip_prefix(verb));
            if let Some(said) = wide {
                let said = said.trim_start_matches(' ');
                at = text.str.len() - said.len();
                return said
                    .starts_with(|c: char| c.is_ascii_graphic())
                    .then(|| (at + quote(at), Tie::Prose));
            }
            let verb = verbs
                .iter()
                .find(|verb| rest.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb)))?;
            at += verb.len();
            Tie::Prose
        }
        _ => return None,
    };
    at += spaces(at);
    // `**Password:** x`
    if text.str[at..].starts_with("**") {
        at += 2 + spaces(at + 2);
    }
    // A star begins a password.
    at += if text.byte(at) == b'*' { 0 } else { quote(at) };
    Some((at, tie))
}

/// Where the value begins of a secret that is first said to be for something: `for the staging box is x`.
fn thing(rest: &str) -> Option<usize> {
    let line = &rest[..floor(rest, 56)];
    let line = line.split(['.', '\n', ';']).next().unwrap_or_default();
    if !["for ", "on "].iter().any(|word| line.starts_with(word)) {
        return None;
    }
    [" is ", ": ", " = "].iter().filter_map(|tie| line.find(tie).map(|at| at + tie.len())).min()
}

/// Whether a login, or a change of it, is spoken of right before a word.
fn signs_in(text: &Text<'_>, hit: &Hit) -> bool {
    let before = &text.str[ceil(text.str, hit.start.saturating_sub(48))..hit.start];
    let before = before.to_ascii_lowercase();
    let words = [
        "new ",
        "old ",
        "default ",
        "temp",
        "initial ",
        "user",
        "login",
        "log in",
        "logged in",
        "sign in",
        "credential",
        "ssh ",
    ];
    words.iter().any(|word| before.contains(word))
}

/// Whether the word at a place looks like a password: letters, digits and signs, or small and capital letters and
/// digits. Behind a login, or the name of a setting in capitals, letters and digits are enough.
fn bare(text: &Text<'_>, at: usize, hit: &Hit) -> bool {
    let length = text.bytes[at..].iter().take(64).take_while(|b| !b.is_ascii_whitespace()).count();
    let word = &text.bytes[at..at + length];
    let word = word.strip_suffix(b".").or(word.strip_suffix(b",")).unwrap_or(word);
    let sign = word.iter().any(|b| b"!@#$%^&*?~".contains(b));
    let digits = word.iter().any(u8::is_ascii_digit);
    let letters = word.iter().any(u8::is_ascii_alphabetic);
    let setting =
        text.bytes[hit.start..at].iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b' '));
    // Those of Redis.
    let directives = ["requirepass", "masterauth"];
    let named = directives.iter().any(|name| text.str[hit.start..hit.end].eq_ignore_ascii_case(name));
    let login = || setting || named || signs_in(text, hit);
    let text = std::str::from_utf8(word).unwrap_or_default();
    (word.len() >= 6 && digits && letters && (sign || mixed(word) || (!is_method(word) && login())))
        || ((jumbled(text) || phrase(text, 3)) && login())
}
