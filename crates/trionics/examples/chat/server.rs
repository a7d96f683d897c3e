//! The server: takes clients in, attends to each, and takes leave of each.

use std::{io, net::SocketAddr, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use trionics::prelude::*;

use crate::{
    journal::Journal,
    protocol::{Command, Notice},
    room::{Ear, Member, Rooms, open_room},
    wire::{LineReader, LineWriter},
};

/// How long a client may take to read its last line and hang up.
const FAREWELL: Duration = Duration::from_secs(3);

/// How much the system keeps for a client that does not read. What goes beyond it is lost, and counted.
const SEND_BUFFER: u32 = 16 * 1024;

/// Listens at `address`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    #[cfg(not(windows))] // there it would let others take the address, too
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?; // its connections inherit it
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves clients until it is cancelled; then each is told goodbye, and each room is torn down.
pub(crate) async fn serve(listener: TcpListener, journal: Journal) -> Result<(), Failure> {
    let rooms = Rooms::options().name("rooms").build();
    let runtime = Handle::current();
    open_nursery(async move |n: Nursery<'_>| {
        // The rooms live in here, and belong to no client. A cancellation is for the clients: this is
        // shielded, and ends when the last of them has left and dropped its handle to the rooms.
        n.start_soon(shield(rooms.serve()));
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // This one is gone, or there are too many: the others are still to be served.
                    journal.write(format!("cannot accept: {error}")).await?;
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (rooms, journal) = (rooms.clone(), journal.clone());
            let attending = async move {
                if let Err(failure) = attend(socket, &rooms, &journal).await {
                    // One client's trouble is not the others'.
                    journal.write(format!("{peer}: {failure}")).await?;
                }
                Ok(())
            };
            // A task of its own, so that no client can keep the runtime from serving the others.
            n.named(peer.to_string()).start_soon_on(&runtime, attending);
        }
    })
    .await
}

/// Serves one client, to the last line.
async fn attend(socket: TcpStream, rooms: &Rooms, journal: &Journal) -> Result<(), Failure> {
    socket.set_nodelay(true)?;
    let (reader, writer) = socket.into_split();
    let mut client = Client {
        reader: LineReader::new(reader),
        writer: LineWriter::new(writer),
    };
    // A cancellation does not stop the code in here; it is noticed, and the conversation stopped.
    shield(async {
        let closing = async {
            cancel_requested().await;
            Ok("the server is closing".to_owned())
        };
        let outcome = try_race((closing, client.converse(rooms, journal)))
            .await
            .collapse_eg();
        let reason = match &outcome {
            Ok(reason) => reason.clone(),
            Err(failure) => failure.to_string(),
        };
        client.take_leave(reason).await;
        outcome.map(drop)
    })
    .await
}

/// A client, as the server sees it.
struct Client<R, W> {
    reader: LineReader<R>,
    writer: LineWriter<W>,
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send> Client<R, W> {
    /// Does what the client asks for, until it leaves.
    async fn converse(&mut self, rooms: &Rooms, journal: &Journal) -> Result<String, Failure> {
        let mut command = next_command(&mut self.reader).await?;
        loop {
            command = match command {
                Command::Quit => return Ok("see you".to_owned()),
                Command::Join { room, name } => self.visit(rooms, journal, room, name).await?,
                Command::Part | Command::Say(_) => {
                    self.writer
                        .send(Notice::Error("you are in no room".to_owned()))
                        .await?;
                    next_command(&mut self.reader).await?
                }
            };
        }
    }

    /// Is in a room, for as long as the client likes; returns the first command that is not for it.
    async fn visit(
        &mut self,
        rooms: &Rooms,
        journal: &Journal,
        room: String,
        name: String,
    ) -> Result<Command, Failure> {
        let make = {
            let (room, journal) = (room.clone(), journal.clone());
            move || acm(|slot| open_room(room, journal, slot))
        };
        let visit = maybe_open_context(rooms, room.clone(), make, async |_cache_hit, open| {
            let Some((mut member, ear)) = open.enter(&name) else {
                return Ok(None);
            };
            let speaking = listen_to(&mut self.reader, &mut member);
            let hearing = tell(&mut self.writer, ear);
            let end = try_race((speaking, hearing)).await;
            Ok(Some((member, end)))
        })
        .await?;
        // The room has been left here; and if this was its last member, it has been torn down.
        let Some((member, end)) = visit else {
            let text = format!("there is a {name} in {room} already");
            self.writer.send(Notice::Error(text)).await?;
            return Ok(next_command(&mut self.reader).await?);
        };
        drop(member); // the others are told
        let command = end?;
        self.writer.send(Notice::Parted { room, name }).await?;
        match command {
            Command::Part => Ok(next_command(&mut self.reader).await?),
            elsewhere => Ok(elsewhere),
        }
    }

    /// Sends the last line, and waits until the client has hung up.
    ///
    /// Who closes a socket in which there is something to read resets the connection, and the last
    /// line may be lost: so all that still comes is read.
    async fn take_leave(mut self, reason: String) {
        let leave = async {
            self.writer.send(Notice::Bye(reason)).await?;
            self.writer.finish().await?;
            self.reader.drain().await
        };
        // If the client is gone or does not listen, there is nobody to tell.
        let _told: Option<io::Result<()>> = move_on_after(FAREWELL, leave).await;
    }
}

/// Reads a command. To hang up is to quit.
async fn next_command(reader: &mut LineReader<impl AsyncRead + Unpin>) -> io::Result<Command> {
    Ok(reader
        .next_line()
        .await?
        .map_or(Command::Quit, |line| Command::parse(&line)))
}

/// Says in the room what the client says, until it sends a command; returns that.
async fn listen_to(
    reader: &mut LineReader<impl AsyncRead + Unpin>,
    member: &mut Member,
) -> Result<Command, Failure> {
    loop {
        match next_command(reader).await? {
            Command::Say(text) => member.say(text).await?,
            command => return Ok(command),
        }
    }
}

/// Tells the client what is said in the room, and how much of it was lost because the client is slow.
async fn tell(
    writer: &mut LineWriter<impl AsyncWrite + Unpin>,
    mut ear: Ear,
) -> Result<Command, Failure> {
    while let Some(heard) = ear.recv().await {
        match heard {
            Ok(line) => writer.put(line).await?,
            Err(lagged) => writer.put(Notice::Lost(lagged.count())).await?,
        }
        if ear.is_empty() {
            writer.flush().await?; // several lines at once, if there are several
            checkpoint().await; // in a busy room, too, the client is listened to
        }
    }
    Err(Failure::text("the room has ended")) // not while somebody is in it
}
