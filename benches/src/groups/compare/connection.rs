//! A client's connection to a [site](super::site), which both sides of a comparison use.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, sync::Mutex};

use super::wire::{Incoming, Outgoing, lines};

/// A connection, or a share of it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    dialog: Arc<Mutex<Dialog>>,
}

#[derive(Debug)]
struct Dialog {
    incoming: Incoming,
    outgoing: Outgoing,
    /// How many answers are to come.
    n_owed: usize,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(site: SocketAddr) -> io::Result<Self> {
        let (incoming, outgoing) = lines(TcpStream::connect(site).await?)?;
        let dialog = Dialog {
            incoming,
            outgoing,
            n_owed: 0,
        };
        Ok(Connection {
            dialog: Arc::new(Mutex::new(dialog)),
        })
    }

    /// The pages that a page links to.
    ///
    /// Requests take turns. One that is dropped before its answer has come does not spoil the next one's.
    pub(super) async fn get(&self, page: usize) -> io::Result<Vec<usize>> {
        let Dialog {
            incoming,
            outgoing,
            n_owed,
        } = &mut *self.dialog.lock().await;
        outgoing.push(format_args!("GET {page}"));
        *n_owed += 1;
        outgoing.flush().await?;
        loop {
            let answer = incoming.expect().await?;
            *n_owed -= 1;
            if *n_owed == 0 {
                let links: Result<_, _> = answer.split(' ').map(str::parse).collect();
                return links.map_err(|_| io::Error::other(answer.to_owned()));
            }
        }
    }

    /// Says goodbye, and waits for the site's.
    pub(super) async fn bye(&self) -> io::Result<()> {
        let Dialog {
            incoming, outgoing, ..
        } = &mut *self.dialog.lock().await;
        outgoing.send("BYE").await?;
        while incoming.expect().await? != "BYE" {}
        outgoing.leave_no_trace();
        Ok(())
    }
}
