//! The self-check: clients on real sockets, who say whether they were treated well.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::net::{
    TcpSocket,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio::runtime::Handle;
use tokio::sync::{Barrier, mpsc};
use tokio::task::yield_now;
use tokio::time::timeout;
use trionics::nursery::live_frames;
use trionics::prelude::*;

use crate::{journal::Journal, protocol::Notice, room::WINDOW, server};

/// The rooms in which everybody talks.
const ROOMS: [&str; 4] = ["lobby", "garden", "attic", "cellar"];

/// How many members each of them has.
const N_MEMBERS: usize = 8;

/// How many lines each member says. Nobody can lag, as the window of a room holds all of them.
const N_LINES: usize = 5;
const _: () = assert!(N_MEMBERS * (N_LINES + 2) < WINDOW);

/// How many long lines are said to somebody who does not read: more than all buffers on the way hold.
const N_LONG_LINES: usize = 1000;

/// How long the whole check may take, and then its exits.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

/// How long a client waits for its next line before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails with a message unless something holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(Failure::text(format!($($message)+)));
        }
    };
}

/// Runs the check on tokio's clock, and sees to it that nothing is left.
pub(crate) async fn run() -> Result<(), Failure> {
    let n_frames = live_frames();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let settings = Settings::new().clock(TokioClock).on_report({
        let reports = Arc::clone(&reports);
        move |report| {
            reports
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(report.to_string())
        }
    });
    let scope = CancelScope::named("check");
    scope.set_timeout(TIME_LIMIT);
    scope.set_exit_grace(GRACE);
    match settings.run(scope.run(check())).await {
        Ok(outcome) => outcome.collapse_eg()?,
        Err(cancelled) => return Err(Failure::cancelled(cancelled)),
    }
    let reports = std::mem::take(&mut *reports.lock().unwrap_or_else(PoisonError::into_inner));
    ensure!(
        reports.is_empty(),
        "something was not left in order: {reports:?}"
    );
    let n_left = live_frames() - n_frames;
    ensure!(n_left == 0, "frames that are left: {n_left}");
    // A child on the runtime has ended a moment before the runtime has put its task away.
    let n_tasks = || Handle::current().metrics().num_alive_tasks();
    let put_away = async {
        while n_tasks() > 0 {
            yield_now().await;
        }
    };
    let all_are = timeout(PATIENCE, put_away).await.is_ok();
    ensure!(all_are, "tasks that are left: {}", n_tasks());
    println!("nothing is left: all is well");
    Ok(())
}

/// Runs a server and its clients, and compares what either side has to tell.
async fn check() -> Result<(), Failure> {
    let listener = server::listen((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = listener.local_addr()?;
    let (paper, written) = tokio::io::duplex(64); // less than two lines: to write is to wait
    let journal = Journal::new(paper);

    let scope = CancelScope::named("server");
    let serving = async {
        match scope.run(server::serve(listener, journal)).await {
            Err(cancelled) => Ok(cancelled),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) => Err(Failure::text("the server has ended by itself")),
        }
    };
    let visiting = visit(address, &scope);
    let reading = shield(read_all(written)); // until the server has written its last line
    let (cancelled, (), lines) = try_join((serving, visiting, reading)).await?;
    println!("the server was {cancelled}");
    check_journal(&lines)
}

/// All that the clients do: they talk, and are interrupted by the end of the server.
async fn visit(address: SocketAddr, server: &CancelScope) -> Result<(), Failure> {
    let conversations = ROOMS.map(async |room| {
        let talked = conversation(address, room).await;
        talked.map_err(|failure| failure.with_origin(room))
    });
    let (stayed, n_lost, ()) = try_join((
        try_join(conversations),
        slow_client(address),
        manners(address),
    ))
    .await?;
    let n_clients = ROOMS.len() * N_MEMBERS;
    println!(
        "{n_clients} clients in {} rooms heard their room, and no other",
        ROOMS.len()
    );
    println!("a slow client was told of {n_lost} lost lines of {N_LONG_LINES}");

    let mut clients = Vec::from(stayed);
    for room in ROOMS {
        for number in 1..N_MEMBERS {
            let mut late = Client::connect(address).await?;
            late.join(room, &name(number)).await?;
            clients.push(late);
        }
    }
    open_nursery(async |n: Nursery<'_>| {
        let (flying, mut in_flight) = mpsc::channel(n_clients);
        for client in clients {
            n.start_soon_on(&Handle::current(), talk_to_the_end(client, flying.clone()));
        }
        let mut idle = Client::connect(address).await?;
        idle.send("is anybody here?").await?;
        idle.expect(Notice::Error("you are in no room".to_owned()))
            .await?;
        for _ in 0..n_clients {
            in_flight.recv().await;
        }
        server.cancel("closing time");
        idle.hear_goodbye("the server is closing").await
    })
    .await?;
    println!("{} clients were told goodbye in full flight", n_clients + 1);
    Ok(())
}

/// Fills a room, talks in it, empties it and opens it again; returns the client that is in it then.
async fn conversation(address: SocketAddr, room: &str) -> Result<Client, Failure> {
    let all_inside = Barrier::new(N_MEMBERS);
    let members: Vec<_> = (0..N_MEMBERS)
        .map(|number| member(address, room, number, &all_inside))
        .collect();
    let (clients, transcripts): (Vec<_>, Vec<_>) = try_join(members).await?.into_iter().unzip();
    check_transcripts(room, &transcripts)?;

    // The last one leaves, which closes the room, and comes back to a new one.
    let mut last = clients
        .into_iter()
        .flatten()
        .next()
        .expect("one has stayed");
    last.send("PART").await?;
    last.expect(Notice::Parted {
        room: room.to_owned(),
        name: name(0),
    })
    .await?;
    last.send(&format!("JOIN {room} {}", name(0))).await?;
    last.expect(Notice::Joined {
        room: room.to_owned(),
        name: name(0),
    })
    .await?;
    Ok(last)
}

/// One of a room's members; returns what it has heard until all was said, and itself if it stays.
async fn member(
    address: SocketAddr,
    room: &str,
    number: usize,
    all_inside: &Barrier,
) -> Result<(Option<Client>, Vec<Notice>), Failure> {
    let mut client = Client::connect(address).await?;
    let mut heard = client.join(room, &name(number)).await?;
    all_inside.wait().await;
    for line in 0..N_LINES {
        client.send(&line.to_string()).await?;
    }
    let mut n_said = 0;
    while n_said < N_MEMBERS * N_LINES {
        let notice = client.hear().await?;
        n_said += usize::from(matches!(notice, Notice::Said { .. }));
        heard.push(notice);
    }
    match number {
        0 => {
            let mut gone = Vec::new();
            while gone.len() < N_MEMBERS - 1 {
                match client.hear().await? {
                    Notice::Parted { room: of, name } if of == room => gone.push(name),
                    other => return Err(Failure::text(format!("all should be leaving: {other}"))),
                }
            }
            gone.sort();
            ensure!(
                gone.iter().eq(&Vec::from_iter((1..N_MEMBERS).map(name))),
                "who left? {gone:?}"
            );
            return Ok((Some(client), heard));
        }
        1 => drop(client), // without a word
        2 => {
            client.send("QUIT").await?;
            client.hear_goodbye("see you").await?;
        }
        _ => {
            client.send("PART").await?;
            let parted = Notice::Parted {
                room: room.to_owned(),
                name: name(number),
            };
            while client.hear().await? != parted {}
        }
    }
    Ok((None, heard))
}

/// All members have heard the same: who came later has heard the end of it.
fn check_transcripts(room: &str, transcripts: &[Vec<Notice>]) -> Result<(), Failure> {
    let longest = transcripts
        .iter()
        .max_by_key(|heard| heard.len())
        .expect("there are members");
    for heard in transcripts {
        ensure!(
            longest.ends_with(heard),
            "in {room}, somebody heard {heard:?}, but not {longest:?}"
        );
    }
    let (mut n_joined, mut n_said) = (0, HashMap::new());
    for notice in longest {
        match notice {
            Notice::Joined { room: of, .. } if of == room => n_joined += 1,
            Notice::Said {
                room: of,
                name,
                text,
            } if of == room => {
                let n_said: &mut usize = n_said.entry(name).or_default();
                ensure!(
                    *text == n_said.to_string(),
                    "{name} said {text} as number {n_said}"
                );
                *n_said += 1;
            }
            other => return Err(Failure::text(format!("what is this in {room}: {other}"))),
        }
    }
    ensure!(n_joined == N_MEMBERS, "{n_joined} have joined {room}");
    ensure!(
        n_said.len() == N_MEMBERS,
        "{} have said something in {room}",
        n_said.len()
    );
    Ok(())
}

/// A client that does not read for a while; returns how many lines it was told to have lost.
async fn slow_client(address: SocketAddr) -> Result<u64, Failure> {
    let room = "valley";
    let mut slow = Client::connect(address).await?;
    slow.join(room, "slow").await?;
    let mut fast = Client::connect(address).await?;
    fast.join(room, "fast").await?;
    slow.expect(Notice::Joined {
        room: room.to_owned(),
        name: "fast".to_owned(),
    })
    .await?;

    let line = |number: usize| format!("{number} {}", "la".repeat(400));
    let said = |number| Notice::Said {
        room: room.to_owned(),
        name: "fast".to_owned(),
        text: line(number),
    };
    for number in 0..N_LONG_LINES {
        fast.send(&line(number)).await?;
        fast.expect(said(number)).await?; // the fast one loses nothing
    }
    let (mut number, mut n_lost) = (0, 0);
    while number < N_LONG_LINES {
        match slow.hear().await? {
            Notice::Lost(n_lines) => {
                n_lost += n_lines;
                number += usize::try_from(n_lines)?;
            }
            heard => {
                let is_next = heard == said(number);
                let heard = heard.to_string();
                ensure!(
                    is_next,
                    "instead of line {number}, the slow one heard {heard:.30}…"
                );
                number += 1;
            }
        }
    }
    ensure!(n_lost > 0, "the slow one has lost nothing");
    fast.send("QUIT").await?;
    fast.hear_goodbye("see you").await?;
    slow.expect(Notice::Parted {
        room: room.to_owned(),
        name: "fast".to_owned(),
    })
    .await?;
    slow.send("QUIT").await?;
    slow.hear_goodbye("see you").await?;
    Ok(n_lost)
}

/// What else a client may do, and may not.
async fn manners(address: SocketAddr) -> Result<(), Failure> {
    let room = "parlour";
    let mut first = Client::connect(address).await?;
    first.join(room, "ann").await?;
    let mut second = Client::connect(address).await?;
    for refused in ["JOIN parlour ann", "hello?", "PART"] {
        second.send(refused).await?;
        let answer = second.hear().await?;
        ensure!(
            matches!(answer, Notice::Error(_)),
            "the answer to {refused} was {answer}"
        );
    }
    second.send(&"no end ".repeat(1000)).await?;
    second.hear_goodbye("this line is too long").await?;

    // The only member gives itself another name: the room is closed and opened again.
    first.send("JOIN parlour bob").await?;
    first
        .expect(Notice::Parted {
            room: room.to_owned(),
            name: "ann".to_owned(),
        })
        .await?;
    first
        .expect(Notice::Joined {
            room: room.to_owned(),
            name: "bob".to_owned(),
        })
        .await?;
    first.send("QUIT").await?;
    first.hear_goodbye("see you").await
}

/// Talks and talks until the server says goodbye; tells `flying` when it has been heard.
async fn talk_to_the_end(client: Client, flying: mpsc::Sender<()>) -> Result<(), Failure> {
    let Client {
        mut reader,
        mut writer,
    } = client;
    let talking = async {
        loop {
            writer.write_all(b"and so on\n").await?;
            checkpoint().await; // talking must not keep it from listening
        }
    };
    let listening = async {
        while !matches!(hear(&mut reader).await?, Notice::Said { .. }) {}
        flying.send(()).await?;
        hear_goodbye(&mut reader, "the server is closing").await
    };
    try_race((listening, talking)).await
}

/// Each room was closed as often as it was opened, and never open twice.
fn check_journal(lines: &[String]) -> Result<(), Failure> {
    let mut rooms: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in lines {
        if let ["room", room, what] = line.split(' ').collect::<Vec<_>>()[..] {
            rooms.entry(room).or_default().push(what);
        }
    }
    let expected = ROOMS
        .map(|room| (room, 2))
        .into_iter()
        .chain([("valley", 1), ("parlour", 2)]);
    for (room, n_times) in expected {
        let events = rooms.remove(room).unwrap_or_default();
        ensure!(
            events == ["opened", "closed"].repeat(n_times),
            "{room} was {events:?}"
        );
    }
    ensure!(rooms.is_empty(), "nobody was in {rooms:?}");
    Ok(())
}

/// Reads a pipe to its end.
async fn read_all(pipe: DuplexStream) -> Result<Vec<String>, Failure> {
    let mut reader = BufReader::new(pipe).lines();
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line().await? {
        lines.push(line);
    }
    Ok(lines)
}

/// The name of a room's member.
fn name(number: usize) -> String {
    format!("guest{number:02}")
}

type Reader = Lines<BufReader<OwnedReadHalf>>;

/// A client's end of a connection.
struct Client {
    reader: Reader,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?; // so that who does not read is soon behind
        socket.set_nodelay(true)?;
        let (reader, writer) = socket.connect(address).await?.into_split();
        Ok(Self {
            reader: BufReader::new(reader).lines(),
            writer,
        })
    }

    async fn send(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self
            .writer
            .write_all(format!("{line}\n").as_bytes())
            .await?)
    }

    async fn hear(&mut self) -> Result<Notice, Failure> {
        hear(&mut self.reader).await
    }

    async fn expect(&mut self, expected: Notice) -> Result<(), Failure> {
        let heard = self.hear().await?;
        ensure!(heard == expected, "expected {expected}, and heard {heard}");
        Ok(())
    }

    async fn hear_goodbye(&mut self, reason: &str) -> Result<(), Failure> {
        hear_goodbye(&mut self.reader, reason).await
    }

    /// Enters a room; returns what was heard until it was inside.
    async fn join(&mut self, room: &str, name: &str) -> Result<Vec<Notice>, Failure> {
        self.send(&format!("JOIN {room} {name}")).await?;
        let joined = Notice::Joined {
            room: room.to_owned(),
            name: name.to_owned(),
        };
        let mut heard = Vec::new();
        while heard.last() != Some(&joined) {
            heard.push(self.hear().await?);
        }
        Ok(heard)
    }
}

async fn hear(reader: &mut Reader) -> Result<Notice, Failure> {
    match fail_after(PATIENCE, reader.next_line()).await?? {
        Some(line) => Ok(line.parse()?),
        None => Err(Failure::text(
            "the server has closed the connection without a goodbye",
        )),
    }
}

/// Reads up to the goodbye, after which nothing may come.
async fn hear_goodbye(reader: &mut Reader, reason: &str) -> Result<(), Failure> {
    let told = loop {
        if let Notice::Bye(told) = hear(reader).await? {
            break told;
        }
    };
    ensure!(
        told == reason,
        "the goodbye should say {reason:?}, and not {told:?}"
    );
    let after = reader.next_line().await?;
    ensure!(after.is_none(), "after the goodbye came {after:?}");
    Ok(())
}
