//! What is measured: groups of cases, and the subjects that take turns in each case.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use crate::figures::Figures;

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
    /// The line of a chart that the case is a point of.
    place: Option<Place>,
    /// About how long an iteration lasts, if that is much longer than a turn.
    lasts: Duration,
    /// Whether each subject also runs in a process of its own.
    alone: bool,
    subjects: Vec<Subject>,
}

/// Where a case stands among its like: the cases of one series differ in size alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the cases of the series have in common; the title of their chart.
    pub series: String,
    /// The size, along the chart's horizontal axis.
    pub size: u64,
    /// What is counted: `children`, `keys` …
    pub of: &'static str,
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
            place: None,
            lasts: Duration::ZERO,
            alone: false,
            subjects: Vec::new(),
        }
    }

    /// Makes the case a point of a series, for the charts: `.sized("ready, plain host", 1000, "children")`.
    ///
    /// # Panics
    ///
    /// If the size is zero: the axis is logarithmic.
    #[must_use]
    pub fn sized(mut self, series: impl Into<String>, size: u64, of: &'static str) -> Self {
        assert!(size > 0, "a size is along a logarithmic axis");
        self.place = Some(Place {
            series: series.into(),
            size,
            of,
        });
        self
    }

    /// Tells that one iteration lasts about so long, where that is a good part of a second: a turn is then one iteration,
    /// rounds are few, and the time that the whole will take is known in advance.
    #[must_use]
    pub fn lasting(mut self, iteration: Duration) -> Self {
        self.lasts = iteration;
        self
    }

    /// Lets each subject also run one iteration in a process of its own, and adds the figure `peak memory, MiB`: by how much
    /// the peak of that process's memory went up from before the set-up to the end.
    #[must_use]
    pub fn with_peak_memory(mut self) -> Self {
        self.alone = true;
        self
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
        let case = self.name.clone();
        let subject = self.entry(name);
        assert!(subject.set_up.is_none(), "two subjects {name} in {case}");
        subject.set_up = Some(Box::new(move || Box::new(set_up())));
        self
    }

    /// Adds figures of a subject that are not times: memory, lines of code, whether its cleanup ran. `figures` is called
    /// once, after the rounds.
    ///
    /// The subject may have times in this case, too, or not: a case can be one of figures alone.
    ///
    /// # Panics
    ///
    /// If the subject has figures in this case already.
    #[must_use]
    pub fn figures(mut self, name: &'static str, figures: impl Fn() -> Figures + 'static) -> Self {
        let case = self.name.clone();
        let subject = self.entry(name);
        assert!(
            subject.figures.is_none(),
            "figures of {name} twice in {case}"
        );
        subject.figures = Some(Box::new(figures));
        self
    }

    /// The subject of that name: a new one, if there is none.
    fn entry(&mut self, name: &'static str) -> &mut Subject {
        let index = self.subjects.iter().position(|other| other.name == name);
        let index = index.unwrap_or_else(|| {
            self.subjects.push(Subject {
                name,
                set_up: None,
                figures: None,
            });
            self.subjects.len() - 1
        });
        &mut self.subjects[index]
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

    /// The series that the case belongs to, if any.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// About how long an iteration lasts; zero if it is short.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    /// Whether each subject is to run in a process of its own, too.
    pub fn has_peak_memory(&self) -> bool {
        self.alone
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
    /// Makes its turns; none for one that has no times.
    set_up: Option<Box<dyn Fn() -> Turn>>,
    /// Finds out what is said of it beside its times.
    figures: Option<Box<dyn Fn() -> Figures>>,
}

impl Subject {
    /// [`OURS`], or the name of a peer.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it takes turns.
    pub fn has_times(&self) -> bool {
        self.set_up.is_some()
    }

    /// Prepares the subject for its turns, if it takes any.
    pub fn set_up(&self) -> Option<Turn> {
        self.set_up.as_ref().map(|set_up| set_up())
    }

    /// What is said of it beside its times.
    pub fn figures(&self) -> Figures {
        self.figures
            .as_ref()
            .map_or_else(Figures::new, |figures| figures())
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
