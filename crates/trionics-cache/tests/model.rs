//! Random histories, checked against a ledger that shares no code with the cache.
//!
//! Users open keys in each form, and are cancelled or dropped at any time; set-ups and exits take their
//! time, fail and panic. The ledger knows what each resource did, and which errors were made and heard.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use proptest::prelude::*;
use trionics_cache::{CacheOptions, ContextCache, WhenFull, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{Nursery, Report, Settings, open_nursery, sleep, testing};

/// An error of its own, told apart by its number.
type Id = u64;
type Cache = ContextCache<u8, Arc<Life>, Id>;

#[derive(Clone, Copy, Debug)]
enum Ending {
    Fine,
    Fails,
    Panics,
}

#[derive(Clone, Copy, Debug)]
struct ResourcePlan {
    set_up_takes: u64,
    set_up: Ending,
    exit_takes: u64,
    exit: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Block,
    BlockPanics,
    LeaseClosed,
    LeaseDropped,
    Slot,
    Peek,
    Refresh,
    Invalidate,
    Touch,
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    Never,
    /// After so many seconds and a half, so that it never falls together with anything else.
    Cancelled(u64),
    Dropped(u64),
}

#[derive(Clone, Debug)]
struct UserPlan {
    key: u8,
    comes: u64,
    holds: u64,
    form: Form,
    stop: Stop,
    resource: ResourcePlan,
}

#[derive(Clone, Copy, Debug)]
struct CachePlan {
    keep_alive: u64,
    capacity: usize,
    restarts: bool,
}

/// One resource, as the ledger knows it.
#[derive(Debug, Default)]
struct Life {
    state: Mutex<LifeState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LifeState {
    #[default]
    SettingUp,
    Alive,
    Exiting,
    Gone,
    NeverCame,
}

impl Life {
    fn set(&self, state: LifeState) -> LifeState {
        std::mem::replace(&mut self.state.lock().unwrap(), state)
    }

    fn get(&self) -> LifeState {
        *self.state.lock().unwrap()
    }
}

/// What happened.
#[derive(Debug, Default)]
struct Ledger {
    /// All lives of each key, in the order in which their set-ups began.
    lives: BTreeMap<u8, Vec<Arc<Life>>>,
    n_errors: Id,
    heard: Vec<Id>,
    /// How many uses of each life were told that they were no hit, by its address.
    misses: BTreeMap<usize, usize>,
    n_uses: usize,
    /// How many errors went to the report hook, because a panic took their place.
    n_behind_panics: usize,
}

type SharedLedger = Arc<Mutex<Ledger>>;

fn happen(ledger: &SharedLedger, ending: Ending) -> Result<(), Failure<Id>> {
    let id = || {
        let mut ledger = ledger.lock().unwrap();
        ledger.n_errors += 1;
        ledger.n_errors
    };
    match ending {
        Ending::Fine => Ok(()),
        Ending::Fails => Err(Failure::leaf(id())),
        Ending::Panics => resume_unwind(Box::new(id())),
    }
}

async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

/// Marks a life whose set-up was stopped.
struct Unwinds(Option<Arc<Life>>);

impl Drop for Unwinds {
    fn drop(&mut self) {
        if let Some(life) = self.0.take() {
            life.set(LifeState::NeverCame);
        }
    }
}

/// `alone`: no other life of the key may be there, because nothing gives resources up.
fn context(
    ledger: SharedLedger,
    key: u8,
    plan: ResourcePlan,
    alone: bool,
) -> impl AsyncContext<Value = Arc<Life>, Error = Id, Run: Send + 'static> {
    acm(move |slot: Slot<Arc<Life>>| async move {
        let life = Arc::new(Life::default());
        {
            let mut ledger = ledger.lock().unwrap();
            let lives = ledger.lives.entry(key).or_default();
            let over =
                |life: &Arc<Life>| matches!(life.get(), LifeState::Gone | LifeState::NeverCame);
            assert!(!alone || lives.iter().all(over), "two lives of {key}");
            lives.push(Arc::clone(&life));
        }
        let mut unwinds = Unwinds(Some(Arc::clone(&life)));
        seconds(plan.set_up_takes).await;
        happen(&ledger, plan.set_up)?;
        unwinds.0 = None;
        life.set(LifeState::Alive);
        slot.provide(Arc::clone(&life)).await;
        assert_eq!(life.set(LifeState::Exiting), LifeState::Alive);
        seconds(plan.exit_takes).await;
        assert_eq!(life.set(LifeState::Gone), LifeState::Exiting);
        happen(&ledger, plan.exit)
    })
}

/// Writes a use down, and checks that the value is alive as long as it is held.
async fn hold(ledger: &SharedLedger, life: &Arc<Life>, hit: bool, holds: u64) {
    {
        let mut ledger = ledger.lock().unwrap();
        ledger.n_uses += 1;
        if !hit {
            *ledger.misses.entry(Arc::as_ptr(life).addr()).or_default() += 1;
        }
    }
    assert_eq!(life.get(), LifeState::Alive);
    seconds(holds).await;
    assert_eq!(life.get(), LifeState::Alive);
}

async fn act(
    cache: &Cache,
    ledger: &SharedLedger,
    plan: &UserPlan,
    alone: bool,
) -> Result<(), Failure<Id>> {
    seconds(plan.comes).await;
    let (key, holds, resource) = (plan.key, plan.holds, plan.resource);
    let make = {
        let ledger = Arc::clone(ledger);
        move || context(ledger, key, resource, alone)
    };
    match plan.form {
        Form::Block | Form::BlockPanics => {
            let panics = matches!(plan.form, Form::BlockPanics);
            maybe_open_context(cache, key, make, async |hit, life| {
                hold(ledger, &life, hit, holds).await;
                if panics {
                    happen(ledger, Ending::Panics)?;
                }
                Ok(())
            })
            .await
        }
        Form::LeaseClosed => {
            let lease = cache.open(key, make).await?;
            hold(ledger, &lease, lease.cache_hit(), holds).await;
            lease.close().await.map(drop)
        }
        Form::LeaseDropped => {
            let lease = cache.open(key, make).await?;
            hold(ledger, &lease, lease.cache_hit(), holds).await;
            Ok(())
        }
        Form::Slot => {
            let lease = cache.slot(key).open(make).await?;
            hold(ledger, &lease, lease.cache_hit(), holds).await;
            lease.close().await.map(drop)
        }
        Form::Peek => {
            if let Some(lease) = cache.peek(&key).await {
                hold(ledger, &lease, lease.cache_hit(), holds).await;
            }
            Ok(())
        }
        Form::Refresh => {
            let lease = cache.refresh(key, make).await?;
            hold(ledger, &lease, lease.cache_hit(), holds).await;
            lease.close().await.map(drop)
        }
        Form::Invalidate => {
            cache.invalidate(&key);
            Ok(())
        }
        Form::Touch => {
            cache.touch(&key);
            Ok(())
        }
    }
}

async fn half_past(n: u64) {
    sleep(Duration::from_millis(n * 1000 + 500)).await;
}

/// One user; what it hears goes into the ledger.
async fn user(cache: &Cache, ledger: &SharedLedger, plan: UserPlan, alone: bool) {
    let acting = AssertUnwindSafe(act(cache, ledger, &plan, alone)).catch_unwind();
    let outcome = match plan.stop {
        Stop::Never => Some(acting.await),
        Stop::Cancelled(n) => {
            let scope = trionics_nursery::CancelScope::new();
            scope.run_until(half_past(n), acting).await.ok()
        }
        Stop::Dropped(n) => {
            let (acting, timer) = (std::pin::pin!(acting), std::pin::pin!(half_past(n)));
            match futures::future::select(acting, timer).await {
                futures::future::Either::Left((outcome, _)) => Some(outcome),
                futures::future::Either::Right(_) => None,
            }
        }
    };
    let mut ledger = ledger.lock().unwrap();
    match outcome {
        Some(Ok(Err(failure))) => ledger.heard.extend(failure.errors()),
        Some(Err(payload)) => match payload.downcast_ref::<Id>() {
            Some(id) => ledger.heard.push(*id),
            None => {
                drop(ledger);
                resume_unwind(payload);
            }
        },
        None | Some(Ok(Ok(()))) => {}
    }
}

fn check(users: Vec<UserPlan>, plan: CachePlan) {
    let gives_up = |user: &UserPlan| matches!(user.form, Form::Refresh | Form::Invalidate);
    let alone = !users.iter().any(gives_up);
    let ledger = SharedLedger::default();
    let options: CacheOptions<u8, Arc<Life>, Id> = ContextCache::options();
    let mut options = options.keep_alive(Duration::from_secs(plan.keep_alive));
    if plan.capacity > 0 {
        options = options.capacity(plan.capacity, WhenFull::EvictIdle);
    }
    if plan.restarts {
        options = options.restart_without_opener();
    }
    let heard = Arc::clone(&ledger);
    let cache: Cache = options
        .on_unheard_failure(move |failure: Failure<Id>| {
            heard.lock().unwrap().heard.extend(failure.errors());
        })
        .build();
    let reported = Arc::clone(&ledger);
    let hook = move |report: &Report| {
        reported.lock().unwrap().n_behind_panics += match report {
            Report::FailuresBehindPanic { failures, .. } => *failures,
            Report::LaterPanic { .. } => 1,
            _ => 0,
        };
    };
    testing::run(Settings::new().on_report(hook).run(async {
        let served = open_nursery(async |n: Nursery<'_, Id>| {
            n.start_soon(cache.serve());
            let all = users
                .into_iter()
                .map(|plan| user(&cache, &ledger, plan, alone));
            futures::future::join_all(all).await;
            cache.close();
            Ok(())
        });
        served.await.unwrap();
    }));
    assert!(cache.is_empty() && cache.keys().is_empty(), "{cache:?}");
    let ledger = ledger.lock().unwrap();
    let heard: BTreeSet<Id> = ledger.heard.iter().copied().collect();
    assert_eq!(heard.len(), ledger.heard.len(), "each error is heard once");
    let n_made = heard.len() + ledger.n_behind_panics;
    assert_eq!(ledger.n_errors as usize, n_made, "no error is lost");
    let lives: Vec<_> = ledger.lives.values().flatten().collect();
    let n_gone = lives
        .iter()
        .filter(|life| life.get() == LifeState::Gone)
        .count();
    let over = |life: &&Arc<Life>| matches!(life.get(), LifeState::Gone | LifeState::NeverCame);
    assert!(lives.iter().all(over), "{lives:?}");
    for &n_misses in ledger.misses.values() {
        assert_eq!(n_misses, 1, "one of each generation opened it");
    }
    let seen = cache.statistics();
    assert_eq!(seen.opens as usize, lives.len());
    assert_eq!(seen.teardowns as usize, n_gone);
    assert!(seen.misses as usize <= n_gone);
    assert!((seen.hits + seen.misses) as usize >= ledger.n_uses);
    assert_eq!((seen.users, seen.waiting), (0, 0));
}

fn ending(panics: bool) -> impl Strategy<Value = Ending> {
    prop_oneof![
        4 => Just(Ending::Fine),
        1 => Just(Ending::Fails),
        1 => Just(if panics { Ending::Panics } else { Ending::Fails }),
    ]
}

/// `drops`: users may be dropped; then nothing panics, as a panic that nobody hears is the service's.
fn user_plan(drops: bool) -> impl Strategy<Value = UserPlan> {
    let resource = (0..4_u64, ending(!drops), 0..4_u64, ending(!drops)).prop_map(
        |(set_up_takes, set_up, exit_takes, exit)| ResourcePlan {
            set_up_takes,
            set_up,
            exit_takes,
            exit,
        },
    );
    let form = if drops {
        prop_oneof![
            4 => Just(Form::Block),
            1 => Just(Form::BlockPanics),
            3 => Just(Form::LeaseClosed),
            3 => Just(Form::LeaseDropped),
            2 => Just(Form::Slot),
            1 => Just(Form::Peek),
            1 => Just(Form::Refresh),
            1 => Just(Form::Invalidate),
            1 => Just(Form::Touch),
        ]
        .boxed()
    } else {
        Just(Form::Block).boxed()
    };
    let stop = prop_oneof![
        4 => Just(Stop::Never),
        2 => (0..10_u64).prop_map(Stop::Cancelled),
        2 => (0..10_u64).prop_map(move |n| if drops { Stop::Dropped(n) } else { Stop::Cancelled(n) }),
    ];
    (0..3_u8, 0..12_u64, 0..5_u64, form, stop, resource).prop_map(
        |(key, comes, holds, form, stop, resource)| UserPlan {
            key,
            comes,
            holds,
            form,
            // A block's own panic goes with what drops the block while the exit runs.
            stop: match (form, stop) {
                (Form::BlockPanics, Stop::Dropped(n)) => Stop::Cancelled(n),
                _ => stop,
            },
            resource,
        },
    )
}

fn cache_plan() -> impl Strategy<Value = CachePlan> {
    (prop_oneof![Just(0), Just(3_u64)], 0..3_usize, any::<bool>()).prop_map(
        |(keep_alive, capacity, restarts)| CachePlan {
            keep_alive,
            capacity,
            restarts,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Everything that can happen but panics of resources.
    #[test]
    fn random_users(users in proptest::collection::vec(user_plan(true), 1..14), plan in cache_plan()) {
        check(users, plan);
    }

    /// Resources that panic, and blocks that are cancelled, without idle times: a user hears of each panic.
    #[test]
    fn random_panics(users in proptest::collection::vec(user_plan(false), 1..14), restarts in any::<bool>()) {
        check(users, CachePlan { keep_alive: 0, capacity: 0, restarts });
    }
}
