//! A number of places, and the queue for them.
//!
//! While places are free, entering and leaving are one atomic operation each:
//! how many places are taken and how many wait share one word, so a call that
//! leaves sees whether somebody waits, and one that waits knows that no place
//! became free unseen. The lock is for the queue alone.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    pace::{MOVING, Pace, STEADY},
    queue::{Queue, Ticket},
};
use crate::caller::Priority;

/// A number of places, and the queue for them.
#[derive(Debug)]
pub struct Gate {
    /// The places taken, and in the upper half those who wait; the upper half
    /// changes only under the lock.
    state: AtomicU64,
    places: AtomicU32,
    line: Mutex<Line>,
}

const ONE_WAITER: u64 = 1 << 32;

#[derive(Debug)]
struct Line {
    queue: Queue<oneshot::Sender<Result<Place, Refusal>>>,
    pace: Pace,
    most: usize,
    /// How much of what the pace promises is believed.
    share: f64,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<Gate>>);

/// Who wants a place.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Those whom fairness counts together.
    pub tenant: &'a Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// The longest wait.
    pub patience: Duration,
    /// When all is in vain.
    pub deadline: Instant,
}

/// Why there was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many wait as may, or as can be served while they are patient.
    Full,
    /// Somebody with a better right took its place in the queue.
    Displaced,
    /// It waited for as long as one waits.
    Waited,
    /// Its turn would come after its deadline.
    Late,
    /// Its deadline came while it waited.
    Deadline,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Full, Self::Displaced, Self::Waited, Self::Late, Self::Deadline];

    /// As in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Displaced => "displaced",
            Self::Waited => "queue_wait",
            Self::Late => "too_late",
            Self::Deadline => "deadline",
        }
    }
}

/// There was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When those who wait now will have had their turn.
    pub retry_after: Duration,
}

/// What is to be seen of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct View {
    /// The places in force.
    pub places: u32,
    /// Those that are taken.
    pub taken: u32,
    /// Those who wait, by priority, lowest first.
    pub waiting: [usize; Priority::ALL.len()],
}

/// One part in so many of a queue's room is left by those who would be the first to go.
const SPARE: usize = 10;
/// Nobody is told to come back sooner, or later, than this.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A wait in the queue. Dropped, it leaves the queue.
struct Waiting<'a> {
    gate: &'a Gate,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.line.lock();
        if line.queue.remove(&self.ticket).is_some() {
            self.gate.state.fetch_sub(ONE_WAITER, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(gate) = self.0.take() else { return };
        if waiting(gate.state.fetch_sub(1, Relaxed)) > 0 {
            gate.hand_out();
        }
    }
}

fn taken(state: u64) -> u32 {
    state as u32
}

fn waiting(state: u64) -> u32 {
    (state >> 32) as u32
}

impl Gate {
    /// So many places, for which so many may wait.
    pub fn new(places: u32, queue: u32) -> Arc<Self> {
        let line = Line {
            queue: Queue::default(),
            pace: Pace::new(Instant::now()),
            most: queue as usize,
            share: STEADY,
        };
        Arc::new(Self { state: AtomicU64::new(0), places: AtomicU32::new(places), line: Mutex::new(line) })
    }

    /// Changes both. Who is in stays in, who waits goes on waiting.
    pub fn resize(self: &Arc<Self>, places: u32, queue: u32) {
        self.line.lock().most = queue as usize;
        self.set_places(places);
    }

    /// Changes the number of places.
    pub fn set_places(self: &Arc<Self>, places: u32) {
        self.places.store(places, Relaxed);
        self.hand_out();
    }

    /// Whether the number of places follows what is learned: then less is promised to those who wait.
    pub(super) fn set_moving(&self, moving: bool) {
        self.line.lock().share = if moving { MOVING } else { STEADY };
    }

    /// What is to be seen of it.
    pub fn view(&self) -> View {
        let line = self.line.lock();
        View {
            places: self.places.load(Relaxed),
            taken: self.taken(),
            waiting: Priority::ALL.map(|priority| line.queue.len_at(priority)),
        }
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        taken(self.state.load(Relaxed))
    }

    /// A place at once, or after a wait, or none. Where it waited, for how long.
    pub async fn enter(self: &Arc<Self>, guest: Guest<'_>) -> Result<(Place, Option<Duration>), Refusal> {
        match self.take() {
            Some(place) => Ok((place, None)),
            None => self.wait(guest).await,
        }
    }

    /// A place that is free, if nobody waits for it.
    fn take(self: &Arc<Self>) -> Option<Place> {
        let places = self.places.load(Relaxed);
        let free = |state: u64| (state < u64::from(places)).then_some(state + 1);
        self.state.fetch_update(Relaxed, Relaxed, free).ok().map(|_| Place(Some(self.clone())))
    }

    async fn wait(self: &Arc<Self>, guest: Guest<'_>) -> Result<(Place, Option<Duration>), Refusal> {
        let began = Instant::now();
        let (patience, late) = match guest.deadline.saturating_duration_since(began) {
            left if left < guest.patience => (left, Reason::Deadline),
            _ => (guest.patience, Reason::Waited),
        };
        // Dropped after `waiting`: whoever leaves is out of the queue before nobody listens any more.
        let mut receiver;
        let _waiting = {
            let mut line = self.line.lock();
            if line.queue.len() == 0 {
                // A place may have become free a moment ago; if not, whoever frees one from here on sees us.
                loop {
                    let state = self.state.load(Relaxed);
                    if taken(state) < self.places.load(Relaxed) {
                        if let Some(place) = self.take() {
                            return Ok((place, None));
                        }
                    } else if line.most == 0 {
                        return Err(Refusal { reason: Reason::Full, retry_after: RETRY.0 });
                    } else if patience.is_zero() {
                        return Err(Refusal { reason: late, retry_after: RETRY.0 });
                    } else if self.state.compare_exchange(state, state + ONE_WAITER, Relaxed, Relaxed).is_ok()
                    {
                        line.pace = Pace::new(began);
                        break;
                    }
                }
            } else {
                let gone = line.shed(&guest, began) as u64;
                self.state.fetch_sub(gone * ONE_WAITER, Relaxed);
                // Whoever is displaced leaves their count behind.
                if !line.make_room(&guest, began, patience)? {
                    self.state.fetch_add(ONE_WAITER, Relaxed);
                }
            }
            let (sender, listening) = oneshot::channel();
            receiver = listening;
            Waiting { gate: self, ticket: line.queue.push(guest.priority, guest.tenant, sender) }
        };
        match tokio::time::timeout(patience, &mut receiver).await {
            Ok(Ok(told)) => told.map(|place| (place, Some(began.elapsed()))),
            // The gate never lets go of a waiter without a word.
            Ok(Err(_)) => Err(Refusal { reason: Reason::Displaced, retry_after: RETRY.0 }),
            Err(_) => Err(Refusal {
                reason: late,
                retry_after: self.line.lock().retry_after(Instant::now(), guest.priority),
            }),
        }
    }

    /// Gives what is free to those who are next.
    fn hand_out(self: &Arc<Self>) {
        let mut line = self.line.lock();
        let mut now = None;
        while line.queue.len() > 0 {
            let places = self.places.load(Relaxed);
            // One place more, one waiter less.
            let next = |state: u64| (taken(state) < places).then(|| state + 1 - ONE_WAITER);
            if self.state.fetch_update(Relaxed, Relaxed, next).is_err() {
                return;
            }
            let Some((priority, waiter)) = line.queue.pop() else { return };
            let now = *now.get_or_insert_with(Instant::now);
            line.pace.granted(now, priority);
            if let Err(Ok(mut place)) = waiter.send(Ok(Place(Some(self.clone())))) {
                // It left at this very moment. Not by drop, which would wait for the lock that we hold.
                place.0 = None;
                self.state.fetch_sub(1, Relaxed);
            }
        }
    }
}

impl Line {
    /// Whether a newcomer may wait, beside others who do. Tells whether somebody
    /// had to go for it, who is told so, too.
    ///
    /// Those above have their part of the pace already, and those below come
    /// after it: its turn depends on those of its own priority. So a queue that is
    /// in balance takes in who can be served and refuses the rest at once; it is
    /// not filled with who will have to go when somebody more urgent comes.
    fn make_room(&mut self, guest: &Guest<'_>, now: Instant, patience: Duration) -> Result<bool, Refusal> {
        let retry_after = self.retry_after(now, guest.priority);
        let refused = |reason| Err(Refusal { reason, retry_after });
        if guest.patience.is_zero() {
            return refused(Reason::Waited);
        }
        if patience < guest.patience && self.in_vain(guest, now, patience) {
            return refused(Reason::Late);
        }
        let beside = self.queue.len_at(guest.priority);
        let behind = self.queue.waits_above(guest.priority);
        let room = self.pace.room(now, guest.priority, guest.patience.mul_f64(self.share), behind);
        // Who would be the first to go leaves a little room for those who would send them away.
        let spare = if self.queue.is_first_to_go(guest.priority, guest.tenant) { SPARE } else { usize::MAX };
        let is_free = |many: usize, room: usize| many < room - room / spare;
        let displaced = if !is_free(self.queue.len(), self.most) {
            self.queue.displace(guest.priority, guest.tenant)
        } else if !is_free(beside, room) {
            // A tenant that waits more is in its way, or, where it cannot be told whether there is a place
            // for so many as urgent as it, whoever is less so.
            let beside = self.queue.displace_beside(guest.priority, guest.tenant);
            beside.or_else(|| self.queue.displace(guest.priority, guest.tenant))
        } else {
            return Ok(false);
        };
        let Some(displaced) = displaced else { return refused(Reason::Full) };
        tell(displaced, retry_after);
        Ok(true)
    }

    /// Tells those below a newcomer who wait in vain, because those above leave them too little.
    /// How many they were.
    fn shed(&mut self, guest: &Guest<'_>, now: Instant) -> usize {
        let mut gone = 0;
        while let Some(lowest) = self.queue.lowest().filter(|lowest| *lowest < guest.priority) {
            let served = self.pace.served(now, lowest, guest.patience);
            if guest.patience.is_zero() || self.queue.len_at(lowest) <= served {
                break;
            }
            let retry_after = self.retry_after(now, lowest);
            let Some(displaced) = self.queue.displace(guest.priority, guest.tenant) else { break };
            tell(displaced, retry_after);
            gone += 1;
        }
        gone
    }

    /// Whether its turn would come after its deadline.
    fn in_vain(&mut self, guest: &Guest<'_>, now: Instant, patience: Duration) -> bool {
        let turn = self.queue.ahead(guest.priority, guest.tenant) as f64 + 1.0;
        patience.is_zero()
            || self
                .pace
                .per_second(now, guest.priority)
                .is_some_and(|pace| turn / pace > patience.as_secs_f64())
    }

    fn retry_after(&mut self, now: Instant, priority: Priority) -> Duration {
        let many = self.queue.len() as f64;
        let wait =
            self.pace.per_second(now, priority).map_or(RETRY.0, |pace| Duration::from_secs_f64(many / pace));
        wait.clamp(RETRY.0, RETRY.1)
    }
}

fn tell(displaced: oneshot::Sender<Result<Place, Refusal>>, retry_after: Duration) {
    let told = displaced.send(Err(Refusal { reason: Reason::Displaced, retry_after }));
    debug_assert!(!matches!(told, Err(Ok(_))), "a refusal holds no place");
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "overload_tests.rs"]
mod overload_tests;
