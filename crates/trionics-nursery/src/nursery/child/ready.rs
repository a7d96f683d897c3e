//! Where a nursery finds what is to be polled: a stack that anybody pushes to and the crew takes whole, and a shorter way
//! for what happens in the nursery's own poll.

use std::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    task::{RawWakerVTable, Waker},
};

use super::{Child, Header, Member, Whereabouts, arena::Arena, exclusive::Exclusive};
use crate::{
    sync::{AtomicPtr, AtomicUsize, Ordering, thread_local},
    wake::wake_outside,
};

/// What the head is when it is no member: the nursery will look before it sleeps, …
const AWAKE: *mut Header = ptr::null_mut();
/// … it sleeps, and whoever changes this wakes it, …
const ASLEEP: *mut Header = ptr::without_provenance_mut(1);
/// … it is to look at something that is no member, …
const NUDGED: *mut Header = ptr::without_provenance_mut(2);
/// … or it is over.
const CLOSED: *mut Header = ptr::without_provenance_mut(3);
/// A bit beside a member, `AWAKE` or `NUDGED`: somebody who found the nursery asleep is about to take the host's waker out, and
/// clears the bit with what it came for (invariant 10).
const CLAIMED: usize = 4;
const _: () = assert!(
    align_of::<Header>() > CLAIMED,
    "the bit is no part of an address"
);

fn with_claim(head: *mut Header, claim: usize) -> *mut Header {
    head.map_addr(|address| address | claim)
}

fn claim_of(head: *mut Header) -> usize {
    head.addr() & CLAIMED
}

/// The member at the top of the stack.
fn member_at(head: *mut Header) -> Option<NonNull<Header>> {
    let head = head.map_addr(|address| address & !CLAIMED);
    if head.addr() > CLOSED.addr() {
        NonNull::new(head)
    } else {
        None
    }
}

/// What the waker was that was stored last; it may be gone.
#[derive(Default)]
pub(super) struct KnownWaker {
    data: usize,
    vtable: Option<&'static RawWakerVTable>,
}

impl KnownWaker {
    fn note(&mut self, waker: &Waker) {
        self.data = waker.data().addr();
        self.vtable = Some(waker.vtable());
    }

    fn is(&self, waker: &Waker) -> bool {
        self.data == waker.data().addr()
            && self
                .vtable
                .is_some_and(|vtable| ptr::eq(vtable, waker.vtable()))
    }
}

/// The members that are ready to be polled, and children to be taken in.
pub(crate) struct Ready {
    /// The member that came last, by way of any thread.
    head: AtomicPtr<Header>,
    /// The thread that polls the nursery, 0 for none.
    poller: AtomicUsize,
    /// What came by way of that thread, during the poll.
    inside: Exclusive<Inside>,
    /// Wakes whoever polls the nursery (invariant 10).
    host: Exclusive<Option<Waker>>,
}

/// Invariant 8: touched by the thread that polls the nursery, for a few lines at a time that run no other code; and
/// when it is not polled, by the crew.
#[derive(Default)]
pub(super) struct Inside {
    pub(super) woken: Fifo,
    pub(super) new: Fifo,
    pub(super) arena: Arena,
}

// SAFETY: the head and the poller are atomic; `inside` and `host` are touched by one thread at a time (invariants 8 and 10).
unsafe impl Send for Ready {}
// SAFETY: as above.
unsafe impl Sync for Ready {}

/// The nursery is over.
struct Closed;

thread_local! {
    /// Its address tells threads apart that are there at the same time.
    static HERE: u8 = const { 0 };
}

#[inline]
fn this_thread() -> usize {
    HERE.try_with(|here| ptr::from_ref(here).addr())
        .unwrap_or(usize::MAX)
}

/// Ends the poll of a nursery on this thread.
pub(crate) struct Polling<'a>(&'a Ready);

impl Drop for Polling<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.poller.store(0, Ordering::Release);
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(AWAKE),
            poller: AtomicUsize::new(0),
            inside: Exclusive::default(),
            host: Exclusive::default(),
        }
    }

    /// The nursery is polled on this thread until the guard is dropped; the caller has it for itself.
    #[inline]
    pub(super) fn begin_poll(&self) -> Polling<'_> {
        self.poller.store(this_thread(), Ordering::Relaxed);
        Polling(self)
    }

    /// Whether the nursery is being polled on this thread.
    #[inline]
    pub(crate) fn is_inside(&self) -> bool {
        // Only this thread stores its own number, and takes it back.
        self.poller.load(Ordering::Relaxed) == this_thread()
    }

    /// # Safety
    ///
    /// The caller is inside, or is the crew while nobody is; what it does calls no other code.
    #[inline]
    pub(super) unsafe fn inside<R>(&self, use_it: impl FnOnce(&mut Inside) -> R) -> R {
        // SAFETY: the caller's (invariant 8).
        unsafe { self.inside.with(use_it) }
    }

    /// Changes the head to what `change` makes of it, unless the nursery is over.
    ///
    /// The host's waker comes back if the nursery was asleep: it is the caller's to wake.
    #[inline]
    fn change(
        &self,
        mut change: impl FnMut(*mut Header) -> *mut Header,
    ) -> Result<Option<Waker>, Closed> {
        let mut head = self.head.load(Ordering::Relaxed);
        let mut claim = 0;
        let mut host = None;
        loop {
            if head == CLOSED {
                // Claimed before it closed: nobody else takes the waker out any more.
                wake_outside(host);
                return Err(Closed);
            }
            if head == ASLEEP {
                let claimed = with_claim(AWAKE, CLAIMED);
                match self.replace(head, claimed) {
                    Ok(()) => {
                        // SAFETY: claimed, until the bit is cleared (invariant 10).
                        host = unsafe { self.host.with(Option::take) };
                        (claim, head) = (CLAIMED, claimed);
                    }
                    Err(now) => head = now,
                }
                continue;
            }
            // Somebody else's claim stays.
            let others = claim_of(head) & !claim;
            let new = change(head.map_addr(|address| address & !CLAIMED));
            match self.replace(head, with_claim(new, others)) {
                Ok(()) => return Ok(host),
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    fn replace(&self, head: *mut Header, new: *mut Header) -> Result<(), *mut Header> {
        self.head
            .compare_exchange_weak(head, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
    }

    /// Pushes a member; the caller has set its `QUEUED`, and owns `next` therefore (invariant 5).
    ///
    /// The host's waker comes back if the nursery was asleep: it is the caller's to wake.
    #[inline]
    fn push(&self, member: NonNull<Header>) -> Result<Option<Waker>, Closed> {
        self.change(|head| {
            // SAFETY: `next` is ours until the member is in the stack (invariant 5).
            unsafe {
                #[cfg(trionics_shuttle)]
                super::assert_queue_is_there(member);
                (*member.as_ref().owned.get()).next = member_at(head);
            }
            member.as_ptr()
        })
    }

    /// Puts in a member that was woken inside.
    ///
    /// # Safety
    ///
    /// The caller is inside, and has set the member's `QUEUED`.
    #[inline]
    pub(super) unsafe fn push_inside(&self, member: &Member) {
        // SAFETY: inside (invariant 8); `next` is ours (invariant 5).
        unsafe { self.inside(|inside| inside.woken.push(member.header)) };
    }

    /// Puts in a member that was woken elsewhere and not queued; the caller has set its `QUEUED`.
    ///
    /// The host's waker comes back if the nursery was asleep: it is the caller's to wake.
    ///
    /// # Safety
    ///
    /// Once the member is in the queue, the nursery may poll it, end, and be gone: `this` is there until then (invariant 9).
    #[inline]
    pub(super) unsafe fn push_woken(this: NonNull<Self>, member: &Member) -> Option<Waker> {
        // SAFETY: the caller's; `push` does not touch it once the member is in.
        let pushed = unsafe { this.as_ref() }.push(member.header);
        pushed.unwrap_or_else(|Closed| {
            // SAFETY: the crew has removed the member and left a reference to the queue (invariant 7).
            drop(unsafe { Member::counted(member.header) });
            None
        })
    }

    /// Hands a child in, unless the nursery is over; the caller sees to it that the crew is one of `C`.
    ///
    /// The host's waker comes back if the nursery was asleep: it is the caller's to wake.
    #[inline]
    pub(super) fn push_new<C: ?Sized>(&self, child: Child<C>) -> Result<Option<Waker>, Child<C>> {
        let child = ManuallyDrop::new(child);
        if self.is_inside() && !self.is_closed() {
            // SAFETY: inside (invariant 8); a child counts as queued, and its `next` is its owner's (invariant 5).
            unsafe { self.inside(|inside| inside.new.push(child.member.header)) };
            return Ok(None);
        }
        // SAFETY: owned (invariant 2).
        unsafe { (*child.member.owned()).where_it_is = Whereabouts::New };
        self.push(child.member.header)
            .map_err(|Closed| ManuallyDrop::into_inner(child))
    }

    /// There is something to [`take`](Self::take).
    #[inline]
    pub(super) fn has_arrivals(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head.map_addr(|address| address & !CLAIMED) != AWAKE && head != CLOSED
    }

    /// Takes all members out of the stack; the last one pushed comes first. The nursery is awake then.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Header>> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let claim = claim_of(head);
            let empty = with_claim(AWAKE, claim);
            if head == empty || head == CLOSED {
                return None;
            }
            match self.replace(head, empty) {
                Ok(()) => return member_at(head),
                Err(now) => head = now,
            }
        }
    }

    /// The nursery goes to sleep until `waker` is woken; false if there is something to look at before.
    ///
    /// Called by the crew alone, in the nursery's poll. `known` is kept for it from one time to the next.
    #[inline]
    pub(super) fn sleep(&self, waker: &Waker, known: &mut KnownWaker) -> bool {
        let head = self.head.load(Ordering::SeqCst);
        if claim_of(head) != 0 {
            // Whoever has claimed the waker is about to wake it, and has it still: nothing else can be at its address.
            return known.is(waker);
        }
        if head != AWAKE {
            return false;
        }
        // SAFETY: awake and not claimed: it is the poll's, until the nursery sleeps (invariant 10).
        let replaced = unsafe {
            self.host.with(|host| {
                if host.as_ref().is_some_and(|host| host.will_wake(waker)) {
                    return None;
                }
                // Whatever the waker's code does, it does not come here: the nursery is awake.
                let waker = waker.clone();
                known.note(&waker);
                host.replace(waker)
            })
        };
        drop(replaced);
        self.head
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// The nursery is to look at something that is no member; what the caller did before, it sees.
    ///
    /// The host's waker comes back if the nursery was asleep: it is the caller's to wake.
    pub(crate) fn nudge(&self) -> Option<Waker> {
        let nudged = self.change(|head| if head == AWAKE { NUDGED } else { head });
        nudged.unwrap_or_else(|Closed| None)
    }

    /// Keeps the nursery from closing before it has looked once more.
    pub(crate) fn hold_open(&self) {
        let _ = self
            .head
            .compare_exchange(AWAKE, NUDGED, Ordering::SeqCst, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.head.load(Ordering::SeqCst) == CLOSED
    }

    /// Closes if nobody has pushed or nudged since the last `take`.
    pub(super) fn close_if_untouched(&self) -> bool {
        let closed = self
            .head
            .compare_exchange(AWAKE, CLOSED, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok();
        if closed {
            self.forget_host();
        }
        closed
    }

    /// Closes; returns what is there.
    pub(super) fn close(&self) -> Option<NonNull<Header>> {
        let head = self.head.swap(CLOSED, Ordering::SeqCst);
        if head != CLOSED && claim_of(head) == 0 {
            self.forget_host();
        }
        member_at(head)
    }

    /// Drops the waker of a nursery that has just been closed, and was not claimed.
    fn forget_host(&self) {
        // SAFETY: nobody can claim it any more (invariant 10).
        let host = unsafe { self.host.with(Option::take) };
        drop(host);
    }
}

/// Members one after the other, linked by `next`, which belongs to whoever has the list (invariant 5).
#[derive(Default)]
pub(super) struct Fifo {
    first: Option<NonNull<Header>>,
    last: Option<NonNull<Header>>,
}

impl Fifo {
    /// # Safety
    ///
    /// The caller owns `next` of `member`, which stays until it is taken out again.
    #[inline]
    pub(super) unsafe fn push(&mut self, member: NonNull<Header>) {
        // SAFETY: the caller's, for this member and for the last one.
        unsafe {
            (*member.as_ref().owned.get()).next = None;
            match self.last.replace(member) {
                Some(last) => (*last.as_ref().owned.get()).next = Some(member),
                None => self.first = Some(member),
            }
        }
    }

    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub(super) unsafe fn push_front(&mut self, member: NonNull<Header>) {
        // SAFETY: the caller's.
        unsafe { (*member.as_ref().owned.get()).next = self.first };
        self.first = Some(member);
        self.last.get_or_insert(member);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<NonNull<Header>> {
        let first = self.first?;
        // SAFETY: what is in here is there, and its `next` is ours.
        self.first = unsafe { (*first.as_ref().owned.get()).next };
        if self.first.is_none() {
            self.last = None;
        }
        Some(first)
    }

    #[inline]
    pub(super) fn append(&mut self, other: &mut Self) {
        let (Some(first), Some(last)) = (other.first, other.last) else {
            return;
        };
        *other = Self::default();
        match self.last.replace(last) {
            // SAFETY: what is in here is there, and its `next` is ours.
            Some(end) => unsafe { (*end.as_ref().owned.get()).next = Some(first) },
            None => self.first = Some(first),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
