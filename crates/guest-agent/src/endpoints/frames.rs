//! The body of a request as frames.

use std::time::Duration;

use agent_protocol::{Frame, FrameDecoder};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{Error, Result};

/// Frames as they arrive.
pub struct Frames {
    body: Incoming,
    pub(super) decoder: FrameDecoder,
}

impl Frames {
    /// Reads this body.
    pub fn new(body: Incoming) -> Self {
        Self { body, decoder: FrameDecoder::new() }
    }

    /// The next frame; `None` at the end of the body.
    ///
    /// # Errors
    /// What is no frame; a body that breaks off.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.feed(data);
                    }
                }
                Some(Err(source)) => return Err(Error::BodyLost { source }),
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame, within a time.
    ///
    /// # Errors
    /// As [`Frames::next`], and [`Error::BodyTimeout`].
    pub async fn next_within(&mut self, time: Duration) -> Result<Option<Frame>> {
        tokio::time::timeout(time, self.next())
            .await
            .unwrap_or(Err(Error::BodyTimeout { seconds: time.as_secs() }))
    }

    /// Reads the rest and throws it away: a body that is dropped before its end resets its stream,
    /// and what the host had on its way then counts as misuse of the connection.
    pub fn drain(mut self) {
        tokio::task::spawn_local(async move { while let Some(Ok(_)) = self.body.frame().await {} });
    }
}
