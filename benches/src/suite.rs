//! What is measured: groups of cases, and the subjects that take turns in each case.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

/// The name of our own subject: ratios are taken of this one to each other subject of its case.
pub const OURS: &str = "trionics";

/// Cases that belong together, such as those of one crate.
#[derive(Debug)]
pub struct Group {
    name: &'static str,
    cases: Vec<Case>,
}

impl Group {
    /// A group without cases; the name is short and lower case.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            cases: Vec::new(),
        }
    }

    /// Adds a case.
    ///
    /// # Panics
    ///
    /// If the group has a case of that name.
    #[must_use]
    pub fn case(mut self, case: Case) -> Self {
        assert!(
            self.cases.iter().all(|other| other.name != case.name),
            "two cases {}/{}",
            self.name,
            case.name
        );
        self.cases.push(case);
        self
    }

    /// How filters and reports call the group.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The cases, in the order in which they were added.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }
}

/// One comparison: the same work, done by each subject.
#[derive(Debug)]
pub struct Case {
    name: String,
    per: &'static str,
    units: u64,
    fair: &'static str,
    subjects: Vec<Subject>,
}

impl Case {
    /// A case in which one iteration of a subject handles `units` of what times are divided by: `child`, `item`, `op` …
    ///
    /// `fair` says in one line what is compared and why the comparison is fair; it is printed with the figures.
    ///
    /// # Panics
    ///
    /// If `units` is zero.
    pub fn new(name: impl Into<String>, per: &'static str, units: u64, fair: &'static str) -> Self {
        assert!(units > 0, "times are divided by the number of units");
        Self {
            name: name.into(),
            per,
            units,
            fair,
            subjects: Vec::new(),
        }
    }

    /// Adds a subject: `set_up` runs once, outside the measured time, and returns one iteration of the work.
    ///
    /// What an iteration returns is kept from being optimized away, and its drop is measured too.
    #[must_use]
    pub fn subject<T, Iteration>(
        self,
        name: &'static str,
        set_up: impl Fn() -> Iteration + 'static,
    ) -> Self
    where
        Iteration: FnMut() -> T + 'static,
    {
        self.timed_subject(name, move || {
            let mut iteration = set_up();
            move |iterations| {
                let started = Instant::now();
                for _ in 0..iterations {
                    black_box(iteration());
                }
                started.elapsed()
            }
        })
    }

    /// Adds a subject that keeps the time itself: it is told how many iterations to do, and returns how long they took.
    ///
    /// For iterations that need preparations which are not to be measured.
    ///
    /// # Panics
    ///
    /// If the case has a subject of that name.
    #[must_use]
    pub fn timed_subject<Turn>(
        mut self,
        name: &'static str,
        set_up: impl Fn() -> Turn + 'static,
    ) -> Self
    where
        Turn: FnMut(u64) -> Duration + 'static,
    {
        assert!(
            self.subjects.iter().all(|other| other.name != name),
            "two subjects {name} in {}",
            self.name
        );
        self.subjects.push(Subject {
            name,
            set_up: Box::new(move || Box::new(set_up())),
        });
        self
    }

    /// How filters and reports call the case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What times are divided by.
    pub fn per(&self) -> &'static str {
        self.per
    }

    /// How many of these one iteration handles.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// What is compared, and why that is fair.
    pub fn fair(&self) -> &'static str {
        self.fair
    }

    /// Who takes part.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }
}

/// A turn of a subject: does so many iterations and returns how long they took.
pub type Turn = Box<dyn FnMut(u64) -> Duration>;

/// One of those that do a case's work.
pub struct Subject {
    name: &'static str,
    set_up: Box<dyn Fn() -> Turn>,
}

impl Subject {
    /// [`OURS`], or the name of a peer.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Prepares the subject for its turns.
    pub fn set_up(&self) -> Turn {
        (self.set_up)()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Subject")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
