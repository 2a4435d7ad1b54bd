use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    audit::Answer,
    call::{Caller, Context},
};
use proptest::prelude::*;
use serde_json::Value;

/// Stands in for what masks: a word that must not be in a record.
struct Words;

impl Mask for Words {
    fn mask<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        if text.contains("secret") { text.replace("secret", "[S]").into() } else { text.into() }
    }
}

fn record(user: &str, question: &str, answer: &str, error: Option<String>) -> Record {
    let caller = Caller { user: Some(user.into()), ..Caller::named("key", "tenant") };
    let context = Context::new("r", "/query", caller, Duration::ZERO);
    let context = Context { session: Some(user.into()), ..context };
    let messages = vec![Message::new(Role::System, "be kind"), Message::new(Role::User, question)];
    Record {
        at: SystemTime::UNIX_EPOCH,
        took: Duration::from_millis(3),
        first_token: Some(Duration::from_millis(2)),
        chat: Some(Arc::new(Request { model: "m".into(), messages, ..Request::default() })),
        error,
        answer: Some(Answer { text: answer.into(), length: answer.len() }),
        ..Record::new(Arc::new(context))
    }
}

fn spelled(record: &Record, content: bool, most: usize, log: Option<bool>) -> Spelled {
    let mut spelled = Spelled::default();
    let how = How { content, most, log };
    record.context.trail.note(|notes| spelled.spell(record, notes, how, &mut Words));
    spelled
}

fn whole(spelled: &Spelled) -> Value {
    serde_json::from_slice(&[&spelled.meta[..], &spelled.content, b"}"].concat()).unwrap()
}

proptest! {
    #[test]
    fn whatever_is_said_the_record_and_the_log_are_json(
        user in any::<String>(),
        question in any::<String>(),
        answer in any::<String>(),
        error in prop::option::of(any::<String>()),
        content in any::<bool>(),
    ) {
        let record = record(&user, &question, &answer, error.clone());
        let spelled = spelled(&record, content, 1 << 20, Some(true));
        let json = whole(&spelled);
        prop_assert_eq!(json["user_id"].as_str(), Some(&*user));
        prop_assert_eq!(json["error"].as_str(), error.as_deref());
        if content {
            prop_assert_eq!(json["question"].as_str(), Some(&*format!("be kind\n{question}")));
            prop_assert_eq!(json["answer"].as_str(), Some(&*answer));
        }
        let log: Value = serde_json::from_slice(&spelled.log).unwrap();
        prop_assert!(log["question"].is_null() && log["answer"].is_null());
        prop_assert_eq!(&log["user_id"], &json["user_id"]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters(text in ".{0,200}", most in 0_usize..50) {
        let kept = cut(Cow::Borrowed(&text), most);
        if text.len() <= most {
            prop_assert_eq!(&*kept, &*text);
        } else {
            let rest = kept.strip_prefix(&*cut_mark(text.len())).unwrap();
            prop_assert!(rest.len() <= most && text.ends_with(rest));
        }
    }
}

#[test]
fn what_is_personal_is_masked_wherever_it_stands() {
    let record = record("secret@x", "my secret", "your secret", Some("it said secret".into()));
    for log in [Some(true), Some(false)] {
        let spelled = spelled(&record, true, 1000, log);
        for part in [&spelled.meta, &spelled.content, &spelled.log] {
            let text = String::from_utf8_lossy(part);
            assert!(!text.contains("secret"), "{text}");
        }
        assert!(whole(&spelled)["question"].as_str().unwrap().contains("[S]"));
    }
}

#[test]
fn what_can_be_erased_is_not_in_what_stays() {
    let record = record("anna", "a question", "an answer", Some("an error".into()));
    let spelled = spelled(&record, true, 1000, None);
    let meta = String::from_utf8_lossy(&spelled.meta);
    for word in ["anna", "a question", "an answer", "an error"] {
        assert!(!meta.contains(word), "{meta}");
    }
}
