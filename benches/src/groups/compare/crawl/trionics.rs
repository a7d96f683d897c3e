//! The crawler with trionics.

use std::{collections::VecDeque, net::SocketAddr};

use futures::StreamExt as _;
use trionics::{Failure, Nursery, Slot, acm, gather_contexts, open_nursery, shield};

use super::{AT_ONCE, FRONT_PAGE};
use crate::groups::compare::connection::Connection;

/// Crawls the site, `AT_ONCE` pages at a time, until a page fails or it is cancelled, and takes leave of the site on each connection.
pub(super) async fn crawl(site: SocketAddr) -> Result<usize, Failure> {
    let pool: Vec<_> = (0..AT_ONCE)
        .map(|_| acm(move |slot| connection(site, slot)))
        .collect();
    gather_contexts(pool, async |mut idle: Vec<Connection>| {
        open_nursery(async |fetching: Nursery<'_>| {
            let mut frontier = VecDeque::from([FRONT_PAGE]);
            let (to_results, mut results) = fetching.results();
            let mut n_fetched = 0;
            loop {
                let n_ready = idle.len().min(frontier.len());
                for (connection, page) in idle.drain(..n_ready).zip(frontier.drain(..n_ready)) {
                    fetching.spawn_into(&to_results, async move {
                        let links = connection.get(page).await?;
                        Ok((connection, links))
                    });
                }
                let Some(fetched) = results.next().await else {
                    return Ok(n_fetched);
                };
                let Ok((connection, links)) = fetched else {
                    continue; // Why is the nursery's business.
                };
                idle.push(connection);
                frontier.extend(links);
                n_fetched += 1;
            }
        })
        .await
    })
    .await
}

/// A connection to the site, from the first word to the last.
async fn connection(site: SocketAddr, slot: Slot<Connection>) -> Result<(), Failure> {
    // Shielded: whoever drops it half-way leaves the site with somebody who never says goodbye.
    let connection = shield(Connection::open(site)).await?;
    slot.provide(connection.clone()).await;
    Ok(connection.bye().await?)
}
