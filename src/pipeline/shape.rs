//! An answer that has to follow a JSON Schema does, or the caller hears that it does not.
//!
//! It is read to its end and judged before any of it is passed on, a stream
//! too: a repair must not follow what was sent already. Where it is wrong, the
//! model is told what is wrong and asked once more.
use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    call::{Call, Own},
    chat::{Choice, Completion, Finish, Format, Message, Role},
    error::{Error, Result},
    guard::schema::{self, Form, Settings},
    observe::Metrics,
    reply::{Head, Reply},
    stage::{Answer, Next, Stage},
};

/// What is found, in metrics and records.
const FORM: &str = "form";

/// The stage.
#[derive(Debug)]
pub struct KeepForm {
    /// What it does.
    pub settings: Settings,
    /// Where findings are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for KeepForm {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        let Some(Format::Schema { schema, .. }) = call.chat.format.as_ref().filter(|_| self.settings.check)
        else {
            return next.call(call).await;
        };
        // Boxed: few calls have a schema, and all of them would carry what this needs.
        let schema = Arc::new(schema.clone());
        Box::pin(async move {
            let (head, first) = next.call(call.clone()).await?.collect().await?;
            let (first, wrong) = judged(&schema, call.own.as_ref(), first).await?;
            let Some((answer, why)) = wrong else { return Ok(self.right(&call, "right", head, first)) };
            let enough = call.context.time_left().is_zero() || first.choices.len() > 1;
            if !self.settings.repair || enough {
                return Err(self.wrong(&call, why));
            }
            let text = format!(
                "Your answer does not follow the JSON schema that it has to follow: {why}. Answer again, with \
                 nothing but JSON that follows the schema."
            );
            call.chat_mut().messages.extend([Message::new(Role::Assistant, answer), Message::new(Role::User, text)]);
            let (head, mut second) = next.call(call.clone()).await?.collect().await?;
            // Both were paid for.
            second.usage = match (first.usage, second.usage) {
                (Some(one), Some(two)) => Some(one.plus(two)),
                (one, two) => one.or(two),
            };
            match judged(&schema, call.own.as_ref(), second).await? {
                (second, None) => Ok(self.right(&call, "repaired", head, second)),
                (_, Some((_, why))) => Err(self.wrong(&call, why)),
            }
        })
        .await
    }
}

impl KeepForm {
    fn right(&self, call: &Call, how: &'static str, head: Head, done: Completion) -> Reply {
        if how == "repaired" {
            self.metrics.guards.with_label_values(&["schema", "form", "repair"]).inc();
            call.trail().note(|notes| notes.found("schema", &FORM.into(), "repair", 1));
        }
        call.context.explain("shape", || json!({"answer": how}));
        Reply::whole(head, done)
    }

    fn wrong(&self, call: &Call, why: String) -> Error {
        self.metrics.guards.with_label_values(&["schema", "form", "block"]).inc();
        call.trail().note(|notes| {
            notes.found("schema", &FORM.into(), "block", 1);
            notes.filtered = Some("schema".into());
        });
        call.context.explain("shape", || json!({"answer": "wrong", "why": why}));
        Error::WrongForm(why)
    }
}

/// The answer with what stood around its JSON taken away, and the first choice that is wrong: its text, and why.
async fn judged(
    schema: &Arc<Value>,
    own: Option<&Own>,
    mut done: Completion,
) -> Result<(Completion, Option<(String, String)>)> {
    let (schema, own) = (schema.clone(), own.cloned());
    // Schemas and answers can be large, and come from elsewhere.
    let judge = move || {
        let mut wrong = None;
        for choice in done.choices.iter_mut().filter(|choice| is_whole(choice)) {
            match schema::judge(
                &schema,
                &choice.text,
                own.as_ref().map(|own| -> &dyn Fn(&str) -> String { &*own.0 }),
            ) {
                Form::Right => {}
                Form::Wrapped(json) => choice.text = json,
                Form::Wrong(why) => wrong = wrong.or_else(|| Some((choice.text.clone(), why))),
                Form::Unknown(why) => {
                    tracing::debug!(why, "a caller's schema cannot be used; the answer is not checked");
                }
            }
        }
        (done, wrong)
    };
    tokio::task::spawn_blocking(judge).await.map_err(Error::internal)
}

/// Whether a choice is an answer that can follow a schema: not a tool call, a refusal, or half of one.
fn is_whole(choice: &Choice) -> bool {
    let stopped = matches!(choice.finish, None | Some(Finish::Stop | Finish::StopSequence(_)));
    stopped && choice.tool_calls.is_empty() && choice.refusal.is_empty()
}
