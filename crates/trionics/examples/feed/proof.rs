//! Whether a rehearsal shows what it is meant to show: from the clients' books and the exchange's journal, not from what the server says of itself.

use std::fmt;

use crate::client::{Books, DOOMED, Role, symbol};
use crate::exchange::{self, Line};
use crate::ledger::{Ending, Subscription};

/// What is known after a rehearsal.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What each client brought back, or why it brought nothing.
    pub(crate) books: Vec<Result<Books, String>>,
    /// What the exchange sent on each of its connections.
    pub(crate) journal: Vec<Line>,
    /// Open file descriptors before and after, where the system tells.
    pub(crate) descriptors: Option<[usize; 2]>,
    /// Scopes, tasks and contexts that have not ended.
    pub(crate) n_live_frames: usize,
    /// How often the library had to report an abandoned exit, or a failure that nobody may ever read.
    pub(crate) n_reports: u64,
}

/// One thing that must hold.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) holds: bool,
    text: String,
}

impl Evidence {
    /// All findings; the rehearsal has succeeded if every one of them holds.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let complaints = self.books.iter().filter_map(|books| books.as_ref().err());
        let complaints = complaints.map(|complaint| Finding::new(false, complaint.clone()));
        let findings = [
            self.ticks_are_complete(),
            self.journal_agrees(),
            self.traffic_was_flowing(),
            self.upstreams_were_left(),
            self.upstreams_were_shared(),
            self.upstreams_were_reopened(),
            self.slow_were_told(),
            self.some_hung_up(),
            self.others_went_on(),
            self.newcomers_were_served(),
            self.mistakes_were_answered(),
            self.descriptors_are_closed(),
            self.nothing_is_left(),
        ];
        complaints.chain(findings).collect()
    }

    fn ticks_are_complete(&self) -> Finding {
        let [mut received, mut lost, mut sent] = [0; 3];
        for subscription in self.subscriptions() {
            received += subscription.received;
            lost += subscription.lost;
            sent += subscription.sent();
        }
        Finding::new(
            received + lost == sent && received > 0,
            format!(
                "{received} ticks received + {lost} told lost = {sent} sent: none twice, no gap untold"
            ),
        )
    }

    fn journal_agrees(&self) -> Finding {
        let was_sent = |subscription: &&Subscription| {
            self.journal.iter().any(|line| {
                line.symbol == subscription.symbol
                    && line.first <= subscription.first
                    && subscription.next <= line.last + 1
            })
        };
        let n_sent = self.subscriptions().filter(was_sent).count();
        let claim = "subscriptions lie within what the exchange's own journal says it sent";
        Finding::all_of(n_sent, self.subscriptions().count(), claim)
    }

    fn traffic_was_flowing(&self) -> Finding {
        let stay = |role| matches!(role, Role::Steady | Role::Slow | Role::Latecomer);
        let stayed = self.books.iter().flatten().filter(|books| stay(books.role));
        let n_cut = stayed
            .flat_map(|books| &books.subscriptions)
            .filter(|subscription| subscription.ending == Some(Ending::Bye))
            .count();
        Finding::some(
            n_cut,
            "subscriptions were cancelled in mid-traffic, and each got its BYE",
        )
    }

    fn upstreams_were_left(&self) -> Finding {
        let n_unsubscribed = self.n_ended(exchange::Ending::Unsubscribed);
        let n_crashed = self.n_ended(exchange::Ending::Crashed);
        let n_lines = self.journal.len();
        Finding::new(
            n_unsubscribed + n_crashed == n_lines && n_crashed == 1,
            format!(
                "{n_lines} SUBSCRIBEs at the exchange: {n_unsubscribed} ended by UNSUBSCRIBE and BYE, \
                 {n_crashed} by its crash"
            ),
        )
    }

    fn upstreams_were_shared(&self) -> Finding {
        let n_hits = self
            .subscriptions()
            .count()
            .saturating_sub(self.journal.len());
        Finding::some(
            n_hits,
            "subscriptions found their upstream open, in the cache",
        )
    }

    fn upstreams_were_reopened(&self) -> Finding {
        let was_reopened = |line: &&Line| {
            let reopens = |later: &Line| later.symbol == line.symbol && later.first > line.last;
            line.ending == Some(exchange::Ending::Unsubscribed) && self.journal.iter().any(reopens)
        };
        let n_reopened = self.journal.iter().filter(was_reopened).count();
        Finding::some(
            n_reopened,
            "times the last client closed an upstream that was opened again later",
        )
    }

    fn slow_were_told(&self) -> Finding {
        self.all_played(Role::Slow, "slow clients were told of losses", |books| {
            books
                .subscriptions
                .iter()
                .any(|subscription| subscription.lost > 0)
        })
    }

    fn some_hung_up(&self) -> Finding {
        self.all_played(
            Role::HangsUp,
            "clients that are to hang up in mid-traffic did",
            |books| {
                books
                    .subscriptions
                    .iter()
                    .any(|subscription| subscription.ending.is_none())
            },
        )
    }

    fn others_went_on(&self) -> Finding {
        let saw_it = |books: &&Books| {
            let is_down = |one: &Subscription| one.ending == Some(Ending::Down);
            books.subscriptions.iter().any(is_down)
        };
        let saw_it: Vec<_> = self.books.iter().flatten().filter(saw_it).collect();
        let n_went_on = saw_it
            .iter()
            .filter(|books| books.n_ticks_after_down > 0)
            .count();
        let claim = format!("clients that were told DOWN {DOOMED} got their other shares on");
        Finding::all_of(n_went_on, saw_it.len(), &claim)
    }

    fn newcomers_were_served(&self) -> Finding {
        let claim = format!("newcomers got {DOOMED} afterwards");
        self.all_played(Role::Latecomer, &claim, |books| {
            let is_back = |one: &Subscription| one.symbol == symbol(DOOMED) && one.received > 0;
            books.subscriptions.iter().any(is_back)
        })
    }

    fn mistakes_were_answered(&self) -> Finding {
        let claim = "clumsy clients were told what is wrong with their lines, and then served";
        self.all_played(Role::Clumsy, claim, |books| {
            let was_served = books
                .subscriptions
                .iter()
                .any(|subscription| subscription.received > 0);
            books.n_refusals == 3 && was_served
        })
    }

    fn descriptors_are_closed(&self) -> Finding {
        match self.descriptors {
            Some([before, after]) => Finding::new(
                before == after,
                format!("{after} file descriptors open, {before} at the start"),
            ),
            None => Finding::new(
                true,
                "this system does not tell the open file descriptors".to_owned(),
            ),
        }
    }

    fn nothing_is_left(&self) -> Finding {
        let (n_live, n_reports) = (self.n_live_frames, self.n_reports);
        Finding::new(
            n_live == 0 && n_reports == 0,
            format!("{n_live} scopes, tasks and contexts left, {n_reports} exits abandoned"),
        )
    }

    fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.books
            .iter()
            .flatten()
            .flat_map(|books| &books.subscriptions)
    }

    fn n_ended(&self, ending: exchange::Ending) -> usize {
        self.journal
            .iter()
            .filter(|line| line.ending == Some(ending))
            .count()
    }

    fn all_played(&self, role: Role, claim: &str, well: impl Fn(&Books) -> bool) -> Finding {
        let players = self
            .books
            .iter()
            .flatten()
            .filter(|books| books.role == role);
        let (good, bad): (Vec<_>, Vec<_>) = players.partition(|books| well(books));
        Finding::all_of(good.len(), good.len() + bad.len(), claim)
    }
}

impl Finding {
    fn new(holds: bool, text: String) -> Self {
        Finding { holds, text }
    }

    fn some(n: usize, claim: &str) -> Self {
        Finding::new(n > 0, format!("{n} {claim}"))
    }

    fn all_of(n: usize, n_all: usize, claim: &str) -> Self {
        Finding::new(n == n_all && n > 0, format!("{n} of {n_all} {claim}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "  ok  " } else { "FAILED" };
        write!(f, "  {verdict}  {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SELDOM;

    /// What is known after a small rehearsal that went well.
    fn evidence() -> Evidence {
        let subscription = |name, first, received, lost, ending| Subscription {
            symbol: symbol(name),
            first,
            next: first + received + lost,
            received,
            lost,
            ending,
        };
        let books = |role, subscriptions| Books {
            role,
            subscriptions,
            n_refusals: if role == Role::Clumsy { 3 } else { 0 },
            n_ticks_after_down: if role == Role::Steady { 9 } else { 0 },
        };
        let line = |name, first, last, ending| Line {
            symbol: symbol(name),
            first,
            last,
            ending: Some(ending),
        };
        let (bye, down) = (Some(Ending::Bye), Some(Ending::Down));
        let (unsubscribed, crashed) = (exchange::Ending::Unsubscribed, exchange::Ending::Crashed);
        Evidence {
            books: [
                books(
                    Role::Steady,
                    vec![
                        subscription("AAPL", 1, 20, 0, bye),
                        subscription(DOOMED, 1, 5, 0, down),
                    ],
                ),
                books(Role::Slow, vec![subscription("AAPL", 4, 7, 10, bye)]),
                books(Role::HangsUp, vec![subscription("AAPL", 2, 7, 0, None)]),
                books(Role::Visitor, vec![subscription(SELDOM, 1, 7, 0, bye)]),
                books(Role::Clumsy, vec![subscription(SELDOM, 2, 3, 0, bye)]),
                books(
                    Role::Latecomer,
                    vec![
                        subscription(DOOMED, 12, 3, 0, bye),
                        subscription(SELDOM, 12, 3, 0, bye),
                    ],
                ),
            ]
            .map(Ok)
            .into(),
            journal: vec![
                line("AAPL", 1, 20, unsubscribed),
                line(DOOMED, 1, 6, crashed),
                line(SELDOM, 1, 9, unsubscribed),
                line(DOOMED, 10, 20, unsubscribed),
                line(SELDOM, 11, 20, unsubscribed),
            ],
            descriptors: Some([12, 12]),
            n_live_frames: 0,
            n_reports: 0,
        }
    }

    /// Which findings fail when the evidence is changed like this.
    fn failures(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
        let mut evidence = evidence();
        change(&mut evidence);
        let findings = evidence.findings();
        findings
            .into_iter()
            .filter(|finding| !finding.holds)
            .map(|finding| finding.text)
            .collect()
    }

    fn books(evidence: &mut Evidence, role: Role) -> &mut Books {
        evidence
            .books
            .iter_mut()
            .flatten()
            .find(|books| books.role == role)
            .unwrap()
    }

    #[test]
    fn a_good_rehearsal_is_accepted() {
        assert_eq!(failures(|_| {}), [""; 0]);
    }

    #[test]
    fn everything_amiss_is_found() {
        let found = |needle: &str, change: fn(&mut Evidence)| {
            let failures = failures(change);
            assert!(
                failures.iter().any(|text| text.contains(needle)),
                "{needle}: {failures:?}"
            );
        };
        found("client 7: lost", |all| {
            all.books.push(Err("client 7: lost its way".to_owned()))
        });
        found("none twice", |all| {
            books(all, Role::Steady).subscriptions[0].received -= 1
        });
        found("own journal", |all| all.journal[0].last = 19);
        found("own journal", |all| all.journal[0].first = 2);
        found("own journal", |all| all.journal[1].symbol = symbol("AAPL"));
        found("0 subscriptions were cancelled", |all| {
            all.books.retain(|books| {
                !matches!(
                    books.as_ref().unwrap().role,
                    Role::Steady | Role::Slow | Role::Latecomer
                )
            });
        });
        found("SUBSCRIBEs", |all| {
            all.journal[0].ending = Some(exchange::Ending::HungUp)
        });
        found("SUBSCRIBEs", |all| all.journal[0].ending = None);
        found("0 by its crash", |all| {
            all.journal[1].ending = Some(exchange::Ending::Unsubscribed);
        });
        found("in the cache", |all| all.journal.extend_from_within(..));
        found("opened again", |all| all.journal.truncate(4));
        found("0 of 1 slow", |all| {
            books(all, Role::Slow).subscriptions[0].lost = 0
        });
        found("0 of 1 clients that are to hang up", |all| {
            books(all, Role::HangsUp).subscriptions[0].ending = Some(Ending::Bye);
        });
        found("0 of 1 clients that were told DOWN", |all| {
            books(all, Role::Steady).n_ticks_after_down = 0;
        });
        found("0 of 0 clients that were told DOWN", |all| {
            books(all, Role::Steady).subscriptions.pop();
        });
        found("0 of 1 newcomers", |all| {
            books(all, Role::Latecomer).subscriptions[0].received = 0;
        });
        found("0 of 1 clumsy", |all| {
            books(all, Role::Clumsy).n_refusals = 2
        });
        found("13 file descriptors", |all| {
            all.descriptors = Some([12, 13])
        });
        found("1 scopes", |all| all.n_live_frames = 1);
        found("1 exits", |all| all.n_reports = 1);
    }
}
