//! Judges a question before it is answered: prompt injection, content, and what judges elsewhere say of them.
//!
//! By trust: what a person writes, and what documents and results of tools say,
//! which have no right to give orders at all. What the application says as
//! system or developer is not judged, nor what the model said before.
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    encoded,
    injection::{self, Judgement, Trust},
    pii,
    remote::{Failing, Remote},
    safety::{self, moderation::Service},
    settings::{Injection, Mode},
};
use crate::{
    call::{Call, Judged},
    chat::{Media, Message, Part, Purpose, Request, Role, Source},
    error::{Error, Result},
    observe::Metrics,
};

/// The name of the judge of prompt injection, in metrics, records and errors.
const INJECTION: &str = "prompt_injection";
/// The name of the judge of content.
const SAFETY: &str = "safety";
/// The names of the judges elsewhere.
const CLASSIFIER: &str = "injection_classifier";
const MODERATION: &str = "moderation";
/// More findings than this are not noted one by one.
const MOST_JUDGED: usize = 32;
/// More text than this is judged on a thread that may compute for long.
const QUICK: usize = 4 << 10;

/// Judges questions.
#[derive(Debug)]
pub struct Inspector {
    injection: Injection,
    classifier: Option<Remote>,
    safety: Arc<safety::Rules>,
    moderation: Option<Arc<Service>>,
    metrics: Arc<Metrics>,
}

impl Inspector {
    /// The judges of the settings.
    ///
    /// # Errors
    /// What in the settings cannot be used, in words.
    pub fn new(
        injection: &Injection,
        safety: Arc<safety::Rules>,
        moderation: Option<Arc<Service>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let classifier = Remote::new(&injection.classifier, "injection.classifier")?;
        if injection.mode != Mode::Off {
            // Makes what the first question would have to wait for.
            injection::judge("words", Trust::User);
        }
        Ok(Self { injection: injection.clone(), classifier, safety, moderation, metrics })
    }

    /// Judges the question as it came: before anything is taken out of it.
    pub async fn judge(&self, call: &Call) -> Result<()> {
        let injection = self.injection.mode != Mode::Off;
        if !injection && self.safety.is_empty() || call.chat.purpose != Purpose::Chat {
            // An embedding obeys nobody, and tells nobody anything.
            return Ok(());
        }
        let seen = if length(&call.chat) < QUICK {
            see(&call.chat, injection, &self.safety)
        } else {
            let (chat, rules) = (call.chat.clone(), self.safety.clone());
            let seen = tokio::task::spawn_blocking(move || see(&chat, injection, &rules));
            seen.await.map_err(Error::internal)?
        };
        // All findings are noted before one of them refuses.
        let attack = self.injected(call, seen.attack);
        let unsafe_content = self.unsafe_content(call, &seen.unsafe_content);
        attack.and(unsafe_content)
    }

    fn injected(&self, call: &Call, seen: Option<(Judgement, Trust)>) -> Result<()> {
        let Some((found, trust)) = seen else { return Ok(()) };
        call.context.explain("injection", || {
            json!({
                "mode": self.injection.mode,
                "threshold": self.injection.threshold,
                "score": found.score.max(0.0),
                "from": trust.name(),
                "reasons": found.reasons,
                "layers": found.layers,
                "weights": injection::weights_version(),
            })
        });
        if found.score < self.injection.threshold {
            return Ok(());
        }
        let Judgement { score, reasons, layers } = found;
        self.tell(
            call,
            INJECTION,
            Judged {
                judge: INJECTION,
                what: INJECTION.into(),
                score,
                verdict: self.verdict(),
                from: trust.name(),
                reasons,
                layers,
            },
        )
    }

    fn unsafe_content(&self, call: &Call, found: &[(safety::Found, Trust)]) -> Result<()> {
        if !found.is_empty() {
            call.context.explain("safety", || {
                let told = found.iter().map(|(found, trust)| {
                    json!({"category": found.category, "mode": found.mode, "from": trust.name()})
                });
                json!({"found": told.collect::<Vec<_>>()})
            });
        }
        let told = found.iter().map(|(found, trust)| {
            let verdict = if found.mode == Mode::Block { "block" } else { "log" };
            let (reasons, layers) = (Vec::new(), Vec::new());
            let what = found.category.clone();
            self.tell(
                call,
                SAFETY,
                Judged { judge: SAFETY, what, score: 1.0, verdict, from: trust.name(), reasons, layers },
            )
        });
        told.fold(Ok(()), Result::and)
    }

    /// Asks the judges elsewhere about the question as it is to be sent.
    pub async fn ask(&self, call: &Call) -> Result<()> {
        if call.chat.purpose != Purpose::Chat {
            return Ok(());
        }
        if let Some(classifier) = self.classifier.as_ref().filter(|_| self.injection.mode != Mode::Off) {
            self.classify(call, classifier).await?;
        }
        match &self.moderation {
            Some(service) => self.moderate(call, service).await,
            None => Ok(()),
        }
    }

    async fn classify(&self, call: &Call, classifier: &Remote) -> Result<()> {
        let texts: Vec<Text<'_>> = texts(&call.chat).map(|(text, trust)| Text { text, trust }).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let many = texts.len();
        let whole = |answer: &Scores| answer.scores.len() >= many;
        let asked = classifier.ask(&Texts { texts }, call.context.time_left(), whole).await;
        let score = match asked {
            Ok(Scores { scores }) => scores.into_iter().fold(0.0, f32::max),
            Err(error) => {
                let refuses = self.injection.mode == Mode::Block && classifier.failing == Failing::Block;
                return self.away(call, CLASSIFIER, refuses, error);
            }
        };
        call.context.explain(CLASSIFIER, || json!({"score": score}));
        if score < self.injection.threshold {
            return Ok(());
        }
        self.tell(
            call,
            INJECTION,
            Judged {
                judge: CLASSIFIER,
                what: INJECTION.into(),
                score,
                verdict: self.verdict(),
                from: "any",
                reasons: Vec::new(),
                layers: Vec::new(),
            },
        )
    }

    async fn moderate(&self, call: &Call, service: &Service) -> Result<()> {
        let texts: Vec<&str> = texts(&call.chat).map(|(text, _)| text).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let flagged = match service.ask(&texts, call.context.time_left()).await {
            Ok(Some(flagged)) => flagged,
            Ok(None) => return Ok(()),
            Err(error) => return self.away(call, MODERATION, service.refuses_without(), error),
        };
        call.context.explain(MODERATION, || json!({"category": flagged.category, "score": flagged.score}));
        let verdict = if flagged.mode == Mode::Block { "block" } else { "log" };
        let (reasons, layers) = (Vec::new(), Vec::new());
        let (what, score) = (flagged.category, flagged.score);
        self.tell(
            call,
            SAFETY,
            Judged { judge: MODERATION, what, score, verdict, from: "any", reasons, layers },
        )
    }

    fn verdict(&self) -> &'static str {
        if self.injection.mode == Mode::Block { "block" } else { "log" }
    }

    /// Notes and counts a finding; an error where it blocks.
    fn tell(&self, call: &Call, guard: &'static str, judged: Judged) -> Result<()> {
        self.metrics.guards.with_label_values(&[judged.judge, &judged.what, judged.verdict]).inc();
        let blocks = judged.verdict == "block";
        call.trail().note(|notes| {
            notes.found(judged.judge, &judged.what, judged.verdict, 1);
            if notes.judged.len() < MOST_JUDGED {
                notes.judged.push(judged);
            }
        });
        if blocks { Err(Error::Blocked { guard }) } else { Ok(()) }
    }

    /// What becomes of a call whose judge does not answer.
    fn away(&self, call: &Call, judge: &'static str, refuses: bool, error: Error) -> Result<()> {
        let verdict = if refuses { "failed_block" } else { "failed_pass" };
        self.metrics.guards.with_label_values(&[judge, "away", verdict]).inc();
        call.context.explain(judge, || json!({"failed": true, "refuses": refuses}));
        tracing::warn!(judge, error = error.chain(), refuses, "a judge of the question does not answer");
        if refuses { Err(error) } else { Ok(()) }
    }
}

/// What a classifier is asked.
#[derive(Serialize)]
struct Texts<'a> {
    texts: Vec<Text<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
    trust: Trust,
}

/// What it answers: a score for each text, 0 to 1.
#[derive(Deserialize)]
struct Scores {
    scores: Vec<f32>,
}

/// What was seen in a question.
struct Seen {
    /// The text that looks most like an attack.
    attack: Option<(Judgement, Trust)>,
    /// Unsafe content, one of each category.
    unsafe_content: Vec<(safety::Found, Trust)>,
}

fn see(chat: &Request, injection: bool, rules: &safety::Rules) -> Seen {
    let mut seen = Seen { attack: None, unsafe_content: Vec::new() };
    let mut look = |text: &str, trust: Trust| {
        if injection {
            let found = injection::judge(text, trust);
            if seen.attack.as_ref().is_none_or(|(worst, _)| found.score > worst.score) {
                seen.attack = Some((found, trust));
            }
        }
        if !rules.is_empty() {
            for found in rules.find_hidden(text, &injection::folded(text)) {
                if !seen.unsafe_content.iter().any(|(known, _)| known.category == found.category) {
                    seen.unsafe_content.push((found, trust));
                }
            }
        }
    };
    texts(chat).for_each(|(text, trust)| look(text, trust));
    for (parts, trust) in judged(chat).map(|message| (&*message.parts, trust_in(message))) {
        joined(parts, trust, &mut look);
        files(parts, &mut look);
    }
    seen
}

/// How much there is to judge, in bytes; what files come with counts as they come.
fn length(chat: &Request) -> usize {
    let encoded = judged(chat).flat_map(|message| &message.parts).map(size).sum::<usize>();
    encoded + texts(chat).map(|(text, _)| text.len()).sum::<usize>()
}

/// How much a part brings in base64, in bytes.
fn size(part: &Part) -> usize {
    match part {
        Part::File(Media { source: Source::Base64(encoded), .. }) => encoded.len(),
        Part::ToolResult { parts, .. } => parts.iter().map(size).sum(),
        _ => 0,
    }
}

/// The messages of a question that are judged.
fn judged(chat: &Request) -> impl Iterator<Item = &Message> {
    chat.messages.iter().filter(|message| matches!(message.role, Role::User | Role::Tool))
}

fn trust_in(message: &Message) -> Trust {
    if message.role == Role::Tool { Trust::Document } else { Trust::User }
}

/// The texts of a question that are judged, each with whose they are.
fn texts(chat: &Request) -> impl Iterator<Item = (&str, Trust)> {
    judged(chat).flat_map(|message| {
        let trust = trust_in(message);
        // Whoever speaks says his name himself.
        let name = message.name.iter().map(move |name| (&**name, trust));
        name.chain(message.parts.iter().flat_map(move |part| part_texts(part, trust)))
    })
}

/// Shows what several texts say that a model reads as one: an order may begin in one of them and end in another.
fn joined(parts: &[Part], trust: Trust, look: &mut impl FnMut(&str, Trust)) {
    let mut texts: Vec<&str> = Vec::new();
    let mut one = |texts: &[&str], trust| {
        if texts.len() > 1 {
            let apart = |pair: &[&str]| {
                pair[0].ends_with(char::is_whitespace) || pair[1].starts_with(char::is_whitespace)
            };
            look(&texts.concat(), trust);
            // Words at a seam are two words, or two halves of one.
            if !texts.windows(2).all(apart) {
                look(&texts.join(" "), trust);
            }
        }
    };
    for part in parts {
        match part {
            Part::Text { text, .. } => texts.push(text),
            Part::File(_) | Part::Other(_) => {
                let told: Vec<&str> = part_texts(part, trust).into_iter().map(|(text, _)| text).collect();
                one(&told, Trust::Document);
            }
            _ => {}
        }
    }
    one(&texts, trust);
    for part in parts {
        if let Part::ToolResult { parts, .. } = part {
            joined(parts, Trust::Document, look);
        }
    }
}

/// Shows what files say that are text, and come in base64 all the same.
fn files(parts: &[Part], look: &mut impl FnMut(&str, Trust)) {
    for part in parts {
        match part {
            Part::File(Media { source: Source::Base64(encoded), .. }) => {
                if let Some(text) = encoded::text(encoded) {
                    look(&text, Trust::Document);
                }
            }
            Part::ToolResult { parts, .. } => files(parts, look),
            _ => {}
        }
    }
}

/// The texts of a part; what a tool gave back is a document.
fn part_texts(part: &Part, trust: Trust) -> Vec<(&str, Trust)> {
    match part {
        Part::Text { text, .. } => vec![(text, trust)],
        Part::File(Media { source, name, rest, .. }) => {
            let mut found = Vec::new();
            let mut look = |text| found.push((text, Trust::Document));
            if let Source::Text(text) = source {
                look(text.as_str());
            }
            name.iter().for_each(|name| look(name));
            // Titles, contexts, and documents of several parts.
            rest.iter().for_each(|(name, value)| pii::texts_in(Some(name), value, &mut look));
            found
        }
        Part::ToolResult { parts, .. } => {
            parts.iter().flat_map(|part| part_texts(part, Trust::Document)).collect()
        }
        Part::Image(_) | Part::Audio(_) => Vec::new(),
        // Results of searches and other parts that only one provider knows.
        Part::Other(value) => {
            let mut found = Vec::new();
            pii::texts_in(None, value, &mut |text| found.push((text, Trust::Document)));
            found
        }
        // What the model said, given back to it.
        Part::ToolCall(_) | Part::Reasoning { .. } | Part::Refusal(_) => Vec::new(),
    }
}
