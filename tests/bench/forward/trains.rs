//! The input of all forwarders: what a relay upstream would send for a burst of packets.

use relay_core::{Endpoint, Input, LinkId, Peer, Received, Relay, RelayCommand, RelayConfig, Train};
use wire_format::control::{Neighbour, RelayHello, ToRelay, Welcome};
use wire_format::{
    DestinationSet, Epoch, FrameKind, HOP_LIMIT, Incarnation, MEDIA_HEADER_MAX, MediaHeader, NodeIndex,
    PacketNumber, Plane, PolicyIndex, Priority, RoomId, RouteTable, Sequence, Slack, StreamId, StreamKey,
    Timestamp, UserId, frame_header,
};

/// Trains of plain datagrams.
pub type Trains = Vec<Vec<Vec<u8>>>;

/// Of 1,200-byte packets, as many as one call to the kernel takes.
const DATAGRAMS_OF_A_TRAIN: usize = 50;
const RECORDING: &[u8] = include_bytes!("../../media/call.rtpdump");

pub fn hello(name: &str) -> RelayHello {
    RelayHello {
        name: name.into(),
        node: None,
        region: String::new(),
        isp: String::new(),
        tags: Vec::new(),
        position: None,
        addresses: Vec::new(),
        version: String::new(),
        wire_versions: (1, 1),
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: false,
    }
}

/// What makes a relay with index `node` forward to its neighbours directly.
pub fn pushes(node: u16, neighbours: &[(u16, &str)]) -> Vec<RelayCommand> {
    pushes_beyond(node, neighbours, &[])
}

/// The same, and to those beyond them: (destination, neighbour).
pub fn pushes_beyond(node: u16, neighbours: &[(u16, &str)], beyond: &[(u16, u16)]) -> Vec<RelayCommand> {
    let mut table = RouteTable::new(Epoch(1));
    let direct = neighbours.iter().map(|(neighbour, _)| (*neighbour, *neighbour));
    for (destination, hop) in direct.chain(beyond.iter().copied()) {
        table
            .policy_mut(PolicyIndex::DEFAULT)
            .next_hops
            .insert((Plane::PRIMARY, NodeIndex(destination)), NodeIndex(hop));
    }
    let neighbours = neighbours
        .iter()
        .map(|(node, name)| Neighbour {
            node: NodeIndex(*node),
            name: (*name).into(),
            addresses: Vec::new(),
            certificates_from_unix_s: 0,
        })
        .collect();
    [
        ToRelay::Welcome(Welcome { node: NodeIndex(node), term: 1 }),
        ToRelay::Neighbours(neighbours),
        ToRelay::Table(table),
        ToRelay::Stamp { epoch: Epoch(1) },
    ]
    .map(RelayCommand::Controller)
    .into()
}

/// A media frame of stream `user` towards node 2, with `packet` as its RTP packet.
pub fn media_frame(user: u32, sequence: u32, packet: &[u8]) -> Vec<u8> {
    media_frame_to(&[NodeIndex(2)], user, sequence, packet)
}

/// A burst of equal datagrams of one media frame each, in trains as long as they get.
pub fn equal_trains(destinations: &[NodeIndex], bytes: usize, packets: usize) -> Trains {
    let datagram = |number: usize| {
        let mut plain = vec![0, 0, 1];
        plain.extend(media_frame_to(destinations, 1, number as u32, &vec![0x80; bytes]));
        plain
    };
    let datagrams: Vec<_> = (0..packets).map(datagram).collect();
    datagrams.chunks(DATAGRAMS_OF_A_TRAIN).map(<[_]>::to_vec).collect()
}

fn media_frame_to(destinations: &[NodeIndex], user: u32, sequence: u32, packet: &[u8]) -> Vec<u8> {
    let header = MediaHeader {
        key: StreamKey { room: RoomId(1), user: UserId(user), stream: StreamId(1) },
        incarnation: Incarnation(0),
        sequence: Sequence(sequence),
        slack: Slack(2000),
        priority: Priority::VIDEO,
        hop_limit: HOP_LIMIT,
        epoch: 1,
        plane: Plane::PRIMARY,
        marked: false,
        rtcp: false,
        protected: false,
        policy: PolicyIndex::DEFAULT,
        destinations: DestinationSet::take(destinations).0,
    };
    let mut head = [0; MEDIA_HEADER_MAX];
    let head_bytes = header.encode(&mut head);
    let mut frame = frame_header(FrameKind::Media, head_bytes + packet.len()).to_vec();
    frame.extend(&head[..head_bytes]);
    frame.extend(packet);
    frame
}

/// Packs a burst of packets of these sizes as a relay does, one hop before the one that is measured.
pub fn trains(sizes: &[usize]) -> Trains {
    let now = Timestamp::from_micros(1);
    let mut upstream = Relay::new(RelayConfig { hello: hello("upstream"), seed: 1 });
    // Node 9 hands in, node 2 takes; the relay in between is the one upstream of the measured one.
    for command in pushes(1, &[(2, "next"), (9, "before")]) {
        upstream.handle_input(now, &[], Input::Command(command));
    }
    for (link, node) in [(0, 9), (1, 2)] {
        let peer = Peer::Relay { node: NodeIndex(node) };
        upstream.handle_input(now, &[], Input::LinkUp { link: LinkId(link), peer, max_datagram: 1452 });
    }
    let mut train = Train::new();
    while upstream.poll_transmit(now, &[], &mut train).is_some() {}
    let mut arena = Vec::new();
    let mut batch = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        let start = arena.len();
        arena.extend([0, 0, 1]);
        arena.extend(media_frame(i as u32 % 20, i as u32, &vec![0x80; *size]));
        batch.push(Received { link: LinkId(0), number: PacketNumber(i as u64), range: start..arena.len() });
    }
    upstream.handle_input(now, &arena, Input::Datagrams(&batch));
    let mut trains = Vec::new();
    while upstream.poll_transmit(now, &arena, &mut train).is_some() {
        trains.push(train.slots().iter().map(|slot| train.bytes()[slot.plain()].to_vec()).collect());
    }
    trains
}

/// Sizes of the packets of `streams` copies of the recording, started one after the other and interleaved in time.
pub fn recorded_sizes(streams: usize, packets: usize) -> Vec<usize> {
    let recording = parse(RECORDING);
    let length_ms = recording.last().map_or(1, |(at, _)| at + 1);
    let mut merged = Vec::new();
    for stream in 0..streams {
        let shift = length_ms * stream as u32 / streams as u32;
        merged.extend(recording.iter().map(|(at, size)| ((at + shift) % length_ms, stream, *size)));
    }
    merged.sort_by_key(|(at, stream, _)| (*at, *stream));
    merged.into_iter().map(|(_, _, size)| size).take(packets).collect()
}

/// Time (ms) and size of each packet of a recording in rtpdump format.
fn parse(dump: &[u8]) -> Vec<(u32, usize)> {
    let line = dump.iter().position(|byte| *byte == b'\n').expect("a first line");
    let mut rest = &dump[line + 1 + 16..];
    let mut packets = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])) - 8;
        let at = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        packets.push((at, length));
        rest = &tail[length..];
    }
    packets
}
