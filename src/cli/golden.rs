//! `sluice golden`: what reviewers approved or edited, as a golden set.
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Subcommand;

use super::{complain, say};
use crate::{
    app, auth::settings::time, config::Config, guard::pii::Pii, observe::Metrics, review::golden,
    store::sql::Sql,
};

/// What to do with golden items.
#[derive(Debug, Subcommand)]
pub(super) enum GoldenCommand {
    /// Write what reviewers approved or edited as lines of JSON, such as `config/golden/*.jsonl` has them.
    Export {
        /// Of this tenant; left out: of all.
        #[arg(long)]
        tenant: Option<String>,
        /// What was decided at this time or later: a date, or a time such as 2027-01-31T12:00:00Z.
        #[arg(long)]
        since: Option<String>,
        /// Where to; left out: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Does it.
pub(super) fn run(command: GoldenCommand, config: &Config) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carried_out(command, config)),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

async fn carried_out(command: GoldenCommand, config: &Config) -> Result<(), String> {
    let GoldenCommand::Export { tenant, since, out } = command;
    let since = match since {
        None => 0,
        Some(text) => time(&text).ok_or_else(|| format!("`{text}` is no date and no time"))?.as_microsecond(),
    };
    let pii = Pii::new(&config.pii)?;
    let mask = |text: &str| pii.masker().mask(text).into_owned();
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let sql = Sql::open(&config.store, app::TABLES, &metrics).await?;
    let items = golden(&sql, mask, tenant.as_deref(), since).await.map_err(|error| error.to_string())?;
    sql.close().await;
    let failed = |error: io::Error| format!("it could not be written: {error}");
    let mut lines = Vec::new();
    for item in &items {
        serde_json::to_writer(&mut lines, item).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    match &out {
        None => io::stdout().lock().write_all(&lines).map_err(failed)?,
        Some(path) => {
            std::fs::write(path, &lines).map_err(failed)?;
            say(&format!("{} items\n", items.len()));
        }
    }
    Ok(())
}
