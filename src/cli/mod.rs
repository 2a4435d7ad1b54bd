//! The command line.
mod audit;
mod golden;
mod guard;
mod keys;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    app,
    config::{self, Problem, Source},
};

/// An LLM gateway: one readable stack between your applications and their models.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do; nothing said: serve.
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file [default: $SLUICE_CONFIG, else config/sluice.yaml if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, such as 127.0.0.1:8000; wins over the configuration.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; what happens if no command is given.
    Serve,
    /// Read the configuration and report every mistake in it.
    Check,
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Manage keys.
    Key {
        #[command(subcommand)]
        command: keys::KeyCommand,
    },
    /// Check, export or erase audit records.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Run a guard over texts from standard input, as the configuration sets it.
    Guard {
        #[command(subcommand)]
        command: guard::GuardCommand,
    },
    /// Write what reviewers approved or edited as a golden set.
    Golden {
        #[command(subcommand)]
        command: golden::GoldenCommand,
    },
    /// Ask whether the gateway is ready; for container health checks. With `--listen` it reads no configuration.
    Probe,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let source = Source::find(cli.config, cli.listen);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => match app::aside(|| config::load(&source)) {
            Ok(loaded) => app::serve(loaded),
            Err(problems) => refuse(&problems),
        },
        Command::Check => check(&source),
        Command::Schema => say(&config::schema()),
        Command::Key { command } => match keys::run(command) {
            Ok(made) => say(&made),
            Err(why) => {
                complain(&why);
                ExitCode::FAILURE
            }
        },
        Command::Audit { command } => {
            audit::elsewhere(&command).unwrap_or_else(|| match config::load(&source) {
                Ok(loaded) => audit::run(command, &loaded.config),
                Err(problems) => refuse(&problems),
            })
        }
        Command::Guard { command } => match config::load(&source) {
            Err(problems) => refuse(&problems),
            Ok(loaded) => match guard::run(&command, &loaded.config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    complain(&why);
                    ExitCode::FAILURE
                }
            },
        },
        Command::Golden { command } => match config::load(&source) {
            Ok(loaded) => golden::run(command, &loaded.config),
            Err(problems) => refuse(&problems),
        },
        Command::Probe => probe(&source),
    }
}

fn check(source: &Source) -> ExitCode {
    match config::load(source) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
            let name = source.file.as_deref().map(|path| path.display().to_string());
            say(&format!("{} good\n", name.map_or("no file; the defaults are".into(), |name| name + " is")))
        }
        Err(problems) => refuse(&problems),
    }
}

/// A health check without a shell or curl: small images have neither.
fn probe(source: &Source) -> ExitCode {
    let address = match source.listen {
        // A file that was broken while the gateway runs says nothing about the gateway.
        Some(address) => address,
        None => match config::load(source) {
            Ok(loaded) => loaded.config.server.listen,
            Err(problems) => return refuse(&problems),
        },
    };
    if app::probe(address) {
        return ExitCode::SUCCESS;
    }
    complain(&format!("the gateway at {address} is not ready"));
    ExitCode::FAILURE
}

fn refuse(problems: &[Problem]) -> ExitCode {
    problems.iter().for_each(|problem| complain(&problem.to_string()));
    let count = problems.len();
    complain(&format!("{count} mistake{} in the configuration", if count == 1 { "" } else { "s" }));
    ExitCode::FAILURE
}

// A closed pipe is no reason to panic.
fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
