//! Sums up the older turns of a conversation that is over its bounds.
//!
//! That happens after the reply, by one gateway at a time, as a call of the
//! same caller through the whole pipeline: it is counted, paid for and
//! recorded as any other. Until it has gone well the turns stay, and the next
//! turn asks again; twice over the bounds the oldest are dropped.
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;
use uuid::Uuid;

use super::{Added, Failed, History, Name, Sessions, Settings};
use crate::{
    call::{Call, Caller, Context, Priority},
    caller::Rights,
    chat::{Family, Finish, Message, Mode, Request, Role},
    prompt::Prompts,
};

/// What the call is known as in metrics and records.
pub const ENDPOINT: &str = "session summary";
/// How long it may take. After that another gateway may try.
pub(super) const CLAIM: Duration = Duration::from_secs(60);
/// Summaries that are asked for at the same time.
const AT_ONCE: usize = 4;

/// A conversation that is to be summed up, if it still has to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which.
    pub name: Name,
    /// Its name for the caller.
    pub session: Arc<str>,
    /// Whose it is.
    pub caller: Caller,
    /// The bounds.
    pub settings: Arc<Settings>,
    /// How it is asked.
    pub prompts: Arc<Prompts>,
}

impl Sessions {
    /// Has a conversation summed up if what was `added` takes it over its bounds and a model is there for it.
    pub fn grown(&self, added: Added, wanted: impl FnOnce() -> Wanted, settings: &Settings) {
        let is_over =
            added.tokens > i64::from(settings.max_tokens) || added.turns > i64::from(settings.max_turns);
        if is_over && settings.summary_model.is_some() {
            self.sum_up(wanted());
        }
    }
}

/// Sums up what is asked for, until the sessions are gone.
pub(super) async fn run(sessions: Weak<Sessions>, mut wanted: mpsc::Receiver<Wanted>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(next) = wanted.recv().await {
        let Some(sessions) = sessions.upgrade() else { return };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (these, tasks) = (sessions.clone(), sessions.tasks.clone());
        tasks.spawn(async move {
            let outcome = match summed_up(&these, &next).await {
                Ok(Some(true)) => "summarised",
                Ok(Some(false)) => "summary_failed",
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "a conversation was not summed up");
                    "summary_failed"
                }
            };
            these.count(outcome);
            drop(place);
        });
    }
}

/// Tells whether it went well; `None`: there was nothing to do, or another gateway does it.
async fn summed_up(sessions: &Sessions, wanted: &Wanted) -> Result<Option<bool>, Failed> {
    let Some(history) = sessions.load(&wanted.name).await? else { return Ok(None) };
    let (folded, through) = (history.folded, through(&history, &wanted.settings));
    let Some(through) = through else { return Ok(None) };
    if !sessions.claim(&wanted.name, folded).await? {
        return Ok(None);
    }
    let summary = tokio::time::timeout(CLAIM, asked(sessions, wanted, &history, through)).await;
    let summary = summary.unwrap_or_else(|_| Err("it took too long".into()));
    match summary {
        Ok(summary) => {
            Ok(sessions.fold(&wanted.name, folded, Some((through, &summary))).await?.then_some(true))
        }
        Err(why) => {
            tracing::warn!(why, "a conversation was not summed up; its next turn asks again");
            sessions.fold(&wanted.name, folded, None).await?;
            Ok(Some(false))
        }
    }
}

/// The last turn that is to be summed up; `None` where nothing is over the bounds.
fn through(history: &History, settings: &Settings) -> Option<i64> {
    let tokens: i64 = history.turns.iter().map(|turn| turn.tokens).sum();
    let is_over =
        tokens > i64::from(settings.max_tokens) || history.turns.len() > settings.max_turns as usize;
    let keep = (settings.keep_turns as usize).min(settings.max_turns as usize);
    // So few that are so long that they do not fit: all but the last.
    let keep = if history.turns.len() > keep { keep } else { 1 };
    let last = history.turns.iter().rev().nth(keep)?;
    is_over.then_some(last.number)
}

async fn asked(
    sessions: &Sessions,
    wanted: &Wanted,
    history: &History,
    through: i64,
) -> Result<String, String> {
    let Some(pipeline) = sessions.pipeline.load_full() else { return Err("there is no pipeline yet".into()) };
    let turns = history.turns.iter().take_while(|turn| turn.number <= through);
    let turns: Vec<(&str, &str)> = turns.map(|turn| (&*turn.question, &*turn.answer)).collect();
    let Wanted { session, caller, settings, prompts, .. } = wanted;
    let prompt = prompts.summary(history.summary.as_deref(), &turns)?;
    let most = settings.max_tokens / 4;
    let chat = Request {
        model: settings.summary_model.clone().unwrap_or_default(),
        messages: vec![Message::new(Role::User, prompt)],
        mode: Mode::Chat,
        max_tokens: Some(most),
        temperature: Some(0.0),
        user: caller.user.as_deref().map(str::to_owned),
        family: Family::Native,
        ..Request::default()
    };
    // Which model sums up is the operator's choice, not the key's.
    let rights = Rights { models: None, endpoints: None, ..(*caller.rights).clone() };
    let caller = Caller { rights: Arc::new(rights), ..caller.clone() };
    let id = Uuid::now_v7().hyphenated().to_string();
    let context = Context {
        session: Some(session.clone()),
        priority: Priority::Low,
        ..Context::new(id, ENDPOINT, caller, CLAIM)
    };
    let call = Call::new(context, chat);
    let trail = call.trail().clone();
    let reply = (*pipeline).clone().oneshot(call).await.map_err(|error| error.to_string())?;
    let (_, done) = reply.collect().await.map_err(|error| error.to_string())?;
    let ended = done.choices.first().and_then(|choice| choice.finish.clone());
    if !matches!(ended, Some(Finish::Stop | Finish::StopSequence(_) | Finish::Length))
        || trail.notes().filtered.is_some()
    {
        return Err("the model did not answer to the end".into());
    }
    let summary = done.text().trim();
    // A model may not keep to its bound.
    let summary = super::shortened(summary.to_owned(), most as usize * 4);
    if summary.is_empty() { Err("the model said nothing".into()) } else { Ok(summary) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Turn;

    #[test]
    fn the_last_turns_stay_word_for_word() {
        let turn = |number, tokens| Turn {
            number,
            at: 0,
            request: String::new(),
            question: String::new(),
            answer: String::new(),
            tokens,
        };
        let settings = Settings { max_tokens: 100, max_turns: 5, keep_turns: 2, ..Settings::default() };
        let of = |tokens: &[i64]| {
            let turns = tokens.iter().zip(11..).map(|(tokens, number)| turn(number, *tokens)).collect();
            through(&History { folded: 10, turns, ..History::default() }, &settings)
        };
        assert_eq!(of(&[30, 30, 40]), None);
        assert_eq!(of(&[30, 30, 41]), Some(11));
        assert_eq!(of(&[1; 6]), Some(14));
        assert_eq!(of(&[60, 60]), Some(11), "the last alone");
        assert_eq!(of(&[160]), None);
    }
}
