//! Conversations are the same in memory, on SQLite, on Postgres and in Redis.
use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sluice::{
    call::Caller,
    observe::Metrics,
    session::{Bounds, Fresh, Name, Sessions, Settings, TABLES},
    settings::{SecretFrom, Span},
    store::{self, Stores, redis::Redis, sql::Sql},
};
use tempfile::TempDir;

use crate::support::servers;

/// Where they are kept, as two gateways see it.
struct Place {
    what: &'static str,
    one: Arc<Sessions>,
    two: Arc<Sessions>,
    _folder: TempDir,
    _redis: Option<servers::Redis>,
    _postgres: Option<servers::Postgres>,
}

impl Place {
    async fn each() -> Vec<Self> {
        let mut places = Vec::new();
        for what in ["memory", "sqlite", "postgres", "redis"] {
            let folder = tempfile::tempdir().unwrap();
            let secret = |text: String| {
                let path = folder.path().join("secret");
                std::fs::write(&path, text).unwrap();
                SecretFrom::File(path)
            };
            let mut settings = store::Settings { sqlite: ":memory:".into(), ..store::Settings::default() };
            let (mut redis, mut postgres) = (None, None);
            match what {
                "sqlite" => settings.sqlite = folder.path().join("s.db"),
                "postgres" => {
                    let server = servers::Postgres::start().await;
                    settings.postgres = Some(secret(server.url()));
                    postgres = Some(server);
                }
                "redis" => {
                    let server = servers::Redis::start().await;
                    settings.redis = Some(secret(server.url()));
                    // A busy machine is no outage here.
                    settings.redis_timeout = Span::secs(5);
                    redis = Some(server);
                }
                _ => {}
            }
            let one = sessions(&settings).await;
            let two = if what == "memory" { one.clone() } else { sessions(&settings).await };
            places.push(Self { what, one, two, _folder: folder, _redis: redis, _postgres: postgres });
        }
        places
    }
}

async fn sessions(settings: &store::Settings) -> Arc<Sessions> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let stores = Stores {
        sql: Sql::open(settings, &[TABLES], &metrics).await.unwrap(),
        redis: Redis::start(settings, &metrics).await.unwrap(),
    };
    Sessions::start(&stores, &metrics)
}

fn name(key: &str, user: &str, session: &str) -> Name {
    let caller = Caller { user: Some(user.into()), ..Caller::named(key, "t") };
    Name::new(&caller, session)
}

fn turn(word: &str) -> Fresh {
    let (question, answer) = (format!("{word}?"), format!("{word}! [EMAIL_1]"));
    Fresh::new(Timestamp::now(), word, question, answer, &Settings::default())
}

fn bounds(max_turns: u32) -> Bounds {
    Bounds::of(&Settings { max_turns, ..Settings::default() })
}

async fn said(sessions: &Sessions, name: &Name) -> Vec<String> {
    let history = sessions.load(name).await.unwrap();
    history.map(|history| history.turns.into_iter().map(|turn| turn.answer).collect()).unwrap_or_default()
}

#[tokio::test]
async fn turns_are_kept_in_order_bounded_summed_up_and_forgotten() {
    for place in Place::each().await {
        let (one, two, what) = (&place.one, &place.two, place.what);
        let (mine, others) = (name("k", "u", "s"), name("k2", "u", "s"));
        assert_eq!(one.load(&mine).await.unwrap(), None, "{what}");
        let added = one.add(&mine, &turn("a"), bounds(3)).await.unwrap().unwrap();
        assert_eq!((added.turns, added.dropped), (1, 0), "{what}");
        two.add(&mine, &turn("b"), bounds(3)).await.unwrap().unwrap();
        two.add(&others, &turn("other"), bounds(3)).await.unwrap().unwrap();
        one.add(&mine, &turn("c"), bounds(3)).await.unwrap().unwrap();
        let fourth = one.add(&mine, &turn("it's \"d\"\n\u{1f980}"), bounds(3)).await.unwrap().unwrap();
        assert_eq!((fourth.turns, fourth.dropped), (3, 1), "{what}");
        let history = two.load(&mine).await.unwrap().unwrap();
        let answers: Vec<&str> = history.turns.iter().map(|turn| &*turn.answer).collect();
        assert_eq!(
            answers,
            ["b! [EMAIL_T2_1]", "c! [EMAIL_T3_1]", "it's \"d\"\n\u{1f980}! [EMAIL_T4_1]"],
            "{what}"
        );
        assert_eq!(history.turns.iter().map(|turn| turn.tokens).sum::<i64>(), fourth.tokens, "{what}");
        assert_eq!((history.folded, history.dropped, &*history.turns[0].request), (1, 1, "b"), "{what}");
        assert!(
            history.begun > 0 && history.begun <= history.turns[0].at && history.ends > history.begun,
            "{what}"
        );

        assert!(one.claim(&mine, 1).await.unwrap(), "{what}");
        assert!(!two.claim(&mine, 1).await.unwrap(), "{what}: one sums up");
        assert!(one.fold(&mine, 1, None).await.unwrap(), "{what}: it gives it back");
        assert!(two.claim(&mine, 1).await.unwrap(), "{what}");
        one.add(&mine, &turn("e"), bounds(9)).await.unwrap().unwrap();
        assert!(two.fold(&mine, 1, Some((3, "b and c"))).await.unwrap(), "{what}");
        assert!(!two.fold(&mine, 1, Some((4, "late"))).await.unwrap(), "{what}: it is another by now");
        let history = one.load(&mine).await.unwrap().unwrap();
        assert_eq!(
            (history.summary.as_deref(), history.folded, history.turns.len()),
            (Some("b and c"), 3, 2),
            "{what}"
        );

        let before = turn("late");
        assert!(one.remove(&mine).await.unwrap(), "{what}");
        assert!(!two.remove(&mine).await.unwrap(), "{what}");
        assert_eq!(two.load(&mine).await.unwrap(), None, "{what}");
        assert_eq!(one.add(&mine, &before, bounds(9)).await.unwrap(), None, "{what}: its call began before");
        assert_eq!(said(one, &mine).await, [""; 0], "{what}");
        one.add(&mine, &turn("anew"), bounds(9)).await.unwrap().unwrap();
        let history = two.load(&mine).await.unwrap().unwrap();
        assert_eq!(
            (history.turns.len(), history.dropped, history.begun),
            (1, 0, history.turns[0].at),
            "{what}"
        );
        assert_eq!(said(two, &others).await.len(), 1, "{what}: another key's is untouched");

        let short = Bounds::of(&Settings { ttl: Span::millis(200), ..Settings::default() });
        let brief = name("k", "u", "brief");
        one.add(&brief, &turn("x"), short).await.unwrap().unwrap();
        while one.load(&brief).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        one.add(&brief, &turn("y"), bounds(9)).await.unwrap().unwrap();
        assert_eq!(said(one, &brief).await.len(), 1, "{what}: it begins anew");
    }
}

#[tokio::test]
async fn all_of_a_user_goes_and_nothing_of_the_others() {
    for place in Place::each().await {
        let (one, two, what) = (&place.one, &place.two, place.what);
        let theirs = [name("k", "u", "s"), name("k2", "u", "s2")];
        let other = name("k", "u2", "s");
        for name in theirs.iter().chain([&other]) {
            one.add(name, &turn("a"), bounds(9)).await.unwrap().unwrap();
        }
        let before = turn("late");
        assert_eq!(two.erase("t2", "u").await.unwrap(), 0, "{what}");
        assert_eq!(two.erase("t", "u").await.unwrap(), 2, "{what}");
        for name in &theirs {
            assert_eq!(one.load(name).await.unwrap(), None, "{what}");
            assert_eq!(one.add(name, &before, bounds(9)).await.unwrap(), None, "{what}");
        }
        let fresh = name("k", "u", "first");
        assert_eq!(one.add(&fresh, &before, bounds(9)).await.unwrap(), None, "{what}: also a new one");
        assert!(one.add(&fresh, &turn("a"), bounds(9)).await.unwrap().is_some(), "{what}");
        assert_eq!(said(one, &other).await.len(), 1, "{what}");
        assert_eq!(two.erase("t", "u").await.unwrap(), 1, "{what}");
    }
}

#[tokio::test]
async fn turns_that_end_at_once_are_all_kept() {
    for place in Place::each().await {
        let (name, what) = (name("k", "u", "s"), place.what);
        let adding = (0..24).map(|number| {
            let sessions = if number % 2 == 0 { place.one.clone() } else { place.two.clone() };
            let name = name.clone();
            tokio::spawn(async move { sessions.add(&name, &turn(&number.to_string()), bounds(50)).await })
        });
        for added in adding.collect::<Vec<_>>() {
            assert!(added.await.unwrap().unwrap().is_some(), "{what}");
        }
        let history = place.one.load(&name).await.unwrap().unwrap();
        let numbers: Vec<i64> = history.turns.iter().map(|turn| turn.number).collect();
        assert_eq!(numbers, (1..=24).collect::<Vec<_>>(), "{what}");
        assert!(history.turns.is_sorted_by_key(|turn| turn.number), "{what}");
    }
}
