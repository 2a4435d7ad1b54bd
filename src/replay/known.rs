//! The streams that run, and those that ended lately: by name, by when they ended, and by tenant.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{
    room::{Budget, Share},
    streams::{Id, Stream},
};

/// What a stream takes besides its text, in bytes; counted with it.
pub(super) const ENTRY: usize = 512;

/// The streams that are known.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) streams: HashMap<Id, Arc<Stream>>,
    /// Those that have ended, the first to end first; some are forgotten already.
    ended: VecDeque<(Instant, Id)>,
    /// By tenant, what its streams take.
    tenants: HashMap<Arc<str>, Held>,
}

/// What one tenant's streams take.
#[derive(Debug)]
struct Held {
    share: Arc<Share>,
    /// Those that have ended, the first to end first; some are forgotten already.
    ended: VecDeque<Id>,
}

impl Known {
    /// The part of a tenant, of which a stream that begins takes its own. Those that have nothing any more are
    /// forgotten when another one comes.
    pub(super) fn share(&mut self, tenant: &Arc<str>, budget: &Arc<Budget>) -> Arc<Share> {
        if !self.tenants.contains_key(tenant) {
            self.tenants.retain(|_, held| held.share.used() > 0);
        }
        let new = || Held { share: budget.share(), ended: VecDeque::new() };
        let held = self.tenants.entry(tenant.clone()).or_insert_with(new);
        held.share.take(ENTRY);
        held.share.clone()
    }

    /// A stream has ended.
    pub(super) fn end(&mut self, until: Instant, stream: &Stream) {
        // One that was erased is known no more.
        if !self.streams.contains_key(&stream.id) {
            return;
        }
        self.ended.push_back((until, stream.id));
        if self.ended.len() > 2 * self.streams.len() + 64 {
            self.ended.retain(|(_, id)| self.streams.contains_key(id));
        }
        if let Some(held) = self.tenants.get_mut(stream.tenant()) {
            held.ended.push_back(stream.id);
        }
    }

    /// Forgets a stream whose time is over.
    pub(super) fn forget_late(&mut self, now: Instant) -> Option<Arc<Stream>> {
        while let Some((_, id)) = self.ended.front().copied().filter(|(until, _)| *until <= now) {
            self.ended.pop_front();
            let Some(stream) = self.streams.remove(&id) else { continue };
            if let Some(held) = self.tenants.get_mut(stream.tenant()) {
                // It is the first of its tenant's, too: what stands before it is forgotten already.
                while held.ended.pop_front().is_some_and(|first| first != id) {}
            }
            return Some(stream);
        }
        None
    }

    /// Forgets a stream of the tenant that takes the most of those who take too much.
    pub(super) fn make_room(&mut self) -> Option<Arc<Stream>> {
        let over = self.tenants.values_mut().filter(|held| !held.ended.is_empty() && held.share.is_over());
        let most = over.max_by_key(|held| held.share.used())?;
        while let Some(id) = most.ended.pop_front() {
            if let Some(stream) = self.streams.remove(&id) {
                return Some(stream);
            }
        }
        None
    }
}
