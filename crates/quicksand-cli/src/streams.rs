//! The process's own standard streams, read and written by threads of their own, byte for byte.
//!
//! Reading and writing block, and must not block what watches the guest and the signals. Both
//! channels are short: a slow reader holds the guest back, a slow guest holds the writer back.

use bytes::Bytes;
use std::io::{Read as _, Write};
use tokio::sync::{mpsc, oneshot};

const N_WAITING: usize = 8;

/// Standard input, chunk by chunk; the channel closes at its end.
pub fn read_stdin() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(N_WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..n])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // An input that cannot be read (a closed descriptor, say) is an empty one.
                Err(_) => return,
            }
        }
    });
    receiver
}

/// One of the output streams.
pub struct Writer {
    chunks: Option<mpsc::Sender<Bytes>>,
    outcome: oneshot::Receiver<std::io::Result<()>>,
}

impl Writer {
    /// Writes to standard output.
    pub fn stdout() -> Self {
        Self::start(std::io::stdout())
    }

    /// Writes to standard error.
    pub fn stderr() -> Self {
        Self::start(std::io::stderr())
    }

    fn start(mut stream: impl Write + Send + 'static) -> Self {
        let (chunks, mut receiver) = mpsc::channel::<Bytes>(N_WAITING);
        let (report, outcome) = oneshot::channel();
        std::thread::spawn(move || {
            let mut write_all = || {
                while let Some(chunk) = receiver.blocking_recv() {
                    stream.write_all(&chunk)?;
                    stream.flush()?;
                }
                Ok(())
            };
            let result = write_all();
            drop(receiver);
            let _ = report.send(result);
        });
        Self { chunks: Some(chunks), outcome }
    }

    /// Hands a chunk over; false when nobody reads the stream any more.
    pub async fn write(&self, chunk: Bytes) -> bool {
        match &self.chunks {
            Some(chunks) => chunks.send(chunk).await.is_ok(),
            None => false,
        }
    }

    /// Waits until everything is written.
    pub async fn finish(mut self) -> std::io::Result<()> {
        self.chunks = None;
        self.outcome.await.unwrap_or(Ok(()))
    }
}
