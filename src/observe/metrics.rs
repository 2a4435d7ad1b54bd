//! Every metric's name, in one file.
//!
//! Labels come from the configuration or from fixed lists, never from a
//! request: no id, key, user, path or model name of a caller's making.
use std::time::Duration;

use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::registered::{counter, counters, gauge, gauges, histogram, ratios};

mod target;

pub use target::ProviderMetrics;

/// All metrics. One value lives as long as the process, through every reload.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    success: IntCounter,
    error: IntCounter,
    duration_ms: Histogram,
    duration_seconds: Histogram,
    tokens_in: IntCounter,
    tokens_out: IntCounter,
    endpoint_requests: IntCounterVec,
    endpoint_latency: HistogramVec,
    model_errors: IntCounterVec,
    token_usage: HistogramVec,
    operation_duration: HistogramVec,
    first_token: HistogramVec,
    attempts: IntCounterVec,
    cost: CounterVec,
    /// What the cache did, by `result`: `hit`, `miss`, `bypass`, `joined`.
    pub cache: IntCounterVec,
    /// Bytes that the cache holds.
    pub cache_bytes: IntGauge,
    /// The breaker's state by provider and model: 0 closed, 1 half-open, 2 open.
    pub breaker: IntGaugeVec,
    /// Calls refused for want of a place, by `reason` and `priority`.
    pub shed: IntCounterVec,
    /// How long calls waited for a place, by `priority`; those that did not wait are not in it.
    pub queue_wait: HistogramVec,
    /// Calls refused by a limit, by `scope` and by what it limits.
    pub limited: IntCounterVec,
    /// Where gateways share a Redis: whether it decided (`redis`) or this one alone (`local`), by `source`.
    pub limit_decisions: IntCounterVec,
    /// Calls refused for money, by `reason`: the error's code.
    pub budget_refusals: IntCounterVec,
    /// The share of a budget that is spent, 0 to 1.
    pub budget_ratio: GaugeVec,
    /// Marks that budgets have passed, by `mark` in percent.
    pub budget_alerts: IntCounterVec,
    /// Guards' findings by `guard`, `type` and `action`.
    pub guards: IntCounterVec,
    /// Further attempts at the same target.
    pub retries: IntCounter,
    /// Retries that the retry budget forbade.
    pub retries_denied: IntCounter,
    /// Calls passed on to another target.
    pub fallbacks: IntCounter,
    /// Streams that broke off, by `route` and `result`: `continued` by another target, or `failed`.
    pub continuations: IntCounterVec,
    /// Endpoints left out because they did worse than the others of their
    /// model, by `provider`, `model` and `reason`: `errors` or `latency`.
    pub ejections: IntCounterVec,
    /// Whether an endpoint is left out, by `provider` and `model`.
    pub ejected: IntGaugeVec,
    /// Late streams, by `route` and `result`: the second target `won` or `lost`, or was `denied`.
    pub hedges: IntCounterVec,
    /// Audit records written.
    pub audit_records: IntCounter,
    /// Audit records on their way to the disk.
    pub audit_pending: IntGauge,
    /// Audit records that could not be written.
    pub audit_failures: IntCounter,
    /// Whether the disk takes audit records.
    pub audit_disk: IntGauge,
    /// Whether the database takes audit records.
    pub audit_database: IntGauge,
    /// Segments of the audit's journal that are kept aside because records of them cannot be read.
    pub audit_damaged: IntGauge,
    /// Blocks of audit records in the database that were found damaged.
    pub audit_damaged_blocks: IntGauge,
    /// Audit records on the disk that the database does not have yet.
    pub audit_unfiled: IntGauge,
    /// Since when the database does not have all audit records, in seconds.
    pub audit_lag: IntGauge,
    /// Requests with an `Idempotency-Key` by `result`: `first`, `running`, `replayed`, `reused`;
    /// those that only this gateway knows of: `local`; replies that are not kept: `unkept`, `evicted`.
    pub idempotency: IntCounterVec,
    /// Bytes of the replies that are kept for repeats.
    pub idempotency_bytes: IntGauge,
    /// Readers who came back with `Last-Event-ID` by `result`: `resumed`, `over`, `unknown`.
    pub resumes: IntCounterVec,
    /// Bytes of what streams have said, kept for readers who come back.
    pub resume_bytes: IntGauge,
    /// Open client connections.
    pub connections: IntGauge,
    /// Whether a configured `store` (`redis`, `database`) is there: 0 or 1.
    pub store_up: IntGaugeVec,
    /// Keys that open the gateway.
    pub keys: IntGauge,
    /// Seconds since the database was last asked for changes of keys.
    pub keys_age: IntGauge,
    /// Commands that Redis did not carry out, by `reason`: `gone`, `late`, `refused`.
    pub redis_failures: IntCounterVec,
    /// Conversations by `event`: `begun`, `continued`, or `unavailable` when a question came; its turn `kept`, `unkept`
    /// or `deleted`; turns `dropped`; `summarised`, `summary_failed`.
    pub sessions: IntCounterVec,
    /// Answers for reviewers by `reason` and `result`: `queued`, `full` (too many are open), `lost` (the database took too little).
    pub reviews: IntCounterVec,
    /// What reviewers decided, by `decision`.
    pub review_decisions: IntCounterVec,
    /// Feedback by `rating`, 1 to 5.
    pub feedback: IntCounterVec,
    /// Reloads of the configuration by `result`.
    pub reloads: IntCounterVec,
}

const SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// The buckets that the GenAI conventions advise for token counts.
const TOKENS: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

impl Metrics {
    /// Registers all metrics. Fails only if two share a name.
    #[expect(clippy::too_many_lines, reason = "a list of names has no second idea")]
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        let requests = counters(&r, "ai_requests_total", "Total requests.", &["status"])?;
        let tokens = counters(&r, "ai_tokens_total", "Total tokens used.", &["type"])?;
        let millis: &[f64] = &[100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0];
        let seconds: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
        let genai = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
        let this = Self {
            success: requests.with_label_values(&["success"]),
            error: requests.with_label_values(&["error"]),
            duration_ms: histogram(&r, "ai_request_duration_ms", "Request latency.", millis, &[])?
                .with_label_values::<&str>(&[]),
            duration_seconds: histogram(&r, "ai_request_duration_seconds", "Request latency.", seconds, &[])?
                .with_label_values::<&str>(&[]),
            tokens_in: tokens.with_label_values(&["input"]),
            tokens_out: tokens.with_label_values(&["output"]),
            endpoint_requests: counters(
                &r,
                "prediction_requests_total",
                "Requests by endpoint and HTTP status.",
                &["endpoint", "status"],
            )?,
            endpoint_latency: histogram(
                &r,
                "prediction_latency_seconds",
                "Request latency by endpoint.",
                SECONDS,
                &["endpoint"],
            )?,
            model_errors: counters(
                &r,
                "model_errors_total",
                "Failed attempts at a model by kind of error.",
                &["error_type"],
            )?,
            token_usage: histogram(
                &r,
                "gen_ai_client_token_usage",
                "Tokens of a model call.",
                TOKENS,
                &[genai[0], genai[1], genai[2], "gen_ai_token_type"],
            )?,
            operation_duration: histogram(
                &r,
                "gen_ai_client_operation_duration_seconds",
                "Duration of a model call, to the end of its stream.",
                SECONDS,
                genai,
            )?,
            first_token: histogram(
                &r,
                "gen_ai_server_time_to_first_token_seconds",
                "Time to the first content of a model call.",
                SECONDS,
                genai,
            )?,
            attempts: counters(
                &r,
                "sluice_attempts_total",
                "Attempts at a model by outcome.",
                &["provider", "model", "outcome"],
            )?,
            cost: {
                let opts = Opts::new("sluice_cost_usd_total", "Cost of model calls in US dollars.");
                let made = CounterVec::new(opts, &["provider", "model"])?;
                r.register(Box::new(made.clone()))?;
                made
            },
            cache: counters(&r, "sluice_cache_requests_total", "What the cache did.", &["result"])?,
            cache_bytes: gauge(&r, "sluice_cache_size_bytes", "Size of the cached answers.")?,
            breaker: gauges(
                &r,
                "sluice_breaker_state",
                "Circuit breaker: 0 closed, 1 half-open, 2 open.",
                &["provider", "model"],
            )?,
            shed: counters(
                &r,
                "sluice_calls_shed_total",
                "Calls refused for want of a place.",
                &["reason", "priority"],
            )?,
            queue_wait: histogram(
                &r,
                "sluice_queue_wait_seconds",
                "How long calls waited for a place, of those that waited.",
                SECONDS,
                &["priority"],
            )?,
            limited: counters(
                &r,
                "sluice_rate_limited_total",
                "Calls refused by a limit.",
                &["scope", "limit"],
            )?,
            limit_decisions: counters(
                &r,
                "sluice_limit_decisions_total",
                "Calls checked against limits that gateways share, by who decided.",
                &["source"],
            )?,
            budget_refusals: counters(
                &r,
                "sluice_budget_refusals_total",
                "Calls refused because of a budget.",
                &["reason"],
            )?,
            budget_ratio: ratios(
                &r,
                "sluice_budget_spent_ratio",
                "Share of a budget that is spent, 0 to 1.",
                &["scope", "name", "period"],
            )?,
            budget_alerts: counters(
                &r,
                "sluice_budget_alerts_total",
                "Budgets that passed a mark, in percent.",
                &["mark"],
            )?,
            guards: counters(
                &r,
                "sluice_guard_findings_total",
                "Findings of the input and output rules.",
                &["guard", "type", "action"],
            )?,
            retries: counter(&r, "sluice_retries_total", "Further attempts at the same target.")?,
            retries_denied: counter(&r, "sluice_retries_denied_total", "Retries that the budget forbade.")?,
            fallbacks: counter(&r, "sluice_fallbacks_total", "Calls passed on to another target.")?,
            continuations: counters(
                &r,
                "sluice_continuations_total",
                "Streams that broke off and were to be continued.",
                &["route", "result"],
            )?,
            ejections: counters(
                &r,
                "sluice_ejections_total",
                "Endpoints left out because they did worse than the others of their model.",
                &["provider", "model", "reason"],
            )?,
            ejected: gauges(
                &r,
                "sluice_endpoint_ejected",
                "Whether an endpoint is left out for now.",
                &["provider", "model"],
            )?,
            hedges: counters(
                &r,
                "sluice_hedges_total",
                "Late streams whose next target was to be asked as well.",
                &["route", "result"],
            )?,
            audit_records: counter(&r, "sluice_audit_records_total", "Audit records written.")?,
            audit_pending: gauge(
                &r,
                "sluice_audit_pending_records",
                "Audit records on their way to the disk.",
            )?,
            audit_failures: counter(
                &r,
                "sluice_audit_failures_total",
                "Audit records that could not be written.",
            )?,
            audit_disk: gauge(&r, "sluice_audit_disk_up", "Whether the disk takes audit records.")?,
            audit_database: gauge(
                &r,
                "sluice_audit_database_up",
                "Whether the database takes audit records.",
            )?,
            audit_damaged: gauge(
                &r,
                "sluice_audit_damaged_segments",
                "Segments of the audit's journal that are kept aside because records of them cannot be read.",
            )?,
            audit_damaged_blocks: gauge(
                &r,
                "sluice_audit_damaged_blocks",
                "Blocks of audit records in the database that were found damaged, or missing.",
            )?,
            audit_unfiled: gauge(
                &r,
                "sluice_audit_unfiled_records",
                "Audit records on the disk that the database does not have yet.",
            )?,
            audit_lag: gauge(
                &r,
                "sluice_audit_lag_seconds",
                "How long the database has not had all audit records.",
            )?,
            idempotency: counters(
                &r,
                "sluice_idempotency_requests_total",
                "Requests with an Idempotency-Key, and replies that are not kept.",
                &["result"],
            )?,
            idempotency_bytes: gauge(
                &r,
                "sluice_idempotency_size_bytes",
                "Size of replies kept for repeats.",
            )?,
            resumes: counters(
                &r,
                "sluice_stream_resumes_total",
                "Readers who came back to a stream.",
                &["result"],
            )?,
            resume_bytes: gauge(
                &r,
                "sluice_stream_resume_size_bytes",
                "Size of what streams said, kept for readers who come back.",
            )?,
            connections: gauge(&r, "sluice_connections_open", "Open client connections.")?,
            store_up: gauges(
                &r,
                "sluice_store_up",
                "Whether a configured store is there: 0 or 1.",
                &["store"],
            )?,
            keys: gauge(&r, "sluice_keys_loaded", "Keys that open the gateway.")?,
            keys_age: gauge(
                &r,
                "sluice_keys_refresh_age_seconds",
                "Time since the database was last asked for changes of keys.",
            )?,
            redis_failures: counters(
                &r,
                "sluice_redis_failures_total",
                "Commands that Redis did not carry out.",
                &["reason"],
            )?,
            sessions: counters(
                &r,
                "sluice_session_events_total",
                "What became of conversations and their turns.",
                &["event"],
            )?,
            reviews: counters(
                &r,
                "sluice_review_items_total",
                "Answers for reviewers.",
                &["reason", "result"],
            )?,
            review_decisions: counters(
                &r,
                "sluice_review_decisions_total",
                "What reviewers decided.",
                &["decision"],
            )?,
            feedback: counters(&r, "sluice_feedback_total", "Feedback by rating.", &["rating"])?,
            reloads: counters(
                &r,
                "sluice_config_reloads_total",
                "Reloads of the configuration.",
                &["result"],
            )?,
            registry: r,
        };
        let info = gauges(&this.registry, "sluice_build_info", "The running version.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for result in ["hit", "miss", "bypass", "joined"] {
            this.cache.with_label_values(&[result]);
        }
        for reason in ["gone", "late", "refused"] {
            this.redis_failures.with_label_values(&[reason]);
        }
        for result in ["first", "running", "replayed", "reused", "unkept", "evicted", "local"] {
            this.idempotency.with_label_values(&[result]);
        }
        for result in ["resumed", "over", "unknown"] {
            this.resumes.with_label_values(&[result]);
        }
        // From 0 on, or an alert would not see the first one as an increase.
        for mark in ["80", "100"] {
            this.budget_alerts.with_label_values(&[mark]);
        }
        for result in ["changed", "unchanged", "refused"] {
            this.reloads.with_label_values(&[result]);
        }
        Ok(this)
    }

    /// Registers the gauges of places, which `set` brings up to date whenever they are read.
    pub fn register_places(
        &self,
        set: impl Fn(&PlaceGauges) + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        let gauges = PlaceGauges::new()?;
        self.registry.register(Box::new(AtRead { gauges, set }))
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// A request at `endpoint` (its path template) is over.
    pub fn finished(&self, endpoint: &'static str, status: u16, took: Duration) {
        if status < 400 { &self.success } else { &self.error }.inc();
        let seconds = took.as_secs_f64();
        self.duration_ms.observe(seconds * 1e3);
        self.duration_seconds.observe(seconds);
        let text = http::StatusCode::from_u16(status);
        let text = text.as_ref().map_or("", http::StatusCode::as_str);
        self.endpoint_requests.with_label_values(&[endpoint, text]).inc();
        self.endpoint_latency.with_label_values(&[endpoint]).observe(seconds);
    }
}

/// The gauges of places: what a call never has to touch.
#[derive(Debug)]
pub struct PlaceGauges {
    /// Calls that hold a place.
    pub in_flight: IntGauge,
    /// Calls that wait for a place, of all gates, by `priority`.
    pub waiting: IntGaugeVec,
    /// Places in force by `kind` (`all`, `model`, `provider`) and `name`.
    pub places: IntGaugeVec,
    /// Places taken, likewise.
    pub taken: IntGaugeVec,
}

impl PlaceGauges {
    fn new() -> Result<Self, prometheus::Error> {
        let vec = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let gate = &["kind", "name"];
        Ok(Self {
            in_flight: IntGauge::new("sluice_calls_in_flight", "Calls that hold a place.")?,
            waiting: vec("sluice_calls_waiting", "Calls that wait for a place.", &["priority"])?,
            places: vec("sluice_places", "Places in force: for all, a model, a provider.", gate)?,
            taken: vec("sluice_places_taken", "Places that are taken.", gate)?,
        })
    }

    fn all(&self) -> [&dyn Collector; 4] {
        [&self.in_flight, &self.waiting, &self.places, &self.taken]
    }
}

/// Gauges that are set when they are read.
struct AtRead<F> {
    gauges: PlaceGauges,
    set: F,
}

impl<F: Fn(&PlaceGauges) + Send + Sync> Collector for AtRead<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.set)(&self.gauges);
        self.gauges.all().into_iter().flat_map(Collector::collect).collect()
    }
}
