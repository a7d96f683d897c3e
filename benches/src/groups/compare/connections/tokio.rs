//! The shared connections with tokio.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{sync::OnceCell, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, key};
use crate::groups::compare::connection::Connection;

/// Opens connections so many times, `AT_ONCE` at a time, until that is done, one fails, or `shutdown` is cancelled; every connection is taken leave of.
pub(super) async fn open_all(
    site: SocketAddr,
    n_opens: usize,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Cancelled by the caller and by the first failure.
    let stop = shutdown.child_token();
    let connections = Arc::new(Connections::new(site));
    let mut users = JoinSet::new();
    let mut failure = None;
    let mut numbers = 0..n_opens;
    loop {
        while users.len() < AT_ONCE && !stop.is_cancelled() {
            let Some(number) = numbers.next() else { break };
            let (connections, stop) = (connections.clone(), stop.clone());
            users.spawn(async move {
                let ask = async |connection: &Connection| connection.get(number).await.map(drop);
                connections.with(key(number), &stop, ask).await
            });
        }
        let Some(left) = users.join_next().await else {
            break;
        };
        if let Err(error) = left? {
            failure.get_or_insert(error);
            stop.cancel();
        }
    }
    failure.map_or(Ok(()), Err)
}

/// One connection for each key that is in use.
struct Connections {
    site: SocketAddr,
    entries: Mutex<HashMap<usize, Entry>>,
}

#[derive(Default)]
struct Entry {
    connection: Arc<OnceCell<Connection>>,
    n_users: usize,
}

impl Connections {
    fn new(site: SocketAddr) -> Self {
        let entries = Mutex::default();
        Connections { site, entries }
    }

    /// Runs `work` with the key's connection, unless `stop` is cancelled. Must not be dropped half-way: the last user says goodbye.
    async fn with(
        &self,
        key: usize,
        stop: &CancellationToken,
        work: impl AsyncFnOnce(&Connection) -> io::Result<()>,
    ) -> io::Result<()> {
        let connection = {
            let mut entries = self.entries.lock().unwrap();
            let entry = entries.entry(key).or_default();
            entry.n_users += 1;
            Arc::clone(&entry.connection)
        };
        let opened = connection
            .get_or_try_init(|| Connection::open(self.site))
            .await;
        let worked = match opened {
            Ok(connection) => stop.run_until_cancelled(work(connection)).await,
            Err(error) => Some(Err(error)),
        };
        let is_last = {
            let mut entries = self.entries.lock().unwrap();
            let entry = entries.get_mut(&key).expect("it has a user");
            entry.n_users -= 1;
            entry.n_users == 0 && entries.remove(&key).is_some()
        };
        if is_last && let Some(connection) = connection.get() {
            connection.bye().await?;
        }
        worked.unwrap_or(Ok(()))
    }
}
