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
        let Some(any) = &self.0.any else { return text.len() };
        // A match that begins before this place is known whole, with what follows it.
        let mut sure =
            if ended { text.len() } else { text.len().saturating_sub(self.0.longest + BORDER).max(from) };
        while !text.is_char_boundary(sure) {
            sure -= 1;
        }
        let lower = super::small(text);
        let mut at = from;
        while let Some(hit) = any.find_at(&lower, at).filter(|hit| hit.start() < sure) {
            // No match that begins here needs more: to the end of the text it would be hits times its length.
            let mut upto = text.len().min(hit.start() + self.0.longest + BORDER);
            while !text.is_char_boundary(upto) {
                upto += 1;
            }
            let rule = self.0.each.iter().find_map(|rule| {
                let own = rule.find_at(&lower[..upto], hit.start()).filter(|own| own.start == hit.start());
                own.map(|range| (rule, range))
            });
            let Some((rule, range)) = rule else { break };
            let act = if rule.mode == Mode::Block { Act::Block } else { Act::Log };
            at = range.end;
            found.push(Found { range, what: rule.category.clone(), act });
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
