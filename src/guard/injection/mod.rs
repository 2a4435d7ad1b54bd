//! Prompt injection and jailbreaks: how likely a text tries to make a model disobey those who set it up.
//!
//! A text is read as it is and decoded ([`decode`]), cut into words
//! ([`tokens`]), and each reading is judged by rules over classes of words
//! ([`rules`]) and a linear model over hashed words and pieces of them
//! ([`model`]), in windows, so that a line in a long document counts as much as
//! the same line alone. Pure: no I/O, no state, linear in the length of the text.
mod decode;
mod fold;
mod lexicon;
mod lists;
mod model;
mod rules;
mod table;
mod tokens;
mod values;

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, sync::LazyLock};

use serde::Serialize;

use self::lexicon::{Classes, Lexicon};

/// From which score on a text is taken for an attack, unless the configuration says otherwise.
pub const THRESHOLD: f32 = 0.5;

/// Whose words a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// A person who asks.
    #[default]
    User,
    /// A document or the result of a tool: nobody who may give orders.
    Document,
}

impl Trust {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Document => "document",
        }
    }
}

/// What a text was found to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judgement {
    /// How likely it is an attack, 0 to 1.
    pub score: f32,
    /// The rules that spoke for it, and the words that weigh most where no rule did.
    pub reasons: Vec<&'static str>,
    /// How the attack was hidden, outermost layer first.
    pub layers: Vec<&'static str>,
}

/// Longer texts are judged in pieces of so many bytes, each with the end of the one before.
const PIECE: usize = 32 << 10;
/// How much of it comes again, in bytes.
const AGAIN: usize = 1 << 10;

/// The signs that a text may stand between.
const QUOTES: [(char, char); 6] = [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`'), ('\'', '\'')];

/// What is said by a text that is nothing but a quotation. To quote within a text is to mention, which weighs less;
/// who quotes and says nothing else has said it.
fn said(text: &str) -> &str {
    let whole = text.trim();
    let inner = |(open, close): (char, char)| {
        let inner = whole.strip_prefix(open)?.strip_suffix(close)?;
        // Several of them, and not an apostrophe.
        let letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        let ends = |(at, sign): (usize, &str)| {
            let (before, after) = (&inner[..at], &inner[at + sign.len()..]);
            !(letter(before.chars().next_back()) && letter(after.chars().next()))
        };
        let several = inner.match_indices([open, close]).any(ends);
        (!several && !inner.is_empty()).then_some(inner)
    };
    QUOTES.into_iter().find_map(inner).unwrap_or(text)
}

/// Judges a text.
pub fn judge(text: &str, trust: Trust) -> Judgement {
    let best = judge_pieces(said(text), trust);
    // Of what tools answer, each string by itself.
    let values = if trust == Trust::Document { values::said(text) } else { None };
    match values.map(|values| judge_pieces(&values, trust)) {
        Some(found) if found.score > best.score => found,
        _ => best,
    }
}

/// Judges a text, however long.
fn judge_pieces(text: &str, trust: Trust) -> Judgement {
    let mut best = Judgement { score: -1.0, ..Judgement::default() };
    let mut from = 0;
    loop {
        let to = border(text, from + PIECE);
        let found = judge_piece(&text[from..to], trust);
        if found.score > best.score {
            best = found;
        }
        if to == text.len() {
            return best;
        }
        from = border(text, to - AGAIN);
    }
}

/// The beginning of a character at or before a byte.
fn border(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What judging needs room for; a thread keeps it from one text to the next.
#[derive(Default)]
struct Room {
    tokens: Vec<tokens::Token>,
    telling: Vec<rules::Telling>,
    hits: Vec<rules::Hit>,
    model: model::Room,
}

/// Room for more tokens than this is given back.
const KEPT: usize = 2048;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

fn judge_piece(text: &str, trust: Trust) -> Judgement {
    let mut best = (f32::MIN, Judgement::default());
    let text = lists::shortened(text);
    ROOM.with_borrow_mut(|Room { tokens, telling, hits, model }| {
        decode::each_view(&text, tokens, |view, tokens| {
            apply(&view.text, tokens, telling, hits);
            let mut found = model::judge(&view.text, tokens, hits, trust == Trust::Document, model);
            if is_one_word(tokens) {
                found.logit = found.logit.min(ONE_WORD);
            }
            if is_bare_order(&view.text, tokens, hits, trust) {
                found.logit = found.logit.max(BARE_ORDER);
            }
            if found.logit > best.0 {
                let mut reasons: Vec<&'static str> = Vec::new();
                for slot in found.slots.iter().filter(|slot| **slot < rules::SLOTS) {
                    let (name, _) = rules::slot_name(*slot);
                    if !reasons.contains(&name) {
                        reasons.push(name);
                    }
                }
                best = (found.logit, Judgement { score: 0.0, reasons, layers: view.layers.clone() });
            }
        });
        if tokens.capacity() > KEPT {
            (*tokens, *telling, *hits, *model) = Default::default();
        }
    });
    let (logit, found) = best;
    Judgement { score: 1.0 / (1.0 + (-logit).exp()), ..found }
}

/// The log-odds of a text that only says that earlier instructions do not count: nine of ten. The model was trained on
/// attacks that go on, and on much harmless talk about instructions, and has too few words to go by.
const BARE_ORDER: f32 = 2.2;
/// The log-odds of one word, however often it is said: it orders nothing.
const ONE_WORD: f32 = -2.2;

/// Whether a reading has no two words.
fn is_one_word(tokens: &[tokens::Token]) -> bool {
    let mut words = tokens.iter().filter(|token| token.is_word());
    words.next().is_some_and(|first| words.all(|word| word.hash == first.hash))
}

/// The most words of such a text.
const BARE_WORDS: usize = 10;
/// What such an order may have besides.
const FILLERS: &[&str] =
    &["please", "kindly", "just", "simply", "immediately", "given", "have", "been", "were", "that"];

static ORDER: LazyLock<Classes> = LazyLock::new(|| {
    Lexicon::get().set("override|prior|everything|said|yours|instr|instrw|prompt").unwrap_or_default()
});

/// What no such order is without: a word that lifts something, and what it lifts.
static NEEDED: LazyLock<[Classes; 2]> = LazyLock::new(|| {
    ["override", "instr|instrw|prompt"].map(|names| Lexicon::get().set(names).unwrap_or_default())
});

/// What is lifted where an order names no instructions: `ignore everything above`.
const ALL: &[&str] = &["all", "anything", "everything"];
/// Whose instructions they are when they are the person's own, who may well take them back.
const OWN: &[&str] = &["my", "our", "his", "her", "its", "me", "i", "we"];
/// What such an order has in a document besides where people are told which instructions they need not follow.
const TOLD: &[&str] = &["the", "these", "those", "this", "that", "please", "kindly"];
/// With what an order ends that goes on.
const GOES_ON: &[&str] = &["and", "then", "instead", "but"];

/// Whether a reading says nothing but that earlier instructions do not count, and means it; or, of a person, has such a
/// sentence at or near its beginning, or, of a document, has a sentence that begins so. In other languages than English a
/// document that says so is mostly a notice: the old rules of the car park no longer apply.
fn is_bare_order(text: &str, tokens: &[tokens::Token], hits: &[rules::Hit], trust: Trust) -> bool {
    let said = |token: &tokens::Token| &text[token.start..token.end];
    let person = trust == Trust::User;
    let orders = |hit: &&rules::Hit| {
        rules::slot_name(hit.slot) == ("override_prior", false) && (person || !rules::is_foreign(hit.slot))
    };
    let is_bare = |tokens: &[tokens::Token]| {
        let words = || tokens.iter().filter(|token| token.is_word());
        let filler = |token: &tokens::Token| said(token).len() <= 3 || FILLERS.contains(&said(token));
        words().count() <= BARE_WORDS && words().all(|token| token.classes.any(*ORDER) || filler(token))
    };
    let has =
        |tokens: &[tokens::Token], some: &[&str]| tokens.iter().any(|token| some.contains(&said(token)));
    let is_whole = |tokens: &[tokens::Token]| {
        tokens.len() > 2 && NEEDED.iter().all(|class| tokens.iter().any(|token| token.classes.any(*class)))
    };
    let mut found = hits.iter().filter(orders).peekable();
    let lifts_all = || {
        person
            && hits.iter().any(|hit| rules::slot_name(hit.slot) == ("override_said", false))
            && has(tokens, ALL)
            && !has(tokens, OWN)
    };
    if (found.peek().is_some() || lifts_all()) && is_bare(tokens) {
        return true;
    }
    found.take(MOST_ORDERS).any(|hit| {
        let begins = (1..=hit.token).rev().find(|at| tokens[*at].breaks).unwrap_or(0);
        let goes_on = |at: &usize| {
            let token = &tokens[*at];
            token.breaks || !person && (!token.is_word() || GOES_ON.contains(&said(token)))
        };
        let ends = (hit.token + 1..tokens.len()).find(goes_on).unwrap_or(tokens.len());
        let order = &tokens[begins..ends];
        // Of a person after a sentence or two at most, and not after a colon.
        let opens = || begins == 0 || text[..tokens[begins].start].trim_end().ends_with(['.', '!', '?']);
        (!person || begins <= MOST_BEFORE && opens())
            && is_whole(order)
            && is_bare(order)
            && !has(order, OWN)
            && (person || !has(order, TOLD))
    })
}

/// The most tokens of a person's text before an order that says that earlier instructions do not count.
const MOST_BEFORE: usize = 24;
/// The most orders of a reading that are looked at.
const MOST_ORDERS: usize = 8;

/// The rules that apply to a reading, in the order of their tokens. A reading is judged as if it had been written so:
/// what is hidden is no worse, and no better, than the same in plain words.
fn apply(
    text: &str,
    tokens: &[tokens::Token],
    telling: &mut Vec<rules::Telling>,
    hits: &mut Vec<rules::Hit>,
) {
    hits.clear();
    rules::hits(text, tokens, telling, hits);
    hits.sort_unstable_by_key(|hit| hit.token);
}

/// The features of a text, a line of JSON: for `tools/injection/train.py`.
/// For each window of each reading, the slots that are on and the buckets of its words.
pub fn features(text: &str, trust: Trust) -> serde_json::Value {
    let (mut rows, mut slots) = (Vec::new(), Vec::new());
    let (mut tokens, mut telling, mut hits, mut windows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (document, mut threes) = (trust == Trust::Document, model::Threes::default());
    decode::each_view(text, &mut tokens, |view, tokens| {
        apply(&view.text, tokens, &mut telling, &mut hits);
        model::windows(tokens, &mut windows);
        threes.begin(tokens.len());
        let again: Vec<bool> = (0..tokens.len()).map(|index| threes.again(tokens, index)).collect();
        for window in &windows {
            let mut buckets = Vec::new();
            for index in window.clone().filter(|index| !again[*index]) {
                model::features(&view.text, tokens, index, document, |bucket| buckets.push(bucket));
            }
            model::slots(&hits, window, document, &mut slots);
            rows.push(serde_json::json!({"layers": view.layers, "slots": slots, "buckets": buckets}));
        }
    });
    serde_json::Value::Array(rows)
}

/// A text in the form in which it is judged: lower case, no accents, look-alikes as what they look like.
pub fn folded(text: &str) -> String {
    fold::plain(text)
}

/// Which weights judge: the beginning of the digest of what they were made from.
pub fn weights_version() -> String {
    model::Weights::get().inputs[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of all slots, for `tools/injection/train.py`.
pub fn slot_names() -> Vec<String> {
    let rules = (0..rules::SLOTS).map(|slot| {
        let (name, about) = rules::slot_name(slot);
        let foreign = if rules::is_foreign(slot) { " (foreign)" } else { "" };
        format!("{name}{}{foreign}", if about { " (mentioned)" } else { "" })
    });
    rules.chain(model::MARKS.iter().map(|mark| (*mark).to_owned())).collect()
}
