//! The feed server with trionics.

use std::{io, net::SocketAddr};

use futures::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
};
use trionics::{
    Failure, Nursery, Slot, acm,
    broadcast::{BroadcastError, TryBroadcastReceiver, try_broadcast_receiver},
    cancel_requested,
    nursery::NurseryOptions,
    shield, with_context,
};

use super::{GRACE, Message, WINDOW, next_tick};
use crate::groups::compare::wire::{Outgoing, lines};

/// A subscription to the exchange's ticks.
type Ticks = TryBroadcastReceiver<BoxStream<'static, io::Result<u64>>>;

/// Serves clients until it is cancelled or the exchange goes away, and takes leave of each of them and of the exchange.
pub(super) async fn serve(listener: TcpListener, exchange: SocketAddr) -> Result<(), Failure> {
    let subscribed = acm(|slot| subscription(exchange, slot));
    with_context(subscribed, async |ticks: Ticks| {
        let clients = NurseryOptions::new().exit_grace(GRACE);
        clients
            .open(async |clients: Nursery<'_>| {
                let stop = clients.cancel_scope();
                clients.start_soon(ticks.closed().map(move |()| {
                    stop.cancel("the exchange has gone away");
                    Ok(())
                }));
                loop {
                    let (socket, _) = listener.accept().await?;
                    let ticks = ticks.subscribe();
                    // One client's trouble is not the others'.
                    clients.start_soon(attend(socket, ticks).map(|_| Ok(())));
                }
            })
            .await
    })
    .await
}

/// The subscription to the exchange, from `SUBSCRIBE` to `BYE`.
async fn subscription(exchange: SocketAddr, slot: Slot<Ticks>) -> Result<(), Failure> {
    let (incoming, mut outgoing) = lines(TcpStream::connect(exchange).await?)?;
    outgoing.send("SUBSCRIBE").await?;
    let source = stream::try_unfold(incoming, async |mut incoming| {
        let tick = next_tick(&mut incoming).await?;
        Ok(tick.map(|tick| (tick, incoming)))
    });
    let mut ticks = try_broadcast_receiver(source.boxed(), WINDOW).expect("a window");

    slot.provide(ticks.subscribe()).await;

    outgoing.send("UNSUBSCRIBE").await?;
    // The exchange's BYE ends the ticks.
    while let Some(tick) = ticks.recv().await {
        if let Err(error @ BroadcastError::Source(_)) = tick {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Serves one client until it hangs up, or there are no more ticks, or the server stops.
async fn attend(socket: TcpStream, mut ticks: Ticks) -> Result<(), Failure> {
    let (mut incoming, mut outgoing) = lines(socket)?;
    incoming.expect().await?;
    // Not stopped in here: the client is to have its BYE.
    shield(async {
        outgoing.push(Message::Hello);
        let mut last = 0;
        select! {
            passed_on = pass_on(&mut ticks, &mut outgoing, &mut last) => passed_on?,
            _ = incoming.next() => return Ok(()),
            () = cancel_requested() => {}
        }
        Ok(outgoing.send(Message::Bye(last)).await?)
    })
    .await
}

/// Passes ticks on to a client, as many at once as are there, until there are no more. What is cut short can still be sent.
async fn pass_on(ticks: &mut Ticks, outgoing: &mut Outgoing, last: &mut u64) -> io::Result<()> {
    loop {
        outgoing.flush().await?;
        let mut received = Some(ticks.recv().await);
        while let Some(message) = received {
            match message {
                Some(Ok(tick)) => {
                    outgoing.push(Message::Tick(tick));
                    *last = tick;
                }
                Some(Err(BroadcastError::Lagged(lagged))) => {
                    outgoing.push(Message::Lost(lagged.count()));
                }
                Some(Err(BroadcastError::Source(_))) | None => return Ok(()),
            }
            received = ticks.recv().now_or_never();
        }
    }
}
