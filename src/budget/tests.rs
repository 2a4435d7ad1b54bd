//! The books against a slow reference, over random schedules, crashes included.
use std::{collections::HashMap, path::Path, sync::Arc};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::{
    Account, Claim, Local, Name, Passed, Period, Refusal, Scope,
    books::{Books, Change},
    journal,
    local::read_back,
};

/// The caps of the accounts of the tests: a key's day and month, a user's day, all's month.
const CAPS: [u64; 4] = [500, 900, 300, 1200];

fn name(account: usize) -> Name {
    let (scope, period) = match account {
        0 => (Scope::Key("t".into(), "k".into()), Period::Day),
        1 => (Scope::Key("t".into(), "k".into()), Period::Month),
        2 => (Scope::User("t".into(), "u".into()), Period::Day),
        _ => (Scope::Global, Period::Month),
    };
    Name { scope, period, start: 0 }
}

fn claims(which: u8) -> Vec<Claim> {
    let chosen = (0..CAPS.len()).filter(|account| which & (1 << account) != 0);
    chosen.map(|account| Claim { name: name(account), end: i64::MAX / 2, cap: CAPS[account] }).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { which: u8, amount: u64, lease: u64 },
    Extend { nth: usize, more: u64 },
    Settle { nth: usize, share: u64 },
    Wait(u64),
    Tidy,
    Crash,
    Shorten,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u8..16, 1_u64..120, 1_u64..50).prop_map(|(which, amount, lease)| Step::Reserve { which, amount, lease }),
        2 => (any::<usize>(), 1_u64..60).prop_map(|(nth, more)| Step::Extend { nth, more }),
        6 => (any::<usize>(), 0_u64..=100).prop_map(|(nth, share)| Step::Settle { nth, share }),
        2 => (1_u64..40).prop_map(Step::Wait),
        1 => Just(Step::Tidy),
        1 => Just(Step::Crash),
        1 => Just(Step::Shorten),
    ]
}

/// What the books should say, kept in the plainest way: a list of calls.
#[derive(Default)]
struct Reference {
    calls: HashMap<u64, Call>,
    now: u64,
}

struct Call {
    which: u8,
    amount: u64,
    expires: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Settled(u64),
    /// Charged in full; may still settle.
    Expired,
    /// Charged in full for good.
    Lost,
}

impl Reference {
    /// Spent, reserved and unsettled of an account.
    fn sums(&self, account: usize) -> (u64, u64, u64) {
        let (mut spent, mut reserved, mut unsettled) = (0, 0, 0);
        for call in self.calls.values().filter(|call| call.which & (1 << account) != 0) {
            match call.state {
                State::Open => reserved += call.amount,
                State::Settled(cost) => spent += cost,
                State::Expired | State::Lost => {
                    spent += call.amount;
                    unsettled += call.amount;
                }
            }
        }
        (spent, reserved, unsettled)
    }

    fn admits(&self, which: u8, amount: u64) -> bool {
        (0..CAPS.len()).filter(|account| which & (1 << account) != 0).all(|account| {
            let (spent, reserved, _) = self.sums(account);
            spent + reserved + amount <= CAPS[account]
        })
    }

    fn nth(&self, nth: usize, wanted: &[State]) -> Option<u64> {
        let mut found: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| wanted.contains(&call.state))
            .map(|(number, _)| *number)
            .collect();
        found.sort_unstable();
        (!found.is_empty()).then(|| found[nth % found.len()])
    }
}

/// Books, and what their journal holds.
#[derive(Default)]
struct Tried {
    books: Books,
    bytes: Vec<u8>,
    /// Where each record ends, and the books as they were then.
    marks: Vec<(usize, Books)>,
}

impl Tried {
    fn new() -> Self {
        Self { bytes: journal::HEADER.to_vec(), ..Self::default() }
    }

    fn make(&mut self, changes: &[Change]) {
        for change in changes {
            journal::spell(change, &mut self.bytes);
            self.books.apply(change);
            self.marks.push((self.bytes.len(), self.books.clone()));
        }
    }

    fn agrees(&self, reference: &Reference) -> Result<(), TestCaseError> {
        for (account, cap) in CAPS.into_iter().enumerate() {
            let found = self.books.accounts().find(|one| one.name == name(account));
            let found = found.map_or((0, 0, 0), |one| (one.spent, one.reserved, one.unsettled));
            prop_assert_eq!(found, reference.sums(account), "account {}", account);
            prop_assert!(found.0 + found.1 <= cap, "a cap is passed");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_books_agree_with_a_list_of_calls(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut tried, mut reference) = (Tried::new(), Reference::default());
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Reserve { which, amount, lease } => {
                    let expires = reference.now + lease;
                    let made = tried.books.reserve(&claims(which), amount, expires, &mut changes);
                    prop_assert_eq!(made.is_ok(), reference.admits(which, amount));
                    match made {
                        Ok(number) => {
                            let call = Call { which, amount, expires, state: State::Open };
                            prop_assert!(reference.calls.insert(number, call).is_none(), "a number twice");
                        }
                        Err(_) => prop_assert!(changes.is_empty()),
                    }
                }
                Step::Extend { nth, more } => {
                    let Some(number) = reference.nth(nth, &[State::Open]) else { continue };
                    let admits = reference.admits(reference.calls[&number].which, more);
                    let made = tried.books.extend(number, more);
                    prop_assert_eq!(made.is_ok(), admits);
                    if let Ok(change) = made {
                        reference.calls.get_mut(&number).unwrap().amount += more;
                        changes.push(change);
                    }
                }
                Step::Settle { nth, share } => {
                    let Some(number) = reference.nth(nth, &[State::Open, State::Expired]) else { continue };
                    let call = reference.calls.get_mut(&number).unwrap();
                    let cost = call.amount * share / 100;
                    call.state = State::Settled(cost);
                    changes.push(tried.books.settle(number, cost).unwrap());
                    tried.make(&changes);
                    prop_assert!(tried.books.settle(number, cost).is_none(), "settled twice");
                    continue;
                }
                Step::Wait(long) => {
                    reference.now += long;
                    for call in reference.calls.values_mut() {
                        if call.state == State::Open && call.expires <= reference.now {
                            call.state = State::Expired;
                        }
                    }
                    tried.books.due(reference.now, &mut changes);
                }
                Step::Tidy => tried.books.over(0, &mut changes),
                Step::Crash => {
                    tried.books = journal::read(&tried.bytes).unwrap().0;
                    tried.books.abandon(&mut changes);
                    for call in reference.calls.values_mut() {
                        if matches!(call.state, State::Open | State::Expired) {
                            call.state = State::Lost;
                        }
                    }
                }
                Step::Shorten => {
                    let mut short = Tried::new();
                    tried.books.snapshot(&mut changes);
                    short.make(&changes);
                    prop_assert_eq!(&short.books, &tried.books);
                    tried = short;
                    changes.clear();
                }
            }
            tried.make(&changes);
            tried.agrees(&reference)?;
        }
        let (read, sound) = journal::read(&tried.bytes).unwrap();
        prop_assert_eq!(sound, tried.bytes.len());
        prop_assert_eq!(&read, &tried.books);
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_that_of_its_whole_records(
        steps in proptest::collection::vec((1_u8..16, 1_u64..100, 0_u64..100), 1..12),
    ) {
        let mut tried = Tried::new();
        for (which, amount, share) in steps {
            let mut changes = Vec::new();
            if let Ok(call) = tried.books.reserve(&claims(which), amount, 9, &mut changes) {
                tried.make(&changes);
                if share < 80 {
                    let settled = tried.books.settle(call, amount * share / 100).unwrap();
                    tried.make(&[settled]);
                }
            }
        }
        for cut in 0..=tried.bytes.len() {
            let (books, sound) = journal::read(&tried.bytes[..cut]).unwrap();
            let whole = tried.marks.iter().rev().find(|(end, _)| *end <= cut);
            let (end, expected) = whole.map_or_else(
                || (if cut < journal::HEADER.len() { 0 } else { journal::HEADER.len() }, Books::default()),
                |(end, books)| (*end, books.clone()),
            );
            prop_assert_eq!(sound, end);
            prop_assert_eq!(books, expected);
        }
        // A byte that is not what was written ends the journal there, and nothing panics.
        for at in journal::HEADER.len()..tried.bytes.len() {
            let mut bytes = tried.bytes.clone();
            bytes[at] ^= 0x55;
            prop_assert!(journal::read(&bytes).unwrap().1 <= at);
        }
    }
}

fn local(path: &Path) -> (Local, Arc<Mutex<Vec<Passed>>>) {
    let heard: Arc<Mutex<Vec<Passed>>> = Arc::default();
    let told = heard.clone();
    (Local::new(path, 1000, Arc::new(move |passed| told.lock().push(passed))), heard)
}

fn key_day(accounts: &[Account]) -> (u64, u64, u64) {
    let found = accounts.iter().find(|account| account.name == name(0)).unwrap();
    (found.spent, found.reserved, found.unsettled)
}

#[tokio::test]
async fn what_was_under_way_at_a_crash_is_charged_in_full_and_what_was_settled_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books/journal");
    let (books, _) = local(&path);
    let claims = claims(0b1011);
    let [one, two, three] =
        [100, 200, 50].map(|amount| books.reserve_now(&claims, amount, u64::MAX / 4).unwrap());
    books.settle(one, 30);
    books.extend(two, 20).await.unwrap();
    assert_eq!(key_day(&books.accounts()), (30, 270, 0));
    assert!(matches!(books.reserve_now(&claims, 201, 0), Err(Refusal::Short(short)) if short.spent == 30));
    let second = local(&path).0;
    assert!(second.open().unwrap_err().contains("another gateway"), "two write into one file");
    // What a killed process leaves behind: the file as it is.
    let left = folder.path().join("left");
    std::fs::copy(&path, &left).unwrap();
    books.settle(three, 50);
    let (again, _) = local(&left);
    again.open().unwrap();
    assert_eq!(key_day(&again.accounts()), (300, 0, 270), "a settled call stays settled");
    again.settle(three, 1);
    assert_eq!(key_day(&again.accounts()), (300, 0, 270), "a call of another life changes nothing");
    assert_eq!(read_back(&left).unwrap().len(), 3);
}

#[test]
fn each_mark_is_told_once_and_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (books, heard) = local(&path);
    let spend = |books: &Local, amount| {
        let call = books.reserve_now(&claims(1), amount, u64::MAX / 4).unwrap();
        books.settle(call, amount);
    };
    let marks =
        |heard: &Mutex<Vec<Passed>>| heard.lock().iter().map(|passed| passed.mark).collect::<Vec<_>>();
    (0..3).for_each(|_| spend(&books, 100));
    assert_eq!(marks(&heard), [0_u8; 0]);
    spend(&books, 100);
    spend(&books, 20);
    assert_eq!(marks(&heard), [80]);
    let left = folder.path().join("left");
    books.flush();
    std::fs::copy(&path, &left).unwrap();
    let (again, heard) = local(&left);
    spend(&again, 10);
    assert_eq!(marks(&heard), [0_u8; 0], "it was told before the restart");
    again.reserve_now(&claims(1), 71, 0).unwrap_err();
    again.reserve_now(&claims(1), 71, 0).unwrap_err();
    assert_eq!(marks(&heard), [100], "a budget that refuses is used up, though some small change is left");
}

#[test]
fn a_torn_end_is_removed_and_a_strange_file_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (books, _) = local(&path);
    let call = books.reserve_now(&claims(1), 100, u64::MAX / 4).unwrap();
    books.settle(call, 60);
    books.flush();
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = bytes.len();
    bytes.extend_from_slice(&[17, 0, 0, 0, 1, 2]);
    let left = folder.path().join("left");
    std::fs::write(&left, &bytes).unwrap();
    let (again, _) = local(&left);
    again.open().unwrap();
    assert_eq!(std::fs::metadata(&left).unwrap().len(), whole as u64);
    assert_eq!(key_day(&again.accounts()), (60, 0, 0));
    let strange = folder.path().join("strange");
    std::fs::write(&strange, "sluice budget journal 2\nfrom the future").unwrap();
    assert!(local(&strange).0.open().is_err());
    assert_eq!(std::fs::read(&strange).unwrap(), b"sluice budget journal 2\nfrom the future");
}

#[test]
fn a_file_that_is_damaged_before_its_end_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (books, _) = local(&path);
    let call = books.reserve_now(&claims(1), 100, u64::MAX / 4).unwrap();
    books.settle(call, 60);
    books.flush();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[super::journal::HEADER.len() + 10] ^= 1;
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, &bytes).unwrap();
    let why = local(&damaged).0.open().unwrap_err();
    assert!(why.contains("whole changes follow"), "{why}");
    assert_eq!(std::fs::read(&damaged).unwrap(), bytes);
}

#[tokio::test]
async fn calls_of_one_moment_share_a_write_and_who_leaves_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (books, _) = local(&path);
    books.open().unwrap();
    let claims = claims(1);
    let calls = futures_util::future::join_all((0..20).map(|_| books.reserve(&claims, 10, u64::MAX / 4)));
    let calls: Vec<_> = calls.await.into_iter().map(|call| call.unwrap()).collect();
    assert_eq!(key_day(&read_back(&path).unwrap()), (0, 200, 0), "it is written when it is told");
    for call in calls {
        books.settle(call, 1);
    }
    {
        let mut left = Box::pin(books.reserve(&claims, 70, u64::MAX / 4));
        assert!(futures_util::poll!(&mut left).is_pending());
        assert_eq!(key_day(&books.accounts()), (20, 70, 0));
    }
    assert_eq!(key_day(&books.accounts()), (20, 0, 0));
    drop(books);
    assert_eq!(key_day(&read_back(&path).unwrap()), (20, 0, 0), "what waited is written at the end");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_admits_nothing_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (books, _) = local(&path);
    let claims = claims(1);
    let [one, two] = [100, 50].map(|amount| books.reserve_now(&claims, amount, u64::MAX / 4).unwrap());
    let working = books.swap_file(std::fs::File::open(&path).unwrap());
    assert!(matches!(books.reserve(&claims, 10, u64::MAX / 4).await, Err(Refusal::Away(_))));
    books.settle(one, 30);
    assert!(matches!(books.reserve(&claims, 10, u64::MAX / 4).await, Err(Refusal::Away(_))));
    assert!(matches!(books.extend(two, 10).await, Err(Refusal::Away(_))));
    assert_eq!(key_day(&books.accounts()), (30, 50, 0), "what was refused is not set aside");
    books.swap_file(working);
    books.reserve(&claims, 10, u64::MAX / 4).await.unwrap();
    assert_eq!(key_day(&read_back(&path).unwrap()), (30, 60, 0), "what was settled meanwhile is written");
}

#[test]
fn invented_users_leave_room_for_other_tenants_and_for_keys() {
    let folder = tempfile::tempdir().unwrap();
    let books = Local::new(&folder.path().join("journal"), 32, Arc::new(|_| ()));
    let user = |tenant: &str, user: u64| Claim {
        name: Name {
            scope: Scope::User(tenant.into(), user.to_string().into()),
            period: Period::Day,
            start: 0,
        },
        end: i64::MAX / 2,
        cap: 100,
    };
    let open = |tenant, user_number| books.reserve_now(&[user(tenant, user_number)], 1, u64::MAX / 4);
    let opened = |tenant| (0..100).take_while(|number| open(tenant, *number).is_ok()).count();
    assert_eq!((opened("a"), opened("b"), opened("c")), (16, 8, 4));
    open("a", 3).unwrap();
    assert!(matches!(open("a", 99), Err(Refusal::Full)));
    books.reserve_now(&claims(0b1011), 1, u64::MAX / 4).unwrap();
}

#[test]
fn what_is_only_set_aside_is_said_to_be_free_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (books, _) = local(&folder.path().join("journal"));
    let why = |wanted| match books.reserve_now(&claims(0b11), wanted, u64::MAX / 4) {
        Err(Refusal::Short(short)) => (short.claim.name.clone(), short.is_held()),
        other => panic!("{other:?}"),
    };
    let call = books.reserve_now(&claims(0b11), 450, u64::MAX / 4).unwrap();
    assert_eq!(why(460), (name(1), true), "the month lasts longer");
    books.settle(call, 450);
    books.reserve_now(&claims(0b10), 400, u64::MAX / 4).unwrap();
    assert_eq!(why(60), (name(0), false), "the day is spent, the month is only set aside");
}

#[test]
fn many_threads_never_pass_a_cap() {
    let folder = tempfile::tempdir().unwrap();
    let (books, _) = local(&folder.path().join("journal"));
    let (books, admitted) = (&books, &Mutex::new(0_u64));
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for turn in 0..200_u64 {
                    let amount = 1 + (thread * 7 + turn * 13) % 20;
                    let Ok(call) = books.reserve_now(&claims(0b1111), amount, u64::MAX / 4) else { continue };
                    let cost = amount - turn % 2;
                    books.settle(call, cost);
                    *admitted.lock() += cost;
                }
            });
        }
    });
    let total = *admitted.lock();
    assert!(total <= 300, "{total}");
    assert!(total > 270, "{total}: money is left that nobody was given");
    assert_eq!(key_day(&books.accounts()), (total, 0, 0));
}
