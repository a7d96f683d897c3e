//! The feed server with tokio.

use std::{io, net::SocketAddr};

use futures::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{GRACE, Message, WINDOW, next_tick};
use crate::groups::compare::wire::{Incoming, Outgoing, lines};

/// Serves clients until `shutdown` is cancelled or the exchange goes away, and takes leave of each of them and of the exchange.
pub(super) async fn serve(
    listener: TcpListener,
    exchange: SocketAddr,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Cancelled by the caller, and by whatever else ends the server.
    let stop = shutdown.child_token();
    let (incoming, mut outgoing) = lines(TcpStream::connect(exchange).await?)?;
    outgoing.send("SUBSCRIBE").await?;
    let (sender, ticks) = broadcast::channel(WINDOW);
    let pump = tokio::spawn(pump(incoming, sender, stop.clone()));

    let mut clients = JoinSet::new();
    let accepted = loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    clients.spawn(attend(socket, ticks.resubscribe(), stop.clone()));
                }
                Err(error) => break Err(error),
            },
            // One client's trouble is not the others'.
            Some(_) = clients.join_next() => {}
            () = stop.cancelled() => break Ok(()),
        }
    };

    stop.cancel();
    let all_gone = async { while clients.join_next().await.is_some() {} };
    if timeout(GRACE, all_gone).await.is_err() {
        clients.shutdown().await;
    }
    // The exchange's BYE ends the pump; so has its failure.
    let unsubscribed = outgoing.send("UNSUBSCRIBE").await;
    pump.await??;
    accepted.and(unsubscribed)
}

/// Passes the exchange's ticks on to all clients, until it says `BYE`.
async fn pump(
    mut incoming: Incoming,
    ticks: broadcast::Sender<u64>,
    stop: CancellationToken,
) -> io::Result<()> {
    let _stops = stop.drop_guard();
    while let Some(tick) = next_tick(&mut incoming).await? {
        // An error says that nobody listens now.
        let _ = ticks.send(tick);
    }
    Ok(())
}

/// Serves one client until it hangs up, or there are no more ticks, or the server stops.
async fn attend(
    socket: TcpStream,
    mut ticks: broadcast::Receiver<u64>,
    stop: CancellationToken,
) -> io::Result<()> {
    let (mut incoming, mut outgoing) = lines(socket)?;
    let Some(subscribed) = stop.run_until_cancelled(incoming.expect()).await else {
        return Ok(());
    };
    subscribed?;
    outgoing.push(Message::Hello);
    let mut last = 0;
    select! {
        passed_on = pass_on(&mut ticks, &mut outgoing, &mut last) => passed_on?,
        _ = incoming.next() => return Ok(()),
        () = stop.cancelled() => {}
    }
    outgoing.send(Message::Bye(last)).await
}

/// Passes ticks on to a client, as many at once as are there, until there are no more. What is cut short can still be sent.
async fn pass_on(
    ticks: &mut broadcast::Receiver<u64>,
    outgoing: &mut Outgoing,
    last: &mut u64,
) -> io::Result<()> {
    loop {
        outgoing.flush().await?;
        let mut received = Some(ticks.recv().await);
        while let Some(message) = received {
            match message {
                Ok(tick) => {
                    outgoing.push(Message::Tick(tick));
                    *last = tick;
                }
                Err(RecvError::Lagged(n_lost)) => outgoing.push(Message::Lost(n_lost)),
                Err(RecvError::Closed) => return Ok(()),
            }
            received = ticks.recv().now_or_never();
        }
    }
}
