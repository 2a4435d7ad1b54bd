//! A judge elsewhere: a classifier or a moderation service that is asked over HTTP.
//!
//! Its address comes from the configuration only. It is waited for a bounded
//! time, its answer is bounded, and where it keeps failing it is left alone
//! for a while; what a call is worth without it, the configuration says.
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Cause, Error, Result},
    provider::post::Post,
    settings::{SecretFrom, Span, is_address},
};

/// Where a judge is, and what holds without it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Its address; absent: nobody is asked.
    #[garde(inner(custom(is_address)))]
    pub url: Option<String>,
    /// Its key, sent as `Authorization: Bearer`.
    #[garde(skip)]
    pub api_key: Option<SecretFrom>,
    /// How long it is waited for.
    #[garde(skip)]
    pub timeout: Span,
    /// What becomes of a call when it does not answer: block or pass. Counts only where findings block.
    #[garde(skip)]
    pub on_failure: Failing,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, api_key: None, timeout: Span::secs(2), on_failure: Failing::Block }
    }
}

/// What becomes of a call whose judge does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Failing {
    /// It is refused.
    #[default]
    Block,
    /// It goes on without a verdict.
    Pass,
}

/// The longest answer, in bytes.
const LONGEST: usize = 256 << 10;
/// After so many failures in a row it is left alone.
const FAILURES: u32 = 5;
/// For how long.
const ALONE: Duration = Duration::from_secs(10);

/// A judge elsewhere.
#[derive(Debug)]
pub struct Remote {
    post: Post,
    headers: HeaderMap,
    timeout: Duration,
    /// What becomes of a call when it does not answer.
    pub failing: Failing,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    until: Option<Instant>,
}

impl Remote {
    /// The judge of the settings, if they name one. `name` is where they stand, for the error.
    pub fn new(settings: &Settings, name: &str) -> Result<Option<Self>, String> {
        let Some(url) = &settings.url else { return Ok(None) };
        let post = Post::new(url).map_err(|why| format!("`{name}.url`: {why}"))?;
        let mut headers = HeaderMap::new();
        if let Some(from) = &settings.api_key {
            let key = from.fetch().ok_or_else(|| format!("`{name}.api_key`: the {from} is empty"))?;
            let value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()));
            let mut value =
                value.map_err(|_| format!("`{name}.api_key`: the {from} is no header's value"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let (timeout, failing) = (settings.timeout.0, settings.on_failure);
        Ok(Some(Self { post, headers, timeout, failing, health: Mutex::default() }))
    }

    /// Asks it, within its time and the time that the call has left. `whole` says whether an answer has a verdict on
    /// all that was asked: one that has not is none.
    ///
    /// # Errors
    /// [`Error::JudgeAway`], whatever went wrong.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        question: &impl Serialize,
        left: Duration,
        whole: impl Fn(&A) -> bool,
    ) -> Result<A> {
        if !self.may_try() {
            return Err(Error::JudgeAway("it failed too often and is left alone".into()));
        }
        let asked = self.post(question, left.min(self.timeout)).await;
        let asked = asked.and_then(|answer| match whole(&answer) {
            true => Ok(answer),
            false => Err("it does not judge all that it was asked".into()),
        });
        let mut health = self.health.lock();
        if asked.is_ok() {
            *health = Health::default();
        } else {
            health.failures = health.failures.saturating_add(1);
            health.until = (health.failures >= FAILURES).then(|| Instant::now() + ALONE);
        }
        drop(health);
        asked.map_err(Error::JudgeAway)
    }

    async fn post<A: DeserializeOwned>(&self, question: &impl Serialize, wait: Duration) -> Result<A, Cause> {
        let body = Bytes::from(serde_json::to_vec(question)?);
        let (status, answer) = self.post.ask(&body, &self.headers, wait, LONGEST).await?;
        if !status.is_success() {
            return Err(format!("status {status}").into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Whether it may be asked now. When it was left alone for long enough, one call tries.
    fn may_try(&self) -> bool {
        let mut health = self.health.lock();
        match health.until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                health.until = Some(Instant::now() + ALONE);
                true
            }
            None => true,
        }
    }
}
