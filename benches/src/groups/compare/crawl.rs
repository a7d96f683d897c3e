//! A crawler: so many requests, at most 64 at once; a failure cancels the rest, and each connection says goodbye.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    Run, Sources, With, compared,
    site::{Behavior, Site},
    timed,
};
use crate::{Case, support::Host};

mod tokio;
mod trionics;

/// How many pages are fetched at once, each over a connection of its own.
const AT_ONCE: usize = 64;

/// The page where it begins.
const FRONT_PAGE: usize = 0;

const N_REQUESTS: usize = 10_000;

/// The case.
pub(super) fn case() -> Case {
    let case = Case::new(
        format!("crawler, {N_REQUESTS} requests, {AT_ONCE} at once"),
        "request",
        N_REQUESTS as u64,
        "fetch pages and follow their links until one fails, stop the 63 requests that would never be answered, say goodbye on 64 connections; one main loop and one task per request on both sides, the same connections and runtime; the tokio program hears of stops by a token",
    )
    .lasting(Duration::from_millis(200));
    let sources = Sources {
        tokio: include_str!("crawl/tokio.rs"),
        trionics: include_str!("crawl/trionics.rs"),
    };
    compared(case, sources, |host, with| crawl(host, with, N_REQUESTS))
}

/// Crawls a site that answers all requests but the last ones: those it ignores, and the very last it refuses.
pub(super) fn crawl(host: &Host, with: With, n_requests: usize) -> Run {
    let site = Site::open(
        host,
        Behavior {
            n_answered: n_requests - AT_ONCE,
            n_ignored: AT_ONCE - 1,
        },
    );
    let (failed, time) = timed(host, async {
        match with {
            With::Tokio => {
                let crawled = tokio::crawl(site.address(), CancellationToken::new()).await;
                format!("{crawled:?}")
            }
            With::Trionics => format!("{:?}", trionics::crawl(site.address()).await),
        }
    });
    let tally = site.close();
    assert!(failed.contains("the site is down"), "{failed}");
    assert_eq!(tally.n_requests, n_requests);
    Run {
        time,
        goodbyes: tally.goodbyes,
    }
}

#[cfg(test)]
mod tests {
    use ::trionics::CancelScope;

    use super::*;
    use crate::groups::compare::Goodbyes;

    #[test]
    fn a_failure_stops_the_rest_and_each_connection_says_goodbye() {
        let host = Host::tokio();
        for with in With::BOTH {
            for n_requests in [2 * AT_ONCE, 200, 500] {
                let Goodbyes { said, of } = crawl(&host, with, n_requests).goodbyes;
                assert_eq!((said, of), (AT_ONCE, AT_ONCE), "{with:?}");
            }
        }
    }

    #[test]
    fn a_crawler_that_is_stopped_from_outside_says_goodbye() {
        let host = Host::tokio();
        for with in With::BOTH {
            let site = Site::open(
                &host,
                Behavior {
                    n_answered: 300,
                    n_ignored: AT_ONCE,
                },
            );
            let stop = site.all_answered();
            timed(&host, async {
                match with {
                    With::Tokio => {
                        let crawled = tokio::crawl(site.address(), stop).await;
                        assert!(crawled.expect("nothing fails") <= 300);
                    }
                    With::Trionics => {
                        let crawler = trionics::crawl(site.address());
                        let stopped = CancelScope::new()
                            .run_until(stop.cancelled(), crawler)
                            .await;
                        stopped.expect_err("it is stopped");
                    }
                }
            });
            let Goodbyes { said, of } = site.close().goodbyes;
            assert_eq!((said, of), (AT_ONCE, AT_ONCE), "{with:?}");
        }
    }

    #[test]
    fn a_crawler_ends_when_its_site_does() {
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
                let crawl = async {
                    match with {
                        With::Tokio => tokio::crawl(address, CancellationToken::new())
                            .await
                            .is_err(),
                        With::Trionics => trionics::crawl(address).await.is_err(),
                    }
                };
                let (failed, _) = ::tokio::join!(crawl, close);
                assert!(failed, "{with:?}");
            });
        }
    }
}
