//! Five times as many calls as a provider can take, in counted time.
use std::{cmp::Reverse, collections::BinaryHeap};

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::{
    super::{adaptive::Adaptive, pace::MOVING},
    *,
};

/// What the provider can take at the same time, and how long each takes.
const PLACES: u32 = 10;
const SERVICE: Duration = Duration::from_millis(100);
/// 500 a second come.
const EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(2);

struct Wait {
    came: Instant,
    told: Receiver<Result<Place, Refusal>>,
    ticket: Ticket,
}

/// A gate before a provider that lets calls wait beyond its places.
struct World {
    line: Line,
    adaptive: Option<Adaptive>,
    limit: u32,
    taken: u32,
    waits: Vec<Wait>,
    /// When the provider's places are free.
    free: BinaryHeap<Reverse<Instant>>,
    /// When answers come, and when they were asked for.
    coming: BinaryHeap<Reverse<(Instant, Instant)>>,
    answered: usize,
    noise: u64,
    /// How long each refusal took.
    refused: Vec<Duration>,
}

impl World {
    fn new(adaptive: bool, now: Instant) -> Self {
        let share = if adaptive { MOVING } else { STEADY };
        let adaptive = adaptive.then(|| Adaptive::new(4096, now));
        Self {
            line: Line { queue: Queue::default(), pace: Pace::new(now), most: 1024, share },
            limit: adaptive.as_ref().map_or(PLACES, Adaptive::limit),
            adaptive,
            taken: 0,
            waits: Vec::new(),
            free: (0..PLACES).map(|_| Reverse(now)).collect(),
            coming: BinaryHeap::new(),
            answered: 0,
            noise: 1,
            refused: Vec::new(),
        }
    }

    fn ask(&mut self, now: Instant) {
        self.taken += 1;
        let free = self.free.pop().map_or(now, |Reverse(free)| free.max(now));
        // Half to one and a half of the usual time.
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = free + SERVICE.mul_f64(0.5 + (self.noise >> 33) as f64 / f64::from(1_u32 << 31));
        self.free.push(Reverse(end));
        self.coming.push(Reverse((end, now)));
    }

    fn hand_out(&mut self, now: Instant) {
        while self.taken < self.limit
            && let Some((priority, waiter)) = self.line.queue.pop()
        {
            self.line.pace.granted(now, priority);
            drop(waiter);
            self.ask(now);
        }
    }

    /// Hears what became of those who wait.
    fn listen(&mut self, now: Instant) {
        let Self { waits, refused, line, .. } = self;
        waits.retain_mut(|wait| match wait.told.try_recv() {
            Err(TryRecvError::Empty) if now - wait.came < PATIENCE => true,
            Err(TryRecvError::Closed) => false,
            _ => {
                line.queue.remove(&wait.ticket);
                refused.push(now - wait.came);
                false
            }
        });
    }

    /// Answers that come up to now.
    fn go_on(&mut self, now: Instant) {
        while let Some(Reverse((end, asked))) =
            self.coming.peek().copied().filter(|Reverse((end, _))| *end <= now)
        {
            self.coming.pop();
            self.answered += 1;
            if let Some(adaptive) = &mut self.adaptive {
                self.limit = adaptive.answered(end, end - asked, self.taken);
            }
            self.taken -= 1;
            self.hand_out(end);
            self.listen(end);
        }
        self.listen(now);
    }

    fn come(&mut self, now: Instant, priority: Priority) {
        let tenant: Arc<str> = "t".into();
        if self.line.queue.len() == 0 && self.taken < self.limit {
            return self.ask(now);
        }
        if self.line.queue.len() == 0 {
            self.line.pace = Pace::new(now);
        } else {
            let guest = Guest { tenant: &tenant, priority, patience: PATIENCE, deadline: now + PATIENCE * 2 };
            self.line.shed(&guest, now);
            if self.line.make_room(&guest, now, PATIENCE).is_err() {
                self.refused.push(Duration::ZERO);
                return self.listen(now);
            }
        }
        let (sender, told) = oneshot::channel();
        let ticket = self.line.queue.push(priority, &tenant, sender);
        self.waits.push(Wait { came: now, told, ticket });
        self.listen(now);
    }
}

/// The answers a second, and how long refusals take at the most, but for one in a hundred.
fn overload(adaptive: bool, seconds: u32) -> (f64, Duration) {
    let start = Instant::now();
    let mut world = World::new(adaptive, start);
    for number in 0..seconds * 500 {
        let now = start + EVERY * number;
        world.go_on(now);
        let priority = match number % 10 {
            0 => Priority::High,
            1..=3 => Priority::Low,
            _ => Priority::Normal,
        };
        world.come(now, priority);
    }
    world.refused.sort_unstable();
    let most = world.refused[world.refused.len() * 99 / 100];
    (world.answered as f64 / f64::from(seconds), most)
}

#[test]
fn who_has_no_place_hears_so_at_the_door_also_where_the_bound_moves() {
    for adaptive in [false, true] {
        let (answers, most) = overload(adaptive, 40);
        assert!(answers >= 95.0, "of 100 a second: {answers}");
        assert!(most < Duration::from_millis(10), "adaptive {adaptive}: refusals take {most:?}");
        // In the first second it is not known how much there is room for.
        let (_, most) = overload(adaptive, 3);
        assert!(most < SERVICE, "adaptive {adaptive}: refusals take {most:?} at first");
    }
}
