//! The one place that knows how [`Message`]s become bytes: a 4-byte big-endian length, then bincode (standard
//! configuration). Every length that a peer claims is checked before anything is allocated for it.

use crate::session::Message;

/// Largest encoded message, without its length prefix.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// The length prefix claims more than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes is longer than the {MESSAGE_BYTES_MAX} allowed")]
    TooLong(usize),
    /// Not an encoding of a message, or bytes follow it.
    #[error("malformed message")]
    Malformed,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>()
}

/// Appends prefix and message to `out`.
///
/// # Errors
/// [`CodecError::TooLong`] if the message exceeds [`MESSAGE_BYTES_MAX`]; `out` is then unchanged.
pub fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let body = bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|_| CodecError::Malformed)?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong(body.len()));
    }
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Length of the body that a prefix announces.
///
/// # Errors
/// [`CodecError::TooLong`] if it exceeds [`MESSAGE_BYTES_MAX`].
pub fn body_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, CodecError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MESSAGE_BYTES_MAX { Err(CodecError::TooLong(length)) } else { Ok(length) }
}

/// Decodes a body, all of it.
///
/// # Errors
/// [`CodecError::Malformed`] unless the bytes are exactly one message.
pub fn decode(body: &[u8]) -> Result<Message, CodecError> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong(body.len()));
    }
    match bincode::serde::decode_from_slice(body, config()) {
        Ok((message, used)) if used == body.len() => Ok(message),
        Ok(_) | Err(_) => Err(CodecError::Malformed),
    }
}
