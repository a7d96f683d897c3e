//! What the tests of several crates are made of: polls that are made by hand, gates, notes of what happened in which order,
//! and collected reports.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::len_without_is_empty,
    reason = "tests are its only users"
)]

use std::{
    any::Any,
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    mem,
    panic::{self, AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use trionics_nursery::{Cancelled, Failure, Report, Settings};

/// The failures of most tests: a word that can be compared.
pub type Word = &'static str;

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// The wakes since the last call.
    pub fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task that is polled by hand.
pub struct Probe<'a, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
    wakes: Arc<Wakes>,
    waker: Waker,
    n_polls: usize,
}

impl<'a, T> Probe<'a, T> {
    pub fn new(future: impl Future<Output = T> + 'a) -> Self {
        let (wakes, waker) = Wakes::new();
        Self {
            future: Some(Box::pin(future)),
            wakes,
            waker,
            n_polls: 0,
        }
    }

    /// Polls once, woken or not. Wakes are counted from the beginning of this poll.
    #[track_caller]
    pub fn poll(&mut self) -> Poll<T> {
        self.wakes.take();
        self.n_polls += 1;
        self.future
            .as_mut()
            .expect("the probe has its future")
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker))
    }

    /// Polls with another task's waker.
    pub fn poll_with(&mut self, waker: &Waker) -> Poll<T> {
        self.future
            .as_mut()
            .expect("the probe has its future")
            .as_mut()
            .poll(&mut Context::from_waker(waker))
    }

    /// How often it was woken since the last poll began.
    pub fn n_wakes(&self) -> usize {
        self.wakes.count()
    }

    pub fn is_woken(&self) -> bool {
        self.n_wakes() > 0
    }

    pub fn n_polls(&self) -> usize {
        self.n_polls
    }

    /// Does as an executor does: polls at first, and then for as long as it is woken.
    #[track_caller]
    pub fn settle(&mut self) -> Poll<T> {
        let limit = self.n_polls + 1_000_000;
        while self.n_polls == 0 || self.is_woken() {
            if let Poll::Ready(value) = self.poll() {
                return Poll::Ready(value);
            }
            assert!(self.n_polls < limit, "it wakes itself for ever");
        }
        Poll::Pending
    }

    /// Runs as an executor does; it has to wait for something.
    #[track_caller]
    pub fn waits(&mut self) {
        assert!(self.settle().is_pending(), "it has ended");
    }

    /// Runs as an executor does; it has to come to its end.
    #[track_caller]
    pub fn ends(&mut self) -> T {
        match self.settle() {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits, and nobody has woken it"),
        }
    }

    /// Runs as an executor does; it has to panic. Gives the payload's text.
    #[track_caller]
    pub fn panics(&mut self) -> String {
        match catch_unwind(AssertUnwindSafe(|| self.settle().is_ready())) {
            Err(payload) => text(&*payload),
            Ok(ready) => panic!("it does not panic; it has ended: {ready}"),
        }
    }

    /// Drops the future from outside.
    pub fn cut(&mut self) {
        self.future = None;
    }
}

/// Runs `future` to its end as an executor does, without a clock.
#[track_caller]
pub fn ends<T>(future: impl Future<Output = T>) -> T {
    Probe::new(future).ends()
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

/// The text of the panic of `f`.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Err(payload) => text(&*payload),
        Ok(_) => panic!("it does not panic"),
    }
}

thread_local! {
    static PANICKED_AT: Cell<Option<(String, u32)>> = const { Cell::new(None) };
}

/// The text of the panic of `f`, and the file and line that it blames.
#[track_caller]
pub fn panic_and_place<R>(f: impl FnOnce() -> R) -> (String, (String, u32)) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(location) = info.location() {
                PANICKED_AT.set(Some((location.file().to_owned(), location.line())));
            }
            before(info);
        }));
    });
    let text = panic_of(f);
    (text, PANICKED_AT.take().expect("the hook was called"))
}

/// Asserts that `f` panics with the caller's line, which is in `file` from `line` on, and that the text names the way out.
#[track_caller]
pub fn blames<R>((file, line): (&str, u32), way_out: &str, f: impl FnOnce() -> R) {
    let (text, (found, at)) = panic_and_place(f);
    assert_eq!(found, file, "{text}");
    assert!((line..line + 4).contains(&at), "{at} is not {line}: {text}");
    assert!(text.contains(way_out), "{text}");
}

/// Asserts that a panic's text names a place, which is in `file` from `line` on, and the way out.
#[track_caller]
pub fn names((file, line): (&str, u32), way_out: &str, text: &str) {
    let is_named = (line..line + 4).any(|line| text.contains(&format!("{file}:{line}:")));
    assert!(is_named, "{file}:{line} is not in: {text}");
    assert!(text.contains(way_out), "{text}");
}

/// Runs `future` to its end, polls it once more, and gives the text of that panic.
#[track_caller]
pub fn polled_on<T>(future: impl Future<Output = T>) -> String {
    let mut probe = Probe::new(future);
    let _output = probe.ends();
    panic_of(|| probe.poll())
}

/// What the panic of a future that is polled on says to do.
pub const RETURNS_ONCE: &str = "leave it out of the `select!` or the loop";

/// The place where this is written, for [`blames`] and [`names`].
#[macro_export]
macro_rules! here {
    () => {
        (file!(), line!())
    };
}

/// An await that never ends and wakes nobody.
pub async fn never() {
    std::future::pending::<()>().await;
}

/// An await that is pending once, made without the crate under test.
pub async fn pause() {
    let mut has_paused = false;
    std::future::poll_fn(|cx| {
        if mem::replace(&mut has_paused, true) {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Polls `future` once, and gives up on it for now.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

/// Opens once, for everybody who waits and for everybody who comes later.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    n_waits: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.is_open = true;
            mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + Unpin + use<> {
        let gate = self.clone();
        let mut id = None;
        std::future::poll_fn(move |cx| {
            let waker = cx.waker().clone();
            let mut state = gate.0.lock().unwrap();
            if state.is_open {
                return Poll::Ready(());
            }
            let id = *id.get_or_insert_with(|| {
                state.n_waits += 1;
                state.n_waits
            });
            let replaced = state.wakers.insert(id, waker);
            drop(state);
            drop(replaced);
            Poll::Pending
        })
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    /// The notes since the last call.
    pub fn take(&self) -> Vec<String> {
        mem::take(&mut self.0.lock().unwrap())
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Adds a note when it is dropped.
    #[must_use]
    pub fn on_drop(&self, note: &str) -> impl Send + Sync + use<> {
        let notes = self.clone();
        let note = note.to_owned();
        OnDrop::new(move || notes.add(note))
    }
}

/// Runs something when it is dropped.
pub struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    #[must_use]
    pub fn new(f: F) -> Self {
        Self(Some(f))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// What the report hook heard.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    pub fn new() -> Self {
        Self::default()
    }

    /// Settings under which reports come here.
    pub fn settings(&self) -> Settings {
        let reports = self.clone();
        Settings::new().on_report(move |report| reports.0.lock().unwrap().push(report.clone()))
    }

    /// The reports since the last call.
    pub fn take(&self) -> Vec<Report> {
        mem::take(&mut self.0.lock().unwrap())
    }
}

/// The errors in a tree, in order.
pub fn errors<E: Copy>(failure: &Failure<E>) -> Vec<E> {
    failure.errors().copied().collect()
}

/// The `Cancelled` of a failure that is a group of just that.
#[track_caller]
pub fn lone_cancelled<E: std::fmt::Debug>(failure: &Failure<E>) -> &Cancelled {
    let leaves: Vec<_> = failure.leaves().collect();
    assert!(failure.is_group(), "{failure:?} is no group");
    assert_eq!(leaves.len(), 1, "{failure:?} has more than one leaf");
    leaves[0].as_cancelled().expect("a `Cancelled`")
}

/// A place for something that is made inside a future and wanted outside.
#[derive(Debug)]
pub struct Drawer<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Drawer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Drawer<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Drawer<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&self, value: T) {
        *self.0.lock().unwrap() = Some(value);
    }

    #[track_caller]
    pub fn take(&self) -> T {
        self.0.lock().unwrap().take().expect("something was put in")
    }
}
