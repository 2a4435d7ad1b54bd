//! E-mail addresses as they are said: `lena dot vogt at example dot org`. Most of what has `at` and `dot` in it is
//! plain prose, so that more has to speak for an address than its form.
use super::{email::LONGEST_NAME, text::Text};

/// The ends of domains that a spoken address may have.
const ENDINGS: &str = " com net org edu gov mil int info biz name pro mobi jobs museum asia io ai dev app co me tv cc xyz online site shop \
    store tech cloud email digital agency studio design blog news media group team work world life live company solutions consulting \
    eu ac ad ae af ag al am ao ar as at au az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cd cf cg ch ci ck cl cm cn cr cu \
    cv cy cz de dj dk dm do dz ec ee eg er es et fi fj fk fm fo fr ga gd ge gg gh gi gl gm gn gp gq gr gt gu gw gy hk hn hr ht hu id ie \
    il im in iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md mg mh mk ml mm mn mo mp \
    mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa \
    sb sc sd se sg sh si sk sl sm sn so sr ss st sv sy sz tc td tf tg th tj tk tl tm tn to tr tt tw tz ua ug uk us uy uz va vc ve vg vi \
    vn vu ws ye yt za zm zw ";

/// Who gives addresses to everybody, by the first label of the domain.
const PROVIDERS: &str = " gmail googlemail outlook hotmail live yahoo ymail rocketmail icloud proton protonmail gmx aol msn zoho fastmail \
    tutanota tuta yandex qq 163 126 naver daum libero wanadoo t-online freenet posteo mailbox web mail laposte orange comcast ";

/// What is no name of an address, although it stands before the `at`.
const NO_NAMES: &str = " me us you him her them it this that these those there here is are was were be am been do does did in on off up out \
    over down back and or but not only just also even look looks looks work works log login logon sign signup account accounts mail mails \
    email emails inbox site page link people someone anyone everyone somebody anybody folks team staff employee employees engineer \
    engineers job jobs office arrive arrives stay stays live lives find finds found buy buys bought sell sells sold get gets got see sees \
    saw meet meets met start starts stop stops aim aims point points check checks register visit try shop book order search help news \
    available free online today now then later address e-mail ";

/// Words that announce an address.
const ANNOUNCING: &str = " mail mails mailed mailing email emails emailed emailing e-mail e-mails e-mailed mailto contact contacts reach \
    reached reachable write writes wrote send sends sent forward forwarded cc address adress adresse kontakt kontaktiere erreichst \
    erreichbar erreichen schreib schreibe schreiben schick schicke schicken correo courriel écris écrivez escribe escribir contacta \
    contatta scrivi indirizzo ";

/// Words that may stand between such a one and the address.
const BETWEEN: &str = " is are was me us him her them you at to under on via through my our your his their the a it this that please an \
    unter mir uns bei es ist lautet est à en directly work private personal new business id copy of for and address here ";

/// Behind these stands a thing, and no name of an address.
const DETERMINERS: &str =
    " the a an my your his her our their its this that these those some any more every each no ";

fn is_in(list: &str, word: &str) -> bool {
    // All lists are of small letters, and no word is as long as this.
    let mut wanted = [b' '; 18];
    let Some(place) = wanted.get_mut(1..=word.len()) else { return false };
    place.copy_from_slice(word.as_bytes());
    place.make_ascii_lowercase();
    let end = word.len() + 2;
    !word.is_empty()
        && wanted.get(..end).is_some_and(|wanted| memchr::memmem::find(list.as_bytes(), wanted).is_some())
}

/// Whether domains end so.
pub(super) fn is_ending(word: &str) -> bool {
    is_in(ENDINGS, word)
}

/// Where the name really begins of which the last label stands at `start`: at `lena` in `lena dot vogt at …`.
pub(super) fn name_from(text: &Text<'_>, mut start: usize) -> usize {
    let end = start;
    for _ in 0..4 {
        let Some(before) = dot_before(text, start) else { break };
        let label = label_before(text, before);
        if label == 0 || end - (before - label) > LONGEST_NAME {
            break;
        }
        start = before - label;
    }
    start
}

/// Where a dot begins that is spelled out and ends at `at`.
fn dot_before(text: &Text<'_>, at: usize) -> Option<usize> {
    let before = text.bytes.get(at.saturating_sub(7)..at)?;
    let words: [&[u8]; 7] = [b" [dot] ", b" (dot) ", b"[dot]", b"(dot)", b"{dot}", b" dot ", b" punkt "];
    words.iter().find_map(|word| {
        let from = before.len().checked_sub(word.len())?;
        before[from..].eq_ignore_ascii_case(word).then(|| at - word.len())
    })
}

/// The length of the label of a name that ends at `at`.
fn label_before(text: &Text<'_>, at: usize) -> usize {
    let sign = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'.');
    let length = text.bytes[..at].iter().rev().take(LONGEST_NAME).take_while(sign).count();
    let label = &text.str[at - length..at];
    if text.begins(at - length) && !label.ends_with('.') && !label.eq_ignore_ascii_case("polka") {
        length
    } else {
        0
    }
}

/// Whether what is said is an address: the last label of its name is at `start..end`, its domain at `domain`.
/// `tied`: all of it is one word.
pub(super) fn is_address(
    text: &Text<'_>,
    (start, end): (usize, usize),
    domain: (usize, usize),
    tied: bool,
) -> bool {
    let Some((name, domain)) = text.str.get(start..end).zip(text.str.get(domain.0..domain.1)) else {
        return false;
    };
    let last = domain.rsplit([' ', '.', ']', ')', '}']).next().unwrap_or_default();
    if !is_in(ENDINGS, last) {
        return false;
    }
    (tied && !super::email::is_file(last))
        || shaped(text, start, name)
        || (!is_in(NO_NAMES, name) && (announced(text, start) || provided(text, start, name, domain)))
}

/// Whether a name looks like that of an address: with dots, digits or signs within.
fn shaped(text: &Text<'_>, start: usize, name: &str) -> bool {
    let letters = name.bytes().any(|b| b.is_ascii_alphabetic());
    let sign = name.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'+'));
    let last = name.rsplit('.').next().unwrap_or_default();
    // `Node.js at …`, `the U.S. at …`
    let file = name.contains('.') && (last.is_empty() || super::email::is_file(last));
    let spelled =
        || dot_before(text, start).is_some_and(|at| label_before(text, at) > 0) && !is_in(ENDINGS, name);
    letters && ((sign && !file) || spelled())
}

/// Whether a word before the name at `start` announces an address, with none but small ones between.
fn announced(text: &Text<'_>, start: usize) -> bool {
    let mut words = before(text, start);
    words
        .find_map(|word| {
            let bare = word.trim_matches([':', ',', '"', '\'', '(', '*', '-']);
            match bare.is_empty() || is_in(BETWEEN, bare) && !is_in(ANNOUNCING, bare) {
                true => None,
                false => Some(is_in(ANNOUNCING, bare)),
            }
        })
        .unwrap_or(false)
}

/// Whether the domain is one of those that everybody has an address of, and the name may be one.
fn provided(text: &Text<'_>, start: usize, name: &str, domain: &str) -> bool {
    let first = domain.split([' ', '.', '[', '(', '{']).next().unwrap_or_default();
    let verb = ["ing", "ed"].iter().any(|end| name.len() > 4 && name.ends_with(end));
    is_in(PROVIDERS, first)
        && !verb
        && before(text, start).next().is_none_or(|word| !is_in(DETERMINERS, word))
}

/// The words before a place, backwards, a few of them.
fn before<'t>(text: &'t Text<'_>, start: usize) -> impl Iterator<Item = &'t str> {
    let from = super::text::ceil(text.str, start.saturating_sub(72));
    text.str[from..start].split_ascii_whitespace().rev().take(6)
}
