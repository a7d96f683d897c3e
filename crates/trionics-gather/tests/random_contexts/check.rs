//! What must be true of a run, from the program and the log alone.

use std::collections::BTreeSet;

use trionics_errgroup::{Failure, LibraryFailure};
use trionics_nursery::Report;

use super::program::{Block, Context, End, InUse, Make, Program};

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A context has its value, and owes an exit.
    Entered(u32),
    /// A context gave up before it was left, with success or not.
    Died(u32, bool),
    ExitBegins(u32),
    ExitEnds(u32),
    /// The body of the set or stack with this first context.
    BodyBegins(u32),
    Failed(u32),
    Panicked(u32),
    Hung,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Value(u32),
    Cancelled,
    Failed {
        errors: Vec<u32>,
        ended: usize,
        cancelled: usize,
        others: usize,
    },
    Panic(String),
}

impl Outcome {
    pub(crate) fn of_failure(failure: &Failure<u32>) -> Self {
        let (mut errors, mut ended, mut cancelled, mut others) = (Vec::new(), 0, 0, 0);
        for leaf in failure.leaves() {
            if let Some(error) = leaf.as_leaf() {
                errors.push(*error);
            } else if leaf.is_cancelled() {
                cancelled += 1;
            } else if leaf.as_library() == Some(&LibraryFailure::ContextEnded) {
                ended += 1;
            } else {
                others += 1;
            }
        }
        Self::Failed {
            errors,
            ended,
            cancelled,
            others,
        }
    }
}

/// What the runs have come to: a test that sees none of one kind tests nothing.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    values: usize,
    cancelled: usize,
    failures: usize,
    several_failures: usize,
    panics: usize,
    died: usize,
    hung: usize,
}

impl Seen {
    pub(crate) fn is_everything(&self) {
        for n in [
            self.values,
            self.cancelled,
            self.failures,
            self.several_failures,
            self.panics,
            self.died,
            self.hung,
        ] {
            assert!(n > 50, "{self:?}");
        }
    }
}

type Verdict = Result<(), String>;

pub(crate) fn check(
    program: &Program,
    log: &[Event],
    outcome: &Outcome,
    is_cancelled: bool,
    reports: &[Report],
    seen: &mut Seen,
) -> Verdict {
    check_contexts(&program.block, log)?;
    check_order(&program.block, log)?;
    check_outcome(program, log, outcome, is_cancelled, seen)?;
    let mut slow = Vec::new();
    contexts_with_nursery(&program.block, &mut slow);
    // One that has given up, and is cut off before it has returned, is reported as well.
    let mut n_cut_off = log
        .iter()
        .filter(|event| matches!(event, Event::Died(id, _) if slow.contains(id)))
        .count();
    for report in reports {
        if matches!(report, Report::Dropped(_)) && n_cut_off > 0 {
            n_cut_off -= 1;
            continue;
        }
        if !matches!(
            report,
            Report::FailedUnderCancellation { .. }
                | Report::FailuresBehindPanic { .. }
                | Report::LaterPanic { .. }
        ) {
            return Err(format!("an unexpected report: {report}"));
        }
    }
    Ok(())
}

fn contexts_of(block: &Block) -> &[Context] {
    match block {
        Block::Set { contexts, .. } | Block::Stack { contexts, .. } => contexts,
        _ => &[],
    }
}

fn inside(block: &Block) -> &[Block] {
    match block {
        Block::Leaf { .. } => &[],
        Block::Set { body, .. } | Block::Stack { body, .. } => std::slice::from_ref(&**body),
        Block::Race(blocks) | Block::Join(blocks) => blocks,
    }
}

fn count(log: &[Event], event: Event) -> usize {
    log.iter().filter(|other| **other == event).count()
}

fn position(log: &[Event], event: Event) -> Option<usize> {
    log.iter().position(|other| *other == event)
}

/// The moment in which a context has ended, if it was entered.
fn end_of(log: &[Event], id: u32) -> Option<usize> {
    position(log, Event::ExitEnds(id))
        .or_else(|| position(log, Event::Died(id, true)))
        .or_else(|| position(log, Event::Died(id, false)))
}

/// Every entered context exits exactly once, and what was not entered does not exit.
fn check_contexts(block: &Block, log: &[Event]) -> Verdict {
    for context in contexts_of(block) {
        let id = context.id;
        let entered = count(log, Event::Entered(id));
        let died = count(log, Event::Died(id, true)) + count(log, Event::Died(id, false));
        let begins = count(log, Event::ExitBegins(id));
        let ends = count(log, Event::ExitEnds(id));
        if entered > 1 || begins + died != entered || ends != begins {
            return Err(format!(
                "context {id} has entered {entered}, died {died}, begun to exit {begins} and exited \
                 {ends} times"
            ));
        }
    }
    inside(block)
        .iter()
        .try_for_each(|block| check_contexts(block, log))
}

/// All contexts in the block and further in.
fn all_contexts(block: &Block, into: &mut Vec<u32>) {
    into.extend(contexts_of(block).iter().map(|context| context.id));
    for block in inside(block) {
        all_contexts(block, into);
    }
}

/// A context exits after everything that was entered inside its block, and on a stack after everything
/// above it; a body begins when all contexts have entered.
fn check_order(block: &Block, log: &[Event]) -> Verdict {
    let contexts = contexts_of(block);
    let mut within = Vec::new();
    for block in inside(block) {
        all_contexts(block, &mut within);
        check_order(block, log)?;
    }
    for (index, context) in contexts.iter().enumerate() {
        let Some(begins) = position(log, Event::ExitBegins(context.id)) else {
            continue;
        };
        let above: &[Context] = match block {
            Block::Stack { .. } => &contexts[index + 1..],
            _ => &[],
        };
        for before in within
            .iter()
            .copied()
            .chain(above.iter().map(|context| context.id))
        {
            if position(log, Event::Entered(before)).is_some()
                && end_of(log, before).is_none_or(|end| end > begins)
            {
                return Err(format!(
                    "context {} begins to exit before {before}, which depends on it, has exited",
                    context.id
                ));
            }
        }
    }
    if let Some(first) = contexts.first()
        && let Some(begins) = position(log, Event::BodyBegins(first.id))
    {
        for context in contexts {
            if position(log, Event::Entered(context.id)).is_none_or(|entered| entered > begins) {
                return Err(format!("a body begins before {} has entered", context.id));
            }
        }
        if let Block::Stack { .. } = block {
            let entered: Vec<_> = contexts
                .iter()
                .map(|context| position(log, Event::Entered(context.id)))
                .collect();
            if !entered.is_sorted() {
                return Err("a stack was not entered in order".to_owned());
            }
        }
    }
    Ok(())
}

fn contexts_with_nursery(block: &Block, into: &mut Vec<u32>) {
    into.extend(
        contexts_of(block)
            .iter()
            .filter(|context| matches!(context.make, Make::WithNursery))
            .map(|context| context.id),
    );
    for block in inside(block) {
        contexts_with_nursery(block, into);
    }
}

/// Nothing in the program does anything but end well.
fn is_peaceful(block: &Block) -> bool {
    let part_is = |end: End| end == End::Well;
    let leaf = match block {
        Block::Leaf { part, .. } => part_is(part.end),
        _ => true,
    };
    leaf && contexts_of(block).iter().all(|context| {
        part_is(context.set_up.end)
            && part_is(context.exit.end)
            && matches!(context.in_use, InUse::Waits)
    }) && inside(block).iter().all(is_peaceful)
}

/// The values that a peaceful program can come to.
fn values(block: &Block) -> BTreeSet<u32> {
    let own: u32 = contexts_of(block).iter().map(|context| context.id).sum();
    match block {
        Block::Leaf { id, .. } => BTreeSet::from([*id]),
        Block::Set { body, .. } | Block::Stack { body, .. } => {
            values(body).into_iter().map(|value| value + own).collect()
        }
        Block::Race(blocks) => blocks.iter().flat_map(values).collect(),
        Block::Join(blocks) => blocks.iter().fold(BTreeSet::from([0]), |sums, block| {
            let more = values(block);
            sums.iter()
                .flat_map(|sum| more.iter().map(move |value| sum + value))
                .collect()
        }),
    }
}

/// Every failure is in the outcome exactly once, a panic comes out as a panic, and a value is a value.
fn check_outcome(
    program: &Program,
    log: &[Event],
    outcome: &Outcome,
    is_cancelled: bool,
    seen: &mut Seen,
) -> Verdict {
    let mut failed = Vec::new();
    let mut panicked = Vec::new();
    // A context that gave up without a failure has failed when it returns. One that holds a nursery may be
    // cancelled before that.
    let (mut died_well, mut may_have_died) = (0, 0);
    let mut slow = Vec::new();
    contexts_with_nursery(&program.block, &mut slow);
    for event in log {
        match event {
            Event::Failed(id) => failed.push(*id),
            Event::Panicked(id) => panicked.push(id.to_string()),
            Event::Died(id, well) => {
                seen.died += 1;
                if slow.contains(id) {
                    may_have_died += usize::from(*well);
                } else {
                    died_well += usize::from(*well);
                }
            }
            Event::Hung => seen.hung += 1,
            _ => {}
        }
    }
    failed.sort_unstable();
    if !panicked.is_empty() {
        seen.panics += 1;
        return match outcome {
            Outcome::Panic(text) if panicked.contains(text) => Ok(()),
            _ => Err(format!("{panicked:?} panicked, and no panic came out")),
        };
    }
    let is_failed = matches!(outcome, Outcome::Failed { .. }) && may_have_died > 0;
    if !failed.is_empty() || died_well > 0 || is_failed {
        seen.failures += 1;
        seen.several_failures += usize::from(failed.len() + died_well > 1);
        let Outcome::Failed {
            errors,
            ended,
            cancelled,
            others,
        } = outcome
        else {
            return Err(format!(
                "{failed:?} failed, {died_well} died, and none is heard"
            ));
        };
        let mut errors = errors.clone();
        errors.sort_unstable();
        let ended_is_right = (died_well..=died_well + may_have_died).contains(ended);
        // A block that was stopped by such a context is a lone `Cancelled` where nothing else has failed.
        let is_lone = errors.is_empty() && *ended == 0 && *cancelled == 1 && may_have_died > 0;
        return if errors == failed && ended_is_right && *others == 0 && (*cancelled == 0 || is_lone)
        {
            Ok(())
        } else {
            Err(format!("{failed:?} failed and {died_well} died"))
        };
    }
    match outcome {
        Outcome::Value(value) => {
            seen.values += 1;
            if values(&program.block).contains(value) {
                Ok(())
            } else {
                Err("a wrong value".to_owned())
            }
        }
        Outcome::Cancelled if is_cancelled => {
            seen.cancelled += 1;
            Ok(())
        }
        _ if is_peaceful(&program.block) => Err("nothing went wrong".to_owned()),
        _ => Err("an outcome without a cause".to_owned()),
    }
}
