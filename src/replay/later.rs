//! What was claimed and kept while Redis was away, and is told to it when it is back.
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use super::{
    claims::{self, Lease, Shared},
    kept::{Name, Person, now},
    shelf::Row,
};
use crate::store::redis::{Away, Redis};

/// The most that waits: in number, and in bytes of replies.
const MOST: usize = 1024;
const MOST_BYTES: usize = 32 << 20;
/// How often it is looked whether Redis is back.
const LOOK: Duration = Duration::from_millis(250);

/// A claim that was made without Redis.
#[derive(Debug)]
pub(super) struct Slot {
    /// What it will be there.
    pub(super) claim: Vec<u8>,
    /// Where its lease will be.
    pub(super) lease: Mutex<Option<Lease>>,
}

/// What waits for Redis.
#[derive(Debug)]
pub(super) struct Later(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    items: Mutex<Items>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Items {
    queue: VecDeque<Item>,
    bytes: usize,
}

#[derive(Debug)]
enum Item {
    /// A request that runs.
    Claim(Name, Weak<Slot>),
    /// A reply, and the claim that may stand in its place.
    Reply(Row, Vec<u8>),
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Claim(..) => 0,
            Self::Reply(row, _) => row.sealed.len(),
        }
    }

    /// Whether there is still a reason to tell it.
    fn counts(&self) -> bool {
        match self {
            Self::Claim(_, slot) => slot.strong_count() > 0,
            Self::Reply(row, _) => row.ends > now(),
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.0.more.notify_one();
    }
}

impl Later {
    /// Nothing waits yet.
    pub(super) fn start(redis: Redis) -> Self {
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(tell(redis, Arc::downgrade(&waiting)));
        Self(waiting)
    }

    /// Claims a name as soon as that can be done, unless its request is answered by then.
    pub(super) fn claim(&self, name: Name, claim: Vec<u8>) -> Arc<Slot> {
        let slot = Arc::new(Slot { claim, lease: Mutex::default() });
        self.add(Item::Claim(name, Arc::downgrade(&slot)));
        slot
    }

    /// Tells of a reply as soon as that can be done.
    pub(super) fn reply(&self, row: Row, claim: Vec<u8>) {
        self.add(Item::Reply(row, claim));
    }

    /// Forgets the replies for a person.
    pub(super) fn erase(&self, person: Person) {
        let mut items = self.0.items.lock();
        items.queue.retain(|item| !matches!(item, Item::Reply(row, _) if row.person == Some(person)));
        items.bytes = items.queue.iter().map(Item::size).sum();
    }

    fn add(&self, item: Item) {
        let mut items = self.0.items.lock();
        let size = item.size();
        if items.is_full(size) {
            items.queue.retain(Item::counts);
            items.bytes = items.queue.iter().map(Item::size).sum();
        }
        // What has no room stays with this gateway alone.
        if !items.is_full(size) {
            items.bytes += size;
            items.queue.push_back(item);
            self.0.more.notify_one();
        }
    }
}

impl Items {
    fn is_full(&self, more: usize) -> bool {
        self.queue.len() >= MOST || self.bytes + more > MOST_BYTES
    }

    fn next(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.bytes -= item.size();
        Some(item)
    }
}

async fn tell(redis: Redis, waiting: Weak<Waiting>) {
    loop {
        let Some(now) = waiting.upgrade() else { return };
        if now.items.lock().queue.is_empty() {
            // Who lets go of the rest rings once more.
            now.more.notified().await;
            continue;
        }
        if !redis.is_up() {
            drop(now);
            sleep(LOOK).await;
            continue;
        }
        let Some(item) = now.items.lock().next() else { continue };
        drop(now);
        if item.counts() && matches!(told(&redis, &item).await, Err(Away::Gone | Away::Late)) {
            if let Some(now) = waiting.upgrade() {
                let mut items = now.items.lock();
                items.bytes += item.size();
                items.queue.push_front(item);
            }
            sleep(LOOK).await;
        }
    }
}

async fn told(redis: &Redis, item: &Item) -> Result<(), Away> {
    match item {
        Item::Claim(name, slot) => {
            let Some(slot) = slot.upgrade() else { return Ok(()) };
            // Where another gateway was first, both answer: that is the price of an outage.
            if let Shared::Claimed(lease) = claims::claim(redis, *name, slot.claim.clone()).await? {
                // A request that has come to its end since lets go of the slot, and that of the lease.
                *slot.lease.lock() = Some(lease);
            }
        }
        Item::Reply(row, claim) => {
            claims::publish(redis, row, claim).await?;
        }
    }
    Ok(())
}
