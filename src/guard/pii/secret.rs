//! Secrets: keys and tokens by how they begin, private keys, logins in
//! addresses, and values that look like chance where something tells that they are secret.
use super::{
    kind::Kind,
    text::{Found, Text},
    words::{Class, Hit},
};

/// The longest secret in one word, in bytes.
pub(super) const LONGEST: usize = 8192;
/// The longest secret that only what stands before it tells, in bytes.
const LONGEST_VALUE: usize = 512;
/// The longest private key, in bytes.
pub(super) const LONGEST_PEM: usize = 16 << 10;

/// How secrets begin, the least letters, digits and signs that follow, and whether these must be capitals and digits.
const PREFIXES: &[(&str, usize, bool)] = &[
    ("sk-", 20, false),
    ("sk_live_", 16, false),
    ("sk_test_", 16, false),
    ("rk_live_", 16, false),
    ("rk_test_", 16, false),
    ("pk_live_", 16, false),
    ("whsec_", 16, false),
    ("AKIA", 16, true),
    ("ASIA", 16, true),
    ("AROA", 16, true),
    ("AIDA", 16, true),
    ("AGPA", 16, true),
    ("AIza", 30, false),
    ("ya29.", 20, false),
    ("GOCSPX-", 20, false),
    ("ghp_", 30, false),
    ("gho_", 30, false),
    ("ghu_", 30, false),
    ("ghs_", 30, false),
    ("ghr_", 30, false),
    ("github_pat_", 30, false),
    ("glpat-", 18, false),
    ("gldt-", 18, false),
    ("glrt-", 18, false),
    ("xoxb-", 18, false),
    ("xoxp-", 18, false),
    ("xoxa-", 18, false),
    ("xoxr-", 18, false),
    ("xoxs-", 18, false),
    ("xoxe.", 18, false),
    ("xoxe-", 18, false),
    ("xapp-", 18, false),
    ("SG.", 30, false),
    ("npm_", 30, false),
    ("pypi-", 30, false),
    ("hf_", 28, false),
    ("dop_v1_", 30, false),
    ("doo_v1_", 30, false),
    ("shpat_", 28, false),
    ("shpss_", 28, false),
    ("shpca_", 28, false),
    ("dapi", 30, false),
    ("gsk_", 28, false),
    ("xai-", 30, false),
    ("pplx-", 30, false),
    ("r8_", 30, false),
    ("lin_api_", 30, false),
    ("ntn_", 30, false),
    ("hvs.", 20, false),
    ("hvb.", 20, false),
    ("dp.pt.", 30, false),
    ("dp.st.", 30, false),
    ("glsa_", 28, false),
    ("glc_", 28, false),
    ("NRAK-", 20, false),
    ("ATATT3", 30, false),
    ("pscale_", 20, false),
    ("PMAK-", 30, false),
    ("AGE-SECRET-KEY-", 40, false),
    ("sq0atp-", 20, false),
    ("sq0csp-", 20, false),
    ("figd_", 30, false),
    ("sntrys_", 30, false),
    ("rubygems_", 30, false),
    ("cio_", 30, false),
    ("tskey-", 20, false),
    ("fm2_", 30, false),
    ("nvapi-", 30, false),
    ("tvly-", 24, false),
    ("lsv2_", 30, false),
    ("sbp_", 30, false),
];

/// A secret that begins as `hit` says.
pub(super) fn prefixed(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let rest = &text.bytes[hit.start..];
    let found = |end: usize| Some(Found { kind: Kind::Secret, start: hit.start, end });
    if rest.starts_with(b"eyJ") {
        return jwt(text, hit.start);
    }
    if text.str[hit.start..hit.end].contains('/') {
        // The path of a web hook is its password.
        let length = rest
            .iter()
            .take(LONGEST)
            .take_while(|b| b.is_ascii_graphic() && !b"\"'<>)]}".contains(b))
            .count();
        let path = &rest[hit.end - hit.start..length];
        return if path.len() >= 20 { found(hit.start + length) } else { None };
    }
    let (prefix, least, capitals) =
        PREFIXES.iter().find(|(prefix, ..)| rest.starts_with(prefix.as_bytes()))?;
    let sign = |b: &u8| match capitals {
        true => b.is_ascii_uppercase() || b.is_ascii_digit(),
        false => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'),
    };
    let length = prefix.len() + rest[prefix.len()..].iter().take(LONGEST).take_while(|b| sign(b)).count();
    let word = text.str[hit.start..hit.start + length].trim_end_matches(['.', '-', '_']);
    let value = &word.as_bytes()[prefix.len().min(word.len())..];
    let end = hit.start + word.len();
    let whole = !*capitals || value.len() == 16 && !text.byte(end).is_ascii_alphanumeric();
    (value.len() >= *least && whole && (chancy(value) || mixed(value) || *capitals) && !stand_in(word))
        .then_some(())?;
    found(end)
}

/// The end of the run of signs without white space from `at` on, as far as runs are followed.
pub(super) fn run(text: &Text<'_>, at: usize) -> usize {
    at + text.bytes[at..].iter().take(LONGEST_VALUE).take_while(|b| !b.is_ascii_whitespace()).count()
}

/// A JSON web token: two or three parts in base64, the first an object.
fn jwt(text: &Text<'_>, start: usize) -> Option<Found> {
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'=' | b'+' | b'/');
    let length = text.bytes[start..].iter().take(LONGEST).take_while(|b| sign(b)).count();
    let word = text.str[start..start + length].trim_end_matches('.');
    let mut parts = word.split('.');
    let good =
        parts.next().is_some_and(|head| head.len() >= 10) && parts.next().is_some_and(|body| body.len() >= 8);
    good.then_some(Found { kind: Kind::Secret, start, end: start + word.len() })
}

/// A private key in PEM that begins at `start`.
pub(super) fn pem(text: &Text<'_>, start: usize) -> Option<Found> {
    let line = &text.str[start..floor(text.str, start + 80)];
    let head = line[10.min(line.len())..].split("-----").next()?;
    if !head.to_ascii_uppercase().contains("PRIVATE KEY") {
        return None;
    }
    let window = &text.str[start..floor(text.str, start + LONGEST_PEM)];
    let tail = window.find("-----END").or_else(|| window.find("-----end"));
    let end = match tail {
        Some(tail) => {
            let rest = &window[tail + 8..];
            tail + 8 + rest.find("-----").map_or(0, |dashes| dashes + 5)
        }
        // Its end is cut off: all that looks like its lines belongs to it.
        None => {
            10 + window[10..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=-\n\r\\ :,".contains(c)))
                .unwrap_or(window.len() - 10)
        }
    };
    Some(Found { kind: Kind::Secret, start, end: start + end })
}

/// Whether a private key that begins at `start` may go on behind the end of the text.
pub(super) fn pem_open(text: &Text<'_>, start: usize) -> bool {
    let rest = &text.str[start..];
    let head = rest.get(10..).unwrap_or_default();
    let told = head.split_once("-----");
    let private = told.is_none_or(|(head, _)| head.to_ascii_uppercase().contains("PRIVATE KEY"));
    let whole = |tail: &str| rest.find(tail).is_some_and(|at| rest[at + 8..].contains("-----"));
    private
        && rest.len() < LONGEST_PEM
        && !whole("-----END")
        && !whole("-----end")
        && (told.is_some() || head.len() < 80)
}

/// A login in an address, `scheme://name:word@host`; `at` is where `://` stands. In an answer it is what stands
/// between there and the next slash: every word could be a scheme, and would have to wait.
pub(super) fn login(text: &Text<'_>, at: usize, whole: bool) -> Option<Found> {
    let scheme = text.bytes[..at]
        .iter()
        .rev()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    let from = at + 3;
    let length = text.bytes[from..]
        .iter()
        .take(LONGEST_VALUE)
        .take_while(|b| b.is_ascii_graphic() && !b"\"'<>`".contains(b) || **b >= 0x80)
        .count();
    let rest = &text.str[from..floor(text.str, from + length)];
    // A word may hold a slash, and an at sign.
    let authority = match rest.find('/') {
        Some(slash) if !whole || rest[..slash].contains('@') || !rest.contains('@') => &rest[..slash],
        _ => rest,
    };
    let sign = authority.rfind('@')?;
    let (_, word) = authority[..sign].split_once(':')?;
    if scheme == 0 || word.is_empty() || stand_in(word) {
        return None;
    }
    let shown = if whole { rest } else { authority };
    let end = from + shown.trim_end_matches(['.', ',', ';', ')', ']', '}']).len();
    let start = if whole { at - scheme } else { from };
    Some(Found { kind: Kind::Secret, start, end })
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
    let (value, tie) = value_after(text, hit.end + name, hit)?;
    let quote = text.before(value);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    let stop = |b: u8| match quoted {
        true => b == quote || b == b'\n',
        false => {
            b.is_ascii_whitespace()
                || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>')
                || matches!(b, b',' | b';' | b')' | b']' | b'}') && tie != Tie::Prose
        }
    };
    let length = bytes[value..].iter().take(LONGEST_VALUE).take_while(|b| !stop(**b)).count();
    let end = value + length;
    let end = if quoted {
        end
    } else {
        value + text.str.get(value..end)?.trim_end_matches(['.', ',', ';', ':', '?', ')', ']', '}']).len()
    };
    let word = text.str.get(value..end)?;
    let good = match tie {
        _ if stand_in(word) || word.contains("://") => false,
        Tie::Bare => strange(word),
        Tie::Prose => strange(word) && (password || word.len() >= 12 && chancy(word.as_bytes())),
        _ if password => {
            (strange(word) && word.len() >= 4)
                || (quoted && word.len() >= 8 && !word.contains(' '))
                || (word.len() >= 6 && word.bytes().all(|b| b.is_ascii_digit()))
                || (tie == Tie::Tight && word.len() >= 6 && !word.contains(['(', '.']) && plain_word(word))
        }
        _ => word.len() >= 10 && !word.contains(' ') && chancy(word.as_bytes()),
    };
    good.then_some(Found { kind: Kind::Secret, start: value, end })
}

/// Where the value begins that the word `hit` announces, if it may go on behind the end of the text.
pub(super) fn unfinished(text: &Text<'_>, hit: &Hit) -> Option<usize> {
    let name = text.bytes[hit.end..]
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        .count();
    let (value, _) = value_after(text, hit.end + name, hit)?;
    let quote = text.before(value);
    let stop = |b: u8| match quote {
        b'"' | b'\'' | b'`' => b == quote || b == b'\n',
        _ => b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>'),
    };
    let rest = text.bytes.get(value..)?;
    (rest.len() <= LONGEST_VALUE && !rest.iter().any(|b| stop(*b))).then_some(value)
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
    let quote = |at: usize| usize::from(matches!(text.byte(at), b'"' | b'\'' | b'`' | b'*'));
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
        // `--password x`, `Bearer x`.
        _ if before > 0
            && (text.str[..hit.start].ends_with("--")
                || text.str[hit.start..hit.end].eq_ignore_ascii_case("bearer")) =>
        {
            Tie::Colon
        }
        // `and password x`: the value follows at once, and looks like one.
        _ if before > 0 && hit.class.meets(Class::PASSWORD) && bare(text, at) => Tie::Bare,
        _ if before > 0 || sign >= 0x80 => {
            let rest = &text.str[at..];
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
                "ist ",
                "lautet ",
                "est ",
                "es ",
                "è ",
                "é ",
                "это ",
                "是",
                "は",
                "of ",
            ];
            let verb = verbs
                .iter()
                .find(|verb| rest.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb)))?;
            at += verb.len();
            Tie::Prose
        }
        _ => return None,
    };
    at += spaces(at);
    // `Authorization: Bearer x`: the next word announces it.
    at += quote(at);
    Some((at, tie))
}

/// Whether the word at a place looks like a password: letters, digits and signs, or small and capital letters and digits.
fn bare(text: &Text<'_>, at: usize) -> bool {
    let word: Vec<u8> =
        text.bytes[at..].iter().copied().take(64).take_while(|b| !b.is_ascii_whitespace()).collect();
    let word = word.strip_suffix(b".").or(word.strip_suffix(b",")).unwrap_or(&word);
    let sign = word.iter().any(|b| b"!@#$%^&*?~".contains(b));
    let digits = word.iter().any(u8::is_ascii_digit);
    word.len() >= 6 && digits && word.iter().any(u8::is_ascii_alphabetic) && (sign || mixed(word))
}

/// Whether the rest of a field's name says that it is not the secret itself.
fn is_about(rest: &str) -> bool {
    let rest = rest.trim_start_matches(['_', '-']).to_ascii_lowercase();
    let about = [
        "count", "limit", "length", "len", "max", "min", "type", "name", "url", "uri", "expir", "reset",
        "policy", "size", "usage", "ttl", "less", "field", "id", "age", "rotation", "manager", "hint", "ref",
        "path", "file", "version", "arn", "hash", "ize", "iz",
    ];
    about.iter().any(|about| rest.starts_with(about))
}

/// Whether a value stands for one: `<your key>`, `${KEY}`, `xxxx`, `****`, code that fetches it.
fn stand_in(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let told = [
        "your",
        "example",
        "placeholder",
        "changeme",
        "change_me",
        "redacted",
        "xxxx",
        "****",
        "...",
        "insert",
        "dummy",
        "none",
        "null",
        "undefined",
        "process.env",
        "os.environ",
        "getenv",
        "env.",
        "secrets.",
        "vault:",
        "todo",
        "<",
        "${",
        "{{",
        "$(",
        "%s",
        "required",
        "string",
        "optional",
        "[secret",
        "[filtered",
    ];
    let open = word.starts_with('$')
        || word.starts_with('{')
        || word.starts_with('[')
        || word.starts_with('(')
        || word.ends_with('(')
        || lower.contains("()");
    let same = word.len() >= 4 && word.bytes().all(|b| b == word.as_bytes()[0]);
    open || same || told.iter().any(|told| lower.contains(told))
}

/// Whether it is no word of a language: letters and digits or signs.
fn strange(word: &str) -> bool {
    let letters = word.bytes().any(|b| b.is_ascii_alphabetic()) || !word.is_ascii();
    let digits = word.bytes().any(|b| b.is_ascii_digit());
    let signs = word.bytes().any(|b| b"!@#$%^&*+=~?|".contains(&b));
    let version = word
        .trim_start_matches(['v', 'V'])
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-' || b == b':');
    letters && (digits || signs) && !version && word.len() >= 5
}

/// Whether it is one word of letters only.
fn plain_word(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether letters and digits stand as chance puts them: many different ones, digits among them.
pub(super) fn chancy(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let mut seen = [0_u16; 128];
    value.iter().filter(|b| b.is_ascii()).for_each(|b| seen[usize::from(*b)] += 1);
    let length = value.len() as f64;
    let entropy: f64 =
        seen.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum();
    (digits > 0 || (mixed(value) && length > 20.0)) && letters > 0 && entropy >= 2.8
}

fn mixed(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_lowercase) && value.iter().any(u8::is_ascii_uppercase)
}

/// A long word that looks like chance, at `start..end`, near something that tells of a secret.
pub(super) fn chance(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    if !text.hits.iter().any(|hit| hit.class.meets(Class::KEY.or(Class::PASSWORD))) {
        return None;
    }
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'~');
    let from = start - text.bytes[..start].iter().rev().take(LONGEST_VALUE).take_while(|b| sign(b)).count();
    let upto = end + text.bytes[end..].iter().take(LONGEST_VALUE).take_while(|b| sign(b)).count();
    let upto = upto + text.bytes[upto..].iter().take_while(|b| **b == b'=').take(2).count();
    let word = &text.bytes[from..upto];
    let not = Class::DIGEST.or(Class::THING).or(Class::VERSION).or(Class::URL);
    let good = word.len() >= 20
        && chancy(word)
        && (!word.contains(&b'/') || word.len() == 40)
        && text.announced(Class::KEY.or(Class::PASSWORD), not, from, upto);
    (good && !stand_in(&text.str[from..upto])).then_some(Found { kind: Kind::Secret, start: from, end: upto })
}

/// The nearest border of a character at or before a place.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
