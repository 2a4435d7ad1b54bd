//! Every operation of the API's own description, tried without a key, with a
//! wrong one, a revoked one, one of a lesser role, and, where a path names
//! something, with the key of another tenant. The description is asked of a
//! running gateway: a new operation is tried from its first day, and one that
//! does not say which role it needs fails.
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Setup, Upstream, Wire, key};

/// An operation.
struct Operation {
    method: String,
    template: String,
    /// The role that it needs; absent: it is open.
    role: Option<String>,
}

const ROLES: [&str; 3] = ["app", "reviewer", "admin"];

fn with(name: &str, tenant: &str, role: &str) -> Value {
    let mut row = key(name, &format!("sk-{name}"));
    row["tenant"] = tenant.into();
    row["roles"] = json!([role]);
    row
}

/// A gateway with a key of each role in each of two tenants, named `a-app` and so on.
async fn gateway(upstream: &Upstream) -> Gateway {
    let both = ["a", "b"].into_iter().flat_map(|tenant| ROLES.map(|role| (tenant, role)));
    let mut keys: Vec<Value> =
        both.map(|(tenant, role)| with(&format!("{tenant}-{role}"), tenant, role)).collect();
    keys.push(with("root", "*", "admin"));
    Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": keys}})).start().await
}

async fn operations(gateway: &Gateway) -> Vec<Operation> {
    let document = gateway.get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let role = operation["x-sluice-role"].as_str().map(str::to_owned);
            let is_open = operation["security"] == json!([]);
            assert!(
                role.is_some() != is_open,
                "{method} {template} says neither its role nor that it is open, or both"
            );
            assert!(role.iter().all(|role| ROLES.contains(&role.as_str())), "{role:?}");
            found.push(Operation { method: method.to_uppercase(), template: template.clone(), role });
        }
    }
    assert!(found.len() > 15 && found.iter().any(|operation| operation.role.is_some()));
    found
}

impl Operation {
    /// Asks with an id in every blank of the path.
    async fn ask(&self, gateway: &Gateway, key: Option<&str>, id: &str) -> Answer {
        let mut path = String::new();
        for part in self.template.split_inclusive(['{', '}']) {
            match part.strip_suffix('}') {
                Some(_) => path += id,
                None => path += part.trim_end_matches('{'),
            }
        }
        let mut ask = gateway.ask(&self.method, &path).header("x-request-id", "matrix");
        if let Some(key) = key {
            ask = ask.bearer(key);
        }
        if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            ask = ask.json(&json!({}));
        }
        ask.send().await
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// Makes what the template names, in tenant `b`, and gives back its id; `None`
/// where what it names is everybody's.
async fn theirs(gateway: &Gateway, template: &str) -> Option<String> {
    match template {
        "/v1/models/{id}" => None,
        "/audit/{request_id}" => {
            let ask = gateway.ask("POST", "/query").bearer("sk-b-app").header("x-request-id", "asked-by-b");
            ask.json(&json!({"question": "Hi", "user_id": "u", "mode": "chat"})).send().await.expect(200);
            Some("asked-by-b".into())
        }
        "/admin/keys/{id}" => Some(made(gateway, "sk-b-admin", "theirs").await.0),
        "/sessions/{id}" => {
            let body = json!({"question": "Hi", "session_id": "theirs"});
            gateway.ask("POST", "/stream").bearer("sk-b-app").json(&body).send().await;
            Some("theirs".into())
        }
        "/review/{id}" => {
            let ask = gateway.ask("POST", "/query").bearer("sk-b-app").header("x-request-id", "rated-by-b");
            ask.json(&json!({"question": "Hi", "user_id": "u", "mode": "chat"})).send().await.expect(200);
            let rating = json!({"request_id": "rated-by-b", "rating": 1});
            gateway.ask("POST", "/feedback").bearer("sk-b-app").json(&rating).send().await.expect(201);
            let listed = gateway.get_as("sk-b-reviewer", "/review?reason=feedback").await.expect(200);
            Some(listed["items"][0]["id"].as_str().unwrap().into())
        }
        other => panic!("`{other}` names something: say here how one is made, or that it is everybody's"),
    }
}

/// A key made at run time: its id, and itself.
async fn made(gateway: &Gateway, by: &str, name: &str) -> (String, String) {
    let ask = gateway.ask("POST", "/admin/keys").bearer(by).json(&json!({"name": name, "roles": ["admin"]}));
    let made = ask.send().await.expect(201);
    (made["id"].as_str().unwrap().into(), made["key"].as_str().unwrap().into())
}

#[tokio::test]
async fn no_operation_answers_those_whom_it_is_not_for() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let (id, revoked) = made(&gateway, "sk-a-admin", "revoked").await;
    gateway.ask("DELETE", &format!("/admin/keys/{id}")).bearer("sk-a-admin").send().await.expect(200);
    for operation in operations(&gateway).await {
        let name = operation.name();
        let Some(role) = &operation.role else {
            let answer = operation.ask(&gateway, None, "x").await;
            assert!(answer.status < 400, "{name} is open and says {}", answer.status);
            continue;
        };
        let mut told = Vec::new();
        for (what, key) in
            [("no key", None), ("a wrong key", Some("sk-wrong")), ("a revoked key", Some(&*revoked))]
        {
            let answer = operation.ask(&gateway, key, "x").await;
            assert_eq!(answer.status, 401, "{name} with {what}: {}", answer.text());
            told.push(answer.text());
        }
        assert!(told.iter().all(|text| *text == told[0]), "{name} tells keys apart: {told:?}");
        // `admin` comes with all the others.
        for lesser in ROLES.into_iter().filter(|lesser| lesser != role && *lesser != "admin") {
            let answer = operation.ask(&gateway, Some(&format!("sk-a-{lesser}")), "x").await;
            assert_eq!(answer.status, 403, "{name} with the role {lesser}: {}", answer.text());
        }
        if role == "app" {
            let answer = operation.ask(&gateway, Some("sk-root"), "x").await;
            assert_eq!(answer.status, 403, "{name} by who is no tenant: {}", answer.text());
        }
        let answer = operation.ask(&gateway, Some(&format!("sk-a-{role}")), "x").await;
        assert!(![401, 403].contains(&answer.status), "{name} with its own role: {}", answer.text());
    }
}

#[tokio::test]
async fn what_is_another_tenants_looks_as_if_it_were_not_there() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let mut tried = 0;
    for operation in operations(&gateway).await.iter().filter(|operation| operation.template.contains('{')) {
        let (name, role) =
            (operation.name(), operation.role.as_deref().expect("what has an id has an owner"));
        let Some(id) = theirs(&gateway, &operation.template).await else { continue };
        let stranger = format!("sk-a-{role}");
        let absent = id.chars().rev().collect::<String>();
        let (theirs, nothing) = (
            operation.ask(&gateway, Some(&stranger), &id).await,
            operation.ask(&gateway, Some(&stranger), &absent).await,
        );
        assert_eq!((theirs.status, nothing.status), (404, 404), "{name}: {}", theirs.text());
        assert_eq!(theirs.text().replace(&id, "ID"), nothing.text().replace(&absent, "ID"), "{name}");
        // It is there, for its own tenant, and untouched by the stranger.
        let own = operation.ask(&gateway, Some(&format!("sk-b-{role}")), &id).await;
        // A body that says nothing is refused where there is something to say it of.
        assert!(own.status < 300 || own.status == 422, "{name} by its own tenant: {}", own.text());
        if operation.template.starts_with("/admin/keys/") {
            let cleaned =
                gateway.ask("DELETE", &format!("/admin/keys/{id}")).bearer("sk-b-admin").send().await;
            cleaned.expect(200);
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}
