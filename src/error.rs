//! Everything that can go wrong, by what the caller can do about it.
//!
//! [`Error::facts`] is the one place that decides a status, a code, a retry
//! or a failover. The edges render an error in the shape of the API called;
//! a message names what happened and what to do, and never a key, a
//! provider's address or another caller's data.
mod words;

pub(crate) use words::NO_MODEL;

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// A cause, for the log only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, such as `messages[0].role`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, or one that we do not know.
    #[error("Invalid API key")]
    Unauthenticated {
        /// Whether the key came in `X-API-Key`, where the native API answers 403.
        by_header: bool,
    },
    /// The key does not have this right.
    #[error("{0}")]
    Forbidden(String),
    /// The request cannot be read or makes no sense.
    #[error("{}", told(.0))]
    Invalid(Vec<FieldError>),
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    /// The request is larger than a limit.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The head of the request cannot be read, or is too large.
    #[error("{what}")]
    BadHead {
        /// Its status: 400, 414 or 431.
        status: u16,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time")]
    SlowBody,
    /// The body is in a form that we do not read.
    #[error("this endpoint reads `application/json` that is not compressed")]
    UnsupportedMedia,
    /// There is no such path.
    #[error("there is nothing at this path; /docs lists what there is")]
    NotFound,
    /// What the path names is not there, or not for this caller: the same words for both.
    #[error("{0}")]
    Absent(String),
    /// It does not fit what is there already.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for is kept in a store that does not answer.
    #[error("the gateway's database does not answer; try again shortly")]
    StoreAway(#[source] Cause),
    /// The path does not take this method.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// No route has this name, or the key may not use it.
    #[error("model `{0}` does not exist or you may not use it; GET /v1/models lists those you may")]
    UnknownModel(String),
    /// A limit of ours is reached.
    #[error("Rate limit exceeded")]
    RateLimited {
        /// Which limit.
        scope: &'static str,
        /// When a request will be admitted.
        retry_after: Duration,
    },
    /// A budget does not suffice for what the call may cost.
    #[error("{message}")]
    BudgetSpent {
        /// Which budget, and when it starts anew.
        message: String,
        /// Until then, or until it may be worth another try.
        wait: Duration,
        /// Whether it would suffice, but for what is set aside for calls under way.
        held: bool,
    },
    /// The answer would cost more than was set aside for it.
    #[error(
        "the answer was cut: it is longer than was asked for, and would cost more than was set aside for it"
    )]
    OverReservation,
    /// What the model costs is not known, and a budget applies.
    #[error(
        "model `{0}` may not be used where a budget applies: for it or one of its fallbacks there is no price"
    )]
    Unpriced(String),
    /// Nothing can be written into the budget's books.
    #[error("the budget cannot be checked right now; try again shortly")]
    BooksAway {
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log.
        #[source]
        source: Cause,
    },
    /// No record of the call can be kept, and none goes without one.
    #[error("the gateway can keep no record of this request right now; try again shortly")]
    AuditAway {
        /// When to try again.
        retry_after: Duration,
    },
    /// The gateway has no place left.
    #[error("the gateway is at capacity; try again shortly")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The model's provider has as many calls under way as it may.
    #[error("the model's provider is at its bound of calls at the same time; try again shortly")]
    ProviderFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down; try again")]
    Draining,
    /// A guard forbids the request.
    #[error("the request was blocked by the rule `{guard}`")]
    Blocked {
        /// The guard's name.
        guard: &'static str,
    },
    /// A judge that a call must not do without does not answer.
    #[error("the gateway's content check does not answer; try again shortly")]
    JudgeAway(#[source] Cause),
    /// The provider did not answer in time.
    #[error("the model did not answer in time")]
    Timeout {
        /// Which wait ran out: `connect`, `first_token`, `idle` or `total`.
        phase: &'static str,
    },
    /// The time that the call had is over; how long that is was up to the client, so it speaks against nobody.
    #[error("the time for this request is over")]
    DeadlineExceeded,
    /// The provider could not be reached.
    #[error("the model could not be reached")]
    Unreachable(#[source] Cause),
    /// The provider's answer stopped in the middle, or made no sense.
    #[error("the model's answer broke off")]
    Broken(#[source] Cause),
    /// The model's answer does not follow the schema that was asked for, not even when it was told.
    #[error(
        "the model's answer does not follow the JSON schema of the request: {0}; ask again, or ask for less"
    )]
    WrongForm(String),
    /// The provider is limited or overloaded.
    #[error("the model is temporarily over its capacity; try again shortly")]
    UpstreamBusy {
        /// Its status, or 429 where it said so within a stream.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// Its words, for the log.
        #[source]
        source: Option<Cause>,
    },
    /// The provider failed.
    #[error("the model's provider failed")]
    UpstreamFailed {
        /// Its status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// Its words, for the log.
        #[source]
        source: Option<Cause>,
    },
    /// The provider does not accept the gateway's own key or account.
    #[error("the gateway's credentials for this model are not accepted by its provider")]
    UpstreamRejected {
        /// Its status.
        status: u16,
        /// Its words, for the log.
        #[source]
        source: Option<Cause>,
    },
    /// The provider does not have the model that a route is configured with: nothing that the caller could change.
    #[error("the model behind this name is not there at its provider")]
    UpstreamLacks {
        /// Its words, for the log.
        #[source]
        source: Option<Cause>,
    },
    /// The provider finds the caller's request wrong; its words are for the caller.
    #[error("{message}")]
    Refused {
        /// Its status: 400, 404, 413 or 422.
        status: u16,
        /// What it says.
        message: String,
        /// The parameter that it names.
        param: Option<String>,
        /// Its code, such as `context_length_exceeded`.
        code: Option<String>,
    },
    /// The model's provider cannot do what is asked, such as embed a text.
    #[error("model `{model}` cannot do this: {what}")]
    Unsupported {
        /// The route.
        model: String,
        /// What it cannot do.
        what: Cow<'static, str>,
    },
    /// The target failed too often lately and is left alone for a while.
    #[error("the model is temporarily unavailable; try again shortly")]
    CircuitOpen {
        /// When it is tried again.
        retry_after: Duration,
    },
    /// What is in `Idempotency-Key` cannot be a key.
    #[error("`Idempotency-Key` must come once, and be 1 to 255 visible ASCII characters")]
    BadIdempotencyKey,
    /// The first request with this key is still being answered.
    #[error("the first request with this `Idempotency-Key` is still being answered; try again shortly")]
    IdempotencyKeyInUse {
        /// When to try again.
        retry_after: Duration,
    },
    /// The key came with another request before.
    #[error("this `Idempotency-Key` belongs to another request: method, path or body differ")]
    IdempotencyKeyReused,
    /// No stream of the caller's has such an event, or it is no longer kept.
    #[error("there is no stream to go on with under this `Last-Event-ID`; ask anew without it")]
    UnknownStream,
    /// Whether there is such a stream cannot be looked up.
    #[error("streams of other gateways cannot be looked up right now; try again shortly")]
    StreamsAway {
        /// When to try again.
        retry_after: Duration,
        /// Why, for the log.
        #[source]
        source: Cause,
    },
    /// The reader left, and the answer was broken off.
    #[error("the answer was broken off when its reader left; ask anew")]
    Abandoned,
    /// A fault of ours.
    #[error("Internal error — please try again")]
    Internal(#[source] Cause),
}

/// A connection that broke under several answers, whose loss another of them has told already: it speaks no second time
/// against its target.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LostWithOthers(pub Cause);

/// The wrong fields in one sentence.
fn told(fields: &[FieldError]) -> String {
    let told = fields.iter().map(|field| format!("`{}`: {}", field.field, field.message));
    told.collect::<Vec<_>>().join("; ")
}

/// A caller who has to wait longer for a budget is told in words only.
const LONGEST_ADVICE: Duration = Duration::from_secs(3600);

/// How an error looks from outside, and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`, also the family of the native problem type.
    pub kind: &'static str,
    /// The code, as in metrics and logs.
    pub code: &'static str,
    /// Whether the same target may be asked again.
    pub retry: bool,
    /// Whether another target may be asked.
    pub failover: bool,
    /// Whether it speaks against the target's health.
    pub fault: bool,
}

impl Error {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A fault of ours, with its cause for the log.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// A reply that broke off, with the reason for the log.
    pub fn broken(cause: impl Into<Cause>) -> Self {
        Self::Broken(cause.into())
    }

    /// Other gateways' streams cannot be looked up, with the reason for the log.
    pub fn streams_away(cause: impl Into<Cause>) -> Self {
        Self::StreamsAway { retry_after: Duration::from_secs(1), source: cause.into() }
    }

    /// The one table.
    pub fn facts(&self) -> Facts {
        use StatusCode as S;
        // What may be done: nothing; ask the same target again; ask another.
        const NOTHING: (bool, bool, bool) = (false, false, false);
        const AGAIN: (bool, bool, bool) = (true, true, true);
        const ELSEWHERE: (bool, bool, bool) = (false, true, true);
        let row = |status, kind, code, (retry, failover, fault)| Facts {
            status,
            kind,
            code,
            retry,
            failover,
            fault,
        };
        let bad = "invalid_request_error";
        match self {
            Self::Unauthenticated { .. } => row(S::UNAUTHORIZED, bad, "invalid_api_key", NOTHING),
            Self::Forbidden(_) => row(S::FORBIDDEN, "permission_error", "forbidden", NOTHING),
            Self::Invalid(_) => row(S::BAD_REQUEST, bad, "invalid_value", NOTHING),
            Self::NotJson(_) => row(S::BAD_REQUEST, bad, "invalid_json", NOTHING),
            Self::TooLarge { .. } => row(S::PAYLOAD_TOO_LARGE, bad, "request_too_large", NOTHING),
            Self::BadHead { status: 414, .. } => row(S::URI_TOO_LONG, bad, "uri_too_long", NOTHING),
            Self::BadHead { status: 431, .. } => {
                row(S::REQUEST_HEADER_FIELDS_TOO_LARGE, bad, "headers_too_large", NOTHING)
            }
            Self::BadHead { .. } => row(S::BAD_REQUEST, bad, "malformed_request", NOTHING),
            Self::SlowBody => row(S::REQUEST_TIMEOUT, bad, "request_timeout", NOTHING),
            Self::UnsupportedMedia => row(S::UNSUPPORTED_MEDIA_TYPE, bad, "unsupported_media_type", NOTHING),
            Self::NotFound => row(S::NOT_FOUND, bad, "not_found", NOTHING),
            Self::Absent(_) => row(S::NOT_FOUND, bad, "not_found", NOTHING),
            Self::Conflict(_) => row(S::CONFLICT, bad, "conflict", NOTHING),
            Self::StoreAway(_) => row(S::SERVICE_UNAVAILABLE, "server_error", "store_away", NOTHING),
            Self::MethodNotAllowed => row(S::METHOD_NOT_ALLOWED, bad, "method_not_allowed", NOTHING),
            Self::UnknownModel(_) => row(S::NOT_FOUND, bad, "model_not_found", NOTHING),
            Self::RateLimited { .. } => {
                row(S::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", NOTHING)
            }
            Self::BudgetSpent { .. } => {
                row(S::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota", NOTHING)
            }
            Self::OverReservation => row(S::BAD_GATEWAY, "server_error", "over_reservation", NOTHING),
            Self::Unpriced(_) => row(S::FORBIDDEN, "permission_error", "unpriced_model", NOTHING),
            Self::BooksAway { .. } => {
                row(S::SERVICE_UNAVAILABLE, "server_error", "budget_unavailable", NOTHING)
            }
            Self::AuditAway { .. } => {
                row(S::SERVICE_UNAVAILABLE, "server_error", "audit_unavailable", NOTHING)
            }
            Self::Overloaded { .. } => row(S::SERVICE_UNAVAILABLE, "server_error", "overloaded", NOTHING),
            Self::ProviderFull { .. } => {
                row(S::SERVICE_UNAVAILABLE, "server_error", "provider_full", (false, true, false))
            }
            Self::Draining => row(S::SERVICE_UNAVAILABLE, "server_error", "draining", NOTHING),
            Self::Blocked { .. } => row(S::BAD_REQUEST, bad, "content_blocked", NOTHING),
            Self::JudgeAway(_) => row(S::SERVICE_UNAVAILABLE, "server_error", "content_check_away", NOTHING),
            Self::Timeout { .. } => row(S::GATEWAY_TIMEOUT, "server_error", "upstream_timeout", AGAIN),
            Self::DeadlineExceeded => row(S::GATEWAY_TIMEOUT, "server_error", "deadline_exceeded", NOTHING),
            Self::Unreachable(_) => row(S::BAD_GATEWAY, "server_error", "upstream_unreachable", AGAIN),
            Self::Broken(cause) => {
                // Of a connection that was lost, one of those who shared it tells.
                let (retry, failover, fault) = AGAIN;
                let fault = fault && !cause.is::<LostWithOthers>();
                row(S::BAD_GATEWAY, "server_error", "upstream_broken", (retry, failover, fault))
            }
            Self::WrongForm(_) => row(S::BAD_GATEWAY, "server_error", "schema_mismatch", NOTHING),
            Self::UpstreamBusy { status: 503 | 529, .. } => {
                row(S::SERVICE_UNAVAILABLE, "server_error", "upstream_overloaded", AGAIN)
            }
            Self::UpstreamBusy { .. } => {
                row(S::TOO_MANY_REQUESTS, "rate_limit_error", "upstream_rate_limited", AGAIN)
            }
            Self::UpstreamFailed { .. } => row(S::BAD_GATEWAY, "server_error", "upstream_failed", AGAIN),
            Self::UpstreamRejected { .. } => {
                row(S::BAD_GATEWAY, "server_error", "upstream_rejected", ELSEWHERE)
            }
            // A caller can name what is not there, too: no fault that the breaker counts.
            Self::UpstreamLacks { .. } => {
                row(S::BAD_GATEWAY, "server_error", "upstream_rejected", (false, true, false))
            }
            Self::Refused { status: 404, .. } => row(S::NOT_FOUND, bad, "model_not_found", NOTHING),
            Self::Refused { status: 413, .. } => row(S::PAYLOAD_TOO_LARGE, bad, "request_too_large", NOTHING),
            Self::Refused { status: 422, .. } => row(S::UNPROCESSABLE_ENTITY, bad, "invalid_value", NOTHING),
            Self::Refused { .. } => row(S::BAD_REQUEST, bad, "invalid_value", NOTHING),
            Self::Unsupported { .. } => row(S::BAD_REQUEST, bad, "unsupported", (false, true, false)),
            Self::CircuitOpen { .. } => {
                row(S::SERVICE_UNAVAILABLE, "server_error", "circuit_open", (false, true, false))
            }
            Self::BadIdempotencyKey => row(S::BAD_REQUEST, bad, "invalid_idempotency_key", NOTHING),
            Self::IdempotencyKeyInUse { .. } => row(S::CONFLICT, bad, "idempotency_key_in_use", NOTHING),
            Self::IdempotencyKeyReused => {
                row(S::UNPROCESSABLE_ENTITY, bad, "idempotency_key_reused", NOTHING)
            }
            Self::UnknownStream => row(S::NOT_FOUND, bad, "stream_not_found", NOTHING),
            Self::StreamsAway { .. } => row(S::SERVICE_UNAVAILABLE, "server_error", "streams_away", NOTHING),
            Self::Abandoned => row(S::GONE, bad, "abandoned", NOTHING),
            Self::Internal(_) => row(S::INTERNAL_SERVER_ERROR, "server_error", "internal_error", NOTHING),
        }
    }

    /// Whether it went wrong behind the gateway, so that a stated answer may
    /// stand in for the error. What no target can do is the caller's to change.
    pub fn is_behind_us(&self) -> bool {
        // A bound of ours is told with the time to come back.
        let ours = matches!(self, Self::Unsupported { .. } | Self::ProviderFull { .. });
        matches!(self, Self::DeadlineExceeded | Self::WrongForm(_)) || self.facts().failover && !ours
    }

    /// When the caller should come back, where that is known or the field expects a word on it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::Overloaded { retry_after }
            | Self::AuditAway { retry_after }
            | Self::ProviderFull { retry_after }
            | Self::IdempotencyKeyInUse { retry_after }
            | Self::BooksAway { retry_after, .. }
            | Self::StreamsAway { retry_after, .. }
            | Self::CircuitOpen { retry_after } => Some(*retry_after),
            Self::UpstreamBusy { retry_after, .. } => Some(retry_after.unwrap_or(Duration::from_secs(1))),
            Self::UpstreamFailed { retry_after, .. } => *retry_after,
            Self::Draining | Self::StoreAway(_) | Self::JudgeAway(_) => Some(Duration::from_secs(1)),
            // Clients that obey would sleep for weeks.
            Self::BudgetSpent { wait, .. } if *wait <= LONGEST_ADVICE => Some(*wait),
            _ => None,
        }
    }

    /// What the target itself said about when to come back.
    pub fn upstream_wait(&self) -> Option<Duration> {
        match self {
            Self::UpstreamBusy { retry_after, .. } | Self::UpstreamFailed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
