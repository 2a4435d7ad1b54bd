//! `sluice guard`: what the guards find in texts, without a gateway.
use std::io::{self, BufRead, Write};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    config::Config,
    guard::pii::{Finding, Pii},
};

/// Which guard.
#[derive(Debug, Subcommand)]
pub(super) enum GuardCommand {
    /// Find personal data and secrets. Reads a text a line from standard input, or JSON objects with `text`;
    /// writes a JSON object for each: its findings with their places in characters, and the masked text.
    Pii,
}

/// Reads lines to their end; gives back what went wrong.
pub(super) fn run(command: &GuardCommand, config: &Config) -> Result<(), String> {
    let pii = Pii::new(&config.pii)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (line, text) in io::stdin().lock().lines().enumerate() {
        let text = text.map_err(|error| format!("line {}: {error}", line + 1))?;
        let told = match command {
            GuardCommand::Pii => judged(&pii, line + 1, &text),
        };
        match writeln!(out, "{told}") {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// What is found in a line. A line that is a JSON object with `text` stands for that text, and keeps its `id`.
fn judged(pii: &Pii, line: usize, text: &str) -> Value {
    let object = text.starts_with('{').then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    let within = object.as_ref().and_then(|object| object["text"].as_str());
    let id = object.as_ref().filter(|_| within.is_some()).map(|object| object["id"].clone());
    let text = within.unwrap_or(text);
    let mut masker = pii.masker();
    let told = masker.mask(text).into_owned();
    let mut count = Places { text, bytes: 0, chars: 0 };
    let found = pii.in_question(text).into_iter().map(|Finding { kind, range }| {
        let (start, end) = (count.chars(range.start), count.chars(range.end));
        json!({"type": pii.name(kind), "start": start, "end": end, "placeholder": masker.placeholder(&text[range])})
    });
    let found: Vec<Value> = found.collect();
    json!({"line": line, "id": id, "findings": found, "masked": told})
}

/// Places in bytes to places in characters, in one pass.
struct Places<'t> {
    text: &'t str,
    bytes: usize,
    chars: usize,
}

impl Places<'_> {
    fn chars(&mut self, at: usize) -> usize {
        self.chars += self.text[self.bytes..at].chars().count();
        self.bytes = at;
        self.chars
    }
}
