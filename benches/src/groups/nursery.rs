//! Many children in one nursery: what opening it, starting them, running them and waiting for them costs; waking one
//! of many, cancelling many, and nurseries in nurseries.

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use async_executors::TokioCt;
use async_nursery::{LocalNurseExt, Nursery as AsyncNursery};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use futures_concurrency::future::FutureGroup;
use tokio::{
    runtime::{self, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use trionics::{CancelScope, Failure, Nursery, open_nursery};

use crate::{
    Case, Group, OURS,
    figures::Figures,
    support::{Host, YieldOnce},
};

/// The group `nursery`.
pub(super) fn group() -> Group {
    let mut group = Group::new("nursery");
    for children in [1, 10, 1_000, 100_000] {
        for work in [Work::Ready, Work::Yields] {
            for host in [HostKind::Plain, HostKind::Tokio] {
                group = group.case(children_that_end(children, work, host));
            }
        }
    }
    group
        .case(random_wake(100))
        .case(random_wake(10_000))
        .case(cancel_all(10_000))
        .case(nested(10))
        .case(scope_alone())
        .case(children_with_scopes(1_000))
        .case(children_on_tokio(1_000, 1))
        .case(children_on_tokio(1_000, 2))
        .case(memory())
}

/// What a child does.
#[derive(Clone, Copy)]
enum Work {
    /// It is ready when it is polled first.
    Ready,
    /// It wakes itself once.
    Yields,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Yields => "one yield",
        }
    }

    /// The future of a child: of the same type for both.
    fn child(self) -> YieldOnce {
        match self {
            Self::Ready => YieldOnce::spent(),
            Self::Yields => YieldOnce::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum HostKind {
    Plain,
    Tokio,
}

impl HostKind {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain host",
            Self::Tokio => "tokio host",
        }
    }

    fn host(self) -> Host {
        match self {
            Self::Plain => Host::Plain,
            Self::Tokio => Host::tokio(),
        }
    }
}

/// Sets that are polled by whoever holds them: all of them have `new`, `push` and `next`.
macro_rules! set_of_children {
    ($case:expr, $name:literal, $Set:ty, $children:ident, $work:ident, $host:ident, |$child:ident| $boxed:expr) => {
        $case.subject($name, move || {
            let host = $host.host();
            move || {
                host.run(async {
                    let mut children = <$Set>::new();
                    for _ in 0..$children {
                        let $child = $work.child();
                        children.push($boxed);
                    }
                    while children.next().await.is_some() {}
                })
            }
        })
    };
}

/// Open, start, run, join.
fn children_that_end(children: u64, work: Work, host: HostKind) -> Case {
    let plural = if children == 1 { "child" } else { "children" };
    let name = format!("{children} {plural}, {}, {}", work.name(), host.name());
    let case = Case::new(
        name,
        "child",
        children,
        "open, start, run, join; all on the same host, but those that need a runtime of their own: JoinSet, async_nursery, \
         LocalExecutor. FuturesUnordered and its kind get boxed children, as a set of different ones would; those with <F> take \
         children of one type only. The floor is a box, polled and freed, without a set and without wakes",
    )
    .sized(format!("{}, {}", work.name(), host.name()), children, "children");
    let case = case.subject(OURS, move || {
        let host = host.host();
        move || {
            host.run(open_nursery(async |nursery: Nursery<'_>| {
                for _ in 0..children {
                    let work = work.child();
                    nursery.start_soon(async {
                        work.await;
                        Ok(())
                    });
                }
                Ok(())
            }))
            .expect("no child fails");
        }
    });
    let case = set_of_children!(
        case,
        "FuturesUnordered<Box>",
        FuturesUnordered<BoxFuture<'_, ()>>,
        children,
        work,
        host,
        |child| child.boxed()
    );
    let case = set_of_children!(
        case,
        "FuturesUnordered<F>",
        FuturesUnordered<YieldOnce>,
        children,
        work,
        host,
        |child| child
    );
    let case = set_of_children!(
        case,
        "futures-buffered<F>",
        futures_buffered::FuturesUnordered<YieldOnce>,
        children,
        work,
        host,
        |child| child
    );
    let case = set_of_children!(
        case,
        "futures-buffered<Box>",
        futures_buffered::FuturesUnordered<BoxFuture<'_, ()>>,
        children,
        work,
        host,
        |child| child.boxed()
    );
    let case = set_of_children!(
        case,
        "unicycle<Box>",
        unicycle::FuturesUnordered<BoxFuture<'_, ()>>,
        children,
        work,
        host,
        |child| child.boxed()
    );
    // It looks at every child that it holds, at each wake: a hundred thousand would take minutes.
    let case = if children > 1_000 {
        case
    } else {
        case.subject("FutureGroup<Box>", move || {
            let host = host.host();
            move || {
                host.run(async {
                    let mut group = FutureGroup::<BoxFuture<'_, ()>>::new();
                    for _ in 0..children {
                        group.insert(work.child().boxed());
                    }
                    let mut group = pin!(group);
                    while group.next().await.is_some() {}
                })
            }
        })
    };
    case.subject("moro", move || {
        let host = host.host();
        move || {
            host.run(async {
                let scope = moro::async_scope!(|scope| {
                    for _ in 0..children {
                        scope.spawn(work.child());
                    }
                });
                scope.await
            })
        }
    })
    .subject("async_nursery", move || {
        let executor = TokioCt::new().expect("the system gives what a runtime needs");
        move || {
            executor.block_on(async {
                let (nursery, output) = AsyncNursery::new(executor.clone());
                for _ in 0..children {
                    nursery.nurse_local(work.child()).expect("it is open");
                }
                drop(nursery);
                output.await
            })
        }
    })
    .subject("JoinSet", move || {
        let host = Host::tokio();
        move || {
            host.run(async {
                let mut set = JoinSet::new();
                for _ in 0..children {
                    set.spawn(work.child());
                }
                while let Some(outcome) = set.join_next().await {
                    outcome.expect("no child panics");
                }
            })
        }
    })
    .subject("JoinSet + CancellationToken", move || {
        let host = Host::tokio();
        move || {
            host.run(async {
                let token = CancellationToken::new();
                let mut set = JoinSet::new();
                for _ in 0..children {
                    let token = token.child_token();
                    set.spawn(async move { token.run_until_cancelled(work.child()).await });
                }
                while let Some(outcome) = set.join_next().await {
                    outcome.expect("no child panics");
                }
            })
        }
    })
    .subject("smol LocalExecutor", move || {
        move || {
            let executor = smol::LocalExecutor::new();
            futures::executor::block_on(executor.run(async {
                let tasks: Vec<_> = (0..children)
                    .map(|_| executor.spawn(work.child()))
                    .collect();
                for task in tasks {
                    task.await;
                }
            }))
        }
    })
    .subject("floor", move || {
        move || {
            let mut context = Context::from_waker(Waker::noop());
            // A few boxes at a time: what it costs to hold many is the business of sets.
            let at_once = children.min(16);
            let mut left = children - at_once;
            let mut held: VecDeque<BoxFuture<'_, ()>> =
                (0..at_once).map(|_| work.child().boxed()).collect();
            while let Some(mut child) = held.pop_front() {
                if child.as_mut().poll(&mut context).is_pending() {
                    held.push_back(child);
                } else if left > 0 {
                    left -= 1;
                    held.push_back(work.child().boxed());
                }
            }
        }
    })
}

/// Children that wait for a wake, and whoever wakes them.
#[derive(Clone)]
struct Bells(Arc<[Bell]>);

#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// Stored in the first poll: none of the sets ever gives a child another one.
    waker: OnceLock<Waker>,
}

impl Bells {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| Bell::default()).collect())
    }

    /// Waits for the bell for ever, and takes note of each ring.
    fn listen(&self, index: usize) -> Listen {
        Listen {
            bells: self.clone(),
            index,
        }
    }

    fn ring(&self, index: usize) {
        let bell = &self.0[index];
        bell.rung.store(true, Ordering::Relaxed);
        bell.waker
            .get()
            .expect("every child has been polled")
            .wake_by_ref();
    }

    /// Whether the last ring has been heard.
    fn was_heard(&self, index: usize) -> bool {
        !self.0[index].rung.load(Ordering::Relaxed)
    }

    /// Every child has been polled.
    fn all_listen(&self) -> bool {
        self.0.iter().all(|bell| bell.waker.get().is_some())
    }
}

struct Listen {
    bells: Bells,
    index: usize,
}

impl Future for Listen {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let bell = &self.bells.0[self.index];
        bell.rung.store(false, Ordering::Relaxed);
        let waker = bell.waker.get_or_init(|| context.waker().clone());
        debug_assert!(waker.will_wake(context.waker()));
        Poll::Pending
    }
}

/// One after the other in no order, each as often as the others.
fn random(count: usize) -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
    }
}

/// A host that polls when it is told to.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One wake, and the poll that it leads to.
fn random_wake(children: usize) -> Case {
    fn subject<F, S>(case: Case, name: &'static str, children: usize, make: F) -> Case
    where
        F: Fn(&Bells) -> S + 'static,
        S: Future + 'static,
    {
        case.subject(name, move || {
            let bells = Bells::new(children);
            let mut set = Box::pin(make(&bells));
            let woken = Arc::new(Woken(AtomicBool::new(true)));
            let waker = Waker::from(Arc::clone(&woken));
            let mut poll = move || {
                while woken.0.swap(false, Ordering::Relaxed) {
                    let polled = set.as_mut().poll(&mut Context::from_waker(&waker));
                    assert!(polled.is_pending());
                }
            };
            poll();
            assert!(bells.all_listen());
            let mut random = random(children);
            move || {
                let index = random();
                bells.ring(index);
                poll();
                assert!(bells.was_heard(index));
            }
        })
    }
    let case = Case::new(
        format!("a random wake among {children}"),
        "wake",
        1,
        "one child is woken, and its set polled by the same hand-made host until it sleeps again; LocalExecutor runs one task",
    )
    .sized("a random wake", children as u64, "pending children");
    let case = subject(case, OURS, children, move |bells| {
        let bells = bells.clone();
        open_nursery(async move |nursery: Nursery<'_>| {
            for index in 0..children {
                let bell = bells.listen(index);
                nursery.start_soon(async {
                    bell.await;
                    Ok(())
                });
            }
            Ok(())
        })
    });
    let case = subject(case, "FuturesUnordered<Box>", children, move |bells| {
        let mut set: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        set.extend((0..children).map(|index| bells.listen(index).boxed()));
        async move { while set.next().await.is_some() {} }
    });
    let case = subject(case, "FuturesUnordered<F>", children, move |bells| {
        let mut set = FuturesUnordered::new();
        set.extend((0..children).map(|index| bells.listen(index)));
        async move { while set.next().await.is_some() {} }
    });
    let case = subject(case, "futures-buffered<F>", children, move |bells| {
        let mut set = futures_buffered::FuturesUnordered::new();
        for index in 0..children {
            set.push(bells.listen(index));
        }
        async move { while set.next().await.is_some() {} }
    });
    let case = subject(case, "unicycle<Box>", children, move |bells| {
        let mut set = unicycle::FuturesUnordered::new();
        for index in 0..children {
            set.push(bells.listen(index).boxed());
        }
        async move { while set.next().await.is_some() {} }
    });
    let case = subject(case, "FutureGroup<Box>", children, move |bells| {
        let mut set = FutureGroup::new();
        for index in 0..children {
            set.insert(bells.listen(index).boxed());
        }
        async move {
            let mut set = pin!(set);
            while set.next().await.is_some() {}
        }
    });
    let case = subject(case, "moro", children, move |bells| {
        let bells = bells.clone();
        async move {
            let scope = moro::async_scope!(|scope| {
                for index in 0..children {
                    scope.spawn(bells.listen(index));
                }
            });
            scope.await
        }
    });
    case.subject("smol LocalExecutor", move || {
        let bells = Bells::new(children);
        let executor = smol::LocalExecutor::new();
        for index in 0..children {
            executor.spawn(bells.listen(index)).detach();
        }
        while executor.try_tick() {}
        let mut random = random(children);
        move || {
            let index = random();
            bells.ring(index);
            while !bells.was_heard(index) {
                executor.try_tick();
            }
        }
    })
}

/// Starts many children that wait for ever, and measures only the end of them all.
fn cancel_all(children: u64) -> Case {
    fn subject<S>(
        case: Case,
        name: &'static str,
        host: fn() -> Host,
        cancelling: impl Fn() -> S + Copy + 'static,
    ) -> Case
    where
        S: Future<Output = Duration> + 'static,
    {
        case.timed_subject(name, move || {
            let host = host();
            move |iterations| (0..iterations).map(|_| host.run(cancelling())).sum()
        })
    }
    /// Lets everything else run.
    async fn settle() {
        for _ in 0..200 {
            YieldOnce::default().await;
        }
    }
    let case = Case::new(
        format!("cancelling {children}"),
        "child",
        children,
        "from the call that cancels to the end of the set, all children pending and woken by nobody; a set without a cancellation is \
         dropped. FuturesUnordered and moro drop, JoinSet and the token end each task, trionics ends each child that has nothing to \
         clean up by dropping it",
    );
    let case = subject(
        case,
        OURS,
        || Host::Plain,
        move || async move {
            let mut started = None;
            let scope = CancelScope::new();
            let outcome = scope
                .run(open_nursery(async |nursery: Nursery<'_>| {
                    for _ in 0..children {
                        nursery.start_soon(async {
                            std::future::pending::<()>().await;
                            Ok(())
                        });
                    }
                    settle().await;
                    started = Some(Instant::now());
                    scope.cancel("all of them");
                    Ok::<_, Failure>(())
                }))
                .await;
            assert!(outcome.is_err());
            started.expect("the body ran").elapsed()
        },
    );
    let case = subject(
        case,
        "FuturesUnordered<Box>",
        || Host::Plain,
        move || async move {
            let mut set: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
            set.extend((0..children).map(|_| async { std::future::pending().await }.boxed()));
            for _ in 0..200 {
                let _ = futures::poll!(set.next());
            }
            let started = Instant::now();
            drop(set);
            started.elapsed()
        },
    );
    let case = subject(
        case,
        "moro",
        || Host::Plain,
        move || async move {
            let started = moro::async_scope!(|scope| {
                for _ in 0..children {
                    scope.spawn(std::future::pending::<()>());
                }
                settle().await;
                let started = Instant::now();
                let stopped: Instant = scope.terminate(started).await;
                stopped
            })
            .await;
            started.elapsed()
        },
    );
    let case = subject(case, "JoinSet", Host::tokio, move || async move {
        let mut set = JoinSet::new();
        for _ in 0..children {
            set.spawn(std::future::pending::<()>());
        }
        settle().await;
        let started = Instant::now();
        set.shutdown().await;
        started.elapsed()
    });
    subject(
        case,
        "JoinSet + CancellationToken",
        Host::tokio,
        move || async move {
            let token = CancellationToken::new();
            let mut set = JoinSet::new();
            for _ in 0..children {
                let token = token.child_token();
                set.spawn(async move {
                    token
                        .run_until_cancelled(std::future::pending::<()>())
                        .await
                });
            }
            settle().await;
            let started = Instant::now();
            token.cancel();
            while set.join_next().await.is_some() {}
            started.elapsed()
        },
    )
}

/// A set in a set, and so on; one child at the bottom.
fn nested(depth: usize) -> Case {
    fn nurseries(depth: usize) -> BoxFuture<'static, Result<(), Failure>> {
        open_nursery(async move |nursery: Nursery<'_>| {
            if depth > 1 {
                nursery.start_soon(nurseries(depth - 1));
            }
            Ok(())
        })
        .boxed()
    }
    fn sets(depth: usize) -> BoxFuture<'static, ()> {
        async move {
            let mut set: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
            if depth > 1 {
                set.push(sets(depth - 1));
            }
            while set.next().await.is_some() {}
        }
        .boxed()
    }
    fn join_sets(depth: usize) -> BoxFuture<'static, ()> {
        async move {
            let mut set = JoinSet::new();
            if depth > 1 {
                set.spawn(join_sets(depth - 1));
            }
            while set.join_next().await.is_some() {}
        }
        .boxed()
    }
    fn scopes(depth: usize) -> BoxFuture<'static, ()> {
        async move {
            let scope = moro::async_scope!(|scope| {
                if depth > 1 {
                    scope.spawn(scopes(depth - 1));
                }
            });
            scope.await
        }
        .boxed()
    }
    Case::new(
        format!("a nursery in a nursery, {depth} deep"),
        "nursery",
        depth as u64,
        "each has one child, which opens the next one; all boxed",
    )
    .subject(OURS, move || {
        move || futures::executor::block_on(nurseries(depth)).expect("nothing fails")
    })
    .subject("FuturesUnordered<Box>", move || {
        move || futures::executor::block_on(sets(depth))
    })
    .subject("moro", move || {
        move || futures::executor::block_on(scopes(depth))
    })
    .subject("JoinSet", move || {
        let host = Host::tokio();
        move || host.run(join_sets(depth))
    })
}

/// A scope that is opened and left.
fn scope_alone() -> Case {
    Case::new(
        "a scope alone",
        "scope",
        1,
        "made, entered, left; the peer is a token that is made and waited for along with the work",
    )
    .subject(OURS, || {
        || {
            futures::executor::block_on(async {
                CancelScope::new()
                    .run(YieldOnce::spent())
                    .await
                    .expect("not cancelled")
            })
        }
    })
    .subject("CancellationToken", || {
        || {
            futures::executor::block_on(async {
                CancellationToken::new()
                    .run_until_cancelled(YieldOnce::spent())
                    .await
            })
        }
    })
}

/// What it costs a child to have a scope in it.
fn children_with_scopes(children: u64) -> Case {
    Case::new(
        format!("{children} children with a scope each"),
        "child",
        children,
        "each opens a scope and yields in it once; the peers' children have a token each, a child of a common one",
    )
    .subject(OURS, move || {
        move || {
            futures::executor::block_on(open_nursery(async |nursery: Nursery<'_>| {
                for _ in 0..children {
                    nursery.start_soon(async {
                        let _ = CancelScope::new().run(YieldOnce::default()).await;
                        Ok(())
                    });
                }
                Ok(())
            }))
            .expect("no child fails");
        }
    })
    .subject("FuturesUnordered<Box> + CancellationToken", move || {
        move || {
            futures::executor::block_on(async {
                let token = CancellationToken::new();
                let mut set: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
                for _ in 0..children {
                    let token = token.child_token();
                    set.push(
                        async move {
                            let _ = token.run_until_cancelled(YieldOnce::default()).await;
                        }
                        .boxed(),
                    );
                }
                while set.next().await.is_some() {}
            })
        }
    })
    .subject("JoinSet + CancellationToken", move || {
        let host = Host::tokio();
        move || {
            host.run(async {
                let token = CancellationToken::new();
                let mut set = JoinSet::new();
                for _ in 0..children {
                    let token = token.child_token();
                    set.spawn(
                        async move { token.run_until_cancelled(YieldOnce::default()).await },
                    );
                }
                while set.join_next().await.is_some() {}
            })
        }
    })
}

/// Children that a tokio runtime polls, joined by whoever has put them there.
fn children_on_tokio(children: u64, threads: usize) -> Case {
    fn runtime(threads: usize) -> Runtime {
        let mut builder = match threads {
            1 => runtime::Builder::new_current_thread(),
            _ => runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(threads).enable_all().build();
        runtime.expect("the system gives what a runtime needs")
    }
    let place = if threads == 1 {
        "one thread".to_owned()
    } else {
        format!("{threads} threads")
    };
    Case::new(
        format!("{children} children on tokio, {place}"),
        "child",
        children,
        "each is a task of the runtime and yields once; ours are put there by `spawn_on` and joined by their nursery, \
         which a cancellation of theirs would reach",
    )
    .subject(OURS, move || {
        let runtime = runtime(threads);
        let handle = runtime.handle().clone();
        move || {
            runtime
                .block_on(open_nursery(async |nursery: Nursery<'_>| {
                    for _ in 0..children {
                        drop(nursery.spawn_on(&handle, async {
                            YieldOnce::default().await;
                            Ok(())
                        }));
                    }
                    Ok(())
                }))
                .expect("no child fails");
        }
    })
    .subject("JoinSet", move || {
        let runtime = runtime(threads);
        move || {
            runtime.block_on(async {
                let mut set = JoinSet::new();
                for _ in 0..children {
                    set.spawn(YieldOnce::default());
                }
                while let Some(outcome) = set.join_next().await {
                    outcome.expect("no child panics");
                }
            })
        }
    })
    .subject("tokio::spawn", move || {
        let runtime = runtime(threads);
        move || {
            runtime.block_on(async {
                let tasks: Vec<_> = (0..children)
                    .map(|_| tokio::spawn(YieldOnce::default()))
                    .collect();
                for task in tasks {
                    task.await.expect("no child panics");
                }
            })
        }
    })
}

/// A child that waits for ever, of 16 bytes.
#[derive(Default)]
struct Waits([u64; 2]);

impl Future for Waits {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0[0] += 1;
        std::hint::black_box((&self.0, context));
        Poll::Pending
    }
}

/// What a set holds for its children while they wait.
fn memory() -> Case {
    const CHILDREN: u64 = 1_000;

    /// Polls until every child has been polled.
    fn polled<S: Future>(set: S) -> Pin<Box<S>> {
        let mut set = Box::pin(set);
        for _ in 0..64 {
            let polled = set.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
        set
    }
    fn held<S: Future>(make: impl Fn() -> S) -> Figures {
        Figures::held("child", CHILDREN, || polled(make()))
    }
    let case = Case::new(
        format!("memory of {CHILDREN} pending children"),
        "child",
        CHILDREN,
        "all polled once; the future of a child is 16 bytes, which are part of the figure, as is the set itself",
    )
    .figures(OURS, || {
        held(|| {
            open_nursery(async |nursery: Nursery<'_>| {
                for _ in 0..CHILDREN {
                    nursery.start_soon(async {
                        Waits::default().await;
                        Ok(())
                    });
                }
                Ok::<_, Failure>(())
            })
        })
    });
    /// Sets as in [`set_of_children`].
    macro_rules! set {
        ($case:expr, $name:literal, $Set:ty, |$child:ident| $boxed:expr) => {
            $case.figures($name, || {
                held(|| async {
                    let mut set = <$Set>::new();
                    for _ in 0..CHILDREN {
                        let $child = Waits::default();
                        set.push($boxed);
                    }
                    while set.next().await.is_some() {}
                })
            })
        };
    }
    let case = set!(
        case,
        "FuturesUnordered<Box>",
        FuturesUnordered<BoxFuture<'_, ()>>,
        |child| child.boxed()
    );
    let case = set!(
        case,
        "FuturesUnordered<F>",
        FuturesUnordered<Waits>,
        |child| child
    );
    let case = set!(
        case,
        "futures-buffered<F>",
        futures_buffered::FuturesUnordered<Waits>,
        |child| child
    );
    let case = set!(
        case,
        "unicycle<Box>",
        unicycle::FuturesUnordered<BoxFuture<'_, ()>>,
        |child| child.boxed()
    );
    case.figures("moro", || {
        held(|| async {
            let scope = moro::async_scope!(|scope| {
                for _ in 0..CHILDREN {
                    scope.spawn(Waits::default());
                }
            });
            scope.await
        })
    })
    .figures("JoinSet", || {
        let host = Host::tokio();
        Figures::held("child", CHILDREN, || {
            host.run(async {
                let mut set = JoinSet::new();
                for _ in 0..CHILDREN {
                    set.spawn(Waits::default());
                }
                for _ in 0..100 {
                    YieldOnce::default().await;
                }
                set
            })
        })
    })
}
