//! `sluice guard`: what the guards find in texts, without a gateway.
use std::io::{self, BufRead, Write};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    config::Config,
    guard::{
        injection::{self, Trust},
        pii::{Finding, Pii},
        safety::{Found, Rules},
    },
};

/// Which guard. Each reads a text a line from standard input, or JSON objects with `text`.
#[derive(Debug, Subcommand)]
pub(super) enum GuardCommand {
    /// Find personal data and secrets. Reads a text a line from standard input, or JSON objects with `text`;
    /// writes a JSON object for each: its findings with their places in characters, and the masked text.
    Pii,
    /// Judge prompt injection. Reads a text a line from standard input, or JSON objects with `text` and `trust`
    /// (`user` or `document`); writes a JSON object for each: its score, verdict, reasons and layers.
    Injection {
        /// Print what the linear model is trained on instead.
        #[arg(long, hide = true)]
        features: bool,
        /// Print the names of the model's slots and end.
        #[arg(long, hide = true)]
        slots: bool,
    },
    /// Find unsafe content by the rules of the configuration. Reads a text a line from standard input, or JSON
    /// objects with `text`; writes a JSON object for each: the categories found and what they lead to.
    Safety,
}

/// What judges a line: its number and its text.
type Judge = Box<dyn Fn(usize, &str) -> Value>;

/// Reads lines to their end; gives back what went wrong.
pub(super) fn run(command: &GuardCommand, config: &Config) -> Result<(), String> {
    let judge: Judge = match command {
        GuardCommand::Pii => {
            let pii = Pii::new(&config.pii)?;
            Box::new(move |line, text| judged(&pii, line, text))
        }
        GuardCommand::Injection { slots: true, .. } => {
            let names = json!(injection::slot_names());
            return writeln!(io::stdout(), "{names}").map_err(|error| error.to_string());
        }
        GuardCommand::Injection { features: true, .. } => Box::new(|_, text| {
            let (text, _, trust) = read(text);
            injection::features(&text, trust)
        }),
        GuardCommand::Injection { .. } => {
            let threshold = config.injection.threshold;
            Box::new(move |_, text| attack(text, threshold))
        }
        GuardCommand::Safety => {
            let rules = Rules::new(&config.safety)?;
            Box::new(move |_, text| unsafe_content(&rules, text))
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (line, text) in io::stdin().lock().lines().enumerate() {
        let text = text.map_err(|error| format!("line {}: {error}", line + 1))?;
        match writeln!(out, "{}", judge(line + 1, &text)) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// The text of a line, its id, and whose it is.
fn read(line: &str) -> (String, Value, Trust) {
    let object = line.starts_with('{').then(|| serde_json::from_str::<Value>(line).ok()).flatten();
    let text = object.as_ref().and_then(|object| object["text"].as_str()).map(str::to_owned);
    let Some((object, text)) = object.zip(text) else { return (line.to_owned(), Value::Null, Trust::User) };
    let trust = if object["trust"] == "document" { Trust::Document } else { Trust::User };
    (text, object["id"].clone(), trust)
}

fn attack(line: &str, threshold: f32) -> Value {
    let (text, id, trust) = read(line);
    let found = injection::judge(&text, trust);
    let verdict = if found.score >= threshold { "attack" } else { "pass" };
    json!({
        "id": id, "score": found.score, "verdict": verdict, "reasons": found.reasons, "layers": found.layers,
    })
}

fn unsafe_content(rules: &Rules, line: &str) -> Value {
    let (text, id, _) = read(line);
    let mut found = Vec::new();
    for one in rules.find_hidden(&text, &injection::folded(&text)) {
        // What is found both ways is told once.
        if !found.iter().any(|known: &Found| known.category == one.category) {
            found.push(one);
        }
    }
    let told = found.iter().map(|found| json!({"category": found.category, "mode": found.mode}));
    json!({"id": id, "findings": told.collect::<Vec<_>>()})
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::safety::{Rule, Settings};

    #[test]
    fn rules_are_held_against_a_text_as_it_is_too() {
        let rule = Rule {
            category: "own".into(),
            phrases: vec!["straße".into(), "폭탄".into()],
            patterns: Vec::new(),
            mode: None,
        };
        let rules = Rules::new(&Settings { rules: vec![rule], ..Settings::default() }).unwrap();
        for (line, many) in
            [("Die Straße, und eine Strasse", 1), ("폭탄", 1), ("{\"text\": \"STRAßE\"}", 1), ("Platz", 0)]
        {
            assert_eq!(unsafe_content(&rules, line)["findings"].as_array().unwrap().len(), many, "{line}");
        }
    }
}
