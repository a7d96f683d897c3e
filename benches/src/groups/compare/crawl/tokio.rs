//! The crawler with tokio.

use std::{collections::VecDeque, io, net::SocketAddr};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, FRONT_PAGE};
use crate::groups::compare::connection::Connection;

/// Crawls the site, `AT_ONCE` pages at a time, until a page fails or `shutdown` is cancelled, and takes leave of the site on each connection.
pub(super) async fn crawl(site: SocketAddr, shutdown: CancellationToken) -> io::Result<usize> {
    // Cancelled by the caller and by the first failure.
    let stop = shutdown.child_token();
    let (mut idle, mut failure) = (Vec::new(), None);

    let connecting: JoinSet<_> = (0..AT_ONCE).map(|_| Connection::open(site)).collect();
    for connected in connecting.join_all().await {
        match connected {
            Ok(connection) => idle.push(connection),
            Err(error) => failure = Some(error),
        }
    }

    let mut frontier = VecDeque::from([FRONT_PAGE]);
    let mut fetching = JoinSet::new();
    let mut n_fetched = 0;
    loop {
        if failure.is_none() && !stop.is_cancelled() {
            let n_ready = idle.len().min(frontier.len());
            for (connection, page) in idle.drain(..n_ready).zip(frontier.drain(..n_ready)) {
                let stop = stop.clone();
                fetching.spawn(async move {
                    let links = stop.run_until_cancelled(connection.get(page)).await;
                    (connection, links)
                });
            }
        }
        let Some(fetched) = fetching.join_next().await else {
            break;
        };
        let (connection, links) = fetched?;
        idle.push(connection);
        match links {
            Some(Ok(links)) => {
                n_fetched += 1;
                frontier.extend(links);
            }
            Some(Err(error)) => {
                failure.get_or_insert(error);
                stop.cancel();
            }
            None => {}
        }
    }

    let leaving: JoinSet<_> = idle
        .into_iter()
        .map(async |connection| connection.bye().await)
        .collect();
    for left in leaving.join_all().await {
        if let Err(error) = left {
            failure.get_or_insert(error);
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(n_fetched),
    }
}
