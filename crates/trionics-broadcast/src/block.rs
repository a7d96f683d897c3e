//! A run of values that one appends to while any number read, without a lock: the only unsafe code of the crate.
//!
//! `OnceLock`s would do the same safely, with two read-modify-writes and a call for each value more: pulling took half as long again.
//!
//! Invariants:
//!
//! * B1: a block has at most one [`Appender`], and only that one changes `n_set` or a slot of a block that is shared.
//! * B2: exactly the slots below `n_set` hold a value, apart from the one that an append is just writing.
//! * B3: `n_set` grows after its slot was written (`Release`), and is read before a slot is looked at (`Acquire`). A shared block's
//!   `n_set` never shrinks, so that a value that can be seen stays where it is as long as the block is shared.

use std::{mem::MaybeUninit, slice, sync::atomic::Ordering};

use crate::loom::{AtomicUsize, CheckedArc, UnsafeCell};

/// A block that is shared; the last to leave it drops its values, after all others have looked at them.
pub(crate) type SharedBlock<T> = CheckedArc<Block<T>>;

/// A run of consecutive values with a fixed room.
pub(crate) struct Block<T> {
    n_set: AtomicUsize,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: through a shared block, other threads are given `&T`, which takes `T: Sync`, and values that one thread has put in are
// dropped by another, which takes `T: Send`. What else is shared is an atomic, and slots that nobody touches but as B1 to B3 say.
unsafe impl<T: Send + Sync> Sync for Block<T> {}

/// The right to append to a block.
pub(crate) struct Appender<T>(SharedBlock<T>);

impl<T> Block<T> {
    /// How many values there is room for.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The value in this slot, once it was appended.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.n_set.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `n_set` is never more than the number of slots (B2).
        let slot = unsafe { self.slots.get_unchecked(index) };
        // SAFETY: the slot holds a value (B2), whose writing happens before this (B3), and which nobody writes or drops while
        // the block is borrowed: the appender writes slots from `n_set` on only (B1), and `clear` borrows mutably.
        Some(slot.with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    /// Drops all values, the oldest first; if one of them panics, the rest is dropped all the same.
    fn clear(&mut self) {
        // From here on none of them counts as being held (B2).
        let n_set = self.n_set.load(Ordering::Relaxed);
        self.n_set.store(0, Ordering::Relaxed);
        let mut leaving = Leaving(self.slots[..n_set].iter());
        leaving.drop_each();
    }
}

/// Values that are in no count any more, in a block that is borrowed mutably: each is dropped once, whatever happens.
struct Leaving<'a, T>(slice::Iter<'a, UnsafeCell<MaybeUninit<T>>>);

impl<T> Leaving<'_, T> {
    fn drop_each(&mut self) {
        for slot in &mut self.0 {
            // SAFETY: nobody else looks at the block, the slot held a value when it was counted (B2), and the iterator has gone past
            // it before the value is dropped.
            slot.with_mut(|slot| unsafe { (*slot).assume_init_drop() });
        }
    }
}

/// Goes on after a panic.
impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.drop_each();
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T> Appender<T> {
    /// A new block.
    pub(crate) fn new(len: usize) -> Self {
        let slot = |_| UnsafeCell::new(MaybeUninit::uninit());
        Self(CheckedArc::new(Block {
            n_set: AtomicUsize::new(0),
            slots: (0..len).map(slot).collect(),
        }))
    }

    /// Drops the values of a block, for its memory to be used again, unless somebody else has it.
    pub(crate) fn reuse(mut block: SharedBlock<T>) -> Option<Self> {
        // An appender would be somebody else: it shares the block (B1).
        CheckedArc::get_mut(&mut block)?.clear();
        Some(Self(block))
    }

    /// The block that this appends to.
    #[inline]
    pub(crate) fn block(&self) -> &SharedBlock<T> {
        &self.0
    }

    /// Appends a value, and tells its slot.
    ///
    /// # Panics
    ///
    /// If there is no room.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> usize {
        let n_set = self.0.n_set.load(Ordering::Relaxed);
        // SAFETY: the slot holds no value (B2), nobody reads it before `n_set` has grown (B3), and nobody else appends, as the one
        // appender is borrowed mutably (B1).
        self.0.slots[n_set].with_mut(|slot| unsafe {
            (*slot).write(value);
        });
        self.0.n_set.store(n_set + 1, Ordering::Release);
        n_set
    }
}

#[cfg(all(test, not(trionics_loom)))]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
    };

    use super::*;

    /// Counts itself while it lives, by a share in an `Arc`.
    type Counted = Arc<()>;

    /// Panics when dropped, if so armed.
    struct Bomb(bool, #[expect(dead_code, reason = "counts")] Counted);

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "a bomb");
        }
    }

    #[test]
    fn values_appear_in_turn_and_stay_in_place() {
        let mut appender = Appender::new(3);
        let block = Arc::clone(appender.block());
        assert_eq!((block.len(), block.get(0)), (3, None));
        appender.push("a".to_owned());
        let first = block.get(0).expect("it was appended");
        appender.push("b".to_owned());
        assert_eq!(
            (first.as_str(), block.get(1).map(String::as_str)),
            ("a", Some("b"))
        );
        assert_eq!((block.get(2), block.get(3)), (None, None));
    }

    #[test]
    fn there_is_no_room_for_more() {
        let counted = Counted::default();
        let mut appender = Appender::new(1);
        appender.push(counted.clone());
        let pushed = catch_unwind(AssertUnwindSafe(|| appender.push(counted.clone())));
        assert!(pushed.is_err());
        assert_eq!(Arc::strong_count(&counted), 2);
        drop(appender);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn only_a_block_of_nobody_else_is_used_again() {
        let counted = Counted::default();
        let mut appender = Appender::new(2);
        appender.push(counted.clone());
        let block = Arc::clone(appender.block());
        assert!(Appender::reuse(block).is_none());
        let block = Arc::clone(appender.block());
        drop(appender);
        let mut appender = Appender::reuse(block).expect("nobody else has it");
        assert_eq!(Arc::strong_count(&counted), 1);
        assert!(appender.block().get(0).is_none());
        appender.push(counted.clone());
        appender.push(counted.clone());
        drop(appender);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn a_drop_that_panics_leaks_and_repeats_nothing() {
        for (armed, is_reused) in [(0, false), (1, false), (2, false), (0, true), (2, true)] {
            let counted = Counted::default();
            let mut appender = Appender::new(4);
            for index in 0..3 {
                appender.push(Bomb(index == armed, counted.clone()));
            }
            let block = Arc::clone(appender.block());
            drop(appender);
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                if is_reused {
                    drop(Appender::reuse(block));
                } else {
                    drop(block);
                }
            }));
            assert!(dropped.is_err());
            assert_eq!(Arc::strong_count(&counted), 1, "{armed} {is_reused}");
        }
    }
}

#[cfg(all(test, trionics_loom))]
mod models {
    use loom::thread;

    use super::*;

    /// One appends while another reads, and the memory is used again as soon as the other has left: what is read is whole and in turn.
    #[test]
    fn appending_under_a_reader() {
        loom::model(|| {
            let mut appender = Appender::new(2);
            let block = SharedBlock::clone(appender.block());
            let reading = thread::spawn(move || {
                for index in (0..2).rev() {
                    let value: Option<&Box<usize>> = block.get(index);
                    assert!(value.is_none_or(|value| **value == index));
                }
                assert!(block.get(1).is_none() || block.get(0).is_some());
            });
            for number in 0..2 {
                assert_eq!(appender.push(Box::new(number)), number);
            }
            let block = SharedBlock::clone(appender.block());
            drop(appender);
            if let Some(mut appender) = Appender::reuse(block) {
                assert!(appender.block().get(0).is_none());
                appender.push(Box::new(7));
            }
            reading.join().expect("it does not panic");
        });
    }
}
