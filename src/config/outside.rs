//! What the configuration says of the world around it: secrets that must be
//! there, files that must be usable. Looked at, and never changed.
use std::{io::ErrorKind, path::Path};

use rustix::fs::{Access, access};

use super::{Config, references::Dangling};
use crate::{
    audit::{self, settings::Durability},
    auth::Pepper,
    caller::Caps,
    knowledge,
    price::Prices,
    prompt::{self, Prompts},
    provider,
    settings::SecretFrom,
    store::{self, place, redis},
};

/// All that is not as the configuration says.
pub(super) fn check(config: &Config) -> Vec<Dangling> {
    let mut found = Vec::new();
    let mut secret =
        |path: &str, from: Option<&SecretFrom>, test: &dyn Fn(&SecretFrom) -> Result<(), String>| {
            let Some((from, Err(why))) = from.map(|from| (from, test(from))) else { return };
            let kind = match from {
                SecretFrom::Env(_) => "env",
                SecretFrom::File(_) => "file",
            };
            found.push(Dangling::new(format!("{path}.{kind}"), why));
        };
    let Config { store, auth, budget, .. } = config;
    secret("store.postgres", store.postgres.as_ref(), &place::check);
    secret("store.redis", store.redis.as_ref(), &redis::check);
    secret("auth.pepper", auth.pepper.as_ref(), &|from| Pepper::read(from).map(drop));
    let webhook_secret = budget.webhook_secret.as_ref().filter(|_| budget.webhook.is_some());
    secret("budget.webhook_secret", webhook_secret, &|from| from.read().map(drop));
    let key = config.audit.key.as_ref().filter(|_| config.audit.durability != Durability::Off);
    secret("audit.key", key, &|from| audit::read_key(from).map(drop));
    let judges = [
        ("injection.classifier", &config.injection.classifier),
        ("safety.moderation.service", &config.safety.moderation.service),
    ];
    for (path, judge) in judges {
        let key = judge.api_key.as_ref().filter(|_| judge.url.is_some());
        secret(&format!("{path}.api_key"), key, &|from| from.read().map(drop));
    }
    for (name, provider) in &config.providers {
        // Where none is named it is the vendor's own variable.
        if let Some(from) = provider.key_source() {
            let path = format!("providers.{name}.api_key");
            secret(&path, Some(&from), &|from| provider::read_key(from).map(drop));
        }
    }
    found.extend(files(config));
    let folders = folders(config);
    let prompts = folders.iter().all(|wrong| wrong.path != PROMPTS);
    found.extend(folders);
    found.extend(read(config, prompts));
    found
}

/// The key of the folder of prompts.
const PROMPTS: &str = "prompts.path";

/// Files that are read at the start; of prompts where their folder is good.
fn read(config: &Config, prompts: bool) -> Vec<Dangling> {
    let prices = Prices::load(config.prices.as_deref()).err().map(|why| ("prices", why));
    let prompts = prompts.then(|| Prompts::load(&config.prompts.path, &config.prompts.version).err());
    let prompts = prompts.flatten().map(|why| ("prompts.version", why));
    let keys = config.auth.keys_file.as_deref().and_then(|path| path.metadata().err());
    let keys = keys.map(|error| ("auth.keys_file", format!("cannot be read: {error}")));
    let found = [prices, prompts, keys].into_iter().flatten();
    found.map(|(path, why)| Dangling::new(path.into(), why)).collect()
}

fn files(config: &Config) -> Vec<Dangling> {
    let Config { store, budget, .. } = config;
    let mut found = Vec::new();
    // In the place of the usual one, where that cannot be made, is memory.
    let usual = store::Settings::default().sqlite;
    let named = store.sqlite != usual && store.sqlite != Path::new(":memory:");
    if store.postgres.is_none() && named {
        found.extend(unusable(&store.sqlite).map(|why| Dangling::new("store.sqlite".into(), why)));
    }
    // The books are in Redis where there is one, and the file is made with the first budget.
    let named = budget.journal != crate::budget::Settings::default().journal;
    let needed = named || has_budget(config) || budget.journal.exists();
    if store.redis.is_none() && needed {
        found.extend(unusable(&budget.journal).map(|why| Dangling::new("budget.journal".into(), why)));
    }
    let audit = &config.audit;
    if audit.durability != Durability::Off {
        found.extend(
            unusable(&audit.folder.join("lock")).map(|why| Dangling::new("audit.folder".into(), why)),
        );
    }
    for (name, path) in [("audit.file", &audit.file), ("audit.anchor_file", &audit.anchor_file)] {
        let why = path.as_deref().and_then(unusable);
        found.extend(why.map(|why| Dangling::new(name.into(), why)));
    }
    found
}

/// Folders that are to be read. In place of the usual ones, where they are absent, is what the program carries; where
/// another was named, that is not what was meant.
fn folders(config: &Config) -> Vec<Dangling> {
    let usual = (knowledge::Settings::default().path, prompt::Settings::default().path);
    let folders =
        [("knowledge.path", &config.knowledge.path, usual.0), (PROMPTS, &config.prompts.path, usual.1)];
    let wrong = folders.into_iter().filter_map(|(name, path, usual)| {
        let why = match path.metadata() {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => "is no folder",
            Err(error) if error.kind() == ErrorKind::NotFound && *path == usual => return None,
            Err(error) if error.kind() == ErrorKind::NotFound => "is not there",
            Err(_) => "cannot be read",
        };
        Some(Dangling::new(name.into(), format!("`{}` {why}", path.display())))
    });
    wrong.collect()
}

fn has_budget(config: &Config) -> bool {
    let all = &config.budget;
    let of_all = [&all.key, &all.user, &all.tenant, &all.global];
    let of_tenants = config.tenants.values().map(|tenant| &tenant.budget);
    let of_keys = config.auth.keys.iter().map(|key| &key.budget);
    of_all.into_iter().chain(of_tenants).chain(of_keys).any(|caps| *caps != Caps::default())
}

/// Why a file cannot be written, or made with its folders.
fn unusable(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.as_os_str().is_empty() {
        return Some("names no file".into());
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => Some(format!("`{shown}` is a folder; it must be a file")),
        Ok(_) => access(path, Access::READ_OK | Access::WRITE_OK)
            .err()
            .map(|error| format!("`{shown}` cannot be written: {}", std::io::Error::from(error))),
        Err(_) => {
            let above = |path: &Path| match path.parent() {
                Some(above) if above.as_os_str().is_empty() => Some(Path::new(".").to_owned()),
                above => above.map(Path::to_owned),
            };
            let mut folder = above(path)?;
            while !folder.exists() {
                folder = above(&folder)?;
            }
            if !folder.is_dir() {
                return Some(format!("`{shown}` cannot be made: `{}` is not a folder", folder.display()));
            }
            let refused = access(&folder, Access::WRITE_OK | Access::EXEC_OK).err()?;
            let why = std::io::Error::from(refused);
            Some(format!("`{shown}` cannot be made in `{}`: {why}", folder.display()))
        }
    }
}
