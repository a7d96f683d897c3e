//! The self-test: the whole system in one process, on real sockets, cancelled in mid-traffic.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use trionics::{
    CancelScope, ChildHandle, Failure, Nursery, TokioClock, live_frames, open_nursery,
    set_report_hook, sleep, with_clock,
};

use crate::client::{Act, Books, Client, DOOMED, Floor, SELDOM, symbol};
use crate::counters::{Count, Counters};
use crate::exchange::{Exchange, Line};
use crate::net::open_descriptors;
use crate::proof::Evidence;
use crate::screen::{say, show_progress};
use crate::server::Server;
use crate::tape::Tape;

/// A free port of this machine.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How much longer than planned it may take until everybody has played their role.
const LIMIT: Duration = Duration::from_secs(45);

/// Runs everything, says what was found, and returns whether all of it is as it should be.
pub(crate) async fn rehearse(
    n_clients: usize,
    at_least: Duration,
    rate: u32,
) -> Result<bool, Failure> {
    let opened = Instant::now();
    let before = open_descriptors();
    let n_reports = Arc::new(Count::default());
    set_report_hook({
        let n_reports = n_reports.clone();
        move |report| {
            n_reports.add(1);
            say(report);
        }
    });
    let (books, journal) = with_clock(TokioClock, perform(n_clients, at_least, rate)).await?;
    let descriptors = before
        .zip(open_descriptors())
        .map(|(before, after)| [before, after]);
    let evidence = Evidence {
        books,
        journal,
        descriptors,
        n_live_frames: live_frames(),
        n_reports: n_reports.get(),
    };

    let findings = evidence.findings();
    let all_hold = findings.iter().all(|finding| finding.holds);
    say("");
    findings.iter().for_each(say);
    say(format_args!(
        "\n{} after {:.1} s",
        if all_hold {
            "All is well"
        } else {
            "This is not as it should be"
        },
        opened.elapsed().as_secs_f64()
    ));
    Ok(all_hold)
}

async fn perform(
    n_clients: usize,
    at_least: Duration,
    rate: u32,
) -> Result<(Vec<Result<Books, String>>, Vec<Line>), Failure> {
    let tape = Tape::load();
    let floor = Floor::new(&tape);
    let counters = Arc::new(Counters::default());
    let exchange = Exchange::open(ANY_PORT, &tape, rate)?;
    let server = Server::open(ANY_PORT, exchange.address()?, counters.clone())?;
    let address = server.address()?;
    let clients: Vec<_> = (0..n_clients)
        .map(|number| Client::new(number, address, &tape, &floor))
        .collect();
    say(format_args!(
        "an exchange with {rate} ticks a second for each of {} shares, a server on {address}, {n_clients} clients",
        tape.symbols().count()
    ));

    let root = CancelScope::new();
    let books = open_nursery(async |stage: Nursery<'_>| {
        stage.start_soon(exchange.serve());
        stage.start_soon(show_progress(&counters));
        let serving = stage.spawn(async { Ok(root.run(server.serve()).await) });
        let playing: Vec<ChildHandle<_>> = clients
            .iter()
            .map(|client| stage.spawn(async { Ok(client.play().await) }))
            .collect();

        let acts = play_all_acts(&clients, &floor, &exchange, at_least);
        if timeout(at_least + LIMIT, acts).await.is_err() {
            let missing = clients
                .iter()
                .filter(|client| !client.has_played(Act::Finale));
            missing.for_each(|client| say(format_args!("{client} has not come to play its role")));
        }
        say("cancelling the server in mid-traffic");
        root.cancel("the rehearsal is over");

        let mut books = Vec::new();
        for (client, played) in clients.iter().zip(playing) {
            books.push(
                played
                    .await?
                    .map_err(|failure| format!("{client}: {failure}")),
            );
        }
        match serving.await? {
            Err(cancelled) => say(format_args!("the server has ended: {}", cancelled.reason())),
            Ok(stopped) => stopped?,
        }
        stage.cancel("the server has left the exchange");
        Ok(books)
    });
    let books = books.await?;
    Ok((books, exchange.journal()))
}

/// Returns when the server is to be cancelled, because all else has happened.
async fn play_all_acts(
    clients: &[Client<'_>],
    floor: &Floor,
    exchange: &Exchange<'_>,
    at_least: Duration,
) {
    let all_have_played =
        async |act| until(|| clients.iter().all(|client| client.has_played(act))).await;
    let at_the_earliest = sleep(at_least);
    all_have_played(Act::Bustle).await;
    until(|| !exchange.has_subscribers(symbol(SELDOM))).await;
    exchange.crash(symbol(DOOMED));
    all_have_played(Act::Crash).await;
    at_the_earliest.await;
    floor.begin_finale();
    all_have_played(Act::Finale).await;
}

/// Waits for something that other tasks bring about.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(5)).await;
    }
}
