//! The shared connections with trionics.

use std::net::SocketAddr;

use trionics::{
    CacheValue, ContextCache, Failure, Nursery, Slot, acm, maybe_open_context,
    nursery::NurseryOptions, open_nursery, shield,
};

use super::{AT_ONCE, key};
use crate::groups::compare::connection::Connection;

/// Opens connections so many times, `AT_ONCE` at a time, until that is done, one fails, or it is cancelled; every connection is taken leave of.
pub(super) async fn open_all(site: SocketAddr, n_opens: usize) -> Result<(), Failure> {
    let connections = ContextCache::new();
    open_nursery(async |n: Nursery<'_>| {
        n.start_soon(connections.serve());
        let users = NurseryOptions::new().limit(AT_ONCE);
        users
            .open(async |users: Nursery<'_>| {
                for number in 0..n_opens {
                    let connect = move || acm(move |slot| connection(site, slot));
                    let ask = async move |_hit, connection: CacheValue<usize, Connection>| {
                        connection.get(number).await?;
                        Ok(())
                    };
                    let user = maybe_open_context(&connections, key(number), connect, ask);
                    users.start_soon_when_free(user).await;
                }
                Ok(())
            })
            .await?;
        connections.close();
        Ok(())
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
