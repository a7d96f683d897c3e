//! The scan: many connects, so many at once, each of which is left politely.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, tcp::OwnedReadHalf};
use trionics::prelude::*;

/// Mail and file servers, among others, know this word.
pub(crate) const GOODBYE: &[u8] = b"QUIT\r\n";

const LONGEST_BANNER: u64 = 200;

/// What is to be scanned, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The addresses of the host; a port is open if it is at one of them.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) ports: Vec<u16>,
    /// How many ports are looked at at once.
    pub(crate) at_once: usize,
    /// How long one port may take.
    pub(crate) patience: Duration,
    /// How long all of them may take.
    pub(crate) limit: Duration,
}

/// What a port has turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is open, and greets with this line.
    Banner(String),
    /// It is open, and has said nothing in time.
    Silent,
    /// It refuses connections.
    Closed,
    /// It has not even refused in time.
    NoAnswer,
    /// Something else went wrong.
    Failed(String),
}

/// What is known once a scan has ended, or has been stopped.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order in which they were found.
    pub(crate) findings: Vec<(u16, Finding)>,
    pub(crate) n_opened: usize,
    pub(crate) most_at_once: usize,
    /// Why the scan ended before its time.
    pub(crate) stopped: Option<Cancelled>,
}

impl Plan {
    /// Scans until all is known, the time is over, or `stop` is ready.
    pub(crate) async fn scan(&self, stop: impl Future) -> Result<Report, Failure> {
        let notes = Notes::default();
        let scope = CancelScope::named("scan");
        scope.set_timeout(self.limit);
        scope.set_exit_grace(self.patience * 2);
        let stopped = match scope.run_until(stop, self.visit_all(&notes)).await {
            Ok(ended) => ended.map(|()| None)?,
            Err(cancelled) => Some(cancelled),
        };
        Ok(notes.into_report(stopped))
    }

    async fn visit_all(&self, notes: &Notes) -> Result<(), Failure> {
        NurseryOptions::new()
            .limit(self.at_once)
            .open(async |n: Nursery<'_>| {
                for &port in &self.ports {
                    n.start_soon_when_free(self.visit(port, notes)).await;
                }
                Ok(())
            })
            .await
    }

    async fn visit(&self, port: u16, notes: &Notes) -> Result<(), Failure> {
        let _here = notes.enter();
        let addresses: Vec<_> = self
            .ips
            .iter()
            .map(|&ip| SocketAddr::new(ip, port))
            .collect();
        let deadline = now() + self.patience;
        let context = acm(|slot| connection(&addresses, deadline, notes, slot));
        let finding = with_context(context, async |connected| match connected {
            Ok(reader) => Ok(listen(reader, deadline).await),
            Err(finding) => Ok(finding),
        })
        .await?;
        notes.found(port, finding);
        Ok(())
    }
}

/// A connection that is left with a goodbye, however the block that uses it has ended.
///
/// A port that is not open is what we are here to find out, and no failure.
async fn connection(
    addresses: &[SocketAddr],
    deadline: Instant,
    notes: &Notes,
    slot: Slot<Result<OwnedReadHalf, Finding>>,
) -> Result<(), Failure> {
    // Not to be cut off when the scan is stopped: the other side may have accepted already, and
    // would wait for a goodbye.
    match shield(connect(addresses, deadline)).await {
        Ok(stream) => {
            notes.opened();
            let (reader, mut writer) = stream.into_split();
            slot.provide(Ok(reader)).await;
            // It may fail: whoever has hung up needs no goodbye.
            let _ = writer.write_all(GOODBYE).await;
        }
        Err(finding) => {
            slot.provide(Err(finding)).await;
        }
    }
    Ok(())
}

async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Finding> {
    match move_on_at(deadline, TcpStream::connect(addresses)).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Finding::Closed)
        }
        Some(Err(error)) => Err(Finding::Failed(error.to_string())),
        None => Err(Finding::NoAnswer),
    }
}

async fn listen(reader: OwnedReadHalf, deadline: Instant) -> Finding {
    match move_on_at(deadline, first_line(reader)).await {
        Some(Ok(line)) if !line.is_empty() => Finding::Banner(line),
        Some(Err(error)) => Finding::Failed(error.to_string()),
        Some(Ok(_)) | None => Finding::Silent,
    }
}

/// The line that a server greets with, made safe for a terminal; empty if there is none.
async fn first_line(reader: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut line = Vec::new();
    BufReader::new(reader.take(LONGEST_BANNER))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(String::from_utf8_lossy(&line)
        .trim()
        .escape_debug()
        .to_string())
}

/// What the visits write down, so that it is there also if the scan is stopped.
#[derive(Debug, Default)]
struct Notes {
    report: Mutex<Report>,
    n_here: AtomicUsize,
}

impl Notes {
    fn enter(&self) -> Here<'_> {
        let n_here = self.n_here.fetch_add(1, Ordering::Relaxed) + 1;
        let mut report = self.report.lock().unwrap();
        report.most_at_once = report.most_at_once.max(n_here);
        Here(self)
    }

    fn opened(&self) {
        self.report.lock().unwrap().n_opened += 1;
    }

    fn found(&self, port: u16, finding: Finding) {
        self.report.lock().unwrap().findings.push((port, finding));
    }

    fn into_report(self, stopped: Option<Cancelled>) -> Report {
        Report {
            stopped,
            ..self.report.into_inner().unwrap()
        }
    }
}

/// A visit that goes on.
struct Here<'a>(&'a Notes);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.n_here.fetch_sub(1, Ordering::Relaxed);
    }
}
