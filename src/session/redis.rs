//! Conversations in Redis: a hash each, with a field a turn.
//!
//! All that is an owner's is in one place of a Redis Cluster, so that each
//! change is one script, and nothing happens in between.
use std::sync::LazyLock;

use redis::Script;
use serde::{Deserialize, Serialize};

use super::{Added, Bounds, CLOSED, Fresh, History, Name, Turn, now, summary::CLAIM};
use crate::store::redis::{Away, Redis};

/// Adds a turn. `KEYS`: the conversation, the owner's conversations, when they
/// were erased. `ARGV`: the name, when the call began, now, when it ends (all
/// in microseconds), the turn and its tokens, the most tokens and turns, how
/// long it is kept in milliseconds, when the turn ended. Gives back the turns that there are, their
/// tokens, and how many were dropped; or nothing.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local closed = tonumber(redis.call('HGET', KEYS[1], 'closed') or 0)
         local erased = tonumber(redis.call('GET', KEYS[3]) or 0)
         if math.max(closed, erased) >= tonumber(ARGV[2]) then return {} end
         local folded = tonumber(redis.call('HGET', KEYS[1], 'folded') or 0)
         local last = redis.call('HINCRBY', KEYS[1], 'last', 1)
         if last == folded + 1 and redis.call('HEXISTS', KEYS[1], 'summary') == 0 then
           redis.call('HSET', KEYS[1], 'begun', ARGV[10])
         end
         redis.call('HSET', KEYS[1], 'turn:' .. last, ARGV[5], 'tokens:' .. last, ARGV[6], 'ends', ARGV[4])
         local count, sum, kept = 0, 0, 0
         local cut = folded
         for number = last, folded + 1, -1 do
           local tokens = tonumber(redis.call('HGET', KEYS[1], 'tokens:' .. number) or 0)
           if count > 0 and (count + 1 > tonumber(ARGV[8]) or sum + tokens > tonumber(ARGV[7])) then
             cut = number
             break
           end
           count, sum = count + 1, sum + tokens
         end
         for number = folded + 1, cut do
           redis.call('HDEL', KEYS[1], 'turn:' .. number, 'tokens:' .. number)
         end
         if cut > folded then
           redis.call('HSET', KEYS[1], 'folded', cut)
           redis.call('HINCRBY', KEYS[1], 'dropped', cut - folded)
         end
         redis.call('PEXPIRE', KEYS[1], ARGV[9])
         redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
         redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])
         if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[9]) then redis.call('PEXPIRE', KEYS[2], ARGV[9]) end
         return {count, sum, cut - folded}",
    )
});
/// Says who sums up. `KEYS`: the conversation. `ARGV`: the last turn that is
/// folded, now, until when (in microseconds).
static CLAIMED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
         if tonumber(redis.call('HGET', KEYS[1], 'folded') or 0) ~= tonumber(ARGV[1]) then return 0 end
         if tonumber(redis.call('HGET', KEYS[1], 'claimed') or 0) > tonumber(ARGV[2]) then return 0 end
         redis.call('HSET', KEYS[1], 'claimed', ARGV[3])
         return 1",
    )
});
/// Puts a summary in the place of turns. `KEYS`: the conversation. `ARGV`: the
/// last turn that is folded, the last that is to be (-1: none is), the summary.
static FOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
         local folded = tonumber(redis.call('HGET', KEYS[1], 'folded') or 0)
         if folded ~= tonumber(ARGV[1]) then return 0 end
         redis.call('HDEL', KEYS[1], 'claimed')
         local through = tonumber(ARGV[2])
         if through < 0 then return 1 end
         for number = folded + 1, through do
           redis.call('HDEL', KEYS[1], 'turn:' .. number, 'tokens:' .. number)
         end
         redis.call('HSET', KEYS[1], 'folded', ARGV[2], 'summary', ARGV[3])
         return 1",
    )
});
/// Empties a conversation and notes when. `KEYS`: the conversation, the
/// owner's conversations. `ARGV`: the name, now in microseconds, how long that
/// is known in milliseconds. Tells whether it said anything.
static CLOSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local last = tonumber(redis.call('HGET', KEYS[1], 'last') or 0)
         local folded = tonumber(redis.call('HGET', KEYS[1], 'folded') or 0)
         local said = (last > folded or redis.call('HEXISTS', KEYS[1], 'summary') == 1) and 1 or 0
         redis.call('DEL', KEYS[1])
         redis.call('HSET', KEYS[1], 'closed', ARGV[2], 'last', last, 'folded', last)
         redis.call('PEXPIRE', KEYS[1], ARGV[3])
         redis.call('ZREM', KEYS[2], ARGV[1])
         return said",
    )
});

/// A way to the conversations in Redis.
#[derive(Debug)]
pub(super) struct Kept(Redis);

#[derive(Serialize, Deserialize)]
struct Said {
    at: i64,
    request: String,
    question: String,
    answer: String,
}

fn conversation(owner: &str, id: &str) -> String {
    format!("sluice:session:{{{owner}}}:{id}")
}

/// The owner's conversations, and when they were erased.
fn of_owner(owner: &str) -> [String; 2] {
    ["all", "erased"].map(|what| format!("sluice:sessions:{{{owner}}}:{what}"))
}

impl Kept {
    pub(super) fn new(redis: Redis) -> Self {
        Self(redis)
    }

    pub(super) async fn load(&self, name: &Name) -> Result<Option<History>, Away> {
        let fields: Vec<(String, String)> =
            self.0.command(redis::cmd("HGETALL").arg(conversation(&name.owner, &name.id))).await?;
        let (mut history, mut tokens) = (History::default(), Vec::new());
        for (field, value) in fields {
            let number = || value.parse().unwrap_or_default();
            match &*field {
                "folded" => history.folded = number(),
                "dropped" => history.dropped = number(),
                "begun" => history.begun = number(),
                "ends" => history.ends = number(),
                "summary" => history.summary = Some(value),
                field => match field.split_once(':').map(|(kind, at)| (kind, at.parse())) {
                    Some(("tokens", Ok(at))) => tokens.push((at, number())),
                    Some(("turn", Ok(at))) => {
                        let said = serde_json::from_str::<Said>(&value);
                        let Said { at: time, request, question, answer } =
                            said.map_err(|_| Away::Refused("a turn is not understood".into()))?;
                        history.turns.push(
                            Turn { number: at, at: time, request, question, answer, tokens: 0 }.named(),
                        );
                    }
                    _ => {}
                },
            }
        }
        history.turns.sort_unstable_by_key(|turn| turn.number);
        for (number, tokens) in tokens {
            if let Ok(at) = history.turns.binary_search_by_key(&number, |turn| turn.number) {
                history.turns[at].tokens = tokens;
            }
        }
        Ok(Some(history).filter(|history| !history.is_empty()))
    }

    pub(super) async fn add(
        &self,
        name: &Name,
        fresh: &Fresh,
        bounds: Bounds,
    ) -> Result<Option<Added>, Away> {
        let Fresh { began, at, request, question, answer, tokens } = fresh.clone();
        let said = serde_json::to_string(&Said { at, request, question, answer }).unwrap_or_default();
        let [all, erased] = of_owner(&name.owner);
        let now = now();
        let ends = now.saturating_add(bounds.ttl.as_micros() as i64);
        let mut call = ADD.key(conversation(&name.owner, &name.id));
        call.key(all).key(erased).arg(&name.id).arg(began).arg(now).arg(ends).arg(said).arg(tokens);
        call.arg(bounds.tokens).arg(bounds.turns).arg((bounds.ttl.as_millis() as u64).max(1)).arg(at);
        let found: Vec<i64> = self.0.run(&call).await?;
        Ok(match found[..] {
            [turns, tokens, dropped] => Some(Added { turns, tokens, dropped }),
            _ => None,
        })
    }

    pub(super) async fn claim(&self, name: &Name, folded: i64) -> Result<bool, Away> {
        let now = now();
        let mut call = CLAIMED.key(conversation(&name.owner, &name.id));
        call.arg(folded).arg(now).arg(now + CLAIM.as_micros() as i64);
        Ok(self.0.run::<i64>(&call).await? == 1)
    }

    pub(super) async fn fold(
        &self,
        name: &Name,
        folded: i64,
        summed: Option<(i64, &str)>,
    ) -> Result<bool, Away> {
        let (through, summary) = summed.unwrap_or((-1, ""));
        let mut call = FOLD.key(conversation(&name.owner, &name.id));
        call.arg(folded).arg(through).arg(summary);
        Ok(self.0.run::<i64>(&call).await? == 1)
    }

    pub(super) async fn remove(&self, name: &Name) -> Result<bool, Away> {
        self.close(&name.owner, &name.id).await
    }

    async fn close(&self, owner: &str, id: &str) -> Result<bool, Away> {
        let [all, _] = of_owner(owner);
        let mut call = CLOSE.key(conversation(owner, id));
        call.key(all).arg(id).arg(now()).arg(CLOSED.as_millis() as u64);
        Ok(self.0.run::<i64>(&call).await? == 1)
    }

    pub(super) async fn erase(&self, owner: &str) -> Result<u64, Away> {
        let [all, erased] = of_owner(owner);
        // Said before anything is looked for: what comes later is refused.
        let mut said = redis::cmd("SET");
        said.arg(erased).arg(now()).arg("PX").arg(CLOSED.as_millis() as u64);
        self.0.command::<()>(&said).await?;
        let names: Vec<String> = self.0.command(redis::cmd("ZRANGE").arg(&all).arg(0).arg(-1)).await?;
        let mut many = 0;
        for name in names {
            many += u64::from(self.close(owner, &name).await?);
        }
        Ok(many)
    }
}
