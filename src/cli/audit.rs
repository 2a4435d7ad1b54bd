//! `sluice audit`: checks, exports and erases records, beside a gateway that runs or without one.
use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{complain, keys::Gateway, say};
use crate::{
    app,
    audit::{
        Archive,
        anchor::Anchor,
        export::{Filter, export},
        verify::{About, Report, verify},
    },
    auth::{Pepper, settings::time},
    config::Config,
    observe::Metrics,
    store::sql::Sql,
};

/// What to do with records.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check that no record was changed, removed, moved or cut off. Exits with 1 if one was, and with 3 if nobody can
    /// tell whether the last ones were, or were being written when the gateway stopped.
    Verify {
        /// A file with anchors: `audit.anchor_file`, or a log; may be given several times.
        #[arg(long = "anchors", value_name = "FILE")]
        anchors: Vec<PathBuf>,
    },
    /// Erase what a user asked and was answered, on a gateway that runs; the records stay.
    Erase {
        /// The user, as the application names them.
        #[arg(long)]
        user: String,
        /// The tenant; left out: that of the admin key.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Write records as lines of JSON, oldest first of each chain.
    Export {
        #[command(flatten)]
        which: Which,
        /// Where to; left out: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Which records.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Those that ended at this time or later: a date, or a time such as 2027-01-31T12:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// Those that ended before this time.
    #[arg(long)]
    to: Option<String>,
    /// Those of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Those of this user of the tenant.
    #[arg(long, requires = "tenant")]
    user: Option<String>,
}

/// Does what needs no configuration, if this is that.
pub(super) fn elsewhere(command: &AuditCommand) -> Option<ExitCode> {
    let AuditCommand::Erase { user, tenant, gateway } = command else { return None };
    let mut wanted = json!({"user_id": user});
    if let Some(tenant) = tenant {
        wanted["tenant"] = tenant.as_str().into();
    }
    Some(match gateway.ask("POST", "/admin/erasures", Some(&wanted)) {
        Ok(done) => say(&format!("{} records of the tenant {} erased\n", done["records"], done["tenant"])),
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    })
}

/// Does it.
pub(super) fn run(command: AuditCommand, config: &Config) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carried_out(command, config)),
        Err(error) => Err(error.to_string()),
    };
    done.unwrap_or_else(|why| {
        complain(&why);
        ExitCode::FAILURE
    })
}

async fn carried_out(command: AuditCommand, config: &Config) -> Result<ExitCode, String> {
    let (folder, store) = (&config.audit.folder, &config.store);
    // Before anything is opened: a database that is not there would be made, with a key of its own.
    if store.postgres.is_none() && !store.sqlite.exists() {
        let (sqlite, folder) = (store.sqlite.display(), folder.display());
        let what = match config.audit.folder.exists() {
            true => format!(
                "there is no database: `{sqlite}` (`store.sqlite`) does not exist, and `{folder}` does"
            ),
            false => format!(
                "there are no records: neither `{folder}` (`audit.folder`) nor `{sqlite}` (`store.sqlite`) exists"
            ),
        };
        return Err(format!(
            "{what}; is this the gateway's configuration, and the folder that it was started in?"
        ));
    }
    let has_journal = folder.exists();
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let sql = Sql::open(&config.store, app::TABLES, &metrics).await?;
    // A new one would open nothing, and the gateway would go on with it.
    let pepper = match config.audit.key {
        Some(_) => None,
        None => Pepper::known(&config.auth, &config.store, sql.kind())?,
    };
    let archive = app::archive(config, &sql, pepper.as_ref())?;
    let code = match command {
        AuditCommand::Erase { .. } => Ok(elsewhere(&command).unwrap_or(ExitCode::FAILURE)),
        AuditCommand::Verify { anchors } => checked(&archive, config, anchors, has_journal).await,
        AuditCommand::Export { which, out } => exported(&archive, config, &which, out).await,
    };
    sql.close().await;
    code
}

/// The exit status where nothing is known to be wrong, and the journal's end is in doubt.
const IN_DOUBT: u8 = 3;

async fn checked(
    archive: &Archive,
    config: &Config,
    files: Vec<PathBuf>,
    has_journal: bool,
) -> Result<ExitCode, String> {
    let (mut anchors, mut told) = (Vec::new(), String::new());
    let own = config.audit.anchor_file.clone().filter(|path| path.exists());
    for path in files.into_iter().chain(own) {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let before = anchors.len();
        anchors.extend(Anchor::all(&text));
        if anchors.len() == before {
            let _ = writeln!(told, "`{}`: there are no anchors in it", path.display());
        }
    }
    let folder = config.audit.folder.display();
    let reports = verify(archive, Some(&config.audit.folder), &anchors).await?;
    reports.iter().for_each(|report| told += &report.to_string());
    if !has_journal {
        // What was not moved into the database yet is nowhere.
        let _ = writeln!(
            told,
            "there is no journal: `{folder}` does not exist, and what it held and the database did not have is gone. Is it \
             the right folder (`audit.folder`), and its volume mounted?"
        );
    }
    let is_wrong = !has_journal || reports.iter().any(|report| report.wrong > 0);
    let is_in_doubt = reports.iter().any(|report| !report.doubts.is_empty());
    let (code, last) = match (is_wrong, is_in_doubt) {
        (true, _) => (
            ExitCode::FAILURE,
            format!(
                "NOT SOUND (exit status 1): before anything is changed keep these lines, a copy of `{folder}` and one of \
                 the database; what to look at next is under `SluiceAuditDamaged` in docs/alerts.md"
            ),
        ),
        (false, true) => (
            ExitCode::from(IN_DOUBT),
            format!(
                "IN DOUBT (exit status {IN_DOUBT}): nothing is known to be wrong, but nobody can tell from what is here \
                 whether the last records are all there. The lines above say what may explain it; if that did not happen, \
                 find out who could write to `{folder}`. Anchors that were kept elsewhere may tell more (`--anchors FILE`)"
            ),
        ),
        (false, false) => {
            (ExitCode::SUCCESS, format!("SOUND (exit status 0): {}", counted(&reports, anchors.len())))
        }
    };
    say(&(told + &last + "\n"));
    Ok(code)
}

/// What was looked at, in words.
fn counted(reports: &[Report], anchors: usize) -> String {
    let many = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let records = reports.iter().map(|report| report.records).sum();
    let chains = reports.iter().filter(|report| matches!(report.about, About::Chain(_))).count();
    let looked_at = format!("{} in {}", many(records, "record"), many(chains as u64, "chain"));
    match anchors {
        0 => format!(
            "{looked_at}; not held against anchors (`--anchors FILE`): that the folder and the database were both put back \
             to an earlier state would not show"
        ),
        _ => format!("{looked_at}, held against {}", many(anchors as u64, "anchor")),
    }
}

async fn exported(
    archive: &Archive,
    config: &Config,
    which: &Which,
    out: Option<PathBuf>,
) -> Result<ExitCode, String> {
    let moment = |text: &Option<String>| -> Result<Option<i64>, String> {
        let Some(text) = text else { return Ok(None) };
        let at: Timestamp = time(text).ok_or_else(|| format!("`{text}` is no date and no time"))?;
        Ok(Some(at.as_microsecond()))
    };
    let filter = Filter {
        from: moment(&which.from)?,
        to: moment(&which.to)?,
        tenant: which.tenant.clone(),
        user: which.user.clone(),
    };
    let failed = |error: io::Error| format!("it could not be written: {error}");
    let mut to: Box<dyn Write> = match &out {
        Some(path) => Box::new(std::fs::File::create(path).map_err(failed)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut to = io::BufWriter::new(&mut to);
    let count = export(archive, Some(&config.audit.folder), &filter, &mut to).await?;
    to.flush().map_err(failed)?;
    if out.is_some() {
        say(&format!("{count} records\n"));
    }
    Ok(ExitCode::SUCCESS)
}
