//! Telephone numbers: international ones by their country code, national ones
//! by a form that little else has, or where something announces them.
use super::{
    kind::Kind,
    text::{Digits, Found, Group, Groups, Text},
    words::Class,
};

/// The most digits of a number (E.164), and those of the prefix `00` before it.
const MOST: usize = 17;
/// The most groups of a number.
const GROUPS: usize = 8;

/// The country codes of one and two digits; all others have three.
const CODES: &str = "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98";
/// How the country codes of three digits begin.
const LONG_CODES: &str = "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99";
/// Countries whose numbers all have as many digits, and how many, with the code.
const LENGTHS: &[(&str, usize, usize)] = &[
    ("1", 11, 11),
    ("7", 11, 11),
    ("27", 11, 11),
    ("30", 12, 12),
    ("31", 10, 11),
    ("33", 11, 11),
    ("34", 11, 11),
    ("41", 11, 11),
    ("44", 11, 12),
    ("45", 10, 10),
    ("47", 10, 12),
    ("48", 11, 11),
    ("52", 12, 13),
    ("55", 12, 13),
    ("61", 11, 11),
    ("65", 10, 10),
    ("81", 11, 12),
    ("82", 10, 12),
    ("86", 11, 13),
    ("90", 12, 12),
    ("91", 12, 12),
    ("351", 12, 12),
    ("353", 10, 12),
    ("358", 9, 13),
    ("852", 11, 11),
    ("971", 11, 12),
    ("972", 11, 12),
];

/// A number that begins with the first of `groups`, or with signs before it.
pub(super) fn find(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let first = groups[0].start;
    let (start, plus) = opening(text, first);
    if !text.begins(start) || text.priced(start) {
        return None;
    }
    let international = plus || (text.bytes[first..].starts_with(b"00") && text.byte(first + 2) != b'0');
    // Zeros before other numbers: a barcode, an account.
    let international = international
        && (plus
            || !(text.names(Class::THING.or(Class::VERSION), start)
                || groups.get(1).is_some_and(|group| group.by == b'.')
                || in_a_row(text, start)));
    let counted = || counts(text, start);
    // Only as many groups as have the digits of a number; nationally none but the first has a single digit.
    let plausible = |group: &Group| group.len() >= 2 || international;
    let most = 1 + groups[1..].iter().take(GROUPS - 1).take_while(|group| plausible(group)).count();
    let mut sum = 0;
    let sums: [usize; GROUPS] = std::array::from_fn(|at| {
        sum += groups.get(at).filter(|_| at < most).map_or(0, |group| group.len());
        sum
    });
    if sum < 7 {
        return None;
    }
    let counts = (1..=most).rev().filter(|count| (7..=MOST).contains(&sums[count - 1]));
    let whole = |count: usize| {
        let part = &groups[..count];
        let end = part[count - 1].end;
        let digits = Digits::<MOST>::of(text, part)?;
        // A bracket that is open must be closed within.
        let extension = matches!(text.byte(end), b'x' | b'X') && text.byte(end + 1).is_ascii_digit();
        let ends = text.ends(end) || extension || place(text, end).is_some_and(|at| at > end);
        (ends && !amount(text, part, end) && balanced(&text.bytes[start..end])).then_some((part, digits, end))
    };
    let found = |end: usize| Some(Found { kind: Kind::Phone, start, end: extended(text, end) });
    if international {
        for (_, digits, end) in counts.clone().filter_map(whole) {
            let zeros = if plus { 0 } else { 2 };
            if dialled(&digits[zeros.min(digits.len())..], text, groups, plus) {
                return found(end);
            }
        }
    }
    if plus && !text.announced(Class::PHONE.or(Class::CALL), Class::THING, start, groups[0].end) {
        return None;
    }
    let other = Class::THING.or(Class::VERSION).or(Class::DIGEST);
    let contested = text.names(OTHER, start)
        || text.distance(other, start).is_some_and(|distance| {
            // An area in brackets is written for telephones only; another line or column is about something else.
            let apart = |b: &u8| matches!(b, b'\n' | b';' | b'|' | b'\t');
            distance < 40
                && text.byte(start) != b'('
                && !text.bytes[start - distance..start].iter().any(apart)
        });
    let row = in_a_row(text, start);
    for (part, digits, end) in counts.clone().filter_map(whole) {
        let bracket = text.byte(start) == b'(';
        let rest = groups.get(part.len());
        if typical(part, &digits, bracket, rest)
            && !row
            && (!contested || text.announced(Class::PHONE.or(Class::CALL), Class::THING, start, end))
        {
            return found(end);
        }
    }
    if sizes(text, groups) && !text.names(Class::PHONE.or(Class::CALL), start) {
        return None;
    }
    for (part, digits, end) in counts.filter_map(whole) {
        // Their number, and none of them: `phones sold: …`.
        if part.len() == 1 && counted() {
            continue;
        }
        let strict = text.announced(Class::PHONE, OTHER, start, end);
        let strict = strict || signed(text, start) || place(text, end).is_some();
        let loose =
            || text.announced(Class::CALL, OTHER, start, end) && text.distance(Class::PHONE, start).is_none();
        if possible(part, &digits) && (strict || (loose() && (part.len() > 1 || digits.len() >= 9))) {
            return found(end);
        }
    }
    None
}

/// What numbers are, if not telephones.
const OTHER: Class = Class::THING
    .or(Class::VERSION)
    .or(Class::SSN)
    .or(Class::NHS)
    .or(Class::PASSPORT)
    .or(Class::CARD)
    .or(Class::DIGEST)
    .or(Class::IP)
    .or(Class::KEY)
    .or(Class::NINO);

/// Whether the digits at `start..end`, behind which a space stands, are no telephone number that may have an extension.
pub(super) fn is_over(text: &Text<'_>, start: usize, end: usize) -> bool {
    let signs = text.bytes[..start].iter().rev().take(2).any(|b| matches!(b, b'+' | b'('));
    let announced = text.has(Class::PHONE.or(Class::CALL));
    end - start > MOST || !(signs || announced || text.bytes[start..].starts_with(b"00"))
}

/// Where a number begins whose first digit is at `first`, and whether a plus stands before it.
fn opening(text: &Text<'_>, first: usize) -> (usize, bool) {
    let mut start = first;
    // A bracket that is closed within the number is part of it, one around it is not.
    let within = || {
        // `(+44 (0)20 …)` has one of its own.
        let bracket = text.bytes[first..].iter().take(20).position(|b| matches!(b, b'(' | b')'));
        let close = bracket.map(|at| first + at).filter(|at| text.byte(*at) == b')').map(|at| at + 1);
        close.is_some_and(|at| {
            let blank =
                text.bytes[at..].iter().take_while(|b| matches!(b, b' ' | b'-' | b'.' | b'/' | b'(')).take(3);
            let next = at + blank.count();
            text.byte(next).is_ascii_digit()
        })
    };
    if text.before(start) == b'(' && within() {
        start -= 1;
    }
    let plus =
        start - usize::from(text.before(start) == b' ' && start >= 2 && text.before(start - 1) == b'+');
    if text.before(plus) == b'+' {
        let start = plus - 1;
        return (start - usize::from(text.before(start) == b'(' && within()), true);
    }
    (start, false)
}

/// Whether these digits, country code first, can be dialled.
fn dialled(digits: &[u8], text: &Text<'_>, groups: &Groups, plus: bool) -> bool {
    let digit = |at: usize| digits.get(at).copied().unwrap_or(0);
    let is = |code: &str| {
        code.len() <= digits.len() && code.bytes().zip(digits).all(|(code, digit)| code - b'0' == *digit)
    };
    let long = LONG_CODES.split(' ').any(is) && digit(2) <= 9;
    let known = CODES.split(' ').any(is) || long;
    // `+44 (0)20`: the zero is not dialled, and does not count.
    let trunk = groups.get(1).is_some_and(|group| group.len() == 1 && text.byte(group.start) == b'0');
    let size = digits.len() - usize::from(trunk && digits.len() > 4);
    let length = LENGTHS.iter().find(|(code, ..)| is(code));
    let fits = length.map_or((8..=15).contains(&size), |(_, least, most)| (*least..=*most).contains(&size));
    // Without a plus only whole groups tell a prefix from a number that begins with zeros, or a field of its own.
    let field = || size >= 11 && length.is_some() && is_field(text, groups[0]);
    known
        && fits
        && (plus
            || groups.len() > 1
            || text.close(Class::PHONE.or(Class::CALL), groups[0].start, 24)
            || field())
}

/// Whether a number is a field of a row.
fn is_field(text: &Text<'_>, group: Group) -> bool {
    let by = text.before(group.start);
    matches!(by, b';' | b'|' | b'\t') && text.byte(group.end) == by
}

/// What is counted, where its number follows: `mobile users: …`.
const COUNTED: &str = " machine machines user users session sessions call calls line lines subscriber subscribers sale sales sold device \
    devices visit visits visitor visitors download downloads traffic customer customers network networks install installs payment payments \
    view views click clicks page pages contract contracts tower towers unit units shipment shipments revenue market subscription subscriptions \
    connection connections minute minutes record records handset handsets hit hits shipped produced contains counts count \
    message messages sent received volume volumes ";

/// Whether the word that announces a number at `start` is about how many there are.
fn counts(text: &Text<'_>, start: usize) -> bool {
    let Some(hit) = text.nearest(Class::PHONE.or(Class::CALL), start) else { return false };
    // `phones`, and no other words that begin so.
    let rest = &text.str[hit.end..start];
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let mut words = rest.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is = |word: &str| {
        let lower = format!(" {} ", word.to_ascii_lowercase());
        word.len() < 16 && COUNTED.contains(&*lower)
    };
    // `cell A1`
    let place = |word: &str| {
        let bytes = word.as_bytes();
        matches!(bytes, [b'A'..=b'Z', b'0'..=b'9', ..]) && bytes.len() <= 4
    };
    words.next().is_some_and(|word| is(word) || place(word))
}

/// Whether a national number has a form that hardly anything else has.
fn typical(part: &[Group], digits: &[u8], bracket: bool, rest: Option<&Group>) -> bool {
    let by = |at: usize| part.get(at).map_or(0, |group| group.by);
    let shape = |lengths: &[usize]| {
        part.len() == lengths.len() && part.iter().zip(lengths).all(|(group, length)| group.len() == *length)
    };
    let more = rest.is_some_and(|rest| part.len() > 1 && rest.by == by(part.len() - 1) && rest.by != b' ');
    if more {
        return false;
    }
    let area = |at: usize| digits.get(at).is_some_and(|digit| *digit >= 2);
    // North America: area and exchange begin with 2 to 9.
    if shape(&[3, 3, 4]) {
        // Samples have an exchange of 123; hyphens and dots are hardly put between other numbers.
        let sample = digits[3..6] == [1, 2, 3];
        return (area(0) && (area(3) || sample)) || matches!(by(1), b'-' | b'.') || bracket || digits[0] == 0;
    }
    if shape(&[1, 3, 3, 4]) {
        return digits[0] == 1 && area(1);
    }
    if shape(&[3, 7]) && bracket {
        return area(0);
    }
    // Russia, with its 8; China's mobiles.
    if shape(&[1, 3, 3, 2, 2]) {
        return matches!(digits[0], 8 | 0) && area(1);
    }
    if shape(&[3, 4, 4]) && digits[0] == 1 {
        return (3..=9).contains(&digits[1]);
    }
    // An area code in brackets.
    if bracket && part.len() >= 2 && (8..=12).contains(&digits.len()) && (2..=6).contains(&part[0].len()) {
        return part[1..].iter().all(|group| group.len() >= 2);
    }
    // A zero for the trunk, then an area, then the rest.
    let pairs = part.len() >= 4 && part.iter().all(|group| group.len() == 2);
    let trunk =
        digits[0] == 0 && digits.get(1).is_some_and(|digit| *digit != 0) && (9..=12).contains(&digits.len());
    if trunk && part.len() >= 2 {
        let long_enough = part[1..].iter().all(|group| group.len() >= 2) && (2..=6).contains(&part[0].len());
        return long_enough
            && (!pairs || digits.len() == 10)
            && !(part.len() == 2 && by(1) == b'.')
            && !shape(&[5, 4]);
    }
    // Bare mobiles of the United Kingdom.
    shape(&[11]) && digits[..2] == [0, 7] && area(2)
}

/// Whether what is announced as a telephone number can be one.
fn possible(part: &[Group], digits: &[u8]) -> bool {
    let small = part.iter().skip(1).all(|group| group.len() >= 2);
    let same = digits.iter().all(|digit| *digit == digits[0]);
    let decimal = part.len() == 2 && part[1].by == b'.' && (part[0].len() < 3 || part[1].len() > 5);
    let years = part.len() == 2
        && part.iter().all(|group| group.len() == 4)
        && matches!((digits[0], digits[4]), (1 | 2, 1 | 2))
        && part[1].by == b'-';
    (7..=15).contains(&digits.len()) && small && !same && !decimal && !years
}

/// Whether four numbers or more grow from one to the next, as sizes do: `mobile first, at 320 480 768 1024`.
fn sizes(text: &Text<'_>, groups: &Groups) -> bool {
    let alike = |group: &Group| (3..=4).contains(&group.len()) && text.byte(group.start) != b'0';
    let number = |group: &Group| (group.len(), &text.bytes[group.start..group.end]);
    groups.len() >= if in_a_row(text, groups[0].start) { 2 } else { 4 }
        && groups.iter().all(alike)
        && groups[1..].iter().all(|group| group.by == b' ')
        && groups.is_sorted_by(|one, two| number(one) < number(two))
}

/// Whether groups of three and more digits stand in a row before `start`.
fn in_a_row(text: &Text<'_>, start: usize) -> bool {
    text.before(start) == b' '
        && start >= 2
        && (text.bytes[..start - 1].iter().rev().take(3).take_while(|b| b.is_ascii_digit()).count() >= 3
            || text.begins_account(start))
}

/// Whether it is an amount of money, with dots between its thousands and a comma before its cents. In a stream it
/// would have to wait for them.
fn amount(text: &Text<'_>, part: &[Group], end: usize) -> bool {
    let thousands = part.len() > 1 && part[1..].iter().all(|group| group.by == b'.' && group.len() == 3);
    let cents = text.bytes[end..].iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
    text.ahead && thousands && text.byte(end) == b',' && cents == 2
}

/// Whether it stands in a signature, where one capital tells what it is: `T: 030 1234567`.
fn signed(text: &Text<'_>, start: usize) -> bool {
    let before = text.str[..start].trim_end_matches(' ');
    let mut signs = before.bytes().rev();
    let label =
        matches!(signs.next(), Some(b':' | b'.')) && signs.next().is_some_and(|b| b"TMPFHOCD".contains(&b));
    label && matches!(signs.next(), None | Some(b'\n' | b'\r' | b'\t' | b'|' | b'/'))
        || label
            && before.len() >= 4
            && matches!(&before.as_bytes()[before.len() - 4..before.len() - 2], b"| " | b", " | b"/ " | b"; ")
}

/// The end of the word right behind a number that tells where it rings: `030 1234567 office`, `…-Fax`.
/// In a stream no number waits for it.
fn place(text: &Text<'_>, end: usize) -> Option<usize> {
    if !text.ahead || !matches!(text.byte(end), b' ' | b'-') {
        return None;
    }
    let from = end + 1 + usize::from(text.byte(end + 1) == b'(');
    let length = text.bytes[from.min(text.bytes.len())..]
        .iter()
        .take(9)
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    let word = text.str.get(from..from + length)?;
    let places = ["office", "fax", "mobile", "cell", "home", "work", "desk", "direct", "landline"];
    places.iter().any(|place| place.eq_ignore_ascii_case(word)).then_some(from + length)
}

/// The brackets of a number are closed.
fn balanced(bytes: &[u8]) -> bool {
    let count = |sign: u8| memchr::memchr_iter(sign, bytes).count();
    count(b'(') == count(b')')
}

/// The end of a number with its extension: `x12`, `ext. 12`, `#12`.
fn extended(text: &Text<'_>, end: usize) -> usize {
    let mut at = end;
    let skip = |at: usize, signs: &[u8]| {
        at + text.bytes[at.min(text.bytes.len())..].iter().take_while(|b| signs.contains(b)).take(2).count()
    };
    at = skip(at, b" ");
    let rest = &text.bytes[at.min(text.bytes.len())..];
    let word = ["extension", "ext", "x", "#"];
    let Some(word) = word
        .iter()
        .find(|word| rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes()))
    else {
        return end;
    };
    at = skip(at + word.len(), b". :");
    let digits = text.bytes[at.min(text.bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let ends = |at: usize| text.ends(at) || place(text, at).is_some_and(|to| to > at);
    if (1..=6).contains(&digits) && ends(at + digits) { at + digits } else { end }
}
