//! What a port is made from, and whom it lets in.

use crate::seal::GENERATION_PACKETS_LOG2;
use relay_core::Peer;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire_format::session::{Cipher, RefusalCode, Role, WIRE_VERSIONS};
use wire_format::{DATAGRAM_BYTES_MAX, NodeIndex};

/// Who this process is to its peers. A relay has one; an SFU proves itself with a token instead.
pub struct Identity {
    /// The leaf first, its issuers after it, the overlay's CA last: clients that know the CA only by its fingerprint
    /// need to see it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// What makes a peer's certificate believable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// It chains to this CA certificate.
    Ca(CertificateDer<'static>),
    /// It chains to a CA certificate, sent along by the peer, whose DER has this SHA-256 digest.
    Fingerprint([u8; 32]),
}

/// Bounds of everything a port holds for its peers. What exceeds them is refused or dropped, and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Links at once; at most [`Limits::LINKS_MAX`].
    pub links: usize,
    /// Incoming handshakes at once, of diallers who have proved their address (QUIC Retry).
    pub handshakes: usize,
    /// From the first packet of a connection to `Accept`.
    pub handshake_timeout: Duration,
    /// Messages waiting to be written to one link; one more closes it.
    pub messages: usize,
    /// Commands waiting for the worker; senders wait.
    pub commands: usize,
    /// QUIC datagrams waiting for the QUIC endpoint; one more is dropped.
    pub quic_datagrams: usize,
    /// Local RTP packets waiting for the worker; one more is refused.
    pub local_packets: usize,
}

impl Limits {
    /// As many links as a receiver index can name.
    pub const LINKS_MAX: usize = 4096;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            links: 1024,
            handshakes: 128,
            handshake_timeout: Duration::from_secs(5),
            messages: 1024,
            commands: 1024,
            quic_datagrams: 2048,
            local_packets: 4096,
        }
    }
}

/// What a port is made from.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Where the one UDP socket is bound. An unspecified IPv6 address takes IPv4 too.
    pub bind: SocketAddr,
    /// Kernel buffer for what arrives, bytes; the kernel may grant less.
    pub receive_buffer_bytes: usize,
    /// Kernel buffer for what leaves, bytes; the kernel may grant less.
    pub send_buffer_bytes: usize,
    /// Who this process is; without it nobody can dial this port.
    pub identity: Option<Identity>,
    /// Whom it believes.
    pub trust: Trust,
    /// What it can open, best first.
    pub ciphers: Vec<Cipher>,
    /// Lowest and highest version of the link protocol spoken.
    pub versions: (u8, u8),
    /// Largest sealed datagram accepted, bytes of UDP payload.
    pub max_datagram: u16,
    /// Packet numbers of one key generation, as a power of two. Not negotiated: all ports of an overlay have the default, and
    /// only tests that want to see many generations choose another.
    pub generation_packets_log2: u32,
    /// Bounds.
    pub limits: Limits,
}

impl PortConfig {
    /// A port that trusts `trust`, has no identity yet and binds any free port of all addresses.
    pub fn new(trust: Trust) -> PortConfig {
        PortConfig {
            bind: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            receive_buffer_bytes: 8 << 20,
            send_buffer_bytes: 8 << 20,
            identity: None,
            trust,
            ciphers: vec![Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305],
            versions: WIRE_VERSIONS,
            max_datagram: DATAGRAM_BYTES_MAX as u16,
            generation_packets_log2: GENERATION_PACKETS_LOG2,
            limits: Limits::default(),
        }
    }
}

/// Whom a dialler wants to find at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// This relay: its certificate must carry the name.
    Relay {
        /// Name of the relay, a DNS name in its certificate.
        name: String,
        /// Its index.
        node: NodeIndex,
        /// Its certificate must not begin before this, seconds since 1970: earlier ones are void.
        begins_unix_s: u64,
    },
    /// Any relay of the overlay, for an SFU.
    Upstream,
}

/// A dialler that has completed the TLS handshake and said hello.
#[derive(Clone, Debug)]
pub struct DialInfo {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Who it says it is: a relay's index is only a claim until its certificate's name is compared with the name of
    /// that neighbour.
    pub role: Role,
    /// DNS names of its certificate, which chains to the trusted CA; empty if it presented none.
    pub certificate_names: Vec<String>,
    /// When its certificate begins (`notBefore`), seconds since 1970; zero if it presented none.
    pub certificate_begins_unix_s: u64,
}

/// Why a dialler is not let in. Both parts are sent to it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code:?}: {reason}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what is wrong and what to do.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Refusal {
        Refusal { code, reason: reason.into() }
    }
}

/// Decides who may link to this port, and as what. Called on the runtime's threads, once for each dialler.
pub type Admission = Arc<dyn Fn(&DialInfo) -> Result<Peer, Refusal> + Send + Sync>;

/// The admission of a port that is never dialled.
pub fn admit_nobody() -> Admission {
    Arc::new(|_| Err(Refusal::new(RefusalCode::Invalid, "nobody links to this port; it only dials")))
}
