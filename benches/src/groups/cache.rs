//! One resource per key for many users: what a use costs, warm, cold, and when all come at once.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    sync::{Arc, Mutex},
    thread,
};

use futures::{FutureExt, future::join_all};
use tokio::{
    runtime::Runtime,
    sync::{Mutex as AsyncMutex, Notify, OnceCell, oneshot},
};
use trionics::{
    AsyncContext, Failure, Slot, acm,
    cache::{ContextCache, KeySlot, Lease},
};

use crate::{
    Case, Group, OURS,
    figures::Figures,
    support::{Host, yield_once},
};

/// The group `cache`.
pub(super) fn group() -> Group {
    let mut group = Group::new("cache");
    for n_threads in [1, 2] {
        for n_keys in [1, 10_000] {
            group = group
                .case(warm(n_keys, n_threads))
                .case(by_slot(n_keys, n_threads));
        }
    }
    group
        .case(cold_cycle())
        .case(all_at_once())
        .case(memory(1))
        .case(memory(10_000))
}

/// Uses by one thread in one iteration.
const N_USES: usize = 20_000;

type Cache = ContextCache<u64, u64>;

fn resource(
    value: u64,
) -> impl AsyncContext<Value = u64, Error = trionics::errgroup::AnyError, Run: Send + 'static> {
    acm(move |slot: Slot<u64>| async move {
        slot.provide(value).await;
        Ok(())
    })
}

fn open(cache: &Cache, key: u64) -> impl Future<Output = Result<Lease<u64, u64>, Failure>> {
    cache.open(key, move || resource(key))
}

/// The keys in an order that no prefetcher guesses.
fn order(n_keys: u64) -> Vec<u64> {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n_keys
    };
    (0..4096).map(next).collect()
}

/// Runs `use_one` for each key of the order, on each thread, all of a thread in one task.
fn on_threads<S: Send>(
    states: &mut [S],
    order: &[u64],
    use_one: impl AsyncFn(&mut S, u64) -> u64 + Sync,
) {
    let run = |state: &mut S| {
        futures::executor::block_on(async {
            let mut sum = 0;
            for index in 0..N_USES {
                sum += use_one(state, order[index % order.len()]).await;
            }
            black_box(sum);
        });
    };
    match states {
        [only] => run(only),
        all => thread::scope(|scope| {
            for state in all {
                scope.spawn(|| run(state));
            }
        }),
    }
}

/// A cache that is served on a thread of its own, with all keys held open.
fn held(n_keys: u64) -> (Cache, Vec<Lease<u64, u64>>) {
    let cache = Cache::new();
    let service = cache.serve();
    thread::spawn(|| futures::executor::block_on(service));
    let leases = (0..n_keys).map(|key| futures::executor::block_on(open(&cache, key)));
    let leases = leases.collect::<Result<_, _>>().expect("they open");
    (cache, leases)
}

fn with_values<M>(n_keys: u64, map: M, insert: impl Fn(&M, u64, Arc<u64>)) -> M {
    for key in 0..n_keys {
        insert(&map, key, Arc::new(key));
    }
    map
}

fn case_name(what: &str, n_keys: u64, n_threads: usize) -> String {
    format!(
        "{what}, {n_keys} key{}, {n_threads} thread{}",
        if n_keys == 1 { "" } else { "s" },
        if n_threads == 1 { "" } else { "s" }
    )
}

/// What the cases of all key counts have in common.
fn series(what: &str, n_threads: usize) -> String {
    format!(
        "{what}, {n_threads} thread{}",
        if n_threads == 1 { "" } else { "s" }
    )
}

fn warm(n_keys: u64, n_threads: usize) -> Case {
    macro_rules! peer {
        ($name:expr, $case:expr, $map:expr, $use_one:expr) => {
            $case.subject($name, move || {
                let map = $map;
                let order = order(n_keys);
                let mut threads = vec![(); n_threads];
                move || {
                    on_threads(&mut threads, &order, async |(), key| {
                        $use_one(&map, key).await
                    })
                }
            })
        };
    }
    let case = Case::new(
        case_name("warm hit and release", n_keys, n_threads),
        "use",
        (N_USES * n_threads) as u64,
        "find the key, take a share of the value (a lease, or a clone of an Arc), read it, give it back; all in one task per thread; default hashers unless named",
    )
    .sized(series("warm hit and release", n_threads), n_keys, "keys");
    let case = peer!(
        OURS,
        case,
        held(n_keys),
        async |(cache, _): &(Cache, _), key: u64| { *open(cache, key).await.expect("it is open") }
    );
    let case = peer!(
        "trionics, try_peek",
        case,
        held(n_keys),
        async |(cache, _): &(Cache, _), key: u64| { *cache.try_peek(&key).expect("it is open") }
    );
    let case = peer!(
        "moka get",
        case,
        with_values(
            n_keys,
            moka::future::Cache::new(100_000),
            |map, key, value| {
                futures::executor::block_on(map.insert(key, value));
            }
        ),
        async |map: &moka::future::Cache<u64, Arc<u64>>, key: u64| *(map.get(&key))
            .await
            .expect("there")
    );
    let case = peer!(
        "moka try_get_with",
        case,
        with_values(
            n_keys,
            moka::future::Cache::new(100_000),
            |map, key, value| {
                futures::executor::block_on(map.insert(key, value));
            }
        ),
        async |map: &moka::future::Cache<u64, Arc<u64>>, key: u64| {
            let init = async { Err::<Arc<u64>, ()>(()) };
            *(map.try_get_with(key, init)).await.expect("there")
        }
    );
    let case = peer!(
        "dashmap",
        case,
        with_values(n_keys, dashmap::DashMap::new(), |map, key, value| {
            map.insert(key, value);
        }),
        async |map: &dashmap::DashMap<u64, Arc<u64>>, key: u64| {
            let share = Arc::clone(&map.get(&key).expect("there"));
            *share
        }
    );
    let case = peer!(
        "papaya",
        case,
        with_values(n_keys, papaya::HashMap::new(), |map, key, value| {
            map.pin().insert(key, value);
        }),
        async |map: &papaya::HashMap<u64, Arc<u64>>, key: u64| {
            let share = Arc::clone(map.pin().get(&key).expect("there"));
            *share
        }
    );
    let case = peer!(
        "Mutex<HashMap>",
        case,
        with_values(n_keys, Mutex::new(HashMap::new()), |map, key, value| {
            map.lock().expect("no panic").insert(key, value);
        }),
        async |map: &Mutex<HashMap<u64, Arc<u64>>>, key: u64| {
            let share = Arc::clone(&map.lock().expect("no panic")[&key]);
            *share
        }
    );
    let case = peer!(
        "map of tokio OnceCells",
        case,
        with_values(n_keys, Mutex::<Cells>::default(), |map, key, value| {
            let cell = Arc::new(OnceCell::new_with(Some(value)));
            map.lock().expect("no panic").insert(key, cell);
        }),
        async |map: &Mutex<Cells>, key: u64| {
            let cell = Arc::clone(&map.lock().expect("no panic")[&key]);
            let share = Arc::clone(cell.get_or_init(set_up).await);
            *share
        }
    );
    let case = peer!(
        "map of async-once-cells",
        case,
        with_values(
            n_keys,
            Mutex::<HashMap<u64, Arc<AsyncCell>>>::default(),
            |map, key, value| {
                let cell = Arc::new(AsyncCell::new_with(value));
                map.lock().expect("no panic").insert(key, cell);
            }
        ),
        async |map: &Mutex<HashMap<u64, Arc<AsyncCell>>>, key: u64| {
            let cell = Arc::clone(&map.lock().expect("no panic")[&key]);
            let share = Arc::clone(cell.get_or_init(set_up()).await);
            *share
        }
    );
    let case = case.subject("literal port", move || {
        let (_runtime, cache) = literal(n_keys);
        let order = order(n_keys);
        let mut threads = vec![(); n_threads];
        move || {
            on_threads(&mut threads, &order, async |(), key| {
                let value = *cache.enter(key, false).await;
                cache.leave(key).await;
                value
            });
        }
    });
    peer!(
        "Mutex<HashMap>, foldhash",
        case,
        with_values(
            n_keys,
            Mutex::new(HashMap::with_hasher(foldhash::fast::RandomState::default())),
            |map, key, value| {
                map.lock().expect("no panic").insert(key, value);
            }
        ),
        async |map: &Mutex<HashMap<u64, Arc<u64>, foldhash::fast::RandomState>>, key: u64| {
            let share = Arc::clone(&map.lock().expect("no panic")[&key]);
            *share
        }
    )
}

fn by_slot(n_keys: u64, n_threads: usize) -> Case {
    Case::new(
        case_name("warm hit by slot", n_keys, n_threads),
        "use",
        (N_USES * n_threads) as u64,
        "each thread has a slot per key and looks it up by index; dashmap is asked by key, as it has nothing like a slot",
    )
    .sized(series("warm hit by slot", n_threads), n_keys, "keys")
    .subject(OURS, move || {
        let (cache, leases) = held(n_keys);
        let order = order(n_keys);
        type Slots = Vec<KeySlot<u64, u64>>;
        let slots = || (0..n_keys).map(|key| cache.slot(key)).collect();
        let mut threads: Vec<Slots> = (0..n_threads).map(|_| slots()).collect();
        move || {
            let _held = &leases;
            on_threads(&mut threads, &order, async |slots: &mut Slots, key| {
                let open = slots[key as usize].open(move || resource(key));
                *open.await.expect("it is open")
            });
        }
    })
    .subject("dashmap", move || {
        let map = with_values(n_keys, dashmap::DashMap::new(), |map, key, value| {
            map.insert(key, value);
        });
        let order = order(n_keys);
        let mut threads = vec![(); n_threads];
        move || {
            on_threads(&mut threads, &order, async |(), key| {
                let share: Arc<u64> = Arc::clone(&map.get(&key).expect("there"));
                *share
            });
        }
    })
    .subject("tokio OnceCell, no map, no clone", move || {
        let cells: Vec<OnceCell<u64>> = (0..n_keys).map(|key| OnceCell::new_with(Some(key))).collect();
        let order = order(n_keys);
        let mut threads = vec![(); n_threads];
        move || {
            on_threads(&mut threads, &order, async |(), key| {
                *(cells[key as usize].get_or_init(async || key)).await
            });
        }
    })
}

/// The original, written down line by line: a lock over the locks, and a lock per key.
#[derive(Default)]
struct Literal {
    locks: AsyncMutex<HashMap<u64, Arc<AsyncMutex<()>>>>,
    resources: Mutex<HashMap<u64, Entry>>,
}

struct Entry {
    value: Arc<u64>,
    n_users: usize,
    no_more_users: Arc<Notify>,
    gone: oneshot::Receiver<()>,
}

impl Literal {
    async fn lock_of(&self, key: u64) -> Arc<AsyncMutex<()>> {
        Arc::clone(self.locks.lock().await.entry(key).or_default())
    }

    async fn enter(&self, key: u64, yields: bool) -> Arc<u64> {
        let lock = self.lock_of(key).await;
        let _guard = lock.lock().await;
        if let Some(entry) = self.resources.lock().expect("no panic").get_mut(&key) {
            entry.n_users += 1;
            return Arc::clone(&entry.value);
        }
        let no_more_users = Arc::new(Notify::new());
        let (entered, wait_entered) = oneshot::channel();
        let (exited, gone) = oneshot::channel();
        let left = Arc::clone(&no_more_users);
        tokio::spawn(async move {
            if yields {
                yield_once().await;
            }
            let _ = entered.send(Arc::new(key));
            left.notified().await;
            let _ = exited.send(());
        });
        let value = wait_entered.await.expect("it enters");
        let entry = Entry {
            value: Arc::clone(&value),
            n_users: 1,
            no_more_users,
            gone,
        };
        self.resources.lock().expect("no panic").insert(key, entry);
        value
    }

    async fn leave(&self, key: u64) {
        let lock = self.lock_of(key).await;
        let _guard = lock.lock().await;
        let last = {
            let mut resources = self.resources.lock().expect("no panic");
            let entry = resources.get_mut(&key).expect("it is in use");
            entry.n_users -= 1;
            if entry.n_users == 0 {
                resources.remove(&key)
            } else {
                None
            }
        };
        if let Some(entry) = last {
            entry.no_more_users.notify_one();
            entry.gone.await.expect("it exits");
            self.locks.lock().await.remove(&key);
        }
    }
}

/// The port with all keys held open.
fn literal(n_keys: u64) -> (Runtime, Literal) {
    let (runtime, cache) = (tokio_runtime(), Literal::default());
    runtime.block_on(async {
        for key in 0..n_keys {
            cache.enter(key, false).await;
        }
    });
    (runtime, cache)
}

fn tokio_runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("the system gives what a runtime needs")
}

/// A cache that is served by a task of `runtime`.
fn served(runtime: &Runtime) -> Cache {
    let cache = Cache::new();
    runtime.spawn(cache.serve());
    cache
}

fn cold_cycle() -> Case {
    const N_CYCLES: u64 = 200;
    Case::new(
        "cold cycle",
        "cycle",
        N_CYCLES,
        "open a key that nobody uses and leave it again, exit included; a current-thread tokio runtime for all",
    )
    .subject(OURS, || {
        let runtime = tokio_runtime();
        let cache = served(&runtime);
        move || {
            runtime.block_on(async {
                for key in 0..N_CYCLES {
                    let lease = open(&cache, key).await.expect("it opens");
                    black_box(lease.close().await.expect("it exits"));
                }
            });
        }
    })
    .subject("trionics, service in the task of the user", || {
        let runtime = tokio_runtime();
        let cache = Cache::new();
        let mut service = Box::pin(cache.serve());
        move || {
            let cycles = async {
                for key in 0..N_CYCLES {
                    let lease = open(&cache, key).await.expect("it opens");
                    black_box(lease.close().await.expect("it exits"));
                }
            };
            runtime.block_on(beside(&mut service, cycles));
        }
    })
    .subject("literal port", || {
        let runtime = tokio_runtime();
        let cache = Literal::default();
        move || {
            runtime.block_on(async {
                for key in 0..N_CYCLES {
                    black_box(cache.enter(key, false).await);
                    cache.leave(key).await;
                }
            });
        }
    })
    .subject("moka, miss and invalidate", || {
        let runtime = tokio_runtime();
        let cache = moka::future::Cache::new(100_000);
        move || {
            runtime.block_on(async {
                for key in 0..N_CYCLES {
                    black_box(cache.get_with(key, async { Arc::new(key) }).await);
                    cache.invalidate(&key).await;
                }
            });
        }
    })
    .subject("map of tokio OnceCells, no exit", || {
        let runtime = tokio_runtime();
        let cells: Mutex<HashMap<u64, Arc<OnceCell<Arc<u64>>>>> = Mutex::default();
        move || {
            runtime.block_on(async {
                for key in 0..N_CYCLES {
                    let cell = Arc::clone(cells.lock().expect("no panic").entry(key).or_default());
                    black_box(Arc::clone(cell.get_or_init(async || Arc::new(key)).await));
                    cells.lock().expect("no panic").remove(&key);
                }
            });
        }
    })
}

/// Runs `work` to its end, and `service` beside it in the same task.
async fn beside<T>(service: &mut (impl Future + Unpin), work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() && service.poll_unpin(cx).is_ready() {
            unreachable!("the cache is open");
        }
        polled
    })
    .await
}

fn memory(n_keys: u64) -> Case {
    /// What holds so many keys.
    fn holding<T>(n_keys: u64, make: impl Fn() -> T + 'static) -> impl Fn() -> Figures + 'static {
        move || Figures::held("key", n_keys, &make)
    }
    Case::new(
        case_name("memory of keys in use", n_keys, 1).replace(", 1 thread", ""),
        "key",
        n_keys,
        "map, value and what else a key in use holds, with the share of one user: for trionics and the port the context that waits to be left, too; the others have none",
    )
    .figures(
        OURS,
        holding(n_keys, move || {
            let cache = Cache::new();
            let mut service = Box::pin(cache.serve());
            let opens = async {
                let mut leases = Vec::with_capacity(n_keys as usize);
                for key in 0..n_keys {
                    leases.push(open(&cache, key).await.expect("it opens"));
                }
                leases
            };
            let leases = futures::executor::block_on(beside(&mut service, opens));
            InUse {
                cache,
                service,
                leases,
            }
        }),
    )
    .figures("literal port", holding(n_keys, move || literal(n_keys)))
    .figures(
        "moka",
        holding(n_keys, move || {
            let cache = moka::future::Cache::new(100_000);
            with_values(n_keys, cache, |map, key, value| {
                futures::executor::block_on(map.insert(key, value));
            })
        }),
    )
    .figures(
        "dashmap",
        holding(n_keys, move || {
            with_values(n_keys, dashmap::DashMap::new(), |map, key, value| {
                map.insert(key, value);
            })
        }),
    )
    .figures(
        "papaya",
        holding(n_keys, move || {
            with_values(n_keys, papaya::HashMap::new(), |map, key, value| {
                map.pin().insert(key, value);
            })
        }),
    )
    .figures(
        "map of tokio OnceCells",
        holding(n_keys, move || {
            with_values(n_keys, Mutex::<Cells>::default(), |map, key, value| {
                let cell = Arc::new(OnceCell::new_with(Some(value)));
                map.lock().expect("no panic").insert(key, cell);
            })
        }),
    )
    .figures(
        "Mutex<HashMap>",
        holding(n_keys, move || {
            with_values(n_keys, Mutex::new(HashMap::new()), |map, key, value| {
                map.lock().expect("no panic").insert(key, value);
            })
        }),
    )
}

/// Keys in use and their service, which ends with them.
struct InUse<S: Future + Unpin> {
    cache: Cache,
    service: S,
    leases: Vec<Lease<u64, u64>>,
}

impl<S: Future + Unpin> Drop for InUse<S> {
    fn drop(&mut self) {
        self.leases.clear();
        self.cache.close();
        futures::executor::block_on(&mut self.service);
    }
}

/// How many come at once.
const N_WAITERS: usize = 1_000;

fn all_at_once() -> Case {
    macro_rules! peer {
        ($name:expr, $case:expr, $set_up:expr, $use_all:expr) => {
            $case.subject($name, || {
                let host = Host::Plain;
                move || {
                    let shared = $set_up;
                    let shared = &shared;
                    let uses = (0..N_WAITERS).map(|_| $use_all(shared));
                    host.run(join_all(uses)).len()
                }
            })
        };
    }
    let case = Case::new(
        "1000 openers of one key",
        "waiter",
        N_WAITERS as u64,
        "all polled by one join_all; the set-up is pending once; each gets a share of the value and gives it back",
    )
    .subject(OURS, || {
        let runtime = tokio_runtime();
        let cache = served(&runtime);
        move || {
            let cache = &cache;
            runtime.block_on(async move {
                let uses = (0..N_WAITERS).map(|_| {
                    cache.open(1, || {
                        acm(async |slot: Slot<u64>| {
                            slot.provide(*set_up().await).await;
                            Ok::<(), Failure>(())
                        })
                    })
                });
                let leases = join_all(uses).await;
                let n_leases = leases.len();
                for lease in leases {
                    let _end = lease.expect("it opens").close().await.expect("it exits");
                }
                n_leases
            })
        }
    })
    .subject("literal port", || {
        let runtime = tokio_runtime();
        move || {
            runtime.block_on(async {
                let cache = Literal::default();
                let n_values = join_all((0..N_WAITERS).map(|_| cache.enter(1, true))).await.len();
                for _ in 0..N_WAITERS {
                    cache.leave(1).await;
                }
                n_values
            })
        }
    });
    let case = peer!(
        "tokio OnceCell in a map",
        case,
        Mutex::<Cells>::default(),
        once_cell
    );
    let case = peer!(
        "async-once-cell",
        case,
        async_once_cell::OnceCell::new(),
        async_cell
    );
    let case = peer!(
        "moka get_with",
        case,
        moka::future::Cache::new(100),
        moka_cell
    );
    let case = peer!(
        "singleflight-async",
        case,
        singleflight_async::SingleFlight::new(),
        singleflight
    );
    let case = peer!(
        "async_singleflight",
        case,
        async_singleflight::Group::new(),
        group_flight
    );
    case.subject("futures Shared", || {
        let host = Host::Plain;
        move || {
            let shared = set_up().boxed().shared();
            host.run(join_all((0..N_WAITERS).map(|_| shared.clone())))
                .len()
        }
    })
}

async fn set_up() -> Arc<u64> {
    yield_once().await;
    Arc::new(1)
}

type Cells = HashMap<u64, Arc<OnceCell<Arc<u64>>>>;

type AsyncCell = async_once_cell::OnceCell<Arc<u64>>;

async fn once_cell(map: &Mutex<Cells>) -> Arc<u64> {
    let cell = Arc::clone(map.lock().expect("no panic").entry(1).or_default());
    Arc::clone(cell.get_or_init(set_up).await)
}

async fn async_cell(cell: &async_once_cell::OnceCell<Arc<u64>>) -> Arc<u64> {
    Arc::clone(cell.get_or_init(set_up()).await)
}

async fn moka_cell(cache: &moka::future::Cache<u64, Arc<u64>>) -> Arc<u64> {
    cache.get_with(1, set_up()).await
}

async fn singleflight(flights: &singleflight_async::SingleFlight<u64, Arc<u64>>) -> Arc<u64> {
    flights.work(1, set_up).await
}

async fn group_flight(flights: &async_singleflight::Group<u64, Arc<u64>, ()>) -> Arc<u64> {
    let work = async { Ok(set_up().await) };
    flights.work(&1, work).await.expect("it does not fail")
}
