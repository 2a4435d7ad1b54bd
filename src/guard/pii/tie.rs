//! What ties a secret to the word that announces it, and where it begins: `password = x`, `the token is x`.
use super::{
    secret::bare,
    text::{Text, floor},
    words::{Class, Hit},
};

/// What ties a value to the word that announces it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// `=`, or a colon right after it and no space.
    Tight,
    /// A colon.
    Colon,
    /// Nothing but a space.
    Bare,
    /// A verb.
    Prose,
    /// A comma between two arguments of a call.
    Call,
}

/// What stands between a secret and its word in a sentence; longer ones before their beginnings.
const VERBS: [&str; 31] = [
    "is set to ",
    "is now ",
    "was changed from ",
    "has been changed from ",
    "changed from ",
    "was changed to ",
    "was reset to ",
    "was set to ",
    "has been changed to ",
    "has been reset to ",
    "has been set to ",
    "is changed to ",
    "is reset to ",
    "changed to ",
    "reset to ",
    "set to ",
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

/// Where the announced value begins.
pub(super) fn value_after(text: &Text<'_>, mut at: usize, hit: &Hit) -> Option<(usize, Tie)> {
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
    if text.byte(at) == b',' {
        return argument(text, at, hit);
    }
    let before = spaces(at);
    at += before;
    at = behind_bracket(text, at);
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
        // PowerShell's.
        _ if before > 0 && text.str[..hit.end].ends_with(['g', 'G']) && secure_string(text, hit) => {
            at += if text.str[at..].starts_with("-String ") { "-String ".len() } else { 0 };
            if quote(at) == 0 {
                return None;
            }
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
            // In scripts without spaces a word is as good as a sentence.
            let wide = ["是", "は", "는", "은"].iter().find_map(|verb| rest.strip_prefix(verb));
            if let Some(said) = wide {
                let said = said.trim_start_matches(' ');
                at = text.str.len() - said.len();
                return said
                    .starts_with(|c: char| c.is_ascii_graphic())
                    .then(|| (at + quote(at), Tie::Prose));
            }
            at += said(rest)?;
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

/// The sign behind words in brackets at `at`, as in `Password (temporary): x`; else `at`.
fn behind_bracket(text: &Text<'_>, at: usize) -> usize {
    if text.byte(at) != b'(' {
        return at;
    }
    let count = |from: usize, most: usize, is: fn(&u8) -> bool| {
        text.bytes[from.min(text.bytes.len())..].iter().take(most).take_while(|b| is(b)).count()
    };
    let close = at + 1 + count(at + 1, 24, |b| b.is_ascii_alphabetic() || matches!(b, b' ' | b'-' | b'/'));
    let sign = close + 1 + count(close + 1, 3, |b| *b == b' ');
    if text.byte(close) == b')' && matches!(text.byte(sign), b':' | b'=') { sign } else { at }
}

/// Whether `hit` makes a secure string.
fn secure_string(text: &Text<'_>, hit: &Hit) -> bool {
    text.str[hit.start..hit.end].eq_ignore_ascii_case("ConvertTo-SecureString")
}

/// Where the second argument of a call begins whose first is the name that `hit` stands in, up to its quote before the
/// comma at `at`: `define('DB_PASSWORD', 'x')`. In a list a name follows a name.
fn argument(text: &Text<'_>, at: usize, hit: &Hit) -> Option<(usize, Tie)> {
    let quote = |b: u8| matches!(b, b'"' | b'\'');
    let name = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let open = hit.start - text.bytes[..hit.start].iter().rev().take(32).take_while(name).count();
    let blank = |at: usize| text.bytes[at..].iter().take(2).take_while(|b| **b == b' ').count();
    let value = at + 1 + blank(at + 1);
    let call = quote(text.before(at)) && quote(text.before(open)) && quote(text.byte(value));
    let before = text.str[..open.saturating_sub(1)].trim_end_matches(' ');
    // A constant has a value.
    let tie = if before.ends_with("define(") { Tie::Tight } else { Tie::Call };
    (call && before.ends_with('(')).then_some((value + 1, tie))
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

/// The length of the words that a text begins with and that say what a secret is.
fn said(text: &str) -> Option<usize> {
    let verb = VERBS
        .iter()
        .find(|verb| text.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb)))?;
    Some(verb.len())
}
