//! The rounds: calibration, turns in a shuffled order, paired ratios.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    statistics::Spread,
    suite::{Case, OURS, Turn},
};

/// How many rounds a case gets, and how long a subject's turn in a round is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Turns of each subject.
    pub rounds: usize,
    /// The length of a turn that calibration aims at; never less than one iteration.
    pub turn: Duration,
}

impl Plan {
    /// For figures that one quotes.
    pub const FULL: Self = Self {
        rounds: 51,
        turn: Duration::from_millis(15),
    };
    /// For a first look.
    pub const QUICK: Self = Self {
        rounds: 15,
        turn: Duration::from_millis(4),
    };
}

/// What came out of a case.
#[derive(Debug)]
pub struct Outcome {
    /// The subjects that did all their turns, in the order of the case.
    pub measured: Vec<Measured>,
    /// The subjects that panicked, and with what; their turns do not count.
    pub failed: Vec<(&'static str, String)>,
}

/// The figures of one subject.
#[derive(Debug)]
pub struct Measured {
    /// [`OURS`] or a peer's name.
    pub subject: &'static str,
    /// Nanoseconds per unit.
    pub nanoseconds: Spread,
    /// For a peer: our time divided by its time in the same round.
    pub ratio: Option<Spread>,
}

/// Lets the subjects of a case take turns.
///
/// A subject that panics is out from there on; the others go on.
pub fn measure(group: &str, case: &Case, plan: Plan) -> Outcome {
    let mut failed = Vec::new();
    let mut players = Vec::new();
    for subject in case.subjects() {
        let name = subject.name();
        match guarded(group, case, name, || calibrate(subject.set_up(), plan.turn)) {
            Ok((turn, length)) => players.push(Player {
                name,
                turn,
                length,
                times: Vec::new(),
            }),
            Err(message) => failed.push((name, message)),
        }
    }

    let mut shuffle = Shuffle::new();
    for _ in 0..plan.rounds {
        for index in shuffle.order(players.len()) {
            let player = &mut players[index];
            if failed.iter().any(|(name, _)| *name == player.name) {
                continue;
            }
            let length = player.length;
            match guarded(group, case, player.name, || length.time(&mut player.turn)) {
                Ok(nanoseconds) => player.times.push(nanoseconds / case.units() as f64),
                Err(message) => {
                    failed.push((player.name, message));
                    let broken: Turn = mem::replace(&mut player.turn, Box::new(|_| Duration::ZERO));
                    // It may well panic again; it has been reported already.
                    let _ = guarded(group, case, player.name, || drop(broken));
                }
            }
        }
    }

    players.retain(|player| failed.iter().all(|(name, _)| *name != player.name));
    let ours = players
        .iter()
        .find(|player| player.name == OURS)
        .map(|player| player.times.clone());
    let measured = players
        .into_iter()
        .map(|player| {
            let ratio = match &ours {
                Some(ours) if player.name != OURS => Some(Spread::of(
                    ours.iter()
                        .zip(&player.times)
                        .map(|(ours, theirs)| ours / theirs)
                        .collect(),
                )),
                _ => None,
            };
            Measured {
                subject: player.name,
                nanoseconds: Spread::of(player.times),
                ratio,
            }
        })
        .collect();
    Outcome { measured, failed }
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
}

impl Length {
    /// Short ones, so that most fall between two interruptions; fewer if a single iteration is longer.
    const BATCHES: u64 = 31;

    /// Lets a subject take its turn; nanoseconds per iteration.
    fn time(self, turn: &mut Turn) -> f64 {
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
    let length = Length {
        batches: ((aim.as_secs_f64() / fastest) as u64).clamp(1, Length::BATCHES),
        iterations: ((batch / fastest) as u64).max(1),
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

    const PLAN: Plan = Plan {
        rounds: 9,
        turn: Duration::from_micros(100),
    };

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
        let outcome = measure("group", &case, PLAN);
        let [ours, peer] = &outcome.measured[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!((ours.nanoseconds.median, ours.ratio), (5.0, None));
        assert_eq!(
            peer.nanoseconds,
            Spread {
                low: 20.0,
                median: 20.0,
                high: 20.0
            }
        );
        assert_eq!(
            peer.ratio,
            Some(Spread {
                low: 0.25,
                median: 0.25,
                high: 0.25
            })
        );
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
        let outcome = measure("group", &case, one_turn_each);
        let peer = &outcome.measured[1];
        assert!(
            peer.nanoseconds.high / peer.nanoseconds.low > 1.6,
            "{peer:?}"
        );
        assert_eq!(
            peer.ratio,
            Some(Spread {
                low: 0.75,
                median: 0.75,
                high: 0.75
            })
        );
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
        let outcome = measure("group", &case, PLAN);
        let expected = Spread {
            low: 100.0,
            median: 100.0,
            high: 100.0,
        };
        assert_eq!(outcome.measured[0].nanoseconds, expected);
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
        let outcome = measure("group", &case, PLAN);
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
        let outcome = measure("group", &case, PLAN);
        assert!(outcome.measured[0].ratio.is_none());
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
