//! Where the database is: what its settings name, as a URL. A file is made.
use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use sqlx::{any::AnyConnectOptions, postgres::PgConnectOptions};

use super::{Settings, settings::SQLITE, sql::Kind};
use crate::settings::{Secret, SecretFrom};

/// A database that is in no file.
const MEMORY: &str = "sqlite::memory:";

/// Whether a secret holds the URL of a Postgres.
///
/// # Errors
/// What is wrong with it, in words that hold nothing of it.
pub fn check(from: &SecretFrom) -> Result<(), String> {
    postgres_url(from).map(drop)
}

fn postgres_url(from: &SecretFrom) -> Result<Secret, String> {
    let url = from.read()?;
    let named = ["postgres://", "postgresql://"].iter().any(|scheme| url.reveal().starts_with(scheme));
    // Read by both who will: the library's words could repeat it.
    let sound =
        url.reveal().parse::<AnyConnectOptions>().is_ok() && url.reveal().parse::<PgConnectOptions>().is_ok();
    let bad = || format!("the {from} holds no URL such as `postgres://user:password@host/database`");
    (named && sound).then_some(url).ok_or_else(bad)
}

/// The URL of the database. An SQLite file is made, for its owner alone.
pub(super) fn place(settings: &Settings) -> Result<(String, Kind), String> {
    if let Some(from) = &settings.postgres {
        let url = postgres_url(from).map_err(|why| format!("`store.postgres`: {why}"))?;
        return Ok((url.reveal().to_owned(), Kind::Postgres));
    }
    if settings.sqlite == Path::new(":memory:") {
        return Ok((MEMORY.into(), Kind::Memory));
    }
    match made(&settings.sqlite) {
        Ok(()) => Ok((sqlite_url(&settings.sqlite), Kind::Sqlite)),
        Err(error) if settings.sqlite == Path::new(SQLITE) => {
            tracing::warn!(
                "`{SQLITE}` cannot be made ({error}): keys and spending are kept in memory and lost at the end; \
                 `store.sqlite` names another place"
            );
            Ok((MEMORY.into(), Kind::Memory))
        }
        Err(error) => Err(format!("`store.sqlite`: `{}` cannot be made: {error}", settings.sqlite.display())),
    }
}

fn made(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    // SQLite's own files beside it take over its mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(|_| ())
}

fn sqlite_url(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes();
    let path: String = bytes
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("sqlite:{path}?mode=rw")
}
