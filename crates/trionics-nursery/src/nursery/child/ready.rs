//! Where a nursery finds what is to be polled: a stack that anybody pushes to and the crew takes whole, and a shorter way
//! for what happens in the nursery's own poll.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

use super::{Child, Header, Member};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering, thread_local};

/// What the head is when it is no member: the nursery will look before it sleeps, …
const AWAKE: *mut Header = ptr::null_mut();
/// … it sleeps, and whoever changes this wakes it, …
const ASLEEP: *mut Header = ptr::without_provenance_mut(1);
/// … it is to look at something that is no member, …
const NUDGED: *mut Header = ptr::without_provenance_mut(2);
/// … or it is over.
const CLOSED: *mut Header = ptr::without_provenance_mut(3);

/// The members that are ready to be polled, and children to be taken in.
pub(crate) struct Ready {
    /// The member that came last, by way of any thread.
    head: AtomicPtr<Header>,
    /// The thread that polls the nursery, 0 for none.
    poller: AtomicUsize,
    /// What came by way of that thread, during the poll.
    inside: UnsafeCell<Inside>,
}

/// Invariant 8: touched by the thread that polls the nursery, for a few lines at a time that run no other code; and
/// when it is not polled, by the crew.
#[derive(Default)]
pub(super) struct Inside {
    pub(super) woken: Fifo,
    pub(super) new: Fifo,
}

// SAFETY: the head and the poller are atomic, and `inside` is touched by one thread at a time (invariant 8).
unsafe impl Send for Ready {}
// SAFETY: as above.
unsafe impl Sync for Ready {}

/// The nursery is over.
struct Closed;

fn is_member(head: *mut Header) -> bool {
    head.addr() > CLOSED.addr()
}

thread_local! {
    /// Its address tells threads apart that are there at the same time.
    static HERE: u8 = const { 0 };
}

fn this_thread() -> usize {
    HERE.try_with(|here| ptr::from_ref(here).addr())
        .unwrap_or(usize::MAX)
}

/// Ends the poll of a nursery on this thread.
pub(crate) struct Polling<'a>(&'a Ready);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.poller.store(0, Ordering::Release);
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(AWAKE),
            poller: AtomicUsize::new(0),
            inside: UnsafeCell::default(),
        }
    }

    /// The nursery is polled on this thread until the guard is dropped; the caller has it for itself.
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
    /// The caller is inside, or is the crew while nobody is; what it does with the pointer calls no other code.
    pub(super) unsafe fn inside(&self) -> *mut Inside {
        self.inside.get()
    }

    /// Pushes a member; the caller has set its `QUEUED`, and owns `next` therefore (invariant 5).
    ///
    /// True if the nursery was asleep, and is the caller's to wake.
    fn push(&self, member: NonNull<Header>) -> Result<bool, Closed> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return Err(Closed);
            }
            let next = if is_member(head) {
                NonNull::new(head)
            } else {
                None
            };
            // SAFETY: `next` is ours until the member is in the stack (invariant 5).
            unsafe { (*member.as_ref().owned.get()).next = next };
            match self.head.compare_exchange_weak(
                head,
                member.as_ptr(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(head == ASLEEP),
                Err(now) => head = now,
            }
        }
    }

    /// Puts in a member that was woken inside.
    ///
    /// # Safety
    ///
    /// The caller is inside, and has set the member's `QUEUED`.
    #[inline]
    pub(super) unsafe fn push_inside(&self, member: &Member) {
        // SAFETY: inside (invariant 8); `next` is ours (invariant 5).
        unsafe { (*self.inside()).woken.push(member.header) };
    }

    /// Puts in a member that was woken elsewhere and not queued; the caller has set its `QUEUED`.
    ///
    /// True if the nursery was asleep, and is the caller's to wake.
    pub(super) fn push_woken(&self, member: &Member) -> bool {
        self.push(member.header).unwrap_or_else(|Closed| {
            // SAFETY: the crew has removed the member and left a reference to the queue (invariant 7).
            drop(unsafe { Member::counted(member.header) });
            false
        })
    }

    /// Hands a child in, unless the nursery is over; the caller sees to it that the crew is one of `C`.
    ///
    /// True if the nursery was asleep, and is the caller's to wake.
    #[inline]
    pub(super) fn push_new<C: ?Sized>(&self, child: Child<C>) -> Result<bool, Child<C>> {
        let child = ManuallyDrop::new(child);
        if self.is_inside() && !self.is_closed() {
            // SAFETY: inside (invariant 8); a child counts as queued, and its `next` is its owner's (invariant 5).
            unsafe { (*self.inside()).new.push(child.member.header) };
            return Ok(false);
        }
        // SAFETY: owned (invariant 2).
        unsafe { (*child.member.owned()).is_new = true };
        self.push(child.member.header)
            .map_err(|Closed| ManuallyDrop::into_inner(child))
    }

    /// Takes all members out of the stack; the last one pushed comes first.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Header>> {
        let head = self.head.load(Ordering::Relaxed);
        if head == AWAKE || head == CLOSED {
            return None;
        }
        let head = self.head.swap(AWAKE, Ordering::SeqCst);
        if is_member(head) {
            NonNull::new(head)
        } else {
            None
        }
    }

    /// The nursery goes to sleep; false if there is something to look at before.
    pub(crate) fn sleep(&self) -> bool {
        self.head
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// The nursery is to look at something that is no member; what the caller did before, it sees.
    ///
    /// True if the caller must wake it.
    pub(crate) fn nudge(&self) -> bool {
        let mut head = self.head.load(Ordering::SeqCst);
        while head == AWAKE || head == ASLEEP {
            match self
                .head
                .compare_exchange_weak(head, NUDGED, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return head == ASLEEP,
                Err(now) => head = now,
            }
        }
        false
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
        self.head
            .compare_exchange(AWAKE, CLOSED, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Closes; returns what is there.
    pub(super) fn close(&self) -> Option<NonNull<Header>> {
        let head = self.head.swap(CLOSED, Ordering::SeqCst);
        if is_member(head) {
            NonNull::new(head)
        } else {
            None
        }
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
