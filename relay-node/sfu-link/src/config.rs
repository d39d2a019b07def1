//! What a link to the overlay is made from.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use wire_format::{Codec, MediaKind, Priority, RtpDescription};

/// SHA-256 digest of the CA certificate of an overlay, as `relayctl` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads 64 hex digits. Colons between them and a leading `sha256:` are allowed.
    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let wrong = || FingerprintError(text.to_owned());
        let digits: Vec<u8> = text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
        if digits.len() != 64 {
            return Err(wrong());
        }
        bytes.try_into().map(Fingerprint).map_err(|_| wrong())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not a fingerprint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no fingerprint: 64 hex digits of the SHA-256 of the CA certificate are expected")]
pub struct FingerprintError(String);

/// Gives the token to link with, asked before every attempt: `None` stands for the one before. It is called on a thread
/// of the runtime and must not block.
pub type TokenSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What a link to the overlay is made from.
#[derive(Clone)]
pub struct Config {
    /// Relays, nearest first, each `host:port`. The next is tried when one fails.
    pub relays: Vec<String>,
    /// The JWT that says what this client may do.
    pub token: String,
    /// Where newer tokens come from: a link ends when its token expires, and the next is made with what this gives.
    /// `None` keeps `token`, until [`SfuLink::set_token`](crate::SfuLink::set_token).
    pub token_source: Option<TokenSource>,
    /// The CA that relays must prove themselves by.
    pub ca_fingerprint: Fingerprint,
    /// Local address of the UDP socket; `None` takes any free port of all addresses.
    pub bind: Option<SocketAddr>,
    /// Packets that wait for one subscription's reader; more are dropped and counted.
    pub subscription_queue: usize,
    /// How long `publish` and `subscribe` wait for an answer.
    pub request_timeout: Duration,
    /// Longest pause between two attempts to connect. The first is 100 ms, and each is up to twice the one before.
    pub backoff_max: Duration,
}

impl Config {
    /// The usual settings.
    pub fn new<R: Into<String>>(
        relays: impl IntoIterator<Item = R>,
        token: impl Into<String>,
        ca_fingerprint: Fingerprint,
    ) -> Config {
        Config {
            relays: relays.into_iter().map(Into::into).collect(),
            token: token.into(),
            token_source: None,
            ca_fingerprint,
            bind: None,
            subscription_queue: 4096,
            request_timeout: Duration::from_secs(10),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Config")
            .field("relays", &self.relays)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// A stream to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishOptions {
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream; a simulcast layer is a stream of its own.
    pub stream: String,
    /// What it carries.
    pub kind: MediaKind,
    /// Delay that packets may lose on top of the path's own delay, 1 ms to 6 s; `None` takes the default of the kind
    /// (200 ms for both).
    pub budget: Option<Duration>,
    /// 1+1 protection: packets go two disjoint ways at once, as far as there are two, and the first copy is delivered. A
    /// link or relay that fails costs nothing then; the stream costs twice the bits between relays. A relay older than
    /// 0.2 publishes without.
    pub protect: bool,
    /// What its RTP is. It decides which packets go first, and which go at all, where a link cannot carry everything; a
    /// video stream of which nothing is known has no keyframes and layers there, only packets.
    pub description: RtpDescription,
}

impl PublishOptions {
    /// A stream with the default delay budget, of whose RTP nothing is known.
    pub fn new(
        room: impl Into<String>,
        user: impl Into<String>,
        stream: impl Into<String>,
        kind: MediaKind,
    ) -> PublishOptions {
        PublishOptions {
            room: room.into(),
            user: user.into(),
            stream: stream.into(),
            kind,
            budget: None,
            protect: false,
            description: RtpDescription::default(),
        }
    }

    /// With this delay budget.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> PublishOptions {
        self.budget = Some(budget);
        self
    }

    /// Over two disjoint ways at once.
    #[must_use]
    pub fn protect(mut self) -> PublishOptions {
        self.protect = true;
        self
    }

    /// Of this codec, its payload legible and packetised as the codec's RFC says.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> PublishOptions {
        self.description.codec = Some(codec);
        self
    }

    /// With dependency descriptors in the header extension of this identifier.
    #[must_use]
    pub fn dependency_descriptor(mut self, id: NonZeroU8) -> PublishOptions {
        self.description.dependency_descriptor = Some(id);
        self
    }

    /// With frame marking (RFC 9626) in the header extension of this identifier.
    #[must_use]
    pub fn frame_marking(mut self, id: NonZeroU8) -> PublishOptions {
        self.description.frame_marking = Some(id);
        self
    }

    /// This urgent, where its packets do not say themselves how urgent they are.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> PublishOptions {
        self.description.priority = Some(priority);
        self
    }
}

/// What to receive, now and later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribeOptions {
    /// Call.
    pub room: String,
    /// Only this participant.
    pub user: Option<String>,
    /// Only the stream of this name.
    pub stream: Option<String>,
}

impl SubscribeOptions {
    /// All streams of a room.
    pub fn room(room: impl Into<String>) -> SubscribeOptions {
        SubscribeOptions { room: room.into(), user: None, stream: None }
    }

    /// Only those of this participant.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> SubscribeOptions {
        self.user = Some(user.into());
        self
    }

    /// Only those of this name.
    #[must_use]
    pub fn stream(mut self, stream: impl Into<String>) -> SubscribeOptions {
        self.stream = Some(stream.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let plain = "00ff".repeat(16);
        let fingerprint: Fingerprint = plain.parse().expect("64 digits");
        assert_eq!(fingerprint.to_string(), plain);
        assert_eq!(format!("sha256:{plain}").parse(), Ok(fingerprint));
        assert_eq!(vec!["00:FF"; 16].join(":").parse(), Ok(fingerprint));
        for wrong in ["", "00", &plain[1..], &format!("{plain}0"), &plain.replace('0', "x")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
