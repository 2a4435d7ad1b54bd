//! Refuses calls over a limit, and tells when to come back. What a call holds
//! (its place in flight, the tokens set aside for it) is kept until its answer
//! has ended, and settled by what it truly took.
use std::sync::Arc;

use crate::{
    call::{Cached, Call, Context, Limit},
    error::{Error, Result},
    limit::{Held, Limits, Refused},
    observe::Metrics,
    reply::{End, Reply, Tap},
    route::Table,
    stage::{Answer, Next, Stage},
    tokens,
};

/// The stage.
#[derive(Debug)]
pub struct RateLimit {
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Knows the routes' other names: an alias is no second allowance.
    pub table: Arc<Table>,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
}

/// Settles when the answer has ended, however that is.
struct Settling {
    held: Option<Held>,
    context: Arc<Context>,
}

impl Stage for RateLimit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let Context { caller, began, .. } = &*call.context;
        let model = self.table.canonical(&call.chat.model);
        let guess = |longest_answer| tokens::about(&call.chat, longest_answer);
        let verdict = if self.limits.are_shared() {
            let lasts = call.context.time_left();
            self.limits.admit_together(caller, model, *began, lasts, guess).await
        } else {
            self.limits.admit(caller, model, *began, guess)
        };
        note(&call, verdict.requests, verdict.tokens);
        call.context.explain("limit", || verdict.explained());
        match verdict.admitted {
            Ok(None) => next.call(call).await,
            Ok(Some(held)) => {
                let settling = Settling { held: Some(held), context: call.context.clone() };
                Ok(next.call(call).await?.tap(settling))
            }
            Err(refused) => Err(self.refused(refused)),
        }
    }
}

impl RateLimit {
    fn refused(&self, refused: Refused) -> Error {
        let Refused { scope, kind, wait } = refused;
        self.metrics.limited.with_label_values(&[scope, kind]).inc();
        Error::RateLimited { scope, retry_after: wait }
    }
}

fn note(call: &Call, requests: Option<Limit>, tokens: Option<Limit>) {
    call.trail().note(|notes| (notes.limit, notes.token_limit) = (requests, tokens));
}

impl Tap for Settling {
    fn end(&mut self, _: End<'_>) {
        let Some(held) = self.held.take() else { return };
        if !held.counts_tokens() {
            return;
        }
        self.context.trail.note(|notes| {
            // A stored answer took nothing, and neither did one that nobody was asked for.
            let known = notes.usage.filter(|_| notes.cache != Cached::Hit);
            let Some(tally) = held.ended(known.map_or(0, |usage| usage.total())) else { return };
            // What providers did not tell is counted later, on a thread that may take its time.
            let tally = Arc::new(tally);
            for uncounted in &notes.uncounted {
                let tally = tally.clone();
                uncounted.listeners.add(move |usage| tally.add(usage.total()));
            }
        });
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}
