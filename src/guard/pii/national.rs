//! Numbers that a state gives a person: US social security, UK health service
//! and national insurance, passports.
use super::{
    kind::Kind,
    text::{Digits, Found, Group, Groups, Text},
    words::Class,
};

/// A US social security number. Areas 000, 666 and 900 to 999 are given to nobody, nor are groups 00 and serials 0000.
pub(super) fn ssn(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let parted = groups.shape(&[3, 2, 4]) && groups.even(3);
    let count = if parted { 3 } else { 1 };
    if !parted && groups[0].len() != 9 {
        return None;
    }
    let (start, end) = (groups[0].start, groups[count - 1].end);
    let digits = Digits::<9>::of(text, &groups[..count])?;
    let number =
        |range: std::ops::Range<usize>| digits[range].iter().fold(0_u32, |n, d| n * 10 + u32::from(*d));
    let given = !matches!(number(0..3), 0 | 666 | 900..) && number(3..5) != 0 && number(5..9) != 0;
    let begins = text.begins(start) || (parted && groups[1].by == b'-' && text.in_row(start));
    if !given || !begins || !text.ends(end) || more(groups, count) {
        return None;
    }
    let announced = text.announced(Class::SSN, Class::THING, start, end);
    let by = if parted { groups[1].by } else { 0 };
    let good = announced
        || (matches!(by, b'-' | b' ')
            && !text.names(Class::THING, start)
            && !text.close(Class::PHONE, start, 24));
    good.then_some(Found { kind: Kind::Ssn, start, end })
}

/// Any number that is written like a US social security number, whatever it is.
pub(super) fn ssn_shape(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let parted = groups.shape(&[3, 2, 4]) && groups.even(3) && groups[1].by == b'-';
    let (start, end) = (groups[0].start, groups.get(2)?.end);
    let alone = parted && text.begins(start) && text.ends(end);
    alone.then_some(Found { kind: Kind::Ssn, start, end })
}

/// A UK health service number: ten digits, the last of which checks the others (modulus 11).
pub(super) fn nhs(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let parted = groups.shape(&[3, 3, 4]) && groups.even(3);
    let count = if parted { 3 } else { 1 };
    if !parted && groups[0].len() != 10 {
        return None;
    }
    let (start, end) = (groups[0].start, groups[count - 1].end);
    let digits = Digits::<10>::of(text, &groups[..count])?;
    let sum: u32 =
        digits[..9].iter().zip((2..=10).rev()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    let check = (11 - sum % 11) % 11;
    let good = check == u32::from(digits[9]) && digits.iter().any(|digit| *digit != digits[0]);
    // `/Patient/4316449613`
    let path = text.before(start) == b'/' && text.before(start - 1).is_ascii_alphabetic();
    if !good || !(text.begins(start) || path) || !text.ends(end) || more(groups, count) {
        return None;
    }
    let announced = text.announced(Class::NHS, Class::PHONE, start, end);
    // Unannounced, only in its own form and of a range that is in use, where it is no American telephone number,
    // whose fourth digit is never 0 or 1 but in samples; or where it is about patients.
    let american = digits[3] >= 2 || digits[3..6] == [1, 2, 3];
    let patient = || {
        let before = &text.bytes[start.saturating_sub(48)..start];
        before.windows(7).any(|word| word.eq_ignore_ascii_case(b"patient"))
    };
    let country = text.before(start) == b' '
        && text.str[..start - 1].trim_end_matches(|c: char| c.is_ascii_digit()).ends_with('+');
    let typical = parted && groups[1].by == b' ' && matches!(digits[0], 4 | 6 | 7 | 9) && !country;
    let contested = Class::PHONE.or(Class::CALL).or(Class::THING);
    let good = announced
        || (!path && typical && text.distance(contested, start).is_none() && (!american || patient()));
    good.then_some(Found { kind: Kind::Nhs, start, end })
}

/// A UK national insurance number: two letters, three pairs of digits, a letter from A to D.
/// `at` is where its first digits are.
pub(super) fn nino(text: &Text<'_>, at: usize) -> Option<Found> {
    let sign = |at: usize| matches!(text.byte(at), b' ' | b'-' | b'.');
    let gap = usize::from(at > 0 && sign(at - 1));
    let start = at.checked_sub(2 + gap)?;
    let (one, two) = (text.byte(start).to_ascii_uppercase(), text.byte(start + 1).to_ascii_uppercase());
    let announced = || text.announced(Class::NINO, Class::THING, start, at);
    let first = !b"DFIQUV".contains(&one);
    let second = !b"DFIOQUV".contains(&two);
    let unused = matches!(&[one, two], b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ");
    let letters = one.is_ascii_uppercase() && two.is_ascii_uppercase();
    // Samples are made of letters that are never given.
    if !letters || !text.begins(start) || ((!first || !second || unused) && !announced()) {
        return None;
    }
    let mut end = at;
    for pair in 0..3 {
        end += usize::from(pair > 0 && sign(end));
        if !text.byte(end).is_ascii_digit() || !text.byte(end + 1).is_ascii_digit() {
            return None;
        }
        end += 2;
    }
    let letter = end + usize::from(sign(end));
    if text.ends(letter + 1)
        && matches!(text.byte(letter).to_ascii_uppercase(), b'A'..=b'D')
        && (letter == end || text.byte(letter).is_ascii_uppercase() || announced())
    {
        let capital = text.bytes[start].is_ascii_uppercase() && text.byte(letter).is_ascii_uppercase();
        let other = Class::THING.or(Class::PASSPORT).or(Class::VERSION);
        // A reference may be anything, and this has a form of its own; `-77` behind it makes another one.
        let reference = || {
            let word =
                text.nearest(other, start).map(|hit| &text.bytes[hit.start..hit.end]).unwrap_or_default();
            word.len() >= 3 && word[..3].eq_ignore_ascii_case(b"ref") && text.byte(letter + 1) != b'-'
        };
        let good = announced() || (capital && (!text.close(other, start, 24) || reference()));
        return good.then_some(Found { kind: Kind::Nino, start, end: letter + 1 });
    }
    // Some leave the last letter out.
    (text.ends(end) && announced()).then_some(Found { kind: Kind::Nino, start, end })
}

/// The number of a passport, where one is announced: six to nine letters and
/// digits, most of them digits. `at` is where its first digits are.
pub(super) fn passport(text: &Text<'_>, at: usize) -> Option<Found> {
    let behind = || text.ahead && text.has(Class::PASSPORT);
    let before = text.distance(Class::PASSPORT, at);
    if before.is_none() && !behind() {
        return None;
    }
    let (mut start, mut end) = text.token(at);
    // Letters, or a series of four digits, may stand apart.
    let series = |from: usize, to: usize| text.bytes[from..to].iter().all(u8::is_ascii_digit);
    if text.before(start) == b' ' && start >= 3 {
        let (from, to) = text.token(start - 1);
        let capitals =
            text.bytes[from..to].iter().all(u8::is_ascii_uppercase) && &text.bytes[from..to] != b"ID";
        if capitals && (1..=2).contains(&(to - from)) && end - start >= 6 && text.begins(from) {
            start = from;
        }
    }
    if end - start <= 4 && text.byte(end) == b' ' && series(start, end) {
        let (from, to) = text.token(end + 1);
        if series(from, to) && matches!(to - from, 6 | 2) {
            end = to;
            if to - from == 2 && text.byte(end) == b' ' && text.token(end + 1).1 - end == 7 {
                end += 7;
            }
        }
    }
    let bytes = &text.bytes[start..end];
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let lower = bytes.iter().any(u8::is_ascii_lowercase) && bytes.iter().any(u8::is_ascii_uppercase);
    let parted = bytes.contains(&b' ');
    let size = digits + letters;
    let capitals = size == 9 && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let number = (digits >= 4 || (capitals && digits >= 2))
        && ((6..=9).contains(&size) || (parted && size == 10))
        && (letters <= 4 || capitals)
        && !lower;
    // Eight digits may be a day; a serial number is not of a person.
    let day = letters == 0
        && size == 8
        && (text.bytes[start..].starts_with(b"19") || text.bytes[start..].starts_with(b"20"));
    let good = number && !day && text.begins(start) && text.ends(end) && !text.priced(start);
    let not = Class::THING.or(Class::PHONE).or(Class::BIRTH);
    let announced = || match before {
        None => is_said(text, end) && text.announced(Class::PASSPORT, not, start, end),
        Some(_) => {
            (text.announced(Class::PASSPORT, not, start, end) || or_id(text, start)) && !another(text, start)
        }
    };
    (good && announced()).then_some(Found { kind: Kind::Passport, start, end })
}

/// Whether the word behind a number says what it is, and does not only follow it: `C01X00T47 is my passport`.
fn is_said(text: &Text<'_>, end: usize) -> bool {
    let from = text.hits.partition_point(|hit| hit.start < end);
    let Some(hit) = text.hits[from..].iter().find(|hit| hit.class.meets(Class::PASSPORT)) else {
        return false;
    };
    let small = [
        "is", "was", "my", "his", "her", "their", "our", "your", "the", "a", "old", "new", "ist", "mein",
        "meine", "sein", "ihr", "est", "mon", "son", "es", "mi", "su", "è", "il", "mio", "suo", "number",
        "no", "of", "uk", "us",
    ];
    let between = &text.str[end..hit.start];
    let mut words = between.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    between.len() <= 28 && words.all(|word| small.iter().any(|small| small.eq_ignore_ascii_case(word)))
}

/// Whether a passport is announced together with other papers: `Passport/ID: …`, `passport or ID …`.
fn or_id(text: &Text<'_>, start: usize) -> bool {
    let Some(hit) = text.nearest(Class::THING, start) else { return false };
    let word = text.str[hit.start..hit.end].trim_end_matches(':');
    let tied = || {
        let passport = text.nearest(Class::PASSPORT, hit.start)?;
        let between = text.str.get(passport.end..hit.start)?.trim();
        Some(
            ["/", "or", "and", "&", "o", "oder", "ou", ","]
                .iter()
                .any(|tie| tie.eq_ignore_ascii_case(between)),
        )
    };
    word.eq_ignore_ascii_case("id") && text.names(Class::THING, start) && tied() == Some(true)
}

/// Whether the word that announces a passport has its number already, and another word names this one:
/// `passport C01X00T47, visa V1234567`.
fn another(text: &Text<'_>, start: usize) -> bool {
    let Some(distance) = text.distance(Class::PASSPORT, start) else { return false };
    let between = &text.str[start - distance..start];
    if between.bytes().filter(u8::is_ascii_digit).count() < 4 {
        return false;
    }
    let after = between.rsplit(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    let mut words = after.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let small = ["and", "und", "old", "new", "number", "now", "old", "the", "was", "her", "his", "is"];
    words
        .next_back()
        .is_some_and(|word| word.len() >= 3 && !small.iter().any(|w| w.eq_ignore_ascii_case(word)))
}

/// Whether more groups of the same row follow.
fn more(groups: &[Group], count: usize) -> bool {
    let by = if count > 1 { groups[1].by } else { 0 };
    groups.get(count).is_some_and(|next| (next.by == by || by == 0) && next.by != b' ' && next.by != 1)
        || (by == b' ' && groups.get(count).is_some_and(|next| next.by == b' ' && next.len() >= 3))
}
