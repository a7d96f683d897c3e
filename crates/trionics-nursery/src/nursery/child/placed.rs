//! Children that run elsewhere: behind the header lies what the nursery shares with whoever runs the child (invariant 11).

use std::{
    alloc::Layout,
    future::Future,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    panic::Location,
    ptr::NonNull,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Child, ELSEWHERE, Header, Member, Name, ONE, Queue, RESTS, Vtable, arena::Place, drop_in_place,
    free,
};
use crate::{
    current::{self, Current},
    nursery::remote::Remote,
};

/// What a nursery shares with a child that runs elsewhere.
pub(crate) trait Elsewhere: Remote + Sized + 'static {
    type Output;

    /// The nursery's look at whether the child has ended; `member` is the child's.
    fn poll(&self, member: &Member) -> Poll<Self::Output>;

    /// The nursery lets go of the child, once.
    fn let_go(&self);
}

/// The allocation of a child that runs elsewhere. The header comes first, as in [`Allocation`](super::Allocation).
#[repr(C)]
struct Placed<T> {
    header: Header,
    shared: T,
}

/// A reference to a child that runs elsewhere, counted as a member, and to what is shared with it.
pub(crate) struct Share<T> {
    member: Member,
    /// As with an `Arc`: it may go where what is shared may be used and dropped.
    shared: PhantomData<Arc<T>>,
}

impl<T> Share<T> {
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// The part of what is shared that `pick` picks, with a reference to the child.
    pub(crate) fn into_part<U: ?Sized>(self, pick: impl FnOnce(&T) -> &U) -> Part<U>
    where
        T: 'static,
    {
        let part = NonNull::from(pick(&self));
        Part {
            member: self.member,
            part,
        }
    }

    /// The child as those know it who do not care what is shared.
    pub(crate) fn into_away(self) -> AwayMember {
        AwayMember(self.member)
    }

    /// Runs `f` with this child as the current frame of the thread.
    #[inline]
    pub(crate) fn as_current<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Current>);
        impl Drop for Restore {
            #[inline]
            fn drop(&mut self) {
                drop(current::swap(self.0.take()));
            }
        }
        // Not counted, as in `Member::as_current`.
        let current = CurrentAway(ManuallyDrop::new(AwayMember(Member {
            header: self.member.header,
        })));
        let _restore = Restore(current::swap(Some(Current::Away(current))));
        f()
    }
}

impl<T> Deref for Share<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.member.assert_is_there();
        // SAFETY: it is a member of a `Placed<T>`, there as long as this reference (invariant 1), and what is shared stays
        // until the last one goes (invariant 11).
        unsafe { &(*self.member.header.cast::<Placed<T>>().as_ptr()).shared }
    }
}

/// A part of what is shared with a child that runs elsewhere, with a reference to the child.
pub(crate) struct Part<U: ?Sized> {
    /// Keeps the part.
    member: Member,
    part: NonNull<U>,
}

// SAFETY: it is a counted reference to something that may be shared anywhere; what that is a part of is an `Elsewhere`, and
// may be shared and dropped anywhere, too.
unsafe impl<U: ?Sized + Send + Sync> Send for Part<U> {}
// SAFETY: as above.
unsafe impl<U: ?Sized + Send + Sync> Sync for Part<U> {}

impl<U: ?Sized> Deref for Part<U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        self.member.assert_is_there();
        // SAFETY: what it is a part of is there as long as the member (invariant 11).
        unsafe { self.part.as_ref() }
    }
}

/// A reference to a child that runs elsewhere, whatever is shared with it; one pointer wide.
#[derive(Clone)]
pub(crate) struct AwayMember(Member);

impl Deref for AwayMember {
    type Target = dyn Remote;

    fn deref(&self) -> &(dyn Remote + 'static) {
        let remote = self.0.header().vtable.remote;
        // SAFETY: it is a member of a `Placed`, and there as long as this reference.
        unsafe { remote(self.0.header).as_ref() }
    }
}

/// A child that runs elsewhere and whose code runs on this thread: see [`Share::as_current`].
pub(crate) struct CurrentAway(ManuallyDrop<AwayMember>);

impl Deref for CurrentAway {
    type Target = AwayMember;

    fn deref(&self) -> &AwayMember {
        &self.0
    }
}

impl<T: Elsewhere> Placed<T> {
    const VTABLE: &'static Vtable = &Vtable {
        poll: Self::poll,
        drop_future: Self::let_go,
        drop_in_place: drop_in_place::<Self>,
        free: free::<Self>,
        remote: Self::remote,
    };

    /// # Safety
    ///
    /// `header` begins a `Placed<T>`, which is there for so long.
    #[inline]
    unsafe fn shared<'a>(header: NonNull<Header>) -> &'a T {
        // SAFETY: the caller's; nobody has more than a shared reference to it.
        unsafe { &(*header.cast::<Self>().as_ptr()).shared }
    }

    unsafe fn poll(header: NonNull<Header>, _: &mut Context<'_>, out: *mut ()) {
        let member = ManuallyDrop::new(Member { header });
        // SAFETY: the caller has a reference, and gives room for a `Poll` of the output (invariant 3).
        unsafe {
            out.cast::<Poll<T::Output>>()
                .write(Self::shared(header).poll(&member))
        }
    }

    unsafe fn let_go(header: NonNull<Header>) {
        // SAFETY: the caller has a reference.
        unsafe { Self::shared(header) }.let_go();
    }

    unsafe fn remote(header: NonNull<Header>) -> NonNull<dyn Remote> {
        // SAFETY: the caller has a reference.
        NonNull::from(unsafe { Self::shared(header) } as &dyn Remote)
    }
}

/// The references to a new child that runs elsewhere.
pub(super) struct Shares<T> {
    /// For the list of those that are away.
    pub(super) list: Share<T>,
    /// For whoever runs it.
    pub(super) runner: Share<T>,
    /// For its handle.
    pub(super) handle: Share<T>,
}

impl<T: Elsewhere> Shares<T> {
    pub(super) const LAYOUT: Layout = Layout::new::<Placed<T>>();

    /// A child `of` a nursery whose children's outputs are those of `C`, with one reference for each who will have one: one that
    /// `rests` is polled only once it has ended.
    ///
    /// A `place` is one for [`LAYOUT`](Self::LAYOUT).
    #[inline]
    pub(super) fn of_new_child<C: ?Sized + Future<Output = T::Output>>(
        of: &Arc<Queue>,
        place: Option<Place>,
        name: Option<Name>,
        location: &'static Location<'static>,
        rests: bool,
        shared: T,
    ) -> (Self, Child<C>) {
        let (at, units) = match place {
            Some(place) => (place.at.cast(), place.units),
            None => (
                NonNull::from(Box::leak(Box::<Placed<T>>::new_uninit())).cast(),
                0,
            ),
        };
        let queue = NonNull::new(Arc::as_ptr(of).cast_mut()).expect("not null");
        let flags = ELSEWHERE | if rests { RESTS } else { 0 };
        let mut header = Header::new(Placed::<T>::VTABLE, flags, queue, name, location, units);
        // What the crew owns in its place is the nursery's part.
        header.owned.get_mut().has_future = true;
        // Counted here, where it takes no exchange.
        *header.word.get_mut() += 3 * ONE;
        // SAFETY: it is nobody else's.
        unsafe { at.write(Placed { header, shared }) };
        // Four references: the one with which a header begins, and those that were counted just now.
        let member = || Member { header: at.cast() };
        let share = || Share {
            member: member(),
            shared: PhantomData,
        };
        let shares = Self {
            list: share(),
            runner: share(),
            handle: share(),
        };
        let child = Child {
            member: member(),
            future: PhantomData,
        };
        (shares, child)
    }
}
