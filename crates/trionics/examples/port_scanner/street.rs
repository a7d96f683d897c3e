//! Doors on the loopback for the scanner to knock at, which count how they are treated.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use trionics::prelude::*;

use crate::scan::GOODBYE;

pub(crate) const GREETING: &str = "220 good evening\r\n";

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const CLOSING_TIME: &[u8] = b"CLOSING TIME";

/// The ports of a street.
#[derive(Clone, Debug)]
pub(crate) struct Street {
    /// They accept, and greet.
    pub(crate) talking: Vec<u16>,
    /// They accept, and say nothing.
    pub(crate) silent: Vec<u16>,
    /// It refuses.
    pub(crate) closed: u16,
    /// It never answers the connect.
    pub(crate) jammed: u16,
}

/// How those behind the doors were treated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: usize,
    pub(crate) goodbyes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Visitors(watch::Sender<Counts>);

impl Visitors {
    pub(crate) fn counts(&self) -> Counts {
        *self.0.borrow()
    }

    /// Waits until so many have been accepted.
    pub(crate) async fn wait_for(&self, n_accepted: usize) {
        let enough = |counts: &Counts| counts.accepted >= n_accepted;
        self.0
            .subscribe()
            .wait_for(enough)
            .await
            .expect("we hold the sender");
    }
}

/// Opens the doors, and closes them once the last visitor has left.
pub(crate) async fn street(
    n_talking: usize,
    n_silent: usize,
    visitors: &Visitors,
    slot: Slot<Street>,
) -> Result<(), Failure> {
    let (closed, jammed) = (ClosedDoor::new()?, JammedDoor::new().await?);
    open_nursery(async |n: Nursery<'_>| {
        let mut street = Street {
            talking: Vec::new(),
            silent: Vec::new(),
            closed: closed.port,
            jammed: jammed.port,
        };
        for _ in 0..n_talking {
            street.talking.push(
                n.start(|status| open_door(GREETING, visitors, status))
                    .await?,
            );
        }
        for _ in 0..n_silent {
            street
                .silent
                .push(n.start(|status| open_door("", visitors, status)).await?);
        }
        let open_doors = [&street.talking[..], &street.silent[..]].concat();
        slot.provide(street).await;
        for port in open_doors {
            close_door(port).await?;
        }
        Ok(())
    })
    .await
}

/// Accepts until it is closed, and returns once the last visitor has left.
async fn open_door(
    greeting: &str,
    visitors: &Visitors,
    status: TaskStatus<u16>,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(ANY_PORT).await?;
    status.started(listener.local_addr()?.port());
    let door = &CancelScope::named("door");
    open_nursery(async |guests: Nursery<'_>| {
        let accepting = async {
            loop {
                let (socket, _) = listener.accept().await?;
                guests.start_soon(attend(socket, greeting, visitors, door));
            }
        };
        door.run(accepting).await.unwrap_or(Ok(()))
    })
    .await
}

async fn attend(
    mut socket: TcpStream,
    greeting: &str,
    visitors: &Visitors,
    door: &CancelScope,
) -> Result<(), Failure> {
    visitors.0.send_modify(|counts| counts.accepted += 1);
    let mut said = Vec::new();
    // A rude visitor may hang up in the middle of this. He counts all the same.
    let _ = socket.write_all(greeting.as_bytes()).await;
    let _ = socket.read_to_end(&mut said).await;
    match &said[..] {
        GOODBYE => visitors.0.send_modify(|counts| counts.goodbyes += 1),
        CLOSING_TIME => {
            visitors.0.send_modify(|counts| counts.accepted -= 1); // one of ours
            door.cancel("closing time");
        }
        _ => {}
    }
    Ok(())
}

/// Comes as the last visitor: connections are accepted in order, so that nobody is forgotten.
async fn close_door(port: u16) -> Result<(), Failure> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    socket.write_all(CLOSING_TIME).await?;
    socket.shutdown().await?;
    socket.read_to_end(&mut Vec::new()).await?; // with the greeting unread, it would be reset
    Ok(())
}

/// A port at which nobody listens. It is held, so that nobody else gets it.
struct ClosedDoor {
    port: u16,
    _socket: TcpSocket,
}

impl ClosedDoor {
    fn new() -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(ANY_PORT)?;
        Ok(Self {
            port: socket.local_addr()?.port(),
            _socket: socket,
        })
    }
}

/// A listener that never accepts, and whose queue is full.
struct JammedDoor {
    port: u16,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl JammedDoor {
    async fn new() -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(ANY_PORT)?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let queue = fill(address).await?;
        Ok(Self {
            port: address.port(),
            _listener: listener,
            _queue: queue,
        })
    }
}

/// Connects until there is no answer any more.
async fn fill(address: SocketAddr) -> Result<Vec<TcpStream>, Failure> {
    const NO_ANSWER: Duration = Duration::from_millis(200);
    let mut queue = Vec::new();
    while let Some(socket) = move_on_after(NO_ANSWER, TcpStream::connect(address)).await {
        queue.push(socket?);
    }
    Ok(queue)
}
