//! Who may import whom, and other habits that a reader relies on.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The levels of the house, lowest first. A module imports modules of lower
/// levels, and of its own level only those that its row names.
const LEVELS: &[&[(&str, &[&str])]] = &[
    &[("chat", &[]), ("settings", &[]), ("turn", &[])],
    &[
        ("error", &[]),
        ("call", &["caller", "purse"]),
        ("caller", &[]),
        ("purse", &["call", "error"]),
        ("reply", &["error"]),
        ("stage", &["call", "error", "reply"]),
        ("wire", &["error"]),
    ],
    &[
        ("admit", &["route"]),
        ("audit", &["observe", "store"]),
        ("auth", &["store"]),
        ("budget", &["observe", "price", "store", "tokens"]),
        ("cache", &[]),
        ("guard", &["observe", "provider"]),
        ("knowledge", &[]),
        ("limit", &["observe", "store"]),
        ("observe", &[]),
        ("price", &[]),
        ("prompt", &[]),
        ("provider", &["knowledge", "price", "prompt"]),
        ("replay", &["observe", "store"]),
        ("review", &["audit", "observe", "store"]),
        ("route", &["observe", "provider"]),
        ("session", &["observe", "prompt", "store", "tokens"]),
        ("store", &["observe"]),
        ("summary", &["audit", "store"]),
        ("tokens", &[]),
    ],
    &[("pipeline", &[])],
    &[("http", &[]), ("jobs", &[]), ("eval", &[])],
    &[
        ("config", &[]),
        ("stack", &["config"]),
        ("app", &["config", "stack"]),
        ("cli", &["app", "config", "stack"]),
        ("main", &["app", "cli", "config"]),
    ],
];

/// Files that name every module by trade.
const MAPS: &[&str] = &["lib"];

/// The longest file, in lines.
const LONGEST: usize = 500;

struct Source {
    /// Its path below `src/`.
    path: String,
    /// The top module that it belongs to.
    module: String,
    /// Its text, comments left out.
    code: String,
    lines: usize,
}

#[test]
fn modules_only_look_down() {
    let mut wrong = BTreeSet::new();
    for source in sources().iter().filter(|source| !MAPS.contains(&source.module.as_str())) {
        let Some((level, beside)) = place(&source.module) else {
            wrong.insert(format!("`{}` has no row in LEVELS", source.module));
            continue;
        };
        for used in imports(&source.code) {
            let allowed = used == source.module
                || match place(&used) {
                    Some((below, _)) => below < level || (below == level && beside.contains(&used.as_str())),
                    // An item of the crate's root, such as a macro.
                    None => !is_module(&used),
                };
            if !allowed {
                wrong.insert(format!("{} may not use `{used}`", source.path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = sources().into_iter().filter(|source| source.lines > LONGEST);
    report(&long.map(|source| format!("{} has {} lines", source.path, source.lines)).collect());
}

#[test]
fn only_the_reply_writes_poll_next() {
    only_in("fn poll_next", &["reply.rs", "reply/pace.rs", "reply/rescue.rs"]);
}

#[test]
fn only_the_connections_know_the_http_client() {
    only_in("client::legacy", &["provider/connections.rs"]);
    only_in("client::conn", &["provider/connections.rs", "provider/connections/multiplex.rs"]);
}

#[test]
fn a_stage_never_imports_a_stage() {
    let stages: Vec<_> = sources().into_iter().filter(|source| source.module == "pipeline").collect();
    let names: Vec<_> =
        stages.iter().filter_map(|source| Path::new(&source.path).file_stem()?.to_str()).collect();
    let mut wrong = BTreeSet::new();
    for source in stages.iter().filter(|source| !source.path.ends_with("mod.rs")) {
        let stages = names.iter().filter(|name| !["mod", "settings"].contains(name));
        for name in stages.filter(|name| !source.path.ends_with(&format!("/{name}.rs"))) {
            if ["super::", "pipeline::"].iter().any(|from| source.code.contains(&format!("{from}{name}::"))) {
                wrong.insert(format!("{} uses the stage `{name}`", source.path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn groups_and_single_names_are_both_read() {
    let code = "use crate::{chat::{Event, Usage}, error::Error}; fn f() { crate::stage::stage() }";
    assert_eq!(imports(code), ["chat", "error", "stage"].map(String::from).into());
}

/// Fails with all that is wrong, a line each.
#[track_caller]
fn report(wrong: &BTreeSet<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.iter().cloned().collect::<Vec<_>>().join("\n"));
}

#[track_caller]
fn only_in(words: &str, files: &[&str]) {
    let found = sources()
        .into_iter()
        .filter(|source| source.code.contains(words) && !files.contains(&source.path.as_str()));
    report(&found.map(|source| format!("{} has `{words}`", source.path)).collect());
}

/// The level of a module, and what it may use beside it.
fn place(module: &str) -> Option<(usize, &'static [&'static str])> {
    LEVELS.iter().enumerate().find_map(|(level, rows)| {
        rows.iter().find(|(name, _)| *name == module).map(|(_, beside)| (level, *beside))
    })
}

fn is_module(name: &str) -> bool {
    root().join(name).is_dir() || root().join(format!("{name}.rs")).is_file()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let module = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let code = code.collect::<Vec<_>>().join("\n");
                found.push(Source { path, module, code, lines: text.lines().count() });
            }
        }
    }
    found
}

/// The top modules that a file names after `crate::` (in the binary, after `sluice::`).
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["crate::", "sluice::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(heads(group)),
                None => found.extend(word(rest)),
            }
        }
    }
    found
}

/// The first word of each entry of a `use` group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut begins, mut found) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(word(&group[begins..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(word(&group[begins..at]));
                begins = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}
