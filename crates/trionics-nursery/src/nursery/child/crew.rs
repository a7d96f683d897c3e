//! The members of a nursery as the nursery has them: who sits in it, and who is to be polled.

use std::{
    alloc::Layout,
    any::Any,
    future::Future,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    ops::Deref,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::{
    BODY, Child, ELSEWHERE, ENDED, Elsewhere, Fits, Header, KEEPS_QUEUE, Member, NewChild, ONE,
    QUEUED, Queue, RESTS, Share, Shares, WELL, Wait, Whereabouts,
    arena::Place,
    drop_future, end, keep_queue, poll_in_place,
    ready::{Fifo, Inside, KnownWaker, Polling, Ready},
};
use crate::{
    current,
    node::Node,
    report::{FrameInfo, drop_payload},
    scope::Name,
    sync::Ordering,
    wake::wake_outside,
};

/// After how many polls of the nursery those who are woken again in each of them take turns in being the first.
const POLLS_PER_TURN: u32 = 32;

/// The body and the children of a nursery.
pub(crate) struct Crew<C: ?Sized> {
    /// In the queue, and therefore before it.
    body: Member,
    queue: Arc<Queue>,
    /// The children that sit here, in the order in which they were started.
    oldest: Option<NonNull<Header>>,
    youngest: Option<NonNull<Header>>,
    n_children: usize,
    /// The children that were removed and are to be dropped, one after the other by `younger`.
    removed: Option<NonNull<Header>>,
    last_removed: Option<NonNull<Header>>,
    /// Members to be polled; what one poll does not get through stays for the next.
    batch: Fifo,
    /// Members that were woken again in the poll that has polled them: they are for the next one.
    again: Fifo,
    /// How many polls there were in a row in which members were woken again and no child ended.
    n_busy_polls: u32,
    /// Children to be taken in.
    new: Fifo,
    /// Counts the polls, so that none polls a member twice.
    round: u32,
    /// Who was to be woken when it went to sleep last.
    host: KnownWaker,
    children: PhantomData<Child<C>>,
}

// SAFETY: it owns children (invariant 2), and beyond those has what may be sent.
unsafe impl<C: ?Sized> Send for Crew<C> where Child<C>: Send {}
// SAFETY: a shared crew gives away numbers, members, and doors, through which children are sent.
unsafe impl<C: ?Sized> Sync for Crew<C> where Child<C>: Send {}

/// Who is to be polled next.
pub(crate) enum Turn<'a, C: ?Sized> {
    Body,
    Child(Running<'a, C>),
}

/// What belongs to the owner of a member that sits in a crew, while it is that member's turn.
pub(crate) struct Seat<'a> {
    member: &'a Member,
}

/// A child that sits in a crew, while it is its turn.
pub(crate) struct Running<'a, C: ?Sized> {
    crew: &'a mut Crew<C>,
    /// Not counted: the crew's reference is there for so long.
    child: ManuallyDrop<Member>,
}

/// A child that was removed from its place in a crew; nothing is left of it when this is dropped.
///
/// It borrows the crew, which has the queue that the child may use until then (invariant 9).
pub(crate) struct Removed<'a, C: ?Sized> {
    crew: &'a mut Crew<C>,
    child: ManuallyDrop<Child<C>>,
}

/// The future of a child, while it is its turn.
pub(crate) struct FutureMut<'a, C: ?Sized> {
    child: NonNull<Header>,
    future: PhantomData<&'a mut C>,
}

impl<C: ?Sized> Crew<C> {
    /// Makes the crew of the nursery that `queue` is for, with its body.
    pub(crate) fn new(queue: Queue) -> Self {
        let mut queue = Arc::new(queue);
        let body = Member::body(&mut queue);
        // For `assert_queue_is_there`.
        #[cfg(trionics_shuttle)]
        mem::forget(Arc::clone(&queue));
        let mut batch = Fifo::default();
        // SAFETY: it is new, and counts as queued; the crew has it until it is closed.
        unsafe {
            (*body.owned()).where_it_is = Whereabouts::Seated;
            batch.push(body.header);
        }
        Self {
            body,
            queue,
            oldest: None,
            youngest: None,
            n_children: 0,
            removed: None,
            last_removed: None,
            batch,
            again: Fifo::default(),
            n_busy_polls: 0,
            new: Fifo::default(),
            round: 0,
            host: KnownWaker::default(),
            children: PhantomData,
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The way in for new children.
    pub(crate) fn door(&self) -> Door<C> {
        Door {
            queue: Arc::clone(&self.queue),
            children: PhantomData,
        }
    }

    /// The number of this poll of the nursery.
    #[inline]
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    #[inline]
    pub(crate) fn n_children(&self) -> usize {
        self.n_children
    }

    /// The body has not been ended.
    #[inline]
    pub(crate) fn has_body(&self) -> bool {
        // SAFETY: owned (invariant 2).
        unsafe { (*self.body.owned()).where_it_is.is_seated() }
    }

    /// Nobody sits here, and nobody is known to come.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_body() && self.n_children == 0 && self.new.is_empty() && self.is_inside_empty()
    }

    /// Children wait to be taken in.
    #[inline]
    pub(crate) fn has_new(&self) -> bool {
        // SAFETY: the crew may look (invariant 8).
        !self.new.is_empty()
            || unsafe { self.queue.ready().inside(|inside| !inside.new.is_empty()) }
    }

    /// Somebody has come since the last time it was looked for them.
    #[inline]
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.is_inside_empty() || self.queue.ready().has_arrivals()
    }

    #[inline]
    fn is_inside_empty(&self) -> bool {
        let is_empty = |inside: &mut Inside| inside.woken.is_empty() && inside.new.is_empty();
        // SAFETY: the crew may look (invariant 8).
        unsafe { self.queue.ready().inside(is_empty) }
    }

    /// It has been closed, and nobody comes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// A poll of the nursery begins, on this thread, and ends when the guard is dropped.
    ///
    /// `queue` is that of this crew, held apart from it.
    #[inline]
    pub(crate) fn begin_poll<'a>(&mut self, queue: &'a Arc<Queue>) -> Polling<'a> {
        assert!(Arc::ptr_eq(queue, &self.queue), "the crew's own queue");
        // A member that was polled so many rounds ago that its number comes again is merely put off by a poll.
        self.round = self.round.wrapping_add(1).max(1);
        if self.again.is_empty() {
            self.n_busy_polls = 0;
        } else {
            self.take_turns();
        }
        self.batch.append(&mut self.again);
        queue.ready().begin_poll()
    }

    /// Who goes first may use up what the host shares out among all that run in one poll, as tokio's budget: the others are
    /// woken at once, to no avail as long as the order stays. So it changes where members go on and on like that.
    fn take_turns(&mut self) {
        self.n_busy_polls += 1;
        if self.n_busy_polls < POLLS_PER_TURN {
            return;
        }
        self.n_busy_polls = 0;
        if let Some(first) = self.again.pop() {
            // SAFETY: it has just been taken out.
            unsafe { self.again.push(first) };
        }
    }

    /// The nursery's poll ends with `Pending`, to be polled again once `waker` is woken; false if it must be polled at once.
    #[inline]
    pub(crate) fn sleep(&mut self, waker: &Waker) -> bool {
        let sleeps = self.queue.ready().sleep(waker, &mut self.host);
        if sleeps {
            self.queue.count.settle();
        }
        sleeps
    }

    /// Something is left for the next poll of a nursery in which `room` more children may run.
    #[inline]
    pub(crate) fn has_more(&self, room: usize) -> bool {
        !self.batch.is_empty()
            || !self.again.is_empty()
            || !self.is_inside_empty()
            || (room > 0 && !self.new.is_empty())
    }

    /// Takes in who was woken or handed in since the last time.
    #[inline]
    pub(crate) fn take_ready(&mut self) {
        // SAFETY: the crew is inside, or nobody is (invariant 8).
        unsafe {
            self.queue.ready().inside(|inside| {
                self.batch.append(&mut inside.woken);
                self.new.append(&mut inside.new);
            });
        }
        if let Some(taken) = self.queue.ready().take() {
            self.sort(Some(taken));
        }
    }

    /// Brings those who wait to be polled into the order of a test's seed.
    #[cfg(feature = "testing")]
    pub(crate) fn shuffle_woken(&mut self) {
        shuffle(&mut self.batch);
    }

    /// Brings those who wait to be taken in into the order of a test's seed.
    #[cfg(feature = "testing")]
    pub(crate) fn shuffle_new(&mut self) {
        shuffle(&mut self.new);
    }

    /// Sorts what came from the stack, the last one first, into who was woken and who is new.
    fn sort(&mut self, mut taken: Option<NonNull<Header>>) {
        let (mut woken, mut new) = (Fifo::default(), Fifo::default());
        while let Some(member) = taken {
            // SAFETY: what is taken from the stack is the crew's to read (invariants 2 and 5).
            unsafe {
                let owned = member.as_ref().owned.get();
                taken = (*owned).next;
                if (*owned).where_it_is == Whereabouts::New {
                    (*owned).where_it_is = Whereabouts::Elsewhere;
                    new.push_front(member);
                } else {
                    woken.push_front(member);
                }
            }
        }
        self.batch.append(&mut woken);
        self.new.append(&mut new);
    }

    /// Who was woken and has not been polled in this poll of the nursery.
    #[inline]
    pub(crate) fn next_woken(&mut self) -> Option<Turn<'_, C>> {
        loop {
            let member = self.batch.pop()?;
            // SAFETY: it was in the queue, which holds it.
            let header = unsafe { member.as_ref() };
            // SAFETY: what came from the stack or sits here is the crew's to read (invariant 2).
            let owned = unsafe { &*header.owned.get() };
            if !owned.where_it_is.is_seated() {
                // SAFETY: it was removed while it was in the queue, which has held it since (invariant 1).
                drop(unsafe { Member::counted(member) });
                continue;
            }
            if owned.round == self.round {
                // SAFETY: it has just been taken out.
                unsafe { self.again.push(member) };
                continue;
            }
            if header.word.load(Ordering::Relaxed) & BODY != 0 {
                return Some(Turn::Body);
            }
            return Some(Turn::Child(self.turn_of(member)));
        }
    }

    /// The next new child, which now sits here.
    #[inline]
    pub(crate) fn next_new(&mut self) -> Option<Running<'_, C>> {
        let child = self.new.pop()?;
        // SAFETY: it came through the door: a reference, and a child of the right type (invariant 3).
        let child = unsafe { Self::child(child) };
        let child = self.seat(child);
        Some(self.turn_of(child))
    }

    #[inline]
    fn turn_of(&mut self, child: NonNull<Header>) -> Running<'_, C> {
        Running {
            crew: self,
            // SAFETY: the copy is not dropped.
            child: ManuallyDrop::new(unsafe { Member::counted(child) }),
        }
    }

    /// # Safety
    ///
    /// A reference to `child` is given away with this, and its future, which fits `C`.
    #[inline]
    unsafe fn child(child: NonNull<Header>) -> Child<C> {
        Child {
            // SAFETY: the caller's.
            member: unsafe { Member::counted(child) },
            future: PhantomData,
        }
    }

    /// Gives a child its place; its reference is the crew's until it is removed.
    #[inline]
    fn seat(&mut self, child: Child<C>) -> NonNull<Header> {
        let child = ManuallyDrop::new(child).member.header;
        // SAFETY: owned (invariant 2), as are those that sit here already.
        unsafe {
            let owned = child.as_ref().owned.get();
            (*owned).where_it_is = Whereabouts::Seated;
            (*owned).older = self.youngest;
            (*owned).younger = None;
            match self.youngest.replace(child) {
                Some(older) => (*older.as_ref().owned.get()).younger = Some(child),
                None => self.oldest = Some(child),
            }
        }
        self.n_children += 1;
        child
    }

    /// Takes a child in that comes with the nursery; it is polled as one that was woken.
    pub(crate) fn enlist<F: Fits<C>>(
        &mut self,
        location: &'static Location<'static>,
        make: impl FnOnce(&Member) -> F,
    ) where
        C: Future,
    {
        // SAFETY: the crew may (invariant 8).
        let place = unsafe {
            let ready = self.queue.ready();
            ready.inside(|inside| inside.arena.take(NewChild::<F>::LAYOUT))
        };
        let child = NewChild::new(&self.queue, place, None, location, make).pin();
        let child = self.seat(child);
        // SAFETY: a new child counts as queued, and is in no queue.
        unsafe { self.batch.push(child) };
    }

    /// Lets those who wait to be polled go before the body.
    pub(crate) fn put_off_body(&mut self) {
        if let Some(first) = self.batch.pop() {
            // SAFETY: it has just been taken out.
            unsafe { self.batch.push(first) };
        }
    }

    /// Takes a child from its place.
    ///
    /// # Safety
    ///
    /// It sits here.
    #[inline]
    unsafe fn unseat(&mut self, child: NonNull<Header>) -> Child<C> {
        // SAFETY: the caller's.
        unsafe {
            let child = self.unseat_unqueued(child);
            leave_to_queue(child.member.header);
            child
        }
    }

    /// As [`unseat`](Self::unseat), for a child that counts as queued and is in no queue.
    ///
    /// # Safety
    ///
    /// It sits here.
    #[inline]
    unsafe fn unseat_unqueued(&mut self, child: NonNull<Header>) -> Child<C> {
        // SAFETY: it sits here, as do its neighbors: owned (invariant 2).
        unsafe {
            // Not all of it: `next` may be somebody else's (invariant 5).
            let owned = child.as_ref().owned.get();
            (*owned).where_it_is = Whereabouts::Elsewhere;
            let (older, younger) = ((*owned).older.take(), (*owned).younger.take());
            match older {
                Some(older) => (*older.as_ref().owned.get()).younger = younger,
                None => self.oldest = younger,
            }
            match younger {
                Some(younger) => (*younger.as_ref().owned.get()).older = older,
                None => self.youngest = older,
            }
        }
        self.n_children -= 1;
        self.n_busy_polls = 0;
        // SAFETY: the crew's reference, and its future.
        unsafe { Self::child(child) }
    }

    /// Lets go of a child that was removed; its place is used again. What dropping its future panics with comes through.
    #[inline]
    fn collect(&mut self, mut child: Child<C>) {
        /// The place is used again, also when dropping what is in it panics.
        struct Gone<'a>(&'a Ready, NonNull<Header>, u16);
        impl Drop for Gone<'_> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the crew may (invariant 8), and a child of this crew has its place in this arena.
                unsafe {
                    self.0
                        .inside(|inside| inside.arena.give_back(self.1, self.2))
                };
            }
        }
        // Nothing to drop, mostly: then this is all there is to a child's end.
        child.drop_future();
        let child = ManuallyDrop::new(child);
        let header = child.member.header;
        // SAFETY: owned (invariant 2).
        unsafe { end(&child.member) };
        // SAFETY: it is there, and its `units` never change.
        let (word, units) = unsafe {
            let header = header.as_ref();
            let word = header.word.load(Ordering::Acquire);
            (word, (*header.owned.get()).units)
        };
        if word / ONE == 1 && word & KEEPS_QUEUE == 0 && units != 0 {
            let _gone = Gone(self.queue.ready(), header, units);
            // SAFETY: this was the last reference (invariant 1). Where nothing is shared the header is all there is.
            unsafe {
                if word & ELSEWHERE != 0 {
                    (header.as_ref().vtable.drop_in_place)(header);
                } else {
                    header.drop_in_place();
                }
            }
        } else {
            // SAFETY: the child's reference.
            drop(unsafe { Member::counted(header) });
        }
    }

    /// Moves the children that `pick` picks out of their places, to be taken by [`next_removed`](Self::next_removed).
    pub(crate) fn remove_all(&mut self, mut pick: impl FnMut(&Seat<'_>) -> bool) {
        let mut next = self.oldest;
        while let Some(child) = next {
            // SAFETY: it sits here.
            next = unsafe { (*child.as_ref().owned.get()).younger };
            // SAFETY: it sits here; the uncounted copy is gone before it can be removed.
            let member = unsafe { ManuallyDrop::new(Member::counted(child)) };
            if pick(&Seat { member: &member }) {
                // SAFETY: it sits here.
                let child = unsafe { self.unseat(child) };
                self.put_aside(child);
            }
        }
    }

    /// Keeps a child that sits nowhere until it is taken to be dropped.
    fn put_aside(&mut self, child: Child<C>) {
        let child = ManuallyDrop::new(child).member.header;
        // SAFETY: owned (invariant 2), like those before it.
        unsafe {
            match self.last_removed.replace(child) {
                Some(last) => (*last.as_ref().owned.get()).younger = Some(child),
                None => self.removed = Some(child),
            }
        }
    }

    /// The next child that was removed, to be dropped.
    pub(crate) fn next_removed(&mut self) -> Option<Removed<'_, C>> {
        let child = self.removed?;
        // SAFETY: it was put aside: a reference, and a child of the right type (invariants 2 and 3).
        let child = unsafe {
            self.removed = (*child.as_ref().owned.get()).younger.take();
            Self::child(child)
        };
        if self.removed.is_none() {
            self.last_removed = None;
        }
        Some(Removed {
            crew: self,
            child: ManuallyDrop::new(child),
        })
    }

    /// The child that [`next_removed`](Self::next_removed) comes to, from outside.
    pub(crate) fn first_removed(&self) -> Option<Member> {
        // SAFETY: it was put aside; the copy is not dropped.
        let member = |child| unsafe { ManuallyDrop::new(Member::counted(child)) };
        self.removed.map(|child| Member::clone(&member(child)))
    }

    /// What the children are that were removed.
    pub(crate) fn removed_infos(&self) -> Vec<FrameInfo> {
        let mut infos = Vec::new();
        self.for_each_removed(|member| infos.push(member.info()));
        infos
    }

    /// Shows each child that was removed to `look`.
    pub(crate) fn for_each_removed(&self, look: impl FnMut(&Member)) {
        // SAFETY: they were put aside (invariant 2).
        unsafe { for_each(self.removed, look) };
    }

    /// Shows each child that sits here to `look`.
    pub(crate) fn for_each(&self, look: impl FnMut(&Member)) {
        // SAFETY: they sit here (invariant 2).
        unsafe { for_each(self.oldest, look) };
    }

    /// The body's own fields.
    #[inline]
    pub(crate) fn body(&mut self) -> Seat<'_> {
        Seat { member: &self.body }
    }

    /// The body, from outside.
    pub(crate) fn body_member(&self) -> &Member {
        &self.body
    }

    /// The body is over and its future dropped.
    pub(crate) fn end_body(&mut self) {
        if self.has_body() {
            // SAFETY: owned (invariant 2).
            unsafe { (*self.body.owned()).where_it_is = Whereabouts::Elsewhere };
            // SAFETY: it sat here.
            unsafe { leave_to_queue(self.body.header) };
            // SAFETY: owned still.
            unsafe { end(&self.body) };
        }
    }

    /// Closes if there is nobody and no start is under way, unless somebody has come since it was last looked for them.
    ///
    /// A nudge that comes before the look for starts comes before its answer, a later one keeps it open.
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.take_ready();
        self.is_empty() && !self.queue.count.has_starts() && self.queue.ready().close_if_untouched()
    }

    /// Closes; children that will never be polled count as removed.
    ///
    /// # Panics
    ///
    /// If somebody sits here.
    pub(crate) fn close(&mut self) {
        assert!(
            !self.has_body() && self.n_children == 0,
            "a nursery closes when its members are gone"
        );
        self.take_ready();
        let taken = self.queue.ready().close();
        self.sort(taken);
        self.let_go();
        while let Some(child) = self.new.pop() {
            // SAFETY: it came through the door: a reference, and a child of the right type (invariant 3).
            let child = unsafe { Self::child(child) };
            self.put_aside(child);
        }
    }

    /// Drops the children that were removed, with no frame current; returns the first panic.
    pub(crate) fn drop_all_removed(&mut self) -> Option<Box<dyn Any + Send>> {
        let _outside = current::clear();
        let mut first_panic = None;
        while let Some(child) = self.next_removed() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(child))) {
                if first_panic.is_some() {
                    drop_payload(payload);
                } else {
                    first_panic = Some(payload);
                }
            }
        }
        first_panic
    }

    pub(crate) fn has_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// Lets go of what was removed and is still in a queue.
    fn let_go(&mut self) {
        self.batch.append(&mut self.again);
        while let Some(member) = self.batch.pop() {
            // SAFETY: nobody sits here: what is in the queue is held by it.
            drop(unsafe { Member::counted(member) });
        }
    }
}

impl<C: ?Sized> Drop for Crew<C> {
    fn drop(&mut self) {
        if self.is_closed() {
            self.let_go();
        } else {
            self.end_body();
            self.remove_all(|_| true);
            self.close();
        }
        let panicked = self.drop_all_removed();
        // SAFETY: the crew may (invariant 8).
        drop(unsafe {
            let ready = self.queue.ready();
            ready.inside(|inside| mem::take(&mut inside.arena))
        });
        if let Some(payload) = panicked
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// Shows each of a list of children to `look`.
///
/// # Safety
///
/// The crew owns them, and goes on doing so.
unsafe fn for_each(mut next: Option<NonNull<Header>>, mut look: impl FnMut(&Member)) {
    while let Some(child) = next {
        // SAFETY: the caller's; the copy is not counted, and not dropped.
        let member = unsafe { ManuallyDrop::new(Member::counted(child)) };
        // SAFETY: the caller's.
        next = unsafe { (*member.owned()).younger };
        look(&member);
    }
}

#[cfg(feature = "testing")]
fn shuffle(fifo: &mut Fifo) {
    if fifo.is_empty() || !crate::testing::is_shuffled() {
        return;
    }
    let mut members: Vec<_> = std::iter::from_fn(|| fifo.pop()).collect();
    crate::testing::shuffle(&mut members);
    for member in members {
        // SAFETY: it has just been taken out.
        unsafe { fifo.push(member) };
    }
}

/// A member leaves the crew: from now on it counts as queued, and where it is in a queue, that holds it.
///
/// # Safety
///
/// The caller owns the member.
#[inline]
unsafe fn leave_to_queue(member: NonNull<Header>) {
    // SAFETY: the caller's.
    let word = unsafe { &member.as_ref().word };
    let before = word.load(Ordering::Acquire);
    if before & QUEUED == 0 && before / ONE == 1 {
        // Nobody else touches it (invariant 6).
        word.store(before | QUEUED, Ordering::Relaxed);
    } else if word.fetch_or(QUEUED, Ordering::AcqRel) & QUEUED != 0 {
        // SAFETY: the caller's.
        unsafe { keep_queue(member) };
        word.fetch_add(ONE, Ordering::Relaxed);
    }
}

impl<'a> Seat<'a> {
    #[inline]
    pub(crate) fn member(&self) -> &'a Member {
        self.member
    }

    /// The nursery's node, if it has one.
    #[inline]
    pub(crate) fn nursery(&self) -> Option<&'a Arc<Node>> {
        // The crew in which it sits has the queue (invariant 9).
        self.member.queue().known_nursery()
    }

    /// The member is polled in its nursery's `round`: from now on a wake counts again. Returns its word from before.
    #[inline]
    pub(crate) fn begin_poll(&mut self, round: u32) -> usize {
        // SAFETY: owned (invariant 2).
        unsafe { (*self.member.owned()).round = round };
        let word = &self.member.header().word;
        let before = word.load(Ordering::Acquire);
        if before / ONE == 1 {
            // Nobody else touches it (invariant 6).
            word.store(before & !QUEUED, Ordering::Relaxed);
            before
        } else {
            word.fetch_and(!QUEUED, Ordering::AcqRel)
        }
    }

    #[inline]
    pub(crate) fn was_polled(&self) -> bool {
        // SAFETY: owned (invariant 2).
        unsafe { (*self.member.owned()).round != 0 }
    }

    /// A waker of the member, to be used during its turn.
    #[inline]
    pub(crate) fn waker(&self) -> WakerRef<'a> {
        WakerRef {
            waker: self.member.uncounted_waker(),
            member: PhantomData,
        }
    }

    /// Where the member waits for frames inside; it can if it has a node.
    #[inline]
    pub(crate) fn wait(&mut self) -> Option<&mut Option<Box<Wait>>> {
        let cold = self.member.cold().get()?.as_ref()?;
        // SAFETY: owned (invariant 2), like the fields of `Owned`.
        Some(unsafe { &mut *cold.wait.get() })
    }
}

/// A waker that is not counted.
pub(crate) struct WakerRef<'a> {
    waker: ManuallyDrop<Waker>,
    member: PhantomData<&'a Member>,
}

impl Deref for WakerRef<'_> {
    type Target = Waker;

    fn deref(&self) -> &Waker {
        &self.waker
    }
}

/// What is to be done about a member in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToDo {
    /// It is to be polled.
    Poll,
    /// It runs elsewhere, and is woken at its end.
    Nothing,
    /// It has run elsewhere, and ended well.
    End,
}

impl<C: ?Sized> Running<'_, C> {
    /// What is to be done; a child that is not polled has had its turn with this.
    #[inline]
    pub(crate) fn begin_turn(&mut self) -> ToDo {
        let word = self.child.header().word.load(Ordering::Acquire);
        if word & ELSEWHERE == 0 {
            return ToDo::Poll;
        }
        if word & WELL != 0 {
            // It has just been taken out of the queue, and nobody puts it in again: it stays as if it was there.
            return ToDo::End;
        }
        if word & (RESTS | ENDED) != RESTS {
            return ToDo::Poll;
        }
        let round = self.crew.round;
        let word = self.parts().0.begin_poll(round);
        // Whoever says from now on that it has ended puts it into the queue; afterwards nobody does.
        if word & ENDED == 0 {
            ToDo::Nothing
        } else {
            ToDo::Poll
        }
    }

    /// The number of this poll of the nursery.
    pub(crate) fn round(&self) -> u32 {
        self.crew.round
    }

    /// The two parts of the child that are the owner's.
    #[inline]
    pub(crate) fn parts(&mut self) -> (Seat<'_>, FutureMut<'_, C>) {
        let seat = Seat {
            member: &self.child,
        };
        let future = FutureMut {
            child: self.child.header,
            future: PhantomData,
        };
        (seat, future)
    }

    /// Takes the child from its place, to be the next one that was removed.
    pub(crate) fn remove(self) {
        // SAFETY: it sits here.
        let child = unsafe { self.crew.unseat(self.child.header) };
        self.crew.put_aside(child);
    }

    /// Takes the child from its place, which has run elsewhere and ended well; nothing is left of it.
    #[inline]
    pub(crate) fn end_of_elsewhere(self) {
        // SAFETY: it sits here, and is in no queue: who was to wake it has done so.
        let child = unsafe { self.crew.unseat_unqueued(self.child.header) };
        self.crew.collect(child);
    }

    /// Takes the child from its place; its future has been dropped, and nothing is left of it.
    #[inline]
    pub(crate) fn end(self) {
        // SAFETY: it sits here.
        let child = unsafe { self.crew.unseat(self.child.header) };
        self.crew.collect(child);
    }
}

impl<C: ?Sized> Removed<'_, C> {
    pub(crate) fn member(&self) -> &Member {
        &self.child.member
    }

    /// Drops the future, if it has not been dropped; what it panics with comes through.
    pub(crate) fn drop_future(&mut self) {
        self.child.drop_future();
    }
}

impl<C: ?Sized> Drop for Removed<'_, C> {
    fn drop(&mut self) {
        // SAFETY: it is not used any more.
        let child = unsafe { ManuallyDrop::take(&mut self.child) };
        self.crew.collect(child);
    }
}

impl<C: ?Sized> FutureMut<'_, C> {
    /// Drops the future, which is not polled any more; what it panics with comes through.
    #[inline]
    pub(crate) fn drop_in_place(&mut self) {
        // SAFETY: the child sits in the crew (invariant 2).
        unsafe { drop_future(self.child) }
    }
}

impl<C: ?Sized + Future> FutureMut<'_, C> {
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<C::Output> {
        // SAFETY: the child sits in the crew (invariants 2 and 3).
        let has_future = unsafe { (*self.child.as_ref().owned.get()).has_future };
        assert!(has_future, "a child is not polled after its end");
        // SAFETY: as above.
        unsafe { poll_in_place::<C>(self.child, cx) }
    }
}

/// The way in for the children of a crew of `C`, from any thread where these may be sent.
pub(crate) struct Door<C: ?Sized> {
    queue: Arc<Queue>,
    children: PhantomData<Mutex<Child<C>>>,
}

impl<C: ?Sized> Door<C> {
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Starts the child whose future `make` makes, unless the nursery has closed: then the future comes back.
    #[inline]
    pub(crate) fn start<F: Fits<C>>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        make: impl FnOnce(&Member) -> F,
    ) -> Result<(), F>
    where
        C: Future,
    {
        let place = self.take_place(NewChild::<F>::LAYOUT);
        let child = NewChild::new(&self.queue, place, name, location, make);
        match self.push_checked(child.pin()) {
            Ok(()) => Ok(()),
            // The very child that was of this type, and has not been polled.
            Err(child) => Err(NewChild::<F> {
                child: child.retype(),
            }
            .into_future()),
        }
    }

    /// Starts a child that runs elsewhere, unless the nursery has closed: then `Err` gives the reference for whoever runs it.
    ///
    /// `list` gets it before the nursery does. What comes back are references for whoever runs it, and for its handle.
    #[inline]
    pub(crate) fn place<T: Elsewhere>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        rests: bool,
        shared: T,
        list: impl FnOnce(Share<T>),
    ) -> Result<(Share<T>, Share<T>), Share<T>>
    where
        C: Future<Output = T::Output>,
    {
        let place = self.take_place(Shares::<T>::LAYOUT);
        let (shares, child) =
            Shares::of_new_child(&self.queue, place, name, location, rests, shared);
        list(shares.list);
        match self.push_checked(child) {
            Ok(()) => Ok((shares.runner, shares.handle)),
            Err(refused) => {
                drop(refused);
                Err(shares.runner)
            }
        }
    }

    /// A place in the arena, if that is at hand.
    #[inline]
    fn take_place(&self, layout: Layout) -> Option<Place> {
        let ready = self.queue.ready();
        if ready.is_inside() {
            // SAFETY: inside (invariant 8).
            unsafe { ready.inside(|inside| inside.arena.take(layout)) }
        } else {
            None
        }
    }

    /// Makes a child that is to be handed in later.
    pub(crate) fn hold<F: Fits<C>>(
        &self,
        name: Option<Name>,
        location: &'static Location<'static>,
        future: F,
    ) -> Child<C>
    where
        C: Future,
    {
        let child = NewChild::new(&self.queue, None, name, location, |_| future).pin();
        // SAFETY: it is new.
        unsafe { keep_queue(child.member.header) };
        child
    }

    /// Hands a child in, which comes back if the nursery has closed.
    pub(crate) fn push(&self, child: Child<C>) -> Result<(), Child<C>> {
        assert!(
            child.member.is_of(&self.queue),
            "a child was made for another nursery"
        );
        self.push_checked(child)
    }

    #[inline]
    fn push_checked(&self, child: Child<C>) -> Result<(), Child<C>> {
        let host = self.queue.ready().push_new(child)?;
        wake_outside(host);
        Ok(())
    }
}

impl<C: ?Sized> Clone for Door<C> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            children: PhantomData,
        }
    }
}
