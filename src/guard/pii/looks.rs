//! What a word looks like: chance, a pass phrase, a name in a program, or something that stands for a secret.

/// Whether a word with digits is the name of a way to keep passwords, not one itself.
pub(super) fn is_method(word: &[u8]) -> bool {
    let methods =
        ["sha", "md5", "base64", "argon", "pbkdf", "bcrypt", "oauth", "pkcs", "utf", "ntlm", "aes", "rfc"];
    methods.iter().any(|method| {
        word.len() >= method.len() && word[..method.len()].eq_ignore_ascii_case(method.as_bytes())
    })
}

/// Whether the rest of a field's name says that it is not the secret itself.
pub(super) fn is_about(rest: &str) -> bool {
    let rest = rest.trim_start_matches(['_', '-']).to_ascii_lowercase();
    let about = [
        "count", "limit", "length", "len", "max", "min", "type", "name", "url", "uri", "expir", "reset",
        "policy", "size", "usage", "ttl", "less", "field", "id", "age", "rotation", "manager", "hint", "ref",
        "path", "file", "version", "arn", "hash", "ize", "iz",
    ];
    about.iter().any(|about| rest.starts_with(about))
}

/// Whether a value stands for one: `<your key>`, `${KEY}`, `xxxx`, `****`, code that fetches it.
pub(super) fn stand_in(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let told = [
        "your",
        "example",
        "placeholder",
        "_here",
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
        "required",
        "string",
        "optional",
        "[secret",
        "[filtered",
    ];
    // `$NAME` and `(value)` stand for one; `$3cr3t!` and `(1(eTj` do not.
    let name = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':'))
    };
    let random = word.bytes().any(|b| b.is_ascii_digit()) && mixed(word.as_bytes()) && !word.ends_with(')');
    let open = word.strip_prefix('$').is_some_and(name)
        || word.starts_with('{')
        || word.starts_with('[')
        || ((word.starts_with('(') || word.ends_with('(')) && !random)
        || lower.contains("()");
    let same = word.len() >= 4 && word.bytes().all(|b| b == word.as_bytes()[0]);
    // `AKIAIOSFODNN7EXAMPLE` is written like a key, whatever its last letters say.
    let sample = word.len() >= 20 && word.contains("EXAMPLE") && word.bytes().any(|b| b.is_ascii_digit());
    open || same
        || word == "%s"
        || word.starts_with("%(")
        || told.iter().any(|told| lower.contains(told) && !(sample && *told == "example"))
}

/// Whether it is no word of a language: letters and digits or signs.
pub(super) fn strange(word: &str) -> bool {
    let letters = word.bytes().any(|b| b.is_ascii_alphabetic()) || !word.is_ascii();
    let digits = word.bytes().any(|b| b.is_ascii_digit());
    let signs = word.bytes().any(|b| b"!@#$%^&*+=~?|".contains(&b));
    let version = word
        .trim_start_matches(['v', 'V'])
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-' || b == b':');
    letters && (digits || signs) && !version && word.len() >= 5
}

/// Whether it is the name of something in a program, or begins with one and a sign of equality: no value of its own.
pub(super) fn is_name(word: &str, password: bool) -> bool {
    let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.'));
    let lower = word.to_ascii_lowercase();
    let told = ["password", "passwd", "token", "secret", "api_key"];
    (plain(word) && told.iter().any(|told| lower.contains(told)))
        || !password
            && word.split_once('=').is_some_and(|(name, rest)| {
                name.len() > 3 && plain(name) && !rest.trim_start_matches('=').is_empty()
            })
}

/// Whether capitals and small letters are mixed as nobody writes words or names: `pGfCRwoUCA`, but not `getHTTPResponse`.
pub(super) fn jumbled(word: &str) -> bool {
    let bytes = word.as_bytes();
    if bytes.len() < 8 || !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let kind = |b: &u8| (b.is_ascii_uppercase(), b.is_ascii_digit());
    let runs = bytes.chunk_by(|one, two| kind(one) == kind(two));
    runs.filter(|run| if run[0].is_ascii_uppercase() { run.len() >= 2 } else { run.len() == 1 }).count() >= 3
}

/// Whether what follows a key goes on with it, and is no word: small letters, capitals and digits change often.
pub(super) fn goes_on(rest: &str) -> bool {
    let kind = |b: u8| (b.is_ascii_uppercase(), b.is_ascii_digit());
    // A day has digits and signs alone.
    let mut kinds = rest.bytes().filter(u8::is_ascii_alphanumeric).map(kind);
    let Some(mut last) = kinds.next() else { return false };
    let changes = kinds.filter(|kind| std::mem::replace(&mut last, *kind) != *kind).count();
    changes >= 3 && rest.bytes().any(|b| b.is_ascii_digit())
}

/// Whether it is a row of at least `least` small words, as pass phrases are made.
pub(super) fn phrase(word: &str, least: usize) -> bool {
    let parts = word.split('-');
    word.len() >= 16
        && parts.clone().count() >= least
        && parts.into_iter().all(|part| part.len() >= 3 && part.bytes().all(|b| b.is_ascii_lowercase()))
}

/// Whether it is one word of letters only.
pub(super) fn plain_word(word: &str) -> bool {
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

pub(super) fn mixed(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_lowercase) && value.iter().any(u8::is_ascii_uppercase)
}

/// Whether it is written like an e-mail address: a name, an at sign, a host with an ending.
pub(super) fn is_address(word: &str) -> bool {
    let Some((name, host)) = word.split_once('@') else { return false };
    let plain = |text: &str, signs: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
    };
    let ending = host
        .rsplit_once('.')
        .is_some_and(|(_, last)| last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic()));
    ending && plain(name, b"._+-'") && plain(host, b".-")
}
