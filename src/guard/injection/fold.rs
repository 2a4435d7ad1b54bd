//! Brings a text into the form in which it is judged: lower case, no accents,
//! no hidden characters, look-alikes as the letters that they look like.
use std::{borrow::Cow, sync::LazyLock};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::{table::Table, tokens::mix};

/// A folded text, and what folding met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Folded {
    /// The text.
    pub(super) text: String,
    /// How many characters were hidden: of no width, or turning text around.
    pub(super) hidden: usize,
    /// How many letters looked like others, such as a Cyrillic `а` in a Latin word, or `𝐢`.
    pub(super) alike: usize,
    /// What hidden characters spell: Unicode's tags, variation selectors.
    pub(super) smuggled: String,
}

/// Folds a text, and tells what that met.
pub(super) fn fold(text: &str) -> Folded {
    if text.is_ascii() {
        return Folded { text: text.to_ascii_lowercase(), ..Folded::default() };
    }
    let mut folded = Folded { text: String::with_capacity(text.len()), ..Folded::default() };
    let mut bytes = Vec::new();
    // Most texts beyond ASCII are mostly ASCII, or mostly letters of two bytes.
    let near = &*NEAR;
    for letter in text.chars() {
        if letter.is_ascii() {
            folded.text.push(letter.to_ascii_lowercase());
        } else if let Some(spelled) = near.get((letter as usize).wrapping_sub(0x80)).filter(|s| !s.is_empty())
        {
            folded.text.push_str(spelled);
            // The rest of them is none: see the test.
            folded.alike += usize::from(matches!(letter, '\u{250}'..='\u{2af}') && spelled.is_ascii());
        } else if let Some(byte) = smuggled(letter) {
            folded.hidden += 1;
            bytes.push(byte);
        } else if is_hidden(letter) {
            folded.hidden += 1;
        } else {
            let before = folded.text.len();
            spell(letter, &mut folded.text);
            let ascii = folded.text.len() > before && folded.text[before..].is_ascii();
            folded.alike += usize::from(ascii && is_dress(letter));
        }
    }
    // Emoji have one selector each: only a row of them says something.
    if bytes.len() >= 4 {
        folded.smuggled = String::from_utf8_lossy(&bytes).into_owned();
    }
    if let Cow::Owned(text) = unmixed(&folded.text, &mut folded.alike) {
        folded.text = text;
    }
    folded
}

/// What the letters of two bytes are spelled as, from U+0080 on: Latin, Greek, Cyrillic, Armenian. Empty for those that
/// are hidden or only an accent.
static NEAR: LazyLock<Vec<Box<str>>> = LazyLock::new(|| {
    let spelled = |letter: char| {
        let mut out = String::new();
        if !is_hidden(letter) {
            spell(letter, &mut out);
        }
        out.into()
    };
    ('\u{80}'..='\u{58f}').map(spelled).collect()
});

/// The text without what is hidden, and with letters in another dress as what they are; upper case stays.
pub(super) fn undressed(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !is_hidden(*letter) && smuggled(*letter).is_none()) {
        match letter {
            _ if letter.is_ascii() => plain.push(letter),
            '\u{3000}' => plain.push(' '),
            '\u{ff01}'..='\u{ff5e}' | '\u{1d400}'..='\u{1d7ff}' => {
                plain.extend(std::iter::once(letter).nfkd());
            }
            _ => plain.push(latin_like(letter).unwrap_or(letter)),
        }
    }
    plain
}

/// The folded text alone.
pub(super) fn plain(text: &str) -> String {
    fold(text).text
}

/// A character that stands for more letters than this, such as a whole blessing in Arabic, is cut: a folded text is
/// not much longer than the text.
const MOST_PARTS: usize = 6;

/// Adds what a character outside ASCII is spelled as.
fn spell(letter: char, out: &mut String) {
    match letter {
        '‘' | '’' | '‚' | '‛' | '′' | '‹' | '›' | 'ʼ' => out.push('\''),
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' | '「' | '」' | '『' | '』' | '《' | '》' =>
        {
            out.push('"');
        }
        '，' | '、' | '．' => out.push(' '),
        '。' => out.push_str(". "),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => out.push(' '),
        '\u{1f1e6}'..='\u{1f1ff}' => out.push((b'a' + (letter as u32 - 0x1f1e6) as u8) as char),
        '\u{1f150}'..='\u{1f169}' => out.push((b'a' + (letter as u32 - 0x1f150) as u8) as char),
        '\u{1f170}'..='\u{1f189}' => out.push((b'a' + (letter as u32 - 0x1f170) as u8) as char),
        // A syllable of Korean stays one letter: words are known by their syllables, not by the signs in them.
        '\u{ac00}'..='\u{d7a3}' => out.push(letter),
        _ => {
            let parts = std::iter::once(letter).nfkd().filter(|part| !is_combining_mark(*part));
            for part in parts.take(MOST_PARTS) {
                match dressed(part).or_else(|| syllable(part, out)) {
                    Some(plain) => out.push(plain),
                    None => out.extend(part.to_lowercase().filter(|part| !is_combining_mark(*part))),
                }
            }
        }
    }
}

/// The syllable of Korean that a sign makes with what a text ends with, which is taken off for it: who writes the
/// signs apart means the syllable.
fn syllable(sign: char, out: &mut String) -> Option<char> {
    let of_last = |last: char| match sign {
        '\u{1161}'..='\u{1175}' if matches!(last, '\u{1100}'..='\u{1112}') => {
            Some(0xac00 + ((last as u32 - 0x1100) * 21 + (sign as u32 - 0x1161)) * 28)
        }
        '\u{11a8}'..='\u{11c2}' if matches!(last, '\u{ac00}'..='\u{d7a3}') => {
            (last as u32 - 0xac00).is_multiple_of(28).then(|| last as u32 + (sign as u32 - 0x11a7))
        }
        _ => None,
    };
    let whole = char::from_u32(of_last(out.chars().next_back()?)?)?;
    out.pop();
    Some(whole)
}

/// Letters that are Latin ones in another dress, and do not decompose: small
/// capitals, letters with a stroke, phonetic signs. In pairs with what they stand for.
fn dressed(letter: char) -> Option<char> {
    const PAIRS: &str = "ᴀaʙbᴄcᴅdᴇeꜰfɢgʜhɪiᴊjᴋkʟlᴍmɴnᴏoᴘpʀrꜱsᴛtᴜuᴠvᴡwʏyᴢz\
        øołlđdħhŧtıiɑaɡgɩiɾjʋuɐaɔcəeǝeɛeɟfƃgɥhᴉiɯmɹrʇtʌvʍwʎyȷjßsɨiʉuƀbɓbɗdɖdɠgɦhɱmɲnŋnɵoɸpʂsʈtʐzƙkƥpƭtⱱvʞk";
    static TABLE: LazyLock<Table> = LazyLock::new(|| pairs(PAIRS));
    match letter {
        '\u{df}'..='\u{2af}'
        | '\u{1d00}'..='\u{1dbf}'
        | '\u{2c60}'..='\u{2c7f}'
        | '\u{a700}'..='\u{a7ff}' => paired(&TABLE, letter),
        _ => None,
    }
}

/// A text of pairs as a table: of two letters the second, by the first.
fn pairs(text: &str) -> Table {
    let letters: Vec<u64> = text.chars().map(u64::from).collect();
    let all: Vec<(u64, u64)> = letters.chunks_exact(2).map(|two| (mix(two[0]), two[1])).collect();
    Table::new(&all, |first, _| first)
}

/// The character that a table has for `letter`.
fn paired(table: &Table, letter: char) -> Option<char> {
    u32::try_from(table.get(mix(u64::from(letter)))).ok().filter(|to| *to > 0).and_then(char::from_u32)
}

/// Whether a letter that became ASCII was a letter in disguise, not one with an accent.
fn is_dress(letter: char) -> bool {
    matches!(letter, '\u{1d400}'..='\u{1d7ff}' | '\u{ff21}'..='\u{ff5a}' | '\u{2460}'..='\u{24ff}'
        | '\u{1f130}'..='\u{1f189}' | '\u{1f1e6}'..='\u{1f1ff}' | '\u{2100}'..='\u{214f}' | '\u{1d00}'..='\u{1dbf}'
        | '\u{250}'..='\u{2af}' | '\u{2c60}'..='\u{2c7f}' | '\u{a700}'..='\u{a7ff}')
}

/// Characters that nobody sees: of no width, or only for the direction of text.
pub(super) fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
}

/// The byte that a hidden character carries: Unicode's tags are ASCII, a variation selector is any byte.
fn smuggled(letter: char) -> Option<u8> {
    match letter {
        '\u{e0020}'..='\u{e007e}' => Some((letter as u32 - 0xe0000) as u8),
        '\u{fe00}'..='\u{fe0f}' => Some((letter as u32 - 0xfe00) as u8),
        '\u{e0100}'..='\u{e01ef}' => Some((letter as u32 - 0xe0100 + 16) as u8),
        '\u{e0000}'..='\u{e007f}' => Some(b' '),
        _ => None,
    }
}

/// Writes Greek and Cyrillic letters in Latin words as the Latin ones that they look like.
fn unmixed<'a>(text: &'a str, alike: &mut usize) -> Cow<'a, str> {
    let suspect = |letter: char| matches!(letter, '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}');
    if !text.contains(suspect) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    // Letters that look like no Latin ones: then those that do are what they are.
    let other = text.chars().any(|c| suspect(c) && latin_like(c).is_none());
    for word in text.split_inclusive(|letter: char| !letter.is_alphanumeric()) {
        if word.is_ascii() {
            clean.push_str(word);
            continue;
        }
        let latin = word.bytes().filter(u8::is_ascii_alphabetic).count();
        let foreign = word.chars().filter(|letter| suspect(*letter)).count();
        // `а` alone, or a word of look-alikes only, is told by its neighbours at best: it stays.
        let all = latin == 0 && foreign >= 2 && word.chars().all(|c| !c.is_alphabetic() || TWINS.contains(c));
        if foreign > 0 && latin > 0 || all && !other {
            for letter in word.chars() {
                // Only what was one is counted: the `µ` of a unit looks like no Latin letter.
                *alike += usize::from(latin_like(letter).is_some());
                clean.push(latin_like(letter).unwrap_or(letter));
            }
        } else {
            clean.push_str(word);
        }
    }
    Cow::Owned(clean)
}

/// Cyrillic letters that nobody can tell from Latin ones.
const TWINS: &str = "аеорсухіѕјһԁԛԝӏ";

/// The Latin letter that a small Greek, Cyrillic, Armenian or Cherokee letter looks like.
fn latin_like(letter: char) -> Option<char> {
    const PAIRS: &str = "аaвbеeкkмmнhоoрpсcтtуyхxѕsіiјjһhԁdԛqԝwґrгrпnьbѵvӏlүyԍgзz\
        αaβbεeηnιiκkνvοoρpτtυuχxωwϲcϳjγyσoδd\
        ոnսuհhօoցgքfտtյjլlզq\
        ꭰdꭱrꭲtꮃwꮇmꮋhꮍyꮓzꮪsꮯcꮲpꭺaꭻjꮢrꮞsꮖtꭼe";
    static TABLE: LazyLock<Table> = LazyLock::new(|| pairs(PAIRS));
    paired(&TABLE, letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_two_bytes_are_spelled_alike_by_the_table() {
        for letter in '\u{80}'..='\u{58f}' {
            let mut slow = String::new();
            spell(letter, &mut slow);
            let dress = usize::from(!slow.is_empty() && slow.is_ascii() && is_dress(letter));
            let folded = fold(&format!("{letter} "));
            let hidden = is_hidden(letter);
            let text = if hidden { " ".to_owned() } else { format!("{slow} ") };
            assert_eq!(
                (folded.text, folded.hidden, folded.alike),
                (text, usize::from(hidden), dress),
                "{letter}"
            );
        }
    }

    #[test]
    fn look_alikes_are_what_they_look_like() {
        for (text, plain) in [
            ("Ignоrе", "ignore"),
            ("ѕсоре", "scope"),
            ("привет ѕсоре", "привет ѕсоре"),
            ("ÉCOLE Straße", "ecole strase"),
            ("ᴅᴇʙᴜɢ", "debug"),
            ("ｉｇｎｏｒｅ 𝐚𝐥𝐥", "ignore all"),
            ("무시하고 \u{1106}\u{116e}\u{1109}\u{1175}, \u{1100}\u{1161}\u{11a8}", "무시하고 무시, 각"),
        ] {
            assert_eq!(super::plain(text), plain);
        }
    }
}
