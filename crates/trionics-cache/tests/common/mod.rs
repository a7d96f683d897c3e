//! Resources that take their time on the virtual clock, users that hold them, and notes of what happened.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    any::Any,
    future::Future,
    mem,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{CancelScope, Nursery, open_nursery, sleep, testing};

/// Keys and failures: words that can be compared.
pub type Word = &'static str;

/// The cache of most tests. The value is the number of the set-up, from 1 on.
pub type Cache = ContextCache<Word, usize, Word>;

/// What happened, in order, and how many set-ups there were.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    n_set_ups: Arc<AtomicUsize>,
}

impl Notes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&self, note: impl Into<String>) {
        self.lines.lock().unwrap().push(note.into());
    }

    /// The notes since the last call.
    pub fn take(&self) -> Vec<String> {
        mem::take(&mut self.lines.lock().unwrap())
    }

    /// How many set-ups have begun.
    pub fn n_set_ups(&self) -> usize {
        self.n_set_ups.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Fine,
    Fails(Word),
    FailsTwice(Word, Word),
    Panics(Word),
}

impl Outcome {
    fn happen(self) -> Result<(), Failure<Word>> {
        match self {
            Self::Fine => Ok(()),
            Self::Fails(word) => Err(Failure::leaf(word)),
            Self::FailsTwice(one, two) => {
                let failures = [one, two].map(Failure::leaf);
                Err(Failure::group("two of them", failures).unwrap())
            }
            Self::Panics(word) => std::panic::panic_any(word),
        }
    }
}

/// What a key's context is to do.
#[derive(Clone, Debug)]
pub struct Resource {
    name: Word,
    notes: Notes,
    set_up_takes: u64,
    exit_takes: u64,
    set_up: Outcome,
    exit: Outcome,
    makes: Outcome,
}

impl Resource {
    pub fn new(name: Word, notes: &Notes) -> Self {
        Self {
            name,
            notes: notes.clone(),
            set_up_takes: 1,
            exit_takes: 1,
            set_up: Outcome::Fine,
            exit: Outcome::Fine,
            makes: Outcome::Fine,
        }
    }

    pub fn set_up_takes(self, seconds: u64) -> Self {
        Self {
            set_up_takes: seconds,
            ..self
        }
    }

    pub fn exit_takes(self, seconds: u64) -> Self {
        Self {
            exit_takes: seconds,
            ..self
        }
    }

    pub fn set_up_fails(self, word: Word) -> Self {
        Self {
            set_up: Outcome::Fails(word),
            ..self
        }
    }

    pub fn exit_fails(self, word: Word) -> Self {
        Self {
            exit: Outcome::Fails(word),
            ..self
        }
    }

    pub fn exit_fails_twice(self, one: Word, two: Word) -> Self {
        Self {
            exit: Outcome::FailsTwice(one, two),
            ..self
        }
    }

    pub fn make_panics(self, word: Word) -> Self {
        Self {
            makes: Outcome::Panics(word),
            ..self
        }
    }

    pub fn set_up_panics(self, word: Word) -> Self {
        Self {
            set_up: Outcome::Panics(word),
            ..self
        }
    }

    pub fn exit_panics(self, word: Word) -> Self {
        Self {
            exit: Outcome::Panics(word),
            ..self
        }
    }

    pub fn context(self) -> impl AsyncContext<Value = usize, Error = Word, Run: Send + 'static> {
        self.makes.happen().unwrap();
        acm(move |slot: Slot<usize>| async move {
            let (name, notes) = (self.name, &self.notes);
            let number = notes.n_set_ups.fetch_add(1, Ordering::SeqCst) + 1;
            notes.add(format!("{name} sets up"));
            let unwound = NoteOnDrop(Some((notes.clone(), format!("{name} unwinds"))));
            seconds(self.set_up_takes).await;
            unwound.defuse();
            self.set_up.happen()?;
            let end = slot.provide(number).await;
            notes.add(format!("{name} exits: {end:?}"));
            let dropped = NoteOnDrop(Some((notes.clone(), format!("{name} is cut"))));
            seconds(self.exit_takes).await;
            dropped.defuse();
            notes.add(format!("{name} is gone"));
            self.exit.happen()
        })
    }
}

/// Adds a note when it is dropped before it is defused.
pub struct NoteOnDrop(pub Option<(Notes, String)>);

impl NoteOnDrop {
    pub fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for NoteOnDrop {
    fn drop(&mut self) {
        if let Some((notes, note)) = self.0.take() {
            notes.add(note);
        }
    }
}

/// What a user saw, in seconds of the virtual clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub hit: bool,
    pub value: usize,
    pub entered: u64,
    /// When it got control back.
    pub returned: u64,
}

/// An await of so many seconds.
pub async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

/// The virtual time.
pub fn now() -> u64 {
    testing::elapsed().as_secs()
}

/// Comes after `wait` seconds and uses `key` for `hold` seconds.
pub async fn user(
    cache: &Cache,
    key: Word,
    resource: Resource,
    wait: u64,
    hold: u64,
) -> Result<Seen, Failure<Word>> {
    seconds(wait).await;
    let mut seen = maybe_open_context(
        cache,
        key,
        move || resource.context(),
        async move |hit, value| {
            let entered = now();
            seconds(hold).await;
            Ok(Seen {
                hit,
                value: *value,
                entered,
                returned: 0,
            })
        },
    )
    .await?;
    seen.returned = now();
    Ok(seen)
}

/// Runs `body` beside the service of `cache`, on the virtual clock, and checks that nothing is left.
#[track_caller]
pub fn served<R>(cache: &Cache, body: impl Future<Output = R>) -> R {
    testing::run(async {
        let result = open_nursery(async |n: Nursery<'_, Word>| {
            n.start_soon(cache.serve());
            let result = body.await;
            cache.close();
            Ok(result)
        })
        .await;
        assert!(cache.is_empty(), "{cache:?}");
        result.expect("the service ends without a failure")
    })
}

/// Runs `future` in a scope that is cancelled after `n` seconds; `None` if it was stopped.
pub async fn cancelled_after<T>(n: u64, future: impl Future<Output = T>) -> Option<T> {
    let scope = CancelScope::new();
    let mut run = std::pin::pin!(scope.run(future));
    let mut timer = std::pin::pin!(seconds(n).fuse());
    std::future::poll_fn(|cx| {
        if timer.as_mut().poll(cx).is_ready() {
            scope.cancel("out of time");
        }
        run.as_mut().poll(cx)
    })
    .await
    .ok()
}

/// Drops `future` after `n` seconds, as a foreign `select!` or `timeout` does.
pub async fn dropped_after<T>(n: u64, future: impl Future<Output = T>) -> Option<T> {
    let timer = std::pin::pin!(seconds(n));
    let future = std::pin::pin!(future);
    match futures::future::select(future, timer).await {
        futures::future::Either::Left((value, _)) => Some(value),
        futures::future::Either::Right(_) => None,
    }
}

/// The text of the panic of `future`, or what it gave.
pub async fn panic_of<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|payload| text(&*payload))
}

/// The text of a panic's payload.
pub fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no text".to_owned()
    }
}

/// The errors in a tree, in order.
pub fn errors(failure: &Failure<Word>) -> Vec<Word> {
    failure.errors().copied().collect()
}
