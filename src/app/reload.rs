//! Reads everything anew when a file changes, or on SIGHUP.
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind};

use super::{
    heard, listed,
    parts::{self, Lasting},
    read::Parts,
    read_knowledge,
};
use crate::{
    audit::{self, settings::Durability},
    config::{self, Config, Source, watch::Watch},
    http::App,
    observe::logs::Logs,
    settings::SecretFrom,
};

/// What asks for everything to be read anew.
pub(super) struct Changes {
    source: Source,
    hangup: Signal,
    watch: Watch,
}

impl Changes {
    /// Hears of everything that happens from now on.
    pub(super) fn new(config: &Config, source: Source) -> Result<Self, String> {
        let watch = Watch::new(&watched(config, &source));
        Ok(Self { source, hangup: heard(SignalKind::hangup())?, watch })
    }
}

/// Goes on until the process ends. What is bad changes nothing.
pub(super) async fn on_change(app: App, lasting: Lasting, mut parts: Parts, changes: Changes, logs: Logs) {
    let Changes { source, mut hangup, mut watch } = changes;
    loop {
        tokio::select! {
            () = watch.changed() => {}
            _ = hangup.recv() => reopen(&lasting, &parts.config, &logs),
        }
        let result = reload(&app, &lasting, &mut parts, &source, &logs).await;
        let outcome = match &result {
            Ok(true) => "changed",
            Ok(false) => "unchanged",
            Err(_) => "refused",
        };
        lasting.metrics.reloads.with_label_values(&[outcome]).inc();
        match result {
            Ok(true) => tracing::info!(config_version = %app.running().version, "reloaded"),
            Ok(false) => {}
            Err(why) => tracing::error!("nothing was changed, the new configuration is not good:\n{why}"),
        }
        watch.follow(&watched(&parts.config, &source));
    }
}

/// Opens the audit's plain copy anew: whoever moves it away asks for that with SIGHUP.
fn reopen(lasting: &Lasting, config: &Config, logs: &Logs) {
    let spelling = parts::spelling(config, logs.request_lines(&config.log), &lasting.names);
    let opened =
        spelling.and_then(|spelling| lasting.writer.reload(&spelling).map_err(|error| error.to_string()));
    if let Err(error) = opened {
        tracing::error!(%error, "`audit.file` cannot be opened anew; the old one goes on");
    }
}

/// Tells whether anything changed.
async fn reload(
    app: &App,
    lasting: &Lasting,
    before: &mut Parts,
    source: &Source,
    logs: &Logs,
) -> Result<bool, String> {
    let source = source.clone();
    let read = move || {
        let loaded = config::load(&source).map_err(|problems| listed(&problems))?;
        Parts::read(loaded.config)
    };
    let parts = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??;
    let knowledge = read_knowledge(&parts.config).await?;
    let fresh = *knowledge.version() != *lasting.knowledge.current().version();
    if !fresh && !parts.differ(before) {
        return Ok(false);
    }
    let running = parts::running(&parts, lasting)?;
    let (old, new) = (&before.config, &parts.config);
    if old.audit != new.audit || old.log != new.log || old.pii != new.pii {
        let lines = logs.request_lines(&new.log);
        let opened = lasting.writer.reload(&parts::spelling(new, lines, &lasting.names)?);
        opened.map_err(|error| format!("`audit.file` cannot be opened: {error}"))?;
        logs.reload(&new.log);
    }
    // From here on nothing can fail: all of it changes, or, above, none.
    let later = at_next_start(old, new);
    if !later.is_empty() {
        tracing::warn!("`{}`: a change of this is taken up at the next start", later.join("`, `"));
    }
    if fresh {
        let documents = knowledge.document_count();
        tracing::info!(corpus_version = %knowledge.version(), documents, "documents indexed anew");
        lasting.knowledge.replace(knowledge);
    }
    app.replace(running);
    *before = parts;
    Ok(true)
}

/// The changed settings that a process keeps as it began with them: they
/// belong to its sockets, threads and stores.
fn at_next_start(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.server, &new.server);
    let changed = [
        ("server.listen", was.listen != is.listen),
        ("server.metrics_listen", was.metrics_listen != is.metrics_listen),
        ("server.workers", was.workers != is.workers),
        ("server.max_connections", was.max_connections != is.max_connections),
        ("server.header_timeout", was.header_timeout != is.header_timeout),
        ("server.write_timeout", was.write_timeout != is.write_timeout),
        ("server.drain", was.drain != is.drain),
        ("server.cors.origins", was.cors != is.cors),
        ("cache.max_bytes", old.cache.max_bytes != new.cache.max_bytes),
        ("auth.pepper", old.auth.pepper != new.auth.pepper),
        ("store", old.store != new.store),
        ("audit", lasting_audit(old) != lasting_audit(new)),
        ("idempotency", old.idempotency != new.idempotency),
        ("resume", old.resume != new.resume),
        ("budget.journal", old.budget.journal != new.budget.journal),
        ("budget.max_accounts", old.budget.max_accounts != new.budget.max_accounts),
        ("log.format", old.log.format != new.log.format),
    ];
    changed.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
}

/// What of the audit belongs to its journal and its tasks.
fn lasting_audit(config: &Config) -> audit::Settings {
    let settings = config.audit.clone();
    let kept = settings.durability == Durability::Off;
    let durability = if kept { Durability::Off } else { Durability::Strict };
    let default = audit::Settings::default();
    audit::Settings {
        durability,
        gather: default.gather,
        content: default.content,
        max_content: default.max_content,
        on_failure: default.on_failure,
        anchor_every: default.anchor_every,
        file: default.file,
        ..settings
    }
}

/// The files and folders whose change is a reload.
fn watched(config: &Config, source: &Source) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = source.file.iter().cloned().collect();
    paths.extend(config.auth.keys_file.clone());
    paths.extend(config.prices.clone());
    paths.push(config.prompts.path.clone());
    let keys = config.providers.values().filter_map(|provider| provider.api_key.as_ref());
    paths.extend(keys.filter_map(|from| match from {
        SecretFrom::File(path) => Some(path.clone()),
        SecretFrom::Env(_) => None,
    }));
    if config.knowledge.watch {
        paths.push(config.knowledge.path.clone());
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_change_is_told() {
        let old = Config::default();
        let mut new = old.clone();
        new.server.max_body.0 += 1;
        assert!(at_next_start(&old, &new).is_empty());
        new.server.cors.origins.push("*".into());
        new.cache.max_bytes.0 += 1;
        assert_eq!(at_next_start(&old, &new), ["server.cors.origins", "cache.max_bytes"]);
    }
}
