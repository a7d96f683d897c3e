//! Children that run elsewhere: behind the header lies what the nursery shares with whoever runs the child (invariant 11).

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    panic::Location,
    ptr::NonNull,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Child, ELSEWHERE, Header, Member, Name, Queue, RESTS, Vtable, keeper};
use crate::nursery::remote::Remote;

/// What a nursery shares with a child that runs elsewhere.
pub(crate) trait Elsewhere: Remote + Sized + 'static {
    type Output;

    /// The nursery's look at whether the child has ended; `member` is the child's.
    fn poll(&self, member: &Member) -> Poll<Self::Output>;

    /// The nursery lets go of the child, once.
    fn let_go(&self);
}

/// A child that runs elsewhere: one allocation for its member and what is shared.
///
/// It is freed with the last reference to it; all references to the member hold one of those together.
#[repr(C)]
pub(crate) struct Placed<T> {
    header: Header,
    shared: T,
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

impl<T: Elsewhere> Placed<T> {
    const VTABLE: &'static Vtable = &Vtable {
        poll: Self::poll,
        drop_future: Self::let_go,
        free: Self::free,
        remote: |header| {
            // SAFETY: `header` begins a `Placed<T>`, of which the caller holds a reference.
            let this: &Self = unsafe { header.cast().as_ref() };
            Some(NonNull::from(&this.shared as &dyn Remote))
        },
    };

    /// A child `of` a nursery whose children's outputs are those of `C`; one that `rests` is polled only once it has ended.
    #[inline]
    pub(super) fn new<C: ?Sized + Future<Output = T::Output>>(
        of: &Arc<Queue>,
        name: Option<Name>,
        location: &'static Location<'static>,
        rests: bool,
        shared: T,
    ) -> (Arc<Self>, Child<C>) {
        let queue = NonNull::new(Arc::as_ptr(of).cast_mut()).expect("not null");
        let flags = ELSEWHERE | if rests { RESTS } else { 0 };
        let mut header = Header::new(Self::VTABLE, flags, queue, name, location, 0);
        header.owned.get_mut().has_future = true;
        let placed = Arc::new(Self { header, shared });
        // What all references to the member hold together; the pointer is to the whole allocation.
        let kept = Arc::into_raw(Arc::clone(&placed));
        let child = Child {
            member: Member {
                header: NonNull::new(kept.cast_mut().cast()).expect("not null"),
            },
            // Its future is the nursery's share in `T`, which may be sent.
            future: PhantomData,
        };
        (placed, child)
    }

    unsafe fn poll(header: NonNull<Header>, _: &mut Context<'_>, out: *mut ()) {
        // SAFETY: as in `VTABLE`.
        let this: &Self = unsafe { header.cast().as_ref() };
        let member = ManuallyDrop::new(Member { header });
        let polled = this.shared.poll(&member);
        // SAFETY: the caller gives room for a `Poll` of the output (invariant 3).
        unsafe { out.cast::<Poll<T::Output>>().write(polled) }
    }

    unsafe fn let_go(header: NonNull<Header>) {
        // SAFETY: as in `VTABLE`.
        let this: &Self = unsafe { header.cast().as_ref() };
        this.shared.let_go();
    }

    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: the last reference to the member has gone.
        let queue = unsafe { keeper(header) };
        // SAFETY: what they all held together.
        drop(unsafe { Arc::from_raw(header.cast::<Self>().as_ptr().cast_const()) });
        drop(queue);
    }
}
