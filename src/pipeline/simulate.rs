//! What would become of a call, without one: two ends for a pipeline that has
//! only those stages of the real one that take nothing.
//!
//! [`Foresee`] stands where limits, places and the cache are asked, and looks at
//! them without asking; [`Forecast`] stands where providers are. They tell what
//! holds at this moment: another call may come in between.
use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    admit::Standing,
    cache::{Cache, Policy},
    call::{Call, Target},
    chat::{Completion, Purpose, Request, Usage},
    error::{Error, Result},
    limit::Limits,
    price::Prices,
    reply::{Head, Reply},
    route::{Naming, Table},
    stage::{Answer, Next, Stage},
    tokens,
};

/// Tells what limits, places and cache would say.
pub struct Foresee {
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// The places.
    pub gates: Standing,
    /// What is kept.
    pub store: Arc<Cache>,
    /// What is looked up.
    pub policy: Arc<Policy>,
    /// Knows the routes' other names.
    pub table: Arc<Table>,
}

/// Tells who would be asked, in which order, and what that costs at most.
pub struct Forecast {
    /// The routes.
    pub table: Arc<Table>,
    /// The places of providers.
    pub gates: Standing,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// What is known of the name of a model that no route has.
    pub naming: Arc<dyn Fn(&str) -> Naming + Send + Sync>,
}

impl Stage for Foresee {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let context = &call.context;
        context.explain("limit", || {
            let model = self.table.canonical(&call.chat.model);
            let guess = |longest_answer| tokens::about(&call.chat, longest_answer);
            self.limits.look(&context.caller, model, context.began, guess).explained()
        });
        context.explain("admit", || {
            let all = self.gates.all.view();
            let model = self.gates.of_model(&self.table, &call.chat.model).map(|gate| gate.view());
            let full = [Some(all), model].into_iter().flatten().any(|view| view.taken >= view.places);
            json!({"priority": context.priority.name(), "all": all, "model": model, "would_wait": full})
        });
        context.explain("cache", || match self.policy.key(&call) {
            Err(why) => json!({"decision": "bypass", "why": why}),
            Ok(key) if self.store.has(&key) => json!({"decision": "hit"}),
            Ok(_) => json!({"decision": "miss"}),
        });
        next.call(call).await
    }
}

impl Answer for Forecast {
    async fn answer(&self, call: Call) -> Result<Reply> {
        let user = call.context.caller.user.as_deref();
        let chain = self.table.chain(&call.chat.model, user, call.chat.stream, &*self.naming);
        let chain = chain.ok_or_else(|| Error::UnknownModel(call.chat.model.clone()))?;
        let (chat, most) = (call.chat.clone(), most_written(&call.chat));
        let counted = tokio::task::spawn_blocking(move || tokens::estimate(&chat, "", None));
        let input = counted.await.map_err(Error::internal)?.input;
        let usage = Usage { input, output: most.unwrap_or_default(), ..Usage::default() };
        let mut taken = None;
        let targets: Vec<Value> = chain
            .iter()
            .map(|target| {
                let (told, asked) = self.target(target, &usage, most.is_some(), taken.is_some());
                if asked {
                    taken.get_or_insert(target);
                }
                told
            })
            .collect();
        call.trail().note(|notes| notes.target = taken.cloned());
        call.context.explain("fallback", || {
            json!({
                "route": self.table.canonical(&call.chat.model),
                "targets": targets,
                "tokens": {"input": usage.input, "output_at_most": most},
            })
        });
        let model = taken.map(|target| target.model.clone()).unwrap_or_default();
        Ok(Reply::whole(Head { model, ..Head::default() }, Completion::default()))
    }
}

impl Forecast {
    /// What is to be said of a target, and whether it lets a call through now.
    fn target(&self, target: &Target, usage: &Usage, bounded: bool, others_first: bool) -> (Value, bool) {
        let breaker = self.table.row_of(target).map_or("closed", |row| row.breaker.state());
        let places = self.gates.providers.get(&*target.provider).map(|provider| provider.gate().view());
        let full = places.is_some_and(|view| view.taken >= view.places);
        let (would, asked) = match (breaker, full, others_first) {
            ("open", _, _) => ("not be asked: its circuit breaker is open", false),
            (_, true, _) => ("be asked where no other target is left: its provider has no place free", false),
            (_, _, true) => ("be asked where those before it fail", false),
            (_, _, false) => ("be asked", true),
        };
        let told = json!({
            "provider": &*target.provider,
            "model": &*target.model,
            "version": &*target.version,
            "would": would,
            "breaker": breaker,
            "places": places,
            "priced": self.prices.has(&target.model),
            "cost_usd_at_most": bounded.then(|| self.prices.cost(&target.model, usage).usd()),
        });
        (told, asked)
    }
}

/// The most tokens that may be written, over all choices; `None` where the caller sets no bound.
fn most_written(chat: &Request) -> Option<u64> {
    match chat.purpose {
        Purpose::Embed { .. } => Some(0),
        Purpose::Chat => chat.max_tokens.map(|most| u64::from(most) * u64::from(chat.choice_count())),
    }
}
