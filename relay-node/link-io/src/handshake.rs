//! From a QUIC connection to agreed keys: hello, admission, accept or refuse.

use crate::config::{Admission, DialInfo, Expect, PortConfig, Refusal};
use crate::control::{ControlReader, ControlWriter, Incoming};
use crate::error::LinkError;
use crate::seal::{Direction, KeySource, KeyUnavailable, Opener, Sealer};
use crate::slots::Slot;
use crate::tls::{peer_begins_unix_s, peer_names};
use crate::worker::{Attachment, Outbound};
use relay_core::Peer;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::session::{Cipher, LANES_MAX, LANES_SINCE_VERSION, Message, RefusalCode, Role};
use wire_format::{DATAGRAM_BYTES_MAX, ReceiverIndex};

/// Diallers offer no more ciphers than this.
const CIPHERS_MAX: usize = 4;
/// Every path carries what QUIC demands of it (RFC 9000 section 14).
const MAX_DATAGRAM_LEAST: u16 = 1200;
/// How long a refused dialler gets to read why.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// QUIC application error codes.
pub(crate) const CLOSE_NORMAL: u32 = 0;
pub(crate) const CLOSE_REFUSED: u32 = 1;

/// A link both sides agree on.
pub(crate) struct Agreed {
    /// For the worker of each lane.
    pub(crate) lanes: Vec<Attachment>,
    pub(crate) dialled: bool,
    /// Whether the two sides told each other their lanes; then both say when they are ready.
    pub(crate) said_lanes: bool,
    pub(crate) connection: quinn::Connection,
    pub(crate) reader: ControlReader,
    pub(crate) writer: ControlWriter,
    pub(crate) outbox: mpsc::Receiver<Outbound>,
}

/// What both sides settled.
struct Terms {
    version: u8,
    cipher: Cipher,
    /// By lane, lane 0 first: the names that the peer gave, each beside the slot that it goes with.
    theirs: Vec<ReceiverIndex>,
    max_datagram: u16,
}

/// The dialler's part, on an authenticated connection.
pub(crate) async fn dial(
    config: &PortConfig,
    slots: &[Slot],
    connection: quinn::Connection,
    address: SocketAddr,
    expect: Expect,
    role: Role,
) -> Result<Agreed, LinkError> {
    let failed = |reason: String| LinkError::Failed { address, reason };
    let lost = |connection: &quinn::Connection, reason: String| match connection.close_reason() {
        Some(error) => connection_error(address, &error),
        None => LinkError::Failed { address, reason },
    };
    if let Expect::Relay { begins_unix_s, .. } = &expect
        && peer_begins_unix_s(&connection) < *begins_unix_s
    {
        connection.close(CLOSE_REFUSED.into(), b"the certificate is void");
        let reason = "its certificate is void: the relay joined anew since it was issued".to_owned();
        return Err(LinkError::Untrusted { address, reason });
    }
    let (send, receive) = connection.open_bi().await.map_err(|error| connection_error(address, &error))?;
    let mut writer = ControlWriter::new(send);
    let mut reader = ControlReader::new(receive);
    let hello = Message::Hello {
        versions: config.versions,
        receiver: slots[0].receiver.0,
        ciphers: config.ciphers.clone(),
        max_datagram: config.max_datagram,
        role,
    };
    writer.write(&hello).await.map_err(|error| lost(&connection, error.to_string()))?;
    let answer = reader.read().await.map_err(|error| lost(&connection, error.to_string()))?;
    let mut terms = match answer {
        Incoming::Message(Message::Accept { version, receiver, cipher, max_datagram }) => {
            let (least, most) = config.versions;
            if !(least..=most).contains(&version) || !config.ciphers.contains(&cipher) {
                return Err(failed("accepted with a version or cipher that was not offered".to_owned()));
            }
            Terms { version, cipher, theirs: vec![ReceiverIndex(receiver)], max_datagram }
        }
        Incoming::Message(Message::Refuse { request: None, code, reason }) => {
            connection.close(CLOSE_NORMAL.into(), b"refused");
            return Err(LinkError::Refused { address, code, reason });
        }
        Incoming::Message(_) | Incoming::Ready => {
            return Err(failed("answered hello with something else".to_owned()));
        }
    };
    if terms.max_datagram < MAX_DATAGRAM_LEAST {
        return Err(failed(format!("accepts datagrams of only {} bytes", terms.max_datagram)));
    }
    let peer = match expect {
        Expect::Relay { name: _, node, begins_unix_s: _ } => Peer::Relay { node },
        Expect::Upstream => Peer::Upstream,
    };
    if has_lanes(&peer, terms.version) {
        let offered = reader.read().await.map_err(|error| lost(&connection, error.to_string()))?;
        let offered =
            read_lanes(offered).ok_or_else(|| failed("did not say its lanes as it should".to_owned()))?;
        terms.theirs.extend(offered);
        terms.theirs.truncate(slots.len());
        let receivers = slots[1..terms.theirs.len()].iter().map(|slot| slot.receiver.0).collect();
        let lanes = Message::Lanes { receivers };
        writer.write(&lanes).await.map_err(|error| lost(&connection, error.to_string()))?;
    }
    agree(config, slots, connection, peer, &terms, reader, writer, true)
        .map_err(|KeyUnavailable| failed("no keys from the TLS exporter".to_owned()))
}

/// The accepting side's part. `take` finds slots for a peer once it is admitted: one for each lane. `Err` has been told to
/// the dialler.
pub(crate) async fn accept<P: AsRef<[Slot]>>(
    config: &PortConfig,
    connection: quinn::Connection,
    admission: &Admission,
    take: impl FnOnce(&Peer, bool) -> Result<P, Refusal>,
) -> Result<(Agreed, P), AcceptError> {
    let (send, receive) = connection.accept_bi().await?;
    let mut writer = ControlWriter::new(send);
    let mut reader = ControlReader::new(receive);
    let failed = |error: &dyn std::fmt::Display| AcceptError::Failed(error.to_string());
    let hello = reader.read().await.map_err(|error| failed(&error))?;
    let admitted = admit(config, &connection, hello, admission).and_then(|(peer, terms)| {
        let places = take(&peer, has_lanes(&peer, terms.version))?;
        Ok((peer, terms, places))
    });
    let (peer, mut terms, places) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tell(connection, writer, &refusal).await;
            return Err(AcceptError::Refused(refusal));
        }
    };
    let slots = places.as_ref();
    let accept = Message::Accept {
        version: terms.version,
        receiver: slots[0].receiver.0,
        cipher: terms.cipher,
        max_datagram: config.max_datagram,
    };
    writer.write(&accept).await.map_err(|error| failed(&error))?;
    if has_lanes(&peer, terms.version) {
        let receivers = slots[1..].iter().map(|slot| slot.receiver.0).collect();
        writer.write(&Message::Lanes { receivers }).await.map_err(|error| failed(&error))?;
        let used = reader.read().await.map_err(|error| failed(&error))?;
        let used = read_lanes(used).filter(|used| used.len() < slots.len());
        terms.theirs.extend(used.ok_or_else(|| failed(&"the dialler did not say its lanes as it should"))?);
    }
    let agreed = agree(config, slots, connection, peer, &terms, reader, writer, false)
        .map_err(|KeyUnavailable| failed(&"no keys from the TLS exporter"))?;
    Ok((agreed, places))
}

/// Whether the two sides tell each other their lanes.
fn has_lanes(peer: &Peer, version: u8) -> bool {
    version >= LANES_SINCE_VERSION && matches!(peer, Peer::Relay { node: _ })
}

fn read_lanes(incoming: Incoming) -> Option<Vec<ReceiverIndex>> {
    match incoming {
        Incoming::Message(Message::Lanes { receivers }) if receivers.len() < LANES_MAX => {
            Some(receivers.into_iter().map(ReceiverIndex).collect())
        }
        Incoming::Message(_) | Incoming::Ready => None,
    }
}

async fn tell(connection: quinn::Connection, mut writer: ControlWriter, refusal: &Refusal) {
    let message = Message::Refuse { request: None, code: refusal.code, reason: refusal.reason.clone() };
    let told = async {
        if writer.write(&message).await.is_ok() {
            writer.finish().await;
        }
    };
    // A dialler that does not read its refusal misses it.
    let _ = tokio::time::timeout(REFUSAL_LINGER, told).await;
    connection.close(CLOSE_REFUSED.into(), b"refused");
}

/// Why a dialler did not get a link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
}

fn admit(
    config: &PortConfig,
    connection: &quinn::Connection,
    hello: Incoming,
    admission: &Admission,
) -> Result<(Peer, Terms), Refusal> {
    let Incoming::Message(Message::Hello { versions, receiver, ciphers, max_datagram, role }) = hello else {
        return Err(Refusal::new(RefusalCode::Invalid, "say hello first"));
    };
    let (least, most) = config.versions;
    let version = most.min(versions.1);
    if version < least.max(versions.0) {
        let reason = format!(
            "no version of the link protocol in common: this side speaks {least} to {most}, you speak {} to {}; \
             upgrade the older one",
            versions.0, versions.1
        );
        return Err(Refusal::new(RefusalCode::Version, reason));
    }
    if ciphers.len() > CIPHERS_MAX {
        return Err(Refusal::new(RefusalCode::Invalid, format!("more than {CIPHERS_MAX} ciphers offered")));
    }
    let Some(cipher) = ciphers.into_iter().find(|cipher| config.ciphers.contains(cipher)) else {
        return Err(Refusal::new(RefusalCode::Invalid, "no cipher in common"));
    };
    if max_datagram < MAX_DATAGRAM_LEAST {
        let reason = format!("max_datagram is {max_datagram}, it must be at least {MAX_DATAGRAM_LEAST}");
        return Err(Refusal::new(RefusalCode::Invalid, reason));
    }
    let info = DialInfo {
        address: canonical(connection.remote_address()),
        role,
        certificate_names: peer_names(connection),
        certificate_begins_unix_s: peer_begins_unix_s(connection),
    };
    let peer = admission(&info)?;
    Ok((peer, Terms { version, cipher, theirs: vec![ReceiverIndex(receiver)], max_datagram }))
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything about a link comes together")]
fn agree(
    config: &PortConfig,
    slots: &[Slot],
    connection: quinn::Connection,
    peer: Peer,
    terms: &Terms,
    reader: ControlReader,
    mut writer: ControlWriter,
    dialled: bool,
) -> Result<Agreed, KeyUnavailable> {
    writer.speak(terms.version);
    let source = |lane, direction| {
        let connection = connection.clone();
        KeySource {
            exporter: Box::new(move |out, label, context| {
                connection.export_keying_material(out, label, context).map_err(|_| KeyUnavailable)
            }),
            version: terms.version,
            cipher: terms.cipher,
            direction,
            lane,
            generation_log2: config.generation_packets_log2,
        }
    };
    let (outwards, inwards) = if dialled {
        (Direction::FromDialler, Direction::ToDialler)
    } else {
        (Direction::ToDialler, Direction::FromDialler)
    };
    let (outbound, outbox) = mpsc::channel(config.limits.messages.max(1));
    let max_datagram = terms.max_datagram.min(config.max_datagram).min(DATAGRAM_BYTES_MAX as u16);
    let said_lanes = has_lanes(&peer, terms.version);
    let lane = |(lane, (slot, theirs)): (u8, (&Slot, &ReceiverIndex))| {
        Ok(Attachment {
            slot: *slot,
            peer: peer.clone(),
            sealer: Sealer::new(source(lane, outwards), *theirs)?,
            opener: Opener::new(source(lane, inwards))?,
            max_datagram,
            connection: connection.clone(),
            outbound: outbound.clone(),
            dialled,
            ready: dialled && !said_lanes,
        })
    };
    let lanes = (0..).zip(slots.iter().zip(&terms.theirs)).map(lane).collect::<Result<_, _>>()?;
    Ok(Agreed { lanes, dialled, said_lanes, connection, reader, writer, outbox })
}

/// Says by whose fault a dial failed.
pub(crate) fn connection_error(address: SocketAddr, error: &quinn::ConnectionError) -> LinkError {
    match error {
        quinn::ConnectionError::TimedOut => LinkError::Timeout(address),
        quinn::ConnectionError::TransportError(transport) if is_tls_alert(transport.code) => {
            let mut reason = transport.reason.clone();
            // How rustls names this one; people need to hear what to check.
            if reason.ends_with("UnknownIssuer") {
                reason += ": it is not of the CA that is trusted here; check the CA's fingerprint";
            }
            LinkError::Untrusted { address, reason }
        }
        quinn::ConnectionError::ConnectionClosed(close) if is_tls_alert(close.error_code) => {
            LinkError::Untrusted { address, reason: format!("it does not accept our certificate: {close}") }
        }
        quinn::ConnectionError::LocallyClosed => LinkError::PortClosed,
        quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::CidsExhausted => LinkError::Failed { address, reason: error.to_string() },
    }
}

/// Codes 0x100 to 0x1FF are TLS alerts (RFC 9001 section 4.8).
fn is_tls_alert(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// An IPv4 address as such, even if the socket speaks IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
