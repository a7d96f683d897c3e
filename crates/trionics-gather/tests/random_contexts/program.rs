//! Programs, and how they are made at random.

/// How a part of a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    Fails,
    Panics,
    Hangs,
}

/// So many awaits, and then an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) awaits: usize,
    pub(crate) end: End,
}

/// What a context does while its value is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InUse {
    Waits,
    /// It gives up after so many awaits, if it has not been left by then.
    Dies(Part),
}

/// How the context is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    Plain,
    Mapped,
    Boxed,
    /// With a nursery around `provide`, that has a background task.
    WithNursery,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) id: u32,
    pub(crate) make: Make,
    pub(crate) set_up: Part,
    pub(crate) in_use: InUse,
    pub(crate) exit: Part,
}

#[derive(Debug)]
pub(crate) enum Block {
    Leaf {
        id: u32,
        part: Part,
    },
    /// Entered together, at most so many at once.
    Set {
        contexts: Vec<Context>,
        limit: Option<usize>,
        body: Box<Block>,
    },
    /// Entered one after another.
    Stack {
        contexts: Vec<Context>,
        body: Box<Block>,
    },
    /// The first of the blocks to finish.
    Race(Vec<Block>),
    /// All of the blocks.
    Join(Vec<Block>),
}

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) block: Block,
    /// Before which poll it is cancelled.
    pub(crate) cancel_at: Option<usize>,
}

/// A sequence of numbers that a seed decides (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("small")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Makes the parts of one program.
struct Maker<'a> {
    random: &'a mut Random,
    next_id: u32,
    /// One in so many parts does not end well.
    trouble: usize,
}

impl Maker<'_> {
    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn part(&mut self, may_hang: bool) -> Part {
        let awaits = self.random.below(4);
        let end = if self.random.one_in(self.trouble) {
            match self.random.below(5) {
                0 => End::Panics,
                1 if may_hang => End::Hangs,
                _ => End::Fails,
            }
        } else {
            End::Well
        };
        Part { awaits, end }
    }

    fn contexts(&mut self) -> Vec<Context> {
        let n = 1 + self.random.below(4);
        (0..n)
            .map(|_| Context {
                id: self.id(),
                make: match self.random.below(6) {
                    0 => Make::Mapped,
                    1 => Make::Boxed,
                    2 => Make::WithNursery,
                    _ => Make::Plain,
                },
                set_up: self.part(true),
                in_use: if self.random.one_in(self.trouble * 2) {
                    InUse::Dies(self.part(false))
                } else {
                    InUse::Waits
                },
                exit: self.part(false),
            })
            .collect()
    }

    fn block(&mut self, depth: usize) -> Block {
        let kind = if depth == 0 { 0 } else { self.random.below(8) };
        match kind {
            1 | 2 => Block::Set {
                contexts: self.contexts(),
                limit: if self.random.one_in(3) {
                    Some(1 + self.random.below(3))
                } else {
                    None
                },
                body: Box::new(self.block(depth - 1)),
            },
            3..=5 => Block::Stack {
                contexts: self.contexts(),
                body: Box::new(self.block(depth - 1)),
            },
            6 => Block::Race(self.blocks(depth - 1)),
            7 => Block::Join(self.blocks(depth - 1)),
            _ => Block::Leaf {
                id: self.id(),
                part: self.part(true),
            },
        }
    }

    fn blocks(&mut self, depth: usize) -> Vec<Block> {
        let n = 1 + self.random.below(3);
        (0..n).map(|_| self.block(depth)).collect()
    }
}

impl Program {
    pub(crate) fn random(random: &mut Random) -> Self {
        let trouble = [4, 8, 16, 1_000][random.below(4)];
        let mut maker = Maker {
            random,
            next_id: 0,
            trouble,
        };
        let block = maker.block(4);
        let cancel_at = if random.one_in(3) {
            None
        } else {
            Some(random.below(25))
        };
        Self { block, cancel_at }
    }
}
