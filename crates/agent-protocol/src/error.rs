//! What can be wrong with bytes and values of the protocol, with a hint for each.

/// Why a message of the other side cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A frame announces more payload than either side may send.
    #[error("Frame of {length} bytes is larger than {limit}")]
    FrameTooLarge {
        /// Announced length in bytes.
        length: usize,
        /// Largest allowed length in bytes.
        limit: usize,
    },
    /// A frame has a kind that the protocol does not know.
    #[error("Unknown frame kind `{kind}`")]
    UnknownFrameKind {
        /// The byte on the wire.
        kind: u8,
    },
    /// A stream ended in the middle of a frame.
    #[error("Stream ended inside a frame, {missing} bytes short")]
    TruncatedFrame {
        /// Bytes that the frame still lacked, at least.
        missing: usize,
    },
    /// A body is no JSON at all.
    #[error("Body is not valid JSON")]
    Syntax {
        /// What the parser found.
        source: serde_json::Error,
    },
    /// A body is JSON with a field or a value that the request does not have.
    #[error("{message}")]
    Value {
        /// The field, the value, and what is allowed.
        message: String,
        /// The nearest right name, when one is near.
        hint: Option<String>,
    },
    /// One event of a stream is longer than allowed.
    #[error("Event is longer than {limit} bytes")]
    EventTooLarge {
        /// Largest allowed length in bytes.
        limit: usize,
    },
    /// An event carries no field of the protocol.
    #[error("Event `{event}` is neither output nor exit")]
    UnknownEvent {
        /// The start of the event's data.
        event: String,
    },
}

impl Error {
    /// What the sender can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::FrameTooLarge { limit, .. } => {
                Some(format!("Split the data into frames of at most {limit} bytes"))
            }
            Self::UnknownFrameKind { .. } => {
                Some("Host and agent must be of the same release".into())
            }
            Self::Value { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// Shorthand for a value that is refused.
    pub fn value(message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Value { message: message.into(), hint }
    }
}
