//! From a configuration to the parts of a running gateway.
use std::{collections::HashMap, sync::Arc, time::UNIX_EPOCH};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{
    alerts::Alerts,
    approved::Approved,
    erasures,
    forget::forgets,
    gates::{gates, plan},
    masks::Masks,
    read::Parts,
    replaying::{replay, root},
};
use crate::{
    admit::Gates,
    audit::{self, erase::Forget, settings::Durability},
    auth::{self, Keyring, Pepper},
    budget::{Calendar, Ledger, Local, Shared, Told},
    cache,
    chat::Usage,
    config::Config,
    guard::{
        Inspector,
        pii::{Pii, Tags},
        safety::{Rules, moderation::Service},
    },
    http::{Running, simulate::SIMULATE},
    knowledge::{Knowledge, SharedKnowledge},
    limit::Limits,
    observe::{Metrics, logs::Logs},
    pipeline::{
        admit::Admit,
        attempt::{self, Attempt},
        audit::Audit,
        authorize::Authorize,
        breaker::Breaker,
        budget::Budget,
        bulkhead::Bulkhead,
        cache::Cache,
        check::CheckOutput,
        confidence::ConfidenceGate,
        dispatch::Dispatch,
        fallback::{Fallback, GoingOn, Hedging},
        ground::Ground,
        limit::RateLimit,
        measure::Measure,
        retry::Retry,
        screen::CheckInput,
        session::Session,
        shape::KeepForm,
        simulate::{Forecast, Foresee},
    },
    price::Prices,
    provider::{self, Provider, continuation::Prefill},
    replay::{Replay, shelf},
    review::{self, Reviews},
    route::{AttemptBudget, Breakers, Naming, Plan, Table, Vitals},
    session::{self, Numbers, Sessions},
    stack::{self, Rehearsal, Stages},
    store::{
        Stores,
        redis::Redis,
        sql::{Kind, Sql, Tables},
    },
    summary::{self, Kept, Summaries},
    tokens,
};

/// The tables of every mechanism that keeps something in the database.
pub(crate) const TABLES: &[Tables] =
    &[auth::book::TABLES, shelf::TABLES, summary::TABLES, audit::TABLES, session::TABLES, review::TABLES];

/// What lasts through reloads.
pub(super) struct Lasting {
    pub(super) metrics: Arc<Metrics>,
    pub(super) breakers: Arc<Breakers>,
    vitals: Vitals,
    pub(super) knowledge: Arc<SharedKnowledge>,
    pub(super) writer: audit::Writer,
    pub(super) audit: Option<audit::Filing>,
    /// What tells people apart whose names are masked in records.
    pub(super) names: Tags,
    conversations: Numbers,
    pub(super) stores: Stores,
    pub(super) replay: Replay,
    pub(super) keys: auth::Book,
    pub(super) ledger: Arc<Ledger>,
    alerts: Alerts,
    pub(super) summaries: (Arc<Summaries>, Arc<Kept>),
    pub(super) sessions: Arc<Sessions>,
    pub(super) reviews: Reviews,
    approved: Arc<Approved>,
    calendar: Arc<Calendar>,
    pub(super) forget: Forget,
    cache: Arc<cache::Cache>,
    gates: Arc<Gates>,
    counting: Mutex<Option<Counting>>,
}

/// What counts callers and calls. It goes on counting through a reload that
/// does not concern it: a reload gives nobody a second budget.
#[derive(Clone)]
struct Counting {
    config: Arc<Config>,
    limits: Arc<Limits>,
    retries: Arc<AttemptBudget>,
    hedges: Arc<AttemptBudget>,
}

impl Lasting {
    /// Makes what lasts, and opens the audit file and the stores.
    pub(super) async fn new(parts: &Parts, knowledge: Knowledge, logs: &Logs) -> Result<Self, String> {
        let config = &parts.config;
        // First: a gateway that runs with the same folder has all of it open.
        let lock = audit::Lock::take(&config.audit)?;
        let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
        let lines = logs.request_lines(&config.log);
        let (summaries, alerts) = (Arc::new(Summaries::default()), Alerts::start(metrics.clone()));
        let stores = Stores {
            redis: Redis::start(&config.store, &metrics).await?,
            sql: Sql::open(&config.store, TABLES, &metrics).await?,
        };
        // Records that are written with another pepper than those before them end their chain.
        let of_records = config.audit.key.is_none()
            && (config.audit.durability != Durability::Off || audit::has_records(&stores.sql).await?);
        let pepper = if of_records && auth::Book::knows_pepper(&stores.sql).await? {
            Pepper::known(&config.auth, &config.store, stores.sql.kind())?
        } else {
            Pepper::find(&config.auth, &config.store, stores.sql.kind())?
        };
        let root = root(config, &stores, pepper.as_ref());
        let archive = archive(config, &stores.sql, pepper.as_ref())?;
        let keys = auth::Book::open(&stores.sql, pepper.clone().map(Arc::new), of_records).await?;
        let secret = |word| pepper.as_ref().map_or_else(rand::random, |pepper| pepper.hash(word));
        let (names, conversations) =
            (Tags::new(secret(b"sluice names")), Numbers::new(secret(b"sluice conversations")));
        let cache = Arc::new(cache::Cache::new(&config.cache, metrics.cache_bytes.clone()));
        let key = archive.key().clone();
        let reviews = Reviews::start(&archive, reviewing(config, &names)?, &metrics);
        let ends = audit::Ends {
            settle: settle(&parts.prices, &metrics),
            done: done(summaries.clone(), reviews.clone()),
            anchored: super::anchors::start(&config.audit)?,
        };
        let (writer, audit) =
            audit::open(&spelling(config, lines, &names)?, ends, archive, metrics.clone(), lock).await?;
        let replay = replay(config, root, key.clone(), &metrics, &stores).await;
        let here = forgets(cache.clone(), replay.clone(), key.clone());
        if let Some(audit) = &audit {
            audit.tidy(config.audit.retention_days, here.clone());
        }
        // Gateways on one Postgres hear of erasures there.
        let forget = match stores.redis.clone().filter(|_| stores.sql.kind() != Kind::Postgres) {
            None => here,
            Some(redis) => erasures::shared(&redis, &key, &cache, &replay, here),
        };
        Ok(Self {
            replay,
            forget,
            keys,
            ledger: Arc::new(ledger(config, alerts.told(), stores.redis.as_ref())?),
            alerts,
            calendar: Arc::default(),
            summaries: (summaries.clone(), Kept::start(stores.sql.clone(), &summaries)),
            sessions: Sessions::start(&stores, &metrics),
            approved: Approved::start(cache.clone(), reviews.clone(), &config.review),
            reviews,
            stores,
            breakers: Arc::new(Breakers::new(metrics.breaker.clone())),
            vitals: Vitals::default(),
            knowledge: Arc::new(SharedKnowledge::new(knowledge)),
            writer,
            audit,
            names,
            conversations,
            cache,
            gates: gates(&config.admit, &metrics)?,
            counting: Mutex::default(),
            metrics,
        })
    }

    fn counting(&self, config: &Arc<Config>) -> Counting {
        let mut kept = self.counting.lock();
        let before = kept.as_ref();
        let same = |test: fn(&Config, &Config) -> bool| before.filter(|b| test(&b.config, config));
        // Other limits go on from what was counted under the old ones.
        let limits = before.map(|before| match before.config.limits == config.limits {
            true => before.limits.clone(),
            false => Arc::new(before.limits.changed(&config.limits)),
        });
        let retries = same(|a, b| a.retry == b.retry).map(|before| before.retries.clone());
        let hedges = same(|a, b| a.routing.hedge == b.routing.hedge).map(|before| before.hedges.clone());
        let counting = Counting {
            config: config.clone(),
            limits: limits.unwrap_or_else(|| {
                Arc::new(match &self.stores.redis {
                    Some(redis) => Limits::together(&config.limits, redis, &self.metrics),
                    None => Limits::new(&config.limits),
                })
            }),
            retries: retries.unwrap_or_else(|| {
                Arc::new(AttemptBudget::new(config.retry.budget_percent, config.retry.budget_floor))
            }),
            hedges: hedges
                .unwrap_or_else(|| Arc::new(AttemptBudget::new(config.routing.hedge.max_percent, 0))),
        };
        *kept = Some(counting.clone());
        counting
    }
}

/// Opens the books. Where no budget is set, that waits until there is one.
fn ledger(config: &Config, told: Told, redis: Option<&Redis>) -> Result<Ledger, String> {
    if let Some(redis) = redis {
        return Ok(Ledger::Redis(Shared::new(redis.clone(), told)));
    }
    let local = Local::new(&config.budget.journal, config.budget.max_accounts, told);
    if local.exists() {
        local.open().map_err(|why| format!("the budget journal cannot be used: {why}"))?;
    }
    Ok(Ledger::Local(local))
}

/// The audit records in the database.
pub(crate) fn archive(config: &Config, sql: &Sql, pepper: Option<&Pepper>) -> Result<audit::Archive, String> {
    // In memory it is another one each time, and the journal stays.
    let lasting = pepper.filter(|_| config.auth.pepper.is_some() || sql.kind() != Kind::Memory);
    let key = audit::key(&config.audit, lasting.map(|pepper| pepper.hash(b"sluice audit")))?;
    Ok(audit::Archive::new(sql.clone(), Arc::new(key)))
}

/// How records are spelled.
pub(super) fn spelling<'c>(
    config: &'c Config,
    log: Option<bool>,
    names: &Tags,
) -> Result<audit::Spelling<'c>, String> {
    let masks = Arc::new(Masks::new(Pii::new(&config.pii)?, names.clone()));
    Ok(audit::Spelling { settings: &config.audit, log, masks })
}

/// Which answers wait for a person, and what masks them: as it masks records.
fn reviewing(config: &Config, names: &Tags) -> Result<review::Rules, String> {
    Ok(review::Rules { settings: config.review.clone(), masks: spelling(config, None, names)?.masks })
}

/// Adds every call to its tenant's summary, and to the review queue what belongs there.
fn done(summaries: Arc<Summaries>, reviews: Reviews) -> audit::Done {
    Arc::new(move |record, notes| {
        if record.chat.is_none() || record.context.endpoint == SIMULATE {
            // Nothing was asked of anybody.
            return;
        }
        let at = record.at.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
        summaries.add(record, notes, at as i64);
        if record.context.endpoint != session::summary::ENDPOINT {
            reviews.offer(record, notes);
        }
    })
}

/// Accounts for answers whose provider did not say what they took.
fn settle(prices: &Arc<Prices>, metrics: &Arc<Metrics>) -> audit::Settle {
    let (prices, metrics) = (prices.clone(), metrics.clone());
    Arc::new(move |uncounted| {
        let usage = tokens::estimate(&uncounted.chat, &uncounted.output, uncounted.known);
        attempt::account(&prices, &metrics, uncounted, usage)
    })
}

/// Makes all that a reload replaces.
pub(super) fn running(parts: &Parts, lasting: &Lasting) -> Result<Running, String> {
    let config = &parts.config;
    lasting.alerts.set(&config.budget)?;
    lasting.reviews.follow(reviewing(config, &lasting.names)?);
    lasting.approved.set(&config.review);
    let version = version(config);
    let names: Vec<(String, Vec<String>)> =
        config.providers.iter().map(|(name, provider)| (name.clone(), provider.models.clone())).collect();
    let table = Arc::new(Table::new(&Plan {
        routes: &config.models,
        providers: &names,
        timeouts: &config.timeouts,
        breaker: &config.breaker,
        breakers: &lasting.breakers,
        routing: &config.routing,
        vitals: &lasting.vitals,
        price: &|model| parts.prices.cost(model, &TYPICAL).0,
        metrics: &lasting.metrics,
    }));
    let pepper = lasting.keys.pepper().cloned();
    let keys = Keyring::new(&parts.keys, &config.tenants, pepper, config.auth.query_key);
    keys.follow(&lasting.keys.page());
    let stages = stages(parts, lasting, &table, &version)?;
    let pii = stages.authorize.pii.clone();
    let simulation = stack::rehearsal(rehearsal(&stages, parts));
    let pipeline = stack::pipeline(stages);
    Ok(Running {
        keys,
        default_model: config.default_model.clone().unwrap_or_default(),
        predict: (config.predict_model.clone(), config.cache.predict_ttl.0),
        sanitize: config.safety.sanitize.clone(),
        pii,
        server: config.server.clone(),
        knowledge: lasting.knowledge.clone(),
        prompts: parts.prompts.clone(),
        version,
        pipeline,
        simulation,
        table,
    })
}

fn stages(parts: &Parts, lasting: &Lasting, table: &Arc<Table>, version: &str) -> Result<Stages, String> {
    let Parts { config, prices, prompts, .. } = parts;
    let metrics = &lasting.metrics;
    let Counting { limits, retries, hedges, .. } = lasting.counting(config);
    let pii = Arc::new(Pii::new(&config.pii)?);
    pii.prepare();
    let gates = lasting.gates.stand(&plan(config));
    let priced = prices.clone();
    let naming = Arc::new(move |model: &str| match (priced.known(model), Pii::tells(model)) {
        (true, _) => Naming::Priced,
        (false, true) => Naming::Personal,
        (false, false) => Naming::Unpriced,
    });
    let knowledge = lasting.knowledge.clone();
    let unsafe_content = Arc::new(Rules::new(&config.safety)?);
    let questions = if config.safety.input { unsafe_content.clone() } else { Arc::default() };
    let moderation = Service::new(&config.safety.moderation, &config.safety.categories)?.map(Arc::new);
    Ok(Stages {
        audit: Audit {
            writer: lasting.writer.clone(),
            versions: Arc::new(audit::Versions { policy: version.into(), prices: prices.version().clone() }),
        },
        measure: Measure { metrics: metrics.clone() },
        authorize: Authorize { table: table.clone(), pii: pii.clone() },
        limit: RateLimit { limits, table: table.clone(), metrics: metrics.clone() },
        budget: Budget {
            ledger: lasting.ledger.clone(),
            settings: Arc::new(config.budget.clone()),
            prices: prices.clone(),
            table: table.clone(),
            calendar: lasting.calendar.clone(),
            metrics: metrics.clone(),
        },
        admit: Admit { gates: gates.clone(), table: table.clone(), metrics: metrics.clone() },
        screen: CheckInput {
            settings: config.input.clone(),
            pii: pii.clone(),
            metrics: metrics.clone(),
            inspector: Arc::new(Inspector::new(
                &config.injection,
                questions,
                moderation.clone(),
                metrics.clone(),
            )?),
            knowledge: lasting.knowledge.clone(),
            prompts: prompts.clone(),
            names: lasting.names.clone(),
            conversations: config.session.enabled.then(|| lasting.conversations.clone()),
        },
        session: Session {
            sessions: lasting.sessions.clone(),
            settings: Arc::new(config.session.clone()),
            prompts: prompts.clone(),
            metrics: metrics.clone(),
        },
        confidence: ConfidenceGate { settings: config.confidence.clone(), metrics: metrics.clone() },
        cache: Cache {
            store: lasting.cache.clone(),
            policy: Arc::new(cache::Policy {
                settings: config.cache.clone(),
                versions: vec![version.to_owned(), prompts.version().to_string()],
                corpus: Arc::new(move || knowledge.current().version().clone()),
            }),
            metrics: metrics.clone(),
        },
        check: CheckOutput {
            pii: pii.clone(),
            leak: (config.leak.clone(), prompts.clone()),
            safety: if config.safety.output { unsafe_content } else { Arc::default() },
            moderation: moderation.filter(|service| service.output),
            metrics: metrics.clone(),
        },
        ground: Ground::new(lasting.knowledge.clone(), prompts.clone(), config.knowledge.passages),
        shape: KeepForm { settings: config.schema.clone(), metrics: metrics.clone() },
        fallback: Fallback {
            hedging: Hedging {
                settings: config.routing.hedge.clone(),
                budget: hedges,
                table: table.clone(),
                metrics: metrics.clone(),
            },
            table: table.clone(),
            naming,
            going_on: Arc::new(going_on(parts, metrics)),
            metrics: metrics.clone(),
        },
        retry: Retry {
            settings: config.retry.clone(),
            budget: retries,
            table: table.clone(),
            metrics: metrics.clone(),
        },
        breaker: Breaker { table: table.clone() },
        bulkhead: Bulkhead { gates, metrics: metrics.clone() },
        attempt: Attempt { table: table.clone(), prices: prices.clone(), pii },
        dispatch: Dispatch { providers: Arc::new(providers(config, lasting)?) },
    })
}

/// By what prices are compared: three tokens read for each one written.
const TYPICAL: Usage =
    Usage { input: 3000, output: 1000, cached: 0, cache_write: 0, reasoning: 0, estimated: true, cost: None };

fn going_on(parts: &Parts, metrics: &Arc<Metrics>) -> GoingOn {
    let kinds = parts.config.providers.iter().map(|(name, provider)| (name.clone(), provider.kind));
    let kinds: HashMap<String, provider::Kind> = kinds.collect();
    let (prices, billed) = (parts.prices.clone(), metrics.clone());
    GoingOn {
        most: parts.config.retry.continuations,
        prefill: Arc::new(move |target| Prefill::of(*kinds.get(&*target.provider)?, &target.model)),
        bill: Arc::new(move |uncounted, usage| attempt::account(&prices, &billed, uncounted, usage)),
        metrics: metrics.clone(),
    }
}

/// The same parts, as far as a simulation has them.
fn rehearsal(stages: &Stages, parts: &Parts) -> Rehearsal {
    let (gates, table) = (stages.admit.gates.clone(), stages.admit.table.clone());
    Rehearsal {
        audit: Audit { writer: stages.audit.writer.clone(), versions: stages.audit.versions.clone() },
        authorize: Authorize { table: table.clone(), pii: stages.authorize.pii.clone() },
        screen: stages.screen.clone(),
        foresee: Foresee {
            limits: stages.limit.limits.clone(),
            gates: gates.clone(),
            store: stages.cache.store.clone(),
            policy: stages.cache.policy.clone(),
            table: table.clone(),
        },
        check: stages.check.clone(),
        ground: stages.ground.clone(),
        forecast: Forecast {
            table,
            gates,
            prices: parts.prices.clone(),
            naming: stages.fallback.naming.clone(),
        },
    }
}

fn providers(config: &Config, lasting: &Lasting) -> Result<HashMap<Arc<str>, Arc<dyn Provider>>, String> {
    let mut providers: HashMap<Arc<str>, Arc<dyn Provider>> = HashMap::new();
    for (name, settings) in &config.providers {
        let made = provider::build(name, settings, &lasting.knowledge)?;
        providers.insert(name.as_str().into(), made);
    }
    Ok(providers)
}

/// A digest of the configuration: what answers may depend on.
fn version(config: &Config) -> Arc<str> {
    let text = serde_json::to_vec(config).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(&text).into();
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
