//! Sockets: listening, accepting, counting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use trionics::sleep;

use crate::screen::say;

/// Listens on this address, or says clearly why not.
pub(crate) fn listen(address: SocketAddr, send_buffer: Option<u32>) -> io::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(n_bytes) = send_buffer {
            // The accepted sockets inherit it.
            socket.set_send_buffer_size(n_bytes)?;
        }
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    listen().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// The next connection.
///
/// That one cannot be accepted, because the peer has already left or the process is out of descriptors, is no reason to stop.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // A tick is small and must not wait for the next one. If it cannot be set, it goes without.
                let _ = socket.set_nodelay(true);
                return (socket, peer);
            }
            Err(error) => {
                say(format_args!("cannot accept a connection: {error}"));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How many file descriptors this process has open, where the system tells.
pub(crate) fn open_descriptors() -> Option<usize> {
    let listing = ["/proc/self/fd", "/dev/fd"]
        .into_iter()
        .find_map(|path| std::fs::read_dir(path).ok())?;
    Some(listing.count())
}
