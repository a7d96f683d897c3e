//! Where a child lives: one allocation for what its wakers need and for its future.
//!
//! This module and those inside it hold the crate's only unsafe code. What they offer is safe to use. These are the
//! invariants, cited by number:
//!
//! 1. *Counted.* The allocation is freed when its last reference goes, and not before. References are: each
//!    [`Member`], each waker, the set's hold on a member that sits in it, and a queue's hold on one that
//!    no longer does. Freeing never touches the future.
//! 2. *One owner.* The future, and the fields of [`Owned`], belong to one place at a time: the [`NewChild`]
//!    or [`Child`] that holds the allocation, or the [`Crew`] in which it sits. Ownership moves by value,
//!    or through the ready stack, whose push releases and whose take acquires.
//! 3. *The right type.* A crew of `C` is given only children that fit `C`: its own queue is made with
//!    it, and whoever hands a child in shows that it fits. A child is handed in only where its queue is.
//! 4. *Pinned.* Once it is a `Child` or sits in a crew, a future is not moved until it is dropped.
//! 5. *Queued once.* [`Owned::next`] belongs to whoever set [`QUEUED`], and through the stack to the crew.
//!    The bit is set while a member is in a queue, being put into one, or outside the crew; only the
//!    crew clears it, when it polls a member that sits in it.
//! 6. *Alone means still.* The owner of a member whose count is one is the only one to touch its word:
//!    whoever puts a member into a queue holds a reference until it is there.
//! 7. *Closed last.* A queue closes when nothing sits in its crew any more. Whoever is about to put a
//!    member into it then finds it closed, and lets go of the queue's hold, which the crew has left.
//! 8. *Inside is one thread.* What [`Ready`] keeps without a lock belongs to the thread that polls the nursery.
//! 9. *The queue is there.* A member's queue is used by those who have it anyway: the crew, a door, and code
//!    that the crew runs. Others use it only when they have set `QUEUED` of a member that sits in the crew, until it is in the
//!    queue, or hold its `over` and find it unset. A member that is removed with `QUEUED` set, or waits outside to be
//!    handed in, counts as an owner of the queue until it is freed ([`KEEPS_QUEUE`]); and what was removed, a [`Removed`],
//!    borrows the crew until it is dropped, which sets `over`.
//! 10. *One taker.* The host's waker in [`Ready`] belongs to the poll of the nursery while that is awake. Whoever turns
//!     asleep into claimed owns it until the claim is cleared, by the very push or nudge for which it was claimed.
//! 11. *Shared.* A child that runs elsewhere has no future: in its place the crew owns the nursery's part in what is shared
//!     ([`Elsewhere`]), which is let go of once. What is shared is of the type that its [`Share`]s say, is never touched but
//!     through shared references, and is dropped with the last reference to the member.
#![allow(
    unsafe_code,
    reason = "one allocation for a child, its wakers and its place in queues"
)]

use std::{
    alloc::Layout,
    cell::UnsafeCell,
    future::Future,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    ops::Deref,
    panic::Location,
    pin::Pin,
    process::abort,
    ptr::{self, NonNull},
    sync::{Arc, OnceLock},
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

use super::{
    member::{Cold, Queue},
    remote::Remote,
};
use crate::{
    current::{self, Current},
    frame::Wait,
    node::Node,
    scope::Name,
    sync::{AtomicUsize, Ordering, fence, lock},
    wake::wake_outside,
};

mod arena;
mod crew;
mod exclusive;
mod placed;
mod ready;

use self::{arena::Place, placed::Shares};
pub(crate) use self::{
    crew::{Crew, Door, Removed, Running, Seat, ToDo, Turn},
    placed::{AwayMember, CurrentAway, Elsewhere, Part, Share},
    ready::Ready,
};

/// The member is in a queue, on its way into one, or outside the crew (invariant 5).
const QUEUED: usize = 1 << 0;
/// It is the body of its nursery.
const BODY: usize = 1 << 1;
/// The member is one of the owners of its queue (invariant 9).
const KEEPS_QUEUE: usize = 1 << 2;
/// It has provided a value to the block that its nursery's body runs, and waits for the end of that.
const GUEST: usize = 1 << 3;
/// It runs the exit of a context: no cancellation reaches it any more.
const EXITING: usize = 1 << 4;
/// It has provided, and the exit of its context is not over.
const OWES_EXIT: usize = 1 << 5;
/// What the nursery polls is the wait for the end of something that runs elsewhere, which nothing cuts short.
const ELSEWHERE: usize = 1 << 6;
/// What runs elsewhere was stopped there.
const STOPPED: usize = 1 << 7;
/// What runs elsewhere need not be polled before it has ended.
const RESTS: usize = 1 << 8;
/// What runs elsewhere has ended, …
const ENDED: usize = 1 << 9;
/// … and well: there is nothing to hear of it.
const WELL: usize = 1 << 10;
/// One reference.
const ONE: usize = 1 << 11;

/// What the allocations of children begin with; the body's is a part of the queue.
///
/// Aligned so that three bits have room beside a pointer to one, wherever it is: where pointers have 4 bytes, too.
#[repr(align(8))]
pub(super) struct Header {
    vtable: &'static Vtable,
    /// The number of references, in units of [`ONE`], and the flags above.
    word: AtomicUsize,
    queue: NonNull<Queue>,
    location: &'static Location<'static>,
    /// What few children have: a name, a node. `None` inside: too late to get one.
    cold: OnceLock<Option<Box<Cold>>>,
    owned: UnsafeCell<Owned>,
    /// In a model an allocation of its own stays, and whoever comes to it after its end is found.
    #[cfg(trionics_shuttle)]
    is_freed: std::sync::atomic::AtomicBool,
}

/// The fields that belong to the owner (invariant 2), apart from `next` (invariant 5).
struct Owned {
    /// The next one in the queue.
    next: Option<NonNull<Header>>,
    /// The neighbors in the crew.
    older: Option<NonNull<Header>>,
    younger: Option<NonNull<Header>>,
    /// The poll of the nursery in which it was polled last; 0 before the first.
    round: u32,
    /// How far it is behind the beginning of its chunk; 0 if it has an allocation of its own. Never changed.
    units: u16,
    where_it_is: Whereabouts,
    /// The future has not been dropped or moved out.
    has_future: bool,
}

/// Where a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// It is a [`Child`], has ended, or is in the nursery's own list of those to be taken in.
    Elsewhere,
    /// It is in the stack to be taken in.
    New,
    /// It sits in the crew.
    Seated,
}

impl Whereabouts {
    /// Asked of the field alone: a reference to all of [`Owned`] would claim `next`, which may be somebody else's (invariant 5).
    fn is_seated(self) -> bool {
        self == Self::Seated
    }
}

/// What depends on the type of the future.
struct Vtable {
    /// Polls the future; writes the `Poll` of its output to the last argument.
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>, *mut ()),
    drop_future: unsafe fn(NonNull<Header>),
    /// Drops what is in the allocation, where no future is any more, before its place is used again.
    drop_in_place: unsafe fn(NonNull<Header>),
    /// Frees the allocation, where no future is any more.
    free: unsafe fn(NonNull<Header>),
    /// A child that runs elsewhere as those who run it know it.
    remote: unsafe fn(NonNull<Header>) -> NonNull<dyn Remote>,
}

/// The allocation. The header comes first, so that a pointer to one is a pointer to the other.
#[repr(C)]
struct Allocation<F> {
    header: Header,
    future: MaybeUninit<F>,
}

impl<F> Allocation<F> {
    /// # Safety
    ///
    /// `header` begins an `Allocation<F>`.
    unsafe fn future(header: NonNull<Header>) -> *mut F {
        // SAFETY: the caller's; the pointer is to the whole allocation.
        unsafe { (&raw mut (*header.cast::<Self>().as_ptr()).future).cast() }
    }

    unsafe fn drop_future(header: NonNull<Header>) {
        // SAFETY: the caller owns the future (invariant 2), which is there.
        unsafe { Self::future(header).drop_in_place() }
    }
}

/// Drops what is in an allocation of type `A`, where no future is any more.
///
/// # Safety
///
/// `header` begins an `A`, the last reference has gone (invariant 1), and nobody else looks at it.
unsafe fn drop_in_place<A>(header: NonNull<Header>) {
    // SAFETY: the caller's.
    unsafe { header.cast::<A>().drop_in_place() };
}

/// Frees an allocation of type `A`, where no future is any more.
///
/// # Safety
///
/// As for [`drop_in_place`]; it came from a box of an `A`, or a place for one.
unsafe fn free<A>(header: NonNull<Header>) {
    /// The place goes, also when dropping what is in it panics.
    struct Gone(NonNull<Header>, u16);
    impl Drop for Gone {
        fn drop(&mut self) {
            // SAFETY: it was a place, and is not used any more.
            unsafe { arena::let_go(self.0, self.1) };
        }
    }
    // SAFETY: the caller's.
    let queue = unsafe { keeper(header) };
    // SAFETY: the caller's.
    match unsafe { (*header.as_ref().owned.get()).units } {
        #[cfg(trionics_shuttle)]
        // SAFETY: the caller's; the memory stays.
        0 => unsafe {
            header.as_ref().set_freed();
            drop_in_place::<A>(header);
        },
        #[cfg(not(trionics_shuttle))]
        // SAFETY: it came from a box of this type.
        0 => drop(unsafe { Box::from_raw(header.cast::<A>().as_ptr()) }),
        // SAFETY: it came from a place.
        units => unsafe {
            let _gone = Gone(header, units);
            drop_in_place::<A>(header);
        },
    }
    drop(queue);
}

impl<F: Future> Allocation<F> {
    const VTABLE: &'static Vtable = &Vtable {
        poll: Self::poll,
        drop_future: Self::drop_future,
        drop_in_place: drop_in_place::<Self>,
        free: free::<Self>,
        remote: |_| unreachable!("the nursery polls it"),
    };

    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>, out: *mut ()) {
        // SAFETY: the caller owns the future (invariant 2), which stays where it is (invariant 4), and
        // gives room for a `Poll` of its output (invariant 3).
        unsafe {
            let future = Pin::new_unchecked(&mut *Self::future(header));
            out.cast::<Poll<F::Output>>().write(future.poll(cx));
        }
    }
}

/// The body's future is elsewhere, and its header is in the queue.
const BODY_VTABLE: &Vtable = &Vtable {
    poll: |_, _, _| unreachable!("the body is polled by its nursery"),
    drop_future: |_| unreachable!("the body is dropped by its nursery"),
    drop_in_place: |_| unreachable!("the body is a part of its queue"),
    free: free_body,
    remote: |_| unreachable!("the nursery polls it"),
};

unsafe fn free_body(header: NonNull<Header>) {
    // SAFETY: the last reference to the body has gone, and with it what they all held of the queue.
    drop(unsafe { Arc::from_raw(header.as_ref().queue.as_ptr()) });
}

impl Header {
    #[inline]
    fn new(
        vtable: &'static Vtable,
        flags: usize,
        queue: NonNull<Queue>,
        name: Option<Name>,
        location: &'static Location<'static>,
        units: u16,
    ) -> Self {
        Self {
            vtable,
            word: AtomicUsize::new(ONE | QUEUED | flags),
            queue,
            location,
            cold: match name {
                None => OnceLock::new(),
                Some(name) => OnceLock::from(Some(Cold::named(name))),
            },
            owned: UnsafeCell::new(Owned {
                next: None,
                older: None,
                younger: None,
                round: 0,
                units,
                where_it_is: Whereabouts::Elsewhere,
                has_future: false,
            }),
            #[cfg(trionics_shuttle)]
            is_freed: false.into(),
        }
    }

    #[cfg(trionics_shuttle)]
    fn set_freed(&self) {
        let was_freed = self.is_freed.swap(true, Ordering::SeqCst);
        assert!(!was_freed, "a member is freed twice");
    }

    pub(super) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The header of a nursery's body, to be put into its queue.
    pub(super) fn of_body(name: Option<Name>, location: &'static Location<'static>) -> Self {
        Self::new(BODY_VTABLE, BODY, NonNull::dangling(), name, location, 0)
    }
}

// SAFETY: what is neither atomic, locked nor constant is touched by one thread at a time (invariants 2 and 5).
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

/// Makes a member one of the owners of its queue (invariant 9).
///
/// # Safety
///
/// The caller owns the member, and knows that the queue is there.
unsafe fn keep_queue(member: NonNull<Header>) {
    // SAFETY: the caller's.
    let header = unsafe { member.as_ref() };
    // The body's references hold the queue as it is.
    let before = header.word.fetch_or(KEEPS_QUEUE, Ordering::AcqRel);
    if before & (KEEPS_QUEUE | BODY) == 0 {
        // SAFETY: the caller's.
        unsafe { Arc::increment_strong_count(header.queue.as_ptr()) };
    }
}

/// What a member holds of its queue, if it is one of the owners; to be dropped after the member.
///
/// # Safety
///
/// The last reference to the member has gone.
unsafe fn keeper(member: NonNull<Header>) -> Option<Arc<Queue>> {
    // SAFETY: the caller's.
    let header = unsafe { member.as_ref() };
    let keeps = header.word.load(Ordering::Relaxed) & KEEPS_QUEUE != 0;
    // SAFETY: `keep_queue` has given this away.
    keeps.then(|| unsafe { Arc::from_raw(header.queue.as_ptr()) })
}

/// Whoever uses the queue finds it there (invariant 9). A model keeps one reference to it, which is not to be the last one.
///
/// # Safety
///
/// The member is there.
#[cfg(trionics_shuttle)]
unsafe fn assert_queue_is_there(member: NonNull<Header>) {
    // SAFETY: the model keeps the queue; the copy is not dropped.
    let queue = unsafe { ManuallyDrop::new(Arc::from_raw(member.as_ref().queue.as_ptr())) };
    assert!(Arc::strong_count(&queue) > 1, "the queue has gone");
}

/// A child of a nursery, or its body, as the outside sees it; a clone is the same member.
#[repr(transparent)]
pub(crate) struct Member {
    header: NonNull<Header>,
}

// SAFETY: through a member, only what is atomic, locked or never changed is touched: nothing of `Owned`, and not
// the future.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl Member {
    /// The body of a nursery, in its new queue.
    fn body(queue: &mut Arc<Queue>) -> Self {
        let itself = NonNull::new(Arc::as_ptr(queue).cast_mut()).expect("not null");
        Arc::get_mut(queue).expect("a new queue").body.queue = itself;
        // What all references to the body hold together.
        let kept = Arc::into_raw(Arc::clone(queue));
        // SAFETY: the pointer is to the whole queue, which is there as long as the body is.
        let header = unsafe { &raw const (*kept).body };
        Self {
            header: NonNull::new(header.cast_mut()).expect("not null"),
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: it is there as long as this reference (invariant 1).
        let header = unsafe { self.header.as_ref() };
        #[cfg(trionics_shuttle)]
        assert!(
            !header.is_freed.load(Ordering::SeqCst),
            "a member is used after its end"
        );
        header
    }

    /// Whoever uses what lies behind the header finds it there: in a model, that is.
    #[inline]
    fn assert_is_there(&self) {
        let _ = self.header();
    }

    /// The pointer to the fields that belong to the owner.
    #[inline]
    fn owned(&self) -> *mut Owned {
        self.header().owned.get()
    }

    /// The queue, for those who know that it is there (invariant 9).
    #[inline]
    fn queue(&self) -> &Queue {
        // SAFETY: the caller's.
        unsafe {
            #[cfg(trionics_shuttle)]
            assert_queue_is_there(self.header);
            self.header().queue.as_ref()
        }
    }

    /// Runs `f` with what few members have and the nursery's node, unless the member is over, which it does not
    /// become meanwhile.
    pub(super) fn unless_over<R>(&self, f: impl FnOnce(&Cold, &Arc<Node>) -> R) -> Option<R> {
        let cold = self.cold_or_new()?;
        let over = lock(&cold.over);
        if *over {
            return None;
        }
        // The queue is there (invariant 9).
        if let Some(nursery) = self.queue().known_nursery() {
            return Some(f(cold, nursery));
        }
        // SAFETY: as above.
        let queue = unsafe {
            let queue = self.header().queue.as_ptr();
            Arc::increment_strong_count(queue);
            Arc::from_raw(queue)
        };
        drop(over);
        // Whoever makes it may wake the nursery's host: under no lock.
        let nursery = queue.nursery();
        let over = lock(&cold.over);
        (!*over).then(|| f(cold, nursery))
    }

    fn is_of(&self, queue: &Arc<Queue>) -> bool {
        ptr::eq(self.header().queue.as_ptr(), Arc::as_ptr(queue))
    }

    #[inline]
    pub(super) fn cold(&self) -> &OnceLock<Option<Box<Cold>>> {
        &self.header().cold
    }

    #[inline]
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.header().location
    }

    pub(crate) fn is_body(&self) -> bool {
        self.header().word.load(Ordering::Relaxed) & BODY != 0
    }

    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.header().word.load(Ordering::Acquire) & QUEUED != 0
    }

    /// Nobody else holds the member: no waker, no handle, no queue.
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        self.header().word.load(Ordering::Acquire) / ONE == 1
    }

    /// The member is a context that waits for its nursery's block to end.
    #[inline]
    pub(crate) fn is_guest(&self) -> bool {
        self.header().word.load(Ordering::Acquire) & GUEST != 0
    }

    /// The member runs the exit of a context.
    #[inline]
    pub(crate) fn is_exiting(&self) -> bool {
        self.header().word.load(Ordering::Acquire) & EXITING != 0
    }

    /// The member has provided a value, and its exit is not over.
    #[inline]
    pub(crate) fn owes_exit(&self) -> bool {
        self.header().word.load(Ordering::Acquire) & OWES_EXIT != 0
    }

    /// No cancellation stops the member: its block comes first, it runs an exit, or it runs elsewhere.
    #[inline]
    pub(crate) fn is_spared(&self) -> bool {
        self.header().word.load(Ordering::Acquire) & (GUEST | EXITING | ELSEWHERE) != 0
    }

    /// What the nursery polls is the wait for something that runs elsewhere.
    #[inline]
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.header().word.load(Ordering::Relaxed) & ELSEWHERE != 0
    }

    /// From now on what the nursery polls is a wait for what runs elsewhere; before anybody else sees the member.
    pub(crate) fn set_elsewhere(&self) {
        self.header().word.fetch_or(ELSEWHERE, Ordering::Relaxed);
    }

    /// What runs elsewhere has ended, `well` or not; its nursery is to look.
    pub(crate) fn wake_ended(&self, well: bool) {
        let ended = ENDED | if well { WELL } else { 0 };
        self.wake_with(ended);
    }

    /// What runs elsewhere was stopped there.
    pub(crate) fn was_stopped(&self) -> bool {
        self.header().word.load(Ordering::Relaxed) & STOPPED != 0
    }

    pub(crate) fn set_stopped(&self) {
        self.header().word.fetch_or(STOPPED, Ordering::Relaxed);
    }

    pub(crate) fn set_guest(&self) {
        let set = GUEST | OWES_EXIT;
        self.header().word.fetch_or(set, Ordering::AcqRel);
    }

    /// The member is no guest; false if it was none.
    pub(crate) fn clear_guest(&self) -> bool {
        self.header().word.fetch_and(!GUEST, Ordering::AcqRel) & GUEST != 0
    }

    /// What was owed is not owed any more, or is known to be lost.
    pub(crate) fn forgive_exit(&self) {
        self.header().word.fetch_and(!OWES_EXIT, Ordering::AcqRel);
    }

    /// The guest's block has ended: what follows is an exit. A node that is made at this moment is told, too.
    pub(crate) fn set_exiting(&self) {
        let word = &self.header().word;
        word.fetch_or(EXITING, Ordering::SeqCst);
        word.fetch_and(!GUEST, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// This very member is the current frame, and `waker` is its own.
    pub(crate) fn is_polled_with(&self, waker: &Waker) -> bool {
        waker.data() == self.header.as_ptr().cast_const().cast()
            && ptr::eq(waker.vtable(), &raw const WAKER)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.header == other.header
    }

    /// Puts the member into its queue, to be polled, unless it is there.
    pub(crate) fn wake(&self) {
        self.wake_with(0);
    }

    /// As [`wake`](Self::wake); sets `flags`, which whoever polls the member sees.
    #[inline]
    fn wake_with(&self, flags: usize) {
        if self
            .header()
            .word
            .fetch_or(QUEUED | flags, Ordering::AcqRel)
            & QUEUED
            == 0
        {
            let ready = self.queue().ready();
            if ready.is_inside() {
                // SAFETY: inside, and the bit was set just now.
                unsafe { ready.push_inside(self) };
                return;
            }
            // SAFETY: the queue is there until the push (invariant 9).
            let host = unsafe { Ready::push_woken(NonNull::from(ready), self) };
            wake_outside(host);
        }
    }

    /// # Safety
    ///
    /// A reference to `header` is given away with this.
    #[inline]
    unsafe fn counted(header: NonNull<Header>) -> Self {
        Self { header }
    }

    /// Runs `f` with this member as the current frame of the thread.
    #[inline]
    pub(super) fn as_current<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Current>);
        impl Drop for Restore {
            fn drop(&mut self) {
                drop(current::swap(self.0.take()));
            }
        }
        // Not counted: it is in the thread-local, or held by a guard further up the stack that puts it back
        // there, until it is taken out at the end; for so long there is `self`.
        let current = CurrentMember(self.uncounted());
        #[cfg(feature = "tracing")]
        let _span = self.known_node().and_then(|node| node.trace().enter(node));
        let _restore = Restore(current::swap(Some(Current::Member(current))));
        f()
    }

    /// A copy that is not counted, to be used while the counted one is there.
    #[inline]
    fn uncounted(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self {
            header: self.header,
        })
    }

    /// A waker of the member.
    pub(crate) fn waker(&self) -> Waker {
        Waker::clone(&self.uncounted_waker())
    }

    /// A waker that is not counted; to be used while this member is.
    #[inline]
    fn uncounted_waker(&self) -> ManuallyDrop<Waker> {
        let data = self.header.as_ptr().cast_const().cast();
        // SAFETY: the functions of the table keep the contract: they count, and may be called on any thread.
        ManuallyDrop::new(unsafe { Waker::new(data, &WAKER) })
    }
}

/// A member whose code runs on this thread: see [`Member::as_current`].
pub(crate) struct CurrentMember(ManuallyDrop<Member>);

impl CurrentMember {
    /// The nursery's node, if it has one.
    pub(crate) fn known_nursery(&self) -> Option<&Arc<Node>> {
        // The nursery runs this code (invariant 9).
        self.0.queue().known_nursery()
    }
}

impl Deref for CurrentMember {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        let before = self.header().word.fetch_add(ONE, Ordering::Relaxed);
        // As in `Arc`: so many can only have been forgotten.
        if before > isize::MAX as usize {
            abort();
        }
        Self {
            header: self.header,
        }
    }
}

impl Drop for Member {
    #[inline]
    fn drop(&mut self) {
        let header = self.header();
        let word = header.word.load(Ordering::Acquire);
        if word / ONE == 1 || header.word.fetch_sub(ONE, Ordering::AcqRel) / ONE == 1 {
            let free = header.vtable.free;
            // SAFETY: it was the last reference (invariant 1), and all that others did came before.
            unsafe { free(self.header) }
        }
    }
}

/// The wakers of members: a reference each.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the waker that is cloned is a reference.
        let waker = unsafe { member(data) };
        RawWaker::new(
            ManuallyDrop::new(Member::clone(&waker))
                .header
                .as_ptr()
                .cast_const()
                .cast(),
            &WAKER,
        )
    },
    |data| {
        // SAFETY: the waker gives its reference away.
        let waker = unsafe { member(data) };
        let member = ManuallyDrop::into_inner(waker);
        member.wake();
    },
    |data| {
        // SAFETY: the waker is a reference.
        let waker = unsafe { member(data) };
        waker.wake();
    },
    |data| {
        // SAFETY: the waker gives its reference away.
        let waker = unsafe { member(data) };
        drop(ManuallyDrop::into_inner(waker));
    },
);

/// # Safety
///
/// `data` is that of a member's waker.
unsafe fn member(data: *const ()) -> ManuallyDrop<Member> {
    // SAFETY: the caller's: it came from a `NonNull`.
    let header = unsafe { NonNull::new_unchecked(data.cast_mut().cast()) };
    ManuallyDrop::new(Member { header })
}

/// A future of this type may be stored where one of type `C` is asked for.
///
/// # Safety
///
/// A `Pin<Box<Self>>` is or coerces to a `Pin<Box<C>>`.
pub(crate) unsafe trait Fits<C: ?Sized + Future>:
    Future<Output = C::Output> + Sized
{
}

// SAFETY: it is what the bounds of the trait object ask for.
unsafe impl<'env, T, F> Fits<dyn Future<Output = T> + Send + 'env> for F where
    F: Future<Output = T> + Send + 'env
{
}

// SAFETY: as above.
unsafe impl<'env, T, F> Fits<dyn Future<Output = T> + 'env> for F where F: Future<Output = T> + 'env {}

// SAFETY: the same type.
unsafe impl<F: Future> Fits<F> for F {}

/// A child that can still give its future back.
struct NewChild<F> {
    child: Child<F>,
}

impl<F: Future> NewChild<F> {
    const LAYOUT: Layout = Layout::new::<Allocation<F>>();

    /// `make` gets the member that its future will belong to; a `place` is one for [`LAYOUT`](Self::LAYOUT).
    #[inline]
    fn new(
        queue: &Arc<Queue>,
        place: Option<Place>,
        name: Option<Name>,
        location: &'static Location<'static>,
        make: impl FnOnce(&Member) -> F,
    ) -> Self {
        let (at, units) = match place {
            Some(place) => (place.at.cast(), place.units),
            None => (
                NonNull::from(Box::leak(Box::<Allocation<F>>::new_uninit())).cast(),
                0,
            ),
        };
        let itself = NonNull::new(Arc::as_ptr(queue).cast_mut()).expect("not null");
        let header = Header::new(Allocation::<F>::VTABLE, 0, itself, name, location, units);
        // SAFETY: it is nobody else's; a `MaybeUninit` behind the header needs no value.
        unsafe { at.write(header) };
        let child = Child {
            member: Member { header: at },
            future: PhantomData,
        };
        let future = make(&child.member);
        // SAFETY: the allocation is of this type, and ours alone (invariant 2) until it is handed in.
        unsafe {
            Allocation::<F>::future(child.member.header).write(future);
            (*child.member.owned()).has_future = true;
        }
        Self { child }
    }

    #[inline]
    fn into_future(self) -> F {
        let header = self.child.member.header;
        // SAFETY: the allocation is of this type and owned (invariant 2); nothing has pinned the future yet.
        unsafe {
            (*self.child.member.owned()).has_future = false;
            Allocation::<F>::future(header).read()
        }
    }

    #[inline]
    fn pin<C: ?Sized + Future>(self) -> Child<C>
    where
        F: Fits<C>,
    {
        self.child.retype()
    }
}

impl<C: ?Sized> Child<C> {
    /// The same child, where another type is written; the caller sees to it that its future fits.
    #[inline]
    fn retype<D: ?Sized>(self) -> Child<D> {
        let child = ManuallyDrop::new(self);
        Child {
            // SAFETY: the old place gives its reference away: it is forgotten.
            member: unsafe { Member::counted(child.member.header) },
            future: PhantomData,
        }
    }
}

/// A child that does not sit in a crew: the owner of its future.
pub(crate) struct Child<C: ?Sized> {
    member: Member,
    /// It owns a pinned future that fits `C`, and is `Send` if that is.
    future: PhantomData<Box<C>>,
}

impl<C: ?Sized> Child<C> {
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Drops the future, if it has not been dropped; what it panics with comes through.
    #[inline]
    pub(super) fn drop_future(&mut self) {
        // SAFETY: owned (invariant 2).
        unsafe { drop_future(self.member.header) }
    }
}

impl<C: ?Sized + Future> Future for Child<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        // SAFETY: owned (invariant 2).
        let has_future = unsafe { (*self.member.owned()).has_future };
        assert!(has_future, "a child was polled after it had ended");
        // SAFETY: as above; it is there, and fits `C` (invariant 3).
        unsafe { poll_in_place::<C>(self.member.header, cx) }
    }
}

impl<C: ?Sized> Unpin for Child<C> {}

impl<C: ?Sized> Drop for Child<C> {
    #[inline]
    fn drop(&mut self) {
        struct End(ManuallyDrop<Member>);
        impl Drop for End {
            fn drop(&mut self) {
                // SAFETY: owned (invariant 2).
                unsafe { end(&self.0) };
            }
        }
        let _end = End(self.member.uncounted());
        self.drop_future();
    }
}

/// The member's future is gone, and with it what else its owner has.
///
/// # Safety
///
/// The caller owns the member (invariant 2).
#[inline]
unsafe fn end(member: &Member) {
    member.end();
    if let Some(Some(cold)) = member.cold().get() {
        // SAFETY: the caller's; `wait` is the owner's, like the fields of `Owned`.
        let wait = unsafe { (*cold.wait.get()).take() };
        // Its timer may have a waker of the member's, which would keep it, and itself in it.
        if wait.is_some() {
            let _outside = current::clear();
            drop(wait);
        }
    }
}

/// Drops the future, if it has not been dropped.
///
/// # Safety
///
/// The caller owns it (invariant 2).
#[inline]
unsafe fn drop_future(header: NonNull<Header>) {
    // SAFETY: the caller's; it is never looked at again, also if dropping it panics.
    unsafe {
        if mem::replace(&mut (*header.as_ref().owned.get()).has_future, false) {
            (header.as_ref().vtable.drop_future)(header);
        }
    }
}

/// # Safety
///
/// The caller owns the future of `header` (invariant 2), which is there and fits `C`.
#[inline]
unsafe fn poll_in_place<C: ?Sized + Future>(
    header: NonNull<Header>,
    cx: &mut Context<'_>,
) -> Poll<C::Output> {
    let mut polled = MaybeUninit::<Poll<C::Output>>::uninit();
    // SAFETY: the caller's; the function writes the poll unless it panics.
    unsafe {
        (header.as_ref().vtable.poll)(header, cx, polled.as_mut_ptr().cast());
        polled.assume_init()
    }
}
