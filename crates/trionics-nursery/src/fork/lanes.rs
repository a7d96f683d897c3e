//! The futures of a fork, where they cannot move: one by one in a tuple, or in chunks where they are of one type.

use std::{fmt, future::Future, pin::Pin};

use pin_project_lite::pin_project;

pin_project! {
    /// One of the futures of a fork.
    pub struct Lane<F> {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }
}

impl<F> Lane<F> {
    /// A lane that has not been polled.
    #[inline]
    pub fn new(future: F) -> Self {
        Self {
            future: Some(future),
        }
    }

    #[inline]
    pub(super) fn ended() -> Self {
        Self { future: None }
    }

    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.future.is_none()
    }

    #[inline]
    pub(super) fn future(self: Pin<&mut Self>) -> Option<Pin<&mut F>> {
        self.project().future.as_pin_mut()
    }
}

impl<F> fmt::Debug for Lane<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// The futures of a fork, where they cannot move.
pub trait Lanes {
    /// What each of them gives.
    type Output;

    /// How many there are, those included that have ended.
    fn n_lanes(&self) -> usize;

    /// Shows each lane to `visitor`, in order; the first has the number `index`. How many have not ended.
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<Self::Output>) -> usize;
}

/// Looks at lanes of different types.
pub trait Visit<O> {
    /// Called once for each lane; false if it has ended.
    fn lane<F: Future<Output = O>>(&mut self, index: usize, lane: Pin<&mut Lane<F>>) -> bool;
}

impl<F: Future> Lanes for Lane<F> {
    type Output = F::Output;

    #[inline]
    fn n_lanes(&self) -> usize {
        1
    }

    #[inline]
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        usize::from(visitor.lane(index, self))
    }
}

pin_project! {
    /// A lane and more lanes.
    #[derive(Debug)]
    pub struct LaneAnd<F, L> {
        #[pin]
        lane: Lane<F>,
        #[pin]
        rest: L,
    }
}

impl<F, L> LaneAnd<F, L> {
    /// The future of the first lane, and the lanes that follow.
    #[inline]
    pub fn new(future: F, rest: L) -> Self {
        Self {
            lane: Lane::new(future),
            rest,
        }
    }
}

impl<F: Future, L: Lanes<Output = F::Output>> Lanes for LaneAnd<F, L> {
    type Output = F::Output;

    #[inline]
    fn n_lanes(&self) -> usize {
        1 + self.rest.n_lanes()
    }

    #[inline]
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        let this = self.project();
        let is_left = visitor.lane(index, this.lane);
        usize::from(is_left) + this.rest.visit(index + 1, visitor)
    }
}

/// Lanes of one type, as many as there are.
pub struct Row<F> {
    chunks: Vec<Chunk<F>>,
    n_lanes: usize,
}

impl<F> Row<F> {
    /// The futures of the lanes.
    pub fn new(mut futures: impl ExactSizeIterator<Item = F>) -> Self {
        let n_lanes = futures.len();
        let mut chunks = Vec::with_capacity(Chunk::<F>::n_chunks(n_lanes));
        let mut n_more = n_lanes;
        while n_more > 0 {
            let chunk = Chunk::new(n_more, &mut futures);
            n_more -= chunk.n_lanes();
            chunks.push(chunk);
        }
        Self { chunks, n_lanes }
    }
}

impl<F: Future> Lanes for Row<F> {
    type Output = F::Output;

    #[inline]
    fn n_lanes(&self) -> usize {
        self.n_lanes
    }

    #[inline]
    fn visit(self: Pin<&mut Self>, index: usize, visitor: &mut impl Visit<F::Output>) -> usize {
        let mut next = index;
        let mut n_left = 0;
        for chunk in &mut self.get_mut().chunks {
            for place in 0..chunk.n_lanes() {
                n_left += usize::from(visitor.lane(next, chunk.lane(place)));
                next += 1;
            }
        }
        n_left
    }
}

impl<F> fmt::Debug for Row<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("n_lanes", &self.n_lanes)
            .finish_non_exhaustive()
    }
}

/// Some lanes of one type in one allocation.
enum Chunk<F> {
    One(Pin<Box<Lane<F>>>),
    Two(Pin<Box<Two<F>>>),
    Four(Pin<Box<Four<F>>>),
    Eight(Pin<Box<Eight<F>>>),
}

type Two<F> = Twice<Lane<F>>;
type Four<F> = Twice<Two<F>>;
type Eight<F> = Twice<Four<F>>;

impl<F> Chunk<F> {
    /// Lanes that are larger have an allocation each: a chunk is made on the stack.
    const IS_SMALL: bool = size_of::<F>() <= 512;

    /// In so many chunks lie so many lanes.
    fn n_chunks(n_lanes: usize) -> usize {
        if Self::IS_SMALL {
            n_lanes / 8 + (n_lanes % 8).count_ones() as usize
        } else {
            n_lanes
        }
    }

    /// The next of `n_more` futures, at least one: as many as fill a chunk.
    fn new(n_more: usize, futures: &mut impl Iterator<Item = F>) -> Self {
        match n_more {
            8.. if Self::IS_SMALL => Self::Eight(Box::pin(Filled::fill(futures))),
            4.. if Self::IS_SMALL => Self::Four(Box::pin(Filled::fill(futures))),
            2.. if Self::IS_SMALL => Self::Two(Box::pin(Filled::fill(futures))),
            _ => Self::One(Box::pin(Filled::fill(futures))),
        }
    }

    #[inline]
    fn n_lanes(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
            Self::Four(_) => 4,
            Self::Eight(_) => 8,
        }
    }

    #[inline]
    fn lane(&mut self, place: usize) -> Pin<&mut Lane<F>> {
        match self {
            Self::One(lane) => lane.as_mut(),
            Self::Two(lanes) => lanes.as_mut().lane(place),
            Self::Four(lanes) => lanes.as_mut().lane(place),
            Self::Eight(lanes) => lanes.as_mut().lane(place),
        }
    }
}

/// A power of two of lanes side by side, which can be pinned one by one.
trait Filled<F>: Sized {
    const N_LANES: usize;

    /// Lanes for the next futures.
    fn fill(futures: &mut impl Iterator<Item = F>) -> Self;

    fn lane(self: Pin<&mut Self>, place: usize) -> Pin<&mut Lane<F>>;
}

impl<F> Filled<F> for Lane<F> {
    const N_LANES: usize = 1;

    #[inline]
    fn fill(futures: &mut impl Iterator<Item = F>) -> Self {
        Self {
            future: futures.next(),
        }
    }

    #[inline]
    fn lane(self: Pin<&mut Self>, _place: usize) -> Pin<&mut Lane<F>> {
        self
    }
}

pin_project! {
    /// Twice the lanes of `L`.
    struct Twice<L> {
        #[pin]
        first: L,
        #[pin]
        second: L,
    }
}

impl<F, L: Filled<F>> Filled<F> for Twice<L> {
    const N_LANES: usize = 2 * L::N_LANES;

    #[inline]
    fn fill(futures: &mut impl Iterator<Item = F>) -> Self {
        Self {
            first: L::fill(futures),
            second: L::fill(futures),
        }
    }

    #[inline]
    fn lane(self: Pin<&mut Self>, place: usize) -> Pin<&mut Lane<F>> {
        let this = self.project();
        match place.checked_sub(L::N_LANES) {
            None => this.first.lane(place),
            Some(place) => this.second.lane(place),
        }
    }
}
