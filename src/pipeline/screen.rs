//! Checks and cleans the question: its size, its Unicode form, its control
//! characters. Puts placeholders in the place of personal data and secrets, and
//! the caller's own values back into the answer.
//! Before any of that, guards judge what is asked.
use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use serde_json::json;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::settings::{ControlRule, Input as Settings};
use crate::{
    call::{Call, Own},
    chat::{Event, Format, Message, Mode as Documents, Part, Purpose},
    error::{Error, Result},
    guard::{
        Inspector,
        hold::{Guard, Judging},
        pii::{Mode, Numbering, Pii, Restore, Survey, Tags, Vault},
    },
    knowledge::SharedKnowledge,
    observe::Metrics,
    prompt::Prompts,
    reply::{Reply, Rewrite},
    session::{Name, Numbers},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Clone, Debug)]
pub struct CheckInput {
    /// What it allows.
    pub settings: Settings,
    /// Personal data and secrets.
    pub pii: Arc<Pii>,
    /// Where findings are counted.
    pub metrics: Arc<Metrics>,
    /// Judges what is asked.
    pub inspector: Arc<Inspector>,
    /// The documents and the prompt that may come to the question.
    pub knowledge: Arc<SharedKnowledge>,
    /// See `knowledge`.
    pub prompts: Arc<Prompts>,
    /// What tells providers whose questions they are where the person's name is masked.
    pub names: Tags,
    /// What the numbers of placeholders in conversations are made by; none where there are no conversations.
    pub conversations: Option<Numbers>,
}

/// A conversation longer than this is searched beside the threads that serve, in bytes.
const LARGE: usize = 128 << 10;

impl Stage for CheckInput {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        self.sizes(&call.chat.messages)?;
        // As it came: what hides text must not be taken out before somebody looked.
        self.inspector.judge(&call).await?;
        let unclean = |text: &str| cleaned(&self.settings, text).is_some();
        // Nearly always there is nothing to do: the messages are copied only if there is.
        if call.chat.messages.iter().flat_map(|message| &message.parts).any(|part| any_text(part, &unclean)) {
            if self.settings.control_characters == ControlRule::Block
                && call.chat.messages.iter().flat_map(|m| &m.parts).any(|part| any_text(part, &has_control))
            {
                return Err(Error::Blocked { guard: "control_characters" });
            }
            for part in call.chat_mut().messages.iter_mut().flat_map(|message| &mut message.parts) {
                each_text(part, &mut |text| {
                    if let Some(clean) = cleaned(&self.settings, text) {
                        *text = clean;
                    }
                });
            }
            call.trail().note(|notes| notes.cleaned = true);
        }
        let vault = self.mask(&mut call).await?;
        call.context.explain("screen", || {
            json!({
                "pii": self.pii.input_modes(),
                "cleaned": call.trail().notes().cleaned,
                "control_characters": self.settings.control_characters,
                "normalize": self.settings.normalize,
            })
        });
        self.inspector.ask(&call).await?;
        let Some(vault) = vault.filter(|_| call.chat.purpose == Purpose::Chat) else {
            return next.call(call).await.map_err(|error| self.shown(error));
        };
        let json = matches!(call.chat.format, Some(Format::Json | Format::Schema { .. }));
        let restore: Arc<[Arc<dyn Guard>]> = Arc::new([Arc::new(Restore::new(vault))]);
        if matches!(call.chat.format, Some(Format::Schema { .. })) {
            let restore = restore.clone();
            call.own = Some(Own(Arc::new(move |text| restored(&restore, text))));
        }
        let reply = next.call(call).await.map_err(|error| self.shown(error))?;
        // The output's rules may have held back what follows a piece for long.
        Ok(reply.rewrite(Judging::new(restore, false, json, Box::new(|_, _| {})).each_by_itself()))
    }
}

/// A JSON text with the caller's own values in it.
fn restored(restore: &Arc<[Arc<dyn Guard>]>, text: &str) -> String {
    let mut judging = Judging::new(restore.clone(), true, true, Box::new(|_, _| {}));
    let mut events = VecDeque::new();
    judging.event(Event::text(text), &mut events);
    judging.end(&mut events);
    let text = |event| if let Event::Text { text, .. } = event { text } else { String::new() };
    events.into_iter().map(text).collect()
}

impl CheckInput {
    /// An error without what is personal: the name of a model that is none may be anything.
    fn shown(&self, error: Error) -> Error {
        match error {
            Error::UnknownModel(name) => Error::UnknownModel(self.pii.masker().mask(&name).into_owned()),
            error => error,
        }
    }

    /// Puts placeholders in the place of personal data and secrets. Nothing where there are none.
    async fn mask(&self, call: &mut Call) -> Result<Option<Arc<Vault>>> {
        let bytes: usize = call
            .chat
            .messages
            .iter()
            .flat_map(|message| &message.parts)
            .map(|part| size(part, &str::len))
            .sum();
        if bytes <= LARGE {
            return self.masked(call);
        }
        let (stage, mut other) = (self.clone(), call.clone());
        let masked =
            tokio::task::spawn_blocking(move || stage.masked(&mut other).map(|vault| (vault, other)));
        let (vault, masked) = masked.await.map_err(Error::internal)??;
        *call = masked;
        Ok(vault)
    }

    fn masked(&self, call: &mut Call) -> Result<Option<Arc<Vault>>> {
        let survey = Survey::of(&self.pii, &call.chat);
        let mut blocked = false;
        for (kind, count) in survey.counts() {
            let (mode, name) = (self.pii.mode(kind), self.pii.label(kind));
            let action = mode.name();
            self.metrics.guards.with_label_values(&["pii", &name, action]).inc_by(u64::from(count));
            call.trail().note(|notes| notes.found("pii", &name, action, count));
            blocked |= mode == Mode::Block;
        }
        if blocked {
            return Err(Error::Blocked { guard: "pii" });
        }
        if !survey.masks() {
            return Ok(None);
        }
        let documents = (call.chat.mode != Documents::Chat).then(|| self.knowledge.current());
        let context = &call.context;
        let session = context.session.as_deref().filter(|_| context.remember);
        let key = self.conversations.as_ref().zip(session);
        let numbering = Numbering {
            prompts: if documents.is_some() { &[self.prompts.system()] } else { &[] },
            taken: &|label| documents.as_ref().map(|known| known.marks(label).to_vec()).unwrap_or_default(),
            key: key.map(|(numbers, session)| numbers.of(&Name::new(&context.caller, session))),
        };
        let user = call.chat.user.clone();
        let vault = survey.mask(Arc::make_mut(&mut call.chat), &numbering).map_err(Error::internal)?;
        if let Some(user) = user.filter(|user| call.chat.user.as_ref() != Some(user)) {
            // A provider that shuts somebody out is not to shut out all of them.
            let named = self.pii.masker().name(&user, call.context.caller.tenant(), &self.names).into_owned();
            call.chat_mut().user = Some(named);
        }
        Ok(Some(Arc::new(vault)))
    }

    fn sizes(&self, messages: &[Message]) -> Result<()> {
        if messages.len() > self.settings.max_messages {
            let most = self.settings.max_messages;
            return Err(Error::invalid("messages", format!("there are more than {most} messages")));
        }
        // Bytes are never fewer than characters: most conversations need no count.
        let bytes: usize =
            messages.iter().flat_map(|message| &message.parts).map(|part| size(part, &str::len)).sum();
        if bytes > self.settings.max_chars {
            let count = |text: &str| text.chars().count();
            let chars: usize =
                messages.iter().flat_map(|message| &message.parts).map(|part| size(part, &count)).sum();
            if chars > self.settings.max_chars {
                let most = self.settings.max_chars;
                return Err(Error::invalid(
                    "messages",
                    format!("the conversation is longer than {most} characters"),
                ));
            }
        }
        Ok(())
    }
}

/// The clean form of a text; `None` where it is clean.
fn cleaned(settings: &Settings, text: &str) -> Option<String> {
    let strip = settings.control_characters != ControlRule::Off && has_control(text);
    let denormal = settings.normalize && !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes;
    if !strip && !denormal {
        return None;
    }
    let mut clean = Cow::Borrowed(text);
    if strip {
        clean = Cow::Owned(clean.chars().filter(|c| !is_unwanted(*c)).collect());
    }
    if denormal {
        clean = Cow::Owned(clean.nfc().collect());
    }
    (clean != text).then(|| clean.into_owned())
}

fn has_control(text: &str) -> bool {
    // ASCII without control characters is the common case. Every byte is looked at:
    // without a way out of the loop it is done many bytes at a time.
    let odd = |b: u8| {
        u8::from(!(0x20..0x7f).contains(&b))
            & u8::from(b != b'\n')
            & u8::from(b != b'\r')
            & u8::from(b != b'\t')
    };
    text.bytes().fold(0, |found, b| found | odd(b)) != 0 && text.chars().any(is_unwanted)
}

/// Control characters besides white space, and characters that hide or turn
/// text around: bidirectional overrides, tag characters, the byte order mark.
fn is_unwanted(c: char) -> bool {
    match c {
        '\n' | '\r' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

fn any_text(part: &Part, test: &impl Fn(&str) -> bool) -> bool {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => test(text),
        Part::ToolResult { parts, .. } => parts.iter().any(|part| any_text(part, test)),
        // Escapes keep the JSON of arguments free of control characters; thoughts are signed to the letter.
        Part::ToolCall(_) | Part::Reasoning { .. } => false,
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => false,
    }
}

fn each_text(part: &mut Part, change: &mut impl FnMut(&mut String)) {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => change(text),
        Part::ToolResult { parts, .. } => parts.iter_mut().for_each(|part| each_text(part, change)),
        Part::ToolCall(_) | Part::Reasoning { .. } => {}
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => {}
    }
}

fn size(part: &Part, measure: &impl Fn(&str) -> usize) -> usize {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => measure(text),
        Part::ToolResult { parts, .. } => parts.iter().map(|part| size(part, measure)).sum(),
        Part::ToolCall(call) => measure(&call.arguments),
        Part::Reasoning { text, .. } => measure(text),
        // Bounded by the size of the body.
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> Option<String> {
        cleaned(&Settings::default(), text)
    }

    #[test]
    fn clean_text_is_left_alone() {
        for text in ["", "plain", "two\nlines\tand a tab", "naïve — 東京 🙂 👨‍👩‍👧"] {
            assert_eq!(clean(text), None, "{text}");
        }
    }

    #[test]
    fn hidden_and_control_characters_go_and_accents_are_composed() {
        assert_eq!(clean("a\u{0}b\u{202e}c\u{e0041}").as_deref(), Some("abc"));
        assert_eq!(clean("e\u{301}").as_deref(), Some("é"));
    }
}
