//! An exit that was pushed, until its turn.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use trionics_nursery::internal::ContextPlace;

pin_project! {
    /// Reports an exit that is dropped before it was polled for the first time; from then on the
    /// context that it is made of does.
    pub(super) struct Pushed<F> {
        #[pin]
        child: F,
        polled: bool,
        pushed_in: ContextPlace,
        location: &'static Location<'static>,
    }

    impl<F> PinnedDrop for Pushed<F> {
        fn drop(this: Pin<&mut Self>) {
            if !this.polled {
                this.pushed_in.report_dropped(this.location);
            }
        }
    }
}

impl<F> Pushed<F> {
    pub(super) fn new(location: &'static Location<'static>, child: F) -> Self {
        let pushed_in = ContextPlace::default();
        pushed_in.settle();
        Self {
            child,
            polled: false,
            pushed_in,
            location,
        }
    }
}

impl<F: Future> Future for Pushed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        *this.polled = true;
        this.child.poll(cx)
    }
}
