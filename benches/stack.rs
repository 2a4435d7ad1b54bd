//! What the stages cost: a call through all of them to a provider that answers at once.
use std::time::{Duration, Instant};

use divan::Bencher;
use sluice::{
    app,
    audit::settings::Durability,
    call::{Call, Caller, Context, Priority, Trace, Trail},
    chat::{Message, Mode, Purpose, Request, Role},
    config::{self, Source},
    limit::{Limits, Settings},
    stage::Pipeline,
};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

fn main() {
    divan::main();
}

/// All stages of the default configuration, without limits and without records.
fn pipeline() -> (Runtime, Pipeline) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let loaded = config::load(&Source { file: None, listen: None }).expect("the defaults are good");
    let mut config = loaded.config;
    config.audit.durability = Durability::Off;
    config.log.level = "error".into();
    let unlimited = &mut config.limits.requests_per_minute;
    (unlimited.user, unlimited.address) = (Some(u32::MAX), Some(u32::MAX));
    let pipeline = runtime.block_on(app::pipeline(config)).expect("the defaults can be read");
    (runtime, pipeline)
}

fn call(chat: Request, use_cache: bool) -> Call {
    let began = Instant::now();
    let context = Context {
        id: "01997a6e-0000-7000-8000-000000000000".into(),
        endpoint: "/bench",
        caller: Caller {
            user: Some("u1".into()),
            address: Some([127, 0, 0, 1].into()),
            ..Caller::named("bench", "default")
        },
        session: None,
        remember: false,
        trace: Trace::default(),
        began,
        deadline: began + Duration::from_secs(60),
        priority: Priority::Normal,
        use_cache,
        cache_ttl: None,
        last_resort: false,
        explain: None,
        trail: Trail::default(),
    };
    Call::new(context, chat)
}

fn ask(bencher: Bencher<'_, '_>, chat: &Request, use_cache: bool) {
    let (runtime, pipeline) = pipeline();
    let once = || {
        let call = call(chat.clone(), use_cache);
        let asked = async { pipeline.clone().oneshot(call).await?.collect().await };
        runtime.block_on(asked).expect("an answer")
    };
    // What is to come from the cache is in it; what is to be loaded is loaded.
    once();
    bencher.bench_local(once);
}

fn embedding() -> Request {
    Request {
        model: "hashing".into(),
        messages: vec![Message::new(Role::User, "How do I limit requests per user?")],
        purpose: Purpose::Embed { dimensions: None },
        ..Request::default()
    }
}

/// Through every stage to the cheapest provider.
#[divan::bench]
fn to_a_provider(bencher: Bencher<'_, '_>) {
    ask(bencher, &embedding(), false);
}

/// Only the limits: by address and by user, as in the defaults.
#[divan::bench]
fn the_limits(bencher: Bencher<'_, '_>) {
    let mut settings = Settings::default();
    let unlimited = &mut settings.requests_per_minute;
    (unlimited.user, unlimited.address) = (Some(u32::MAX), Some(u32::MAX));
    let (limits, call) = (Limits::new(&settings), call(embedding(), false));
    let context = &call.context;
    bencher.bench_local(|| limits.admit(&context.caller, "hashing", context.began, |_| 0).admitted.is_ok());
}

/// From the cache.
#[divan::bench]
fn from_the_cache(bencher: Bencher<'_, '_>) {
    ask(bencher, &embedding(), true);
}

/// A question that is answered from the handbook, search and all.
#[divan::bench]
fn from_the_handbook(bencher: Bencher<'_, '_>) {
    let chat = Request {
        model: "extractive".into(),
        messages: vec![Message::new(Role::User, "How do I limit requests per user?")],
        mode: Mode::Rag,
        ..Request::default()
    };
    ask(bencher, &chat, false);
}
