//! OpenAI's moderation API as a judge: <https://platform.openai.com/docs/api-reference/moderations>.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::settings::{Categories, Moderation};
use crate::{
    error::Result,
    guard::{remote::Remote, settings::Mode},
};

/// The categories that OpenAI's own service has. Others may have others.
pub const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// A moderation service.
#[derive(Debug)]
pub struct Service {
    remote: Remote,
    model: Option<String>,
    threshold: Option<f32>,
    mode: Mode,
    modes: Categories,
    /// Whether answers are judged, too.
    pub output: bool,
}

/// What it says about texts: the worst category, its score, and what that leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Flagged {
    /// The category.
    pub category: Arc<str>,
    /// How sure it is, 0 to 1.
    pub score: f32,
    /// What it leads to.
    pub mode: Mode,
}

#[derive(Serialize)]
struct Question<'a> {
    input: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    flagged: Option<bool>,
    #[serde(default)]
    categories: BTreeMap<String, Option<bool>>,
    #[serde(default)]
    category_scores: BTreeMap<String, Option<f32>>,
}

impl Verdict {
    /// Whether it says anything.
    fn speaks(&self) -> bool {
        self.flagged.is_some()
            || self.categories.values().any(Option::is_some)
            || self.category_scores.values().any(Option::is_some)
    }
}

impl Service {
    /// The service of the settings, if they name one.
    ///
    /// # Errors
    /// What in the settings cannot be used, in words.
    pub fn new(settings: &Moderation, modes: &Categories) -> std::result::Result<Option<Self>, String> {
        let remote = Remote::new(&settings.service, "safety.moderation.service")?;
        Ok(remote.filter(|_| settings.mode != Mode::Off).map(|remote| Self {
            remote,
            model: settings.model.clone(),
            threshold: settings.threshold,
            mode: settings.mode,
            modes: modes.clone(),
            output: settings.output,
        }))
    }

    /// Asks it about texts.
    ///
    /// # Errors
    /// [`crate::error::Error::JudgeAway`] where it does not answer, or not for each of them.
    pub async fn ask(&self, texts: &[&str], left: Duration) -> Result<Option<Flagged>> {
        let question = Question { input: texts, model: self.model.as_deref() };
        let whole = |answer: &Answer| {
            answer.results.len() >= texts.len() && answer.results.iter().all(Verdict::speaks)
        };
        let answer = self.remote.ask(&question, left, whole).await?;
        Ok(self.worst(&answer.results))
    }

    /// Whether a call without its verdict is refused.
    pub fn refuses_without(&self) -> bool {
        self.mode == Mode::Block && self.remote.failing == crate::guard::remote::Failing::Block
    }

    /// The finding that leads to the most.
    fn worst(&self, verdicts: &[Verdict]) -> Option<Flagged> {
        let mut worst: Option<Flagged> = None;
        for verdict in verdicts {
            let scores = verdict.category_scores.iter().filter_map(|(name, score)| Some((name, (*score)?)));
            let by_flag = |name: &String| verdict.categories.get(name).copied().flatten().unwrap_or(false);
            let counted = scores.filter(|(name, score)| match self.threshold {
                Some(threshold) => *score >= threshold,
                None => by_flag(name),
            });
            let mut found: Vec<(&str, f32)> = counted.map(|(name, score)| (name.as_str(), score)).collect();
            if found.is_empty() && self.threshold.is_none() && verdict.flagged == Some(true) {
                // Some services tell no categories, or no scores.
                let named = verdict.categories.iter().find(|(_, flag)| **flag == Some(true));
                found.push((named.map_or("flagged", |(name, _)| name.as_str()), 1.0));
            }
            for (name, score) in found {
                let mode = self.modes.get(name).copied().unwrap_or(self.mode);
                let sort = |mode: Mode| (mode == Mode::Block, mode == Mode::Log);
                let better =
                    worst.as_ref().is_none_or(|best| (sort(mode), score) > (sort(best.mode), best.score));
                if mode != Mode::Off && better {
                    // Names end in metrics: only those that are known.
                    let known = self.modes.contains_key(name)
                        || super::builtin::RULES.iter().any(|rule| rule.0 == name);
                    worst = Some(Flagged {
                        category: if known { name.into() } else { "other".into() },
                        score,
                        mode,
                    });
                }
            }
        }
        worst
    }
}
