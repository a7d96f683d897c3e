//! Lines over a socket. A future of theirs that is dropped half-way loses nothing: the next one goes on where it stopped.

use std::{
    fmt::Display,
    io::{self, Write},
    str,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Both directions of a connection.
pub(super) fn lines(stream: TcpStream) -> io::Result<(Incoming, Outgoing)> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let incoming = Incoming {
        reader,
        bytes: Vec::new(),
        n_taken: 0,
    };
    let outgoing = Outgoing {
        writer: Some(writer),
        bytes: Vec::new(),
        n_sent: 0,
        leaves_no_trace: false,
    };
    Ok((incoming, outgoing))
}

/// The lines that come in.
#[derive(Debug)]
pub(super) struct Incoming {
    reader: OwnedReadHalf,
    bytes: Vec<u8>,
    /// How many of the bytes belong to lines that were given out.
    n_taken: usize,
}

impl Incoming {
    const CHUNK: usize = 1024;

    /// The next line, or `None` if the peer has closed the connection after a whole line.
    pub(super) async fn next(&mut self) -> io::Result<Option<&str>> {
        let length = loop {
            let rest = &self.bytes[self.n_taken..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                break length;
            }
            self.bytes.drain(..self.n_taken);
            self.n_taken = 0;
            self.bytes.reserve(Self::CHUNK);
            if self.reader.read_buf(&mut self.bytes).await? == 0 {
                return match self.bytes[..] {
                    [] => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let line = self.n_taken..self.n_taken + length;
        self.n_taken = line.end + 1;
        str::from_utf8(&self.bytes[line])
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The next line, where the peer has no business to close the connection.
    pub(super) async fn expect(&mut self) -> io::Result<&str> {
        let hung_up = || io::Error::new(io::ErrorKind::UnexpectedEof, "the peer has hung up");
        self.next().await?.ok_or_else(hung_up)
    }
}

/// The lines that go out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Gone when it is dropped.
    writer: Option<OwnedWriteHalf>,
    bytes: Vec<u8>,
    /// How many of the bytes are on their way.
    n_sent: usize,
    leaves_no_trace: bool,
}

impl Outgoing {
    /// Writes a line down, to be sent by the next flush.
    pub(super) fn push(&mut self, line: impl Display) {
        writeln!(self.bytes, "{line}").expect("memory takes all that is written");
    }

    /// Sends what was written down.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let writer = self.writer.as_mut().expect("it is not dropped");
        while self.n_sent < self.bytes.len() {
            self.n_sent += writer.write(&self.bytes[self.n_sent..]).await?;
        }
        self.bytes.clear();
        self.n_sent = 0;
        Ok(())
    }

    /// Sends a line.
    pub(super) async fn send(&mut self, line: impl Display) -> io::Result<()> {
        self.push(line);
        self.flush().await
    }

    /// Lets the connection leave no trace in the kernel when it is dropped: the ports of thousands of connections that
    /// were closed in the ordinary way would be taken for a minute.
    ///
    /// Only for a connection whose peer has taken its leave and wants no more.
    pub(super) fn leave_no_trace(&mut self) {
        self.leaves_no_trace = true;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && self.leaves_no_trace
            && writer.as_ref().set_zero_linger().is_ok()
        {
            // Without the ordinary end of the stream, which dropping it would send.
            writer.forget();
        }
    }
}
