//! What a relay's core is made from and told, from protobuf. A file may say anything: what makes no sense is an error.

use control_proto::proto;
use control_proto::proto::recorded_link_up;
use control_proto::proto::recorded_relay_input::Kind;
use prost::Message as _;
use relay_core::{
    ClientRights, Input, LinkId, Peer, PlainPort, PlainReceived, RateLimit, Received, Relay, RelayCommand,
    RelayConfig, TokenTerms, Worker,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use wire_format::codec::{PREFIX_BYTES, body_length, decode};
use wire_format::control::limits::NAME_BYTES;
use wire_format::session::{LANES_MAX, Message};
use wire_format::{DATAGRAM_BYTES_MAX, NodeIndex, PacketNumber};

/// Datagrams of one input: more than a port gives at once.
const BATCH_MAX: usize = 16_384;
/// Bytes of one of them: a train of the kernel's.
const DATAGRAM_MAX: usize = 65_536;

/// Bytes of all datagrams of one input.
const ARENA_MAX: usize = 64 << 20;

/// A core, its relay's name, how many workers there are, and when the recording began, milliseconds since 1970.
pub(super) struct Made {
    pub(super) core: Relay,
    pub(super) name: String,
    pub(super) workers: u8,
    pub(super) began_unix_ms: u64,
}

/// What a core is made from.
pub(super) fn relay(bytes: &[u8], index: u8) -> Result<Made, String> {
    let start = proto::RecordedRelay::decode(bytes).map_err(|error| error.to_string())?;
    let count = u8::try_from(start.workers).ok().filter(|count| usize::from(*count) <= LANES_MAX);
    let count = count.filter(|count| index < *count).ok_or("a worker that there is not")?;
    let hello = start.hello.ok_or("no hello")?;
    let hello: wire_format::control::RelayHello =
        hello.try_into().map_err(|error| format!("a hello: {error}"))?;
    let name = hello.name.clone();
    let config = RelayConfig { hello, seed: start.seed };
    let mut core = Relay::of_worker(config, Worker { index, count });
    core.set_streams_max(usize::try_from(start.streams_max).unwrap_or(Relay::STREAMS_MAX));
    core.limit_clients(RateLimit::of_prices(start.packet_price, start.byte_price));
    Ok(Made { core, name, workers: count, began_unix_ms: start.began_unix_ms })
}

/// What a core is told: the input, but for the arena that it points into.
pub(super) enum Told {
    Datagrams(Vec<Received>),
    HandedOver(Vec<Range<usize>>),
    Plain(Vec<PlainReceived>),
    Other(Box<Input<'static, RelayCommand>>),
    /// So many packets of the process itself.
    Local(u32),
}

/// What a core is told, and the bytes of it.
pub(super) fn input(bytes: &[u8]) -> Result<(Told, Vec<u8>), String> {
    let input = proto::RecordedRelayInput::decode(bytes).map_err(|error| error.to_string())?;
    let mut arena = Vec::new();
    let other = |input| Told::Other(Box::new(input));
    let told = match input.kind.ok_or("an input of a kind that is not known")? {
        Kind::Timeout(proto::RecordedTimeout {}) => other(Input::Timeout),
        Kind::Datagrams(batch) => {
            bounded(batch.datagrams.len())?;
            let received = batch.datagrams.into_iter().map(|one| {
                let range = place(&mut arena, &one.plain, one.zeros)?;
                Ok(Received { link: LinkId(one.link), number: PacketNumber(one.number), range })
            });
            Told::Datagrams(received.collect::<Result<_, String>>()?)
        }
        Kind::HandedOver(items) => {
            bounded(items.items.len())?;
            let items = items.items.iter().map(|item| place(&mut arena, item, 0));
            Told::HandedOver(items.collect::<Result<_, String>>()?)
        }
        Kind::Plain(batch) => {
            bounded(batch.datagrams.len())?;
            let received = batch.datagrams.into_iter().map(|one| {
                let source = one.source.parse().map_err(|_| "an address that is none")?;
                let range = place(&mut arena, &one.packet, one.zeros)?;
                Ok(PlainReceived { port: PlainPort(one.port), source, range })
            });
            Told::Plain(received.collect::<Result<_, String>>()?)
        }
        Kind::Local(count) => Told::Local(count),
        Kind::Challenge(link) => other(Input::Challenge { link: LinkId(link), token: [0; 8] }),
        Kind::LinkUp(up) => other(Input::LinkUp {
            link: LinkId(up.link),
            peer: peer(up.peer)?,
            max_datagram: u16::try_from(up.max_datagram)
                .ok()
                .filter(|bytes| usize::from(*bytes) <= DATAGRAM_BYTES_MAX)
                .ok_or("a datagram that is too large")?,
        }),
        Kind::LinkDown(link) => other(Input::LinkDown { link: LinkId(link) }),
        Kind::Message(said) => {
            other(Input::Message { link: LinkId(said.link), message: message(&said.message)? })
        }
        Kind::Controller(said) => {
            let said = said.try_into().map_err(|error| format!("what the controller said: {error}"))?;
            other(Input::Command(RelayCommand::Controller(said)))
        }
        Kind::Command(command) => other(Input::Command(match proto::RecordedCommand::try_from(command) {
            Ok(proto::RecordedCommand::ControllerUp) => RelayCommand::ControllerUp,
            Ok(proto::RecordedCommand::ControllerDown) => RelayCommand::ControllerDown,
            Ok(proto::RecordedCommand::Drain) => RelayCommand::Drain,
            Ok(proto::RecordedCommand::Shutdown) => RelayCommand::Shutdown,
            Ok(proto::RecordedCommand::Unspecified) | Err(_) => {
                return Err("a command that is not known".to_owned());
            }
        })),
    };
    Ok((told, arena))
}

/// What a core had counted, by name.
pub(super) fn counts(bytes: &[u8]) -> Result<BTreeMap<String, u64>, String> {
    let counts = proto::RecordedCounts::decode(bytes).map_err(|error| error.to_string())?;
    Ok(counts.counts.into_iter().map(|one| (one.name, one.count)).collect())
}

fn bounded(count: usize) -> Result<(), String> {
    if count <= BATCH_MAX { Ok(()) } else { Err(format!("{count} datagrams at once")) }
}

fn place(arena: &mut Vec<u8>, bytes: &[u8], zeros: u32) -> Result<Range<usize>, String> {
    let length = bytes.len().saturating_add(zeros as usize);
    if length > DATAGRAM_MAX || arena.len() + length > ARENA_MAX {
        return Err(format!("a datagram of {length} bytes"));
    }
    let start = arena.len();
    arena.extend_from_slice(bytes);
    arena.resize(start + length, 0);
    Ok(start..arena.len())
}

fn peer(peer: Option<recorded_link_up::Peer>) -> Result<Peer, String> {
    Ok(match peer {
        None => Peer::Upstream,
        Some(recorded_link_up::Peer::Node(node)) => {
            Peer::Relay { node: NodeIndex(u16::try_from(node).map_err(|_| format!("node index {node}"))?) }
        }
        Some(recorded_link_up::Peer::Client(client)) => {
            let valid_for = Duration::from_micros(client.valid_for_us);
            let key = client.key.map(TryInto::try_into).transpose();
            let key = key.map_err(|error: control_proto::ConvertError| error.to_string())?;
            let names = [&client.subject, &client.namespace, &client.room_pattern];
            if names.iter().any(|name| name.len() > 4 * NAME_BYTES) {
                return Err("a name that is too long".to_owned());
            }
            Peer::Client(ClientRights {
                subject: client.subject,
                namespace: client.namespace,
                room_pattern: client.room_pattern,
                publish: client.publish,
                subscribe: client.subscribe,
                token: key.map(|key| Box::new(TokenTerms { key, valid_for })),
            })
        }
    })
}

fn message(bytes: &[u8]) -> Result<Message, String> {
    let (prefix, body) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or("a message that is none")?;
    let length = body_length(*prefix).map_err(|error| error.to_string())?;
    if length != body.len() {
        return Err("a message of another length".to_owned());
    }
    decode(body).map_err(|error| error.to_string())
}
