//! `Send`, `Sync`, `Unpin` and `'static` follow the errors.

use std::{cell::Cell, rc::Rc};

use trionics_errgroup::{
    AnyError, CancelReason, Cancelled, Collapse, EmptyGroup, Failure, FailureContext, FailureMark,
    Leaves, LibraryFailure, Masked, Mismatch, Node, Teardown, Tree, Unmask,
};

/// Whether a type implements an auto trait: the inherent constant is there only if it does.
macro_rules! implements {
    ($type:ty: $trait:path) => {{
        #[allow(dead_code, reason = "used only where the bound does not hold")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "used only where the bound holds")]
        impl<T: ?Sized + $trait> Asked<T> {
            const ANSWER: bool = true;
        }
        <Asked<$type>>::ANSWER
    }};
}

type NotSync = Cell<u8>;
type NotSend = Rc<u8>;

#[test]
fn failures_follow_their_errors() {
    assert!(implements!(Failure: Send));
    assert!(implements!(Failure: Sync));
    assert!(implements!(Failure: Unpin));
    assert!(implements!(Failure<NotSync>: Send));
    assert!(!implements!(Failure<NotSync>: Sync));
    assert!(!implements!(Failure<NotSend>: Send));
    assert!(!implements!(Failure<NotSend>: Sync));
    assert!(implements!(Node<NotSync>: Send));
    assert!(!implements!(Node<NotSync>: Sync));
    assert!(implements!(Teardown<u8, NotSync>: Send));
    assert!(!implements!(Teardown<u8, NotSend>: Send));
}

#[test]
fn what_borrows_a_failure_follows_its_errors() {
    assert!(implements!(Leaves<'static, AnyError>: Send));
    assert!(!implements!(Leaves<'static, NotSync>: Send));
    assert!(implements!(FailureContext<'static, AnyError>: Send));
    assert!(implements!(Tree<'static, AnyError>: Send));
    assert!(implements!(Masked<'static, AnyError>: Send));
}

#[test]
fn what_holds_no_error_is_free() {
    assert!(implements!(AnyError: Send));
    assert!(implements!(AnyError: Sync));
    assert!(implements!(Cancelled: Send));
    assert!(implements!(Cancelled: Sync));
    assert!(implements!(CancelReason: Sync));
    assert!(implements!(LibraryFailure: Sync));
    assert!(implements!(EmptyGroup: Sync));
    assert!(implements!(FailureMark: Send));
    assert!(implements!(FailureMark: Sync));
    assert!(implements!(Mismatch: Sync));
    assert!(implements!(Collapse<NotSend>: Send));
    assert!(implements!(Collapse<NotSend>: Sync));
    assert!(implements!(Unmask<NotSend>: Send));
}

/// A failure may borrow what its error borrows.
#[test]
fn errors_may_borrow() {
    let text = String::from("borrowed");
    let group = Failure::group("group", [Failure::leaf(text.as_str())]).unwrap();
    assert!(group.errors().eq(&["borrowed"]));
}

/// `?` in a future that is spawned asks for `Send`, which a failure of `Send` errors is.
#[test]
fn futures_around_results_are_send() {
    use trionics_errgroup::OutcomeFutureExt;
    fn is_send<T: Send>(_: &T) {}
    let future = async { Err::<(), Failure>(Failure::new(std::fmt::Error)) };
    let collapse = Collapse::new().ignore_type::<std::fmt::Error>();
    let unmask = Unmask::new().keep_type::<std::fmt::Error>();
    let whole = future
        .maybe_raise_from_masking_exc_with(unmask)
        .collapse_eg_with(collapse)
        .absorb_cancelled();
    is_send(&whole);
}
