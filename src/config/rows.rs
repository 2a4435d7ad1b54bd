//! The keys' own file: a list of the rows that `auth.keys` has, too.
use std::path::Path;

use serde::Deserialize;

use super::{
    Problem,
    load::{invalid, read_file, read_on},
    problem,
    tree::Node,
};
use crate::http::settings::Key;

/// The whole file, as a validator sees it.
#[derive(Default, Deserialize, garde::Validate)]
#[serde(transparent)]
struct Rows {
    #[garde(dive)]
    rows: Vec<Key>,
}

/// Reads the keys' own file, or tells all that is wrong with it.
pub fn keys_file(path: &Path) -> Result<Vec<Key>, Vec<Problem>> {
    let text = read_file(path).map_err(|problem| vec![problem])?;
    parse(&path.display().to_string(), &text)
}

fn parse(name: &str, text: &str) -> Result<Vec<Key>, Vec<Problem>> {
    let mut tree = Node::parse(text)
        .map_err(|broken| vec![Problem::at(name, text, &broken.at, &broken.message, false)])?;
    let mut problems = Vec::new();
    let rows: Rows = read_on(&mut tree, name, text, &mut problems).unwrap_or_default();
    problems.extend(invalid(&rows, "rows", &tree, name, text));
    // A file that lost its rows must not open the gateway to everyone.
    if rows.rows.is_empty() && problems.is_empty() {
        problems.push(Problem::of(name, "holds no key; make one with `sluice key new NAME`"));
    }
    problems.sort_by_key(problem::Problem::rank);
    if problems.is_empty() { Ok(rows.rows) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_all_their_mistakes_told_without_the_hashes() {
        let good = format!("- name: a\n  hash: sha256:{}\n", "0".repeat(64));
        assert_eq!(parse("k", &good).unwrap()[0].tenant, "default");
        let bad = "- name: a\n  hash: hunter2\n- hsah: x\n  name: b\n- name: c\n";
        let told: Vec<String> = parse("k", bad).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("error: k:2:9: `[0].hash`: must be `sha256:`"), "{told:?}");
        assert!(told[1].contains("k:3:3: there is no key `hsah` here; did you mean `hash`?"), "{told:?}");
        assert!(told[2].contains("k:5:3: the key `hash` is missing"), "{told:?}");
        assert!(!told.join("").contains("hunter2"), "{told:?}");
        assert!(parse("k", "# none\n").is_err());
    }
}
