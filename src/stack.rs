//! START HERE: the stages, in the order in which a question meets them.
//!
//! A stage is one async function around the rest (see `stage.rs`). On the way
//! in the list reads from top to bottom; the answer passes it from bottom to
//! top, event by event. What a stage promises is told in its own file.
use tower::{ServiceBuilder, util::BoxCloneSyncService};

use crate::{
    pipeline::{
        admit::Admit,
        attempt::Attempt,
        audit::Audit,
        authorize::Authorize,
        breaker::Breaker,
        budget::Budget,
        bulkhead::Bulkhead,
        cache::Cache,
        check::CheckOutput,
        confidence::ConfidenceGate,
        dispatch::Dispatch,
        fallback::Fallback,
        ground::Ground,
        limit::RateLimit,
        measure::Measure,
        resort::LastResort,
        retry::Retry,
        screen::CheckInput,
        session::Session,
        shape::KeepForm,
        simulate::{Forecast, Foresee},
    },
    stage::{Pipeline, stage},
};

/// The stages, made by `app.rs`.
#[expect(missing_docs, reason = "each stage is documented in its own file")]
pub struct Stages {
    pub audit: Audit,
    pub measure: Measure,
    pub authorize: Authorize,
    pub limit: RateLimit,
    pub budget: Budget,
    pub admit: Admit,
    pub screen: CheckInput,
    pub session: Session,
    pub confidence: ConfidenceGate,
    pub cache: Cache,
    pub check: CheckOutput,
    pub ground: Ground,
    pub shape: KeepForm,
    pub fallback: Fallback,
    pub retry: Retry,
    pub breaker: Breaker,
    pub bulkhead: Bulkhead,
    pub attempt: Attempt,
    pub dispatch: Dispatch,
}

/// Puts the stages in order.
pub fn pipeline(stages: Stages) -> Pipeline {
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(stage(stages.audit)) // outermost: a refused call leaves its record too
            .layer(stage(stages.measure)) // counts and times what follows
            .layer(stage(stages.authorize)) // may this key use this model?
            .layer(stage(stages.limit)) // requests, tokens, calls in flight: of six scopes, or of none
            .layer(stage(stages.budget)) // the most that it can cost is set aside, until it is known what it did cost
            .layer(stage(stages.admit)) // a place among the calls, and among its model's, held until the stream ends
            .layer(stage(stages.screen)) // input: sizes, Unicode form; placeholders for personal data, and back
            .layer(stage(LastResort)) // a stated fallback answer, for callers who take one; never cached
            .layer(stage(stages.session)) // what was said before comes in, and the turn goes out
            .layer(stage(stages.confidence)) // an answer that little speaks for is not given; a stated one is
            .layer(stage(stages.cache)) // an equal question was answered a moment ago
            .layer(stage(stages.check)) // output rules; inside the cache, so that only what passed is kept
            .layer(stage(stages.ground)) // finds passages, fills the prompt, cites
            .layer(stage(stages.shape)) // an answer that has to follow a JSON Schema does; asked once more where it does not
            .layer(stage(stages.fallback)) // a chain of targets; below this line a call has one
            .layer(stage(stages.retry)) // the same target once more, where that may help
            .layer(stage(stages.breaker)) // not while it keeps failing; a stream counts when it ends
            .layer(stage(stages.bulkhead)) // a place among its provider's calls, where that has a bound
            .layer(stage(stages.attempt)) // one try: waits, metrics, what it took and cost
            .service(stages.dispatch), // the provider, up to the first content
    )
}

/// The stages of a simulation.
#[expect(missing_docs, reason = "each stage is documented in its own file")]
pub struct Rehearsal {
    pub audit: Audit,
    pub authorize: Authorize,
    pub screen: CheckInput,
    pub foresee: Foresee,
    pub check: CheckOutput,
    pub ground: Ground,
    pub forecast: Forecast,
}

/// The same pipeline as far as it takes nothing from anybody: what stands in
/// between looks on. It counts no request, holds no place, keeps no answer and
/// asks no provider; its record names its endpoint.
pub fn rehearsal(stages: Rehearsal) -> Pipeline {
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(stage(stages.audit))
            .layer(stage(stages.authorize))
            .layer(stage(stages.screen))
            .layer(stage(stages.foresee)) // for limits, places and the cache
            .layer(stage(stages.check))
            .layer(stage(stages.ground))
            .service(stages.forecast), // for routes, breakers, providers and prices
    )
}
