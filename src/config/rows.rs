//! The keys' own file: a list of the rows that `auth.keys` has, too.
use serde::Deserialize;

use super::{
    Problem,
    load::{invalid, read_file, read_on},
    problem::{self, nearest},
    tree::Node,
};
use crate::{
    auth::{Auth, Key},
    caller::{ALL_TENANTS, Role},
    http::routes,
};

/// The whole file, as a validator sees it.
#[derive(Default, Deserialize, garde::Validate)]
#[serde(transparent)]
struct Rows {
    #[garde(dive)]
    rows: Vec<Key>,
}

/// The keys of the configuration and of their own file, or all that is wrong
/// with the file. Blocks while it reads.
pub fn keys(auth: &Auth) -> Result<Vec<Key>, Vec<Problem>> {
    let mut keys = auth.keys.clone();
    let Some(path) = auth.keys_file.as_deref() else { return Ok(keys) };
    let name = path.display().to_string();
    let rows = parse(&name, &read_file(path).map_err(|problem| vec![problem])?)?;
    if let Some(row) =
        rows.iter().find(|row| keys.iter().any(|key| key.name == row.name || key.hash == row.hash))
    {
        let message = format!("the row of `{}` is under `auth.keys`, too", row.name);
        return Err(vec![Problem::of(name, message)]);
    }
    let wrong = rows.iter().flat_map(|row| contradictions(row).into_iter().map(move |wrong| (row, wrong)));
    let wrong = wrong.map(|(row, (field, message))| {
        Problem::of(name.clone(), format!("the row of `{}`: `{field}`: {message}", row.name))
    });
    let wrong: Vec<Problem> = wrong.collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    keys.extend(rows);
    // A file that lost its rows must not open the gateway to everyone.
    if keys.is_empty() {
        let message = "holds no key, and every caller would be let in; make one with `sluice key new NAME`";
        return Err(vec![Problem::of(name, message)]);
    }
    Ok(keys)
}

/// What a row says that cannot be: the fields, and why not.
pub(super) fn contradictions(key: &Key) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, endpoint) in key.endpoints.iter().flatten().enumerate() {
        if routes::find(endpoint).is_none_or(|route| route.template != endpoint) {
            let known: Vec<&str> = routes::ROUTES.iter().map(|route| route.template).collect();
            let message = format!("there is no endpoint `{endpoint}`; {}", nearest(endpoint, &known));
            found.push((format!("endpoints[{index}]"), message));
        }
    }
    if key.tenant == ALL_TENANTS && key.roles != [Role::Admin] {
        let message = format!("`{ALL_TENANTS}` is for a key whose `roles` are `[admin]`");
        found.push(("tenant".into(), message));
    }
    found
}

fn parse(name: &str, text: &str) -> Result<Vec<Key>, Vec<Problem>> {
    let mut tree = Node::parse(text)
        .map_err(|broken| vec![Problem::at(name, text, &broken.at, &broken.message, false)])?;
    let mut problems = Vec::new();
    let rows: Rows = read_on(&mut tree, name, text, &mut problems).unwrap_or_default();
    problems.extend(invalid(&rows, "rows", &tree, name, text));
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
    }

    #[test]
    fn a_row_that_cannot_be_is_told() {
        let row = |more: &str| {
            let row = format!("[{{name: a, hash: 'sha256:{}', {more}}}]", "0".repeat(64));
            contradictions(&parse("k", &row).unwrap()[0])
                .into_iter()
                .map(|(field, _)| field)
                .collect::<Vec<_>>()
        };
        assert_eq!(row("endpoints: [/query, /qury, /v1/models/x]"), ["endpoints[1]", "endpoints[2]"]);
        assert_eq!(row("tenant: '*'"), ["tenant"]);
        assert_eq!(row("tenant: '*', roles: [app, admin]"), ["tenant"]);
        assert!(row("tenant: '*', roles: [admin], endpoints: ['/v1/models/{id}']").is_empty());
    }

    #[test]
    fn a_file_without_rows_does_not_open_the_gateway() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut auth = Auth { keys_file: Some(file.path().into()), ..Auth::default() };
        assert!(keys(&auth).is_err());
        auth.keys = parse("k", &format!("[{{name: a, hash: 'sha256:{}'}}]", "0".repeat(64))).unwrap();
        assert_eq!(keys(&auth).unwrap(), auth.keys);
    }
}
