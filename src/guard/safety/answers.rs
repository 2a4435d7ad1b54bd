//! The same rules for answers, as they are written.
use std::sync::Arc;

use super::Rules;
use crate::guard::{
    hold::{Act, Found, Guard},
    settings::Mode,
};

/// Bytes of the character beside a match, which decides whether a word ends.
const BORDER: usize = 4;

/// Judges an answer by the rules.
#[derive(Debug)]
pub struct Answers(pub Arc<Rules>);

impl Guard for Answers {
    fn name(&self) -> &'static str {
        "safety"
    }

    fn holds(&self) -> bool {
        self.0.blocks()
    }

    fn behind(&self) -> usize {
        BORDER
    }

    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize {
        if self.0.is_empty() {
            return text.len();
        }
        // A match that begins before this place is known whole, with what follows it.
        let mut sure =
            if ended { text.len() } else { text.len().saturating_sub(self.0.longest + BORDER).max(from) };
        while !text.is_char_boundary(sure) {
            sure -= 1;
        }
        let lower = super::small(text);
        let mut at = from;
        // Where each rule is found next. None is looked for again before the text has come to where it was found: the
        // text is passed over once for each rule, however much is found in it.
        let next = |rule: usize, at: usize| {
            self.0.each[rule].find_at(&lower, at).map(|range| (range.start, rule, range.end))
        };
        let mut hits: Vec<_> =
            self.0.words.possible(&lower, at).into_iter().filter_map(|rule| next(rule, at)).collect();
        while let Some((start, rule, end)) = hits.iter().min().copied().filter(|(start, ..)| *start < sure) {
            let rule = &self.0.each[rule];
            let act = if rule.mode == Mode::Block { Act::Block } else { Act::Log };
            found.push(Found { range: start..end, what: rule.category.clone(), act });
            at = end;
            hits.retain_mut(|hit| {
                let again = if hit.0 < at { next(hit.1, at) } else { Some(*hit) };
                again.map(|again| *hit = again).is_some()
            });
        }
        sure.max(at.min(text.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::guard::safety::Settings;

    fn all(guard: &Answers, pieces: &[&str]) -> Vec<(std::ops::Range<usize>, String)> {
        let (mut text, mut sure, mut found) = (String::new(), 0, Vec::new());
        for (number, piece) in pieces.iter().enumerate() {
            text.push_str(piece);
            sure = guard.scan(&text, sure, number + 1 == pieces.len(), &mut found);
            assert!(sure <= text.len() && text.is_char_boundary(sure));
        }
        found.into_iter().map(|found| (found.range, found.what.to_string())).collect()
    }

    /// A text eight times as long takes about eight times as long, not 64 times, however much is found in it.
    #[test]
    fn what_is_found_again_and_again_takes_no_more_than_the_texts_length() {
        let rules = Rules::new(&Settings { mode: Mode::Log, ..Settings::default() }).unwrap();
        let guard = Answers(Arc::new(rules));
        let least = |size: usize| {
            let text = "free porn, ".repeat(size);
            let times = (0..3).map(|_| {
                let began = std::time::Instant::now();
                assert_eq!(all(&guard, &[&text]).len(), size);
                began.elapsed()
            });
            times.min().unwrap().as_secs_f64()
        };
        let growth = least(1600) / least(200);
        assert!(growth < 24.0, "{growth} times");
    }

    proptest! {
        /// The first match of any rule, and the next one behind it, is what is found.
        #[test]
        fn all_that_matches_is_found_once(
            text in "(how to make a pipe bomb|go kill yourself|i want to die|KILL YOURSELF|free porn|acme  corp|project x1|é|x|\\. | i | to | die ){0,9}",
        ) {
            let rule = crate::guard::safety::Rule {
                category: "own".into(),
                phrases: vec!["Acme Corp".into(), "to".into(), "é".into()],
                patterns: vec![r"project \w{2,10}".into(), r"[a-z]{7}".into()],
                mode: None,
            };
            let rules = Rules::new(&Settings { mode: Mode::Block, rules: vec![rule], ..Settings::default() }).unwrap();
            let lower = crate::guard::safety::small(&text);
            let (mut at, mut expected) = (0, Vec::new());
            while let Some((range, rule)) = rules
                .each
                .iter()
                .filter_map(|rule| Some((rule.find_at(&lower, at)?, rule)))
                .min_by_key(|(range, _)| range.start)
            {
                at = range.end;
                expected.push((range, rule.category.to_string()));
            }
            prop_assert_eq!(all(&Answers(Arc::new(rules)), &[&text]), expected);
        }

        #[test]
        fn pieces_are_judged_as_the_whole(
            text in "(how to make a pipe bomb|go kill yourself|i want to die|KILL YOURSELF|é|x|\\. | i | to | die ){0,9}",
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let rules = Rules::new(&Settings { mode: Mode::Block, ..Settings::default() }).unwrap();
            let guard = Answers(Arc::new(rules));
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| text.is_char_boundary(*at)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|two| &text[two[0]..two[1]]).collect();
            prop_assert_eq!(all(&guard, &pieces), all(&guard, &[&text]));
        }
    }
}
