//! The rounds: calibration, turns in a shuffled order, paired ratios.

use std::{
    any::Any,
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    alone,
    figures::Figures,
    statistics::Spread,
    suite::{Case, OURS, Subject, Turn},
};

/// How many rounds a case gets, and how long a subject's turn in a round is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Turns of each subject, where the time that a case is given is enough.
    pub rounds: usize,
    /// Turns of each subject in any case: with fewer there is no spread to speak of.
    pub least: usize,
    /// The length of a turn that calibration aims at; never less than one iteration.
    pub turn: Duration,
}

/// What came out of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rounds that all went through.
    pub rounds: usize,
    /// The subjects that did all their turns, in the order of the case.
    pub measured: Vec<Measured>,
    /// The subjects that panicked, and with what; their turns do not count.
    pub failed: Vec<(&'static str, String)>,
}

/// What is known of one subject.
#[derive(Debug)]
pub struct Measured {
    /// [`OURS`] or a peer's name.
    pub subject: &'static str,
    /// Nanoseconds per unit; none for a subject that has only figures.
    pub nanoseconds: Option<Spread>,
    /// For a peer: our time divided by its time in the same round.
    pub ratio: Option<Spread>,
    /// What is said of it beside its times.
    pub figures: Figures,
}

/// Lets the subjects of a case take turns, in as many rounds as the plan says and the time allows, and then asks for their
/// figures.
///
/// A subject that panics is out from there on; the others go on. When `is_interrupted` turns true, the rounds so far count,
/// and nothing comes out if there were none.
pub fn measure(
    group: &str,
    case: &Case,
    plan: Plan,
    time: Duration,
    is_interrupted: &dyn Fn() -> bool,
) -> Option<Outcome> {
    let mut failed = Vec::new();
    let mut players = Vec::new();
    for subject in case.subjects().iter().filter(|subject| subject.has_times()) {
        if is_interrupted() {
            return None;
        }
        let name = subject.name();
        let calibrated = guarded(group, case, name, || {
            subject.set_up().map(|turn| calibrate(turn, plan.turn))
        });
        match calibrated {
            Ok(None) => {}
            Ok(Some((turn, length))) => players.push(Player {
                name,
                turn,
                length,
                times: Vec::new(),
            }),
            Err(message) => failed.push((name, message)),
        }
    }

    let round: Duration = players.iter().map(|player| player.length.time).sum();
    let rounds = (time.as_secs_f64() / round.as_secs_f64().max(1e-9)) as usize;
    let rounds = rounds.max(plan.least).min(plan.rounds);
    let mut n_rounds = 0;
    let mut shuffle = Shuffle::new();
    'rounds: while n_rounds < rounds {
        for index in shuffle.order(players.len()) {
            if is_interrupted() {
                break 'rounds;
            }
            let player = &mut players[index];
            if failed.iter().any(|(name, _)| *name == player.name) {
                continue;
            }
            let length = player.length;
            match guarded(group, case, player.name, || length.take(&mut player.turn)) {
                Ok(nanoseconds) => player.times.push(nanoseconds / case.units() as f64),
                Err(message) => {
                    failed.push((player.name, message));
                    let broken: Turn = mem::replace(&mut player.turn, Box::new(|_| Duration::ZERO));
                    // It may well panic again; it has been reported already.
                    let _ = guarded(group, case, player.name, || drop(broken));
                }
            }
        }
        n_rounds += 1;
    }
    if n_rounds == 0 && !players.is_empty() {
        return None;
    }

    let mut times = BTreeMap::new();
    for mut player in players {
        if failed.iter().all(|(name, _)| *name != player.name) {
            // Of a round that was cut short nothing counts.
            player.times.truncate(n_rounds);
            times.insert(player.name, player.times);
        }
    }
    let mut measured = Vec::new();
    for subject in case.subjects() {
        let name = subject.name();
        if failed.iter().any(|(failed, _)| *failed == name)
            || is_interrupted() && !times.contains_key(name)
        {
            continue;
        }
        let figures = match guarded(group, case, name, || {
            figures(group, case, subject, is_interrupted)
        }) {
            Ok(Ok(figures)) => figures,
            Ok(Err(message)) | Err(message) => {
                failed.push((name, message));
                continue;
            }
        };
        let theirs = times.get(name);
        let ratio = match (times.get(OURS), theirs) {
            (Some(ours), Some(theirs)) if name != OURS => Some(Spread::of(
                ours.iter()
                    .zip(theirs)
                    .map(|(ours, theirs)| ours / theirs)
                    .collect(),
            )),
            _ => None,
        };
        measured.push(Measured {
            subject: name,
            nanoseconds: theirs.cloned().map(Spread::of),
            ratio,
            figures,
        });
    }
    Some(Outcome {
        rounds: n_rounds,
        measured,
        failed,
    })
}

/// What is said of a subject beside its times; whoever interrupts does not wait for it.
fn figures(
    group: &str,
    case: &Case,
    subject: &Subject,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Figures, String> {
    if is_interrupted() {
        return Ok(Figures::new());
    }
    let figures = subject.figures();
    if !case.has_peak_memory() || !subject.has_times() {
        return Ok(figures);
    }
    Ok(alone::figures(group, case.name(), subject.name())?.and(figures))
}

/// A subject during the rounds.
struct Player {
    name: &'static str,
    turn: Turn,
    length: Length,
    /// Nanoseconds per unit, one figure per round.
    times: Vec<f64>,
}

/// How long a turn is: the same time for all subjects of a case, as far as whole iterations allow.
#[derive(Clone, Copy)]
struct Length {
    /// A turn is cut into batches, and the median of their times is the time of the turn: where other programs want
    /// the processor, they spoil some batches, not the turn.
    batches: u64,
    /// Iterations in a batch.
    iterations: u64,
    /// About how long a turn is.
    time: Duration,
}

impl Length {
    /// Short ones, so that most fall between two interruptions; fewer if a single iteration is longer.
    const BATCHES: u64 = 31;

    /// Lets a subject take its turn; nanoseconds per iteration.
    fn take(self, turn: &mut Turn) -> f64 {
        let batch = |_| turn(self.iterations).as_nanos() as f64 / self.iterations as f64;
        Spread::of((0..self.batches).map(batch).collect()).median
    }
}

/// Warms a subject up, and finds out how many iterations fill a turn.
fn calibrate(mut turn: Turn, aim: Duration) -> (Turn, Length) {
    let batch = aim.as_secs_f64() / Length::BATCHES as f64;
    let mut iterations = 1_u64;
    loop {
        let time = turn(iterations).as_secs_f64().max(1e-9);
        if iterations == 1 && time >= 8.0 * aim.as_secs_f64() {
            // So long an iteration needs no second look: it will be a turn, however much faster the next one is.
            let length = Length {
                batches: 1,
                iterations: 1,
                time: Duration::from_secs_f64(time),
            };
            return (turn, length);
        }
        if time >= batch / 2.0 {
            break;
        }
        // Step by step: the first iterations are the slow ones.
        let fitting = (iterations as f64 * batch / time) as u64;
        iterations = fitting.clamp(iterations + 1, iterations * 20);
    }
    // Whoever was disturbed here would have short turns from there on: the fastest of a few counts.
    let fastest = (0..3)
        .map(|_| turn(iterations).as_secs_f64().max(1e-9) / iterations as f64)
        .fold(f64::INFINITY, f64::min);
    let batches = ((aim.as_secs_f64() / fastest) as u64).clamp(1, Length::BATCHES);
    let iterations = ((batch / fastest) as u64).max(1);
    let length = Length {
        batches,
        iterations,
        time: Duration::from_secs_f64(fastest * (batches * iterations) as f64),
    };
    (turn, length)
}

/// Runs a part of a subject's work; a panic becomes its message.
fn guarded<T>(
    group: &str,
    case: &Case,
    subject: &str,
    work: impl FnOnce() -> T,
) -> Result<T, String> {
    let running = Running {
        what: format!("{group}/{}: {subject}", case.name()),
        since: Instant::now(),
    };
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    // Nothing of a subject is used again after it has panicked.
    let outcome = catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(&*payload));
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    outcome
}

/// The text of a panic.
fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// The part of a subject's work that is running, for [`hangs`].
struct Running {
    what: String,
    since: Instant,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// The subject whose turn has been going on for so long, if any.
pub fn hangs(limit: Duration) -> Option<String> {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running
        .as_ref()
        .filter(|running| running.since.elapsed() > limit)
        .map(|running| running.what.clone())
}

/// A fresh order for each round, the same in each run.
struct Shuffle(u64);

impl Shuffle {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn order(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for last in (1..length).rev() {
            order.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
        order
    }

    /// xorshift64*: a few lines, and random enough to break up a fixed order.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::figures::Figure;

    const PLAN: Plan = Plan {
        rounds: 9,
        least: 3,
        turn: Duration::from_micros(100),
    };

    /// All the time that a case may want.
    fn measure(case: &Case, plan: Plan) -> Outcome {
        super::measure("group", case, plan, Duration::MAX, &|| false).expect("nobody interrupts")
    }

    /// The spread of figures that are all the same.
    fn flat(figure: f64) -> Option<Spread> {
        Some(Spread {
            low: figure,
            median: figure,
            high: figure,
        })
    }

    /// A subject whose clock says that an iteration takes `nanoseconds`, times a drift that every round shares.
    fn pretended(
        nanoseconds: u64,
        drift: Rc<Cell<u64>>,
    ) -> impl Fn() -> Box<dyn FnMut(u64) -> Duration> {
        move || {
            let drift = drift.clone();
            Box::new(move |iterations| Duration::from_nanos(iterations * nanoseconds * drift.get()))
        }
    }

    #[test]
    fn times_are_divided_by_iterations_and_units() {
        let drift = Rc::new(Cell::new(1));
        let case = Case::new("case", "item", 10, "")
            .timed_subject(OURS, pretended(50, drift.clone()))
            .timed_subject("peer", pretended(200, drift));
        let outcome = measure(&case, PLAN);
        let [ours, peer] = &outcome.measured[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!(outcome.rounds, 9);
        assert_eq!((ours.nanoseconds, ours.ratio), (flat(5.0), None));
        assert_eq!((peer.nanoseconds, peer.ratio), (flat(20.0), flat(0.25)));
    }

    #[test]
    fn drift_spoils_the_times_but_not_the_paired_ratio() {
        // The machine changes its speed every second turn, that is, between rounds; no turn of the calibration
        // counts, as each subject has done with it before the rounds begin.
        let turns = Rc::new(Cell::new(0_u64));
        let subject = |nanoseconds: u64| {
            let turns = turns.clone();
            move || {
                let turns = turns.clone();
                move |iterations: u64| {
                    turns.set(turns.get() + 1);
                    let speed = if ((turns.get() - 1) / 2).is_multiple_of(2) {
                        10
                    } else {
                        17
                    };
                    Duration::from_nanos(iterations * nanoseconds * speed)
                }
            }
        };
        let one_turn_each = Plan {
            turn: Duration::from_nanos(1),
            ..PLAN
        };
        let case = Case::new("case", "item", 1, "")
            .timed_subject(OURS, subject(30))
            .timed_subject("peer", subject(40));
        let outcome = measure(&case, one_turn_each);
        let peer = &outcome.measured[1];
        let times = peer.nanoseconds.expect("it has times");
        assert!(times.high / times.low > 1.6, "{peer:?}");
        assert_eq!(peer.ratio, flat(0.75));
    }

    #[test]
    fn a_few_disturbed_batches_do_not_count() {
        let disturbed = || {
            let mut batches = 0_u64;
            move |iterations: u64| {
                batches += 1;
                let disturbance = if batches.is_multiple_of(3) {
                    10_000_000
                } else {
                    0
                };
                Duration::from_nanos(iterations * 100 + disturbance)
            }
        };
        let case = Case::new("case", "item", 1, "").timed_subject("peer", disturbed);
        let outcome = measure(&case, PLAN);
        assert_eq!(outcome.measured[0].nanoseconds, flat(100.0));
    }

    #[test]
    fn a_turn_is_as_long_as_planned() {
        for (nanoseconds, batches, iterations) in [
            (10, 31, 322),
            (100, 31, 32),
            (30_000, 3, 1),
            (200_000, 1, 1),
        ] {
            let subject = pretended(nanoseconds, Rc::new(Cell::new(1)));
            let (_, length) = calibrate(subject(), PLAN.turn);
            assert_eq!(
                (length.batches, length.iterations),
                (batches, iterations),
                "{nanoseconds}"
            );
        }
    }

    #[test]
    fn a_subject_that_panics_is_named_and_the_others_go_on() {
        let drift = Rc::new(Cell::new(1));
        let panics_late = || {
            let mut turns = 0;
            move |iterations: u64| {
                turns += 1;
                assert!(turns < 8, "the eighth turn");
                Duration::from_micros(iterations * 100)
            }
        };
        let case = Case::new("case", "item", 1, "")
            .timed_subject(OURS, pretended(10, drift.clone()))
            .timed_subject("late", panics_late)
            .subject("early", || || panic!("at once"))
            .timed_subject("peer", pretended(20, drift));
        let outcome = measure(&case, PLAN);
        let measured: Vec<_> = outcome
            .measured
            .iter()
            .map(|measured| measured.subject)
            .collect();
        assert_eq!(measured, [OURS, "peer"]);
        assert_eq!(
            outcome.measured[1].ratio.map(|ratio| ratio.median),
            Some(0.5)
        );
        assert_eq!(
            outcome.failed,
            [
                ("early", "at once".to_owned()),
                ("late", "the eighth turn".to_owned())
            ]
        );
    }

    #[test]
    fn without_our_subject_there_are_no_ratios() {
        let case = Case::new("case", "item", 1, "")
            .timed_subject("peer", pretended(20, Rc::new(Cell::new(1))));
        let outcome = measure(&case, PLAN);
        assert!(outcome.measured[0].ratio.is_none());
    }

    /// A subject whose turns are of a clock that the test reads, too.
    fn on_a_clock(
        iteration: Duration,
        clock: Rc<Cell<Duration>>,
    ) -> impl Fn() -> Box<dyn FnMut(u64) -> Duration> {
        move || {
            let clock = clock.clone();
            Box::new(move |iterations| {
                let time = iteration * iterations as u32;
                clock.set(clock.get() + time);
                time
            })
        }
    }

    #[test]
    fn rounds_fit_the_time_but_for_the_least() {
        let plan = Plan {
            rounds: 100,
            least: 5,
            turn: Duration::from_millis(10),
        };
        for (seconds, rounds) in [(1, 5), (20, 10), (10_000, 100)] {
            let clock = Rc::new(Cell::new(Duration::ZERO));
            let subject = || on_a_clock(Duration::from_secs(1), clock.clone());
            let case = Case::new("case", "item", 1, "")
                .timed_subject(OURS, subject())
                .timed_subject("peer", subject());
            let time = Duration::from_secs(seconds);
            let outcome =
                super::measure("group", &case, plan, time, &|| false).expect("nobody interrupts");
            assert_eq!(outcome.rounds, rounds, "in {seconds} s");
            // One iteration to warm up, and one a round.
            assert_eq!(clock.get(), Duration::from_secs(2 * (1 + rounds as u64)));
        }
    }

    #[test]
    fn an_interruption_keeps_the_rounds_that_are_complete() {
        let clock = Rc::new(Cell::new(Duration::ZERO));
        let subject = || on_a_clock(Duration::from_secs(1), clock.clone());
        let case = Case::new("case", "item", 1, "")
            .timed_subject(OURS, subject())
            .timed_subject("peer", subject());
        // Two turns to warm up; the third round is cut in half.
        let after = |seconds| {
            clock.set(Duration::ZERO);
            let is_interrupted = || clock.get() >= Duration::from_secs(seconds);
            super::measure("group", &case, PLAN, Duration::MAX, &is_interrupted)
        };
        let outcome = after(7).expect("two rounds are complete");
        assert_eq!((outcome.rounds, outcome.measured.len()), (2, 2));
        assert_eq!(outcome.measured[1].ratio, flat(1.0));
        assert!(after(3).is_none());
        assert!(after(1).is_none());
    }

    #[test]
    fn figures_are_asked_for_once_and_need_no_times() {
        let asked = Rc::new(Cell::new(0));
        let figures = |bytes: f64| {
            let asked = asked.clone();
            move || {
                asked.set(asked.get() + 1);
                Figures::new().number("bytes", bytes)
            }
        };
        let case = Case::new("case", "item", 1, "")
            .timed_subject(OURS, pretended(10, Rc::new(Cell::new(1))))
            .figures(OURS, figures(1.0))
            .figures("peer", figures(2.0))
            .figures("broken", || panic!("no figures"));
        let outcome = measure(&case, PLAN);
        let [ours, peer] = &outcome.measured[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!(ours.nanoseconds, flat(10.0));
        assert_eq!(ours.figures, Figures::new().number("bytes", 1.0));
        assert_eq!((peer.nanoseconds, peer.ratio), (None, None));
        assert_eq!(peer.figures, Figures::new().number("bytes", 2.0));
        assert_eq!(asked.get(), 2);
        assert_eq!(outcome.failed, [("broken", "no figures".to_owned())]);
    }

    #[test]
    fn a_case_of_figures_alone_has_no_rounds_to_wait_for() {
        let case =
            Case::new("case", "item", 1, "").figures(OURS, || Figures::new().text("safe", "yes"));
        let outcome = measure(&case, PLAN);
        assert_eq!(
            outcome.measured[0].figures.get("safe"),
            Some(&Figure::Text("yes".to_owned()))
        );
    }

    #[test]
    fn every_order_comes_up() {
        let mut shuffle = Shuffle::new();
        let mut orders: Vec<_> = (0..100).map(|_| shuffle.order(3)).collect();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 6);
    }
}
