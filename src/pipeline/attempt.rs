//! One try at one target: timed, noted, and paid for.
//!
//! This is the one place that accounts for what an answer took, whole or
//! streamed, complete, failed or abandoned.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;

use crate::{
    budget::bound::Cut,
    call::{Attempt as Try, Call, Context, Listeners, MOST_ATTEMPTS, Target, Uncounted},
    chat::{Cost, Event, Purpose, Request, Usage},
    error::{Error, Result},
    guard::pii::Pii,
    observe::{Metrics, ProviderMetrics},
    price::Prices,
    purse::Share,
    reply::{End, Reply, Tap},
    route::{Row, Table},
    stage::{Answer, Next, Stage},
    tokens,
};

/// The stage.
#[derive(Debug)]
pub struct Attempt {
    /// Has the waits and the metrics of each target.
    pub table: Arc<Table>,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// Masks what a provider says of a failure.
    pub pii: Arc<Pii>,
}

/// What has gone by of an answer.
#[derive(Debug)]
struct Seen {
    usage: Option<Usage>,
    output: String,
    /// Where the answer's text begins, if nothing else follows it.
    text_from: Option<usize>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { usage: None, output: String::new(), text_from: Some(0) }
    }
}

impl Seen {
    fn thought(&mut self, text: &str) {
        // A thought after the text began is in between.
        let before = self.text_from.is_none_or(|from| from == self.output.len());
        self.keep(text);
        if before {
            self.text_from = self.text_from.map(|_| self.output.len());
        } else {
            self.text_from = None;
        }
    }

    fn keep(&mut self, text: &str) {
        if self.output.len() < LONGEST {
            self.output.push_str(text);
        } else {
            self.text_from = None;
        }
    }
}

/// The text that is kept for counting, at most.
const LONGEST: usize = 4 << 20;

struct Metering {
    context: Arc<Context>,
    chat: Arc<Request>,
    target: Arc<Target>,
    prices: Arc<Prices>,
    metrics: Arc<ProviderMetrics>,
    began: Instant,
    noted: Option<usize>,
    seen: Arc<Mutex<Seen>>,
    /// What pays for it, where a budget applies.
    share: Option<Arc<dyn Share>>,
    over: bool,
}

impl Stage for Attempt {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let Some((target, row)) =
            call.target.as_ref().and_then(|target| Some((target.clone(), self.table.row_of(target)?)))
        else {
            return Err(Error::internal("a call without a target reached the `attempt` stage"));
        };
        let left = call.context.time_left();
        if left.is_zero() {
            // Nobody would hear the answer that is paid for.
            return Err(Error::DeadlineExceeded);
        }
        call.context.explain("attempt", || {
            let million = |input, output| {
                self.prices.cost(&target.model, &Usage { input, output, ..Usage::default() }).usd()
            };
            json!({
                "target": format!("{}/{}", target.provider, target.model),
                "time_left_ms": left.as_millis() as u64,
                "usd_per_million_tokens": {"input": million(1_000_000, 0), "output": million(0, 1_000_000)},
            })
        });
        // Without money for it there is no attempt.
        let share = match &call.purse {
            Some(purse) => Some(purse.clone().cover(&call.chat, &target).await?),
            None => None,
        };
        let mut metering = self.metering(&call, target, row, share.clone());
        let total = row.timeouts.total.0.min(left);
        let deadline = metering.began + total;
        // A client in a hurry says nothing about the target.
        let late = move || match left == total {
            true => Error::DeadlineExceeded,
            false => Error::Timeout { phase: "total" },
        };
        // A whole answer has no first token to wait for: it comes at once, at the end.
        let first = row.timeouts.first_token.0;
        let (wait, early) = if call.chat.stream && first < total { (first, true) } else { (total, false) };
        let chat = call.chat.clone();
        let answered = match tokio::time::timeout(wait, next.call(call)).await {
            Ok(answered) => answered,
            Err(_) if early => Err(Error::Timeout { phase: "first_token" }),
            Err(_) => Err(late()),
        };
        // A provider may quote what it was asked, and logs and callers get to see its words.
        let answered = answered.map_err(|error| {
            let error = if row.configured { error.of_configured(&metering.target.model) } else { error };
            error.reworded(|words| self.pii.masker().mask(words).into_owned())
        });
        metering.note(answered.as_ref().err());
        let reply = match answered {
            Ok(reply) => reply,
            Err(error) => {
                metering.end(End::Failed(&error));
                return Err(error);
            }
        };
        if chat.stream {
            metering.metrics.first_token(metering.began.elapsed());
        }
        let seen = metering.seen.clone();
        let pace = row.timeouts.pace().filter(|_| chat.stream);
        let reply = match pace {
            Some(pace) => reply.paced(pace),
            None => reply,
        };
        let mut reply = reply.timed(row.timeouts.idle.0, deadline, late());
        if let Some(share) = share.filter(|_| chat.stream) {
            let mut cut = Cut::after(share.output_tokens());
            reply = reply.guarded(move |event| cut.read(event));
        }
        // Within the meter, so that it hears of this usage as of any other.
        let count = async move {
            let uncounted = {
                let mut seen = seen.lock();
                seen.usage.is_none().then(|| std::mem::take(&mut seen.output))
            };
            let Some(output) = uncounted else { return Ok(Vec::new()) };
            let counting = tokio::task::spawn_blocking(move || tokens::estimate(&chat, &output, None));
            Ok(vec![Event::Usage(counting.await.map_err(Error::internal)?)])
        };
        Ok(reply.then(count).tap(metering))
    }
}

impl Attempt {
    fn metering(
        &self,
        call: &Call,
        target: Arc<Target>,
        row: &Row,
        share: Option<Arc<dyn Share>>,
    ) -> Metering {
        let metrics = match call.chat.purpose {
            Purpose::Chat => &row.chat,
            Purpose::Embed { .. } => &row.embed,
        };
        Metering {
            context: call.context.clone(),
            chat: call.chat.clone(),
            target,
            prices: self.prices.clone(),
            metrics: metrics.clone(),
            began: Instant::now(),
            noted: None,
            seen: Arc::default(),
            share,
            over: false,
        }
    }
}

impl Metering {
    /// Notes the attempt as soon as it is known whether there is an answer.
    fn note(&mut self, error: Option<&Error>) {
        let took = self.began.elapsed();
        let error = error.map(|error| {
            tracing::debug!(request_id = %self.context.id, target = %self.target.model, error = error.logged(), "attempt failed");
            error.facts().code
        });
        self.write_down(took, error);
    }

    fn write_down(&mut self, took: Duration, error: Option<&'static str>) {
        let target = self.target.clone();
        self.noted = self.context.trail.note(|notes| {
            (notes.attempts.len() < MOST_ATTEMPTS).then(|| {
                notes.attempts.push(Try { target, took, error, usage: None });
                notes.attempts.len() - 1
            })
        });
    }

    fn renote(&self, took: Duration, error: Option<&'static str>) {
        self.context.trail.note(|notes| {
            if let Some(attempt) = self.noted.and_then(|index| notes.attempts.get_mut(index)) {
                (attempt.took, attempt.error) = (took, attempt.error.or(error));
            }
        });
    }
}

/// Prices what a target took, and writes it down.
pub fn bill(prices: &Prices, metrics: &ProviderMetrics, target: &Target, usage: Usage) -> Usage {
    let usage = Usage { cost: Some(prices.cost(&target.model, &usage)), ..usage };
    metrics.billed(&usage);
    usage
}

/// Accounts for an answer that was counted late. Its listeners are told once the call's notes have it, too.
pub fn account(prices: &Prices, metrics: &Arc<Metrics>, uncounted: &Uncounted, usage: Usage) -> Usage {
    let usage = bill(prices, &metrics.of("chat", &uncounted.target), &uncounted.target, usage);
    if let Some(share) = &uncounted.share {
        share.settle(usage.cost.unwrap_or_default());
    }
    usage
}

/// Whether a provider may have read the question, and bill it, although nothing came of it.
fn may_bill(error: &Error) -> bool {
    match error {
        Error::Timeout { phase } => *phase != "connect",
        Error::Broken(_) | Error::DeadlineExceeded => true,
        _ => false,
    }
}

impl Tap for Metering {
    fn event(&mut self, event: &Event) {
        let mut seen = self.seen.lock();
        match event {
            Event::Text { choice, text } => {
                if *choice > 0 {
                    seen.text_from = None;
                }
                seen.keep(text);
            }
            Event::Reasoning { text, .. } => seen.thought(text),
            Event::Refusal { text, .. } => {
                seen.text_from = None;
                seen.keep(text);
            }
            Event::ToolCall { name, arguments, .. } => {
                seen.text_from = None;
                seen.keep(name.as_deref().unwrap_or_default());
                seen.keep(arguments);
            }
            Event::Usage(usage) => seen.usage = Some(*usage),
            Event::Embedding { .. }
            | Event::Grounded { .. }
            | Event::Continued { .. }
            | Event::Finish { .. } => {}
        }
    }

    fn end(&mut self, end: End<'_>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let took = self.began.elapsed();
        let error = match end {
            End::Failed(error) => Some(error.facts().code),
            End::Complete => None,
            End::Cancelled => Some("cancelled"),
        };
        self.metrics.ended(took, error);
        if self.noted.is_none() {
            // Given up before the first content.
            self.write_down(took, error);
        }
        self.renote(took, error);
        let Seen { usage, output, text_from } = std::mem::take(&mut *self.seen.lock());
        let nothing = usage.is_none() && output.is_empty();
        match (end, usage) {
            (End::Complete, Some(usage)) => {
                let usage = bill(&self.prices, &self.metrics, &self.target, usage);
                if let Some(share) = &self.share {
                    share.settle(usage.cost.unwrap_or_default());
                }
                self.context.trail.note(|notes| notes.took(usage, self.noted));
            }
            // Nobody bills a question that was not taken.
            (End::Failed(error), _) if nothing && !may_bill(error) => {
                if let Some(share) = &self.share {
                    share.settle(Cost(0));
                }
            }
            // Left before the first content: the provider has read the question at least.
            (end, _) => {
                // A provider goes on writing a whole answer that nobody waits for any more, and
                // bills it unseen; so does one that writes more than it was asked for.
                if !self.chat.stream || matches!(end, End::Failed(Error::OverReservation)) {
                    // Unsettled, it is charged in full.
                    self.share = None;
                }
                self.leave_uncounted(output, text_from, usage);
            }
        }
    }
}

impl Metering {
    fn leave_uncounted(&self, output: String, text_from: Option<usize>, known: Option<Usage>) {
        let (chat, target, attempt) = (self.chat.clone(), self.target.clone(), self.noted);
        let (share, listeners) = (self.share.clone(), Listeners::default());
        let uncounted = Uncounted { chat, target, output, text_from, known, attempt, share, listeners };
        self.context.trail.note(|notes| notes.uncounted.push(Arc::new(uncounted)));
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}
