//! What a core is made from and told, as protobuf. The simulator reads it.

use control_proto::proto;
use control_proto::proto::recorded_link_up;
use control_proto::proto::recorded_relay_input::Kind;
use control_proto::recorder::Recorder;
use relay_core::{
    ClientRights, Counters, Input, Peer, PlainReceived, RateLimit, Received, RelayCommand, RelayConfig,
    TokenTerms, Worker,
};
use wire_format::control::ToRelay;
use wire_format::recording::{blank_datagram, blank_media, blank_packet};
use wire_format::session::{Message, Role};

/// What the core of one worker is made from.
pub(crate) struct Made<'a> {
    pub(crate) config: &'a RelayConfig,
    pub(crate) worker: Worker,
    pub(crate) streams_max: usize,
    pub(crate) client_rate: RateLimit,
    pub(crate) began_unix_ms: u64,
}

impl Made<'_> {
    pub(super) fn recorded(&self) -> proto::RecordedRelay {
        let (packet_price, byte_price) = self.client_rate.prices();
        proto::RecordedRelay {
            hello: Some(self.config.hello.clone().into()),
            seed: self.config.seed,
            workers: self.worker.count.into(),
            streams_max: self.streams_max as u64,
            packet_price,
            byte_price,
            began_unix_ms: self.began_unix_ms,
        }
    }
}

/// Everything that is not zero.
pub(super) fn counts(counters: &Counters) -> proto::RecordedCounts {
    let counts = counters.entries().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(name, count)| proto::RecordedCount { name: name.to_owned(), count });
    proto::RecordedCounts { counts: counts.collect() }
}

/// An input, without media. Keys are written as pseudonyms.
pub(super) fn input(
    arena: &[u8],
    input: &Input<'_, RelayCommand>,
    recorder: &Recorder,
) -> proto::RecordedRelayInput {
    let command = |command: proto::RecordedCommand| Kind::Command(command.into());
    let kind = match input {
        Input::LinkUp { link, peer, max_datagram } => Kind::LinkUp(proto::RecordedLinkUp {
            link: link.0,
            max_datagram: (*max_datagram).into(),
            peer: match peer {
                Peer::Relay { node } => Some(recorded_link_up::Peer::Node(node.0.into())),
                Peer::Client(rights) => Some(recorded_link_up::Peer::Client(client(rights, recorder))),
                Peer::Upstream => None,
            },
        }),
        Input::LinkDown { link } => Kind::LinkDown(link.0),
        Input::Datagrams(batch) => {
            let datagram = |received: &Received| {
                let mut plain = arena[received.range.clone()].to_vec();
                blank_datagram(&mut plain);
                let zeros = cut_zeros(&mut plain);
                proto::RecordedDatagram { link: received.link.0, number: received.number.0, plain, zeros }
            };
            Kind::Datagrams(proto::RecordedDatagrams { datagrams: batch.iter().map(datagram).collect() })
        }
        Input::Local(batch) => Kind::Local(batch.len() as u32),
        Input::HandedOver(items) => {
            let items = items.iter().map(|item| handed_over(arena[item.clone()].to_vec()));
            Kind::HandedOver(proto::RecordedHandedOver { items: items.collect() })
        }
        Input::Plain(batch) => {
            let datagram = |received: &PlainReceived| {
                let mut packet = arena[received.range.clone()].to_vec();
                blank_packet(&mut packet);
                let zeros = cut_zeros(&mut packet);
                let source = received.source.to_string();
                proto::RecordedPlainDatagram { port: received.port.0, source, packet, zeros }
            };
            Kind::Plain(proto::RecordedPlain { datagrams: batch.iter().map(datagram).collect() })
        }
        Input::Challenge { link, token: _ } => Kind::Challenge(link.0),
        Input::Message { link, message: said } => {
            Kind::Message(proto::RecordedMessage { link: link.0, message: message(said, recorder) })
        }
        Input::Command(RelayCommand::ControllerUp) => command(proto::RecordedCommand::ControllerUp),
        Input::Command(RelayCommand::ControllerDown) => command(proto::RecordedCommand::ControllerDown),
        Input::Command(RelayCommand::Drain) => command(proto::RecordedCommand::Drain),
        Input::Command(RelayCommand::Shutdown) => command(proto::RecordedCommand::Shutdown),
        Input::Command(RelayCommand::Controller(said)) => {
            let mut said = said.clone();
            if let ToRelay::TokenKeys(keys) = &mut said {
                recorder.hide_token_keys(keys);
            }
            Kind::Controller(said.into())
        }
        Input::Timeout => Kind::Timeout(proto::RecordedTimeout {}),
    };
    proto::RecordedRelayInput { kind: Some(kind) }
}

fn client(rights: &ClientRights, recorder: &Recorder) -> proto::RecordedClient {
    let ClientRights { subject, namespace, room_pattern, publish, subscribe, token } = rights;
    let (key, valid_for) = match token.as_deref() {
        None => (None, None),
        Some(TokenTerms { key, valid_for }) => {
            let mut keys = [key.clone()];
            recorder.hide_token_keys(&mut keys);
            let [key] = keys;
            (Some(key.into()), Some(*valid_for))
        }
    };
    let valid_for = valid_for.unwrap_or_default();
    proto::RecordedClient {
        subject: subject.clone(),
        namespace: namespace.clone(),
        room_pattern: room_pattern.clone(),
        publish: *publish,
        subscribe: *subscribe,
        key,
        valid_for_us: u64::try_from(valid_for.as_micros()).unwrap_or(u64::MAX),
    }
}

/// As on the link's stream; nothing, if it is longer than any there.
fn message(message: &Message, recorder: &Recorder) -> Vec<u8> {
    let mut message = message.clone();
    match &mut message {
        Message::Client { key } => {
            let name = recorder.pseudonym(&key.0);
            key.0.copy_from_slice(&name[..16]);
        }
        Message::Hello { role: Role::Client { token }, .. } => token.clear(),
        Message::Hello { .. }
        | Message::Accept { .. }
        | Message::Refuse { .. }
        | Message::Publish { .. }
        | Message::Published { .. }
        | Message::Unpublish { .. }
        | Message::Subscribe { .. }
        | Message::Subscribed { .. }
        | Message::Unsubscribe { .. }
        | Message::Announce { .. }
        | Message::Ended { .. }
        | Message::Goodbye
        | Message::Lanes { .. }
        | Message::PublishProtected { .. } => {}
    }
    let mut bytes = Vec::new();
    // What is too long leaves nothing behind.
    let _ = wire_format::codec::encode(&message, &mut bytes);
    bytes
}

/// Takes the zeros at the end away, and says how many there were: most of a packet with media.
fn cut_zeros(bytes: &mut Vec<u8>) -> u32 {
    let whole = bytes.len();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    (whole - end) as u32
}

/// A task of the core's `workers`: its number, for some a byte or two, then a frame.
fn handed_over(mut item: Vec<u8>) -> Vec<u8> {
    match item.first() {
        Some(0) => blank_media(item.get_mut(1..).unwrap_or_default()),
        Some(1) => blank_media(item.get_mut(3..).unwrap_or_default()),
        Some(_) | None => {}
    }
    item
}
