//! One real TCP stream of lines for a thousand tasks on all cores, a third of which are slow.
//!
//! `cargo run --release -p trionics-broadcast --example fan_out [LINES]`
//!
//! Every task checks that the lines come in order, and that what it received and what it was told to have lost add up
//! to what was sent. The exit code says whether they did for each of them.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, process::ExitCode, sync::Arc, time::Instant};

use futures::{Stream, future::join_all, stream};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter, Lines},
    net::{TcpListener, TcpStream},
    task::yield_now,
};
use trionics_broadcast::{BroadcastError, TryBroadcastReceiver, try_broadcast_receiver};

const N_TASKS: usize = 1_000;
const WINDOW: usize = 1_024;

#[derive(Default)]
struct Tally {
    n_received: u64,
    n_lost: u64,
    n_lags: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let n_lines = env::args()
        .nth(1)
        .map_or(Ok(20_000), |lines| lines.parse())
        .expect("the number of lines is a number");
    match run(n_lines).await {
        Ok(is_complete) => ExitCode::from(u8::from(!is_complete)),
        Err(error) => {
            println!("the stream failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(n_lines: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let mut connection = BufWriter::new(listener.accept().await?.0);
        for number in 0..n_lines {
            connection
                .write_all(
                    format!("{number} {:>32}\n", number.wrapping_mul(0x9e37_79b9)).as_bytes(),
                )
                .await?;
        }
        connection.shutdown().await
    });

    let lines = lines(TcpStream::connect(address).await?);
    let original = try_broadcast_receiver(Box::pin(lines), WINDOW)?;
    // All subscribe before anybody receives: who comes later starts later.
    let receivers: Vec<_> = (0..N_TASKS).map(|_| original.subscribe()).collect();
    let spawn = |(index, receiver)| {
        let is_slow = index % 3 == 0;
        tokio::spawn(async move { (is_slow, receive(receiver, is_slow).await) })
    };
    let started = Instant::now();
    let tasks: Vec<_> = receivers.into_iter().enumerate().map(spawn).collect();
    drop(original);
    let tallies = join_all(tasks).await;
    let elapsed = started.elapsed();
    server.await??;

    let mut is_complete = true;
    let (mut fast, mut slow) = (Tally::default(), Tally::default());
    for tally in tallies {
        let (is_slow, tally) = tally?;
        let tally = tally?;
        is_complete &= tally.n_received + tally.n_lost == n_lines;
        let sum = if is_slow { &mut slow } else { &mut fast };
        sum.n_received += tally.n_received;
        sum.n_lost += tally.n_lost;
        sum.n_lags += tally.n_lags;
    }
    let n_received = fast.n_received + slow.n_received;
    println!(
        "{n_lines} lines over TCP for {N_TASKS} tasks, a window of {WINDOW}, in {elapsed:.2?}"
    );
    println!(
        "delivered {n_received} lines, {:.1} million a second",
        n_received as f64 / elapsed.as_secs_f64() / 1e6
    );
    for (name, tally) in [("fast", fast), ("slow", slow)] {
        println!(
            "{name} tasks: {} received, {} lost in {} lags",
            tally.n_received, tally.n_lost, tally.n_lags
        );
    }
    println!(
        "received + lost = sent for {}",
        if is_complete {
            "every task"
        } else {
            "NOT every task"
        }
    );
    Ok(is_complete)
}

fn lines(connection: TcpStream) -> impl Stream<Item = std::io::Result<Arc<str>>> {
    let lines = BufReader::new(connection).lines();
    stream::try_unfold(lines, async |mut lines: Lines<_>| {
        let line: Option<String> = lines.next_line().await?;
        Ok(line.map(|line| (Arc::from(line), lines)))
    })
}

/// Receives to the end, slowly or not, and checks the order on the way.
async fn receive<S>(mut receiver: TryBroadcastReceiver<S>, is_slow: bool) -> Result<Tally, String>
where
    S: Stream<Item = std::io::Result<Arc<str>>>,
{
    let mut tally = Tally::default();
    while let Some(item) = receiver.recv().await {
        match item {
            Ok(line) => {
                let number: Option<u64> = line.split(' ').next().and_then(|text| text.parse().ok());
                if number != Some(tally.n_received + tally.n_lost) {
                    return Err(format!("{line:?} comes out of order"));
                }
                tally.n_received += 1;
            }
            Err(BroadcastError::Lagged(lagged)) => {
                tally.n_lost += lagged.count();
                tally.n_lags += 1;
            }
            Err(BroadcastError::Source(error)) => return Err(error.to_string()),
        }
        if is_slow {
            // Work that takes two turns of all the other tasks.
            yield_now().await;
            yield_now().await;
        }
    }
    Ok(tally)
}
