//! Settings from the environment: `SLUICE__SECTION__KEY=value`.
use std::sync::Arc;

use super::{
    Problem,
    tree::{At, Entry, Node, Value},
};
use crate::observe::logs;

const PREFIX: &str = "SLUICE__";

/// Puts the variables' values in. A value is read as YAML: `8`, `30s`, `[a, b]`,
/// `{env: X}`; where it is none, it is a text.
pub(super) fn apply(tree: &mut Node, variables: &[(String, String)], problems: &mut Vec<Problem>) {
    let mut ours: Vec<&(String, String)> =
        variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // A shorter name sets a whole section, which a longer one then changes.
    ours.sort_by_key(|(name, _)| (name.split("__").count(), name.clone()));
    for (name, value) in ours {
        let origin: Arc<str> = format!("environment variable `{name}`").into();
        let at = At::Outside(origin.clone());
        let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        if let Err(message) = set(tree, &path, value_of(value, &at), &at) {
            problems.push(Problem::of(&*origin, message));
        }
    }
}

/// What variables most likely mean, and do not say.
pub(super) fn doubts(variables: &[(String, String)]) -> Vec<String> {
    let mut doubts = Vec::new();
    for (name, value) in variables {
        let rest = name.strip_prefix("SLUICE_").filter(|rest| !rest.starts_with('_') && rest.contains("__"));
        if let Some(rest) = rest {
            doubts.push(format!(
                "the environment variable `{name}` says nothing; did you mean `{PREFIX}{rest}`?"
            ));
        }
        if name == "LOG_LEVEL" && !logs::is_level(value) {
            doubts.push(format!(
                "`LOG_LEVEL`: {value:?} is no level, such as `info` or `warn`; `log.level` holds"
            ));
        }
    }
    doubts
}

/// Puts a value where a path leads, and makes the sections on the way.
pub(super) fn set(tree: &mut Node, path: &[String], value: Node, at: &At) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else {
        *tree = value;
        return Ok(());
    };
    if key.is_empty() {
        return Err("names no key; it is written `SLUICE__SECTION__KEY`".into());
    }
    if matches!(tree.value, Value::Null) {
        tree.value = Value::Map(Vec::new());
    }
    let next = match &mut tree.value {
        Value::Map(entries) => {
            let found = entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key));
            let found = found.unwrap_or_else(|| {
                let node = Node::new(Value::Null, at.clone());
                entries.push(Entry { key: key.clone(), at: at.clone(), node });
                entries.len() - 1
            });
            entries.get_mut(found).map(|entry| &mut entry.node)
        }
        Value::List(items) => key.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
        // Nothing leads on from a plain value, and `Null` has become a mapping above.
        _ => None,
    };
    let next = next.ok_or_else(|| format!("leads nowhere: there is no place for `{key}`"))?;
    set(next, rest, value, at)
}

fn value_of(text: &str, at: &At) -> Node {
    let as_text = || Node::new(Value::Text(text.to_owned()), at.clone());
    let mut node = match Node::parse(text) {
        // What begins with `#` is a comment in YAML, and was hardly meant as one.
        Ok(node) if matches!(node.value, Value::Null) && !matches!(text.trim(), "" | "~" | "null") => {
            as_text()
        }
        Ok(node) => node,
        Err(_) => as_text(),
    };
    node.move_to(at);
    node
}
