//! `sluice key`: keys for the configuration, and those of a gateway that runs.
use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::auth::make;

/// How long a gateway may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print its row for the configuration; with --at, make it on a gateway that runs.
    New {
        /// The key's name, for logs and records.
        name: String,
        /// The tenant that it belongs to; left out: `default`, or that of the admin key.
        #[arg(long)]
        tenant: Option<String>,
        /// A role: app, reviewer or admin; may be given several times; left out: app. With --at only.
        #[arg(long = "role", requires = "at")]
        roles: Vec<String>,
        /// A model that it may use; may be given several times; left out: all. With --at only.
        #[arg(long = "model", requires = "at")]
        models: Vec<String>,
        /// When it ends, such as 2027-01-31. With --at only.
        #[arg(long, requires = "at")]
        expires: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// List the keys that were made on a gateway that runs.
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Revoke a key that was made on a gateway that runs.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// A gateway that runs.
#[derive(Debug, Args)]
pub(super) struct Gateway {
    /// Its address, such as http://127.0.0.1:8000. The admin key is in $SLUICE_ADMIN_KEY, or in --admin-key-file.
    #[arg(long, value_name = "URL")]
    at: Option<String>,
    /// The file with the admin key.
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
}

/// Does it; gives back what a person reads.
pub(super) fn run(command: KeyCommand) -> Result<String, String> {
    match command {
        KeyCommand::New { name, tenant, roles, models, expires, gateway } => {
            if gateway.at.is_none() {
                return make::row(&name, tenant.as_deref().unwrap_or("default"));
            }
            let mut wanted = Map::from_iter([("name".to_owned(), json!(name))]);
            let lists = [("roles", roles), ("models", models)];
            wanted.extend(
                lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(k, v)| (k.into(), json!(v))),
            );
            wanted.extend(
                [("tenant", tenant), ("expires", expires)]
                    .into_iter()
                    .filter_map(|(k, v)| Some((k.into(), json!(v?)))),
            );
            let made = gateway.ask("POST", "/admin/keys", Some(&Value::Object(wanted)))?;
            Ok(format!("key (shown this once): {}\nid: {}\n", text(&made["key"]), text(&made["id"])))
        }
        KeyCommand::List { gateway } => gateway.list(),
        KeyCommand::Revoke { id, gateway } => {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err("an id has letters, digits and hyphens, as `sluice key list` shows it".into());
            }
            let revoked = gateway.ask("DELETE", &format!("/admin/keys/{id}"), None)?;
            Ok(format!("revoked: {} ({})\n", text(&revoked["name"]), text(&revoked["id"])))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

impl Gateway {
    fn list(&self) -> Result<String, String> {
        let mut told = format!("{:<38}{:<20}{:<16}{:<20}{}\n", "id", "name", "tenant", "roles", "state");
        let mut path = "/admin/keys?limit=200".to_owned();
        loop {
            let page = self.ask("GET", &path, None)?;
            for key in page["keys"].as_array().into_iter().flatten() {
                let roles: Vec<&str> = key["roles"].as_array().into_iter().flatten().map(text).collect();
                let state = match (&key["revoked_at"], &key["expires"]) {
                    (Value::String(at), _) => format!("revoked {at}"),
                    (_, Value::String(at)) => format!("until {at}"),
                    _ => "good".to_owned(),
                };
                let (id, name, tenant) = (text(&key["id"]), text(&key["name"]), text(&key["tenant"]));
                let roles = roles.join(",");
                let _ = writeln!(told, "{id:<38}{name:<20}{tenant:<16}{roles:<20}{state}");
            }
            match page["next"].as_str() {
                Some(next) => path = format!("/admin/keys?limit=200&after={next}"),
                None => return Ok(told),
            }
        }
    }

    /// Asks the gateway; what it refuses is told in its own words.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let at = self.at.as_deref().unwrap_or("http://127.0.0.1:8000");
        let host = at.trim_end_matches('/').strip_prefix("http://").filter(|host| !host.contains(['/', '@']));
        // The gateway itself speaks no TLS; what does so before it is not for this.
        let host = host.ok_or("--at is an address such as http://127.0.0.1:8000")?;
        let key = match &self.admin_key_file {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            None => std::env::var("SLUICE_ADMIN_KEY")
                .map_err(|_| "an admin key is needed, in $SLUICE_ADMIN_KEY or --admin-key-file")?,
        };
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the admin key is empty, or is none".into());
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let asked = format!(
            "{method} {path} HTTP/1.0\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = || -> std::io::Result<Vec<u8>> {
            let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(asked.as_bytes())?;
            let mut answer = Vec::new();
            stream.take(LONGEST).read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|error| format!("the gateway at {at} does not answer: {error}"))?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not of a gateway")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let value: Value =
            serde_json::from_str(body).map_err(|_| format!("the answer ({status}) is not of a gateway"))?;
        if status.starts_with('2') {
            return Ok(value);
        }
        let fields = value["errors"].as_array().into_iter().flatten();
        let fields =
            fields.map(|field| format!("\n  {}: {}", text(&field["field"]), text(&field["message"])));
        Err(format!("{status}: {}{}", text(&value["detail"]), fields.collect::<String>()))
    }
}
