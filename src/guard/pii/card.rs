//! Payment cards: the issuers' ranges (ISO/IEC 7812) and the check digit (Luhn).
use super::{
    kind::Kind,
    text::{Digits, Found, Group, Groups, MOST_GROUPS, Text},
    words::Class,
};

/// The longest card number, in digits.
const LONGEST: usize = 19;

/// A card number that begins with the first of `groups`.
pub(super) fn find(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let start = groups[0].start;
    if !(text.begins(start) || text.in_row(start) && text.row_begins(start) || track(text, groups))
        || text.priced(start)
    {
        return None;
    }
    if follows_digits(text, &groups[0]) {
        return among(text, groups);
    }
    let mut sum = 0;
    let sums: [usize; MOST_GROUPS] = std::array::from_fn(|at| {
        sum += groups.get(at).map_or(0, |group| group.len());
        sum
    });
    if sum < 12 || (groups[0].len() < 3 && text.distance(Class::CARD, start).is_none()) {
        return None;
    }
    let alone = (1..=groups.len()).rev().filter(|count| (12..=LONGEST).contains(&sums[count - 1])).find_map(
        |count| {
            let part = &groups[..count];
            let end = part[count - 1].end;
            if !text.ends(end) {
                return None;
            }
            // No telephone number has more digits (E.164).
            if sums[count - 1] <= 15 && dialled(text, start) {
                return None;
            }
            let announced = || text.announced(Class::CARD, Class::THING, start, end);
            let next = groups.get(count).filter(|next| !year(&text.bytes[next.start..next.end]));
            let written = grouped(part, next) || (tight(part, next) && announced());
            if !written {
                return None;
            }
            let digits = Digits::<LONGEST>::of(text, part)?;
            let fits = digits.len() >= 12
            && luhn(&digits)
            // The numbers of French companies have the same check digit.
            && !(digits.len() == 14 && text.names(Class::THING, start))
            && (issued(&digits, count > 1, announced)
                || text.names(Class::CARD, start)
                // Visa's old numbers, which are as long as a barcode, and its longest.
                || (matches!(digits.len(), 13 | 19)
                    && digits[0] == 4
                    && !(digits.len() == 13 && barcode(&digits))
                    && text.distance(Class::THING, start).is_none()));
            fits.then_some(Found { kind: Kind::Card, start, end })
        },
    );
    alone.or_else(|| among(text, groups))
}

/// Whether a number begins the first track of a magnetic stripe (ISO/IEC 7813): `%B4111111111111111^DOE/JOHN^2712…`.
fn track(text: &Text<'_>, groups: &Groups) -> bool {
    let Group { start, end, .. } = groups[0];
    text.bytes[..start].ends_with(b"%B") && text.byte(end) == b'^'
}

/// A card of four groups of four digits, among other groups. A row of numbers in fours is mostly a table: it must show
/// where the card begins and ends, or have another card beside it.
fn among(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let (start, end) = fours(text, groups)?;
    let by = groups[1].by;
    let before = &text.bytes[..start.saturating_sub(1)];
    if text.begins_account(start) {
        return None;
    }
    let begins = || {
        let digits = before.iter().rev().take(5).take_while(|b| b.is_ascii_digit()).count();
        // The sign before that group: another one is that of another number, as in `078-05-1120 4111 …`.
        let sign = || before.len().checked_sub(5).map_or(0, |at| before[at]);
        text.before(start) != by
            || digits != 4
            || year(&before[before.len() - 4..])
            || (sign() != by && matches!(sign(), b'-' | b'/' | b'.'))
    };
    let ends = || {
        let next = groups.get(4).filter(|next| next.by == by && next.len() == 4);
        next.is_none_or(|next| {
            let digits = &text.bytes[next.start..next.end];
            let row = groups.get(5).is_some_and(|more| more.by == by && more.len() == 4);
            year(digits) || (expiry(digits) && !row)
        })
    };
    let card_at = |at: usize| {
        text.byte(at).is_ascii_digit()
            && text.begins(at)
            && fours(text, &Groups::read(text, at)).is_some_and(|(_, end)| text.byte(end) == by)
    };
    let next_is_card = || {
        text.byte(end) == by
            && text.byte(end + 1).is_ascii_digit()
            && fours(text, &Groups::read(text, end + 1)).is_some()
    };
    let known = (begins() && ends())
        // The length of a card with its signs, and one more.
        || start.checked_sub(20).is_some_and(card_at)
        || next_is_card();
    known.then_some(Found { kind: Kind::Card, start, end })
}

/// Where four groups of four digits begin and end that are a card's, parted by one sign.
fn fours(text: &Text<'_>, groups: &Groups) -> Option<(usize, usize)> {
    let written = groups.shape(&[4, 4, 4, 4]) && groups.even(4) && matches!(groups[1].by, b' ' | b'-' | b'.');
    let part = groups.get(..4).filter(|_| written)?;
    let digits = Digits::<LONGEST>::of(text, part)?;
    let end = part[3].end;
    (text.ends(end) && luhn(&digits) && issued(&digits, true, || false)).then_some((part[0].start, end))
}

/// Whether four digits are a month and a year in which a card may run out: `1227`.
fn expiry(digits: &[u8]) -> bool {
    let month = (b"01".as_slice()..=b"12".as_slice()).contains(&&digits[..2]);
    month && matches!(digits[2], b'2' | b'3')
}

/// Whether the sign of a telephone number stands right before the digits at `start`: `+49…`, `tel:49…`. Where a card is
/// named, it may be one all the same.
fn dialled(text: &Text<'_>, start: usize) -> bool {
    let before = &text.bytes[..start];
    let before = before.strip_suffix(b" ").unwrap_or(before);
    let tel = || before.len() >= 4 && before[before.len() - 4..].eq_ignore_ascii_case(b"tel:");
    (before.ends_with(b"+") || tel()) && !text.names(Class::CARD, start)
}

/// A number of sixteen digits that stand alone, whatever they are.
pub(super) fn shape(text: &Text<'_>, groups: &Groups) -> Option<Found> {
    let group = groups[0];
    let alone = group.len() == 16 && text.begins(group.start) && text.ends(group.end);
    alone.then_some(Found { kind: Kind::Card, start: group.start, end: group.end })
}

/// Whether a group of digits of the same row stands before a group: not a year, and not where all of a card is the group.
fn follows_digits(text: &Text<'_>, group: &Group) -> bool {
    let start = group.start;
    if !matches!(text.before(start), b' ' | b'-' | b'.') || start < 2 {
        return false;
    }
    let before = &text.bytes[..start - 1];
    let digits = before.iter().rev().take(5).take_while(|b| b.is_ascii_digit()).count();
    let apart = group.len() >= 15 || (digits == 4 && year(&before[before.len() - 4..]));
    (digits >= 3 && !apart) || text.begins_account(start)
}

/// Whether digits are those of a year of our time.
fn year(digits: &[u8]) -> bool {
    digits.len() == 4 && matches!(&digits[..2], b"19" | b"20")
}

/// Whether the groups are as people write cards: `4-4-4-4`, `4-6-5` and the like, and no more of them follow.
fn grouped(part: &[Group], next: Option<&Group>) -> bool {
    if part.len() == 1 {
        return true;
    }
    let even = part[1..].iter().all(|group| group.by == part[1].by && matches!(group.by, b' ' | b'-' | b'.'));
    let more = next.is_some_and(|next| next.by == part[1].by && next.len() >= 4);
    even && !more && part.iter().all(|group| (3..=13).contains(&group.len()))
}

/// Whether short groups are parted by one sign each, and no more of them follow: spelled out, or hidden.
fn tight(part: &[Group], next: Option<&Group>) -> bool {
    let more =
        part.last().zip(next).is_some_and(|(last, next)| next.by == last.by && next.len() >= last.len());
    !more && part.iter().all(|group| group.len() <= 4)
}

/// Whether an issuer gives numbers like this.
fn issued(digits: &[u8], grouped: bool, announced: impl Fn() -> bool) -> bool {
    let head = |count: usize| digits[..count].iter().fold(0_u32, |n, digit| n * 10 + u32::from(*digit));
    let (two, three, four) = (head(2), head(3), head(4));
    match digits.len() {
        16 => match digits[0] {
            4 => true,
            5 => true,
            2 => (2200..=2204).contains(&four) || (2221..=2720).contains(&four),
            3 => {
                (3528..=3589).contains(&four)
                    || matches!(two, 36 | 38 | 39 | 30)
                    || (two == 35 && announced())
            }
            6 => matches!(two, 60 | 62 | 63 | 64 | 65 | 67) || announced(),
            8 => two == 81 || two == 82,
            9 => four == 9792 || announced(),
            _ => false,
        },
        15 => matches!(two, 34 | 37) || matches!(four, 1800 | 2131),
        14 => matches!(two, 36 | 38 | 39) || (300..=305).contains(&three) || four == 3095,
        19 => {
            (matches!(two, 62 | 63 | 64 | 65 | 67) || digits[0] == 4 || four == 6011)
                && (grouped || announced())
        }
        // Old or rare lengths: a barcode looks like that, too.
        13 => digits[0] == 4 && (grouped || announced()),
        12 | 17 | 18 => {
            matches!(two, 50 | 56 | 57 | 58 | 60 | 62 | 63 | 64 | 65 | 67 | 68 | 69) && announced()
        }
        _ => false,
    }
}

/// Whether the last digit is that of a barcode (EAN-13).
fn barcode(digits: &[u8]) -> bool {
    let sum: u32 =
        digits.iter().zip([1, 3].iter().cycle()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    sum.is_multiple_of(10)
}

/// The check digit of Luhn (ISO/IEC 7812-1).
fn luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().map(|(place, digit)| match place % 2 {
        0 => *digit,
        _ => digit * 2 - if *digit > 4 { 9 } else { 0 },
    });
    // A row of zeros adds up, too.
    let sum: u32 = sum.map(u32::from).sum();
    sum > 0 && sum.is_multiple_of(10)
}
