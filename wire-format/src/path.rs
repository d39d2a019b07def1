//! Frames about the path between two neighbours: halves of frames that are too large for it, probes of its size, and
//! challenges of its address.

use crate::FrameError;

/// Bytes of a fragment's body before its share of the frame.
pub const FRAGMENT_HEADER_BYTES: usize = 3;

/// Everything of a fragment but its share of the frame.
///
/// ```text
/// id (16) , zero (7) second (1) , bytes of a frame, its type and length included
/// ```
///
/// The first half begins with the frame's type and length, so both halves together say how long they must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHeader {
    /// What both halves of a frame share, and no other frame of the link for a while.
    pub id: u16,
    /// It is the second half.
    pub second: bool,
}

impl FragmentHeader {
    /// Reads the header at the beginning of a frame's body; the share of the frame follows.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body ends before that begins.
    pub fn decode(body: &[u8]) -> Result<FragmentHeader, FrameError> {
        match body {
            [high, low, flags, _, ..] => {
                Ok(FragmentHeader { id: u16::from_be_bytes([*high, *low]), second: flags & 0x01 != 0 })
            }
            _ => Err(FrameError::Truncated),
        }
    }

    /// The header.
    pub fn encode(&self) -> [u8; FRAGMENT_HEADER_BYTES] {
        let [high, low] = self.id.to_be_bytes();
        [high, low, u8::from(self.second)]
    }
}

/// Whether the path takes datagrams of a size: the padded datagram that asks, and the small frame that answers.
///
/// ```text
/// kind (8) 0 question, 1 answer , bytes (16) , count (16)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MtuProbe {
    /// It answers.
    pub answer: bool,
    /// UDP payload of the datagram that asked.
    pub bytes: u16,
    /// Probes that its sender had sent by then, itself included, low 16 bits.
    pub count: u16,
}

impl MtuProbe {
    /// Length of the body.
    pub const BYTES: usize = 5;

    /// Reads a body. Bytes behind the known fields belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`FrameError`] if the body is too short or of an unknown kind.
    pub fn decode(body: &[u8]) -> Result<MtuProbe, FrameError> {
        let (b, _) = body.split_first_chunk::<{ MtuProbe::BYTES }>().ok_or(FrameError::Truncated)?;
        Ok(MtuProbe {
            answer: is_answer(b[0])?,
            bytes: u16::from_be_bytes([b[1], b[2]]),
            count: u16::from_be_bytes([b[3], b[4]]),
        })
    }

    /// The body.
    pub fn encode(&self) -> [u8; MtuProbe::BYTES] {
        let ([b1, b2], [b3, b4]) = (self.bytes.to_be_bytes(), self.count.to_be_bytes());
        [u8::from(self.answer), b1, b2, b3, b4]
    }
}

/// Whether the peer receives at an address that datagrams of its link began to come from: the question, sent there, and
/// the answer.
///
/// ```text
/// kind (8) 0 question, 1 answer , token (64)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathChallenge {
    /// It answers.
    pub answer: bool,
    /// Random, chosen by who asks: only who has received the question can repeat it.
    pub token: [u8; 8],
}

impl PathChallenge {
    /// Length of the body.
    pub const BYTES: usize = 9;

    /// Reads a body. Bytes behind the known fields belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`FrameError`] if the body is too short or of an unknown kind.
    pub fn decode(body: &[u8]) -> Result<PathChallenge, FrameError> {
        let (b, _) = body.split_first_chunk::<{ PathChallenge::BYTES }>().ok_or(FrameError::Truncated)?;
        let [kind, token @ ..] = *b;
        Ok(PathChallenge { answer: is_answer(kind)?, token })
    }

    /// The body.
    pub fn encode(&self) -> [u8; PathChallenge::BYTES] {
        let mut b = [u8::from(self.answer); PathChallenge::BYTES];
        b[1..].copy_from_slice(&self.token);
        b
    }
}

fn is_answer(kind: u8) -> Result<bool, FrameError> {
    match kind {
        0 => Ok(false),
        1 => Ok(true),
        2.. => Err(FrameError::Field),
    }
}
