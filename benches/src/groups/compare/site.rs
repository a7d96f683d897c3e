//! A site: a server of pages, which keeps count of its connections and of how they end.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc};

use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;

use super::{
    Goodbyes,
    peer::{Peer, listen, n_unaccepted},
    wire::lines,
};
use crate::support::Host;

/// How a site behaves: it answers so many requests, leaves so many without an answer, and refuses all that come then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behavior {
    pub(super) n_answered: usize,
    pub(super) n_ignored: usize,
}

/// A running site.
#[derive(Debug)]
pub(super) struct Site {
    address: SocketAddr,
    all_answered: CancellationToken,
    peer: Peer<io::Result<Tally>>,
}

/// What a site has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that came, whatever became of them.
    pub(super) n_requests: usize,
    pub(super) goodbyes: Goodbyes,
}

impl Site {
    /// Opens the site.
    pub(super) fn open(host: &Host, behavior: Behavior) -> Self {
        let (listener, address) = listen(host).expect("there is a free port");
        let all_answered = CancellationToken::new();
        let books = Books {
            behavior,
            all_answered: all_answered.clone(),
            n_requests: Cell::new(0),
            n_connections: Cell::new(0),
            n_goodbyes: Cell::new(0),
        };
        let peer = Peer::start(async move |stop| {
            let listener = TcpListener::from_std(listener)?;
            let books = Rc::new(books);
            loop {
                let (stream, _) = select! {
                    accepted = listener.accept() => accepted?,
                    () = stop.cancelled() => break,
                };
                books.n_connections.update(|count| count + 1);
                let books = Rc::clone(&books);
                // A connection that ends in any other way than by a goodbye is missing among the goodbyes.
                spawn_local(async move { books.attend(stream).await.is_ok() });
            }
            Ok(Tally {
                n_requests: books.n_requests.get(),
                goodbyes: Goodbyes {
                    said: books.n_goodbyes.get(),
                    of: books.n_connections.get() + n_unaccepted(listener)?,
                },
            })
        });
        Site {
            address,
            all_answered,
            peer,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cancelled when the site has given all answers that it gives.
    pub(super) fn all_answered(&self) -> CancellationToken {
        self.all_answered.clone()
    }

    /// Closes the site.
    pub(super) fn close(self) -> Tally {
        self.peer.finish().expect("the site's sockets work")
    }
}

/// What a site knows while it runs.
struct Books {
    behavior: Behavior,
    all_answered: CancellationToken,
    n_requests: Cell<usize>,
    n_connections: Cell<usize>,
    n_goodbyes: Cell<usize>,
}

impl Books {
    /// Serves a connection until it says goodbye.
    async fn attend(&self, stream: TcpStream) -> io::Result<()> {
        let Behavior {
            n_answered,
            n_ignored,
        } = self.behavior;
        let (mut incoming, mut outgoing) = lines(stream)?;
        loop {
            let request = incoming.expect().await?;
            let Some(page) = request.strip_prefix("GET ") else {
                // It is counted first: who has the answer finds it counted.
                self.n_goodbyes.update(|count| count + 1);
                return outgoing.send("BYE").await;
            };
            let page: usize = page.parse().map_err(io::Error::other)?;
            self.n_requests.update(|count| count + 1);
            let number = self.n_requests.get();
            if number <= n_answered {
                // An endless site: each page links to two others, and each page but the first is linked to once.
                outgoing
                    .send(format_args!("{} {}", 2 * page + 1, 2 * page + 2))
                    .await?;
                if number == n_answered {
                    self.all_answered.cancel();
                }
            } else if number > n_answered + n_ignored {
                outgoing.send("the site is down").await?;
            }
        }
    }
}
