//! Tells the operator of budgets that pass a mark: a log line, a metric, a webhook.
use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    budget::{Passed, Scope, Settings, Told},
    chat::Cost,
    observe::Metrics,
    provider::post::Post,
    settings::Secret,
};

/// Alerts that may wait to be sent. More are logged and counted, but not sent.
const MOST_WAITING: usize = 256;
/// How often a webhook is tried.
const ATTEMPTS: u32 = 3;
/// How long the first further try waits; each next one four times as long.
const AGAIN: Duration = Duration::from_secs(1);

/// Where alerts go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Alerts {
    hook: Arc<ArcSwapOption<Hook>>,
    waiting: mpsc::Sender<Passed>,
    metrics: Arc<Metrics>,
}

struct Hook {
    post: Post,
    secret: Option<Secret>,
}

impl Alerts {
    /// Alerts that go nowhere yet.
    pub(super) fn start(metrics: Arc<Metrics>) -> Self {
        let (waiting, queue) = mpsc::channel(MOST_WAITING);
        let hook: Arc<ArcSwapOption<Hook>> = Arc::default();
        tokio::spawn(send(queue, hook.clone()));
        Self { hook, waiting, metrics }
    }

    /// Sends them where the settings say, from here on.
    pub(super) fn set(&self, settings: &Settings) -> Result<(), String> {
        let Some(url) = &settings.webhook else {
            self.hook.store(None);
            return Ok(());
        };
        let post = Post::new(url).map_err(|why| format!("`budget.webhook`: {why}"))?;
        let secret = match &settings.webhook_secret {
            None => None,
            Some(from) => Some(from.read().map_err(|why| format!("`budget.webhook_secret`: {why}"))?),
        };
        self.hook.store(Some(Arc::new(Hook { post, secret })));
        Ok(())
    }

    /// What hears of a mark that is passed. It does not wait.
    pub(super) fn told(&self) -> Told {
        let this = self.clone();
        Arc::new(move |passed: Passed| {
            let mark = passed.mark.to_string();
            this.metrics.budget_alerts.with_label_values(&[mark.as_str()]).inc();
            let (scope, tenant, name) = named(&passed.name.scope);
            tracing::warn!(
                scope, tenant, name, period = passed.name.period.name(), mark = passed.mark,
                spent_usd = %Cost(passed.spent), cap_usd = %Cost(passed.cap),
                "a budget is spent to {mark} %"
            );
            if this.hook.load().is_some() && this.waiting.try_send(passed).is_err() {
                tracing::error!("a budget's alert was not sent: too many wait");
            }
        })
    }
}

/// Whose: the kind, the tenant, the name.
fn named(scope: &Scope) -> (&'static str, &str, &str) {
    match scope {
        Scope::Global => ("global", "", ""),
        Scope::Tenant(tenant) => ("tenant", tenant, tenant),
        Scope::Key(tenant, id) => ("key", tenant, id),
        Scope::User(tenant, user) => ("user", tenant, user),
    }
}

async fn send(mut queue: mpsc::Receiver<Passed>, hook: Arc<ArcSwapOption<Hook>>) {
    while let Some(passed) = queue.recv().await {
        let Some(hook) = hook.load_full() else { continue };
        let (scope, tenant, name) = named(&passed.name.scope);
        let body = json!({
            "event": "budget.passed",
            "mark": passed.mark,
            "scope": scope,
            "tenant": tenant,
            "name": name,
            "period": passed.name.period.name(),
            "spent_usd": Cost(passed.spent).usd(),
            "cap_usd": Cost(passed.cap).usd(),
            "resets_at": jiff::Timestamp::from_second(passed.end).map(|at| at.to_string()).unwrap_or_default(),
        });
        let body = Bytes::from(body.to_string());
        let headers = signed(&body, hook.secret.as_ref(), jiff::Timestamp::now().as_second());
        let mut wait = AGAIN;
        for attempt in 1..=ATTEMPTS {
            let why = match hook.post.send(&body, &headers).await {
                Ok(status) if status.is_success() => break,
                Ok(status) => format!("status {status}"),
                Err(error) => error.chain(),
            };
            tracing::warn!(why, attempt, "a budget's alert was not taken by its webhook");
            if attempt < ATTEMPTS {
                tokio::time::sleep(wait).await;
                wait *= 4;
            }
        }
    }
}

/// The time, and the signature of the time, a point and the body.
fn signed(body: &[u8], secret: Option<&Secret>, now: i64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-sluice-timestamp", HeaderValue::from(now));
    let sign = |secret: &Secret| signature(secret.reveal().as_bytes(), &[format!("{now}.").as_bytes(), body]);
    let value = secret.and_then(|secret| HeaderValue::from_str(&format!("sha256={}", sign(secret))).ok());
    if let Some(value) = value {
        headers.insert("x-sluice-signature", value);
    }
    headers
}

/// HMAC-SHA-256 (RFC 2104) in hexadecimal digits.
fn signature(key: &[u8], parts: &[&[u8]]) -> String {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| signing.update(part));
    signing.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_hmac_sha_256_of_the_time_and_the_body() {
        assert_eq!(
            signature(b"key", &[b"The quick brown fox ", b"jumps over the lazy dog"]),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
        );
        let headers = signed(b"{}", Some(&Secret::new("key")), 1_700_000_000);
        assert_eq!(headers["x-sluice-timestamp"], "1700000000");
        let expected = signature(b"key", &[b"1700000000.{}"]);
        assert_eq!(headers["x-sluice-signature"], format!("sha256={expected}"));
        assert!(signed(b"{}", None, 1).get("x-sluice-signature").is_none());
    }
}
