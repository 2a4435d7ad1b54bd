//! One Redis, never waited for longer than a request can bear.
//!
//! All commands share one connection. A breaker stands before it: as soon as
//! Redis is seen to be away, calls fail at once, and one task in the background
//! asks it until it answers again. What a failed call means is for the caller
//! to say; here it is only told quickly.
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use prometheus::{IntCounterVec, IntGauge};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    RedisResult, ScriptInvocation, aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, timeout},
};

use super::Settings;
use crate::{observe::Metrics, settings::SecretFrom};

/// So many answers in a row that came too late mean that Redis is away.
const TOO_LATE: u32 = 3;
/// How often Redis is asked whether it is there, and how long the next try waits while it is not.
const PROBE: Duration = Duration::from_millis(250);
/// How long a new connection may take: a name's lookup, TLS and a password included.
const CONNECT: Duration = Duration::from_secs(1);
/// How long the start waits for the first connection.
const FIRST: Duration = Duration::from_millis(500);

/// A handle to Redis. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    client: Client,
    /// How long a command may take.
    patience: Duration,
    /// Absent while Redis is away.
    connection: ArcSwapOption<MultiplexedConnection>,
    late: AtomicU32,
    lost: Notify,
    up: IntGauge,
    failures: IntCounterVec,
}

/// Why Redis gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// It cannot be reached, or is known to be away.
    #[error("Redis is away")]
    Gone,
    /// It did not answer in time. The command may still be carried out.
    #[error("Redis did not answer in time")]
    Late,
    /// It answered, but with an error: out of memory, read-only, a script's mistake.
    #[error("Redis refused: {0}")]
    Refused(String),
}

impl Away {
    fn kind(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Late => "late",
            Self::Refused(_) => "refused",
        }
    }
}

impl fmt::Debug for Redis {
    // The client's own would print the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects, and goes on trying in the background if Redis is not there.
    /// `None` where none is configured.
    ///
    /// # Errors
    /// The URL is missing or is none, in words.
    pub async fn start(settings: &Settings, metrics: &Metrics) -> Result<Option<Self>, String> {
        let Some(from) = &settings.redis else { return Ok(None) };
        let client = client(from).map_err(|why| format!("`store.redis`: {why}"))?;
        let this = Self(Arc::new(Shared {
            client,
            patience: settings.redis_timeout.0,
            connection: ArcSwapOption::empty(),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            up: metrics.store_up.with_label_values(&["redis"]),
            failures: metrics.redis_failures.clone(),
        }));
        match timeout(FIRST, this.0.connect()).await {
            Ok(Ok(connection)) => this.0.found(connection),
            Ok(Err(error)) => this.0.missing(&reason(&error)),
            Err(_) => this.0.missing("it does not answer"),
        }
        tokio::spawn(look_after(Arc::downgrade(&this.0)));
        Ok(Some(this))
    }

    /// Whether Redis was there when it was last asked.
    pub fn is_up(&self) -> bool {
        self.0.connection.load().is_some()
    }

    /// Runs a script: all of it or nothing, and nothing else in between.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Away> {
        self.ask(async |mut connection| script.invoke_async(&mut connection).await).await
    }

    /// Carries out one command.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        self.ask(async |mut connection| command.query_async(&mut connection).await).await
    }

    /// Carries out several commands with one journey.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Away> {
        self.ask(async |mut connection| commands.query_async(&mut connection).await).await
    }

    async fn ask<T>(
        &self,
        command: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Away> {
        let shared = &*self.0;
        let connection = shared.connection.load().as_deref().cloned();
        let answered = match connection {
            Some(connection) => timeout(shared.patience, command(connection)).await,
            None => Ok(Err((ErrorKind::Io, "away").into())),
        };
        let away = match answered {
            Ok(Ok(answer)) => {
                // Read first: a line of memory that all cores write would cost more than the rest.
                if shared.late.load(Ordering::Relaxed) > 0 {
                    shared.late.store(0, Ordering::Relaxed);
                }
                return Ok(answer);
            }
            Ok(Err(error)) if is_of_connection(&error) => {
                shared.lose(&reason(&error));
                Away::Gone
            }
            Ok(Err(error)) => Away::Refused(reason(&error)),
            Err(_) => {
                if shared.late.fetch_add(1, Ordering::Relaxed) + 1 >= TOO_LATE {
                    shared.lose("it does not answer in time");
                }
                Away::Late
            }
        };
        shared.failures.with_label_values(&[away.kind()]).inc();
        Err(away)
    }
}

impl Shared {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that accepts and then says nothing is not there yet.
        match timeout(self.patience.max(PROBE), redis::cmd("PING").query_async(&mut connection)).await {
            Ok(answer) => answer.map(|(): ()| connection),
            Err(_) => Err((ErrorKind::Io, "it does not answer").into()),
        }
    }

    fn found(&self, connection: MultiplexedConnection) {
        self.late.store(0, Ordering::Relaxed);
        self.up.set(1);
        self.connection.store(Some(Arc::new(connection)));
    }

    fn missing(&self, why: &str) {
        self.up.set(0);
        tracing::error!(why, "Redis is away: the gateway goes on without it");
    }

    /// Says once that Redis is away, however many calls see it.
    fn lose(&self, why: &str) {
        if self.connection.swap(None).is_some() {
            self.missing(why);
            self.lost.notify_one();
        }
    }
}

/// Whether a secret holds the URL of a Redis.
///
/// # Errors
/// What is wrong with it, in words that hold nothing of it.
pub fn check(from: &SecretFrom) -> Result<(), String> {
    client(from).map(drop)
}

fn client(from: &SecretFrom) -> Result<Client, String> {
    let url = from.read()?;
    // The library's words could repeat the URL, and the password with it.
    let bad = |_: RedisError| {
        format!("the {from} holds no URL such as `redis://host:6379` or `rediss://host:6379`")
    };
    Client::open(url.reveal().into_connection_info().map_err(bad)?).map_err(bad)
}

/// Sees that Redis is gone although nobody asks for anything, and that it is back.
async fn look_after(shared: std::sync::Weak<Shared>) {
    let mut clock = interval(PROBE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let connection = shared.connection.load().as_deref().cloned();
        match connection {
            Some(mut connection) => {
                let ping = redis::cmd("PING");
                let asked = tokio::select! {
                    asked = timeout(shared.patience.max(PROBE), ping.query_async::<()>(&mut connection)) => asked,
                    () = shared.lost.notified() => continue,
                };
                match asked {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => shared.lose(&reason(&error)),
                    Err(_) => shared.lose("it does not answer"),
                }
            }
            None => {
                if let Ok(Ok(connection)) = timeout(CONNECT, shared.connect()).await {
                    shared.found(connection);
                    tracing::info!("Redis is back");
                }
            }
        }
    }
}

/// Whether the connection is of no use any more, and not only this command.
fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// What went wrong, without an address or a password.
fn reason(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        // The system's own words: refused, reset, no such host.
        _ if error.is_io_error() => error.to_string(),
        _ => match error.detail() {
            Some(detail) => format!("{}: {detail}", error.category()),
            None => error.category().to_owned(),
        },
    }
}
