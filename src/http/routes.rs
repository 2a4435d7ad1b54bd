//! Every path, and the role that it needs: what checks keys, what labels
//! metrics, and what the API's description says of it read this one list.
use crate::caller::Role;

/// A path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its template: `{name}` stands for one segment, at the end for all that follow.
    pub template: &'static str,
    /// The role that it needs; absent: it is open to everyone, without a key.
    pub role: Option<Role>,
}

/// The paths, those asked most first. A handler behind a path that is not
/// here knows no caller: whoever asks hears that there is nothing.
pub const ROUTES: &[Route] = &[
    to("/v1/chat/completions", Role::App),
    to("/query", Role::App),
    to("/stream", Role::App),
    to("/v1/messages", Role::App),
    to("/v1/responses", Role::App),
    to("/v1/embeddings", Role::App),
    to("/predict", Role::App),
    to("/v1/models", Role::App),
    to("/v1/models/{id}", Role::App),
    to("/feedback", Role::App),
    to("/review", Role::Reviewer),
    to("/review/{id}", Role::Reviewer),
    to("/sessions/{id}", Role::App),
    to("/summary", Role::Admin),
    to("/audit/{request_id}", Role::Reviewer),
    to("/admin/erasures", Role::Admin),
    to("/admin/budgets", Role::Admin),
    to("/admin/keys", Role::Admin),
    to("/admin/keys/{id}", Role::Admin),
    to("/admin/simulate", Role::Admin),
    open("/health"),
    open("/livez"),
    open("/readyz"),
    open("/metrics"),
    open("/openapi.json"),
    open("/docs"),
];

const fn to(template: &'static str, role: Role) -> Route {
    Route { template, role: Some(role) }
}

const fn open(template: &'static str) -> Route {
    Route { template, role: None }
}

/// Whether a model is asked at a path, told by its template: then every answer there leaves a record.
pub fn asks(template: &str) -> bool {
    const ASKING: [&str; 7] = [
        "/query",
        "/stream",
        "/predict",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/embeddings",
    ];
    ASKING.contains(&template)
}

/// The route of a path.
pub fn find(path: &str) -> Option<&'static Route> {
    // Nearly every request is for a path without a blank to fill in.
    let exact = ROUTES.iter().find(|route| route.template == path);
    exact.or_else(|| ROUTES.iter().find(|route| fits(route.template, path)))
}

fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut rest) = (template, path);
    while let Some((before, after)) = wanted.split_once('{') {
        let Some(left) = rest.strip_prefix(before) else { return false };
        let (_, tail) = after.split_once('}').unwrap_or((after, ""));
        let end = if tail.is_empty() { left.len() } else { left.find('/').unwrap_or(left.len()) };
        if end == 0 {
            return false;
        }
        (wanted, rest) = (tail, &left[end..]);
    }
    wanted == rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_template() {
        let of = |path| find(path).map(|route| route.template);
        assert_eq!(of("/query"), Some("/query"));
        assert_eq!(of("/v1/models/a/b"), Some("/v1/models/{id}"), "models have slashes in their names");
        for path in ["/v1/models/", "/nothing", "/query/", ""] {
            assert_eq!(of(path), None, "{path}");
        }
        assert!(fits("/a/{id}/b", "/a/x/b"));
        assert!(
            !fits("/a/{id}/b", "/a//b") && !fits("/a/{id}/b", "/a/x/y/b") && !fits("/a/{id}/b", "/a/x/b/c")
        );
    }

    #[test]
    fn paths_where_models_are_asked_are_in_the_list() {
        assert_eq!(ROUTES.iter().filter(|route| asks(route.template)).count(), 7);
    }

    #[test]
    fn every_route_is_in_the_list_and_in_the_description() {
        let served: std::collections::BTreeSet<String> = include_str!("mod.rs")
            .split(".route(")
            .skip(1)
            .filter_map(|rest| rest.split('"').nth(1))
            .map(|path| path.replace("{*", "{"))
            .collect();
        let listed = ROUTES.iter().map(|route| route.template.to_owned()).collect();
        assert_eq!(served, listed, "left: the router, right: the list");
        let document = super::super::docs::document();
        let told = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(served, told, "left: the router, right: the description");
    }
}
