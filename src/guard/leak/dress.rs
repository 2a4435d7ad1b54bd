//! Letters beyond ASCII, without their dress.
//!
//! It is done letter by letter, to the prompt and to the answer alike: a whole Russian word becomes half a Latin one, on
//! both sides.
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The small letter that a character beyond ASCII is, or looks like, whatever its accents; another character as it is.
/// `None` for what nobody sees.
pub(super) fn bare(letter: char) -> Option<char> {
    let small = match letter {
        // Most of what is not Latin, and has nothing to take off.
        'а'..='и' | 'к'..='я' | '\u{4e00}'..='\u{9fff}' => letter,
        _ if is_hidden(letter) => return None,
        _ => {
            let part = std::iter::once(small(letter)).nfkd().find(|part| !is_combining_mark(*part))?;
            small(part)
        }
    };
    Some(latin_like(small).unwrap_or(small))
}

/// The small letter of a capital one. The Greek letter that has two of them is the one within words.
fn small(letter: char) -> char {
    match letter.to_lowercase().next() {
        Some('ς') => 'σ',
        Some(small) => small,
        None => letter,
    }
}

fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

/// The Latin letter that a small Cyrillic or Greek one looks like.
fn latin_like(letter: char) -> Option<char> {
    Some(match letter {
        'а' | 'α' => 'a',
        'ь' | 'β' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'ε' => 'e',
        'һ' => 'h',
        'і' | 'ι' | 'ı' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'η' => 'n',
        'о' | 'ο' | 'ø' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ω' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capital_letter_is_what_its_small_one_is() {
        for small in ('\u{80}'..='\u{2ff}').chain('\u{370}'..='\u{52f}').chain('\u{1e00}'..='\u{1eff}') {
            let mut capitals = small.to_uppercase();
            if let (Some(capital), None) = (capitals.next(), capitals.next())
                && capital > '\u{7f}'
            {
                assert_eq!(bare(capital), bare(small), "{capital} {small}");
            }
        }
    }

    #[test]
    fn a_letter_is_what_it_looks_like() {
        let read = |text: &str| text.chars().filter_map(bare).collect::<String>();
        for (dressed, plain) in [
            ("ÉÀöñç", "eaonc"),
            ("Ａｂ𝐜ⅾ", "abcd"),
            ("еорхО", "eopxo"),
            ("\u{200b}\u{301}\u{fe0f}\u{ad}", ""),
            ("日本жщ", "日本жщ"),
        ] {
            assert_eq!(read(dressed), plain);
        }
    }
}
