//! Encodings that any program knows: base64, base32, hexadecimal and other numbers, escapes, entities, Morse.
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{readable, sensible};

/// Tells each readable text that is encoded within `text`, and by what.
pub(super) fn find(text: &str, told: &mut dyn FnMut(String, &'static str)) {
    let signs = Signs::of(text);
    if signs.escapes
        && let Some(plain) = escapes(text)
    {
        told(plain, "escapes");
    }
    if signs.longest_run >= 16 {
        runs(text, told);
    }
    if signs.numbers {
        numbers(text, told);
    }
    if signs.morse >= 12
        && let Some(plain) = morse(text)
    {
        told(plain, "morse");
    }
}

/// What a text has of the signs of codes, seen in one pass.
#[derive(Default)]
struct Signs {
    escapes: bool,
    numbers: bool,
    longest_run: usize,
    morse: usize,
}

impl Signs {
    fn of(text: &str) -> Self {
        let mut signs = Self::default();
        let (mut run, mut digits) = (0, 0);
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'/' | b'_' | b'-' | b'=' => run += 1,
                b'0'..=b'9' => {
                    run += 1;
                    digits += 1;
                }
                b'%' | b'&' | b'\\' => {
                    signs.escapes = true;
                    run = 0;
                }
                b'\n' | b'\r' => {}
                _ => run = 0,
            }
            signs.morse += usize::from(matches!(byte, b'.' | b'-' | b'_'));
            signs.longest_run = signs.longest_run.max(run);
        }
        signs.numbers = digits >= 8;
        signs
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Base64, base32 and hexadecimal, also where lines are wrapped.
fn runs(text: &str, told: &mut dyn FnMut(String, &'static str)) {
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    for line in text.split(|c: char| !belongs(c) && c != '\n' && c != '\r') {
        // A wrapped code has lines of letters only; prose has spaces, and was cut at them.
        let joined: String = line.chars().filter(|c| belongs(*c)).collect();
        if joined.len() >= 16 && !decoded(&joined, told) && joined.len() != line.trim().len() {
            for part in line.split(['\n', '\r']).filter(|part| part.len() >= 16) {
                decoded(part, told);
            }
        }
    }
}

fn decoded(run: &str, told: &mut dyn FnMut(String, &'static str)) -> bool {
    // A code may be spelled backwards.
    let backwards = || forwards(&run.bytes().rev().map(char::from).collect::<String>());
    let Some((plain, layer)) = forwards(run).or_else(backwards) else { return false };
    told(plain, layer);
    true
}

/// What a run of letters and digits says in the first code that makes sense of it.
fn forwards(run: &str) -> Option<(String, &'static str)> {
    let run = run.trim_start_matches(['=', '-', '_', '/']);
    let bare = run.trim_end_matches('=');
    let plain = |bytes: Option<Vec<u8>>, layer| {
        bytes.as_deref().and_then(sensible).map(|plain| (plain.to_owned(), layer))
    };
    let digits = || run.len().is_multiple_of(2) && run.bytes().all(|b| b.is_ascii_hexdigit());
    let upper = || bare.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'));
    // A remainder of one letter is no code: without its last letter it may be.
    let even = if bare.len() % 4 == 1 { &bare[..bare.len() - 1] } else { bare };
    digits()
        .then(|| plain(hex(run), "hex"))
        .flatten()
        .or_else(|| upper().then(|| plain(base32(bare), "base32")).flatten())
        // Words alone decode to noise; a slash or a dash may be of the text around.
        .or_else(|| plain(STANDARD.decode(even).ok(), "base64"))
        .or_else(|| plain(URL_SAFE.decode(even).ok(), "base64"))
}

fn hex(run: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        run.bytes().map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect();
    Some(digits?.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}

fn base32(run: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(run.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in run.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xffff;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

/// Rows of numbers: bytes as hexadecimal, decimal, octal or binary.
fn numbers(text: &str, told: &mut dyn FnMut(String, &'static str)) {
    let mut row: Vec<&str> = Vec::new();
    let ends = |c: char| !c.is_ascii_alphanumeric();
    let mut words = text.split(ends).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let word = word.strip_prefix("0x").or(word.strip_prefix('x')).unwrap_or(word);
        let number = word.len() <= 8 && !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit());
        let several = number && (word.len() == 2 || word.bytes().any(|b| b.is_ascii_digit()));
        if several {
            row.push(word);
        }
        if !several || words.peek().is_none() {
            told_row(&row, told);
            row.clear();
        }
    }
    // Binary without spaces.
    for run in text.split(ends).filter(|run| run.len() >= 64 && run.len().is_multiple_of(8)) {
        if run.bytes().all(|b| matches!(b, b'0' | b'1')) {
            let bytes: Option<Vec<&str>> = (0..run.len() / 8).map(|at| run.get(at * 8..at * 8 + 8)).collect();
            told_row(&bytes.unwrap_or_default(), told);
        }
    }
}

fn told_row(row: &[&str], told: &mut dyn FnMut(String, &'static str)) {
    if row.len() < 8 {
        return;
    }
    let read = |radix: u32| -> Option<Vec<u8>> {
        row.iter().map(|word| u8::from_str_radix(word, radix).ok()).collect()
    };
    let binary = row.iter().all(|word| word.len() >= 7 && word.bytes().all(|b| matches!(b, b'0' | b'1')));
    let readings: &[(u32, &'static str)] =
        if binary { &[(2, "binary")] } else { &[(16, "hex"), (10, "decimal"), (8, "octal")] };
    for (radix, layer) in readings {
        if let Some(plain) = read(*radix).as_deref().and_then(readable) {
            told(plain.to_owned(), layer);
            return;
        }
    }
}

/// The text with percent escapes, HTML entities and backslash escapes undone; `None` where there are too few to hide anything.
fn escapes(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut undone) = (0, 0);
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let Some((letter, length)) = one_escape(rest) else {
            out.push(bytes[at]);
            at += 1;
            continue;
        };
        match letter {
            Escaped::Byte(byte) => out.push(byte),
            Escaped::Letter(letter) => out.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
        }
        undone += 1;
        at += length;
    }
    (undone >= 4).then(|| String::from_utf8_lossy(&out).into_owned())
}

enum Escaped {
    Byte(u8),
    Letter(char),
}

/// An escape at the beginning of `rest`, and how long it is.
fn one_escape(rest: &[u8]) -> Option<(Escaped, usize)> {
    let digits = |from: usize, most: usize, radix: u32| {
        let run = rest[from.min(rest.len())..].iter().take(most);
        let run: Vec<u32> = run.map_while(|byte| (*byte as char).to_digit(radix)).collect();
        let value = run.iter().fold(0_u32, |all, digit| all.saturating_mul(radix).saturating_add(*digit));
        (!run.is_empty()).then_some((value, run.len()))
    };
    match (rest.first()?, rest.get(1)?) {
        (b'%', b'u' | b'U') => digits(2, 4, 16)
            .and_then(|(value, many)| Some((Escaped::Letter(char::from_u32(value)?), 2 + many))),
        (b'%', _) => {
            digits(1, 2, 16).filter(|(_, many)| *many == 2).map(|(value, _)| (Escaped::Byte(value as u8), 3))
        }
        (b'\\', b'x') => {
            digits(2, 2, 16).filter(|(_, many)| *many == 2).map(|(value, _)| (Escaped::Byte(value as u8), 4))
        }
        (b'\\', b'u') => {
            let braces = usize::from(rest.get(2) == Some(&b'{'));
            let (value, many) = digits(2 + braces, if braces == 1 { 6 } else { 4 }, 16)?;
            Some((Escaped::Letter(char::from_u32(value)?), 2 + many + 2 * braces))
        }
        (b'\\', b'0'..=b'3') => {
            digits(1, 3, 8).filter(|(_, many)| *many == 3).map(|(value, _)| (Escaped::Byte(value as u8), 4))
        }
        (b'&', b'#') => {
            let hexadecimal = usize::from(matches!(rest.get(2), Some(b'x' | b'X')));
            let (value, many) = digits(2 + hexadecimal, 7, if hexadecimal == 1 { 16 } else { 10 })?;
            let length = 2 + hexadecimal + many;
            let closed = usize::from(rest.get(length) == Some(&b';'));
            Some((Escaped::Letter(char::from_u32(value)?), length + closed))
        }
        (b'&', _) => {
            const NAMED: &[(&[u8], char)] = &[
                (b"&lt;", '<'),
                (b"&gt;", '>'),
                (b"&amp;", '&'),
                (b"&quot;", '"'),
                (b"&apos;", '\''),
                (b"&nbsp;", ' '),
            ];
            let found = NAMED.iter().find(|(name, _)| rest.starts_with(name))?;
            Some((Escaped::Letter(found.1), found.0.len()))
        }
        _ => None,
    }
}

/// Morse code, words apart by a slash or by several spaces.
fn morse(text: &str) -> Option<String> {
    const LETTERS: [(&str, char); 36] = [
        (".-", 'a'),
        ("-...", 'b'),
        ("-.-.", 'c'),
        ("-..", 'd'),
        (".", 'e'),
        ("..-.", 'f'),
        ("--.", 'g'),
        ("....", 'h'),
        ("..", 'i'),
        (".---", 'j'),
        ("-.-", 'k'),
        (".-..", 'l'),
        ("--", 'm'),
        ("-.", 'n'),
        ("---", 'o'),
        (".--.", 'p'),
        ("--.-", 'q'),
        (".-.", 'r'),
        ("...", 's'),
        ("-", 't'),
        ("..-", 'u'),
        ("...-", 'v'),
        (".--", 'w'),
        ("-..-", 'x'),
        ("-.--", 'y'),
        ("--..", 'z'),
        ("-----", '0'),
        (".----", '1'),
        ("..---", '2'),
        ("...--", '3'),
        ("....-", '4'),
        (".....", '5'),
        ("-....", '6'),
        ("--...", '7'),
        ("---..", '8'),
        ("----.", '9'),
    ];
    let mut plain = String::new();
    let mut letters = 0;
    for word in text.split(['/', '|', '\n']).flat_map(|part| part.split("   ")) {
        for code in word.split_whitespace() {
            if let Some((_, letter)) = LETTERS.iter().find(|(known, _)| *known == code) {
                plain.push(*letter);
                letters += 1;
            }
        }
        plain.push(' ');
    }
    (letters >= 8).then_some(plain)
}
