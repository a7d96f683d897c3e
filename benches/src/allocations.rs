//! A counting allocator: what a piece of work allocates, and what it holds when it is done.
//!
//! It is the system's allocator, and counts for a thread only while [`count`] runs there. Elsewhere it costs a look at a
//! thread-local flag, the same for all subjects, so that times can be taken in the same program.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What a thread has asked of the allocator meanwhile. What other threads allocate or free is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Calls that gave memory, those that moved or resized it included.
    pub calls: u64,
    /// Bytes that were given in all, freed since or not.
    pub bytes: u64,
    /// Pieces of memory that are still there at the end: those given less those freed.
    pub held: i64,
    /// Bytes that are still there at the end: those given less those freed.
    pub held_bytes: i64,
    /// The most bytes that were there at once.
    pub peak_bytes: i64,
}

/// Counts what this thread allocates while `work` runs. The result is given back, so what it holds counts as held.
///
/// ```
/// use trionics_benches::allocations::count;
///
/// let (list, counted) = count(|| Vec::<u64>::with_capacity(100));
/// assert_eq!((counted.held, counted.held_bytes), (1, 800));
/// drop(list);
/// ```
///
/// # Panics
///
/// If this thread is counting already.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    /// Ends the counting also where the work panics.
    struct Counting;

    impl Drop for Counting {
        fn drop(&mut self) {
            COUNTING.set(false);
        }
    }

    assert!(!COUNTING.get(), "this thread is counting already");
    COUNTED.set(Allocations::default());
    let counting = Counting;
    COUNTING.set(true);
    let result = work();
    drop(counting);
    (result, COUNTED.get())
}

thread_local! {
    /// Whether this thread counts.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    /// What it has counted since it began.
    static COUNTED: Cell<Allocations> = const {
        Cell::new(Allocations { calls: 0, bytes: 0, held: 0, held_bytes: 0, peak_bytes: 0 })
    };
}

impl Allocations {
    fn give(&mut self, size: usize) {
        self.calls += 1;
        self.bytes += size as u64;
        self.held += 1;
        self.held_bytes += size as i64;
        self.peak_bytes = self.peak_bytes.max(self.held_bytes);
    }

    fn free(&mut self, size: usize) {
        self.held -= 1;
        self.held_bytes -= size as i64;
    }
}

/// Adds to this thread's figures, if it counts.
fn note(change: impl FnOnce(&mut Allocations)) {
    if COUNTING.get() {
        let mut counted = COUNTED.get();
        change(&mut counted);
        COUNTED.set(counted);
    }
}

/// The system's allocator, which is asked in any case.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[allow(
    unsafe_code,
    reason = "an allocator is an unsafe trait; every call goes to the system's one as it came"
)]
// SAFETY: every method hands its arguments to `System` unchanged and returns what that returned. The counting neither
// allocates nor panics: the thread-locals are plain cells that need neither initialization nor a destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(|counted| counted.give(layout.size()));
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(|counted| counted.give(layout.size()));
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(|counted| counted.free(layout.size()));
        // SAFETY: the pointer came from the system's allocator with this layout, as all do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(|counted| {
            counted.free(layout.size());
            counted.give(new_size);
        });
        // SAFETY: the pointer came from the system's allocator with this layout, and the caller vouches for the size.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use std::{panic, thread};

    use super::*;

    #[test]
    fn what_is_held_and_what_was_freed() {
        let (kept, counted) = count(|| {
            let kept = Box::new([0_u8; 100]);
            drop(Box::new([0_u8; 1000]));
            drop(vec![0_u8; 10]);
            kept
        });
        let expected = Allocations {
            calls: 3,
            bytes: 1110,
            held: 1,
            held_bytes: 100,
            peak_bytes: 1100,
        };
        assert_eq!(counted, expected);
        drop(kept);
    }

    #[test]
    fn a_list_that_grows_is_one_piece() {
        let (list, counted) = count(|| {
            let mut list = vec![0_u32];
            list.push(2);
            list
        });
        assert_eq!((counted.held, counted.calls), (1, 2));
        assert_eq!(counted.held_bytes as usize, list.capacity() * 4);
    }

    #[test]
    fn memory_that_was_there_before_can_be_freed() {
        let before = Box::new([0_u8; 64]);
        let ((), counted) = count(|| drop(before));
        assert_eq!(
            (counted.held, counted.held_bytes, counted.peak_bytes),
            (-1, -64, 0)
        );
    }

    #[test]
    fn other_threads_are_not_counted() {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<()>(0);
        let other = thread::spawn(move || {
            while receiver.recv().is_ok() {
                drop(vec![0_u8; 1_000_000]);
            }
        });
        let ((), counted) = count(|| {
            for _ in 0..10 {
                sender.send(()).expect("the other thread listens");
            }
        });
        assert!(counted.bytes < 1_000_000, "{counted:?}");
        drop(sender);
        other.join().expect("the other thread ends");
    }

    #[test]
    fn a_panic_ends_the_counting() {
        let outcome = panic::catch_unwind(|| count(|| panic!("on purpose")));
        assert!(outcome.is_err());
        let ((), counted) = count(|| ());
        assert_eq!(counted, Allocations::default());
    }

    #[test]
    #[should_panic(expected = "counting already")]
    fn counts_do_not_nest() {
        count(|| count(|| ()));
    }
}
