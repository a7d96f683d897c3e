//! Happy eyeballs: connects to several addresses at once, some of them dead, keeps the first connection that
//! answers, and lets the others say goodbye.
//!
//! Each attempt is a context: its exit sends a line and closes the connection, with awaits. The one that wins is
//! used, and then left in the same way. The listener checks that every connection it has seen was closed with
//! that line; a `select!` would have dropped the losers in the middle of a sentence.
//!
//! ```text
//! cargo run -p trionics-gather --example happy_eyeballs
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::mpsc,
};
use trionics_gather::{
    AsyncContext, BlockEnd, ExitStack, acm_pair, open_exit_stack, race_ok, with_context,
};
use trionics_nursery::{AnyError, Failure, Nursery, TokioClock, open_nursery, sleep, with_clock};

/// How long the next address waits for the ones before it, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// What every connection ends with.
const GOODBYE: &str = "goodbye";

/// A connection that greets, and says goodbye when it is left.
fn connection(
    address: SocketAddr,
) -> impl AsyncContext<Value = BufReader<OwnedReadHalf>, Error = AnyError, Run: Send> + Send {
    acm_pair(
        async move {
            let (reader, writer) = TcpStream::connect(address).await?.into_split();
            Ok((BufReader::new(reader), writer))
        },
        async |mut writer: tokio::net::tcp::OwnedWriteHalf, _end: BlockEnd| {
            writer.write_all(format!("{GOODBYE}\n").as_bytes()).await?;
            writer.shutdown().await?;
            Ok(())
        },
    )
}

/// Waits for its turn, connects, and waits until the server has greeted.
async fn attempt(turn: u32, address: SocketAddr) -> Result<(SocketAddr, String), Failure> {
    sleep(HEAD_START * turn).await;
    with_context(connection(address), async |mut reader| {
        let mut greeting = String::new();
        if reader.read_line(&mut greeting).await? == 0 {
            return Err(Failure::text("the server has hung up"));
        }
        Ok((address, greeting.trim().to_owned()))
    })
    .await
}

/// What a server does with those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Greets at once.
    Greets,
    /// Accepts and never says a word.
    Silent,
}

/// Serves one address; tells how each connection has ended.
async fn serve(listener: TcpListener, manner: Manner, endings: mpsc::UnboundedSender<String>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let endings = endings.clone();
        tokio::spawn(async move {
            match manner {
                Manner::Greets => drop(stream.write_all(b"hello\n").await),
                Manner::Silent => {}
            }
            let mut said = String::new();
            let ending = match stream.read_to_string(&mut said).await {
                Ok(_) => said.trim().to_owned(),
                Err(error) => error.to_string(),
            };
            let _ = endings.send(ending);
        });
    }
}

/// An address where nobody listens any more.
async fn dead_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").await?.local_addr()
}

/// Races the connects while the servers run, and checks what the servers have seen.
async fn race_them() -> Result<(), Failure> {
    let (sender, mut endings) = mpsc::unbounded_channel();
    open_nursery(async |n: Nursery<'_>| {
        let mut addresses = vec![dead_address().await?];
        let mut live = None;
        for manner in [
            Manner::Silent,
            Manner::Silent,
            Manner::Greets,
            Manner::Silent,
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            if manner == Manner::Greets {
                live = Some(listener.local_addr()?);
                addresses.push(dead_address().await?);
            }
            let sender = sender.clone();
            n.start_soon(async move {
                serve(listener, manner, sender).await;
                Ok(())
            });
        }
        let attempts: Vec<_> = (0..)
            .zip(&addresses)
            .map(|(turn, address)| attempt(turn, *address))
            .collect();
        let (winner, greeting) = race_ok(attempts).await?;
        println!("{winner} has won with {greeting:?}");
        if Some(winner) != live {
            return Err(Failure::text("the wrong one has won"));
        }

        // Two silent ones had connected before the winner, and the one after it had not begun: each of the
        // three has said goodbye before the race returned.
        for _ in 0..3 {
            let said = endings.recv().await.unwrap_or_default();
            println!("a connection has ended with {said:?}");
            if said != GOODBYE {
                return Err(Failure::text("a connection was cut off"));
            }
        }

        // When all are dead, every failure is told.
        let dead = [dead_address().await?, dead_address().await?];
        let failure = match race_ok(dead.map(|address| attempt(0, address))).await {
            Ok((address, _)) => return Err(Failure::text(format!("{address} is not dead"))),
            Err(failure) => failure,
        };
        println!("{failure}");
        if failure.leaves().count() != dead.len() {
            return Err(Failure::text("a failure was lost"));
        }

        // A pool that is opened one after another, and closed in the reverse order.
        let opened = open_exit_stack(async |stack: ExitStack<'_>| {
            for address in addresses.iter().filter(|address| Some(**address) == live) {
                stack.enter(connection(*address)).await?;
                stack.enter(connection(*address)).await?;
            }
            Ok(stack.len())
        })
        .await?;
        for _ in 0..opened {
            if endings.recv().await.as_deref() != Some(GOODBYE) {
                return Err(Failure::text("a connection of the pool was cut off"));
            }
        }
        println!("{opened} connections of a pool have said goodbye");
        n.cancel("the servers are not needed any more");
        Ok(())
    })
    .await
}

#[tokio::main]
async fn main() -> ExitCode {
    match with_clock(TokioClock, race_them()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}
