//! `/health`, `/livez`, `/readyz`, `/metrics`: for machines that look after us. No key.
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::App;
use crate::store::Stores;

/// Alive: the process answers.
pub async fn live() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

/// Ready: it takes requests. 503 while it drains, and while no record of a call could be kept; another
/// store that is away, or a part of the audit's records that is damaged, is told, but no reason to stop.
pub async fn ready(State(app): State<App>) -> Response {
    let (draining, refuses) = (app.is_draining(), app.writer().refuses());
    let status = if draining || refuses { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let word = match (draining, refuses) {
        (true, _) => "draining",
        (false, true) => "not ready",
        (false, false) => "ready",
    };
    (status, Json(json!({"status": word, "components": components(&app)}))).into_response()
}

/// How it is, in detail.
pub async fn health(State(app): State<App>) -> Response {
    let running = app.running();
    let body = json!({
        "status": if app.is_draining() { "draining" } else { "healthy" },
        "model_loaded": !running.table.names().is_empty(),
        "version": env!("CARGO_PKG_VERSION"),
        "config_version": &*running.version,
        "uptime_seconds": app.uptime().as_secs(),
        "components": components(&app),
    });
    Json(body).into_response()
}

fn components(app: &App) -> Value {
    let running = app.running();
    let corpus = running.knowledge.current();
    let Stores { sql, redis } = app.stores();
    let there = |up: bool| if up { "ok" } else { "away" };
    json!({
        "database": {"status": there(sql.is_up()), "kind": sql.kind().name()},
        // `off` where none is configured: this gateway counts for itself.
        "redis": {"status": redis.as_ref().map_or("off", |redis| there(redis.is_up()))},
        "knowledge": {"status": "ok", "documents": corpus.document_count(), "version": &**corpus.version()},
        "prompts": {"status": "ok", "version": &**running.prompts.version()},
        "audit": audit(app),
        "breakers": {"status": "ok", "open": app.open_breakers()},
    })
}

fn audit(app: &App) -> Value {
    let Some(filing) = app.audit() else { return json!({"status": "off"}) };
    let ((unfiled, _), segments, blocks) = (filing.behind(), filing.damaged(), filing.damaged_blocks());
    let status = match (app.writer().refuses(), app.writer().is_well()) {
        (true, _) => "away",
        (false, false) => "behind",
        // It goes on, and somebody has to look.
        (false, true) if segments + blocks > 0 => "damaged",
        (false, true) => "ok",
    };
    json!({"status": status, "unfiled": unfiled, "damaged_segments": segments, "damaged_blocks": blocks})
}

/// The metrics, in the Prometheus text format, or in OpenMetrics where that is asked for.
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    // Asked for here: a writer that hangs on its disk would not tell.
    app.metrics().audit_pending.set(app.writer().pending() as i64);
    if let Some(filing) = app.audit() {
        let (unfiled, lag) = filing.behind();
        app.metrics().audit_unfiled.set(unfiled as i64);
        app.metrics().audit_lag.set(lag.as_secs() as i64);
    }
    app.metrics().keys.set(app.running().keys.len() as i64);
    app.metrics().keys_age.set(app.keys().age().as_secs() as i64);
    super::budgets::measure(&app).await;
    let text = app.metrics().render();
    if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return ([(header::CONTENT_TYPE, kind)], open_metrics(&text)).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The same in OpenMetrics: a counter's family has no `_total`, and the text has an end.
fn open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .filter(|name| name.ends_with("_total"))
        .collect();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let family = match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP" | "TYPE"), Some(name)) => {
                counters.iter().find(|counter| **counter == name)
            }
            _ => None,
        };
        match family.and_then(|name| Some((name, name.strip_suffix("_total")?))) {
            Some((name, short)) => out.push_str(&line.replacen(name, short, 1)),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_names_the_family_and_ends() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n# TYPE g gauge\ng 2\n";
        let open = "# HELP a A.\n# TYPE a counter\na_total{x=\"y\"} 1\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(open_metrics(text), open);
    }
}
