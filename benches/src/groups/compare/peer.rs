//! The other side of the sockets: a thread with a runtime of its own, so that what it does is nobody's work that is compared.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    thread::{self, JoinHandle},
};

use tokio::{net::TcpListener, runtime, task::LocalSet};
use tokio_util::sync::CancellationToken;

use crate::support::Host;

/// A thread that does the peer's part until it is told to stop.
#[derive(Debug)]
pub(super) struct Peer<T> {
    stop: CancellationToken,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Peer<T> {
    /// Starts the thread; `play` gets a token that is cancelled when it has to come to its end.
    pub(super) fn start<Fut>(play: impl FnOnce(CancellationToken) -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = T>,
    {
        let stop = CancellationToken::new();
        let play = {
            let stop = stop.clone();
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("the system gives what a runtime needs");
                LocalSet::new().block_on(&runtime, play(stop))
            }
        };
        Peer {
            stop,
            thread: Some(thread::spawn(play)),
        }
    }

    /// Tells the thread to stop, and returns what it has to say at its end.
    pub(super) fn finish(mut self) -> T {
        self.stop.cancel();
        let thread = self.thread.take().expect("it is taken here only");
        thread.join().expect("the peer does not panic")
    }
}

impl<T> Drop for Peer<T> {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It is on the way out of a failure already; another panic adds nothing.
            let _ = thread.join();
        }
    }
}

/// A listener on a free port of this machine, for whatever runtime takes it; with a longer queue than the standard library's.
pub(super) fn listen(host: &Host) -> io::Result<(StdListener, SocketAddr)> {
    let listener = host.run(async { TcpListener::bind("127.0.0.1:0").await?.into_std() })?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The number of connections that were made and have not been accepted.
pub(super) fn n_unaccepted(listener: TcpListener) -> io::Result<usize> {
    let listener = listener.into_std()?;
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}
