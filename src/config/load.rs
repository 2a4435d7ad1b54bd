//! From a file and the environment to a [`Config`], or to all that is wrong with them.
use std::path::{Path, PathBuf};

use garde::Validate;

use super::{Config, Problem, environment, references};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file; absent: there is none, and the defaults hold.
    pub file: Option<PathBuf>,
    /// Where to listen, from the command line; wins over all else.
    pub listen: Option<std::net::SocketAddr>,
}

/// The file that is read where none is named.
const USUAL: &str = "config/sluice.yaml";
/// More mistakes than this are not told at once.
const MOST: usize = 100;

impl Source {
    /// The named file, else that of `SLUICE_CONFIG`, else `config/sluice.yaml` where there is one.
    pub fn find(named: Option<PathBuf>, listen: Option<std::net::SocketAddr>) -> Self {
        let set = named
            .or_else(|| std::env::var_os("SLUICE_CONFIG").filter(|path| !path.is_empty()).map(Into::into));
        let usual = || Some(PathBuf::from(USUAL)).filter(|path| path.is_file());
        Self { file: set.or_else(usual), listen }
    }
}

/// A configuration that is good, and what was read for it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where it comes from.
    pub source: Source,
    /// What is not wrong, but surely not meant.
    pub warnings: Vec<String>,
}

/// Reads the configuration.
pub fn load(source: &Source) -> Result<Loaded, Vec<Problem>> {
    let name = source.file.as_deref().map_or_else(|| "defaults".into(), |path| path.display().to_string());
    let text = match &source.file {
        Some(path) => read(path).map_err(|problem| vec![problem])?,
        None => String::new(),
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut config = parse(&name, &text, variables)?;
    if let Some(listen) = source.listen {
        config.server.listen = listen;
    }
    if let Some(why) = config.refusal() {
        return Err(vec![Problem {
            origin: name,
            place: locate(&text, &["server", "listen"]),
            line: None,
            message: why,
        }]);
    }
    let warnings = missing_secrets(&config);
    Ok(Loaded { config, source: source.clone(), warnings })
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| Problem {
        origin: path.display().to_string(),
        place: None,
        line: None,
        message: format!("cannot be read: {error}"),
    })
}

fn missing_secrets(config: &Config) -> Vec<String> {
    let missing = config.providers.iter().filter_map(|(name, provider)| {
        let from = provider.key_source().filter(|from| from.fetch().is_none())?;
        Some(format!("provider `{name}` has no key: {from} is unset or empty"))
    });
    missing.collect()
}

/// Reads a text and variables; tells all mistakes at once.
fn parse(
    name: &str,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, Vec<Problem>> {
    let variables: Vec<(String, String)> = variables.collect();
    let mut problems = Vec::new();
    let mut config = from_text(name, text, &mut problems);
    config = environment::apply(config, variables.iter().cloned(), &mut problems);
    let here = |path: &[&str], message: String| {
        let place = locate(text, path);
        let line = place.and_then(|(line, _)| shown(text, line));
        Problem { origin: name.to_owned(), place, line, message: format!("`{}`: {message}", path.join(".")) }
    };
    if let Err(report) = config.validate() {
        for (path, error) in report.iter() {
            let path = path.to_string().replace('[', ".").replace(']', "");
            let keys: Vec<&str> = path.split('.').filter(|key| !key.is_empty()).collect();
            problems.push(here(&keys, error.to_string()));
        }
    }
    let get = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config.completed(&get);
    for dangling in references::check(&config) {
        let keys: Vec<&str> = dangling.path.iter().map(String::as_str).collect();
        problems.push(here(&keys, dangling.message));
    }
    problems.truncate(MOST);
    problems.sort_by_key(|problem| problem.place);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Reads a text. A parser stops at its first mistake: that is noted and blanked
/// out, with what is nested below it, and the rest is read again.
fn from_text(name: &str, text: &str, problems: &mut Vec<Problem>) -> Config {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..MOST {
        let left = lines.join("\n");
        if left.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Config::default();
        }
        let error = match serde_saphyr::from_str::<Config>(&left) {
            Ok(config) => return config,
            Err(error) => error,
        };
        let place = error.location().map(|at| (at.line() as usize, at.column() as usize));
        let place = place.filter(|(line, _)| (1..=lines.len()).contains(line));
        let message = error.without_snippet().to_string();
        // The place is told apart; the library's own words for it come last.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        let line = place.and_then(|(line, _)| shown(text, line));
        let secret = place.is_some_and(|(line, _)| is_secret(text, line));
        let message = if secret {
            "a secret is never written here; say where it is: `{env: NAME}` or `{file: PATH}`".to_owned()
        } else {
            without_keys(&message)
        };
        problems.push(Problem { origin: name.to_owned(), place, line, message });
        let Some((line, _)) = place else { return Config::default() };
        if !blank(&mut lines, line - 1) {
            return Config::default();
        }
    }
    Config::default()
}

/// Blanks a line and what is nested below it. Tells whether anything was there.
fn blank(lines: &mut [String], at: usize) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let first = depth(&lines[at]);
    let was = !lines[at].trim().is_empty();
    lines[at].clear();
    for line in lines.iter_mut().skip(at + 1) {
        if !line.trim().is_empty() && depth(line) <= first {
            break;
        }
        line.clear();
    }
    was
}

fn is_secret(text: &str, line: usize) -> bool {
    text.lines()
        .nth(line - 1)
        .is_some_and(|line| line.trim_start().trim_start_matches("- ").starts_with("api_key:"))
}

/// A line that may be shown: never one that may hold a secret.
fn shown(text: &str, line: usize) -> Option<String> {
    text.lines().nth(line - 1).filter(|_| !is_secret(text, line)).map(without_keys)
}

/// A text in which whatever looks like a key is hidden.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        match word.find("sk-") {
            Some(at) if word.len() > at + 8 => {
                out.push_str(&word[..at + 3]);
                out.push('…');
                out.extend(
                    word.chars().last().filter(|c| !c.is_ascii_alphanumeric() && *c != '-' && *c != '_'),
                );
            }
            _ => out.push_str(word),
        }
    }
    out
}

/// Where a path of keys stands in a text of nested blocks: line and column from
/// 1 on. Where the last keys are not found, the nearest key above them.
fn locate(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = None;
    let (mut from, mut to) = (0, lines.len());
    for key in path {
        let Some((line, column)) = child(&lines[from..to], key).map(|(line, column)| (from + line, column))
        else {
            break;
        };
        found = Some((line + 1, column + 1));
        // What belongs to the key is indented further, or is a list at its own depth.
        let inner = |text: &str| {
            let depth = text.len() - text.trim_start().len();
            text.trim().is_empty()
                || depth > column
                || (depth == column && text.trim_start().starts_with("- "))
        };
        to = (line + 1..to).find(|at| !inner(lines[*at])).unwrap_or(to);
        from = if key.parse::<usize>().is_ok() { line } else { line + 1 };
    }
    found
}

/// The place of a key, or of a list's item, among the shallowest lines of a block.
fn child(block: &[&str], key: &str) -> Option<(usize, usize)> {
    let is_text = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if let Ok(index) = key.parse::<usize>() {
        let items = || block.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with('-'));
        let depth = items().map(|(_, line)| line.len() - line.trim_start().len()).min()?;
        let mut items = items().filter(|(_, line)| line.len() - line.trim_start().len() == depth);
        return items.nth(index).map(|(at, _)| (at, depth));
    }
    // The first line of a list's item holds its first key behind the dash.
    let start = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let depth = block.iter().filter(|line| is_text(line)).map(|line| start(line)).min()?;
    let is_key = |line: &str| {
        let rest = &line[start(line)..];
        let rest = rest.trim_start_matches(['"', '\'']);
        rest.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    let found = block.iter().position(|line| is_text(line) && start(line) == depth && is_key(line))?;
    Some((found, depth))
}

/// The JSON Schema of the configuration.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Config);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = parse("f", text, std::iter::empty()).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let text = "server:\n  listne: 1\n  max_body: 1MB\nretry:\n  attempts: 99\nmodels:\n  m:\n    targets:\n    - provider: nobody\n      model: x\n    fallback: [n]\n";
        let told = problems(text).join("\n");
        assert!(told.contains("f:2:3: ") && told.contains("listne"), "{told}");
        assert!(told.contains("f:3:"), "{told}");
        assert!(told.contains("f:5:3: `retry.attempts`"), "{told}");
        assert!(told.contains("f:9:") && told.contains("there is no provider `nobody`"), "{told}");
        assert!(told.contains("f:11:5: `models.m.fallback.0`"), "{told}");
        assert!(told.contains("5 |   attempts: 99\n  |   ^"), "{told}");
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_shown() {
        let text = "providers:\n  p:\n    kind: openai\n    api_key: sk-verysecretindeed\n";
        let told = problems(text).join("\n");
        assert!(told.contains("f:4:") && told.contains("never written here"), "{told}");
        assert!(!told.contains("verysecret"), "{told}");
    }

    #[test]
    fn no_text_is_the_defaults() {
        let none = parse("f", "# nothing\n", std::iter::empty()).unwrap();
        assert_eq!(none, Config::default().completed(&|_| None));
    }

    #[test]
    fn the_shipped_file_says_what_holds_anyway() {
        let text = include_str!("../../config/sluice.yaml");
        assert_eq!(from_text("f", text, &mut Vec::new()), Config::default());
        let default = serde_json::to_value(Config::default()).unwrap();
        let sections = default.as_object().unwrap();
        for (section, value) in sections {
            assert!(text.contains(&format!("\n{section}:")), "`{section}` is not in config/sluice.yaml");
            for key in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
                assert!(
                    text.contains(&format!("  {key}:")),
                    "`{section}.{key}` is not in config/sluice.yaml"
                );
            }
        }
    }

    #[test]
    fn the_published_schema_is_the_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sluice.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(published == schema(), "run this test with UPDATE=1 to publish the schema anew");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:\\-\\[\\]{}\"'#&*!| \\n\\t0-9é]{0,200}") {
            let _ = parse("f", &text, std::iter::empty());
        }
    }
}
