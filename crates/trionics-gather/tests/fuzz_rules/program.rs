//! Random programs: trees of scopes, nurseries, shields, contexts and foreign combinators.

use crate::random::Random;

/// A scope or nursery, by its place in the program.
pub(crate) type Slot = usize;

/// A part of a program.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Ends at once.
    Ready,
    /// Ends when the driver opens the gate.
    Gate(usize),
    /// Wakes itself and waits, so many times.
    Turns(usize),
    /// The library's `checkpoint`.
    Checkpoint,
    /// The library's `cancel_requested`.
    CancelRequested,
    /// Compares `is_cancel_requested` with the model.
    AskRequested,
    /// The library's `sleep`, in milliseconds.
    Sleep(u64),
    /// Never ends.
    Never,
    /// Fails.
    Fail,
    /// Panics.
    Panic,
    /// Panics when it is dropped while it waits; waits for the gate.
    PanicInDrop(usize),
    /// Cancels a scope or nursery.
    Cancel(Slot),
    /// Starts a child in a nursery.
    Start(Slot, Box<Node>),
    /// Starts a child in a nursery and waits for its handle.
    Spawn(Slot, Box<Node>),
    /// One after the other, until one fails.
    Sequence(Vec<Node>),
    /// The same thing several times, one after the other.
    Repeat(usize, Box<Node>),
    /// All at once; fails when all have ended, if any has failed.
    Join(Joiner, Vec<Node>),
    /// All at once until one has ended, which drops the others.
    Select(Vec<Node>),
    /// Polls the first so many times, then keeps it unpolled during the second, then drops it.
    Hold(Box<Node>, usize, Box<Node>),
    /// Turns failures into success.
    Catch(Box<Node>),
    /// A cancel scope.
    Scope(Slot, Box<Node>),
    /// Settings that change nothing.
    Settings(Box<Node>),
    /// A future that carries its scope, polled where it was made.
    Carry(Box<Node>),
    /// A future that carries its scope, put on a task of its own.
    Ship(Box<Node>),
    /// A shield.
    Shield(Box<Node>),
    /// A nursery with its body and its first children.
    Nursery(Slot, Box<Node>, Vec<Node>),
    /// A context, which contains a `Provide`, and its block.
    With(Box<Node>, Box<Node>),
    /// Several contexts and their block.
    Gather(Vec<Node>, Box<Node>),
    /// The place in a context where the block runs.
    Provide,
}

/// How branches are polled together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Joiner {
    /// Each at each poll.
    All,
    /// Those that were woken: `FuturesUnordered`.
    Woken,
}

/// A whole program and what the driver needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) root: Node,
    pub(crate) n_slots: usize,
    pub(crate) n_gates: usize,
}

/// Which shapes are generated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shapes {
    /// `Select` and `Hold`, which drop futures from outside.
    pub(crate) foreign_drops: bool,
    /// `Ship`.
    pub(crate) tasks: bool,
    /// `Panic`.
    pub(crate) panics: bool,
    /// `PanicInDrop`.
    pub(crate) panics_in_drops: bool,
}

impl Program {
    /// A program of about `size` nodes.
    pub(crate) fn random(random: &mut Random, size: usize, shapes: Shapes) -> Self {
        let n_gates = 1 + size / 6;
        let mut generator = Generator {
            random,
            shapes,
            n_slots: 1,
            n_gates,
        };
        let place = Place {
            may_wait_for_ever: true,
            may_fail: true,
        };
        let body = generator.node(size, place);
        let n_slots = generator.n_slots;
        Self {
            root: Node::Scope(0, Box::new(body)),
            n_slots,
            n_gates,
        }
    }
}

struct Generator<'a> {
    random: &'a mut Random,
    shapes: Shapes,
    n_slots: usize,
    n_gates: usize,
}

/// What may be generated somewhere.
#[derive(Clone, Copy)]
struct Place {
    /// A scope that the driver can cancel stops it.
    may_wait_for_ever: bool,
    may_fail: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Leaf,
    Sequence,
    Repeat,
    Join,
    Select,
    Hold,
    Catch,
    Scope,
    Settings,
    Carry,
    Ship,
    Shield,
    Nursery,
    With,
    Gather,
    Start,
    Spawn,
}

impl Generator<'_> {
    fn node(&mut self, size: usize, place: Place) -> Node {
        if size <= 1 {
            return self.leaf(place);
        }
        let foreign = usize::from(self.shapes.foreign_drops);
        let kind = self.random.weighted(&[
            (4, Kind::Leaf),
            (22, Kind::Sequence),
            (2, Kind::Repeat),
            (11, Kind::Join),
            (4 * foreign, Kind::Select),
            (3 * foreign, Kind::Hold),
            (3, Kind::Catch),
            (14, Kind::Scope),
            (1, Kind::Settings),
            (2, Kind::Carry),
            (2 * usize::from(self.shapes.tasks), Kind::Ship),
            (9, Kind::Shield),
            (11, Kind::Nursery),
            (11, Kind::With),
            (6, Kind::Gather),
            (4, Kind::Start),
            // The nursery may be one that nobody polls, so that the wait must be cancellable.
            (3 * usize::from(place.may_wait_for_ever), Kind::Spawn),
        ]);
        let inner = size - 1;
        let cancellable = Place {
            may_wait_for_ever: true,
            ..place
        };
        let shielded = Place {
            may_wait_for_ever: false,
            ..place
        };
        match kind {
            Kind::Leaf => self.leaf(place),
            Kind::Sequence => Node::Sequence(self.nodes(inner, 4, place)),
            Kind::Repeat => Node::Repeat(
                2 + self.random.below(2),
                Box::new(self.node(inner / 2, place)),
            ),
            Kind::Join => {
                // `FuturesUnordered` leaks what it holds when the drop of one of them panics.
                let all = self.shapes.panics_in_drops || self.random.chance(50);
                let joiner = if all { Joiner::All } else { Joiner::Woken };
                Node::Join(joiner, self.nodes(inner, 4, place))
            }
            Kind::Select => Node::Select(self.nodes(inner, 3, place)),
            Kind::Hold => {
                let n_polls = 1 + self.random.below(2);
                let held_place = if n_polls == 1 { cancellable } else { place };
                let (held, then) = self.two(inner, held_place, place);
                Node::Hold(held, n_polls, then)
            }
            Kind::Catch => Node::Catch(Box::new(self.node(inner, place))),
            Kind::Scope => {
                let slot = self.slot();
                Node::Scope(slot, Box::new(self.node(inner, cancellable)))
            }
            Kind::Settings => Node::Settings(Box::new(self.node(inner, place))),
            Kind::Carry => Node::Carry(Box::new(self.node(inner, place))),
            Kind::Ship => Node::Ship(Box::new(self.node(inner, shielded))),
            Kind::Shield => Node::Shield(Box::new(self.node(inner, shielded))),
            Kind::Nursery => {
                let slot = self.slot();
                let mut children = self.nodes(inner, 4, cancellable);
                let body = children.pop().expect("at least one");
                Node::Nursery(slot, Box::new(body), children)
            }
            Kind::With => {
                let context = 1 + self.random.below(inner);
                let context = self.context(context, place);
                Node::With(
                    Box::new(context),
                    Box::new(self.node(inner.saturating_sub(1), place)),
                )
            }
            Kind::Gather => {
                let n_contexts = 1 + self.random.below(3);
                let share = inner / (n_contexts + 1);
                let contexts = (0..n_contexts)
                    .map(|_| self.context(share, place))
                    .collect();
                Node::Gather(contexts, Box::new(self.node(share, place)))
            }
            Kind::Start => {
                let slot = self.any_slot();
                Node::Start(slot, Box::new(self.node(inner, cancellable)))
            }
            Kind::Spawn => {
                let slot = self.any_slot();
                Node::Spawn(slot, Box::new(self.node(inner, cancellable)))
            }
        }
    }

    /// A context: anything with one `Provide` inside.
    fn context(&mut self, size: usize, place: Place) -> Node {
        let exit = Place {
            may_wait_for_ever: false,
            ..place
        };
        if self.random.chance(3) {
            return self.node(size, place); // provides nothing
        }
        if size <= 1 {
            return Node::Provide;
        }
        match self.random.below(13) {
            12 if self.shapes.foreign_drops => {
                let other = self.node(size / 2, place);
                Node::Select(vec![self.context(size / 2, place), other])
            }
            0 => {
                let slot = self.slot();
                Node::Scope(slot, Box::new(self.context(size - 1, place)))
            }
            1 | 2 => {
                let slot = self.slot();
                let background = Place {
                    may_wait_for_ever: true,
                    ..place
                };
                let n_background = size / 2;
                let body = self.context(size - n_background, place);
                let children = self.nodes(n_background, 2, background);
                Node::Nursery(slot, Box::new(body), children)
            }
            3 => {
                let background = self.node(size / 2, exit);
                let context = self.context(size / 2, place);
                Node::Join(Joiner::All, vec![context, background])
            }
            4 => {
                let outside = self.context(size / 2, place);
                // A context inside the context: one of them provides.
                let own = self.context_around(size / 2, place, outside);
                Node::Sequence(vec![own])
            }
            _ => {
                let before = self.random.below(size);
                let mut steps = Vec::new();
                if before > 0 {
                    steps.push(self.node(before, place));
                }
                if self.random.chance(15) {
                    steps.push(self.context(size - before, place));
                } else {
                    steps.push(Node::Provide);
                }
                if size > before + 1 {
                    steps.push(self.node(size - before - 1, exit));
                }
                Node::Sequence(steps)
            }
        }
    }

    /// A context whose block provides in turn.
    fn context_around(&mut self, size: usize, place: Place, block: Node) -> Node {
        // `Provide` of the inner context belongs to the inner context; the block's to the outer one.
        let inner = self.context(size, place);
        Node::With(Box::new(inner), Box::new(block))
    }

    fn leaf(&mut self, place: Place) -> Node {
        #[derive(Clone, Copy)]
        enum Leaf {
            Ready,
            Gate,
            Turns,
            Checkpoint,
            CancelRequested,
            AskRequested,
            Sleep,
            Never,
            Fail,
            Panic,
            PanicInDrop,
            Cancel,
        }
        let wait = usize::from(place.may_wait_for_ever);
        let fail = usize::from(place.may_fail);
        let panics = usize::from(self.shapes.panics);
        let panics_in_drops = usize::from(self.shapes.panics_in_drops);
        match self.random.weighted(&[
            (10, Leaf::Ready),
            (25, Leaf::Gate),
            (10, Leaf::Turns),
            (12, Leaf::Checkpoint),
            (5, Leaf::CancelRequested),
            (4, Leaf::AskRequested),
            (3, Leaf::Sleep),
            (8 * wait, Leaf::Never),
            (6 * fail, Leaf::Fail),
            (3 * panics, Leaf::Panic),
            (2 * panics_in_drops, Leaf::PanicInDrop),
            (14, Leaf::Cancel),
        ]) {
            Leaf::Ready => Node::Ready,
            Leaf::Gate => Node::Gate(self.random.below(self.n_gates)),
            Leaf::Turns => Node::Turns(1 + self.random.below(3)),
            Leaf::Checkpoint => Node::Checkpoint,
            Leaf::CancelRequested => Node::CancelRequested,
            Leaf::AskRequested => Node::AskRequested,
            Leaf::Sleep => Node::Sleep([1, 60, 150][self.random.below(3)]),
            Leaf::Never => Node::Never,
            Leaf::Fail => Node::Fail,
            Leaf::Panic => Node::Panic,
            Leaf::PanicInDrop => Node::PanicInDrop(self.random.below(self.n_gates)),
            Leaf::Cancel => Node::Cancel(self.any_slot()),
        }
    }

    /// One to `most` nodes of `size` in all.
    fn nodes(&mut self, size: usize, most: usize, place: Place) -> Vec<Node> {
        let n_nodes = (1 + self.random.below(most)).min(size.max(1));
        let mut left = size;
        (0..n_nodes)
            .map(|index| {
                let others = n_nodes - index - 1;
                let own = if others == 0 {
                    left
                } else {
                    1 + self.random.below(left.saturating_sub(others).max(1))
                };
                left = left.saturating_sub(own);
                self.node(own, place)
            })
            .collect()
    }

    fn two(&mut self, size: usize, first: Place, second: Place) -> (Box<Node>, Box<Node>) {
        let own = 1 + self.random.below(size.max(1));
        (
            Box::new(self.node(own, first)),
            Box::new(self.node(size.saturating_sub(own), second)),
        )
    }

    fn slot(&mut self) -> Slot {
        self.n_slots += 1;
        self.n_slots - 1
    }

    /// A slot that is there already or soon will be.
    fn any_slot(&mut self) -> Slot {
        self.random.below(self.n_slots + 2)
    }
}
