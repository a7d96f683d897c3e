//! How long a run may take, and what part of that each case gets.

use std::time::Duration;

use crate::{measure::Plan, suite::Case};

/// The time that a run has left, shared out among the cases that are still to come.
///
/// A case gets the part that its planned time is of all that is still planned: what one does not use is the others', and
/// what one overdraws is theirs, too. None gets more than a few times what was planned for it, so that a run of few cases is
/// short.
#[derive(Debug)]
pub struct Budget {
    /// When the run should be over, counted from its beginning.
    end: Duration,
    /// The planned time of each case that is still to come, the next one last.
    planned: Vec<Duration>,
    /// The planned time of those that are done.
    done: Duration,
}

/// A case whose iterations are longer than a turn may take so many times what was planned for it.
const MOST: u32 = 4;

impl Budget {
    /// For a run of these cases, in this order, that should end after `end`.
    pub fn new<'cases>(
        end: Duration,
        plan: Plan,
        cases: impl IntoIterator<Item = &'cases Case>,
    ) -> Self {
        let mut planned: Vec<_> = cases
            .into_iter()
            .map(|case| planned_time(case, plan))
            .collect();
        planned.reverse();
        Self {
            end,
            planned,
            done: Duration::ZERO,
        }
    }

    /// The time that the next case gets for its rounds, `elapsed` after the beginning.
    pub fn allotted(&self, elapsed: Duration) -> Duration {
        let Some(next) = self.planned.last() else {
            return Duration::ZERO;
        };
        let left = self.end.saturating_sub(elapsed);
        let ahead: Duration = self.planned.iter().sum();
        if ahead.is_zero() {
            return Duration::ZERO;
        }
        left.mul_f64(next.as_secs_f64() / ahead.as_secs_f64())
            .min(*next * MOST)
    }

    /// The next case has been measured.
    pub fn case_is_done(&mut self) {
        self.done += self.planned.pop().unwrap_or_default();
    }

    /// About how long the rest will take, from how long it took so far. Before the first case is done, the plan is all that
    /// is known.
    pub fn time_left(&self, elapsed: Duration) -> Duration {
        let ahead: Duration = self.planned.iter().sum();
        if self.done.is_zero() {
            return ahead;
        }
        ahead.mul_f64(elapsed.as_secs_f64() / self.done.as_secs_f64())
    }
}

/// What a case takes if all goes as planned: the turns of its subjects, and about three more to warm them up.
fn planned_time(case: &Case, plan: Plan) -> Duration {
    let n_subjects = case
        .subjects()
        .iter()
        .filter(|subject| subject.has_times())
        .count() as u32;
    let n_alone = u32::from(case.has_peak_memory());
    let of_one = if case.lasts() > plan.turn {
        case.lasts() * (plan.least as u32 + 1 + n_alone)
    } else {
        plan.turn * (plan.rounds as u32 + 3 + n_alone)
    };
    of_one * n_subjects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Figures, suite::OURS};

    const PLAN: Plan = Plan {
        rounds: 7,
        least: 2,
        turn: Duration::from_secs(1),
    };

    fn case(subjects: usize) -> Case {
        ["a", "b", "c", "d"][..subjects]
            .iter()
            .fold(Case::new("case", "item", 1, ""), |case, name| {
                case.subject(name, || || ())
            })
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_case_gets_its_part() {
        let cases = [case(1), case(3)];
        let budget = Budget::new(seconds(80), PLAN, &cases);
        assert_eq!(budget.allotted(Duration::ZERO), seconds(20));
        assert_eq!(budget.time_left(Duration::ZERO), seconds(40));
    }

    #[test]
    fn what_one_leaves_or_overdraws_is_the_others() {
        let cases = [case(1), case(1), case(1)];
        let mut budget = Budget::new(seconds(60), PLAN, &cases);
        budget.case_is_done();
        assert_eq!(budget.allotted(seconds(10)), seconds(25));
        assert_eq!(budget.time_left(seconds(10)), seconds(20));
        budget.case_is_done();
        assert_eq!(budget.allotted(seconds(50)), seconds(10));
        assert_eq!(budget.allotted(seconds(1000)), Duration::ZERO);
        budget.case_is_done();
        assert_eq!(budget.allotted(seconds(50)), Duration::ZERO);
        assert_eq!(budget.time_left(seconds(50)), Duration::ZERO);
    }

    #[test]
    fn few_cases_do_not_fill_all_the_time() {
        let budget = Budget::new(seconds(3600), PLAN, [&case(2)]);
        assert_eq!(budget.allotted(Duration::ZERO), seconds(80));
    }

    #[test]
    fn a_long_iteration_is_planned_with_the_least_rounds() {
        assert_eq!(planned_time(&case(2), PLAN), seconds(20));
        let long = case(2).lasting(seconds(10));
        assert_eq!(planned_time(&long, PLAN), seconds(60));
        assert_eq!(planned_time(&long.with_peak_memory(), PLAN), seconds(80));
    }

    #[test]
    fn figures_alone_take_no_time() {
        let case = Case::new("case", "item", 1, "").figures(OURS, Figures::new);
        let budget = Budget::new(seconds(1), PLAN, [&case]);
        assert_eq!(budget.allotted(Duration::ZERO), Duration::ZERO);
    }
}
