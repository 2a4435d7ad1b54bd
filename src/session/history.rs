//! A conversation as it is read, and as a model gets it.
use super::{PER_TURN, Settings, placeholders::of_turn};
use crate::{
    chat::{Message, Part, Role},
    tokens,
};

/// A conversation. Placeholders in it have their turn's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What the turns before those said, in a model's words.
    pub summary: Option<String>,
    /// The number of the last turn that is not there word for word any more.
    pub folded: i64,
    /// How many turns were dropped, and are in no summary.
    pub dropped: i64,
    /// When the first turn ended, in microseconds since 1970.
    pub begun: i64,
    /// When all of it is forgotten, unless a turn is added, likewise.
    pub ends: i64,
    /// The turns, oldest first.
    pub turns: Vec<Turn>,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its number, counted from 1.
    pub number: i64,
    /// When its answer ended, in microseconds since 1970.
    pub at: i64,
    /// The id of its request.
    pub request: String,
    /// What was asked, masked.
    pub question: String,
    /// What was answered, masked.
    pub answer: String,
    /// How much both are, in tokens, about.
    pub tokens: i64,
}

impl Turn {
    /// Gives its placeholders the turn's number.
    pub(super) fn named(mut self) -> Self {
        for text in [&mut self.question, &mut self.answer] {
            if let std::borrow::Cow::Owned(named) = of_turn(text, self.number) {
                *text = named;
            }
        }
        self
    }
}

/// What of a conversation was given along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Turns, word for word.
    pub turns: usize,
    /// Turns that were left out, because there are too many.
    pub left_out: usize,
    /// Whether a summary stood for the turns before them.
    pub summary: bool,
}

impl History {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.summary.is_none()
    }

    /// Puts it before the last question: as much of it as the bounds allow, the newest first.
    pub fn give(self, messages: &mut Vec<Message>, settings: &Settings) -> Given {
        let mut left = i64::from(settings.max_tokens);
        if let Some(summary) = &self.summary {
            left -= tokens::guess(summary) as i64 + PER_TURN;
        }
        let most = settings.max_turns as usize;
        let fits = |turn: &&Turn| {
            left -= turn.tokens;
            left >= 0
        };
        let count = self.turns.iter().rev().take(most).take_while(fits).count();
        let given =
            Given { turns: count, left_out: self.turns.len() - count, summary: self.summary.is_some() };
        let Some(at) = messages.iter().rposition(|message| message.role == Role::User) else {
            return Given::default();
        };
        let turns = self.turns.into_iter().skip(given.left_out);
        let said = turns.flat_map(|turn| {
            [Message::new(Role::User, turn.question), Message::new(Role::Assistant, turn.answer)]
        });
        messages.splice(at..at, said);
        if let Some(summary) = self.summary {
            // With the person's words, whom it rests on: it has no more to say than they.
            let words = format!("[Summary of this conversation so far: {summary}]\n\n");
            if let Some(Part::Text { text, .. }) =
                messages[at].parts.iter_mut().find(|part| matches!(part, Part::Text { .. }))
            {
                text.insert_str(0, &words);
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(number: i64, tokens: i64) -> Turn {
        let (question, answer) = (format!("q{number}"), format!("a{number} [EMAIL_1]"));
        Turn { number, at: 0, request: "r".into(), question, answer, tokens }.named()
    }

    fn given(history: History, max_tokens: u32, max_turns: u32) -> (Given, Vec<String>) {
        let settings = Settings { max_tokens, max_turns, ..Settings::default() };
        let mut messages = vec![Message::new(Role::System, "be kind"), Message::new(Role::User, "now")];
        let given = history.give(&mut messages, &settings);
        assert!(messages.windows(2).all(|pair| pair[0].role != pair[1].role), "they take turns");
        (given, messages.iter().map(Message::text).collect())
    }

    #[test]
    fn the_newest_turns_come_before_the_question_and_the_summary_before_them() {
        let turns: Vec<Turn> = (5..=7).map(|number| turn(number, 40)).collect();
        let history = History { turns, ..History::default() };
        let (all, texts) = given(history.clone(), 200, 10);
        assert_eq!(all, Given { turns: 3, left_out: 0, summary: false });
        assert_eq!(texts[1..4], ["q5", "a5 [EMAIL_T5_1]", "q6"]);
        assert_eq!(texts[7], "now");
        assert_eq!(given(history.clone(), 100, 10).0, Given { turns: 2, left_out: 1, summary: false });
        let (two, texts) = given(history.clone(), 200, 2);
        assert_eq!((two.turns, &*texts[1]), (2, "q6"));
        let history = History { summary: Some("they like tea".into()), ..history };
        let (most, texts) = given(history.clone(), 100, 10);
        assert_eq!(most, Given { turns: 2, left_out: 1, summary: true });
        assert_eq!(texts[1], "[Summary of this conversation so far: they like tea]\n\nq6");
        let (none, texts) = given(History { turns: Vec::new(), ..history }, 100, 10);
        assert_eq!((none.turns, texts.len()), (0, 2));
        assert!(texts[1].ends_with("they like tea]\n\nnow"));
    }
}
