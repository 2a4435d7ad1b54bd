//! Dates of birth: a day that is announced as one.
use super::{
    kind::Kind,
    text::{Found, Groups, Text, floor},
    words::Class,
};

/// The months' names, as far as they must be spelled, in several languages; the place in a row is the month.
const MONTHS: [&str; 12] = [
    "jan janv ene gen styc led янв يناير oca",
    "feb fév fev únor luty фев şub",
    "mar mär març maa mrt břez мар",
    "apr avr abr kwie dub апр nis",
    "may mai mag maj mei květ мая май",
    "jun juin giu červn czer июн haz",
    "jul juil lug červenec lip июл tem",
    "aug aoû ago août sier srp авг ağu",
    "sep set wrz září сен eyl",
    "oct okt ott out paź říj окт eki",
    "nov lis listop ноя kas",
    "dec dez déc dic gru pros дек ara",
];

/// A date that begins with the first of `groups`, all digits; its end.
pub(super) fn numeric(text: &Text<'_>, groups: &Groups) -> Option<usize> {
    let number = |at: usize| {
        let group = groups.get(at)?;
        let digits = &text.bytes[group.start..group.end];
        (digits.len() <= 4).then(|| digits.iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0')))
    };
    let start = groups[0].start;
    if groups.len() < 3 {
        // 1985年3月12日, 1985. 3. 12
        return far_eastern(text, start).or_else(|| korean(text, groups));
    }
    let by = groups[1].by;
    if !matches!(by, b'-' | b'/' | b'.' | b' ' | 1) || groups[2].by != by {
        return None;
    }
    let lengths = (groups[0].len(), groups[1].len(), groups[2].len());
    let (one, two, three) = (number(0)?, number(1)?, number(2)?);
    let day_and_month =
        |one: u32, two: u32| (1..=31).contains(&one) && (1..=31).contains(&two) && (one <= 12 || two <= 12);
    let good = match lengths {
        (4, 1..=2, 1..=2) => year(one) && (1..=12).contains(&two) && (1..=31).contains(&three),
        (1..=2, 1..=2, 4) => year(three) && day_and_month(one, two),
        (1..=2, 1..=2, 2) => day_and_month(one, two) || (day_and_month(two, three)),
        _ => false,
    };
    let more = groups.get(3).is_some_and(|next| next.by == by && by != b' ');
    (good && !more && (by != b' ' || lengths.2 == 4 || lengths.0 == 4)).then_some(groups[2].end)
}

/// A date of birth that begins at `start` and is written in digits up to `end`.
pub(super) fn born(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    // A time may follow, and the T before it.
    let ends = text.ends(end) || (text.byte(end) == b'T' && text.byte(end + 1).is_ascii_digit());
    let announced = || {
        (text.announced(Class::BIRTH, NOT, start, end) && !another(text, start) && !party(text, start))
            || abbreviated(text, start)
            || starred(text, start, end)
    };
    let good = (text.begins(start) || text.in_row(start)) && ends && announced();
    good.then_some(Found { kind: Kind::Birth, start, end })
}

/// Whether the word that announces a birth has a day already, and another word stands between that and this one:
/// `born 3 May 1985, admitted 2024-03-01`.
fn another(text: &Text<'_>, start: usize) -> bool {
    let Some(distance) = text.distance(Class::BIRTH, start) else { return false };
    let between = &text.str[start - distance..start];
    let last = between.rfind(|c: char| c.is_ascii_digit());
    let digits = between.bytes().filter(u8::is_ascii_digit).count();
    let words = |after: &str| {
        after.split(|c: char| !c.is_alphabetic()).any(|word| word.len() >= 3 && !is_month(word))
    };
    digits >= 4 && last.is_some_and(|last| words(&between[last + 1..]))
}

/// Whether the word that announces a birth is about its feast: `birthday party on 12.03.2026`.
fn party(text: &Text<'_>, start: usize) -> bool {
    let Some(distance) = text.distance(Class::BIRTH, start) else { return false };
    let feasts = [
        "party",
        "parties",
        "dinner",
        "lunch",
        "brunch",
        "cake",
        "celebration",
        "bash",
        "gift",
        "present",
        "trip",
        "invitation",
        "card",
        "sfeier",
        "sparty",
        "sessen",
        "sgeschenk",
        "feest",
    ];
    let between = text.str[start - distance..start].trim_start_matches([' ', '-']);
    let word = between.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    feasts.iter().any(|feast| feast.eq_ignore_ascii_case(word))
}

/// How far back an enumeration is looked for, in bytes: no further than a verdict on an answer looks back.
const LIST: usize = 100;

/// Whether `b.` stands right before a day and is short for a birth: behind a name or in brackets, and no point of a list.
fn abbreviated(text: &Text<'_>, start: usize) -> bool {
    let Some(distance) = text.distance(Class::BORN, start).filter(|distance| *distance <= 1) else {
        return false;
    };
    let at = start - distance - "b.".len();
    let before = text.str[..at].trim_end_matches(' ');
    let word = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let things = [
        "option",
        "section",
        "part",
        "appendix",
        "article",
        "annex",
        "item",
        "plan",
        "answer",
        "question",
        "class",
        "group",
        "point",
        "table",
        "note",
        "clause",
        "paragraph",
        "phase",
        "step",
        "chapter",
    ];
    let named = before.ends_with(['(', ',', ';', '[', ')'])
        || word.starts_with(char::is_uppercase)
            && !things.iter().any(|thing| word.eq_ignore_ascii_case(thing));
    let list = || {
        let near = &before[floor(before, before.len().saturating_sub(LIST))..];
        near.match_indices("a.")
            .any(|(at, _)| !near[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'))
            || near.contains("a)")
    };
    text.byte(at) == b'b' && named && !list()
}

/// Days that a star stands before and that are no birth are mostly of late.
const STARRED: std::ops::RangeInclusive<u32> = 1900..=2018;

/// Whether the sign of a birth stands right before a day: `Anna Meier, *12.03.1985`. It does behind a name;
/// elsewhere a star is a point of a list, a footnote or emphasis.
fn starred(text: &Text<'_>, start: usize, end: usize) -> bool {
    let Some(before) = star(text, start) else { return false };
    let near = &before[floor(before, before.len().saturating_sub(LIST))..];
    let bare = near.trim_end_matches(' ');
    let open = bare.strip_suffix(['(', '[']);
    let name = open.or_else(|| bare.strip_suffix([',', ';'])).unwrap_or(bare).trim_end_matches(' ');
    let capital = |word: &str| {
        let word = word.trim_end_matches(',');
        let rest = word.trim_start_matches(char::is_uppercase);
        let small = rest.chars().all(|c| c.is_lowercase() || matches!(c, '-' | '\''));
        word.len() > rest.len() && !rest.is_empty() && (small || word.contains('-'))
    };
    let mut words = name.rsplit(' ').map(capital);
    let named = words.next() == Some(true) && (open.is_some() || words.next() == Some(true));
    let mut years = text.str[start..end].split(|c: char| !c.is_ascii_digit()).filter(|part| part.len() == 4);
    let year = years.next().and_then(|year| year.parse().ok()).is_some_and(|year| STARRED.contains(&year));
    named && year && text.byte(end) != b'*' && text.distance(NOT, start).is_none()
}

/// What stands before the star that stands right before a day.
fn star<'t>(text: &Text<'t>, start: usize) -> Option<&'t str> {
    let blank = usize::from(text.before(start) == b' ');
    text.str[..start - blank].strip_suffix(['*', '°']).filter(|before| !before.ends_with('*'))
}

/// What has days of its own.
const NOT: Class = Class::VERSION.or(Class::THING);

/// A date of birth with its month in words whose first digits are at `at`: `12 March 1985`, `March 12th, 1985`.
pub(super) fn spelled(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let group = groups[0];
    // `am 3. Mai 1985 geboren`: the word may come behind.
    let behind = || text.ahead && text.has(Class::BIRTH);
    // Nothing in a stream waits for a star.
    let starred = || text.ahead && star(text, group.start).is_some();
    if text.distance(Class::BIRTH.or(Class::BORN), group.start).is_none() && !behind() && !starred() {
        return None;
    }
    let day = |start: usize, end: usize| {
        let digits = &text.bytes[start..end];
        (1..=2).contains(&digits.len())
            && (1..=31).contains(&digits.iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0')))
    };
    if !day(group.start, group.end) || !(text.begins(group.start) || text.before(group.start) == b'-') {
        return None;
    }
    let after = ordinal(text, group.end);
    // The day first.
    if let Some(month) = month_from(text, skip(text, after)) {
        let year = skip(text, month);
        if let Some(end) = year_at(text, year) {
            return born(text, group.start, end);
        }
    }
    // The month first.
    let start = month_upto(text, group.start)?;
    let end = year_at(text, skip(text, after))?;
    born(text, start, end)
}

/// A date of birth without any sign between its parts, such as 19850312.
pub(super) fn compact(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let group = groups[0];
    if group.len() != 8 || !text.close(Class::BIRTH, group.start, 12) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text.bytes[group.start + from..group.start + to]
            .iter()
            .fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'))
    };
    let forward = year(number(0, 4)) && (1..=12).contains(&number(4, 6)) && (1..=31).contains(&number(6, 8));
    let backward = year(number(4, 8)) && (1..=31).contains(&number(0, 2)) && (1..=31).contains(&number(2, 4));
    if forward || backward { born(text, group.start, group.end) } else { None }
}

/// A year that a living person can be born in.
fn year(year: u32) -> bool {
    (1900..=2035).contains(&year)
}

fn far_eastern(text: &Text<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    for (sign, most) in [(['年', '년'], 4), (['月', '월'], 2), (['日', '일'], 2)] {
        let digits = text.bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        at += digits;
        let next = text.str[at..].chars().next()?;
        if digits == 0 || digits > most || !sign.contains(&next) {
            return None;
        }
        at += next.len_utf8();
        at += usize::from(most > 2 || sign[0] == '月') * usize::from(text.byte(at) == b' ');
    }
    Some(at)
}

/// The end of a day as Korea writes it, `1985. 3. 12`: the year first, with a space behind each point.
fn korean(text: &Text<'_>, groups: &Groups) -> Option<usize> {
    let mut end = groups[0].end;
    let number = |from: usize, to: usize| {
        text.bytes[from..to].iter().take(5).fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'))
    };
    if groups.len() > 1 || end - groups[0].start != 4 || !year(number(groups[0].start, end)) {
        return None;
    }
    for most in [12, 31] {
        let rest = text.bytes[end..].strip_prefix(b". ")?;
        let digits = rest.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        let from = end + 2;
        end = from + digits;
        ((1..=2).contains(&digits) && (1..=most).contains(&number(from, end))).then_some(())?;
    }
    Some(end)
}

/// The end of an ordinal's letters: `12th`, `1er`, `3.`, `3º`.
fn ordinal(text: &Text<'_>, at: usize) -> usize {
    let endings = ["st", "nd", "rd", "th", "er", "º", "ª", "°", "."];
    let rest = &text.str[at..];
    let lower =
        |ending: &&&str| rest.get(..ending.len()).is_some_and(|head| head.eq_ignore_ascii_case(ending));
    at + endings.iter().find(lower).map_or(0, |ending| ending.len())
}

/// The end of the signs and small words between the parts of a date.
fn skip(text: &Text<'_>, mut at: usize) -> usize {
    for _ in 0..2 {
        at += text.bytes[at..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b',' | b'-' | b'/' | b'.'))
            .take(3)
            .count();
        for word in ["of ", "de ", "del ", "di ", "do "] {
            at += if text.str[at..].starts_with(word) { word.len() } else { 0 };
        }
    }
    at
}

/// The end of the month's name that begins at `at`.
fn month_from(text: &Text<'_>, at: usize) -> Option<usize> {
    let rest = &text.str[at..];
    let length: usize = rest.chars().take(13).take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    is_month(&rest[..length]).then_some(at + length)
}

/// The beginning of the month's name that ends before `at`.
fn month_upto(text: &Text<'_>, at: usize) -> Option<usize> {
    let rest = text.str[..at].trim_end_matches([' ', '-', '.', ',']);
    let length: usize =
        rest.chars().rev().take(13).take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    is_month(&rest[rest.len() - length..]).then_some(rest.len() - length)
}

fn is_month(word: &str) -> bool {
    let short = |stem: &str| {
        let mut letters = word.chars().flat_map(char::to_lowercase);
        stem.chars().all(|c| letters.next() == Some(c))
    };
    word.chars().count() >= 3 && MONTHS.iter().any(|stems| stems.split(' ').any(short))
}

/// The end of the year at `at`, of four digits or of two after an apostrophe.
fn year_at(text: &Text<'_>, at: usize) -> Option<usize> {
    let at = at + usize::from(text.byte(at) == b'\'');
    let digits = text.bytes.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = text.bytes[at..at + digits].iter().take(5).fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'));
    ((digits == 4 && year(number)) || digits == 2).then_some(at + digits)
}
