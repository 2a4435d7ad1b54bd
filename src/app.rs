//! From a configuration to a running gateway, through reloads, to its end.
//! The only file that names concrete parts.
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit, cache,
    config::{self, Config, Loaded, Source, watch::Watch},
    guard::{self, Rule},
    http::{self, App, Running, auth::Keyring, server::Server},
    knowledge::{Knowledge, SharedKnowledge},
    limit::Limits,
    observe::{Metrics, logs::Logs},
    pipeline::{
        admit::Admit, attempt, attempt::Attempt, audit::Audit, authorize::Authorize, breaker::Breaker,
        cache::Cache, check::CheckOutput, dispatch::Dispatch, fallback::Fallback, ground::Ground,
        limit::RateLimit, measure::Measure, retry::Retry, screen::CheckInput,
    },
    price::Prices,
    prompt::Prompts,
    provider::{self, Provider},
    route::{Breakers, Plan, RetryBudget, Table},
    stack::{self, Stages},
    tokens,
};

/// What lasts through reloads.
struct Lasting {
    metrics: Arc<Metrics>,
    breakers: Arc<Breakers>,
    knowledge: Arc<SharedKnowledge>,
    cache: Arc<cache::Cache>,
    writer: audit::Writer,
}

/// Serves until told to stop.
pub fn serve(loaded: Loaded) -> ExitCode {
    let logs = Logs::start(&loaded.config.log);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = loaded.config.server.workers {
        runtime.worker_threads(workers);
    }
    let served = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(run(loaded, &logs)),
        Err(error) => Err(format!("the runtime does not start: {error}")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(loaded: Loaded, logs: &Logs) -> Result<(), String> {
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let Loaded { config, source, .. } = loaded;
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let prices = Arc::new(Prices::load(config.prices.as_deref())?);
    let lasting = Lasting {
        breakers: Arc::new(Breakers::new(metrics.breaker.clone())),
        knowledge: Arc::new(SharedKnowledge::new(read_knowledge(&config).await?)),
        cache: Arc::new(cache::Cache::new(&config.cache, metrics.cache_bytes.clone())),
        writer: audit::Writer::start(
            &config.audit,
            logs.request_lines(&config.log),
            settle(&prices, &metrics),
            metrics.clone(),
        )
        .map_err(|error| format!("the audit file cannot be opened: {error}"))?,
        metrics,
    };
    let server_settings = config.server.clone();
    let running = running(config, &lasting)?;
    let app = App::new(running, lasting.metrics.clone(), lasting.writer.clone(), lasting.breakers.clone());

    let listen = server_settings.listen;
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let at = listener.local_addr().map_err(|error| error.to_string())?;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    if let Some(address) = server_settings.metrics_listen {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let server = Server {
            settings: server_settings.clone(),
            open: lasting.metrics.connections.clone(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let router = http::metrics_router(&app);
        tokio::spawn(async move { server.run(listener, router).await });
        tracing::info!("metrics on http://{address}/metrics");
    }
    let server = Server {
        settings: server_settings.clone(),
        open: lasting.metrics.connections.clone(),
        stop: stop.clone(),
        tracker: tracker.clone(),
    };
    let router = http::router(&app);
    let accepting = tokio::spawn(async move { server.run(listener, router).await });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "listening on http://{at}");
    let reloading = tokio::spawn(reload_on_change(app.clone(), lasting, source, logs.clone()));

    stop_signal().await?;
    tracing::info!("stopping: no new requests, waiting for those under way");
    app.drain();
    stop.cancel();
    let _ = accepting.await;
    tracker.close();
    tokio::select! {
        () = tracker.wait() => tracing::info!("all requests are answered"),
        () = tokio::time::sleep(server_settings.drain.0) => tracing::warn!("requests under way are cut off: their time is over"),
        // Who asks twice does not want to wait.
        _ = stop_signal() => tracing::warn!("requests under way are cut off: asked to stop again"),
    }
    reloading.abort();
    let writer = app.writer().clone();
    let _ = tokio::task::spawn_blocking(move || writer.close()).await;
    Ok(())
}

async fn stop_signal() -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}

/// Accounts for answers whose provider did not say what they took.
fn settle(prices: &Arc<Prices>, metrics: &Arc<Metrics>) -> audit::Settle {
    let (prices, metrics) = (prices.clone(), metrics.clone());
    Arc::new(move |uncounted| {
        let usage = tokens::estimate(&uncounted.chat, &uncounted.output, uncounted.known);
        attempt::bill(&prices, &metrics.of("chat", &uncounted.target), &uncounted.target, usage)
    })
}

async fn read_knowledge(config: &Config) -> Result<Knowledge, String> {
    let settings = config.knowledge.clone();
    let read = tokio::task::spawn_blocking(move || Knowledge::load(&settings.path, settings.chunk_chars));
    read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Makes all that a reload replaces.
fn running(config: Config, lasting: &Lasting) -> Result<Running, String> {
    let config = Arc::new(config);
    let prices = Arc::new(Prices::load(config.prices.as_deref())?);
    let prompts = Arc::new(Prompts::load(&config.prompts.path, &config.prompts.version)?);
    let version = version(&config);
    let names: Vec<(String, Vec<String>)> =
        config.providers.iter().map(|(name, provider)| (name.clone(), provider.models.clone())).collect();
    let known = {
        let prices = prices.clone();
        Arc::new(move |model: &str| prices.known(model)) as Arc<dyn Fn(&str) -> bool + Send + Sync>
    };
    let table = Arc::new(Table::new(&Plan {
        routes: &config.models,
        providers: &names,
        timeouts: &config.timeouts,
        breaker: &config.breaker,
        breakers: &lasting.breakers,
        metrics: &lasting.metrics,
    }));
    let pipeline = stack::pipeline(stages(&config, lasting, &prices, &prompts, &table, known, &version)?);
    Ok(Running {
        keys: Keyring::new(
            &config::keys(&config.auth).map_err(|problems| listed(&problems))?,
            config.auth.query_key,
        ),
        default_model: config.default_model.clone().unwrap_or_default(),
        knowledge: lasting.knowledge.clone(),
        config,
        version,
        pipeline,
        table,
        prompts,
    })
}

fn stages(
    config: &Arc<Config>,
    lasting: &Lasting,
    prices: &Arc<Prices>,
    prompts: &Arc<Prompts>,
    table: &Arc<Table>,
    known: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    version: &Arc<str>,
) -> Result<Stages, String> {
    let metrics = &lasting.metrics;
    let knowledge = lasting.knowledge.clone();
    let guards = [(guard::SSN, config.output.ssn), (guard::CARD, config.output.card)];
    Ok(Stages {
        audit: Audit { writer: lasting.writer.clone() },
        measure: Measure { metrics: metrics.clone() },
        authorize: Authorize,
        limit: RateLimit { limits: Arc::new(Limits::new(&config.limits)), metrics: metrics.clone() },
        admit: Admit::new(&config.admit, metrics.clone()),
        screen: CheckInput { settings: config.input.clone() },
        cache: Cache {
            store: lasting.cache.clone(),
            settings: config.cache.clone(),
            versions: vec![version.to_string(), prompts.version().to_string()],
            corpus: Arc::new(move || knowledge.current().version().clone()),
            metrics: metrics.clone(),
        },
        check: CheckOutput {
            guards: guards.into_iter().filter(|(_, rule)| *rule != Rule::Off).collect(),
            metrics: metrics.clone(),
        },
        ground: Ground::new(lasting.knowledge.clone(), prompts.clone(), config.knowledge.passages),
        fallback: Fallback { table: table.clone(), known, metrics: metrics.clone() },
        retry: Retry {
            settings: config.retry.clone(),
            budget: Arc::new(RetryBudget::new(config.retry.budget_percent, config.retry.budget_floor)),
            metrics: metrics.clone(),
        },
        breaker: Breaker { table: table.clone() },
        attempt: Attempt { table: table.clone(), prices: prices.clone() },
        dispatch: Dispatch { providers: Arc::new(providers(config, lasting)?) },
    })
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

/// Reads everything anew when a file changes, or on SIGHUP. What is bad changes nothing.
async fn reload_on_change(app: App, lasting: Lasting, source: Source, logs: Logs) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut watch = Watch::new(&watched(&app.running().config, &source));
    loop {
        tokio::select! {
            () = watch.changed() => {}
            _ = hangup.recv() => {}
        }
        let (source_, before) = (source.clone(), app.running().config.clone());
        let read = tokio::task::spawn_blocking(move || config::load(&source_)).await;
        let result = match read {
            Ok(Ok(loaded)) => reload(&app, &lasting, loaded.config, &before, &logs).await,
            Ok(Err(problems)) => Err(listed(&problems)),
            Err(error) => Err(error.to_string()),
        };
        let outcome = match &result {
            Ok(true) => "changed",
            Ok(false) => "unchanged",
            Err(_) => "refused",
        };
        lasting.metrics.reloads.with_label_values(&[outcome]).inc();
        match result {
            Ok(true) => tracing::info!(config_version = %app.running().version, "reloaded"),
            Ok(false) => {}
            Err(why) => tracing::error!("nothing was changed, the new configuration is not good:\n{why}"),
        }
        watch.follow(&watched(&app.running().config, &source));
    }
}

fn listed(problems: &[config::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

async fn reload(
    app: &App,
    lasting: &Lasting,
    config: Config,
    before: &Config,
    logs: &Logs,
) -> Result<bool, String> {
    let knowledge = read_knowledge(&config).await?;
    let fresh = **knowledge.version() != *lasting.knowledge.current().version().clone();
    if config.server.listen != before.server.listen || config.server.workers != before.server.workers {
        tracing::warn!("`server.listen` and `server.workers` change at the next start");
    }
    if config.audit != before.audit || config.log != before.log {
        lasting
            .writer
            .reload(&config.audit, logs.request_lines(&config.log))
            .map_err(|error| format!("the audit file cannot be opened: {error}"))?;
    }
    let running = running(config, lasting)?;
    if fresh {
        tracing::info!(corpus_version = %knowledge.version(), documents = knowledge.document_count(), "documents indexed anew");
        lasting.knowledge.replace(knowledge);
    }
    logs.reload(&running.config.log);
    let changed =
        fresh || *running.config != *before || running.prompts.digest() != app.running().prompts.digest();
    app.replace(running);
    Ok(changed)
}

/// The files and folders whose change is a reload.
fn watched(config: &Config, source: &Source) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = source.file.iter().cloned().collect();
    paths.extend(config.auth.keys_file.clone());
    paths.extend(config.prices.clone());
    paths.push(config.prompts.path.clone());
    if config.knowledge.watch {
        paths.push(config.knowledge.path.clone());
    }
    paths
}

/// Asks a gateway whether it is ready; for health checks of containers.
pub fn probe(address: SocketAddr) -> bool {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let patience = Duration::from_secs(3);
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(String::from_utf8_lossy(&status).into_owned())
    };
    ask().is_ok_and(|status| status.ends_with("200"))
}
