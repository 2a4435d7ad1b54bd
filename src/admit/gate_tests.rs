use std::{future::Future, pin::Pin, task::Context};

use futures_util::task::noop_waker_ref;
use proptest::prelude::*;

use super::*;

type Entering = Pin<Box<dyn Future<Output = Result<(Place, Option<Duration>), Refusal>> + Send>>;

const LONG: Duration = Duration::from_secs(3600);

/// Somebody who wants in, with so much patience and time.
fn enter_within(
    gate: &Arc<Gate>,
    priority: Priority,
    tenant: &str,
    patience: Duration,
    left: Duration,
) -> Entering {
    let (gate, tenant) = (gate.clone(), Arc::from(tenant));
    let deadline = Instant::now() + left;
    Box::pin(async move { gate.enter(Guest { tenant: &tenant, priority, patience, deadline }).await })
}

fn enter(gate: &Arc<Gate>, priority: Priority, tenant: &str) -> Entering {
    enter_within(gate, priority, tenant, LONG, LONG * 2)
}

/// What has become of it, if anything has.
fn look(entering: &mut Entering) -> Option<Result<Place, Reason>> {
    match entering.as_mut().poll(&mut Context::from_waker(noop_waker_ref())) {
        std::task::Poll::Ready(done) => Some(done.map(|(place, _)| place).map_err(|refusal| refusal.reason)),
        std::task::Poll::Pending => None,
    }
}

fn waiting_in(gate: &Gate) -> usize {
    gate.view().waiting.iter().sum()
}

#[tokio::test]
async fn a_place_that_becomes_free_goes_to_the_most_urgent() {
    let gate = Gate::new(1, 8);
    let place = enter(&gate, Priority::Low, "t").await.unwrap().0;
    let mut normal = enter(&gate, Priority::Normal, "t");
    assert!(look(&mut normal).is_none());
    let mut high = enter(&gate, Priority::High, "t");
    assert!(look(&mut high).is_none());
    assert_eq!(gate.view().waiting, [0, 1, 1]);
    drop(place);
    let place = look(&mut high).unwrap().unwrap();
    assert!(look(&mut normal).is_none());
    drop(place);
    assert!(look(&mut normal).unwrap().is_ok());
    assert_eq!((gate.taken(), waiting_in(&gate)), (0, 0));
}

#[tokio::test]
async fn a_full_queue_lets_the_more_urgent_in_and_tells_the_other() {
    let gate = Gate::new(1, 1);
    let _place = enter(&gate, Priority::Normal, "t").await.unwrap();
    let mut low = enter(&gate, Priority::Low, "t");
    assert!(look(&mut low).is_none());
    assert_eq!(look(&mut enter(&gate, Priority::Low, "t")).unwrap().unwrap_err(), Reason::Full);
    let mut high = enter(&gate, Priority::High, "t");
    assert!(look(&mut high).is_none());
    assert_eq!(look(&mut low).unwrap().unwrap_err(), Reason::Displaced);
    assert_eq!(gate.view().waiting, [0, 0, 1]);
}

#[tokio::test]
async fn who_leaves_is_out_at_once_and_who_had_just_won_gives_the_place_back() {
    let gate = Gate::new(1, 8);
    let place = enter(&gate, Priority::Normal, "t").await.unwrap();
    let (mut a, mut b, mut c) = (
        enter(&gate, Priority::Normal, "t"),
        enter(&gate, Priority::Normal, "t"),
        enter(&gate, Priority::Normal, "t"),
    );
    [&mut a, &mut b, &mut c].into_iter().for_each(|one| assert!(look(one).is_none()));
    drop(a);
    assert_eq!(waiting_in(&gate), 2);
    drop(place);
    // `b` has been given the place, but has not looked yet.
    assert_eq!((gate.taken(), waiting_in(&gate)), (1, 1));
    drop(b);
    assert!(look(&mut c).unwrap().is_ok());
    assert_eq!(gate.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_they_may() {
    let gate = Gate::new(1, 8);
    let _place = enter(&gate, Priority::Normal, "t").await.unwrap();
    let (short, long) = (Duration::from_millis(20), Duration::from_secs(2));
    let patience = enter_within(&gate, Priority::Normal, "t", short, long).await.unwrap_err();
    let deadline = enter_within(&gate, Priority::Normal, "t", long, short).await.unwrap_err();
    assert_eq!((patience.reason, deadline.reason), (Reason::Waited, Reason::Deadline));
    assert_eq!(waiting_in(&gate), 0);
}

#[tokio::test]
async fn a_wait_that_would_be_in_vain_is_refused_at_once() {
    let gate = Gate::new(1, 100);
    let mut place = Some(enter(&gate, Priority::Normal, "t").await.unwrap().0);
    let mut line: Vec<Entering> = (0..40).map(|_| enter(&gate, Priority::Normal, "t")).collect();
    line.iter_mut().for_each(|one| assert!(look(one).is_none()));
    // About a hundred places a second.
    for one in line.iter_mut().take(20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(place.take());
        place = Some(look(one).unwrap().unwrap());
    }
    let ask = |patience, left| look(&mut enter_within(&gate, Priority::Normal, "t", patience, left));
    let (short, long) = (Duration::from_millis(40), Duration::from_secs(20));
    assert_eq!(
        ask(long, short).unwrap().unwrap_err(),
        Reason::Late,
        "20 wait, and 5 have their turn in 40 ms"
    );
    assert_eq!(ask(short, long).unwrap().unwrap_err(), Reason::Full, "as long as all are to wait");
    assert!(ask(long, long).is_none());
}

#[tokio::test]
async fn more_places_are_handed_out_at_once_and_fewer_when_they_are_free() {
    let gate = Gate::new(1, 8);
    let first = enter(&gate, Priority::Normal, "t").await.unwrap();
    let mut second = enter(&gate, Priority::Normal, "t");
    assert!(look(&mut second).is_none());
    gate.resize(2, 8);
    let second = look(&mut second).unwrap().unwrap();
    gate.resize(1, 8);
    let mut third = enter(&gate, Priority::Normal, "t");
    assert!(look(&mut third).is_none());
    drop(second);
    assert!(look(&mut third).is_none(), "one place, and it is taken");
    drop(first);
    assert!(look(&mut third).unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_or_doubled_whatever_happens_at_the_same_time() {
    let gate = Gate::new(4, 64);
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..2000_u64 {
        let (theirs, inside) = (gate.clone(), inside.clone());
        let task = tasks.spawn(async move {
            let priority = Priority::ALL[number as usize % 3];
            let entering = enter_within(
                &theirs,
                priority,
                ["a", "b"][number as usize % 2],
                Duration::from_millis(number % 7),
                LONG,
            );
            if let Ok((_place, _)) = entering.await {
                assert!(inside.fetch_add(1, Relaxed) < 8, "never more than the most that there were");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Relaxed);
            }
        });
        if number % 11 == 0 {
            task.abort();
        }
        if number % 97 == 0 {
            gate.resize(1 + (number % 8) as u32, 64);
            tokio::task::yield_now().await;
        }
    }
    while let Some(done) = tasks.join_next().await {
        assert!(done.is_ok() || done.unwrap_err().is_cancelled());
    }
    // A task that was aborted inside did not count itself out; its place is free all the same.
    assert_eq!((gate.taken(), waiting_in(&gate)), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize, usize),
    Leave(usize),
    Abandon(usize),
    Resize(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..3_usize).prop_map(|(priority, tenant)| Step::Arrive(priority, tenant)),
        4 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Abandon),
        1 => (1..5_u32).prop_map(Step::Resize),
    ]
}

struct Waiter {
    number: usize,
    entering: Entering,
    priority: usize,
    tenant: usize,
}

/// Who has been passed by whom: of two tenants that wait, none has two turns in a row.
#[derive(Default)]
struct Turns([[[bool; 3]; 3]; 3]);

impl Turns {
    fn had(&mut self, granted: &Waiter, waits: impl Fn(usize, usize) -> bool) {
        let (level, tenant) = (&mut self.0[granted.priority], granted.tenant);
        for other in (0..3).filter(|other| *other != tenant) {
            let passed = waits(granted.priority, other);
            assert!(!(passed && level[tenant][other]), "tenant {tenant} had two turns while {other} waited");
            level[tenant][other] = passed;
            level[other][tenant] = false;
        }
    }

    fn gone(&mut self, priority: usize, tenant: usize) {
        (0..3).for_each(|other| self.0[priority][other][tenant] = false);
    }
}

fn run(steps: Vec<Step>, places: u32, most: u32) {
    let gate = Gate::new(places, most);
    let (mut places, mut inside, mut turns) = (places, Vec::<Place>::new(), Turns::default());
    let mut line: Vec<Waiter> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Arrive(priority, tenant) => {
                let name = ["a", "b", "c"][tenant];
                let entering = enter(&gate, Priority::ALL[priority], name);
                let mut waiter = Waiter { number, entering, priority, tenant };
                match look(&mut waiter.entering) {
                    Some(Ok(place)) => {
                        assert!(line.is_empty(), "nobody goes past those who wait");
                        inside.push(place);
                    }
                    Some(Err(reason)) => {
                        assert_eq!((reason, line.len()), (Reason::Full, most as usize));
                        assert!(line.iter().all(|other| other.priority >= priority), "the lowest goes first");
                    }
                    None => line.push(waiter),
                }
            }
            Step::Leave(which) if !inside.is_empty() => drop(inside.swap_remove(which % inside.len())),
            Step::Abandon(which) if !line.is_empty() => {
                let left = line.remove(which % line.len());
                if !line.iter().any(|other| (other.priority, other.tenant) == (left.priority, left.tenant)) {
                    turns.gone(left.priority, left.tenant);
                }
            }
            Step::Leave(_) | Step::Abandon(_) => {}
            Step::Resize(to) => {
                places = to;
                gate.resize(places, most);
            }
        }
        // One at a time, in the order in which they must have been served.
        let mut served: Vec<Waiter> = Vec::new();
        let mut at = 0;
        while at < line.len() {
            match look(&mut line[at].entering) {
                None => at += 1,
                Some(Ok(place)) => {
                    inside.push(place);
                    served.push(line.remove(at));
                }
                Some(Err(reason)) => {
                    let gone = line.remove(at);
                    assert_eq!(reason, Reason::Displaced);
                    if !line
                        .iter()
                        .any(|other| (other.priority, other.tenant) == (gone.priority, gone.tenant))
                    {
                        turns.gone(gone.priority, gone.tenant);
                    }
                }
            }
        }
        if let [one] = &served[..] {
            turns.had(one, |priority, tenant| {
                line.iter().any(|other| (other.priority, other.tenant) == (priority, tenant))
            });
        } else if !served.is_empty() {
            turns = Turns::default();
        }
        for one in &served {
            assert!(line.iter().all(|other| other.priority <= one.priority), "the most urgent goes first");
            let alike = |other: &&Waiter| (other.priority, other.tenant) == (one.priority, one.tenant);
            assert!(
                line.iter().filter(alike).all(|other| other.number > one.number),
                "first come, first served"
            );
        }
        assert_eq!(gate.taken() as usize, inside.len(), "each place is somebody's, once");
        assert_eq!(waiting_in(&gate), line.len());
        assert!(line.is_empty() || inside.len() >= places as usize, "nobody waits beside a free place");
        assert!(line.len() <= most as usize);
    }
    drop((inside, line));
    assert_eq!((gate.taken(), waiting_in(&gate)), (0, 0));
}

proptest! {
    #[test]
    fn whatever_happens_the_order_is_kept_and_no_place_is_lost(
        steps in prop::collection::vec(step(), 1..80), places in 1..4_u32, most in 0..6_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _in = runtime.enter();
        run(steps, places, most);
    }
}

/// One who asked: when, how urgently, what became of it, and after how long.
struct Asked(Duration, Priority, Result<(), Reason>, Duration);

/// Five times what can be served, for five seconds.
async fn overloaded(tenants: usize) -> Vec<Asked> {
    let (gate, start) = (Gate::new(10, 1024), Instant::now());
    let (patience, mut asks) = (Duration::from_secs(2), tokio::task::JoinSet::new());
    for number in 0..2500_usize {
        let priority = match number % 10 {
            0 => Priority::High,
            1..=3 => Priority::Low,
            _ => Priority::Normal,
        };
        let gate = gate.clone();
        asks.spawn(async move {
            let tenant: Arc<str> = ["a", "b", "c"][number / 10 % tenants].into();
            let (began, deadline) = (Instant::now(), Instant::now() + LONG);
            let entered = gate.enter(Guest { tenant: &tenant, priority, patience, deadline }).await;
            let (at, took) = (began - start, began.elapsed());
            let told = match entered {
                Ok((_place, _)) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(())
                }
                Err(refusal) => Err(refusal.reason),
            };
            Asked(at, priority, told, took)
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asks.join_all().await
}

#[tokio::test]
async fn who_will_not_be_served_hears_so_at_once() {
    let (one, three) = tokio::join!(overloaded(1), overloaded(3));
    for (tenants, told) in [(1, one), (3, three)] {
        let urgent = told.iter().filter(|asked| asked.1 == Priority::High);
        assert!(urgent.clone().all(|asked| asked.2.is_ok()), "urgent calls are served");
        let served = told.iter().filter(|asked| asked.2.is_ok()).count();
        assert!(served >= 200, "{served}");
        // In the first second it is not known how much there is room for. What counts is who was let in
        // and sent away again, and not how long that took: on a busy machine all takes long.
        let known = |asked: &&Asked| asked.0 > Duration::from_secs(1) && asked.2.is_err();
        let refused: Vec<&Asked> = told.iter().filter(known).collect();
        let waited = |asked: &&&Asked| asked.2 != Err(Reason::Full);
        let late: Vec<_> =
            refused.iter().filter(waited).map(|asked| (asked.0, asked.1, asked.2, asked.3)).collect();
        let all = refused.len();
        assert!(late.len() * 20 <= all, "{tenants} tenants, {served} served, of {all}: {late:?}");
    }
}
