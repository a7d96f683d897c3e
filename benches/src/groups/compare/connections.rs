//! Shared connections: so many tasks, 200 at once, use 100 keys; a key's connection is made for its first user and says
//! goodbye with its last.

use std::time::Duration;

use ::trionics::CancelScope;

use super::{
    Run, Sources, With, compared,
    site::{Behavior, Site},
    timed,
};
use crate::{Case, support::Host};

mod tokio;
mod trionics;

/// How many tasks use connections at once.
const AT_ONCE: usize = 200;

const N_KEYS: usize = 100;
const N_OPENS: usize = 10_000;

/// The key that a task uses: scattered, so that connections come and go.
fn key(number: usize) -> usize {
    let scattered = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (scattered >> 33) as usize % N_KEYS
}

/// The case.
pub(super) fn case() -> Case {
    let case = Case::new(
        format!("shared connections, {N_OPENS} opens of {N_KEYS} keys"),
        "open",
        N_OPENS as u64,
        "each task opens a key, asks one question over its connection and leaves, 200 at once, until it is stopped with the last 200 unanswered; the last user of a connection says goodbye; a task per open, the same connections and runtime; the tokio program, a map of OnceCells with counted users, may have two connections of a key where one is being closed, ours waits for that",
    )
    .lasting(Duration::from_millis(800));
    let sources = Sources {
        tokio: include_str!("connections/tokio.rs"),
        trionics: include_str!("connections/trionics.rs"),
    };
    compared(case, sources, |host, with| {
        open_and_stop(host, with, N_OPENS)
    })
}

/// Uses connections to a site that answers all requests but the last ones, and stops when those are all that is left.
pub(super) fn open_and_stop(host: &Host, with: With, n_opens: usize) -> Run {
    let n_answered = n_opens - AT_ONCE;
    let site = Site::open(
        host,
        Behavior {
            n_answered,
            n_ignored: AT_ONCE,
        },
    );
    let ((), time) = timed(host, async {
        let stop = site.all_answered();
        match with {
            With::Tokio => {
                let opened = tokio::open_all(site.address(), n_opens, stop).await;
                opened.expect("it is stopped, and nothing fails");
            }
            With::Trionics => {
                let opened = trionics::open_all(site.address(), n_opens);
                let stopped = CancelScope::new().run_until(stop.cancelled(), opened).await;
                stopped.expect_err("it is stopped, and nothing fails");
            }
        }
    });
    let tally = site.close();
    assert!(tally.n_requests >= n_answered, "{tally:?}");
    Run {
        time,
        goodbyes: tally.goodbyes,
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::groups::compare::{Goodbyes, site::Tally};

    #[test]
    fn users_that_are_stopped_leave_no_connection_without_a_goodbye() {
        let host = Host::tokio();
        for with in With::BOTH {
            for n_opens in [AT_ONCE + 1, 300, 1000] {
                let Goodbyes { said, of } = open_and_stop(&host, with, n_opens).goodbyes;
                assert_eq!(said, of, "{with:?}");
                assert!(of > 0, "{with:?}");
            }
        }
    }

    #[test]
    fn all_users_are_served_and_the_last_of_each_key_says_goodbye() {
        let host = Host::tokio();
        for with in With::BOTH {
            let site = Site::open(
                &host,
                Behavior {
                    n_answered: 1000,
                    n_ignored: 0,
                },
            );
            timed(&host, async {
                match with {
                    With::Tokio => {
                        let token = CancellationToken::new();
                        tokio::open_all(site.address(), 1000, token)
                            .await
                            .expect("nothing fails");
                    }
                    With::Trionics => {
                        trionics::open_all(site.address(), 1000)
                            .await
                            .expect("nothing fails");
                    }
                }
            });
            let tally = site.close();
            assert_eq!(tally.n_requests, 1000, "{with:?}");
            let Goodbyes { said, of } = tally.goodbyes;
            assert_eq!(said, of, "{with:?}");
            assert!((N_KEYS..1000).contains(&of), "{with:?}: {of}");
        }
    }

    #[test]
    fn a_failure_stops_the_rest() {
        let host = Host::tokio();
        for with in With::BOTH {
            let site = Site::open(
                &host,
                Behavior {
                    n_answered: 300,
                    n_ignored: 10,
                },
            );
            timed(&host, async {
                let opened = match with {
                    With::Tokio => {
                        let token = CancellationToken::new();
                        format!("{:?}", tokio::open_all(site.address(), 10_000, token).await)
                    }
                    With::Trionics => {
                        format!("{:?}", trionics::open_all(site.address(), 10_000).await)
                    }
                };
                assert!(opened.contains("the site is down"), "{with:?}: {opened}");
            });
            let Tally {
                n_requests,
                goodbyes: Goodbyes { said, of },
            } = site.close();
            assert_eq!(said, of, "{with:?}");
            assert!(n_requests <= 310 + AT_ONCE, "{with:?}: {n_requests}");
        }
    }

    #[test]
    fn users_end_when_the_site_does() {
        let host = Host::tokio();
        for with in With::BOTH {
            let site = Site::open(
                &host,
                Behavior {
                    n_answered: 300,
                    n_ignored: AT_ONCE,
                },
            );
            let (address, stop) = (site.address(), site.all_answered());
            let close = async {
                stop.cancelled().await;
                site.close()
            };
            timed(&host, async {
                let open = async {
                    match with {
                        With::Tokio => {
                            let token = CancellationToken::new();
                            tokio::open_all(address, 10_000, token).await.is_err()
                        }
                        With::Trionics => trionics::open_all(address, 10_000).await.is_err(),
                    }
                };
                let (failed, _) = ::tokio::join!(open, close);
                assert!(failed, "{with:?}");
            });
        }
    }
}
