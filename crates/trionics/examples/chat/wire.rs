//! Lines over a socket, within limits.

use std::{fmt::Display, io};

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};

/// The longest line that a client may send, in bytes.
const MAX_LINE: usize = 1024;

/// Reads lines of at most [`MAX_LINE`] bytes, so that nobody can fill the server's memory.
pub(crate) struct LineReader<R>(BufReader<R>);

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self(BufReader::new(reader))
    }

    /// The next line without its end, or `None` when the other side has hung up.
    pub(crate) async fn next_line(&mut self) -> io::Result<Option<String>> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "this line is too long");
        let mut line = String::new();
        let limit = MAX_LINE as u64 + 1; // and the end of the line
        if (&mut self.0).take(limit).read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.strip_suffix('\n') {
            Some(text) => Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned())),
            None if line.len() > MAX_LINE => Err(too_long()),
            None => Ok(Some(line)), // the last one, before the end
        }
    }

    /// Reads on, to the end of the connection, what nobody wants to know.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        tokio::io::copy_buf(&mut self.0, &mut tokio::io::sink()).await?;
        Ok(())
    }
}

/// Writes lines that a cancellation cannot tear apart.
///
/// A line is taken into the buffer as a whole or not at all, and stays there until it is written. Who
/// is stopped while it waits for the socket leaves the rest to the next.
pub(crate) struct LineWriter<W>(BufWriter<W>);

impl<W: AsyncWrite + Unpin> LineWriter<W> {
    pub(crate) fn new(writer: W) -> Self {
        // A buffer takes what is shorter than itself in one piece. The longest line is what somebody
        // said, with a room and a name that came in one line, too.
        Self(BufWriter::with_capacity(4 * MAX_LINE, writer))
    }

    /// Puts a line into the buffer, and waits for room there if need be.
    pub(crate) async fn put(&mut self, line: impl Display) -> io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Sends what is in the buffer.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    /// Puts a line into the buffer and sends it.
    pub(crate) async fn send(&mut self, line: impl Display) -> io::Result<()> {
        self.put(line).await?;
        self.flush().await
    }

    /// Sends what is in the buffer, and then the end.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn lines_are_read_without_their_ends() -> io::Result<()> {
        let mut reader = LineReader::new(&b"one\ntwo\r\n\nlast"[..]);
        for line in ["one", "two", "", "last"] {
            assert_eq!(reader.next_line().await?.as_deref(), Some(line));
        }
        assert_eq!(reader.next_line().await?, None);
        Ok(())
    }

    #[tokio::test]
    async fn a_line_has_its_limit() -> io::Result<()> {
        let longest = "x".repeat(MAX_LINE);
        let sent = format!("{longest}\n{longest}x\n");
        let mut reader = LineReader::new(sent.as_bytes());
        assert_eq!(reader.next_line().await?, Some(longest));
        let error = reader.next_line().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        Ok(())
    }

    #[tokio::test]
    async fn a_line_is_not_torn_when_its_writer_is_stopped() -> io::Result<()> {
        let (near, far) = tokio::io::duplex(4);
        let mut writer = LineWriter::new(near);
        assert!(writer.send("hello, world").now_or_never().is_none()); // stopped in the middle
        let mut reader = LineReader::new(far);
        let (sent, received) = tokio::join!(writer.send("BYE"), async {
            Ok::<_, io::Error>((reader.next_line().await?, reader.next_line().await?))
        });
        sent?;
        assert_eq!(
            received?,
            (Some("hello, world".to_owned()), Some("BYE".to_owned()))
        );
        Ok(())
    }
}
