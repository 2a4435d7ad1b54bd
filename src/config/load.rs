//! From a file, the environment and flags to a [`Config`], or to all that is wrong with them.
use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use garde::Validate;
use serde::de::DeserializeOwned;

use super::{
    Config, Problem, effect, environment, keys, outside,
    problem::as_wish,
    read::read,
    references::{self, Dangling},
    tree::{At, Node, Path as Steps, Value},
};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file; absent: there is none, and the defaults hold.
    pub file: Option<PathBuf>,
    /// Where to listen, from the command line; wins over all else.
    pub listen: Option<SocketAddr>,
}

/// The file that is read where none is named.
const USUAL: &str = "config/sluice.yaml";
/// More mistakes than this are not told at once.
const MOST: usize = 100;
/// No configuration is larger.
const LARGEST: u64 = 8 << 20;

impl Source {
    /// The named file, else that of `SLUICE_CONFIG`, else `config/sluice.yaml` where there is one.
    pub fn find(named: Option<PathBuf>, listen: Option<SocketAddr>) -> Self {
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

/// Reads the configuration, and tries the files that it names. Blocks while it reads.
pub fn load(source: &Source) -> Result<Loaded, Vec<Problem>> {
    let name = source.file.as_deref().map_or_else(|| "defaults".into(), |path| path.display().to_string());
    let text =
        source.file.as_deref().map_or(Ok(String::new()), read_file).map_err(|problem| vec![problem])?;
    let variables = std::env::vars_os();
    let variables: Vec<(String, String)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = parse(&name, &text, &variables, source.listen, &outside::check)?;
    // Their rows are part of it.
    keys(&config.auth)?;
    let mut warnings = effect::doubts(&config);
    warnings.extend(environment::doubts(&variables));
    if config.is_open() {
        warnings.push(format!("`auth.open`: all who reach {} may call, without a key", config.server.listen));
    }
    Ok(Loaded { config, source: source.clone(), warnings })
}

/// Reads a file of the configuration, if it is of a sane size.
pub(super) fn read_file(path: &Path) -> Result<String, Problem> {
    let bad = |why: String| Problem::of(path.display().to_string(), why);
    let size = std::fs::metadata(path).map_err(|error| bad(format!("cannot be read: {error}")))?.len();
    if size > LARGEST {
        return Err(bad(format!("is larger than {} MiB", LARGEST >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    Ok(text)
}

/// Reads a text, variables and flags; tells all mistakes at once, and those that `outside` finds around it.
fn parse(
    name: &str,
    text: &str,
    variables: &[(String, String)],
    listen: Option<SocketAddr>,
    outside: &dyn Fn(&Config) -> Vec<Dangling>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut tree = Node::parse(text).unwrap_or_else(|broken| {
        problems.push(Problem::at(name, text, &broken.at, &broken.message, false));
        Node::new(Value::Null, At::Nowhere)
    });
    environment::apply(&mut tree, variables, &mut problems);
    if let Some(listen) = listen {
        let at = At::Outside("--listen".into());
        let path = ["server".to_owned(), "listen".to_owned()];
        // Where `server` is no mapping, the reader says so.
        let _ =
            environment::set(&mut tree, &path, Node::new(Value::Text(listen.to_string()), at.clone()), &at);
    }
    let config = read_on::<Config>(&mut tree, name, text, &mut problems).unwrap_or_default();
    problems.extend(invalid(&config, "", &tree, name, text));
    let get = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = config.completed(&get);
    let mentioned = |section: &str, key: &str| is_mentioned(&tree, section, key);
    let mut wrong = references::check(&config, &mentioned);
    let whole = problems.is_empty() && wrong.is_empty();
    wrong.extend(effect::check(&config, whole));
    for wrong in wrong.into_iter().chain(outside(&config)) {
        let message = format!("`{}`: {}", wrong.path, wrong.message);
        problems.push(Problem::at(name, text, &tree.locate(&wrong.path).0, &message, wrong.secret));
    }
    if let Some(why) = config.refusal() {
        problems.push(Problem::at(name, text, &tree.locate("server.listen").0, &why, false));
    }
    problems.sort_by_key(Problem::rank);
    problems.truncate(MOST);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// What the value's own checks say. Where `root` is given, it is no key of the file.
pub(super) fn invalid<T: Validate<Context = ()>>(
    value: &T,
    root: &str,
    tree: &Node,
    name: &str,
    text: &str,
) -> Vec<Problem> {
    let Err(report) = value.validate() else { return Vec::new() };
    let mut problems = Vec::new();
    for (path, error) in report.iter() {
        let path = path.to_string();
        let path = path.strip_prefix(root).unwrap_or(&path);
        let (at, node) = tree.locate(path);
        // What is wrong with the rest of it may be due to what was taken out.
        if !node.is_wounded() {
            let message = format!("`{path}`: {}", as_wish(error.message()));
            problems.push(Problem::at(name, text, &at, &message, is_private(path)));
        }
    }
    problems
}

/// Whether what stands there may be a key by mistake.
fn is_private(path: &str) -> bool {
    path.rsplit('.').next() == Some("hash")
}

/// Whether something is wrong with a key, or with all of its section, so that it could not be read.
fn is_mentioned(tree: &Node, section: &str, key: &str) -> bool {
    let Value::Map(sections) = &tree.value else { return false };
    sections.iter().filter(|entry| entry.key == section).any(|entry| match &entry.node.value {
        Value::Gone => true,
        Value::Map(entries) => entries.iter().any(|entry| entry.key == key),
        _ => false,
    })
}

/// Reads a tree. A reader stops at its first mistake: that is noted and taken
/// out, and the rest is read again, until all of them are known.
pub(super) fn read_on<T: DeserializeOwned>(
    tree: &mut Node,
    name: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut gone: Vec<Steps> = Vec::new();
    while problems.len() < MOST {
        let fault = match read::<T>(tree) {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let path = fault.path();
        // What is missing may be what was taken out: that is told already.
        let told = fault.missing && gone.iter().any(|gone| gone.starts_with(&path));
        if !told {
            let (at, keys) = place(tree, &path, fault.at_key);
            let message = if keys.is_empty() || fault.at_key || fault.missing {
                fault.message
            } else {
                format!("`{keys}`: {}", fault.message)
            };
            problems.push(Problem::at(name, text, &at, &message, fault.secret));
        }
        if path.is_empty() {
            return None;
        }
        tree.remove(&path);
        gone.push(path);
    }
    None
}

/// Where a path leads, and its name. A block begins on the line below its key: the key says more.
fn place(tree: &Node, path: &[usize], at_key: bool) -> (At, String) {
    let (mut node, mut at, mut keys) = (tree, tree.at.clone(), String::new());
    for (depth, position) in path.iter().enumerate() {
        let Some(next) = node.child(*position) else { break };
        at = next.at.clone();
        if let Value::Map(entries) = &node.value
            && let Some(entry) = entries.get(*position)
        {
            keys.push_str(if keys.is_empty() { "" } else { "." });
            keys.push_str(&entry.key);
            let is_block = matches!(next.value, Value::Map(_) | Value::List(_) | Value::Null);
            if is_block || (at_key && depth + 1 == path.len()) {
                at = entry.at.clone();
            }
        } else {
            let _ = write!(keys, "[{position}]");
        }
        node = next;
    }
    (at, keys)
}

#[cfg(test)]
pub(in crate::config) mod tests;
