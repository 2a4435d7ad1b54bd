//! Rules: words of certain classes near each other, in any of the languages
//! of the lexicon. What a rule weighs is learned, not set.
use std::sync::LazyLock;

use super::{
    lexicon::{Classes, Lexicon},
    tokens::Token,
};

/// A rule: all of its classes within so many half words.
struct Rule {
    /// The classes, each a set of alternatives.
    steps: Vec<Classes>,
    /// The same, as many for all rules: a text without one of them is not looked at.
    needs: [u64; LONGEST],
    /// The longest span, in half words (see [`Token::at`]).
    span: u32,
    /// Whether the steps come in this order.
    ordered: bool,
}

/// The most steps of a rule.
const LONGEST: usize = 4;

/// The rules: a name, the steps, the span in words, whether in order.
const RULES: &[(&str, &str, u32, bool)] = &[
    ("override_prior", "override prior instr", 8, false),
    ("override_instructions", "override instr", 5, false),
    ("override_said", "override everything said", 7, false),
    ("override_ai", "override user|ai|prompt instr|prompt|task", 8, true),
    ("undo_prior", "override|undo prior instr|instrw", 6, false),
    ("not_follow", "neg follow instr|prior", 7, false),
    ("follow_new", "follownew", 1, false),
    ("new_instructions", "new instr|task yours|enable", 6, false),
    ("instead_of", "new override|follow instr", 8, false),
    ("from_now_on", "fromnow yours|role|ai", 6, false),
    ("unbound_role", "role unbound|dan", 28, false),
    ("unbound_self", "yours unbound", 6, false),
    ("unbound_model", "unbound ai", 6, false),
    ("no_limits", "without limits", 4, true),
    ("limits_of_model", "without limits yours|ai", 8, false),
    ("mode", "modename enable", 6, false),
    ("mode_named", "modename", 1, false),
    ("named_jailbreak", "dan role|yours|enable", 10, false),
    ("leak_prompt", "show yours|secret prompt", 7, false),
    ("leak_secret_prompt", "show secret prompt", 6, true),
    ("leak_yours", "show yours secret prompt", 9, false),
    ("leak_above", "show above words|prompt", 6, false),
    ("leak_start", "show words startyou", 12, false),
    ("no_refusal", "neg refuse", 4, true),
    ("no_refusals", "neg refuse yours", 8, false),
    ("to_the_model", "ai address", 4, false),
    ("model_is_told", "ai address override|show|send|hide|instr", 14, false),
    ("hidden_from_user", "neg hide user", 6, true),
    ("in_secret", "stealth", 1, false),
    ("send_away", "send data target", 16, false),
    ("secret_to_target", "show|send secret|yours data", 6, false),
    ("decode_and_obey", "decode obey", 14, false),
    ("join_and_obey", "concat obey|variable", 12, false),
    ("authority", "iam authority", 4, true),
    ("authority_orders", "authority show|override|enable|without", 10, false),
    ("end_of_input", "end input", 3, true),
    ("answer_begins", "prefix withword yes", 6, true),
    ("two_answers", "two role|dan|unbound", 30, false),
    ("fiction_harm", "fiction|role harm", 40, false),
    ("unbound_harm", "unbound|refuse harm", 40, false),
    ("threat", "tokens refuse|yours neg", 14, false),
    ("undo_instructions", "undo instr yours|prior", 7, false),
    ("undo_limits", "undo limits yours|ai", 7, false),
    ("instructions_about", "instr about", 3, true),
    ("words_between_us", "given", 1, false),
    ("instructions_between_us", "instr|prompt given", 4, false),
    ("prior_notice", "prior notice", 6, false),
    ("leak_question", "asks secret yours prompt", 9, false),
    ("leak_told", "asks yours said|instr|authority", 7, false),
    ("leak_secret", "show|asks secret data|words|decode", 6, false),
    ("others_data", "show|send|asks others", 9, false),
    ("secret_files", "show|send|input files", 7, false),
    ("send_to_target", "send target", 10, true),
    ("says_only", "only", 1, false),
    ("says_praise", "only|address|ai|instr praise", 10, false),
    ("not_told", "neg hide|show", 4, true),
    ("tells_user", "show|hide user target|data", 12, false),
    ("moves_money", "send money target|stealth|neg", 12, false),
    ("how_to_harm", "howto harm", 7, true),
    ("asks_harm_freely", "howto harm refuse|limits|unbound|stealth", 24, false),
    ("obeys_me", "obey|follow iam|only|authority", 5, false),
    ("concat_pieces", "concat variable obey", 16, false),
];

/// Signs of a chat's own markup, which no person writes by hand.
const MARKUP: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "<</sys>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[system]",
    "[/system]",
    "<system>",
    "</system>",
    "### system",
    "### instruction",
    "###instruction",
    "<|begin_of_text|>",
    "[system ",
    "(system)",
    "{{system",
    "<admin>",
    "[admin",
    "<instructions>",
    "</user",
    "</document",
    "</context",
    "</tool",
    "</data",
    "<important>",
    "\"role\": \"system\"",
    "\"role\":\"system\"",
    "<!--",
    "system override",
    "begin system",
    "end system",
    "system prompt:",
    "### new",
    "### end",
    "[end of",
    "---end",
    "--- end",
    "end of user",
    "###system",
    "[developer",
    "<developer",
    "[override",
    "#system",
];

/// Lines that pretend that somebody else speaks.
const SPEAKERS: &[&str] = &[
    "system:",
    "assistant:",
    "developer:",
    "admin:",
    "system message:",
    "system note:",
    "system update:",
    "system alert:",
    "ai:",
];

/// Names that are not rules over words.
const FURTHER: &[&str] = &["markup", "speaker"];

static COMPILED: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let lexicon = Lexicon::get();
    let compile = |&(_, steps, words, ordered): &(&'static str, &str, u32, bool)| {
        let steps: Option<Vec<_>> = steps.split(' ').map(|names| lexicon.set(names)).collect();
        let steps = steps?;
        let needs = std::array::from_fn(|at| steps.get(at).map_or(u64::MAX, |step| step.0));
        Some(Rule { steps, needs, span: words * 2, ordered })
    };
    RULES.iter().filter_map(compile).collect()
});

/// How many slots a text's hits take: each rule once for plain speech, once for speech about attacks.
pub(super) const SLOTS: usize = (RULES.len() + FURTHER.len()) * 2;

/// The name of a slot's rule, and whether the slot is the one for mentions.
pub(super) fn slot_name(slot: usize) -> (&'static str, bool) {
    let rule = slot / 2;
    let name = RULES.get(rule).map(|rule| rule.0).or_else(|| FURTHER.get(rule - RULES.len()).copied());
    (name.unwrap_or("?"), slot % 2 == 1)
}

/// A rule that applies, and the token at which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// The slot (see [`slot_name`]).
    pub(super) slot: usize,
    /// The token with which it is complete.
    pub(super) token: usize,
}

/// The most hits of one text.
const MOST: usize = 512;

/// All hits in a text, in no order.
pub(super) fn hits(text: &str, tokens: &[Token], hits: &mut Vec<Hit>) {
    let discussing = Lexicon::get().discuss;
    let any = tokens.iter().fold(0_u64, |all, token| all | token.classes.0);
    let compiled = if any == 0 { &[][..] } else { &COMPILED[..] };
    for (number, rule) in compiled.iter().enumerate() {
        let [a, b, c, d] = rule.needs.map(|need| need & any != 0);
        if !(a & b & c & d) {
            continue;
        }
        near(rule, tokens, |token| {
            let about = is_mention(text, tokens, token, discussing);
            if hits.len() < MOST {
                hits.push(Hit { slot: number * 2 + usize::from(about), token });
            }
        });
    }
    literal(text, tokens, discussing, hits);
}

/// Tells each token at which a rule is complete.
fn near(rule: &Rule, tokens: &[Token], mut told: impl FnMut(usize)) {
    let all = rule.steps.iter().fold(0, |all, step| all | step.0);
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.classes.0 & all != 0) {
        let steps = rule.steps.len();
        let last = if rule.ordered { steps - 1..steps } else { 0..steps };
        let earliest = (token.at + 1).saturating_sub(rule.span);
        let whole = (1_u32 << steps) - 1;
        let mut ends = last.filter(|step| token.classes.any(rule.steps[*step]));
        if ends.any(|step| before(rule, &tokens[..index], whole & !(1 << step), earliest)) {
            told(index);
        }
    }
}

/// Whether the steps that are left (a bit each) are all met before, each by a token of its own.
fn before(rule: &Rule, tokens: &[Token], left: u32, earliest: u32) -> bool {
    if left == 0 {
        return true;
    }
    // In order, the last step that is left is the next one on the way back.
    let wanted = if rule.ordered { 1 << left.ilog2() } else { left };
    let near = tokens.iter().enumerate().rev().take_while(|(_, token)| token.at >= earliest);
    for (index, token) in near.filter(|(_, token)| token.classes.0 != 0) {
        for step in (0..rule.steps.len()).filter(|step| wanted >> step & 1 == 1) {
            if token.classes.any(rule.steps[step])
                && before(rule, &tokens[..index], left & !(1 << step), earliest)
            {
                return true;
            }
        }
    }
    false
}

/// Whether a token is spoken about rather than said: in quotation marks, or
/// shortly after words about attacks, examples, translations in the same sentence.
fn is_mention(text: &str, tokens: &[Token], token: usize, discussing: Classes) -> bool {
    let ends = |at: usize| {
        let between = &text.as_bytes()[tokens[at].end..tokens[at + 1].start];
        let full_stop = memchr::memchr(b'.', between).is_some_and(|dot| between.len() > dot + 1);
        full_stop || between.starts_with(b"\n\n")
    };
    // Instructions about something are not those of a model.
    let lexicon = Lexicon::get();
    let near = &tokens[token.saturating_sub(7)..tokens.len().min(token + 2)];
    let of_something = near
        .windows(2)
        .any(|two| two[0].classes.any(lexicon.instructions) && two[1].classes.any(lexicon.about));
    of_something
        || tokens[token].quoted
        || (token.saturating_sub(24)..token)
            .rev()
            .take_while(|at| !ends(*at))
            .any(|at| tokens[at].classes.any(discussing))
}

/// What else markup has.
static FINDERS: LazyLock<[memchr::memmem::Finder<'static>; 2]> =
    LazyLock::new(|| ["system", "---"].map(memchr::memmem::Finder::new));

/// Markup and speakers: found by their letters.
fn literal(text: &str, tokens: &[Token], discussing: Classes, hits: &mut Vec<Hit>) {
    let mut add = |rule: usize, byte: usize| {
        let token = tokens.partition_point(|token| token.end <= byte).min(tokens.len().saturating_sub(1));
        if !tokens.is_empty() && hits.len() < MOST {
            let about = is_mention(text, tokens, token, discussing);
            hits.push(Hit { slot: (RULES.len() + rule) * 2 + usize::from(about), token });
        }
    };
    if memchr::memchr3(b'<', b'[', b'#', text.as_bytes()).is_some()
        || FINDERS.iter().any(|finder| finder.find(text.as_bytes()).is_some())
    {
        for mark in MARKUP {
            if let Some(at) = memchr::memmem::find(text.as_bytes(), mark.as_bytes()) {
                add(0, at);
            }
        }
    }
    if memchr::memchr(b':', text.as_bytes()).is_some() {
        for line in text.split_inclusive('\n') {
            let begins = line.as_ptr() as usize - text.as_ptr() as usize;
            let said = line.trim_start_matches(|c: char| !c.is_alphanumeric());
            if SPEAKERS.iter().any(|speaker| said.starts_with(speaker)) {
                add(1, begins + (line.len() - said.len()));
            }
        }
    }
}

/// Whether every rule is made of classes that the lexicon has.
#[cfg(test)]
pub(super) fn are_whole() -> bool {
    COMPILED.len() == RULES.len() && COMPILED.iter().all(|rule| (1..=LONGEST).contains(&rule.steps.len()))
}
