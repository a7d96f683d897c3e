//! Where the server writes down what happens; to write takes an await.

use std::{io, pin::Pin, sync::Arc};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use trionics::prelude::*;

/// Writes lines to a file, a terminal or a pipe, one at a time.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<Pin<Box<dyn AsyncWrite + Send>>>>);

impl Journal {
    pub(crate) fn new(paper: impl AsyncWrite + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(paper))))
    }

    /// Writes one line, and returns when it is out.
    ///
    /// A cancellation does not cut it in two: it waits for the end of the line.
    pub(crate) async fn write(&self, mut line: String) -> io::Result<()> {
        line.push('\n');
        shield(async {
            let mut paper = self.0.lock().await;
            paper.write_all(line.as_bytes()).await?;
            paper.flush().await
        })
        .await
    }
}
