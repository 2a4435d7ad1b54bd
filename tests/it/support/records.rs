//! Records of calls that nobody made, and the databases that they are kept in: SQLite and Postgres.
use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sluice::{
    audit::{Answer, Mask, Masking, Record},
    call::{Caller, Context},
    chat::{Message, Request, Role},
    settings::SecretFrom,
    store,
};
use tempfile::TempDir;

use super::servers;

/// Masks one word, or nothing.
pub struct Word(pub Option<&'static str>);

impl Mask for Word {
    fn mask<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        match self.0.filter(|word| text.contains(word)) {
            Some(word) => text.replace(word, "[WORD_1]").into(),
            None => text.into(),
        }
    }
}

impl Masking for Word {
    fn masker(&self) -> Box<dyn Mask + '_> {
        Box::new(Self(self.0))
    }
}

/// A database, and a folder beside it.
pub struct Place {
    pub folder: TempDir,
    pub stores: store::Settings,
    _server: Option<servers::Postgres>,
}

impl Place {
    /// One on SQLite, one on Postgres.
    pub async fn each() -> Vec<Self> {
        let of = |server: Option<servers::Postgres>| {
            let folder = tempfile::tempdir().unwrap();
            let postgres = server.as_ref().map(|server| {
                let path = folder.path().join("url");
                std::fs::write(&path, server.url()).unwrap();
                SecretFrom::File(path)
            });
            let sqlite = folder.path().join("sluice.db");
            let stores = store::Settings { sqlite, postgres, ..store::Settings::default() };
            Self { folder, stores, _server: server }
        };
        vec![of(None), of(Some(servers::Postgres::start().await))]
    }
}

/// The record of a whole answer to a user of the tenant `tenant`.
pub fn record(id: &str, user: &str, text: &str, at: SystemTime) -> Record {
    let caller = Caller { user: Some(user.into()), ..Caller::named("key", "tenant") };
    let context = Context::new(id, "/query", caller, Duration::ZERO);
    let messages = vec![Message::new(Role::User, text)];
    Record {
        at,
        chat: Some(Arc::new(Request { model: "m".into(), messages, ..Request::default() })),
        answer: Some(Answer { text: "yes".into(), length: 3 }),
        ..Record::new(Arc::new(context))
    }
}
