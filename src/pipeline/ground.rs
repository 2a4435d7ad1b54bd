//! Answers rest on the documents: finds passages, fills the prompt, judges the answer.
//!
//! When nothing can be found the call goes on without: an answer from the
//! model alone is better than none.
use std::{collections::VecDeque, sync::Arc};

use serde_json::json;

use crate::{
    call::{Call, Trail},
    chat::{Event, Grounding, Message, Mode, Part, Passage, Purpose, Role},
    error::Result,
    knowledge::{Knowledge, SharedKnowledge, extract},
    prompt::Prompts,
    provider::extractive::MANY_PASSAGES,
    reply::{Flow, Origin, Reply, Rewrite},
    stage::{Answer, Next, Stage},
};

/// The most of an answer that is judged, in bytes.
const MOST_JUDGED: usize = 16 << 10;

/// The stage.
#[derive(Clone, Debug)]
pub struct Ground {
    knowledge: Arc<SharedKnowledge>,
    prompts: Arc<Prompts>,
    passages: usize,
}

impl Ground {
    /// Gives each call up to `passages` passages.
    pub fn new(knowledge: Arc<SharedKnowledge>, prompts: Arc<Prompts>, passages: usize) -> Self {
        Self { knowledge, prompts, passages }
    }
}

impl Stage for Ground {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        if call.chat.mode == Mode::Chat || call.chat.purpose != Purpose::Chat {
            call.context.explain("ground", || json!({"documents": "not asked for"}));
            return next.call(call).await;
        }
        let knowledge = self.knowledge.current();
        let found = find(&knowledge, &call, self.passages).await;
        let grounding = found.map(|(question, passages)| Arc::new(Grounding { question, passages }));
        prepare(&mut call, &self.prompts, &knowledge, grounding.as_ref());
        call.context.explain("ground", || match &grounding {
            None => json!({"documents": "nothing in them fits", "corpus": &**knowledge.version()}),
            Some(found) => json!({
                "documents": found.passages.iter().map(|passage| &passage.document).collect::<Vec<_>>(),
                "corpus": &**knowledge.version(),
                "prompt": &**self.prompts.version(),
                "context_chars": found.context_chars(),
            }),
        });
        let trail = call.trail().clone();
        let mut reply = next.call(call).await?;
        let Some(grounding) = grounding else { return Ok(reply) };
        reply.head.origin = Origin::Rag;
        Ok(reply.rewrite(Judge { knowledge, grounding, trail, text: String::new(), done: false }))
    }
}

/// The question and the passages that may answer it; nothing where there are none.
async fn find(knowledge: &Arc<Knowledge>, call: &Call, count: usize) -> Option<(String, Vec<Passage>)> {
    let question = call.chat.question();
    let picky = call.chat.mode == Mode::Auto;
    let many = knowledge.passage_count() > MANY_PASSAGES;
    let knowledge = knowledge.clone();
    let search = move || {
        let passages = knowledge.search(&question, count);
        let useful = !passages.is_empty()
            && (!picky || knowledge.extract(&question, &passages).confidence >= extract::THRESHOLD);
        useful.then_some((question, passages))
    };
    if !many {
        return search();
    }
    tokio::task::spawn_blocking(search).await.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "the search in the documents failed; the call goes on without");
        None
    })
}

/// Puts the prompt around the question and notes what was used.
fn prepare(call: &mut Call, prompts: &Prompts, knowledge: &Knowledge, grounding: Option<&Arc<Grounding>>) {
    let trail = call.trail().clone();
    let chat = call.chat_mut();
    let mut used = false;
    if let Some(found) = grounding {
        chat.grounding = Some(found.clone());
        match prompts.rag(&found.question, &found.passages) {
            Ok(text) => {
                used = true;
                ask(&mut chat.messages, text);
            }
            Err(error) => {
                tracing::warn!(error = %error, "the prompt cannot be filled; the question goes on as it is");
            }
        }
    }
    if !prompts.system().is_empty() {
        used = true;
        chat.messages.insert(0, Message::new(Role::System, &**prompts.system()));
    }
    trail.note(|notes| {
        if used {
            notes.prompt_version = Some(prompts.version().clone());
        }
        if let Some(found) = grounding {
            notes.corpus_version = Some(knowledge.version().clone());
            notes.context_used = found.context_chars();
            notes.grounding = Some(found.clone());
        }
    });
}

/// Puts `text` in the place of the last question's words; its pictures stay.
fn ask(messages: &mut [Message], text: String) {
    let Some(last) = messages.iter_mut().rev().find(|message| message.role == Role::User) else { return };
    last.parts.retain(|part| !matches!(part, Part::Text { .. }));
    let words = Message::new(Role::User, text).parts;
    last.parts.splice(0..0, words);
}

/// Reads an answer as it goes by and says at its end what supports it.
struct Judge {
    knowledge: Arc<Knowledge>,
    grounding: Arc<Grounding>,
    trail: Trail,
    text: String,
    done: bool,
}

impl Judge {
    fn judge(&mut self, out: &mut VecDeque<Event>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let (citations, confidence) = self.knowledge.ground(&self.text, &self.grounding.passages);
        self.trail.note(|notes| notes.confidence = Some(confidence));
        out.push_back(Event::Grounded { citations: citations.into(), confidence });
    }
}

impl Rewrite for Judge {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        match &event {
            Event::Text { choice: 0, text } if self.text.len() < MOST_JUDGED => self.text.push_str(text),
            Event::Grounded { confidence, .. } => {
                self.done = true;
                self.trail.note(|notes| notes.confidence = Some(*confidence));
            }
            // Before the end is told, so that nobody stops reading too early.
            Event::Finish { choice: 0, .. } => self.judge(out),
            _ => {}
        }
        out.push_back(event);
        Flow::Continue
    }

    fn end(&mut self, out: &mut VecDeque<Event>) {
        self.judge(out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;
    use tower::{Layer, ServiceExt};

    use super::*;
    use crate::{
        call::{Caller, Context},
        chat::{Completion, Request},
        reply::Head,
        stage::stage,
    };

    fn call(mode: Mode, question: &str) -> Call {
        let context = Context::new("1", "/query", Caller::default(), Duration::from_secs(5));
        let messages = vec![Message::new(Role::User, question)];
        Call::new(context, Request { messages, mode, ..Request::default() })
    }

    /// Asks through the stage a model that always says `says`; gives back what it was asked.
    async fn through(call: Call, says: &'static str) -> (Arc<Request>, Head, Completion) {
        let seen = Arc::new(Mutex::new(None));
        let kept = seen.clone();
        let model = move |call: Call| {
            *kept.lock() = Some(call.chat.clone());
            async move { Ok(Reply::whole(Head::default(), Completion::of_text(says, None))) }
        };
        let knowledge = Arc::new(SharedKnowledge::new(Knowledge::handbook(800)));
        let prompts = Arc::new(Prompts::embedded().unwrap());
        let service = stage(Ground::new(knowledge, prompts, 3)).layer(model);
        let (head, done) = service.oneshot(call).await.unwrap().collect().await.unwrap();
        let asked = seen.lock().take().unwrap();
        (asked, head, done)
    }

    const QUESTION: &str = "How do I limit requests per user?";

    #[tokio::test]
    async fn a_model_gets_the_passages_and_its_answer_is_judged() {
        let call = call(Mode::Rag, QUESTION);
        let trail = call.trail().clone();
        let says =
            "Set limits.requests_per_minute.user to the number of requests per user [1]. Elephants can fly.";
        let (asked, head, done) = through(call, says).await;
        assert_eq!(asked.messages[0].role, Role::System);
        let prompt = asked.question();
        assert!(
            prompt.contains("[3]") && prompt.ends_with(&format!("Question: {QUESTION}\nAnswer:")),
            "{prompt}"
        );
        let (citations, confidence) = done.grounded.unwrap();
        assert!((confidence - 0.5).abs() < 0.01, "{confidence}");
        assert_eq!((&*citations[0].document, head.origin), ("limits.md", Origin::Rag));
        let notes = trail.notes();
        assert_eq!((notes.prompt_version.as_deref(), notes.confidence), (Some("v1"), Some(confidence)));
        assert!(notes.corpus_version.is_some() && notes.context_used > 100);
    }

    #[tokio::test]
    async fn a_question_beyond_the_documents_goes_on_without_them_in_auto_mode() {
        let (asked, head, done) = through(call(Mode::Auto, "What is the capital of France?"), "Paris.").await;
        assert!(asked.grounding.is_none() && done.grounded.is_none());
        assert_eq!(
            (asked.question().as_str(), head.origin),
            ("What is the capital of France?", Origin::Model)
        );
        let (asked, ..) = through(call(Mode::Auto, QUESTION), "").await;
        assert!(asked.grounding.is_some());
    }

    #[tokio::test]
    async fn a_plain_chat_is_left_alone() {
        let call = call(Mode::Chat, QUESTION);
        let before = call.chat.clone();
        let (asked, ..) = through(call, "x").await;
        assert!(Arc::ptr_eq(&before, &asked));
    }
}
