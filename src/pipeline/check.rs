//! Checks what a model writes before it leaves: text, thoughts, refusals and
//! tool arguments alike, also where a finding spans two pieces.
//!
//! A whole answer is masked or replaced. A stream is held back only where a
//! match may be under way; with no finding, what leaves is byte for byte what
//! came. How that is done is told in `guard/hold.rs`.
use std::sync::Arc;

use serde_json::json;

use crate::{
    call::{Call, Trail},
    chat::{self, Completion, Event, Finish, Purpose},
    error::Result,
    guard::{
        hold::{Act, FILTERED, Found, Guard, Judging, Told},
        leak,
        pii::{Answers, Pii},
        safety::{self, Rules, moderation::Service},
        settings::Mode,
    },
    observe::Metrics,
    prompt::Prompts,
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Clone, Debug)]
pub struct CheckOutput {
    /// Personal data and secrets.
    pub pii: Arc<Pii>,
    /// Whether the system prompt is looked for, and the one that the gateway itself puts before a question.
    pub leak: (leak::Settings, Arc<Prompts>),
    /// Content: nothing to look for where answers are not looked at.
    pub safety: Arc<Rules>,
    /// A moderation service that answers are sent to.
    pub moderation: Option<Arc<Service>>,
    /// Where findings are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for CheckOutput {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        if matches!(call.chat.purpose, Purpose::Embed { .. }) {
            // Vectors are no text.
            return next.call(call).await;
        }
        let guards = self.guards(&call);
        if guards.is_empty() && self.moderation.is_none() {
            return next.call(call).await;
        }
        call.context.explain("check", || json!({"pii": self.pii.output_modes()}));
        let (whole, told) = (!call.chat.stream, told(self.metrics.clone(), call.trail().clone()));
        let judging = Judging::new(guards, whole, false, told);
        let Some(service) = &self.moderation else { return Ok(next.call(call).await?.rewrite(judging)) };
        // Nothing leaves before the service has spoken: a stream becomes a whole answer.
        let (head, done) = next.call(call.clone()).await?.rewrite(judging).collect().await?;
        Ok(Reply::whole(head, self.moderated(&call, service, done).await?))
    }
}

impl CheckOutput {
    /// The answer, or what stands in its place where the service objects to it.
    async fn moderated(&self, call: &Call, service: &Service, done: Completion) -> Result<Completion> {
        let texts =
            done.choices.iter().flat_map(|choice| [&*choice.text, &*choice.reasoning, &*choice.refusal]);
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        if texts.is_empty() {
            return Ok(done);
        }
        let flagged = match service.ask(&texts, call.context.time_left()).await {
            Ok(flagged) => flagged,
            Err(error) => {
                let refuses = service.refuses_without();
                let action = if refuses { "failed_block" } else { "failed_pass" };
                self.metrics.guards.with_label_values(&["moderation", "away", action]).inc();
                tracing::warn!(error = error.chain(), refuses, "the moderation service does not answer");
                return if refuses { Err(error) } else { Ok(done) };
            }
        };
        let Some(flagged) = flagged else { return Ok(done) };
        let blocks = flagged.mode == Mode::Block;
        let action = if blocks { "block" } else { "log" };
        self.metrics.guards.with_label_values(&["moderation", &flagged.category, action]).inc();
        call.trail().note(|notes| {
            notes.found("moderation", &flagged.category, action, 1);
            if blocks {
                notes.filtered = Some(flagged.category.clone());
            }
        });
        if !blocks {
            return Ok(done);
        }
        let mut filtered = Completion::of_text(FILTERED, done.usage);
        filtered.push(&Event::finish(Finish::Filtered));
        Ok(filtered)
    }

    /// The rules for the answer to this call.
    fn guards(&self, call: &Call) -> Arc<[Arc<dyn Guard>]> {
        let (settings, prompts) = &self.leak;
        let own = if call.chat.mode == chat::Mode::Chat { &Arc::default() } else { prompts.system() };
        let leak = leak::of(settings, &call.chat, own);
        let content = (!self.safety.is_empty())
            .then(|| Arc::new(safety::Answers(self.safety.clone())) as Arc<dyn Guard>);
        Answers::rules(&self.pii, &call.chat, call.trail()).chain(content).chain(leak).collect()
    }
}

/// Counts what is found, and notes it.
fn told(metrics: Arc<Metrics>, trail: Trail) -> Told {
    Box::new(move |guard: &dyn Guard, found: &Found| {
        metrics.guards.with_label_values(&[guard.name(), &found.what, found.act.name()]).inc();
        let filtered = found.act == Act::Block;
        trail.note(|notes| {
            notes.found(guard.name(), &found.what, found.act.name(), 1);
            if filtered {
                notes.filtered = Some(found.what.clone());
            }
        });
    })
}
