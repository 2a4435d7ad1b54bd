//! Keys and tokens by how they are written: how they begin, JSON web tokens, private keys, tokens of bots,
//! and long words like chance near a word that tells of a secret.
use super::{
    kind::Kind,
    looks::{chancy, mixed, stand_in},
    secret::LONGEST_VALUE,
    text::{Found, Text, floor},
    words::{Class, Hit},
};

/// The longest secret in one word, in bytes.
pub(super) const LONGEST: usize = 8192;

/// The longest private key, in bytes.
pub(super) const LONGEST_PEM: usize = 16 << 10;

/// The longest token that begins with digits, in bytes: a stream holds no more of it.
const LONGEST_NUMBERED: usize = 110;

/// How secrets begin, the least letters, digits and signs that follow, and whether these must be capitals and digits.
const PREFIXES: &[(&str, usize, bool)] = &[
    ("sk-", 14, false),
    ("sk_live_", 16, false),
    ("sk_test_", 16, false),
    ("rk_live_", 16, false),
    ("rk_test_", 16, false),
    ("pk_live_", 16, false),
    ("whsec_", 16, false),
    ("AKIA", 16, true),
    ("ASIA", 16, true),
    ("AROA", 16, true),
    ("AIDA", 16, true),
    ("AGPA", 16, true),
    ("AIza", 30, false),
    ("ya29.", 20, false),
    ("GOCSPX-", 20, false),
    ("ghp_", 30, false),
    ("gho_", 30, false),
    ("ghu_", 30, false),
    ("ghs_", 30, false),
    ("ghr_", 30, false),
    ("github_pat_", 30, false),
    ("glpat-", 18, false),
    ("gldt-", 18, false),
    ("glrt-", 18, false),
    ("xoxb-", 18, false),
    ("xoxp-", 18, false),
    ("xoxa-", 18, false),
    ("xoxr-", 18, false),
    ("xoxs-", 18, false),
    ("xoxe.", 18, false),
    ("xoxe-", 18, false),
    ("xapp-", 18, false),
    ("SG.", 30, false),
    ("npm_", 30, false),
    ("pypi-", 30, false),
    ("hf_", 28, false),
    ("dop_v1_", 30, false),
    ("doo_v1_", 30, false),
    ("shpat_", 28, false),
    ("shpss_", 28, false),
    ("shpca_", 28, false),
    ("dapi", 30, false),
    ("gsk_", 28, false),
    ("xai-", 30, false),
    ("pplx-", 30, false),
    ("r8_", 30, false),
    ("lin_api_", 30, false),
    ("ntn_", 30, false),
    ("hvs.", 20, false),
    ("hvb.", 20, false),
    ("dp.pt.", 30, false),
    ("dp.st.", 30, false),
    ("glsa_", 28, false),
    ("glc_", 28, false),
    ("NRAK-", 20, false),
    ("ATATT3", 30, false),
    ("pscale_", 20, false),
    ("PMAK-", 30, false),
    ("AGE-SECRET-KEY-", 40, false),
    ("sq0atp-", 20, false),
    ("sq0csp-", 20, false),
    ("figd_", 30, false),
    ("sntrys_", 30, false),
    ("rubygems_", 30, false),
    ("cio_", 30, false),
    ("tskey-", 20, false),
    ("fm2_", 30, false),
    ("nvapi-", 30, false),
    ("tvly-", 24, false),
    ("lsv2_", 30, false),
    ("sbp_", 30, false),
    ("dckr_pat_", 20, false),
    ("dckr_oat_", 20, false),
    ("xkeysib-", 40, false),
    ("xsmtpsib-", 40, false),
    ("LTAI", 12, false),
    ("AKID", 13, false),
    ("secret_", 40, false),
    ("EAAA", 60, false),
    ("EAAC", 60, false),
    ("EAAB", 60, false),
    ("EAAD", 60, false),
    ("key-", 32, false),
    ("pat-na1-", 30, false),
    ("pat-eu1-", 30, false),
    ("sl.", 100, false),
    ("tgp_v1_", 30, false),
    ("rpa_", 30, false),
    ("csk-", 40, false),
    ("jina_", 30, false),
    ("phx_", 30, false),
    ("phc_", 30, false),
    ("tfp_", 30, false),
    ("nfp_", 30, false),
    ("dt0c01.", 60, false),
    ("ops_eyJ", 60, false),
    ("glptt-", 18, false),
    ("glft-", 18, false),
    ("glimt-", 18, false),
    ("glagent-", 18, false),
    ("glsoat-", 18, false),
    ("glcbt-", 18, false),
    ("AKCp", 60, false),
    ("amzn.mws.", 30, false),
    ("ABIA", 16, true),
    ("ACCA", 16, true),
    ("xoxd-", 18, false),
    ("ATCTT3", 30, false),
    ("CFPAT-", 30, false),
    ("shppa_", 28, false),
    ("fw_", 20, false),
    ("sk_", 40, false),
    ("fo1_", 40, false),
    ("sgp_", 40, false),
];

/// A secret that begins as `hit` says.
pub(super) fn prefixed(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let rest = &text.bytes[hit.start..];
    let found = |end: usize| Some(Found { kind: Kind::Secret, start: hit.start, end });
    if rest.starts_with(b"eyJ") {
        return jwt(text, hit.start);
    }
    if text.str[hit.start..hit.end].contains('/') {
        // The path of a web hook is its password.
        let length = rest
            .iter()
            .take(LONGEST)
            .take_while(|b| b.is_ascii_graphic() && !b"\"'<>)]}".contains(b))
            .count();
        let path = &rest[hit.end - hit.start..length];
        let scheme = ["https://", "http://"].iter().find(|scheme| text.str[..hit.start].ends_with(**scheme));
        let start = hit.start - scheme.map_or(0, |scheme| scheme.len());
        let end = hit.start + length;
        return (path.len() >= 20).then_some(Found { kind: Kind::Secret, start, end });
    }
    let (prefix, least, capitals) =
        PREFIXES.iter().find(|(prefix, ..)| rest.starts_with(prefix.as_bytes()))?;
    let sign = |b: &u8| match capitals {
        true => b.is_ascii_uppercase() || b.is_ascii_digit(),
        false => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'),
    };
    let length = prefix.len() + rest[prefix.len()..].iter().take(LONGEST).take_while(|b| sign(b)).count();
    let word = text.str[hit.start..hit.start + length].trim_end_matches('.');
    let value = &word.as_bytes()[prefix.len().min(word.len())..];
    let end = hit.start + word.len();
    let whole = !*capitals || value.len() == 16 && !text.byte(end).is_ascii_alphanumeric();
    // `key-concepts-of-2024`: words between hyphens are no chance.
    let part = value.split(|b| !b.is_ascii_alphanumeric()).map(<[u8]>::len).max().unwrap_or_default();
    let digits = value.iter().any(u8::is_ascii_digit);
    let random = *capitals
        || if part >= 10 { chancy(value) || mixed(value) } else { chancy(value) && mixed(value) && digits };
    // Short ones, as people choose them for servers of their own.
    let told = || {
        let before = &text.bytes[hit.start.saturating_sub(24)..hit.start];
        *prefix == "sk-" && digits && before.windows(3).any(|word| word.eq_ignore_ascii_case(b"key"))
    };
    let good = (value.len() >= *least && random) || (value.len() >= 4 && told());
    (good && whole && !stand_in(word)).then_some(())?;
    found(end)
}

/// The length of the secret that belongs to an access key of Amazon's.
const PAIRED: usize = 40;

/// The secret that stands beside the access key which `hit` begins: `AKIA… / …`, `AKIA…:…`, a column further.
pub(super) fn paired(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let start = beside(text, hit)?;
    let length = text.bytes[start..].iter().take(PAIRED + 1).take_while(|b| is_base64(**b)).count();
    let value = &text.bytes[start..start + length];
    let good = length == PAIRED && mixed(value) && chancy(value);
    good.then_some(Found { kind: Kind::Secret, start, end: start + length })
}

/// Where such a secret begins that may go on behind the end of the text.
pub(super) fn paired_unfinished(text: &Text<'_>, hit: &Hit) -> Option<usize> {
    let start = beside(text, hit)?;
    let rest = &text.bytes[start..];
    (rest.len() <= PAIRED && rest.iter().all(|b| is_base64(*b))).then_some(start)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+' | b'=')
}

/// Where a value begins that one sign parts from the access key which `hit` begins.
fn beside(text: &Text<'_>, hit: &Hit) -> Option<usize> {
    let rest = &text.bytes[hit.start..];
    let key = rest.len() > 20 && (rest.starts_with(b"AKIA") || rest.starts_with(b"ASIA"));
    let capital = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if !key || !rest[4..20].iter().all(capital) {
        return None;
    }
    let skip = |at: usize, signs: &[u8], most: usize| {
        at + text.bytes[at..].iter().take(most).take_while(|b| signs.contains(b)).count()
    };
    let at = skip(hit.start + 20, b"\"' ", 2);
    let sign = skip(at, b"/:,;|\t", 1);
    let value = skip(sign, b"\"' ", 2);
    (sign > at).then_some(value)
}

/// A JSON web token: two or three parts in base64, the first an object.
fn jwt(text: &Text<'_>, start: usize) -> Option<Found> {
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'=' | b'+' | b'/');
    let length = text.bytes[start..].iter().take(LONGEST).take_while(|b| sign(b)).count();
    let word = text.str[start..start + length].trim_end_matches('.');
    let mut parts = word.split('.');
    let good =
        parts.next().is_some_and(|head| head.len() >= 10) && parts.next().is_some_and(|body| body.len() >= 8);
    good.then_some(Found { kind: Kind::Secret, start, end: start + word.len() })
}

/// Where the next end of a private key stands, in either spelling. Many beginnings may have none: it is
/// looked for once.
#[derive(Default)]
pub(super) struct Ends([Option<usize>; 2]);

impl Ends {
    /// The first one from `start` on, which only grows.
    fn next(&mut self, text: &Text<'_>, start: usize) -> usize {
        let tails = [b"-----END", b"-----end"];
        for (known, tail) in self.0.iter_mut().zip(tails) {
            if known.is_none_or(|at| at < start) {
                let at = memchr::memmem::find(&text.bytes[start..], tail);
                *known = Some(at.map_or(usize::MAX, |at| start + at));
            }
        }
        self.0.iter().flatten().min().copied().unwrap_or(usize::MAX)
    }
}

/// A private key in PEM that begins at `start`.
pub(super) fn pem(text: &Text<'_>, start: usize, ends: &mut Ends) -> Option<Found> {
    let line = &text.str[start..floor(text.str, start + 80)];
    let head = line[10.min(line.len())..].split("-----").next()?;
    if !head.to_ascii_uppercase().contains("PRIVATE KEY") {
        return None;
    }
    let window = &text.str[start..floor(text.str, start + LONGEST_PEM)];
    let tail = Some(ends.next(text, start) - start).filter(|tail| tail.saturating_add(8) <= window.len());
    let end = match tail {
        Some(tail) => {
            let rest = &window[tail + 8..];
            tail + 8 + rest.find("-----").map_or(0, |dashes| dashes + 5)
        }
        // Its end is cut off: all that looks like its lines belongs to it.
        None => {
            10 + window[10..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=-\n\r\\ :,".contains(c)))
                .unwrap_or(window.len() - 10)
        }
    };
    Some(Found { kind: Kind::Secret, start, end: start + end })
}

/// Whether a private key that begins at `start` may go on behind the end of the text.
pub(super) fn pem_open(text: &Text<'_>, start: usize) -> bool {
    let rest = &text.str[start..];
    let head = rest.get(10..).unwrap_or_default();
    let told = head.split_once("-----");
    let private = told.is_none_or(|(head, _)| head.to_ascii_uppercase().contains("PRIVATE KEY"));
    let whole = |tail: &str| rest.find(tail).is_some_and(|at| rest[at + 8..].contains("-----"));
    private
        && rest.len() < LONGEST_PEM
        && !whole("-----END")
        && !whole("-----end")
        && (told.is_some() || head.len() < 80)
}

/// A token that begins with digits, those at `start..end`: that of a Telegram bot is its number, a colon, and 35
/// letters, digits and signs; one of Google's to get others by begins with `1//0`.
pub(super) fn numbered(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    if text.bytes[start..].starts_with(b"1//0") && text.begins(start) {
        let sign = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let length = text.bytes[start + 4..].iter().take(LONGEST_NUMBERED).take_while(sign).count();
        let value = &text.bytes[start + 4..start + 4 + length];
        let end = start + 4 + length;
        return (length >= 40 && mixed(value)).then_some(Found { kind: Kind::Secret, start, end });
    }
    // As it stands in addresses: `api.telegram.org/bot…`.
    let path = || text.bytes[..start].ends_with(b"/bot");
    if !(8..=10).contains(&(end - start)) || text.byte(end) != b':' || !(text.begins(start) || path()) {
        return None;
    }
    let value = &text.bytes[end + 1..];
    let length =
        value.iter().take(36).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    (length == 35 && mixed(&value[..35])).then_some(Found { kind: Kind::Secret, start, end: end + 36 })
}

/// A key by its form: the token of a Discord bot (its number in base64, six signs, and 27 or more, parted by dots),
/// Twilio's, Mailchimp's.
fn bot(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    // Nothing in a stream waits for it.
    if !text.ahead {
        return None;
    }
    // Mailchimp.
    let centre = text.bytes[end..].strip_prefix(b"-us").unwrap_or_default();
    let digits = centre.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
    if end - start == 32
        && (1..=2).contains(&digits)
        && text.bytes[start..end].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && text.begins(start)
        && text.ends(end + 3 + digits)
    {
        return Some(Found { kind: Kind::Secret, start, end: end + 3 + digits });
    }
    // Twilio.
    if end - start == 34
        && text.bytes[start..].starts_with(b"SK")
        && text.bytes[start + 2..end].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Some(Found { kind: Kind::Secret, start, end });
    }
    if !(23..=28).contains(&(end - start)) || text.byte(end) != b'.' || text.byte(end + 7) != b'.' {
        return None;
    }
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let rest = &text.bytes[end + 8..];
    let last = rest.iter().take(64).take_while(|b| sign(b)).count();
    let good = last >= 27
        && text.bytes[end + 1..end + 7].iter().all(sign)
        && mixed(&text.bytes[start..end])
        && mixed(&rest[..last]);
    good.then_some(Found { kind: Kind::Secret, start, end: end + 8 + last })
}

/// A long word that looks like chance, at `start..end`, near something that tells of a secret.
pub(super) fn chance(text: &Text<'_>, start: usize, end: usize) -> Option<Found> {
    if let Some(found) = bot(text, start, end) {
        return Some(found);
    }
    if !text.has(Class::KEY.or(Class::PASSWORD)) {
        return None;
    }
    let sign = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'~');
    let from = start - text.bytes[..start].iter().rev().take(LONGEST_VALUE).take_while(|b| sign(b)).count();
    let upto = end + text.bytes[end..].iter().take(LONGEST_VALUE).take_while(|b| sign(b)).count();
    let upto = upto + text.bytes[upto..].iter().take_while(|b| **b == b'=').take(2).count();
    let word = &text.bytes[from..upto];
    let not = Class::DIGEST.or(Class::THING).or(Class::VERSION).or(Class::URL);
    let good = word.len() >= 20
        && chancy(word)
        && (!word.contains(&b'/') || word.len() == 40 || word.ends_with(b"="))
        && text.announced(Class::KEY.or(Class::PASSWORD), not, from, upto);
    (good && !stand_in(&text.str[from..upto])).then_some(Found { kind: Kind::Secret, start: from, end: upto })
}
