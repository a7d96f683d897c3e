//! Whether a rehearsal shows what it is meant to show: from the clients' books and the exchange's journal, not from what the server says of itself.

use std::fmt;

use crate::client::{Books, DOOMED, Role};
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
        let mut findings = Vec::new();
        let mut find = |holds: bool, text: String| findings.push(Finding { holds, text });

        let complaints = self.books.iter().filter_map(|books| books.as_ref().err());
        complaints.for_each(|complaint| find(false, complaint.clone()));

        let [mut received, mut lost, mut sent] = [0; 3];
        for subscription in self.subscriptions() {
            received += subscription.received;
            lost += subscription.lost;
            sent += subscription.sent();
        }
        let n_subscriptions = self.subscriptions().count();
        find(
            received + lost == sent && received > 0,
            format!(
                "{received} ticks received + {lost} told lost = {sent} sent in \
                 {n_subscriptions} subscriptions; none twice, no gap untold"
            ),
        );

        let n_unknown = self
            .subscriptions()
            .filter(|subscription| !self.was_sent(subscription))
            .count();
        find(
            n_unknown == 0,
            format!(
                "{n_unknown} of these subscriptions are not in the exchange's own journal as they are"
            ),
        );

        let n_to_the_end = self
            .played(|role| matches!(role, Role::Steady | Role::Slow | Role::Latecomer))
            .flat_map(|books| &books.subscriptions)
            .filter(|subscription| subscription.ending == Some(Ending::Bye))
            .count();
        find(
            n_to_the_end > 0,
            format!(
                "{n_to_the_end} subscriptions were cancelled in mid-traffic, and all got their BYE"
            ),
        );

        let n_lines = self.journal.len();
        let n_ended = |ending| {
            self.journal
                .iter()
                .filter(|line| line.ending == Some(ending))
                .count()
        };
        let n_unsubscribed = n_ended(exchange::Ending::Unsubscribed);
        let n_crashed = n_ended(exchange::Ending::Crashed);
        find(
            n_unsubscribed + n_crashed == n_lines,
            format!(
                "{n_lines} SUBSCRIBEs at the exchange, {n_unsubscribed} UNSUBSCRIBEs; \
                 {n_crashed} connections died before"
            ),
        );

        let n_hits = n_subscriptions.saturating_sub(n_lines);
        find(
            n_hits > 0,
            format!("{n_hits} subscriptions found their connection open in the cache"),
        );

        let n_reopened = self.journal.iter().filter(|line| {
            line.ending == Some(exchange::Ending::Unsubscribed)
                && self
                    .journal
                    .iter()
                    .any(|later| later.symbol == line.symbol && later.first > line.last)
        });
        let n_reopened = n_reopened.count();
        find(
            n_reopened > 0,
            format!(
                "{n_reopened} connections were closed by the last one who left, and opened again"
            ),
        );

        let slow: Vec<_> = self.played(|role| role == Role::Slow).collect();
        let n_told = slow
            .iter()
            .filter(|books| books.subscriptions.iter().any(|one| one.lost > 0))
            .count();
        find(
            n_told > 0 && n_told == slow.len(),
            format!(
                "{n_told} of {} slow clients were told of losses",
                slow.len()
            ),
        );

        let n_hung_up = self
            .played(|role| role == Role::HangsUp)
            .filter(|books| books.subscriptions.iter().any(|one| one.ending.is_none()))
            .count();
        find(
            n_hung_up > 0,
            format!("{n_hung_up} clients hung up in mid-traffic"),
        );

        let n_went_on = self
            .played(|role| role == Role::Steady)
            .filter(|books| books.n_ticks_after_down > 0)
            .count();
        let n_restored = self
            .played(|role| role == Role::Latecomer)
            .filter(|books| {
                books
                    .subscriptions
                    .iter()
                    .any(|one| one.symbol.to_string() == DOOMED && one.received > 0)
            })
            .count();
        find(
            n_crashed > 0 && n_went_on > 0 && n_restored > 0,
            format!(
                "{n_went_on} clients were told DOWN {DOOMED} and got their other shares on, \
                 {n_restored} newcomers got {DOOMED} again"
            ),
        );

        let n_refused = self
            .played(|role| role == Role::Clumsy)
            .filter(|books| {
                books.n_refusals == 3 && books.subscriptions.iter().any(|one| one.received > 0)
            })
            .count();
        find(
            n_refused > 0,
            format!(
                "{n_refused} clients were told what was wrong with their lines, and then served"
            ),
        );

        match self.descriptors {
            Some([before, after]) => {
                find(
                    before == after,
                    format!("{after} file descriptors open, {before} at the start"),
                );
            }
            None => find(
                true,
                "the number of open file descriptors is not known here".to_owned(),
            ),
        }
        let n_live = self.n_live_frames;
        find(
            n_live == 0,
            format!("{n_live} scopes, tasks or contexts still live"),
        );
        findings
    }

    fn played(&self, role: impl Fn(Role) -> bool) -> impl Iterator<Item = &Books> {
        self.books
            .iter()
            .flatten()
            .filter(move |books| role(books.role))
    }

    fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.books
            .iter()
            .flatten()
            .flat_map(|books| &books.subscriptions)
    }

    /// Whether the exchange sent all that the client had or was told of, on one connection.
    fn was_sent(&self, subscription: &Subscription) -> bool {
        self.journal.iter().any(|line| {
            line.symbol == subscription.symbol
                && line.first <= subscription.first
                && subscription.next <= line.last + 1
        })
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
    use crate::client::{SELDOM, symbol};

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
        found("in the cache", |all| all.journal.extend_from_within(..));
        found("opened again", |all| all.journal.truncate(4));
        found("of 1 slow", |all| {
            books(all, Role::Slow).subscriptions[0].lost = 0
        });
        found("hung up", |all| {
            books(all, Role::HangsUp).subscriptions[0].ending = Some(Ending::Bye);
        });
        found("were told DOWN", |all| {
            books(all, Role::Steady).n_ticks_after_down = 0
        });
        found("were told DOWN", |all| {
            books(all, Role::Latecomer).subscriptions[0].received = 0
        });
        found("were told DOWN", |all| {
            all.journal[1].ending = Some(exchange::Ending::Unsubscribed);
        });
        found("wrong with their lines", |all| {
            books(all, Role::Clumsy).n_refusals = 2
        });
        found("13 file descriptors", |all| {
            all.descriptors = Some([12, 13])
        });
        found("1 scopes", |all| all.n_live_frames = 1);
    }
}
