//! Where the allocations of children come from when there are many: chunks of equal places.
//!
//! Places are taken and given back, without an atomic operation, by the thread that polls the nursery. Whoever else lets go of
//! a place only counts it; a chunk whose places have all gone is used again when the arena comes by, or freed with the arena.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

use super::Header;
use crate::sync::{AtomicUsize, Ordering};

/// In a model, and under a sanitizer, chunks are as small as can be; under that they begin with the first child.
const TINY: bool = cfg!(any(trionics_shuttle, trionics_sanitize));
/// How many children of a nursery have allocations of their own before it has an arena.
const FIRST_ALONE: u32 = if cfg!(trionics_sanitize) { 0 } else { 2 };
/// Children of how many sizes have places; others have allocations of their own.
const N_SIZES: usize = 2;
/// The largest place.
const MAX_BYTES: usize = 512;
/// The sizes of places, and of what comes before them in a chunk, are multiples of this, which is also their alignment.
const UNIT: usize = 16;
/// How many places the first chunk of a size has, …
const FIRST_PLACES: usize = if TINY { 1 } else { 8 };
/// … and at most how many a later one has, each of which has twice as many as the one before.
const MAX_PLACES: usize = if TINY { 1 } else { 64 };
/// How many chunks are looked at before a new one is made.
const LOOKS: usize = 2;
/// What `Chunk::gone` comes to when the arena has gone and then the last place.
const ALL_GONE: usize = 1 << (usize::BITS - 1);

/// The places of a nursery's children; it belongs to the thread inside (invariant 8).
#[derive(Default)]
pub(super) struct Arena {
    n_alone: u32,
    sizes: Option<Box<[Size; N_SIZES]>>,
}

/// Chunks with places of one size.
#[derive(Default)]
struct Size {
    /// 0: not used yet.
    bytes: usize,
    /// Where places are taken from.
    current: Option<NonNull<Chunk>>,
    /// Others with places that were given back.
    with_room: List,
    /// Others without.
    full: List,
    /// How many places the last chunk has.
    n_places: usize,
}

/// Begins a chunk. All but `gone` belongs to the arena, as long as that is there.
struct Chunk {
    /// Places that were given back, each with a pointer to the next one.
    free: Option<NonNull<Free>>,
    /// The unused places, behind those that were ever taken.
    unused: NonNull<u8>,
    n_unused: usize,
    /// How many places were taken and not given back to the arena.
    n_used: usize,
    /// How many of those have gone by way of somebody else; once the arena has gone, it lacks to [`ALL_GONE`] as many as are left.
    gone: AtomicUsize,
    previous: Option<NonNull<Chunk>>,
    next: Option<NonNull<Chunk>>,
    /// It is the current one of its size, or among those with room.
    has_room: bool,
    /// The index of its size.
    size: usize,
    layout: Layout,
}

/// A place that was given back.
struct Free {
    next: Option<NonNull<Free>>,
}

/// Where the first place of a chunk begins.
const FIRST_PLACE: usize = size_of::<Chunk>().next_multiple_of(UNIT);

/// A place for a child.
pub(super) struct Place {
    pub(super) at: NonNull<u8>,
    /// How many units it is behind the beginning of its chunk.
    pub(super) units: u16,
}

impl Arena {
    /// A place for something of this layout; `None`: it is to have an allocation of its own.
    #[inline]
    pub(super) fn take(&mut self, layout: Layout) -> Option<Place> {
        if layout.align() > UNIT || layout.size() > MAX_BYTES {
            return None;
        }
        let bytes = layout.size().next_multiple_of(UNIT);
        if let Some(sizes) = &mut self.sizes
            && sizes[0].bytes == bytes
            && let Some(place) = sizes[0].take_from_current()
        {
            return Some(place);
        }
        self.take_elsewhere(bytes)
    }

    #[inline(never)]
    fn take_elsewhere(&mut self, bytes: usize) -> Option<Place> {
        if self.n_alone < FIRST_ALONE {
            self.n_alone += 1;
            return None;
        }
        let sizes = self.sizes.get_or_insert_default();
        let index = sizes
            .iter()
            .position(|size| size.bytes == bytes || size.bytes == 0)?;
        let size = &mut sizes[index];
        size.bytes = bytes;
        if let Some(place) = size.take_from_current() {
            return Some(place);
        }
        size.change_current(index);
        size.take_from_current()
    }

    /// Gives back a place that is `units` behind the beginning of its chunk.
    ///
    /// # Safety
    ///
    /// The place came from this arena, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn give_back(&mut self, at: NonNull<Header>, units: u16) {
        // SAFETY: the caller's; the chunk is there as long as one of its places is used, and the arena's. A place is large
        // enough for a `Free`.
        unsafe {
            let place = chunk_of(at, units);
            let chunk = place.as_ptr();
            let free = at.cast::<Free>();
            free.write(Free {
                next: (*chunk).free,
            });
            (*chunk).free = Some(free);
            (*chunk).n_used -= 1;
            if (!(*chunk).has_room || is_left(place))
                && let Some(sizes) = &mut self.sizes
            {
                sizes[(*chunk).size].found_room(place);
            }
        }
    }
}

/// # Safety
///
/// A place is at `at`, `units` behind the beginning of its chunk.
unsafe fn chunk_of(at: NonNull<Header>, units: u16) -> NonNull<Chunk> {
    // SAFETY: the caller's; the pointer to the place came from that to the chunk.
    unsafe { at.byte_sub(usize::from(units) * UNIT).cast() }
}

/// Somebody who is not the thread inside lets go of a place.
///
/// # Safety
///
/// A place is at `at`, `units` behind the beginning of its chunk, and nobody uses it any more.
pub(super) unsafe fn let_go(at: NonNull<Header>, units: u16) {
    // SAFETY: the caller's; the chunk is there as long as one of its places is used. Once this one is counted, only what the
    // count has become tells whether it still is.
    unsafe {
        let chunk = chunk_of(at, units);
        let gone = (*chunk.as_ptr()).gone.fetch_add(1, Ordering::AcqRel) + 1;
        if gone == ALL_GONE {
            free(chunk);
        }
    }
}

/// # Safety
///
/// Nobody uses the chunk or one of its places any more.
unsafe fn free(chunk: NonNull<Chunk>) {
    // SAFETY: the caller's.
    unsafe {
        let layout = (*chunk.as_ptr()).layout;
        chunk.drop_in_place();
        dealloc(chunk.as_ptr().cast(), layout);
    }
}

/// All places that were taken have gone, by way of the arena or of others.
///
/// # Safety
///
/// The chunk is the caller's.
#[inline]
unsafe fn is_left(chunk: NonNull<Chunk>) -> bool {
    // SAFETY: the caller's; a reference to all of the chunk would claim `gone`, too.
    unsafe { (*chunk.as_ptr()).gone.load(Ordering::Acquire) == (*chunk.as_ptr()).n_used }
}

impl Size {
    #[inline]
    fn take_from_current(&mut self) -> Option<Place> {
        let current = self.current?;
        let chunk = current.as_ptr();
        // SAFETY: it is the arena's; a free place was written to when it was given back, and unused ones are in the chunk.
        let at = unsafe {
            let at = match (*chunk).free {
                Some(free) => {
                    (*chunk).free = (*free.as_ptr()).next;
                    free.cast()
                }
                None if (*chunk).n_unused > 0 => {
                    let at = (*chunk).unused;
                    (*chunk).n_unused -= 1;
                    (*chunk).unused = at.byte_add(self.bytes);
                    at
                }
                None => return None,
            };
            (*chunk).n_used += 1;
            at
        };
        let units = (at.addr().get() - current.addr().get()) / UNIT;
        Some(Place {
            at,
            units: units as u16,
        })
    }

    /// Finds or makes a chunk with room in place of the current one, which has none.
    fn change_current(&mut self, index: usize) {
        // SAFETY: the lists hold the arena's chunks, each in one of them at most.
        unsafe {
            if let Some(full) = self.current.take() {
                (*full.as_ptr()).has_room = false;
                self.full.push(full);
            }
            for _ in 0..LOOKS {
                let Some(chunk) = self.full.pop() else {
                    break;
                };
                if is_left(chunk) {
                    let layout = (*chunk.as_ptr()).layout;
                    chunk.drop_in_place();
                    chunk.write(self.empty_chunk(chunk, layout, index));
                    self.current = Some(chunk);
                    return;
                }
                self.full.push(chunk);
            }
            self.current = self.with_room.pop().or_else(|| Some(self.new_chunk(index)));
        }
    }

    fn new_chunk(&mut self, index: usize) -> NonNull<Chunk> {
        self.n_places = (self.n_places * 2).clamp(FIRST_PLACES, MAX_PLACES);
        self.new_chunk_of(self.n_places, index)
    }

    fn new_chunk_of(&self, n_places: usize, index: usize) -> NonNull<Chunk> {
        let size = FIRST_PLACE + self.bytes * n_places;
        let layout = Layout::from_size_align(size, UNIT).expect("a chunk is small");
        // SAFETY: the size is not 0.
        let Some(chunk) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let chunk = chunk.cast::<Chunk>();
        // SAFETY: it is new, and large enough.
        unsafe { chunk.write(self.empty_chunk(chunk, layout, index)) };
        chunk
    }

    /// What an unused chunk at `at` begins with.
    fn empty_chunk(&self, at: NonNull<Chunk>, layout: Layout, index: usize) -> Chunk {
        Chunk {
            free: None,
            // SAFETY: the places begin there.
            unused: unsafe { at.byte_add(FIRST_PLACE).cast() },
            n_unused: (layout.size() - FIRST_PLACE) / self.bytes,
            n_used: 0,
            gone: AtomicUsize::new(0),
            previous: None,
            next: None,
            has_room: true,
            size: index,
            layout,
        }
    }

    /// A place of `chunk` was given back, which had none before, or is left now.
    #[inline(never)]
    fn found_room(&mut self, chunk: NonNull<Chunk>) {
        if self.current == Some(chunk) {
            return;
        }
        // SAFETY: it is the arena's, and in the list that its flag tells.
        unsafe {
            let had_room = std::mem::replace(&mut (*chunk.as_ptr()).has_room, true);
            let list = if had_room {
                &mut self.with_room
            } else {
                &mut self.full
            };
            list.remove(chunk);
            if is_left(chunk) {
                free(chunk);
            } else {
                self.with_room.push(chunk);
            }
        }
    }

    fn orphan_all(&mut self) {
        // SAFETY: they are the arena's.
        unsafe {
            let mut next = self.current.take();
            while let Some(chunk) = next
                .or_else(|| self.with_room.pop())
                .or_else(|| self.full.pop())
            {
                next = None;
                let n_used = (*chunk.as_ptr()).n_used;
                let gone = &(*chunk.as_ptr()).gone;
                // From now on whoever lets go of the last place frees the chunk.
                if gone.fetch_add(ALL_GONE - n_used, Ordering::AcqRel) == n_used {
                    free(chunk);
                }
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(sizes) = &mut self.sizes {
            for size in sizes.iter_mut() {
                size.orphan_all();
            }
        }
    }
}

/// Chunks, the one that came first first.
#[derive(Default)]
struct List {
    first: Option<NonNull<Chunk>>,
    last: Option<NonNull<Chunk>>,
}

impl List {
    /// # Safety
    ///
    /// The chunk is the caller's, and in no list.
    unsafe fn push(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's, for this chunk and those in the list.
        unsafe {
            (*chunk.as_ptr()).previous = self.last;
            (*chunk.as_ptr()).next = None;
            match self.last.replace(chunk) {
                Some(last) => (*last.as_ptr()).next = Some(chunk),
                None => self.first = Some(chunk),
            }
        }
    }

    /// # Safety
    ///
    /// The chunk is in this list.
    unsafe fn remove(&mut self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's, for this chunk and its neighbors.
        unsafe {
            let chunk = chunk.as_ptr();
            let (previous, next) = ((*chunk).previous.take(), (*chunk).next.take());
            match previous {
                Some(previous) => (*previous.as_ptr()).next = next,
                None => self.first = next,
            }
            match next {
                Some(next) => (*next.as_ptr()).previous = previous,
                None => self.last = previous,
            }
        }
    }

    fn pop(&mut self) -> Option<NonNull<Chunk>> {
        let first = self.first?;
        // SAFETY: it is in this list.
        unsafe { self.remove(first) };
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::sync::AtomicPtr;

    /// A place that is in use, with a mark all over it.
    struct Used {
        at: NonNull<Header>,
        units: u16,
        bytes: usize,
        mark: u8,
    }

    impl Used {
        fn new(place: &Place, bytes: usize, mark: u8) -> Self {
            assert_eq!(place.at.addr().get() % UNIT, 0, "places are aligned");
            // SAFETY: the place is ours, and so large.
            unsafe { place.at.write_bytes(mark, bytes) };
            Self {
                at: place.at.cast(),
                units: place.units,
                bytes,
                mark,
            }
        }

        /// Nobody else has written to the place.
        fn check(&self) {
            // SAFETY: the place is ours, and has been written to.
            let all =
                unsafe { std::slice::from_raw_parts(self.at.cast::<u8>().as_ptr(), self.bytes) };
            assert!(all.iter().all(|byte| *byte == self.mark), "places overlap");
        }
    }

    fn n_chunks(arena: &Arena) -> usize {
        let mut n = 0;
        for size in arena.sizes.iter().flat_map(|sizes| sizes.iter()) {
            n += usize::from(size.current.is_some());
            for list in [&size.with_room, &size.full] {
                let mut next = list.first;
                while let Some(chunk) = next {
                    n += 1;
                    // SAFETY: it is in the list.
                    next = unsafe { (*chunk.as_ptr()).next };
                }
            }
        }
        n
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).expect("a layout")
    }

    /// Numbers in no order.
    fn random(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 16) as usize
    }

    #[test]
    fn places_do_not_overlap_and_are_used_again() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut arena = Arena::default();
        let mut used: Vec<Used> = Vec::new();
        for step in 0..20_000 {
            // It grows and shrinks by turns.
            let grows = step / 500 % 2 == 0;
            if used.is_empty() || random(&mut state) % 4 < if grows { 3 } else { 1 } {
                let bytes = [96, 160, 240][random(&mut state) % 3];
                if let Some(place) = arena.take(layout(bytes)) {
                    used.push(Used::new(&place, bytes, step as u8));
                }
            } else {
                let index = random(&mut state) % used.len();
                let gone = used.swap_remove(index);
                gone.check();
                // SAFETY: nobody uses the place any more.
                unsafe {
                    if random(&mut state).is_multiple_of(3) {
                        let_go(gone.at, gone.units);
                    } else {
                        arena.give_back(gone.at, gone.units);
                    }
                }
            }
        }
        used.iter().for_each(Used::check);
        drop(arena);
        used.iter().for_each(Used::check);
        for gone in used {
            // SAFETY: nobody uses the place any more; the last one frees its chunk.
            unsafe { let_go(gone.at, gone.units) };
        }
    }

    #[test]
    fn chunks_that_are_left_are_given_back() {
        let mut arena = Arena::default();
        let places: Vec<_> = (0..10_000).filter_map(|_| arena.take(layout(96))).collect();
        assert!(n_chunks(&arena) > 100);
        for place in places {
            // SAFETY: nobody uses the place any more.
            unsafe { arena.give_back(place.at.cast(), place.units) };
        }
        assert_eq!(n_chunks(&arena), 1, "the current one");
    }

    #[test]
    fn places_that_go_elsewhere_do_not_pile_up() {
        let mut arena = Arena::default();
        let mut most = 0;
        for _ in 0..100_000 {
            if let Some(place) = arena.take(layout(96)) {
                // SAFETY: nobody uses the place any more.
                unsafe { let_go(place.at.cast(), place.units) };
            }
            most = most.max(n_chunks(&arena));
        }
        assert!(most <= 4, "{most} chunks for one place at a time");
    }

    /// Whoever lets go does not look at a chunk that another thread has freed in the meantime. It takes AddressSanitizer to
    /// notice that.
    #[test]
    fn the_last_places_of_a_chunk_are_let_go_on_several_threads_at_once() {
        const THREADS: usize = 2;
        const ROUNDS: usize = if cfg!(trionics_sanitize) {
            100_000
        } else {
            3_000
        };
        let places: [AtomicPtr<Header>; THREADS] = Default::default();
        let left = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for place in &places {
                let left = &left;
                threads.spawn(move || {
                    for _ in 0..ROUNDS {
                        let at = loop {
                            match NonNull::new(place.swap(ptr::null_mut(), Ordering::AcqRel)) {
                                Some(at) => break at,
                                None => std::thread::yield_now(),
                            }
                        };
                        // SAFETY: nobody uses the place any more; its distance from the chunk was written there.
                        unsafe { let_go(at, at.cast::<u16>().read()) };
                        left.fetch_add(1, Ordering::AcqRel);
                    }
                });
            }
            for round in 1..=ROUNDS {
                let mut size = Size {
                    bytes: 96,
                    ..Size::default()
                };
                size.current = Some(size.new_chunk_of(THREADS, 0));
                let taken: [_; THREADS] = std::array::from_fn(|_| {
                    let place = size.take_from_current().expect("it has so many");
                    // SAFETY: the place is ours.
                    unsafe { place.at.cast().write(place.units) };
                    place.at.cast::<Header>().as_ptr()
                });
                size.orphan_all();
                for (place, taken) in places.iter().zip(taken) {
                    place.store(taken, Ordering::Release);
                }
                while left.load(Ordering::Acquire) < round * THREADS {
                    std::thread::yield_now();
                }
            }
        });
    }
}
