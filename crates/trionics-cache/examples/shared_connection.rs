//! Real TCP connections, one per server, shared by hundreds of tasks that come and go.
//!
//! Each connection is opened by whoever needs it first, kept for a while when nobody does, closed by a
//! goodbye that the server answers, and opened again on demand. The servers count: how many clients they
//! have at once, how many there were, and how each of them left. The program succeeds only if those counts
//! are what they have to be.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use trionics_cache::{ContextCache, maybe_open_context};
use trionics_errgroup::Failure;
use trionics_gather::{AsyncContext, Slot, acm};
use trionics_nursery::{CancelScope, Nursery, TokioClock, open_nursery, shield, sleep, with_clock};

const N_SERVERS: usize = 3;
const N_TASKS: usize = 400;
const KEEP_ALIVE: Duration = Duration::from_millis(1000);

/// What a server knows about its clients.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    ever: AtomicUsize,
    goodbyes: AtomicUsize,
    vanished: AtomicUsize,
    requests: AtomicUsize,
}

/// Serves each client until it says goodbye or vanishes.
async fn server(listener: TcpListener, counts: Arc<Counts>) -> Result<(), Failure> {
    open_nursery(async |n: Nursery<'_>| {
        loop {
            let (stream, _) = listener.accept().await?;
            n.start_soon(client(stream, Arc::clone(&counts)));
        }
    })
    .await
}

async fn client(stream: TcpStream, counts: Arc<Counts>) -> Result<(), Failure> {
    counts.ever.fetch_add(1, Ordering::SeqCst);
    let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most.fetch_max(now, Ordering::SeqCst);
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let said_goodbye = loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            break false;
        }
        // The count goes down before the answer: who has it finds the client gone.
        if line == "goodbye\n" {
            break true;
        }
        counts.requests.fetch_add(1, Ordering::SeqCst);
        lines
            .get_mut()
            .write_all(line.to_uppercase().as_bytes())
            .await?;
    };
    counts.now.fetch_sub(1, Ordering::SeqCst);
    if said_goodbye {
        counts.goodbyes.fetch_add(1, Ordering::SeqCst);
        lines.get_mut().write_all(b"goodbye\n").await?;
    } else {
        counts.vanished.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// One connection, used by one task at a time.
struct Connection {
    stream: Mutex<BufReader<TcpStream>>,
}

impl Connection {
    /// Shielded: a question that was begun is answered, or the next one would read its answer.
    async fn ask(&self, question: &str) -> Result<String, Failure> {
        shield(async {
            let mut stream = self.stream.lock().await;
            let line = format!("{question}\n");
            stream.get_mut().write_all(line.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_line(&mut answer).await?;
            Ok(answer.trim_end().to_owned())
        })
        .await
    }
}

/// Connects; says goodbye in the end, and waits for the answer.
async fn connect(address: SocketAddr, slot: Slot<Arc<Connection>>) -> Result<(), Failure> {
    let stream = Mutex::new(BufReader::new(TcpStream::connect(address).await?));
    let connection = Arc::new(Connection { stream });
    slot.provide(Arc::clone(&connection)).await;
    let answer = connection.ask("goodbye").await?;
    assert_eq!(answer, "goodbye");
    Ok(())
}

type Connections = ContextCache<SocketAddr, Arc<Connection>>;

fn context(
    address: SocketAddr,
) -> impl AsyncContext<Value = Arc<Connection>, Error = trionics_errgroup::AnyError, Run: Send + 'static>
{
    acm(move |slot| connect(address, slot))
}

/// A task: comes after a while, asks, holds the connection for a moment, goes. Some lose patience.
async fn task(connections: Connections, address: SocketAddr, number: usize) -> Result<(), Failure> {
    sleep(Duration::from_millis((number * 37 % 900) as u64)).await;
    let work = maybe_open_context(&connections, address, move || context(address), {
        async |_cache_hit, connection| {
            let answer = connection.ask(&format!("task {number}")).await?;
            assert_eq!(answer, format!("TASK {number}"));
            sleep(Duration::from_millis((number % 40) as u64)).await;
            Ok(())
        }
    });
    if number.is_multiple_of(7) {
        // Cancelled, not dropped: it leaves in good order, wherever it is.
        let scope = CancelScope::new();
        let patience = sleep(Duration::from_millis((number % 20) as u64 + 20));
        return scope.run_until(patience, work).await.unwrap_or(Ok(()));
    }
    work.await
}

struct Proof {
    failed: bool,
}

impl Proof {
    fn check(&mut self, what: &str, is: usize, should_be: usize) {
        let verdict = if is == should_be {
            "as it should be"
        } else {
            "WRONG"
        };
        println!("  {what}: {is} ({verdict})");
        self.failed |= is != should_be;
    }
}

async fn run(handle: tokio::runtime::Handle, proof: &mut Proof) -> Result<(), Failure> {
    let mut addresses = Vec::new();
    let mut counts = Vec::new();
    open_nursery(async |n: Nursery<'_>| {
        for _ in 0..N_SERVERS {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            let count = Arc::new(Counts::default());
            counts.push(Arc::clone(&count));
            n.start_soon_on(&handle, server(listener, count));
        }
        let connections: Connections = ContextCache::options()
            .name("connections")
            .keep_alive(KEEP_ALIVE)
            .build();
        let service = CancelScope::new();
        n.start_soon({
            let (service, serving) = (service.clone(), connections.serve());
            async move { service.run(serving).await.unwrap_or(Ok(())) }
        });
        let total = |count: fn(&Counts) -> &AtomicUsize| -> usize {
            counts
                .iter()
                .map(|it| count(it).load(Ordering::SeqCst))
                .sum()
        };

        println!("{N_TASKS} tasks on {N_SERVERS} servers:");
        open_nursery(async |tasks: Nursery<'_>| {
            for number in 0..N_TASKS {
                let address = addresses[number % N_SERVERS];
                tasks.start_soon_on(&handle, task(connections.clone(), address, number));
            }
            Ok(())
        })
        .await?;
        proof.check(
            "clients that there ever were",
            total(|it| &it.ever),
            N_SERVERS,
        );
        let most = counts.iter().map(|it| it.most.load(Ordering::SeqCst)).max();
        proof.check("most at once, per server", most.unwrap_or(0), 1);
        proof.check("clients now, idle but kept", total(|it| &it.now), N_SERVERS);
        println!("  requests: {}", total(|it| &it.requests));

        println!("soon again:");
        let again = addresses[0];
        let lease = connections.open(again, move || context(again)).await?;
        proof.check("found open", usize::from(lease.cache_hit()), 1);
        drop(lease);

        println!("after the idle time:");
        sleep(KEEP_ALIVE * 2).await;
        proof.check("clients now", total(|it| &it.now), 0);
        proof.check("goodbyes", total(|it| &it.goodbyes), N_SERVERS);

        println!("on demand, and shut down in full use:");
        let mut leases = Vec::new();
        for &address in &addresses {
            leases.push(connections.open(address, move || context(address)).await?);
        }
        proof.check("clients now", total(|it| &it.now), N_SERVERS);
        let users: Vec<_> = addresses
            .iter()
            .map(|&address| {
                let connections = connections.clone();
                async move {
                    maybe_open_context(&connections, address, move || context(address), {
                        async |_hit, _connection| {
                            std::future::pending::<Result<(), Failure>>().await
                        }
                    })
                    .await
                }
            })
            .collect();
        let stopping = async {
            sleep(Duration::from_millis(50)).await;
            service.cancel("shut down");
            sleep(Duration::from_millis(50)).await;
            proof.check(
                "leases that are asked to leave",
                leases.iter().filter(|it| it.is_detached()).count(),
                N_SERVERS,
            );
            proof.check("clients now", total(|it| &it.now), N_SERVERS);
            for lease in leases {
                let _end = lease.close().await?;
            }
            Ok::<(), Failure>(())
        };
        let (users, stopped) = futures::join!(futures::future::join_all(users), stopping);
        stopped?;
        proof.check(
            "users that were cancelled",
            users.iter().filter(|it| it.is_err()).count(),
            N_SERVERS,
        );
        proof.check("clients now", total(|it| &it.now), 0);
        proof.check(
            "clients that there ever were",
            total(|it| &it.ever),
            2 * N_SERVERS,
        );
        proof.check("goodbyes", total(|it| &it.goodbyes), 2 * N_SERVERS);
        proof.check("clients that vanished", total(|it| &it.vanished), 0);
        n.cancel("the servers have counted enough");
        Ok(())
    })
    .await
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut proof = Proof { failed: false };
    let program = run(runtime.handle().clone(), &mut proof);
    match runtime.block_on(with_clock(TokioClock, program)) {
        Err(failure) if !failure.is_all_cancelled() => {
            println!("failed: {failure:#}");
            ExitCode::FAILURE
        }
        _ if proof.failed => ExitCode::FAILURE,
        _ => {
            println!("every connection was shared, kept, and closed with a goodbye");
            ExitCode::SUCCESS
        }
    }
}
