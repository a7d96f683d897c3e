//! Scopes as tokens for code that is not inside them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
};

use trionics_errgroup::Cancelled;

use crate::{
    current,
    node::Node,
    report::FrameKind,
    sync::{Mutex, lock},
};

/// The future of [`CancelScope::wait_cancelled`](super::CancelScope::wait_cancelled).
#[must_use = "futures do nothing unless polled"]
pub struct WaitCancelled {
    scope: Arc<Node>,
    /// Hangs under the scope once it is polled.
    ear: Option<Ear>,
}

impl WaitCancelled {
    pub(super) fn new(scope: &Arc<Node>) -> Self {
        Self {
            scope: Arc::clone(scope),
            ear: None,
        }
    }
}

impl Future for WaitCancelled {
    type Output = Cancelled;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let this = self.get_mut();
        this.scope.notice_if_due();
        let ear = this.ear.get_or_insert_with(|| Ear::new(&this.scope));
        ear.node.register(cx.waker());
        // A cancellation from before the registration has woken nobody.
        if !this.scope.is_effective() {
            return Poll::Pending;
        }
        this.ear = None;
        Poll::Ready(this.scope.cancelled_or_closed())
    }
}

impl fmt::Debug for WaitCancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitCancelled")
            .field("scope", &format_args!("{}", self.scope.info()))
            .finish_non_exhaustive()
    }
}

/// A node under a scope that is woken when the scope is cancelled; never live, nobody waits for it.
struct Ear {
    node: Arc<Node>,
}

impl Ear {
    fn new(scope: &Arc<Node>) -> Self {
        let node = Node::new(FrameKind::CancelRequested, scope.info().location());
        node.attach(Some(Arc::clone(scope)), false);
        Self { node }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.node.retire();
    }
}

/// Keeps a callback from [`CancelScope::on_cancel`](super::CancelScope::on_cancel) waiting; dropping it
/// takes the callback back.
#[must_use = "the callback goes with it"]
pub struct OnCancel {
    call: Arc<Call>,
    _ear: Ear,
}

type Callback = Box<dyn FnOnce(&Cancelled) + Send>;

/// The callback, in the shape of a waker.
struct Call {
    /// Not owned: a scope owns its ears, and an ear its waker.
    scope: Weak<Node>,
    ear: Weak<Node>,
    callback: Mutex<Option<Callback>>,
}

impl OnCancel {
    pub(super) fn new(scope: &Arc<Node>, callback: Callback) -> Self {
        scope.notice_if_due();
        let ear = Ear::new(scope);
        let call = Arc::new(Call {
            scope: Arc::downgrade(scope),
            ear: Arc::downgrade(&ear.node),
            callback: Mutex::new(Some(callback)),
        });
        call.listen();
        Self { call, _ear: ear }
    }
}

impl Call {
    /// Calls back if the scope is cancelled, and waits for that otherwise.
    fn listen(self: &Arc<Self>) {
        let (Some(scope), Some(ear)) = (self.scope.upgrade(), self.ear.upgrade()) else {
            return;
        };
        ear.register(&Waker::from(Arc::clone(self)));
        if !scope.is_effective() && !scope.is_retired() {
            return;
        }
        let callback = lock(&self.callback).take();
        let _outside = current::clear();
        match callback {
            Some(callback) if scope.is_effective() => callback(&scope.cancelled_or_closed()),
            callback => drop(callback),
        }
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.listen();
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        let callback = lock(&self.call.callback).take();
        drop(callback);
    }
}

impl fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnCancel")
            .field("waits", &lock(&self.call.callback).is_some())
            .finish_non_exhaustive()
    }
}
