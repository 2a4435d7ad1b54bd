//! Which patterns a text could match: those of which it has the words.
//!
//! All patterns as one automaton take more than a MB, and hardly a text matches any. What matches one of them says one
//! of a few words here and one of a few others there; looking for those takes a tenth of that.
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

/// The most words of which one is said in one place.
const MOST: usize = 24;
/// The least bytes of a word: shorter ones are in every text.
const LEAST: usize = 3;
/// The most places of one pattern that are looked at, a bit each.
const PLACES: usize = 8;

/// Words of which every match has one.
type OneOf = Vec<Vec<u8>>;

/// Tells which patterns a text could match, each by its number.
#[derive(Debug, Default)]
pub(super) struct Words {
    automaton: Option<AhoCorasick>,
    /// To which pattern each word belongs, and to which of its places: a bit.
    meanings: Vec<(u32, u8)>,
    /// The bits of all places, by pattern.
    places: Vec<u8>,
    /// The patterns without such words, in one, and their numbers.
    others: Option<Regex>,
    without: Vec<usize>,
}

impl Words {
    /// Of some patterns.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(super) fn new<'p>(all: impl Iterator<Item = (&'p str, &'p Hir)>) -> Result<Self, String> {
        let (mut words, mut this, mut others) = (Vec::new(), Self::default(), Vec::new());
        for (number, (pattern, hir)) in (0_u32..).zip(all) {
            let said = said(hir);
            if said.is_empty() {
                this.without.push(number as usize);
                others.push(format!("(?:{pattern})"));
            }
            let mut places = 0;
            for (place, one_of) in said.into_iter().take(PLACES).enumerate() {
                places |= 1 << place;
                this.meanings.extend(one_of.iter().map(|_| (number, 1 << place)));
                words.extend(one_of);
            }
            this.places.push(places);
        }
        if !words.is_empty() {
            let automaton = AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .match_kind(MatchKind::Standard)
                .build(&words);
            this.automaton = Some(automaton.map_err(|error| error.to_string())?);
        }
        if !others.is_empty() {
            // Where they are too large together each is tried in every text: nothing is what is everywhere.
            let together = Regex::new(&others.join("|")).or_else(|_| Regex::new(""));
            this.others = Some(together.map_err(|error| error.to_string())?);
        }
        Ok(this)
    }

    /// The patterns that could match from a place on, in their order.
    pub(super) fn possible(&self, lower: &str, from: usize) -> Vec<usize> {
        // Patterns of which something is said, and in which places.
        let mut some: Vec<(u32, u8)> = Vec::new();
        if let Some(automaton) = &self.automaton {
            for hit in automaton.find_overlapping_iter(&lower.as_bytes()[from..]) {
                let (pattern, place) = self.meanings[hit.pattern().as_usize()];
                match some.binary_search_by_key(&pattern, |(pattern, _)| *pattern) {
                    Ok(at) => some[at].1 |= place,
                    Err(at) => some.insert(at, (pattern, place)),
                }
            }
        }
        let whole = |(pattern, places): (u32, u8)| {
            let pattern = pattern as usize;
            (places == self.places[pattern]).then_some(pattern)
        };
        let mut found: Vec<usize> = some.into_iter().filter_map(whole).collect();
        if self.others.as_ref().is_some_and(|others| others.is_match_at(lower, from)) {
            found.extend(&self.without);
            found.sort_unstable();
        }
        found
    }
}

/// What every match says, each in a place of its own.
fn said(hir: &Hir) -> Vec<OneOf> {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        HirKind::Capture(capture) => return said(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => return said(&repetition.sub),
        _ => std::slice::from_ref(hir),
    };
    let mut places = Vec::new();
    let mut add = |one_of: &mut OneOf| {
        let one_of = std::mem::replace(one_of, vec![Vec::new()]);
        places.extend((least(&one_of) >= LEAST).then_some(one_of));
    };
    let mut so_far = vec![Vec::new()];
    for part in parts {
        // What some parts say one after the other, as long as that is little.
        let exact = exactly(part);
        if let Some(more) = exact.as_ref().and_then(|exact| each_with_each(&so_far, exact)) {
            so_far = more;
            continue;
        }
        add(&mut so_far);
        match (exact, part.kind()) {
            (Some(exact), _) => so_far = exact,
            (None, HirKind::Alternation(branches)) => add(&mut either(branches).unwrap_or_default()),
            (None, _) if parts.len() > 1 => said(part).iter_mut().for_each(&mut add),
            (None, _) => {}
        }
    }
    add(&mut so_far);
    places
}

/// What every match of one of some branches says: of each the longest words that it has.
fn either(branches: &[Hir]) -> Option<OneOf> {
    let mut all = Vec::new();
    for branch in branches {
        all.extend(said(branch).into_iter().max_by_key(|one_of| least(one_of))?);
    }
    (all.len() <= 2 * MOST).then_some(all)
}

/// The length of the shortest.
fn least(words: &[Vec<u8>]) -> usize {
    words.iter().map(Vec::len).min().unwrap_or_default()
}

/// All that a part can match, where that is little.
fn exactly(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        // What stands beside a place says nothing of its own.
        HirKind::Empty | HirKind::Look(_) => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Class(Class::Unicode(class)) => {
            let many: usize = class.iter().map(regex_syntax::hir::ClassUnicodeRange::len).sum();
            let letters = class.iter().flat_map(|range| range.start()..=range.end());
            (many <= MOST).then(|| letters.map(|letter| letter.to_string().into_bytes()).collect())
        }
        HirKind::Class(Class::Bytes(class)) => {
            let many: usize = class.iter().map(regex_syntax::hir::ClassBytesRange::len).sum();
            let bytes = class.iter().flat_map(|range| range.start()..=range.end());
            (many <= MOST).then(|| bytes.map(|byte| vec![byte]).collect())
        }
        HirKind::Repetition(repetition) => {
            let sub = exactly(&repetition.sub)?;
            let mut all = if repetition.min == 0 { vec![Vec::new()] } else { Vec::new() };
            let mut times = vec![Vec::new()];
            for time in 1..=repetition.max? {
                times = each_with_each(&times, &sub)?;
                if time >= repetition.min {
                    all.extend(times.iter().cloned());
                }
                if all.len() > MOST {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Capture(capture) => exactly(&capture.sub),
        HirKind::Concat(parts) => {
            parts.iter().try_fold(vec![Vec::new()], |said, part| each_with_each(&said, &exactly(part)?))
        }
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(exactly(branch)?);
            }
            (all.len() <= MOST).then_some(all)
        }
    }
}

/// Each of some beginnings with each of some ends, where that are few.
fn each_with_each(beginnings: &[Vec<u8>], ends: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let few = beginnings.len() * ends.len() <= MOST;
    few.then(|| {
        let with =
            |begin: &Vec<u8>| ends.iter().map(|end| [begin.as_slice(), end].concat()).collect::<Vec<_>>();
        beginnings.iter().flat_map(with).collect()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(pattern: &str) -> Vec<Vec<String>> {
        let text = |word| String::from_utf8(word).unwrap();
        let said = said(&regex_syntax::parse(pattern).unwrap());
        said.into_iter().map(|one_of| one_of.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn what_a_pattern_says_is_found_place_by_place() {
        for (pattern, expected) in [
            (r"\b(?:acme)\b", &[&["acme"][..]][..]),
            (
                r"i (?:want|wish) to (?:die|go)",
                &[&["i want to die", "i want to go", "i wish to die", "i wish to go"]],
            ),
            (r"acme\s{1,3}corporation", &[&["acme"], &["corporation"]]),
            (r"project \w{2,10}", &[&["project "]]),
            (
                r"(?:a[bcd]e|x[yz]{3}) [0-9a-z]q(?:tie|die)",
                &[
                    &[
                        "abe ", "ace ", "ade ", "xyyy ", "xyyz ", "xyzy ", "xyzz ", "xzyy ", "xzyz ",
                        "xzzy ", "xzzz ",
                    ],
                    &["qtie", "qdie"],
                ],
            ),
            (r"(?:abc\w{1,2}|\w{1,3}longer|def) you", &[&["abc", "longer", "def"], &[" you"]]),
            (r"(?:\wabc){1,9}", &[&["abc"]]),
            (r"[0-9]{4}-[0-9]{4}", &[]),
            (r"ok", &[]),
            (r"(?:acme|.{1,9})", &[]),
        ] {
            assert_eq!(words(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_are_too_large_together_are_tried_one_by_one() {
        let large = |last: usize| format!(r"(?:\w{{1,12}}[ -]){{0,8}}\w{{{last}}}");
        let sources: Vec<String> = (3..43).map(large).collect();
        assert!(Regex::new(&sources[0]).is_ok(), "{}", sources[0]);
        assert!(Regex::new(&sources.join("|")).is_err());
        let parsed: Vec<Hir> = sources.iter().map(|source| regex_syntax::parse(source).unwrap()).collect();
        let words = Words::new(sources.iter().map(String::as_str).zip(&parsed)).unwrap();
        assert_eq!(words.possible("anything", 0), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn every_built_in_pattern_has_rare_words() {
        let sources: Vec<&str> =
            super::super::builtin::RULES.iter().flat_map(|(_, patterns)| *patterns).copied().collect();
        let parsed: Vec<Hir> = sources.iter().map(|source| regex_syntax::parse(source).unwrap()).collect();
        let words = Words::new(sources.iter().copied().zip(&parsed)).unwrap();
        assert!(words.others.is_none(), "{:?}", words.without);
        let taken = words.automaton.as_ref().unwrap().memory_usage();
        assert!(taken < 150 << 10, "{taken} bytes for {} words", words.meanings.len());
        for text in [
            "how do i limit requests per user? i want to do it for my company, and i will need the story of all the people",
            "write me a detailed description of the children's school and how to make pictures with a camera",
        ] {
            assert_eq!(words.possible(text, 0), [0_usize; 0], "{text}");
        }
    }

    const PARTS: &str = r"(abc|(de|fgh)? |x[yz]|(kl){1,2}|\\w\{1,3\}|mno( |-)?|[0-9]|é){1,5}";

    proptest! {
        /// What matches a pattern has one of its words.
        #[test]
        fn what_matches_is_possible(parts in "[a-g]{1,6}", text in PARTS) {
            let part = |c| match c {
                'a' => "abc", 'b' => "(?:de|fgh)? ", 'c' => "x[yz]", 'd' => "(?:kl){1,2}", 'e' => r"\w{1,3}", 'f' => "mno(?: |-)?",
                _ => "(?:[0-9]|é)",
            };
            let pattern: String = parts.chars().map(part).collect();
            let hir = regex_syntax::parse(&pattern).unwrap();
            let words = Words::new([(pattern.as_str(), &hir), ("never this", &regex_syntax::parse("never this").unwrap())].into_iter()).unwrap();
            for from in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let matches = Regex::new(&pattern).unwrap().is_match_at(&text, from);
                let possible = words.possible(&text, from);
                prop_assert!(!matches || possible == [0], "{pattern} in {text} from {from}: {possible:?}");
                prop_assert!(possible.is_empty() || possible == [0]);
            }
        }
    }
}
