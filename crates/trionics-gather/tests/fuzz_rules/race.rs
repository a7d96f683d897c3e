//! Cancels a scope from another thread at the very moment when it is polled.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use trionics_nursery::{CancelScope, shield};

use crate::random::Random;

#[derive(Default)]
struct Flag {
    is_woken: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
    }
}

fn spin(n_turns: usize) {
    for _ in 0..n_turns {
        std::hint::spin_loop();
    }
}

/// So many times: polls a scope, unasked, while another thread cancels it, and then only if woken.
pub(crate) fn cancel_while_polled(n_rounds: usize) {
    let (n_begun, n_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|threads| {
        let (sender, receiver) = sync_channel::<(CancelScope, usize)>(1);
        let (n_begun, n_done) = (&n_begun, &n_done);
        threads.spawn(move || {
            for (scope, delay) in receiver {
                n_begun.fetch_add(1, Ordering::SeqCst);
                spin(delay);
                scope.cancel("at this very moment");
                n_done.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut random = Random::new(0);
        for round in 0..n_rounds {
            let scope = CancelScope::new();
            let n_inner_polls = 1 + random.below(3);
            let mut left = n_inner_polls;
            // Every other time there is a live frame inside, whose end the scope must hear of.
            let is_shielded = random.chance(50);
            let inner = async {
                if is_shielded {
                    shield(poll_fn(|_| {
                        left = left.saturating_sub(1);
                        if left == 0 {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    }))
                    .await;
                }
                std::future::pending::<()>().await;
            };
            let mut run = pin!(scope.run(inner));
            let mut poll = || {
                let flag = Arc::new(Flag::default());
                let waker = Waker::from(Arc::clone(&flag));
                let polled = run.as_mut().poll(&mut Context::from_waker(&waker));
                (polled.is_ready(), flag)
            };
            sender
                .send((scope.clone(), random.below(200)))
                .expect("the other thread waits");
            let mut last = poll();
            while n_begun.load(Ordering::SeqCst) <= round && !last.0 {
                last = poll();
            }
            // From here on it is close.
            for _ in 0..n_inner_polls + random.below(4) {
                if last.0 {
                    break;
                }
                last = poll();
            }
            while n_done.load(Ordering::SeqCst) <= round {
                thread::yield_now();
            }
            while !last.0 {
                assert!(
                    last.1.is_woken.load(Ordering::SeqCst),
                    "round {round}: the scope was cancelled, and nobody was woken"
                );
                last = poll();
            }
        }
    });
}
