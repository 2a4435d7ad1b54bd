//! Values behind a word that announces a secret, such as `password`.
use super::{
    kind::Kind,
    looks::{
        chancy, is_about, is_address, is_method, is_name, jumbled, mixed, phrase, plain_word, stand_in,
        strange,
    },
    text::{Found, Text, ceil},
    tie::{Tie, value_after},
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
    let password = hit.class.meets(Class::PASSWORD.or(Class::FIELD));
    let bytes = text.bytes;
    let name = name_after(text, hit);
    if is_about(&text.str[hit.end..hit.end + name]) {
        return None;
    }
    // `sessionid=…` is a cookie, `"sessionid": …` an id like others.
    let thing = hit.class.meets(Class::THING);
    if thing && text.byte(hit.end + name) != b'=' {
        return None;
    }
    let (value, tie) = value_after(text, hit.end + name, hit)?;
    let field = hit.class.meets(Class::FIELD);
    if field && (name > 0 || !is_field(text, hit, value, tie)) || is_work(text, hit, tie) {
        return None;
    }
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
        // `clave` is any key.
        _ if field && !is_setting(text, hit, value, word) => {
            let long = word.len() >= 8 && !word.contains(' ');
            let named = quoted && matches!(text.before(hit.start), b'_' | b'-');
            long && (strange(word) || named) || jumbled(word) || phrase(word, 3)
        }
        Tie::Call => is_given(word, password),
        // WordPress's keys have spaces.
        Tie::Tight if !password && text.byte(hit.end + name + 1) == b',' => is_given(word, password),
        Tie::Bare => strange(word) || jumbled(word) || phrase(word, 4) || numbered_phrase(word),
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
                || (tie == Tie::Tight
                    && word.len() >= 6
                    && !word.contains(['(', '.'])
                    && plain_word(word)
                    // `two_pass=enabled`
                    && (hit.end < value || is_setting(text, hit, value, word)))
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

/// The length of the rest of the name of a field behind a word. What has its sign with it, as `pass=`, has no rest.
fn name_after(text: &Text<'_>, hit: &Hit) -> usize {
    let letter = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    match text.before(hit.end) {
        b':' | b'=' => 0,
        _ => text.bytes[hit.end..].iter().take(24).take_while(letter).count(),
    }
}

/// Whether what announces a password only as the name of a field is one: with a sign of its own, `DB_PASS = …`.
fn is_field(text: &Text<'_>, hit: &Hit, value: usize, tie: Tie) -> bool {
    let signed = text.bytes[hit.end..value].iter().any(|b| matches!(b, b'=' | b':'));
    // `ski pass = …`
    let said =
        || text.str[..hit.start].strip_suffix(' ').is_some_and(|text| text.ends_with(char::is_alphabetic));
    signed && matches!(tie, Tie::Tight | Tie::Colon) && (!said() || signs_in(text, hit))
}

/// Whether `pass` is a round of work, `two_pass=…`, or a test's result, `PASS: tests/run42.sh`.
fn is_work(text: &Text<'_>, hit: &Hit, tie: Tie) -> bool {
    if &text.str[hit.start..hit.end] == "PASS:" && tie == Tie::Colon && !signs_in(text, hit) {
        return !matches!(text.before(hit.start), b'_' | b'-');
    }
    let works = ["first", "second", "one", "two", "single", "multi", "test", "by", "proxy", "render", "num"];
    let tickets = ["boarding", "ski", "bus", "day", "rail", "season", "press", "guest"];
    let Some(before) = text.str[..hit.start].strip_suffix(['_', '-', ' ']) else { return false };
    let before = &before[ceil(before, before.len().saturating_sub(16))..];
    let before = before.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let word = &text.bytes[hit.start..hit.end];
    let pass = word.len() <= 5 && word[..4.min(word.len())].eq_ignore_ascii_case(b"pass");
    let named = text.before(hit.start) != b' ';
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(before));
    pass && (is(&tickets) || named && is(&works))
}

/// Whether a call is given a secret, and not the name of another thing: `set('password', 'x8…')`.
fn is_given(word: &str, password: bool) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let signs = word.bytes().filter(u8::is_ascii_punctuation).count();
    match password {
        true => !word.contains(' ') && (word.len() >= 8 && digits >= 2 && strange(word) || jumbled(word)),
        false => {
            (word.len() >= 16 && !word.contains(' ') || word.len() >= 40 && signs >= 8)
                && chancy(word.as_bytes())
        }
    }
}

/// A password, or another secret, in a table whose header says that the column holds them.
pub(super) fn listed(text: &Text<'_>, start: usize, end: usize, password: bool) -> Option<Found> {
    let word = text.str.get(start..end)?;
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if !password && (word.len() < 12 || digits < 2 || digits == word.len()) {
        return None;
    }
    let good = (4..=LONGEST_VALUE).contains(&word.len())
        && !word.contains(char::is_whitespace)
        && !(stand_in(word) || is_address(word) || is_method(word.as_bytes()) || word.contains("://"))
        && (strange(word)
            || jumbled(word)
            || phrase(word, 3)
            || (word.len() >= 6 && word.bytes().all(|b| b.is_ascii_digit())));
    good.then_some(Found { kind: Kind::Secret, start, end })
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
    let name = name_after(text, hit);
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
        "utente",
        "usuario",
        "usuário",
        "utilisateur",
        "benutzer",
        "gebruiker",
    ];
    words.iter().any(|word| before.contains(word))
}

/// Whether the word at a place looks like a password: letters, digits and signs, or small and capital letters and
/// digits. Behind a login, or the name of a setting in capitals, letters and digits are enough.
pub(super) fn bare(text: &Text<'_>, at: usize, hit: &Hit) -> bool {
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
    let said =
        || numbered_phrase(std::str::from_utf8(word).unwrap_or_default()) && told(text, at, at + word.len());
    if said() {
        return true;
    }
    let text = std::str::from_utf8(word).unwrap_or_default();
    (word.len() >= 6 && digits && letters && (sign || mixed(word) || (!is_method(word) && login())))
        || ((jumbled(text) || phrase(text, 3)) && login())
}

/// Whether a word is small letters, in one word or more with hyphens between, and a number at their end: as passwords
/// are made that are to be remembered.
fn numbered_phrase(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = word.len() - letters.len();
    let parts = letters.strip_suffix('-').unwrap_or(letters).split('-');
    let small = |part: &str| part.len() >= 3 && part.bytes().all(|b| b.is_ascii_lowercase());
    (2..=4).contains(&digits) && word.len() >= 10 && !is_method(word.as_bytes()) && { parts }.all(small)
}

/// Whether a sentence names the word at `start..end` as the password: it ends behind it, or another thing is told before.
/// In `password rotation2024 policy` it does not.
fn told(text: &Text<'_>, start: usize, end: usize) -> bool {
    let rest = text.str[end..].trim_start_matches(['.', ',', ';', '!']);
    let ends = rest.is_empty() || rest.starts_with('\n') || rest.len() + end < text.str.len();
    let before = text.str[..start].trim_end().rsplit(char::is_whitespace).nth(1).unwrap_or_default();
    let ties = ["and", "with", "und", "mit", "et", "avec", "y", "con", "e", "using"];
    ends || before.ends_with(',') || ties.iter().any(|tie| tie.eq_ignore_ascii_case(before))
}
