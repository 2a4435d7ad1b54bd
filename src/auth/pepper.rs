//! The secret of the server that keys are hashed with: a stolen table of hashes is worth nothing without it.
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Auth;
use crate::{
    settings::SecretFrom,
    store::{self, sql::Kind},
};

/// The fewest characters of a pepper.
const SHORTEST: usize = 32;

/// The pepper, ready to hash.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// Takes a secret; `None` where it is too short to be one.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.as_bytes();
        (secret.len() >= SHORTEST).then(|| Hmac::new_from_slice(secret).ok().map(Self)).flatten()
    }

    /// Reads the pepper that is configured.
    ///
    /// # Errors
    /// It cannot be read, or is too short; in words.
    pub fn read(from: &SecretFrom) -> Result<Self, String> {
        let short = || format!("the {from} holds fewer than {SHORTEST} characters, too few for a pepper");
        Self::new(from.read()?.reveal()).ok_or_else(short)
    }

    /// The pepper that is configured; else the one beside the embedded
    /// database, made if there is none. None for a Postgres: each gateway
    /// would make its own.
    ///
    /// # Errors
    /// It cannot be read, or is too short; in words.
    pub fn find(auth: &Auth, stores: &store::Settings, kind: Kind) -> Result<Option<Self>, String> {
        if auth.pepper.is_none() && kind == Kind::Sqlite {
            let path = path(stores);
            match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    let written = file.write_all(fresh().as_bytes()).and_then(|()| file.sync_all());
                    written.map_err(|error| bad(&path, &error))?;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(bad(&path, &error)),
            }
        }
        Self::known(auth, stores, kind)
    }

    /// The same for who only looks: none is made beside a database.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is too short; in words.
    pub fn known(auth: &Auth, stores: &store::Settings, kind: Kind) -> Result<Option<Self>, String> {
        if let Some(from) = &auth.pepper {
            return Self::read(from).map(Some).map_err(|why| format!("`auth.pepper`: {why}"));
        }
        match kind {
            Kind::Postgres => Ok(None),
            // It lives as long as the keys do.
            Kind::Memory => Ok(Self::new(&fresh())),
            Kind::Sqlite => {
                let path = path(stores);
                let found = Self::new(fs::read_to_string(&path).map_err(|error| bad(&path, &error))?.trim());
                let short =
                    || format!("the pepper of the keys, `{}`, is too short to be one", path.display());
                found.ok_or_else(short).map(Some)
            }
        }
    }

    /// HMAC-SHA-256 of a key.
    pub fn hash(&self, key: &[u8]) -> [u8; 32] {
        let mut hmac = self.0.clone();
        hmac.update(key);
        hmac.finalize().into_bytes().into()
    }

    /// A hash as it is written down.
    pub fn hex(hash: &[u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn fresh() -> String {
    Pepper::hex(&rand::random::<[u8; 32]>())
}

/// Where the pepper of an embedded database is.
fn path(stores: &store::Settings) -> PathBuf {
    stores.sqlite.with_extension("pepper")
}

fn bad(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::NotFound => {
            "; the keys and records in the database were made with it: put it back from where it is kept, or name it in \
             `auth.pepper`; to begin anew without them, move the database and `audit.folder` away"
        }
        _ => "",
    };
    format!("the pepper of the keys, `{}`: {error}{hint}", path.display())
}
