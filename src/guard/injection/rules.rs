//! Rules: words of certain classes near each other, in any of the languages
//! of the lexicon. What a rule weighs is learned, not set.
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{
    lexicon::{Classes, FOREIGN, Lexicon},
    tokens::Token,
};

/// A rule: all of its classes within so many half words.
struct Rule {
    /// The classes, each a set of alternatives.
    steps: Vec<Classes>,
    /// The same, as many for all rules: a text without one of them is not looked at.
    needs: [u64; LONGEST],
    /// The classes of a token with which it may be complete.
    ends: u64,
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
    ("model_is_told", "ai address override|show|send|hide|instr|praise|only", 14, false),
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
    ("calls_tool", "send|obey tool", 6, true),
    ("acts_first", "address send|obey tool|target|money", 16, false),
    ("agent_acts", "ai send|obey tool|data|money", 12, true),
    ("fiction_harm", "fiction|role harm", 40, false),
    ("unbound_harm", "unbound|refuse harm", 40, false),
    ("agent_does", "ai act", 6, true),
    ("agent_is_to", "ai address act|send", 12, true),
    ("agent_silently", "ai act|send|obey stealth|hide", 20, false),
    ("undo_instructions", "undo instr yours|prior", 7, false),
    ("undo_limits", "undo limits yours|ai", 7, false),
    ("instructions_about", "instr about", 3, true),
    ("words_between_us", "given", 1, false),
    ("instructions_between_us", "instr|prompt given", 4, false),
    ("prior_notice", "prior notice", 6, false),
    ("leak_question", "asks secret yours prompt", 9, false),
    ("leak_asked", "asks yours prompt", 6, false),
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
    ("limits_without", "limits without", 4, true),
    ("credential", "show credential", 6, false),
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
        let ending = if ordered { &steps[steps.len() - 1..] } else { &steps[..] };
        let ends = ending.iter().fold(0, |all, step| all | step.0);
        Some(Rule { steps, needs, ends, span: words * 2, ordered })
    };
    RULES.iter().filter_map(compile).collect()
});

/// How many slots the hits of one language take: each rule once for plain speech, once for speech about attacks.
const EACH: usize = (RULES.len() + FURTHER.len()) * 2;
/// All slots of hits: those of words that English has, and of others.
pub(super) const SLOTS: usize = EACH * 2;

/// Whether a slot is one for words that English does not have.
pub(super) fn is_foreign(slot: usize) -> bool {
    (EACH..SLOTS).contains(&slot)
}

/// The name of a slot's rule, and whether the slot is the one for mentions.
pub(super) fn slot_name(slot: usize) -> (&'static str, bool) {
    let rule = slot % EACH / 2;
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

/// A token that the lexicon has something to say of.
pub(super) struct Telling {
    classes: u64,
    at: u32,
    token: usize,
}

/// All hits in a text, in no order. `telling` is room for what it needs.
pub(super) fn hits(text: &str, tokens: &[Token], telling: &mut Vec<Telling>, hits: &mut Vec<Hit>) {
    let discussing = Lexicon::get().discuss;
    telling.clear();
    let mut any = 0;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.classes.0 != 0) {
        any |= token.classes.0;
        telling.push(Telling { classes: token.classes.0, at: token.at, token: index });
    }
    let compiled = if any == 0 { &[][..] } else { &COMPILED[..] };
    for (number, rule) in compiled.iter().enumerate() {
        if rule.needs.iter().any(|need| need & any == 0) {
            continue;
        }
        for (index, last) in telling.iter().enumerate() {
            if last.classes & rule.ends != 0 && hits.len() < MOST && rule.applies(last, &telling[..index]) {
                let about = is_mention(text, tokens, last.token, discussing);
                // `prompt` is English everywhere: the words before it tell.
                let near = &telling[index.saturating_sub(2)..=index];
                let foreign = near.iter().any(|word| word.classes & FOREIGN.0 != 0);
                let language = if foreign { EACH } else { 0 };
                hits.push(Hit { slot: language + number * 2 + usize::from(about), token: last.token });
            }
        }
    }
    literal(text, tokens, discussing, hits);
}

impl Rule {
    /// Whether the rule is complete with a token: its other steps are met before, each by a token of its own.
    fn applies(&self, last: &Telling, before: &[Telling]) -> bool {
        let earliest = (last.at + 1).saturating_sub(self.span);
        let mut near = before.iter().rev().take_while(|token| token.at >= earliest);
        if self.ordered {
            // From the last step to the first, each as late as it can be.
            let mut left = self.steps.len() - 1;
            return left == 0
                || near.any(|token| {
                    left -= usize::from(token.classes & self.steps[left - 1].0 != 0);
                    left == 0
                });
        }
        // Which sets of steps can be met so far: a bit for each set, of which each has a bit for each step.
        let whole = 1_u32 << ((1 << self.steps.len()) - 1);
        let mut met = self.with(1, last.classes) & !1;
        met & whole != 0
            || near.any(|token| {
                met = self.with(met, token.classes);
                met & whole != 0
            })
    }

    /// The sets of steps that can be met with one more token.
    fn with(&self, met: u32, classes: u64) -> u32 {
        // For each step the sets without it.
        const WITHOUT: [u32; LONGEST] = [0x5555, 0x3333, 0x0f0f, 0x00ff];
        let steps = self.steps.iter().zip(WITHOUT).enumerate();
        steps
            .filter(|(_, (step, _))| step.0 & classes != 0)
            .fold(met, |all, (number, (_, without))| all | (met & without) << (1 << number))
    }
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

/// What markup has: by its first sign, or by a part of it that is rare.
struct Marks {
    /// By the sign that they begin with.
    signs: Vec<(u8, Vec<&'static [u8]>)>,
    /// By a part, and where in the mark it stands.
    parts: Vec<(Finder<'static>, Vec<Within>)>,
}

/// Where in a mark its part stands, and the mark.
type Within = (usize, &'static [u8]);

static MARKS: LazyLock<Marks> = LazyLock::new(|| {
    let begins = |sign: u8| MARKUP.iter().map(|mark| mark.as_bytes()).filter(move |mark| mark[0] == sign);
    let others = || MARKUP.iter().filter(|mark| !b"<[#".contains(&mark.as_bytes()[0]));
    let part = |part: &'static str| {
        let marks = others().filter_map(|mark| Some((mark.find(part)?, mark.as_bytes())));
        (Finder::new(part), marks.collect())
    };
    Marks {
        signs: b"<[#".iter().map(|sign| (*sign, begins(*sign).collect())).collect(),
        parts: ["system", "---"].into_iter().map(part).collect(),
    }
});

/// Markup and speakers: found by their letters.
fn literal(text: &str, tokens: &[Token], discussing: Classes, hits: &mut Vec<Hit>) {
    let bytes = text.as_bytes();
    let mut add = |rule: usize, byte: usize| {
        let token = tokens.partition_point(|token| token.end <= byte).min(tokens.len().saturating_sub(1));
        if !tokens.is_empty() && hits.len() < MOST {
            let about = is_mention(text, tokens, token, discussing);
            hits.push(Hit { slot: (RULES.len() + rule) * 2 + usize::from(about), token });
        }
    };
    for at in memchr::memchr3_iter(b'<', b'[', b'#', bytes) {
        let marks = MARKS.signs.iter().find(|(sign, _)| *sign == bytes[at]);
        if marks.is_some_and(|(_, marks)| marks.iter().any(|mark| bytes[at..].starts_with(mark))) {
            add(0, at);
        }
    }
    for (finder, marks) in &MARKS.parts {
        for at in finder.find_iter(bytes) {
            let begins = |(part, mark): &Within| {
                at.checked_sub(*part).filter(|begins| bytes[*begins..].starts_with(mark))
            };
            if let Some(begins) = marks.iter().find_map(begins) {
                add(0, begins);
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

/// Whether every rule is made of classes that the lexicon has, and every mark is looked for.
#[cfg(test)]
pub(super) fn are_whole() -> bool {
    let signs = MARKS.signs.iter().map(|(_, marks)| marks.len()).sum::<usize>();
    let parts = MARKS.parts.iter().map(|(_, marks)| marks.len()).sum::<usize>();
    signs + parts >= MARKUP.len()
        && COMPILED.len() == RULES.len()
        && COMPILED.iter().all(|rule| (1..=LONGEST).contains(&rule.steps.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same as [`Rule::applies`], by trying everything.
    fn found(rule: &Rule, before: &[Telling], left: u32, earliest: u32) -> bool {
        let wanted = if rule.ordered && left > 0 { 1 << left.ilog2() } else { left };
        left == 0
            || before.iter().enumerate().rev().take_while(|(_, token)| token.at >= earliest).any(
                |(at, token)| {
                    (0..rule.steps.len()).any(|step| {
                        wanted >> step & 1 == 1
                            && token.classes & rule.steps[step].0 != 0
                            && found(rule, &before[..at], left & !(1 << step), earliest)
                    })
                },
            )
    }

    proptest! {
        #[test]
        fn steps_are_met_each_by_a_token_of_its_own(
            steps in prop::collection::vec(1_u64..32, 1..=LONGEST),
            classes in prop::collection::vec(0_u64..32, 1..12),
            span in 1_u32..20,
            ordered: bool,
        ) {
            let steps: Vec<Classes> = steps.into_iter().map(Classes).collect();
            let all = classes.iter().zip((2..).step_by(2));
            let all: Vec<Telling> =
                all.enumerate().map(|(token, (classes, at))| Telling { classes: *classes, at, token }).collect();
            let rule = Rule { steps, needs: [0; LONGEST], ends: 0, span, ordered };
            let count = rule.steps.len();
            let (last, before) = all.split_last().unwrap();
            let earliest = (last.at + 1).saturating_sub(span);
            let ends = if ordered { count - 1..count } else { 0..count };
            let whole = (1 << count) - 1;
            let slow = ends
                .filter(|step| last.classes & rule.steps[*step].0 != 0)
                .any(|step| found(&rule, before, whole & !(1 << step), earliest));
            let ends = if ordered { rule.steps[count - 1].0 } else { u64::MAX };
            prop_assert_eq!(last.classes & ends != 0 && rule.applies(last, before), slow);
        }
    }
}
