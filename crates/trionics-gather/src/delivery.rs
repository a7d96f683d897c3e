//! How values get from contexts to the block.

use std::{
    fmt,
    ops::Deref,
    panic::Location,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use trionics_nursery::internal::{Block, ContextPlace, Host, Invitation};

use crate::{held::Holding, limit::Turn};

/// What the contexts of one type in one set share with each other and with the block.
pub struct Shelf<V> {
    pub(crate) holding: Holding,
    spots: Spots<V>,
}

/// The parts of the contexts; that of an only one needs no allocation.
enum Spots<V> {
    One(Spot<V>),
    Many(Box<[Spot<V>]>),
}

impl<V> Deref for Spots<V> {
    type Target = [Spot<V>];

    #[inline]
    fn deref(&self) -> &[Spot<V>] {
        match self {
            Self::One(spot) => slice::from_ref(spot),
            Self::Many(spots) => spots,
        }
    }
}

/// One context's part of the shelf.
struct Spot<V> {
    /// Where the value lies on its way to the block.
    value: Mutex<Option<V>>,
    /// [`AWAITED`], [`DELIVERED`] or [`TAKEN`]; it only grows.
    state: AtomicU8,
    place: ContextPlace,
    /// The context's turn to set up, where it has to wait for one.
    turn: Option<Box<Turn>>,
}

const AWAITED: u8 = 0;
const DELIVERED: u8 = 1;
const TAKEN: u8 = 2;

impl<V> Spot<V> {
    fn new(holding: &Holding) -> Self {
        let limit = holding.limit.as_ref();
        Self {
            value: Mutex::new(None),
            state: AtomicU8::new(AWAITED),
            place: ContextPlace::default(),
            turn: limit.map(|limit| Box::new(Turn::new(limit))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<V>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the value out, for the block or to drop it.
    fn take(&self) -> Option<V> {
        if self.state.swap(TAKEN, Ordering::AcqRel) == DELIVERED {
            self.lock().take()
        } else {
            None
        }
    }
}

impl<V> Shelf<V> {
    pub(crate) fn new(holding: &Holding, n_contexts: usize) -> Arc<Self> {
        if n_contexts == 1 {
            return Self::of_one(holding.clone());
        }
        Arc::new(Self {
            spots: Spots::Many((0..n_contexts).map(|_| Spot::new(holding)).collect()),
            holding: holding.clone(),
        })
    }

    /// A shelf for one context.
    pub(crate) fn of_one(holding: Holding) -> Arc<Self> {
        Arc::new(Self {
            spots: Spots::One(Spot::new(&holding)),
            holding,
        })
    }

    /// The value of the only context.
    pub(crate) fn take_one(&self) -> V {
        self.take_all().next().expect("a shelf for one context")
    }

    /// The values in the order of the contexts; the block asks once, when every context has provided.
    pub(crate) fn take_all(&self) -> impl Iterator<Item = V> {
        self.spots.iter().map(|spot| {
            spot.take()
                .expect("the block starts when all values are there")
        })
    }
}

impl<V> fmt::Debug for Shelf<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

/// One context's side of the hand-over.
pub(crate) struct Delivery<V> {
    shelf: Arc<Shelf<V>>,
    index: usize,
    /// The child that runs the context, on the side of the slot, unless the block has it.
    host: Option<Host>,
}

impl<V> Delivery<V> {
    pub(crate) fn new(shelf: &Arc<Shelf<V>>, index: usize, host: Option<Host>) -> Self {
        Self {
            shelf: Arc::clone(shelf),
            index,
            host,
        }
    }

    pub(crate) fn holding(&self) -> &Holding {
        &self.shelf.holding
    }

    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.spot().turn.as_deref()
    }

    fn spot(&self) -> &Spot<V> {
        &self.shelf.spots[self.index]
    }

    /// Puts the value where the block finds it.
    pub(crate) fn deliver(&self, value: V) {
        let spot = self.spot();
        let replaced = spot.lock().replace(value);
        debug_assert!(replaced.is_none(), "a slot provides once");
        spot.state.store(DELIVERED, Ordering::Release);
        if let Some(turn) = self.turn() {
            turn.end();
        }
    }

    /// The value, if it is there and was not taken.
    pub(crate) fn try_take(&self) -> Option<V> {
        let spot = self.spot();
        if spot.state.load(Ordering::Acquire) == DELIVERED {
            spot.take()
        } else {
            None
        }
    }

    /// Drops the value if the block never came to take it: the exit is to find it gone.
    pub(crate) fn discard(&self) {
        let spot = self.spot();
        if spot.state.load(Ordering::Acquire) != TAKEN {
            let discarded = spot.take();
            drop(discarded);
        }
    }

    /// The context has called `provide`, and the future was polled.
    pub(crate) fn is_sent(&self) -> bool {
        self.spot().state.load(Ordering::Acquire) != AWAITED
    }
}

impl<V> Invitation for Delivery<V> {
    fn block(&self) -> &Block {
        &self.holding().block
    }

    fn place(&self) -> &ContextPlace {
        &self.spot().place
    }

    fn host(&self) -> Option<&Host> {
        self.host.as_ref().or_else(|| self.block().host())
    }

    fn leave(&mut self) {
        self.host = None;
    }

    fn location(&self) -> &'static Location<'static> {
        self.holding().location
    }
}
