//! Logins: a name and a password in an address, in base64, or handed to a command.
use base64::{
    Engine,
    engine::{DecodePaddingMode::Indifferent, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    kind::Kind,
    looks::{chancy, mixed, stand_in},
    secret::LONGEST_VALUE,
    text::{Found, Text, floor},
    words::{Class, Hit},
};

/// A login in an address, `scheme://name:word@host`; `at` is where `://` stands. In an answer it is what stands
/// between there and the next slash: every word could be a scheme, and would have to wait.
pub(super) fn address(text: &Text<'_>, at: usize, whole: bool) -> Option<Found> {
    let scheme = text.bytes[..at]
        .iter()
        .rev()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    let from = at + 3;
    // A quote is part of a password, unless one stands before the address.
    let quote = |b: u8| matches!(b, b'"' | b'\'' | b'`');
    let bare = whole && !quote(text.before(at - scheme));
    let graphic =
        |b: &&u8| (b.is_ascii_graphic() && !b"<>".contains(b) || **b >= 0x80) && (bare || !quote(**b));
    let mut length = text.bytes[from..].iter().take(LONGEST_VALUE).take_while(graphic).count();
    if bare {
        let sign = text.bytes[from..from + length].iter().rposition(|b| *b == b'@').unwrap_or_default();
        length = sign + text.bytes[from + sign..from + length].iter().take_while(|b| !quote(**b)).count();
    }
    let rest = &text.str[from..floor(text.str, from + length)];
    // A word may hold a slash, and an at sign.
    let authority = match rest.find('/') {
        Some(slash) if !whole || rest[..slash].contains('@') || !rest.contains('@') => &rest[..slash],
        _ => rest,
    };
    let sign = authority.rfind('@')?;
    let (name, word) = authority[..sign].split_once(':')?;
    if scheme == 0 || word.is_empty() || stand_in(word) || is_sample(name, word) {
        return None;
    }
    let shown = if whole { rest } else { authority };
    let end = from + shown.trim_end_matches(['.', ',', ';', ')', ']', '}']).len();
    let start = if whole { at - scheme } else { from };
    Some(Found { kind: Kind::Secret, start, end })
}

/// Whether a login is as manuals write it: `user:password`.
fn is_sample(name: &str, word: &str) -> bool {
    matches!(name, "user" | "username") && word == "password"
}

/// A login in the source of a database as Go's drivers have it: `name:word@tcp(db:3306)/shop`. In an answer it has
/// left when the sign comes.
pub(super) fn source(text: &Text<'_>, at: usize) -> Option<Found> {
    if !["tcp(", "unix("].iter().any(|net| text.bytes[at + 1..].starts_with(net.as_bytes())) {
        return None;
    }
    let sign = |b: &&u8| b.is_ascii_graphic() && !matches!(**b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'=');
    let start = at - text.bytes[..at].iter().rev().take(LONGEST_VALUE).take_while(sign).count();
    let (name, word) = text.str[start..at].split_once(':')?;
    let good = !(name.is_empty() || word.is_empty() || stand_in(word) || is_sample(name, word));
    good.then_some(Found { kind: Kind::Secret, start, end: at })
}

/// A password that a command is handed by another one, `echo x | docker login --password-stdin`; `hit` is the word in
/// the option.
pub(super) fn piped(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let option = text.bytes[..hit.start].ends_with(b"--") && text.bytes[hit.end..].starts_with(b"-stdin");
    if !option {
        return None;
    }
    let from = floor(text.str, hit.start.saturating_sub(COMMAND));
    let pipe = from + text.str[from..hit.start].rfind('|')?;
    let line = text.str[from..pipe].trim_end_matches(' ');
    let at = ["echo ", "printf "].iter().filter_map(|tool| Some(line.rfind(tool)? + tool.len())).max()?;
    // Options, and the form of what is printed.
    let mut at = from + at;
    for option in ["-n ", "-e ", "'%s' ", "\"%s\" ", "%s "] {
        at += if text.str[at..].starts_with(option) { option.len() } else { 0 };
    }
    let argument = value(text, at);
    let end = argument.end.filter(|end| *end <= pipe)?;
    let rest = text.str[end..pipe].trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    (rest.is_empty() && is_password(&text.str[argument.start..end], false, false)).then_some(Found {
        kind: Kind::Secret,
        start: argument.start,
        end,
    })
}

/// Base64 as headers have it, with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent),
);

/// `Basic x`, a name and a password in base64 (RFC 7617); `at` is behind the word. Where something
/// announces it, it need only look like chance.
pub(super) fn basic(text: &Text<'_>, at: usize, announced: bool) -> Option<Found> {
    let start = at + text.bytes[at..].iter().take(3).take_while(|b| **b == b' ').count();
    let sign = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    let length = text.bytes[start..].iter().take(LONGEST_VALUE).take_while(sign).count();
    let word = &text.str[start..start + length];
    if start == at || length < 8 || stand_in(word) {
        return None;
    }
    let login = || {
        let plain = BASE64.decode(word).ok()?;
        let plain = std::str::from_utf8(&plain).ok()?;
        let (name, word) = plain.split_once(':')?;
        Some(plain.len() > ":".len() && !name.chars().chain(word.chars()).any(char::is_control))
    };
    let chance = announced && (length % 4 == 0 || chancy(word.as_bytes())) && mixed(word.as_bytes());
    (chance || login() == Some(true)).then_some(Found { kind: Kind::Secret, start, end: start + length })
}

/// How far behind its name a command's options are read, in bytes; in an answer no further than a verdict looks back.
const COMMAND: usize = 1024;
const COMMAND_IN_ANSWERS: usize = 120;

/// A command that takes a login or a password, and the options by which it does.
struct Command {
    /// As it is called, in small letters.
    names: &'static [&'static str],
    /// The letter of the option.
    letters: &'static [u8],
    /// Whether the value may be the next word, as in `-p x`.
    apart: bool,
    /// Whether it may follow in the same word, as in `-px`.
    attached: bool,
    long: &'static [&'static str],
    /// Whether the value is a name and a password with a colon between, else it is a password.
    login: bool,
}

const COMMANDS: [Command; 8] = [
    Command {
        names: &["curl"],
        letters: b"uU",
        apart: true,
        attached: true,
        long: &["--user", "--proxy-user"],
        login: true,
    },
    // `-p x` asks for a password, and opens the database x.
    Command {
        names: &["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump"],
        letters: b"p",
        apart: false,
        attached: true,
        long: &[],
        login: false,
    },
    Command { names: &["sshpass"], letters: b"p", apart: true, attached: true, long: &[], login: false },
    Command {
        names: &["redis-cli", "valkey-cli"],
        letters: b"a",
        apart: true,
        attached: false,
        long: &["--pass"],
        login: false,
    },
    Command {
        names: &["docker login", "podman login", "az login"],
        letters: b"p",
        apart: true,
        attached: true,
        long: &[],
        login: false,
    },
    Command {
        names: &["mongo", "mongosh", "mongodump", "mongorestore"],
        letters: b"p",
        apart: true,
        attached: false,
        long: &[],
        login: false,
    },
    Command { names: &["sqlcmd"], letters: b"P", apart: true, attached: true, long: &[], login: false },
    Command {
        names: &["ldapsearch", "ldapmodify", "ldapadd"],
        letters: b"w",
        apart: true,
        attached: true,
        long: &[],
        login: false,
    },
];

/// The command that `hit` names.
fn named(text: &Text<'_>, hit: &Hit) -> Option<&'static Command> {
    let word = &text.str[hit.start..hit.end];
    COMMANDS.iter().find(|command| command.names.iter().any(|name| name.eq_ignore_ascii_case(word)))
}

/// Logins that a command is given: `curl -u name:word https://…`, `mysql -pword`.
pub(super) fn command(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let command = named(text, hit)?;
    let argument = argument(text, hit, command)?;
    let value = &text.str[argument.start..argument.end?];
    let (good, length) = if command.login {
        let (name, word) = value.split_once(':')?;
        let open = name.starts_with(['<', '$', '{', '[']);
        (!word.is_empty() && !stand_in(word) && !open, value.len())
    } else {
        let word = value.trim_end_matches(['.', ',', ';', ')']);
        let attached = matches!(text.before(argument.start), b'p' | b'P' | b'w');
        let end = argument.start + value.len();
        let prose = word.len() == value.len() && text.ahead && is_prose(&text.str[end..]);
        (is_password(word, attached, prose), word.len())
    };
    good.then_some(Found { kind: Kind::Secret, start: argument.start, end: argument.start + length })
}

/// How an option goes on that is written with one dash where two belong: no password.
const OPTIONS: [&str; 9] = ["ort", "rint", "rotocol", "lugin", "ager", "rompt", "ipe", "rogress", "retty"];

/// How words go on that begin with the letter of an option and stand behind a dash of prose.
const WORDS: &str = "arent arents arse art arts ass aste atch ath aths ause ick icks ing ings lace lain lan lans lay lease \
    lus oint oints oll olls ool ools ost osts refix repare reserve review rivate roblem rocess rofile rogram roject \
    roxy rune ublic ublish ull ulls urge ush ushes ut uts ython ait aits arn atch eb hich ide ith ord ords rite";

/// What a sentence says of an option, and no password is.
const SAYS: [&str; 32] = [
    "and", "are", "asks", "can", "does", "expects", "flag", "for", "gives", "has", "instead", "lets",
    "makes", "means", "must", "needs", "opens", "option", "prompts", "reads", "says", "sets", "should",
    "stands", "switch", "takes", "tells", "uses", "wants", "was", "will", "works",
];

/// Whether a sentence goes on: with a word that follows a verb, and no argument of a command.
fn is_prose(rest: &str) -> bool {
    let next = rest.split_ascii_whitespace().next().unwrap_or_default();
    let next = next.trim_end_matches(['.', ',', ';', '?', '!', ':']);
    let words =
        ["a", "an", "it", "its", "my", "often", "our", "that", "the", "their", "this", "too", "you", "your"];
    words.iter().any(|word| word.eq_ignore_ascii_case(next))
}

/// Whether a command's password is one, and not what stands for it; `attached`: to the option's letter; `prose`: a
/// sentence goes on behind it, so that a word of letters is one of its words.
fn is_password(word: &str, attached: bool, prose: bool) -> bool {
    let lower = word.to_ascii_lowercase();
    let letters = lower.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'));
    let names = ["password", "passwd", "passphrase", "assword"];
    let stands = || names.iter().any(|name| lower.contains(name));
    let option = || {
        let other = || WORDS.split_ascii_whitespace().any(|word| word == lower);
        attached && (OPTIONS.iter().any(|option| lower.starts_with(option)) || other())
    };
    let other = letters && (prose || stands() || option());
    let said = !attached && SAYS.contains(&&*lower);
    let open = word.starts_with(['-', '$', '%', '<', '[', '{', '(', '/', '|']);
    word.len() >= 3 && !open && !other && !said && !stand_in(word)
}

/// Whether what takes a login is a command.
pub(super) fn is_command(text: &Text<'_>, hit: &Hit) -> bool {
    !matches!(text.byte(hit.start), b'b' | b'B')
}

/// Where the login begins that `hit` takes, if it may go on behind the end of the text.
pub(super) fn unfinished(text: &Text<'_>, hit: &Hit) -> Option<usize> {
    if is_command(text, hit) {
        let argument = argument(text, hit, named(text, hit)?)?;
        return argument.open.then_some(argument.start);
    }
    let rest = &text.bytes[hit.end..];
    let blank = rest.iter().take(3).take_while(|b| **b == b' ').count();
    let word = &rest[blank..];
    let open = blank > 0 && word.len() <= LONGEST_VALUE && !word.iter().any(u8::is_ascii_whitespace);
    open.then_some(hit.end + blank)
}

/// What follows an option that takes a login.
struct Argument {
    start: usize,
    /// Where it ends; `None` where it is longer than any.
    end: Option<usize>,
    /// Whether more of it may come.
    open: bool,
}

/// How many words that are no options may follow each other: the value of one, and what the command works on.
const BARE: u32 = 2;

/// The first login among the words behind the name of a command, over lines that a backslash joins.
fn argument(text: &Text<'_>, hit: &Hit, command: &Command) -> Option<Argument> {
    let most = if text.ahead { COMMAND } else { COMMAND_IN_ANSWERS };
    let upto = text.bytes.len().min(hit.end + most);
    // Another command has its own.
    let later = text.hits[text.hits.partition_point(|other| other.start <= hit.start)..].iter();
    let mut later = later.take_while(|other| other.start < upto);
    let next = later.find(|other| other.class.meets(Class::LOGIN) && is_command(text, other));
    let upto = next.map_or(upto, |next| next.start);
    let (mut at, mut bare) = (hit.end, 0);
    loop {
        let blank = text.bytes[at..upto].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let joined = text.before(at) == b'\\';
        if !joined && text.bytes[at..at + blank].contains(&b'\n') {
            return None;
        }
        at += blank;
        let length = text.bytes[at..upto].iter().take_while(|b| !b.is_ascii_whitespace()).count();
        // What stands behind these is another command.
        let word = &text.bytes[at..at + length];
        if length == 0 || matches!(word, b"|" | b"||" | b"&&" | b"&" | b";") {
            return None;
        }
        if blank > 0
            && let Some(start) = option(text, at, at + length, command).filter(|start| *start <= upto)
        {
            return Some(value(text, start));
        }
        bare = if blank == 0 || word[0] == b'-' || word == b"\\" { 0 } else { bare + 1 };
        if !command.login && (bare > BARE || word.ends_with(b"`") || word.ends_with(b";")) {
            return None;
        }
        at += length;
    }
}

/// Where the login begins that the word at `start..end` takes, if it is an option that takes one.
fn option(text: &Text<'_>, start: usize, end: usize, command: &Command) -> Option<usize> {
    let word = &text.bytes[start..end];
    let next = || {
        let blank = text.bytes[end..].iter().take(8).take_while(|b| matches!(b, b' ' | b'\t')).count();
        (blank > 0 && end + blank < text.bytes.len()).then_some(end + blank)
    };
    for name in command.long {
        match word.strip_prefix(name.as_bytes()) {
            Some([]) => return next(),
            Some([b'=', ..]) => return Some(start + name.len() + 1),
            _ => {}
        }
    }
    // `-u x`, `-ux`, `-sSu x`.
    let letters = word.strip_prefix(b"-")?;
    let known = |letter: &u8| command.letters.contains(letter);
    match letters {
        [letter, _, ..] if command.attached && known(letter) => Some(start + 2),
        [letter] if command.apart && known(letter) => next(),
        [.., letter]
            if command.login
                && known(letter)
                && letters.iter().all(u8::is_ascii_alphabetic)
                && letters.len() <= 8 =>
        {
            next()
        }
        _ => None,
    }
}

/// The argument at a place, in quotes or not.
fn value(text: &Text<'_>, at: usize) -> Argument {
    let escaped = text.bytes[at..].starts_with(b"\\\"");
    let at = at + usize::from(escaped);
    let quote = Some(text.byte(at)).filter(|b| matches!(b, b'"' | b'\''));
    let start = at + usize::from(quote.is_some());
    let rest = text.bytes.get(start..).unwrap_or_default();
    let ends = |b: &u8| match quote {
        Some(quote) => *b == quote || *b == b'\n',
        None => b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`'),
    };
    let end = rest.iter().take(LONGEST_VALUE).position(ends);
    let open = end.is_none() && rest.len() <= LONGEST_VALUE;
    let end = end.or(open.then_some(rest.len())).map(|end| start + end);
    let end = end.map(|end| end - usize::from(escaped && quote.is_some() && text.before(end) == b'\\'));
    Argument { start, end: end.map(|end| end.max(start)), open }
}
