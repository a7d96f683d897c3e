//! What a nursery keeps, where, and for how long: sizes, wakers and drops that are out of the ordinary. Under AddressSanitizer
//! these show more than they do by themselves.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Instant,
};

use futures::executor::block_on;
use trionics_nursery::{
    BoxSleep, ChildHandle, Clock, Failure, LocalNursery, Nursery, open_local_nursery, open_nursery,
    shield, testing::VirtualClock, with_clock,
};

mod common;
use common::{Drawer, Gate, Probe, Word, ends, never, panic_of, pause};

/// A virtual clock that tells whether somebody has it or one of its timers.
struct Counted {
    clock: VirtualClock,
    token: Arc<()>,
}

impl Clock for Counted {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxSleep {
        let (sleep, token) = (self.clock.sleep_until(deadline), Arc::clone(&self.token));
        Box::pin(async move {
            let _token = token;
            sleep.await;
        })
    }
}

/// A child and a body that were cancelled and waited for what runs inside take the timer of that wait with them: the clock
/// has their wakers, and would keep them.
#[test]
fn a_wait_goes_with_who_has_waited() {
    let (clock, token) = (VirtualClock::new(), Arc::new(()));
    let (exit, scope) = (&Gate::new(), Drawer::new());
    let exit_of = async |exit: &Gate| {
        shield(exit.wait()).await;
        never().await;
    };
    let counted = Counted {
        clock: clock.clone(),
        token: Arc::clone(&token),
    };
    let mut probe = Probe::new(with_clock(
        counted,
        open_nursery(async |n: Nursery<'_, Word>| {
            scope.put(n.cancel_scope());
            n.start_soon(async {
                exit_of(exit).await;
                Ok(())
            });
            exit_of(exit).await;
            Ok(())
        }),
    ));
    probe.waits();
    let before = Arc::strong_count(&token);
    scope.take().cancel("stop");
    probe.waits();
    assert_eq!(Arc::strong_count(&token), before + 2, "both wait");
    exit.open();
    assert!(probe.ends().is_err());
    probe.cut();
    assert_eq!(Arc::strong_count(&token), 1, "somebody keeps a timer");
}

/// The place that asks for it is woken by a child's handle, and drops the nursery: no lock of the child's is held then.
#[test]
fn a_host_that_drops_the_nursery_when_it_is_woken_is_no_deadlock() {
    struct Dropping(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);
    impl Wake for Dropping {
        fn wake(self: Arc<Self>) {
            let nursery = self.0.lock().unwrap().take();
            drop(nursery);
        }
    }
    let handle: Arc<Mutex<Option<ChildHandle<()>>>> = Arc::default();
    let nursery = open_nursery({
        let handle = Arc::clone(&handle);
        async move |n: Nursery<'static, Word>| {
            *handle.lock().unwrap() = Some(n.spawn(async {
                never().await;
                Ok(())
            }));
            Ok(())
        }
    });
    let host = Arc::new(Dropping(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&host));
    let mut nursery: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async {
        drop(nursery.await);
    });
    assert!(
        nursery
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    *host.0.lock().unwrap() = Some(nursery);
    let handle = handle.lock().unwrap().take().expect("the child's");
    handle.cancel("not needed");
    assert!(host.0.lock().unwrap().is_none(), "woken");
    assert!(handle.is_finished());
}

/// Counts how many of its kind there are.
#[derive(Clone, Default)]
struct Alive(Arc<()>);

impl Alive {
    fn n(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Waits twice, and is found whole, aligned and where it was polled first each time.
struct Wide<A> {
    whole: A,
    is_whole: fn(&A) -> bool,
    polled_at: usize,
    polls: usize,
    alive: Alive,
}

impl<A: Unpin> Future for Wide<A> {
    type Output = Result<(), Failure<Word>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let here = std::ptr::from_ref(this).addr();
        assert_eq!(here % align_of::<Self>(), 0, "it is not aligned");
        assert!([0, here].contains(&this.polled_at), "it has moved");
        assert!((this.is_whole)(&this.whole), "somebody has written to it");
        assert!(this.alive.n() > 0);
        this.polled_at = here;
        this.polls += 1;
        if this.polls > 2 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[repr(align(4096))]
struct Page(u8);

#[repr(align(64))]
struct Line([u8; 65]);

/// Children of any size and alignment: started inside and outside, run to the end, dropped under way, dropped before
/// their first poll, and given back.
#[test]
fn children_may_be_of_any_size_and_alignment() {
    fn check<A: Unpin + Send + 'static>(whole: fn() -> A, is_whole: fn(&A) -> bool) {
        let alive = Alive::default();
        let wide = || Wide {
            whole: whole(),
            is_whole,
            polled_at: 0,
            polls: 0,
            alive: alive.clone(),
        };
        for n_polls in [0, 1, 2, 10] {
            let handle = Drawer::new();
            let mut probe = Probe::new(open_nursery(async |n: Nursery<'static, Word>| {
                for _ in 0..5 {
                    n.start_soon(wide());
                }
                handle.put(n.clone());
                Ok(())
            }));
            let _ = probe.poll();
            let handle: Nursery<'static, Word> = handle.take();
            handle.start_soon(wide());
            for _ in 0..n_polls {
                if probe.poll().is_ready() {
                    break;
                }
            }
            probe.cut();
            assert_eq!(alive.n(), 0);
            let refused = handle.try_start_soon(wide()).expect_err("it is closed");
            assert_eq!(alive.n(), 1);
            drop(refused);
            assert_eq!(alive.n(), 0);
        }
    }
    // A megabyte goes over the stack more than once before it is in its place.
    let large_stack = thread::Builder::new().stack_size(64 << 20);
    let checks = large_stack.spawn(|| {
        check(|| (), |_| true);
        check(|| 7_u8, |byte| *byte == 7);
        check(|| Page(7), |page| page.0 == 7);
        check(|| Line([7; 65]), |line| line.0 == [7; 65]);
        check(
            || [7_u8; 1 << 20],
            |bytes| bytes.iter().all(|byte| *byte == 7),
        );
        // Around the largest size that shares an allocation with others.
        check(|| [7_u8; 250], |bytes| *bytes == [7; 250]);
        check(|| [7_u8; 350], |bytes| *bytes == [7; 350]);
        check(|| [7_u8; 400], |bytes| *bytes == [7; 400]);
        check(|| [7_u8; 512], |bytes| *bytes == [7; 512]);
    });
    checks.expect("a thread").join().expect("all checks");
}

/// A child without any state.
#[test]
fn children_may_have_no_size() {
    struct Nothing;
    impl Future for Nothing {
        type Output = Result<(), Failure<Word>>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(Ok(()))
        }
    }
    ends(open_nursery(async |n: Nursery<'_, Word>| {
        for _ in 0..100 {
            n.start_soon(Nothing);
            pause().await;
        }
        Ok(())
    }))
    .unwrap();
}

/// Takes a waker of the child that it is polled in, and waits for ever.
fn wakers_of(wakers: &Arc<Mutex<Vec<Waker>>>, n: usize) -> impl Future<Output = ()> + use<> {
    let wakers = Arc::clone(wakers);
    let mut is_polled = false;
    poll_fn(move |cx| {
        if !std::mem::replace(&mut is_polled, true) {
            let new = std::iter::repeat_with(|| cx.waker().clone());
            wakers.lock().unwrap().extend(new.take(n));
        }
        Poll::<()>::Pending
    })
}

/// Threads clone, wake and drop the wakers of children while these end, their nursery is dropped, and their memory goes.
#[test]
fn the_last_wakers_go_while_the_nursery_does() {
    const THREADS: usize = 2;
    const CHILDREN: usize = 6;
    for round in 0..if cfg!(trionics_sanitize) { 500 } else { 200 } {
        let alive = Alive::default();
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let mut probe = Probe::new(open_nursery(async |n: Nursery<'_, Word>| {
            for _ in 0..CHILDREN {
                let (waits, alive) = (wakers_of(&wakers, THREADS), alive.clone());
                n.start_soon(async move {
                    let _alive = alive;
                    waits.await;
                    Ok(())
                });
            }
            wakers_of(&wakers, THREADS).await;
            Ok(())
        }));
        probe.waits();
        let wakers = std::mem::take(&mut *wakers.lock().unwrap());
        let start = Barrier::new(THREADS + 1);
        thread::scope(|threads| {
            for thread in 0..THREADS {
                let own: Vec<_> = wakers
                    .iter()
                    .skip(thread)
                    .step_by(THREADS)
                    .cloned()
                    .collect();
                let start = &start;
                threads.spawn(move || {
                    start.wait();
                    for (i, waker) in own.into_iter().enumerate() {
                        match (i + thread + round) % 3 {
                            0 => waker.wake(),
                            1 => drop(waker.clone()),
                            _ => waker.wake_by_ref(),
                        }
                    }
                });
            }
            drop(wakers);
            start.wait();
            if round % 2 == 0 {
                let _ = probe.poll();
            }
            probe.cut();
        });
        assert_eq!(alive.n(), 0);
    }
}

/// So many references to one child that the last ones go long after everything else.
#[test]
fn a_child_with_a_million_wakers() {
    let n = if cfg!(trionics_sanitize) {
        100_000
    } else {
        1_000_000
    };
    let (alive, wakers) = (Alive::default(), Arc::default());
    let mut probe = Probe::new(open_nursery(async |nursery: Nursery<'_, Word>| {
        let (waits, alive) = (wakers_of(&wakers, n), alive.clone());
        nursery.start_soon(async move {
            let _alive = alive;
            waits.await;
            Ok(())
        });
        Ok(())
    }));
    probe.waits();
    let mut wakers = std::mem::take(&mut *wakers.lock().unwrap());
    assert_eq!(wakers.len(), n);
    let half = wakers.split_off(n / 2);
    half.into_iter().for_each(Waker::wake);
    assert!(probe.is_woken());
    probe.waits();
    probe.cut();
    assert_eq!(alive.n(), 0);
    wakers.into_iter().for_each(Waker::wake);
}

/// Other threads clone, wake and drop a child's waker at the very moments at which its nursery begins to poll it.
#[test]
fn a_waker_is_used_elsewhere_while_its_child_is_polled() {
    const POLLS: usize = 20_000;
    let (alive, stolen) = (Alive::default(), Drawer::new());
    let mut nursery = Box::pin(open_nursery(async |n: Nursery<'_, Word>| {
        let (alive, stolen) = (alive.clone(), &stolen);
        let mut n_polls = 0;
        n.start_soon(poll_fn(move |cx| {
            let _ = &alive;
            n_polls += 1;
            if n_polls == 1 {
                stolen.put(cx.waker().clone());
                return Poll::Pending;
            }
            if n_polls == POLLS {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        Ok(())
    }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(nursery.as_mut().poll(&mut cx).is_pending());
    let waker = stolen.take();
    waker.wake_by_ref();
    let is_over = AtomicBool::new(false);
    thread::scope(|threads| {
        for wakes in [false, true] {
            let (waker, is_over) = (waker.clone(), &is_over);
            threads.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let clone = waker.clone();
                    if wakes {
                        clone.wake_by_ref();
                    }
                    drop(clone);
                }
            });
        }
        // Not by hand: another thread may be about to put the child into its queue.
        let outcome = block_on(nursery.as_mut());
        is_over.store(true, Ordering::SeqCst);
        outcome.unwrap();
    });
    drop(nursery);
    assert_eq!(alive.n(), 0);
    waker.wake();
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The futures of children use their nursery while they are dropped: they start others, wake themselves and their siblings,
/// drop wakers and handles, and panic. When they end by themselves, are cancelled, and when the nursery is dropped.
#[test]
fn the_drop_of_a_child_calls_back_in() {
    for how in ["by itself", "cancelled", "dropped", "dropped at once"] {
        let (alive, wakers) = (Alive::default(), Arc::default());
        let (stop, scope) = (Gate::new(), Drawer::new());
        let starts = Arc::new(AtomicUsize::new(0));
        let mut probe = Probe::new(open_local_nursery(async |n: LocalNursery<'_, Word>| {
            scope.put(n.cancel_scope());
            for i in 0..20 {
                let (n, alive, waits) = (n.clone(), alive.clone(), wakers_of(&wakers, 2));
                let (stop, wakers, starts) =
                    (stop.wait(), Arc::clone(&wakers), Arc::clone(&starts));
                let own = Drawer::new();
                let held = own.clone();
                let child = n.clone().spawn(async move {
                    let _alive = alive.clone();
                    let _on_drop = OnDrop(move || {
                        let kept = wakers.lock().unwrap().pop();
                        drop(kept.inspect(Waker::wake_by_ref));
                        for waker in wakers.lock().unwrap().clone() {
                            waker.wake();
                        }
                        let (counted, count) = (alive.clone(), Arc::clone(&starts));
                        let started = n.try_start_soon(async move {
                            let _alive = counted;
                            count.fetch_add(1, Ordering::SeqCst);
                            pause().await;
                            Ok(())
                        });
                        drop(started);
                        drop(held.take());
                        if i % 5 == 3 && !thread::panicking() {
                            panic!("in a drop");
                        }
                    });
                    futures::future::select(stop, std::pin::pin!(waits)).await;
                    Ok(())
                });
                own.put(child);
            }
            never().await;
            Ok(())
        }));
        if how != "dropped at once" {
            probe.waits();
        } else {
            let _ = probe.poll();
        }
        match how {
            "by itself" => {
                stop.open();
                assert_eq!(probe.panics(), "in a drop");
                assert_eq!(starts.load(Ordering::SeqCst), 20);
            }
            "cancelled" => {
                scope.take().cancel("stop");
                assert_eq!(probe.panics(), "in a drop");
            }
            _ => assert_eq!(panic_of(|| probe.cut()), "in a drop"),
        }
        probe.cut();
        assert_eq!(alive.n(), 0, "{how}");
        let late = std::mem::take(&mut *wakers.lock().unwrap());
        late.into_iter().for_each(Waker::wake);
    }
}
