//! The control stream of a link: messages in, messages out, each behind a length that is checked before it is believed.
//!
//! An empty body is no message but a sign that its sender is ready for sealed datagrams: of the dialler once it has the
//! answer to its hello, and of the other side once it has read the dialler's lanes, where these are said. Nobody sends
//! any before that sign (or the first sealed datagram or message after it), so that none arrives where it cannot be
//! opened yet.

use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use wire_format::codec::{CodecError, MESSAGE_BYTES_MAX, PREFIX_BYTES, body_length, decode, encode};
use wire_format::session::{Message, WIRE_VERSIONS};

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(Message),
    Ready,
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("bad message: {0}")]
    Codec(#[from] CodecError),
    #[error("control stream ended")]
    Ended,
    #[error("the other end never became ready")]
    NeverReady,
    #[error("{0}")]
    Read(quinn::ReadError),
}

impl From<ReadExactError> for ControlError {
    fn from(error: ReadExactError) -> ControlError {
        match error {
            ReadExactError::FinishedEarly(_) => ControlError::Ended,
            ReadExactError::ReadError(error) => ControlError::Read(error),
        }
    }
}

/// Reads messages. Its buffer is as large as the largest message and no larger.
pub(crate) struct ControlReader {
    stream: RecvStream,
    body: Box<[u8]>,
}

impl ControlReader {
    pub(crate) fn new(stream: RecvStream) -> ControlReader {
        ControlReader { stream, body: vec![0; MESSAGE_BYTES_MAX].into_boxed_slice() }
    }

    /// The next message. Not cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<Incoming, ControlError> {
        let mut prefix = [0; PREFIX_BYTES];
        self.stream.read_exact(&mut prefix).await?;
        let length = body_length(prefix)?;
        if length == 0 {
            return Ok(Incoming::Ready);
        }
        let body = &mut self.body[..length];
        self.stream.read_exact(body).await?;
        Ok(Incoming::Message(decode(body)?))
    }
}

/// Writes messages.
pub(crate) struct ControlWriter {
    stream: SendStream,
    buffer: Vec<u8>,
    /// Version that the peer understands; the newest until one is agreed upon.
    version: u8,
}

impl ControlWriter {
    pub(crate) fn new(stream: SendStream) -> ControlWriter {
        ControlWriter { stream, buffer: Vec::new(), version: WIRE_VERSIONS.1 }
    }

    /// Speaks this version from now on.
    pub(crate) fn speak(&mut self, version: u8) {
        self.version = version;
    }

    /// Writes a message.
    pub(crate) async fn write(&mut self, message: &Message) -> Result<(), WriteError> {
        self.buffer.clear();
        let Some(message) = message.for_version(self.version) else { return Ok(()) };
        if let Err(error) = encode(&message, &mut self.buffer) {
            // Made by this process from what it accepted; nobody else can cause it.
            tracing::error!(%error, "message not sent");
            return Ok(());
        }
        self.stream.write_all(&self.buffer).await
    }

    /// Tells the accepting side that sealed datagrams can be opened here.
    pub(crate) async fn write_ready(&mut self) -> Result<(), WriteError> {
        self.stream.write_all(&[0; PREFIX_BYTES]).await
    }

    /// Ends the stream and waits until the peer has all of it, or the connection is gone.
    pub(crate) async fn finish(&mut self) {
        if self.stream.finish().is_ok() {
            let _ = self.stream.stopped().await;
        }
    }
}
