//! The embedded default: answers in the documents' own sentences, with no model and no network.
use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture, stream};

use super::{Provider, foreign, hashing};
use crate::{
    call::{Call, Target},
    chat::{Event, Finish, Format, Passage, Purpose, Request, Usage},
    error::{Error, Result},
    knowledge::{Knowledge, SharedKnowledge, extract::Extract, words},
    reply::{Head, Origin, Reply},
};

/// Passages to look through where nobody has looked before.
const PASSAGES: usize = 5;
/// Words in a piece of a streamed answer.
const PIECE_WORDS: usize = 4;
/// A longer question is data; its beginning says what is asked.
const LONGEST_QUESTION: usize = 8 << 10;
/// From so many passages on, a search may take more than half a millisecond.
pub(crate) const MANY_PASSAGES: usize = 4000;
/// The most answers to one question: they are all the same.
const MOST_CHOICES: u32 = 16;

/// Answers from the documents.
pub struct Extractive {
    name: String,
    knowledge: Arc<SharedKnowledge>,
}

impl std::fmt::Debug for Extractive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extractive").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Extractive {
    /// The provider of this name, over these documents.
    pub fn new(name: impl Into<String>, knowledge: Arc<SharedKnowledge>) -> Self {
        Self { name: name.into(), knowledge }
    }
}

impl Provider for Extractive {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, call: &'a Call, target: &'a Target) -> BoxFuture<'a, Result<Reply>> {
        async move {
            let chat = call.chat.clone();
            foreign::text_alone(&chat)?;
            if let Purpose::Embed { dimensions } = chat.purpose {
                return embed(chat, dimensions, target).await;
            }
            if let Some(Format::Json | Format::Schema { .. }) = chat.format {
                let what = "it answers in the documents' words, not in JSON".into();
                return Err(Error::Unsupported { model: chat.model.clone(), what });
            }
            let knowledge = self.knowledge.current();
            let (asked, version) = (chat.clone(), knowledge.version().clone());
            let found = if knowledge.passage_count() > MANY_PASSAGES {
                let work = move || look(&knowledge, &asked);
                tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
            } else {
                look(&knowledge, &asked)
            };
            call.trail().note(|notes| {
                notes.confidence = Some(found.confidence);
                notes.corpus_version.get_or_insert(version);
            });
            let head = Head { model: target.model.clone(), id: None, origin: Origin::Rag };
            Ok(Reply::new(head, stream::iter(events(&chat, found).into_iter().map(Ok))))
        }
        .boxed()
    }
}

/// Finds the answer in what was found before, else in all documents.
fn look(knowledge: &Knowledge, chat: &Request) -> Extract {
    let question = |text: &str| words::beginning(text, LONGEST_QUESTION).to_owned();
    if let Some(found) = &chat.grounding {
        return knowledge.extract(&question(&found.question), &found.passages);
    }
    let question = question(&chat.question());
    let passages: Vec<Passage> = knowledge.search(&question, PASSAGES);
    knowledge.extract(&question, &passages)
}

/// The answer as events: in pieces of a few words for a reader of streams, else whole.
fn events(chat: &Request, found: Extract) -> Vec<Event> {
    let mut text = found.text();
    let mut reason = Finish::Stop;
    let stops = chat.stop.iter().filter(|stop| !stop.is_empty());
    if let Some((at, stop)) = stops.filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min() {
        text.truncate(at);
        reason = Finish::StopSequence(Some(stop.clone()));
    }
    if let Some(most) = chat.max_tokens {
        let room = words::beginning(&text, (most as usize).saturating_mul(4)).len();
        if room < text.len() {
            text.truncate(room);
            reason = Finish::Length;
        }
    }
    let mut events = Vec::new();
    let count = chat.choice_count().min(MOST_CHOICES);
    for choice in 0..count {
        if chat.stream {
            events.extend(pieces(&text).map(|text| Event::Text { choice, text: text.to_owned() }));
        } else {
            events.push(Event::Text { choice, text: text.clone() });
        }
    }
    let (citations, confidence) = (found.citations.into(), round(found.confidence));
    events.push(Event::Grounded { citations, confidence });
    let input = chat.messages.iter().map(|message| tokens(&message.text())).sum();
    let output = tokens(&text) * u64::from(count);
    events.push(Event::Usage(Usage { input, output, estimated: true, ..Usage::default() }));
    events.extend((0..count).map(|choice| Event::Finish { choice, reason: reason.clone() }));
    events
}

/// The text in pieces of a few words, which joined are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.match_indices(char::is_whitespace).map(|(at, space)| at + space.len());
        let end = ends.skip(PIECE_WORDS - 1).find(|end| !rest[*end..].starts_with(char::is_whitespace));
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

async fn embed(chat: Arc<Request>, dimensions: Option<u32>, target: &Target) -> Result<Reply> {
    let dimensions = dimensions.map_or(hashing::DIMENSIONS, |asked| asked as usize);
    if !(1..=hashing::MOST_DIMENSIONS).contains(&dimensions) {
        let message = format!("`dimensions` is from 1 to {}", hashing::MOST_DIMENSIONS);
        return Err(Error::invalid("dimensions", message));
    }
    let work = move || {
        let texts = chat.messages.iter().map(crate::chat::Message::text).enumerate();
        let mut input = 0;
        let mut events: Vec<_> = texts
            .map(|(index, text)| {
                input += tokens(&text);
                Event::Embedding { index: index as u32, vector: hashing::embed(&text, dimensions) }
            })
            .collect();
        events.push(Event::Usage(Usage { input, estimated: true, ..Usage::default() }));
        events.push(Event::finish(Finish::Stop));
        events
    };
    // Many or long inputs take milliseconds.
    let events = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
    let head = Head { model: target.model.clone(), ..Head::default() };
    Ok(Reply::new(head, stream::iter(events.into_iter().map(Ok))))
}

/// About how many tokens a text has: four characters make one.
pub(crate) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

fn round(confidence: f64) -> f64 {
    (confidence * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        call::{Caller, Context},
        chat::{Completion, Grounding, Message, Role},
        knowledge::chunk::Document,
    };

    fn call(chat: Request) -> Call {
        let context = Context::new("1", "/query", Caller::default(), Duration::from_secs(5));
        Call::new(context, chat)
    }

    fn ask(question: &str) -> Request {
        Request { messages: vec![Message::new(Role::User, question)], ..Request::default() }
    }

    async fn answer(call: &Call) -> Result<(Head, Completion)> {
        let provider =
            Extractive::new("extractive", Arc::new(SharedKnowledge::new(Knowledge::handbook(800))));
        let target = Target {
            provider: "extractive".into(),
            model: "extractive".into(),
            version: "extractive".into(),
            label: "extractive".into(),
            slot: 0,
        };
        provider.answer(call, &target).await?.collect().await
    }

    #[tokio::test]
    async fn a_question_is_answered_with_its_sources_and_noted() {
        let call = call(ask("How do I limit requests per user?"));
        let (head, done) = answer(&call).await.unwrap();
        let (citations, confidence) = done.grounded.clone().unwrap();
        assert!(done.text().contains("limits.requests_per_minute.user"));
        assert_eq!((&*citations[0].document, head.origin), ("limits.md", Origin::Rag));
        assert!(confidence > 0.5);
        assert_eq!(done.choices[0].finish, Some(Finish::Stop));
        let notes = call.trail().notes();
        assert!(notes.confidence.is_some() && notes.corpus_version.is_some());
    }

    #[tokio::test]
    async fn what_the_documents_do_not_say_is_not_made_up() {
        let (_, done) = answer(&call(ask("What is the capital of France?"))).await.unwrap();
        assert_eq!(done.text(), crate::knowledge::extract::UNKNOWN);
        let (citations, confidence) = done.grounded.unwrap();
        assert!(citations.is_empty() && confidence < 0.2);
    }

    #[tokio::test]
    async fn a_stream_comes_in_pieces_that_make_the_whole() {
        let question = "How do I create an API key?";
        let (_, whole) = answer(&call(ask(question))).await.unwrap();
        let streamed = Request { stream: true, ..ask(question) };
        let knowledge = Knowledge::handbook(800);
        let texts =
            events(&streamed, look(&knowledge, &streamed)).into_iter().filter(Event::is_content).count();
        assert!(texts > 5);
        let (_, streamed) = answer(&call(streamed)).await.unwrap();
        assert_eq!(streamed, whole);
    }

    #[tokio::test]
    async fn what_the_stage_has_found_is_used_and_the_prompt_is_not_the_question() {
        let document = Document { name: "zoo.md".into(), text: "Elephants eat hay and fruit.".into() };
        let passages = Knowledge::of(&[document], 800).search("elephants eat", 3);
        let grounding = Grounding { question: "What do you eat with fruit?".into(), passages };
        let chat = Request { grounding: Some(Arc::new(grounding)), ..ask("Context: … Question: …") };
        let found = look(&Knowledge::handbook(800), &chat);
        assert!(found.citations.iter().all(|c| &*c.document == "zoo.md"));
    }

    #[tokio::test]
    async fn bounds_and_forms_are_kept_to() {
        let short = Request { max_tokens: Some(5), ..ask("How do I create an API key?") };
        let (_, done) = answer(&call(short)).await.unwrap();
        assert_eq!(done.choices[0].finish, Some(Finish::Length));
        assert!(done.text().len() <= 20);
        let stopped = Request { stop: vec![" key".into()], ..ask("How do I create an API key?") };
        let (_, done) = answer(&call(stopped)).await.unwrap();
        assert!(!done.text().contains(" key"));
        let json = Request { format: Some(Format::Json), ..ask("x") };
        assert!(matches!(answer(&call(json)).await, Err(Error::Unsupported { .. })));
    }

    #[tokio::test]
    async fn texts_become_vectors_in_order() {
        let mut chat = Request { purpose: Purpose::Embed { dimensions: Some(64) }, ..ask("one") };
        chat.messages.push(Message::new(Role::User, "two"));
        let (_, done) = answer(&call(chat.clone())).await.unwrap();
        assert_eq!(done.embeddings, [hashing::embed("one", 64), hashing::embed("two", 64)]);
        chat.purpose = Purpose::Embed { dimensions: Some(0) };
        assert!(matches!(answer(&call(chat)).await, Err(Error::Invalid(_))));
    }

    #[test]
    fn pieces_joined_are_the_text() {
        for text in ["", " ", "a", "a b c d e f", "a  b\n\nc é d e ", "\n\n```\nx y z\n```"] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
    }
}
