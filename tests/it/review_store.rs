//! What people say of answers is kept alike on SQLite and on Postgres.
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use sluice::{
    audit::{self, Archive, Key, chain::hex},
    call::Caller,
    caller::Rights,
    error::Error,
    observe::Metrics,
    review::{self, Decision, Feedback, Filter, Item, Reviews, Rules, Settings, golden},
    store::sql::Sql,
};
use sqlx::Row;

use crate::support::records::{Place, Word, record};

/// A word that must not be kept.
const SECRET: &str = "hunter2";

struct Running {
    reviews: Reviews,
    sql: Sql,
    key: Key,
}

async fn open(place: &Place) -> Running {
    let metrics = Arc::new(Metrics::new().unwrap());
    let sql = Sql::open(&place.stores, &[audit::TABLES, review::TABLES], &metrics).await.unwrap();
    let archive = Archive::new(sql.clone(), Arc::new(Key::new(b"a key")));
    let settings = Settings { max_open: 4, ..Settings::default() };
    let reviews = Reviews::start(&archive, Rules { settings, masks: Arc::new(Word(Some(SECRET))) }, &metrics);
    Running { reviews, sql, key: archive.key().clone() }
}

fn masked(text: &str) -> String {
    text.replace(SECRET, "[WORD_1]")
}

fn reviewer(name: &str) -> Arc<Rights> {
    Caller::named(name, "tenant").rights
}

impl Running {
    /// A call of a user whose answer little speaks for.
    fn offer(&self, id: &str, user: &str, question: &str) {
        let record = record(id, user, question, SystemTime::now());
        record.context.trail.note(|notes| {
            notes.confidence = Some(0.1);
            notes.kept_as = Some([7; 16]);
            self.reviews.offer(&record, notes);
        });
    }

    async fn all(&self) -> Vec<Item> {
        let filter = Filter { limit: 100, ..Filter::default() };
        self.reviews.list(&reviewer("ada"), &filter).await.unwrap()
    }

    async fn decide(&self, by: &str, id: &str, decision: Decision) -> Result<Item, Error> {
        self.reviews.decide(&reviewer(by), id, &decision, Some("because of hunter2")).await
    }

    async fn rate(&self, request: &str, by: (&str, Option<&str>), rating: u8, words: &str) {
        let (key, user) = by;
        let feedback = Feedback {
            tenant: "tenant".into(),
            owner: hex(&self.key.user("tenant", "anna")),
            request: request.into(),
            by: Caller { user: user.map(Into::into), ..Caller::named(key, "tenant") },
            rating,
            words: words.into(),
            question: Some("asked".into()),
            answer: Some("answered".into()),
            confidence: None,
            model: None,
            sources: Vec::new(),
            approved: None,
        };
        self.reviews.rate(feedback).await.unwrap();
    }

    async fn week(&self) -> (u64, u64) {
        let since = Timestamp::now() - jiff::SignedDuration::from_hours(24);
        let weeks = self.reviews.weeks("tenant", since).await.unwrap();
        weeks.iter().fold((0, 0), |(rated, positive), week| (rated + week.rated, positive + week.positive))
    }

    /// All that is written in the tables, as one text.
    async fn text(&self) -> String {
        let mut text = String::new();
        for query in [
            "SELECT question, COALESCE(answer, ''), COALESCE(feedback, ''), COALESCE(decision, ''), COALESCE(note, '') FROM reviews",
            "SELECT words, '', '', '', '' FROM ratings",
        ] {
            for row in sqlx::query(query).fetch_all(self.sql.pool()).await.unwrap() {
                (0..5).for_each(|column| text += &row.get::<String, _>(column));
            }
        }
        text
    }
}

#[tokio::test]
async fn items_are_found_claimed_decided_and_taken_back() {
    for place in Place::each().await {
        let one = open(&place).await;
        for number in 0..5 {
            one.offer(&format!("r-{number}"), "anna", &format!("question {number} with {SECRET}"));
            one.reviews.flush().await;
        }
        let items = one.all().await;
        assert_eq!(items.len(), 4, "no more are open than there may be");
        assert_eq!(items[0].question, "question 0 with [WORD_1]");
        let [first, second, third] = [0, 1, 2].map(|at| items[at].id.clone());
        let stranger = Caller::named("eve", "another").rights;
        assert!(matches!(one.reviews.get(&stranger, &first).await, Err(Error::Absent(_))));
        let filter =
            Filter { limit: 2, after: second.clone(), reason: "low_confidence", ..Filter::default() };
        let page = one.reviews.list(&reviewer("ada"), &filter).await.unwrap();
        assert_eq!(page.iter().map(|item| &*item.request).collect::<Vec<_>>(), ["r-2", "r-3"]);

        one.decide("ada", &first, Decision::Claim).await.unwrap();
        assert!(matches!(one.decide("bob", &first, Decision::Approve).await, Err(Error::Conflict(_))));
        assert_eq!(one.decide("ada", &first, Decision::Approve).await.unwrap().status, "approved");
        let edited = Decision::Edit(format!("say {SECRET} to nobody"));
        let edited = one.decide("bob", &second, edited).await.unwrap();
        assert_eq!(
            edited.decision.as_deref(),
            Some("say [WORD_1] to nobody"),
            "a reviewer's words are masked"
        );
        assert_eq!(edited.note.as_deref(), Some("because of [WORD_1]"));
        assert_eq!(one.decide("bob", &third, Decision::Reject).await.unwrap().status, "rejected");
        assert!(matches!(one.decide("ada", &third, Decision::Approve).await, Err(Error::Conflict(_))));

        let golden_items = async |since| golden(&one.sql, masked, Some("tenant"), since).await.unwrap();
        let found = golden_items(0).await;
        assert_eq!(
            found.iter().map(|item| &*item.expected).collect::<Vec<_>>(),
            ["yes", "say [WORD_1] to nobody"]
        );
        // What a version before this one kept is masked when it leaves.
        let old = "UPDATE reviews SET decision = 'hunter2, once more' WHERE id = $1";
        sqlx::query(old).bind(&*second).execute(one.sql.pool()).await.unwrap();
        assert_eq!(golden_items(0).await[1].expected, "[WORD_1], once more");

        // Decisions are read in the order in which they were made, and an answer that holds a placeholder is none to give.
        let all = one.reviews.decisions(0, "").await.unwrap();
        assert_eq!(all.iter().map(|decided| &*decided.id).collect::<Vec<_>>(), [&first, &second, &third]);
        assert!(all.iter().all(|decided| decided.answer.is_none() && decided.kept_as == Some([7; 16])));
        let rest = one.reviews.decisions(all[0].changed, &all[0].id).await.unwrap();
        assert_eq!(rest.len(), 2);

        // Who approved too early takes it back; once.
        assert_eq!(one.decide("ada", &first, Decision::Reject).await.unwrap().status, "rejected");
        assert!(matches!(one.decide("ada", &first, Decision::Reject).await, Err(Error::Conflict(_))));
        assert_eq!(golden_items(0).await.len(), 1);
        one.sql.close().await;
    }
}

#[tokio::test]
async fn a_rating_is_of_who_gave_it_and_each_counts_once() {
    for place in Place::each().await {
        let one = open(&place).await;
        one.rate("r-1", ("app", Some("anna")), 1, "bad").await;
        one.rate("r-1", ("app", Some("anna")), 5, "good after all").await;
        assert_eq!(one.week().await, (1, 1), "the last word counts");
        // Others of the tenant have a word of their own: another user, and a key without one.
        one.rate("r-1", ("app", Some("bob")), 2, "not for me").await;
        one.rate("r-1", ("app", None), 4, "").await;
        one.rate("r-1", ("other", None), 1, "no").await;
        one.rate("r-2", ("other", Some("anna")), 5, "").await;
        assert_eq!(one.week().await, (5, 3));
        one.rate("r-1", ("other", None), 5, "yes").await;
        assert_eq!(one.week().await, (5, 4));
        one.sql.close().await;
    }
}

#[tokio::test]
async fn an_erasure_takes_what_a_user_asked_and_what_they_said_of_others_answers() {
    for place in Place::each().await {
        let one = open(&place).await;
        one.offer("r-1", "anna", "a quokka?");
        one.offer("r-2", "bob", "a walrus?");
        one.reviews.flush().await;
        let items = one.all().await;
        one.decide("ada", &items[0].id, Decision::Edit("a quokka!".into())).await.unwrap();
        one.rate("r-1", ("app", Some("bob")), 5, "walrus rather").await;
        one.rate("r-2", ("app", Some("anna")), 1, "quokka rather").await;
        one.reviews.flush().await;
        let before = one.text().await;
        assert!(before.contains("quokka") && before.contains("walrus"), "{before}");
        assert!(one.reviews.erase("tenant", "anna").await.unwrap() >= 2);
        let text = one.text().await;
        assert!(!text.contains("quokka"), "{text}");
        assert!(text.contains("a walrus?"), "{text}");
        assert_eq!(one.week().await, (2, 1), "they are counted as before");
        let changed = one.reviews.decisions(0, "").await.unwrap();
        assert!(changed.iter().all(|decided| decided.kept_as.is_none()), "{changed:?}");
        assert!(golden(&one.sql, masked, None, 0).await.unwrap().is_empty());
        tokio::time::timeout(Duration::from_secs(5), one.reviews.decided()).await.expect("it is told");
        one.sql.close().await;
    }
}
