//! Random programs of everything that the nursery offers.

use crate::random::Random;

/// A scope or a nursery, by number.
pub(crate) type Slot = usize;

/// A part of a program.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Gate(usize),
    Turns(usize),
    Sleep(u64),
    CancelRequested,
    Never,
    Fail,
    Panic,
    PanicInDrop(usize),
    Cancel(Slot),
    Sequence(Vec<Node>),
    /// All at once; a panic is resumed when all have ended.
    Join(Vec<Node>),
    /// The first to end drops the others.
    Select(Vec<Node>),
    Shield(Box<Node>),
    Branch(Box<Node>),
    /// A scope, with a grace period in milliseconds.
    Scope(Slot, Option<u64>, Box<Node>),
    Nursery(Slot, Options, Box<Node>, Vec<Node>),
    /// Set-up, block, exit.
    Context(Box<Node>, Box<Node>, Box<Node>),
    /// Started and forgotten.
    Soon(Slot, Box<Node>),
    /// Started as soon as there is room.
    WhenFree(Slot, Box<Node>),
    /// On an executor if so said; the handle is treated so.
    Spawn(Slot, bool, Box<Node>, WithHandle),
    /// On a thread that may be blocked; gives the library's failure if so said.
    Block(Slot, bool),
    /// What the child does before and after its report.
    Start(Slot, bool, Box<Node>, Report, Box<Node>),
    /// Anchored here, polled first in a scope of its own.
    Anchor(Slot, Box<Node>),
    /// Polled so many times in one scope, and then in another.
    Move(Slot, Slot, usize, Box<Node>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) limit: Option<usize>,
    pub(crate) supervises: bool,
    pub(crate) shielded: bool,
    pub(crate) grace: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum WithHandle {
    Wait,
    Drop,
    /// Cancels the child after so many turns, and waits.
    Cancel(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    Started,
    /// The status is dropped without a report.
    Dropped,
    /// The status is kept to the child's end.
    Kept,
}

/// Which shapes are generated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shapes {
    pub(crate) foreign_drops: bool,
    pub(crate) panics: bool,
    pub(crate) panics_in_drops: bool,
    pub(crate) graces: bool,
    pub(crate) moves: bool,
}

pub(crate) struct Generator<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) shapes: Shapes,
    pub(crate) n_slots: usize,
    pub(crate) n_gates: usize,
    /// The part moves: what is anchored in it would be left to a scope where it does not belong.
    pub(crate) moves: bool,
}

impl Generator<'_> {
    /// A part of about `size` nodes; `ends` where no cancellation stops it.
    pub(crate) fn node(&mut self, size: usize, ends: bool) -> Node {
        if size <= 1 {
            return self.leaf(ends);
        }
        let inner = size - 1;
        let (foreign, moves) = (self.shapes.foreign_drops, self.shapes.moves);
        loop {
            return match self.random.below(22) {
                0..=4 => Node::Sequence(self.nodes(inner, 4, ends)),
                5 | 6 => Node::Join(self.nodes(inner, 3, ends)),
                7 if foreign => Node::Select(self.nodes(inner, 3, ends)),
                8 => Node::Shield(self.boxed(inner, true)),
                9 => Node::Branch(self.boxed(inner, ends)),
                10 => {
                    let grace = self.grace();
                    Node::Scope(self.slot(), grace, self.boxed(inner, false))
                }
                11 | 12 => {
                    let slot = self.slot();
                    let options = Options {
                        limit: self.random.chance(25).then_some(1 + slot % 2),
                        supervises: self.random.chance(20),
                        shielded: self.random.chance(8),
                        grace: self.grace(),
                    };
                    let mut children = self.nodes(inner, 4, false);
                    let body = children.pop().expect("at least one");
                    Node::Nursery(slot, options, Box::new(body), children)
                }
                13 | 14 => {
                    let third = inner.div_ceil(3);
                    Node::Context(
                        self.boxed(third, ends),
                        self.boxed(third, ends),
                        self.boxed(third, true),
                    )
                }
                15 => Node::Soon(self.any_slot(), self.boxed(inner, false)),
                16 if !ends => Node::WhenFree(self.any_slot(), self.boxed(inner, false)),
                17 | 18 => {
                    let how = match self.random.below(3) {
                        0 if !ends => WithHandle::Wait,
                        1 if !ends => WithHandle::Cancel(self.random.below(4)),
                        _ => WithHandle::Drop,
                    };
                    let on_executor = self.random.chance(60);
                    Node::Spawn(self.any_slot(), on_executor, self.boxed(inner, false), how)
                }
                19 if !ends => {
                    let report = match self.random.below(6) {
                        0 => Report::Dropped,
                        1 => Report::Kept,
                        _ => Report::Started,
                    };
                    let or_cancel = self.random.chance(30);
                    let half = inner / 2;
                    Node::Start(
                        self.any_slot(),
                        or_cancel,
                        self.boxed(half, false),
                        report,
                        self.boxed(half, false),
                    )
                }
                20 if !ends && !self.moves => Node::Anchor(self.slot(), self.boxed(inner, false)),
                21 if moves && !ends => {
                    let n_polls = 1 + self.random.below(3);
                    let around = std::mem::replace(&mut self.moves, true);
                    let body = self.boxed(inner, false);
                    self.moves = around;
                    Node::Move(self.slot(), self.slot(), n_polls, body)
                }
                _ => continue,
            };
        }
    }

    fn leaf(&mut self, ends: bool) -> Node {
        loop {
            return match self.random.below(16) {
                0..=3 => Node::Gate(self.random.below(self.n_gates)),
                4 | 5 => Node::Turns(self.random.below(4)),
                6 => Node::Sleep([1, 60, 150][self.random.below(3)]),
                7 => Node::CancelRequested,
                8 if !ends => Node::Never,
                9 => Node::Fail,
                10 if self.shapes.panics => Node::Panic,
                11 if self.shapes.panics_in_drops => {
                    Node::PanicInDrop(self.random.below(self.n_gates))
                }
                12 | 13 => Node::Cancel(self.any_slot()),
                14 => Node::Block(self.any_slot(), self.random.chance(20)),
                _ => continue,
            };
        }
    }

    fn boxed(&mut self, size: usize, ends: bool) -> Box<Node> {
        Box::new(self.node(size, ends))
    }

    fn nodes(&mut self, size: usize, most: usize, ends: bool) -> Vec<Node> {
        let n_nodes = (1 + self.random.below(most)).min(size.max(1));
        (0..n_nodes)
            .map(|_| self.node(size / n_nodes, ends))
            .collect()
    }

    fn grace(&mut self) -> Option<u64> {
        (self.shapes.graces && self.random.chance(40)).then_some(30)
    }

    fn slot(&mut self) -> Slot {
        self.n_slots += 1;
        self.n_slots - 1
    }

    fn any_slot(&mut self) -> Slot {
        self.random.below(self.n_slots + 2)
    }
}
