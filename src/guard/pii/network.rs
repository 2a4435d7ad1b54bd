//! IP addresses: those that can be somebody's. Loopback, masks and the public
//! resolvers that every manual names are nobody's.
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    kind::Kind,
    text::{Found, Groups, Text},
    words::Class,
};

/// An address of version 4 that begins with the first of `groups`; its end, and whether it is to be told.
pub(super) fn v4(text: &Text<'_>, groups: &Groups) -> Option<(usize, Option<Found>)> {
    if groups.len() < 4 || groups[1..4].iter().any(|group| group.by != b'.') {
        return None;
    }
    // Longer rows are object ids and versions.
    let row = 4 + groups[4..].iter().take_while(|group| group.by == b'.').count();
    let (start, end) = (groups[0].start, groups[3].end);
    // Five pairs are a telephone number, and so is what a plus stands before.
    if (row == 5 && groups.shape(&[2, 2, 2, 2, 2]))
        || groups.shape(&[1, 3, 3, 4])
        || text.before(start) == b'+'
    {
        return None;
    }
    if row > 4 || groups[..4].iter().any(|group| group.len() > 3) {
        return Some((groups[row - 1].end, None));
    }
    let mut parts = [0_u8; 4];
    for (part, group) in parts.iter_mut().zip(&groups[..4]) {
        let number =
            text.bytes[group.start..group.end].iter().fold(0_u32, |n, b| n * 10 + u32::from(b - b'0'));
        match u8::try_from(number) {
            Ok(number) => *part = number,
            Err(_) => return Some((end, None)),
        }
    }
    let port = text.byte(end) == b':' && text.byte(end + 1).is_ascii_digit();
    let network = text.byte(end) == b'/' && text.byte(end + 1).is_ascii_digit() && parts[3] == 0;
    let bounded = text.begins(start)
        || (text.before(start) == b'/' && text.before(start - 1) == b'/')
        || text.before(start) == b'@'
        // In a row of values, and as in `IP51.15.88.3`.
        || text.in_row(start)
        || text.close(Class::IP, start, 0);
    let ends = text.ends(end) || port || (text.byte(end) == b'/' && !network);
    let version = is_version(text, start, end) || text.before(start) == b'v';
    let tiny = parts.iter().all(|part| *part < 10) && !text.announced(Class::IP, Class::VERSION, start, end);
    let address = Ipv4Addr::from(parts);
    let nobodys = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || parts[0] >= 240
        || parts[0] == 0
        || matches!(parts, [8, 8, 8, 8] | [8, 8, 4, 4] | [1, 1, 1, 1] | [1, 0, 0, 1] | [9, 9, 9, 9]);
    let good = bounded && ends && !network && !version && !tiny && !nobodys;
    Some((end, good.then_some(Found { kind: Kind::Ip, start, end })))
}

/// Whether a word of versions names the number at `start..end`: with nothing between but signs and small words, and no
/// other number but those that it names, too. `Version 2.3 client at 10.1.2.3` has a version, and an address.
fn is_version(text: &Text<'_>, start: usize, end: usize) -> bool {
    let behind = || {
        let rest = text.str[end..].strip_prefix([' ', '-']).unwrap_or_default();
        let word = rest.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        let words = ["version", "release", "build", "firmware", "patch", "revision", "sdk", "runtime"];
        let released = || {
            word.eq_ignore_ascii_case("released")
                && ![" the ", " its ", " a "].iter().any(|thing| rest[word.len()..].starts_with(thing))
        };
        text.ahead && (words.iter().any(|known| known.eq_ignore_ascii_case(word)) || released())
    };
    // What a table's header says.
    if let Some(cell) = text.cell(start).filter(|cell| cell.class.meets(Class::VERSION.or(Class::IP))) {
        return cell.class.meets(Class::VERSION);
    }
    let Some(hit) = text.nearest(Class::VERSION, start) else { return behind() };
    let Some(between) =
        text.str.get(hit.end..start).filter(|_| text.distance(Class::VERSION, start).is_some())
    else {
        return behind();
    };
    if text.distance(Class::IP, start).is_some_and(|distance| distance < between.len()) {
        return behind();
    }
    let word = &text.str[hit.start..hit.end];
    let is = |words: &[&str]| {
        words.iter().any(|known| word.get(..known.len()).is_some_and(|head| head.eq_ignore_ascii_case(known)))
    };
    // What writes lines into logs: `kernel: …`, `update: …`.
    let writes = is(&["kernel", "update", "upgrade", "patch"]) && between.starts_with(':');
    // Goes from somewhere to somewhere itself: `release deployed to …`.
    let goes = is(&["kernel", "release", "build"]);
    let (mut last, mut words, mut quads) = ("", 0, 0);
    let mut named = !writes;
    for part in between.split(|c: char| c.is_whitespace() || ":=\"'()[],;|#".contains(c)) {
        let part = part.trim_matches(|c: char| !c.is_alphanumeric());
        if part.is_empty() {
            continue;
        }
        let number = part.trim_start_matches(['v', 'V']);
        let small = [
            "number", "no", "nr", "num", "is", "was", "v", "ver", "and", "or", "s", "code", "than", "then",
            "through",
        ];
        named &= if number.starts_with(|c: char| c.is_ascii_digit()) {
            // `from 1.2.3.4 to 1.2.3.5`, `1.2.3.4 and 1.2.3.5`.
            let quad = number.split('.').count() >= 4;
            quads += usize::from(quad);
            quad || last.eq_ignore_ascii_case("from")
        } else {
            words += 1;
            small.iter().any(|small| small.eq_ignore_ascii_case(part))
                || !goes && part.eq_ignore_ascii_case("to")
                || part.eq_ignore_ascii_case("from")
        };
        last = part;
    }
    // `update from 10.1.2.3 failed`. In a stream nothing waits for the second one.
    if last.eq_ignore_ascii_case("from") && text.ahead {
        named &= text.str[end..].starts_with(" to ") || text.str[end..].starts_with(" -");
    }
    // `Updated curl from 12.4.15.8 to 12.4.15.9`
    let next = || text.ahead && text.str[end..].strip_prefix(" to ").is_some_and(is_quad);
    let pair = || is(&["update", "upgrade"]) && words <= 3 && (quads > 0 && last == "to" || next());
    named || pair() || behind()
}

/// Whether a text begins with four numbers and dots between.
fn is_quad(text: &str) -> bool {
    let number = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    number.trim_end_matches('.').split('.').filter(|part| !part.is_empty()).count() == 4
}

/// The longest address of version 6, in bytes.
const LONGEST: usize = 45;

/// An address of version 6 around the colon at `at`, and where the signs end that could be one.
pub(super) fn v6(text: &Text<'_>, at: usize) -> (usize, Option<Found>) {
    let sign = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    let end = at + text.bytes[at..].iter().take(LONGEST).take_while(|b| sign(b)).count();
    (end, address(text, at, end))
}

fn address(text: &Text<'_>, at: usize, mut end: usize) -> Option<Found> {
    let sign = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    let start = at - text.bytes[..at].iter().rev().take(LONGEST).take_while(|b| sign(b)).count();
    while end > start && matches!(text.before(end), b'.')
        || (text.before(end) == b':' && end >= 2 && text.before(end - 1) != b':')
    {
        end -= 1;
    }
    if end <= start || end - start > LONGEST {
        return None;
    }
    let alone = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'));
    let mut spelled = &text.str[start..end];
    // All eight groups, and a port.
    if spelled.bytes().filter(|b| *b == b':').count() == 8 && !spelled.contains("::") {
        spelled = &spelled[..spelled.rfind(':')?];
    }
    let (port, end) = (start + spelled.len() < end, start + spelled.len());
    let address: Ipv6Addr = spelled.parse().ok()?;
    let digits = spelled.bytes().filter(u8::is_ascii_digit).count();
    let groups = spelled.split(':').filter(|group| !group.is_empty()).count();
    // `cafe::add` is code.
    let good =
        digits >= 1 && groups >= 2 && spelled.len() >= 6 && !address.is_loopback() && !address.is_multicast();
    // `12:30::45` is a time.
    let mut parts = spelled.split(':');
    let time = parts.all(|part| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()))
        && !text.announced(Class::IP, Class::VERSION, start, end);
    let good = good && !time;
    let network = text.byte(end) == b'/' && spelled.ends_with("::");
    (good && !network && alone(text.before(start)) && (port || alone(text.byte(end)))).then_some(Found {
        kind: Kind::Ip,
        start,
        end,
    })
}
