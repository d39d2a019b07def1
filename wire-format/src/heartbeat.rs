//! The heartbeat: feedback about the other direction, probe and sign of life in one.

use crate::{FrameError, WireTime, send_time_bytes};

/// Feedback about the other direction, probe and sign of life in one.
///
/// ```text
/// flags (8) , highest (32) , received (32) , echo time (24) , echo delay (24) , jitter (16)
/// probes sent (16) , probes received (16) , large received (16)         unless the sender is older
/// queueing delay (16) , bytes received (32)                             not in each, nor from older senders
/// media through (16) , media sent (32)                                  not in each, nor from older senders
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Flag 0x01: the sender needs this link watched closely (media or a route depends on it).
    pub in_use: bool,
    /// Low 32 bits of the highest packet number received.
    pub highest: u32,
    /// Datagrams received since the link came up, low 32 bits.
    pub received: u32,
    /// Send time of the newest datagram received and how long ago it came. Flag 0x02: present.
    pub echo: Option<Echo>,
    /// Interarrival jitter of what the sender of this heartbeat receives, units of 10 us.
    pub jitter: u16,
    /// Flag 0x04: the sender asks for what is missing, and understands what is sent again and parity.
    pub repairs: bool,
    /// What only senders say that cut frames, rejoin them and answer probes.
    pub sizes: Option<SizeCounts>,
    /// How fast it arrives. Only behind `sizes`.
    pub arrival: Option<Arrival>,
    /// How much media was sent. Only behind `arrival`.
    pub media: Option<MediaSent>,
}

/// What lets the receiver of a heartbeat compute a round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Send time of the datagram answered.
    pub time: WireTime,
    /// Time from its arrival to this heartbeat, units of 10 us, 24 bits.
    pub delay: u32,
}

/// Counts since the link came up, low 16 bits, about which sizes of datagrams arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SizeCounts {
    /// MTU probes that the sender of this heartbeat has sent.
    pub probes_sent: u16,
    /// MTU probes that it has received.
    pub probes_received: u16,
    /// Datagrams of more than [`crate::DATAGRAM_BYTES_BASE`] that it has received, probes not counted.
    pub large_received: u16,
}

/// From which the other end learns how much the path carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrival {
    /// Least time that datagrams took since the heartbeat before, above the least of the last 10 to 20 s: units of 10 us.
    /// What waits in queues on the way, without a synchronised clock.
    pub queueing: u16,
    /// Bytes received since the link came up (UDP payload), low 32 bits.
    pub bytes: u32,
}

/// From which the other end learns how much of the media is gone for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MediaSent {
    /// Low 16 bits of the packet number below which datagrams count.
    pub through: u16,
    /// Datagrams with media sent for the first time since the link came up, low 32 bits.
    pub datagrams: u32,
}

impl Heartbeat {
    /// Least length of the body.
    pub const BYTES_MIN: usize = 17;
    /// Length of the body with all fields of this version.
    pub const BYTES_MAX: usize = 35;
    /// Length of the body that ends with the counts of sizes.
    const BYTES_SIZES: usize = 23;
    /// Length of the body that ends with what arrives.
    const BYTES_ARRIVAL: usize = 29;

    /// Reads a body. Bytes behind the known fields belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body is too short.
    pub fn decode(body: &[u8]) -> Result<Heartbeat, FrameError> {
        let (b, rest) = body.split_first_chunk::<{ Heartbeat::BYTES_MIN }>().ok_or(FrameError::Truncated)?;
        let echo = Echo {
            time: WireTime::from_bits(u32::from_be_bytes([0, b[9], b[10], b[11]])),
            delay: u32::from_be_bytes([0, b[12], b[13], b[14]]),
        };
        let sizes = rest.first_chunk::<6>().map(|s| SizeCounts {
            probes_sent: u16::from_be_bytes([s[0], s[1]]),
            probes_received: u16::from_be_bytes([s[2], s[3]]),
            large_received: u16::from_be_bytes([s[4], s[5]]),
        });
        let arrival = rest.get(6..).and_then(|rest| rest.first_chunk::<6>()).map(|a| Arrival {
            queueing: u16::from_be_bytes([a[0], a[1]]),
            bytes: u32::from_be_bytes([a[2], a[3], a[4], a[5]]),
        });
        let media = rest.get(12..).and_then(|rest| rest.first_chunk::<6>()).map(|m| MediaSent {
            through: u16::from_be_bytes([m[0], m[1]]),
            datagrams: u32::from_be_bytes([m[2], m[3], m[4], m[5]]),
        });
        Ok(Heartbeat {
            in_use: b[0] & 0x01 != 0,
            highest: u32::from_be_bytes([b[1], b[2], b[3], b[4]]),
            received: u32::from_be_bytes([b[5], b[6], b[7], b[8]]),
            echo: (b[0] & 0x02 != 0).then_some(echo),
            jitter: u16::from_be_bytes([b[15], b[16]]),
            repairs: b[0] & 0x04 != 0,
            sizes,
            arrival,
            media,
        })
    }

    /// Writes the body to the beginning of `out` (at least [`Heartbeat::BYTES_MAX`] bytes); returns its length.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let (b, rest) = out.split_at_mut(Heartbeat::BYTES_MIN);
        b.fill(0);
        b[0] = u8::from(self.in_use) | u8::from(self.echo.is_some()) << 1 | u8::from(self.repairs) << 2;
        b[1..5].copy_from_slice(&self.highest.to_be_bytes());
        b[5..9].copy_from_slice(&self.received.to_be_bytes());
        if let Some(echo) = self.echo {
            b[9..12].copy_from_slice(&send_time_bytes(echo.time));
            b[12..15].copy_from_slice(&echo.delay.min(0x00FF_FFFF).to_be_bytes()[1..]);
        }
        b[15..17].copy_from_slice(&self.jitter.to_be_bytes());
        let Some(sizes) = self.sizes else { return Heartbeat::BYTES_MIN };
        rest[0..2].copy_from_slice(&sizes.probes_sent.to_be_bytes());
        rest[2..4].copy_from_slice(&sizes.probes_received.to_be_bytes());
        rest[4..6].copy_from_slice(&sizes.large_received.to_be_bytes());
        let Some(arrival) = self.arrival else { return Heartbeat::BYTES_SIZES };
        rest[6..8].copy_from_slice(&arrival.queueing.to_be_bytes());
        rest[8..12].copy_from_slice(&arrival.bytes.to_be_bytes());
        let Some(media) = self.media else { return Heartbeat::BYTES_ARRIVAL };
        rest[12..14].copy_from_slice(&media.through.to_be_bytes());
        rest[14..18].copy_from_slice(&media.datagrams.to_be_bytes());
        Heartbeat::BYTES_MAX
    }
}
