//! Instructions that a batch of media frames costs a relay that holds a thousand links and ten thousand streams, beside
//! one that holds a handful: the same limits for both, because what a packet costs must not grow with what else is there.
//!
//! ```text
//! cargo bench -p relay-core --bench crowded         # needs valgrind and gungraun-runner of the same version
//! ```

#![allow(missing_docs, reason = "the harness generates items of its own")]

mod common;

use common::{hello, limit, media};
use gungraun::{library_benchmark, library_benchmark_group, main};
use relay_core::{
    ClientRights, Endpoint, Input, LinkId, Output, Peer, Received, Relay, RelayCommand, RelayConfig,
    RelayEvent, Train,
};
use std::hint::black_box;
use wire_format::control::{Neighbour, StreamEntry, StreamName, ToController, ToRelay, Welcome};
use wire_format::session::Message;
use wire_format::{
    DestinationSet, Epoch, Incarnation, MediaKind, NodeIndex, PacketNumber, Plane, PolicyIndex, RoomId,
    RouteTable, StreamId, StreamKey, SubscriptionId, Timestamp, UserId,
};

/// Datagrams of one batch, each of another stream.
const BATCH: u64 = 50;
/// Batches before the one that is counted, and their distance.
const WARM_UP: u64 = 30;
const BATCH_EVERY_US: u64 = 25_000;

const ME: NodeIndex = NodeIndex(0);
/// Hands in.
const BEFORE: NodeIndex = NodeIndex(1);
/// Takes, as the next relay.
const NEXT: NodeIndex = NodeIndex(2);
/// Takes, as the subscriber of every stream.
const SUBSCRIBER: LinkId = LinkId(3);

struct Bench {
    relay: Relay,
    destination: NodeIndex,
    streams: u64,
    arena: Vec<u8>,
    batch: Vec<Received>,
    train: Train,
    batches: u64,
}

/// A relay with idle SFUs on all links but three, whose batch goes to `destination`, warmed up.
fn crowded(links: u32, streams: u64, destination: NodeIndex) -> Bench {
    let mut relay = Relay::new(RelayConfig { hello: hello(), seed: 1 });
    let now = Timestamp::from_micros(1);
    let neighbour =
        |node| Neighbour { node, name: String::new(), addresses: Vec::new(), certificates_from_unix_s: 0 };
    let mut table = RouteTable::new(Epoch(1));
    for node in [BEFORE, NEXT] {
        table.policy_mut(PolicyIndex::DEFAULT).next_hops.insert((Plane::PRIMARY, node), node);
    }
    relay.handle_input(now, &[], Input::Command(RelayCommand::ControllerUp));
    for message in [
        ToRelay::Welcome(Welcome { node: ME, term: 1 }),
        ToRelay::Neighbours([BEFORE, NEXT].map(neighbour).into()),
        ToRelay::Table(table),
        ToRelay::Stamp { epoch: Epoch(1) },
    ] {
        push(&mut relay, now, message);
    }
    for node in [BEFORE, NEXT] {
        let (link, peer) = (LinkId(node.0.into()), Peer::Relay { node });
        relay.handle_input(now, &[], Input::LinkUp { link, peer, max_datagram: 1452 });
    }
    for link in 3..links {
        let link = LinkId(link);
        relay.handle_input(now, &[], Input::LinkUp { link, peer: sfu(), max_datagram: 1452 });
    }
    let subscription = subscribed(&mut relay, now);
    for user in 0..streams {
        push(&mut relay, now, ToRelay::Stream(entry(user as u32, subscription)));
        while relay.poll_output().is_some() {}
    }
    let mut bench = Bench {
        relay,
        destination,
        streams,
        arena: Vec::new(),
        batch: Vec::new(),
        train: Train::new(),
        batches: 0,
    };
    for _ in 0..WARM_UP {
        bench.fill();
        bench.turn();
    }
    bench.fill();
    bench
}

fn push(relay: &mut Relay, now: Timestamp, message: ToRelay) {
    relay.handle_input(now, &[], Input::Command(RelayCommand::Controller(message)));
}

/// The subscriber wants everything; the relay tells the controller under which number.
fn subscribed(relay: &mut Relay, now: Timestamp) -> SubscriptionId {
    let message = Message::Subscribe { request: 1, room: "room".into(), user: None, stream: None };
    relay.handle_input(now, &[], Input::Message { link: SUBSCRIBER, message });
    let mut found = None;
    while let Some(output) = relay.poll_output() {
        if let Output::Event(RelayEvent::ToController(ToController::Subscribed(report))) = output {
            found = Some(report.subscription);
        }
    }
    found.expect("the relay reports the subscription")
}

impl Bench {
    /// A batch of datagrams from the relay before, one frame each, of streams far from each other.
    fn fill(&mut self) {
        let first = self.batches * BATCH;
        self.batches += 1;
        let sent = Timestamp::from_micros(self.batches * BATCH_EVERY_US);
        self.arena.clear();
        self.batch.clear();
        for number in first..first + BATCH {
            let start = self.arena.len();
            let (user, to) = (number * 7 % self.streams, DestinationSet::single(self.destination));
            media(&mut self.arena, sent, user, number, to);
            let (link, range) = (LinkId(BEFORE.0.into()), start..self.arena.len());
            self.batch.push(Received { link, number: PacketNumber(number), range });
        }
    }

    fn turn(&mut self) {
        let now = Timestamp::from_micros(self.batches * BATCH_EVERY_US);
        self.relay.handle_input(now, &self.arena, Input::Datagrams(&self.batch));
        while self.relay.poll_transmit(now, &self.arena, &mut self.train).is_some() {
            black_box(self.train.slots().len());
        }
    }
}

/// Every packet left, as a copy to the next relay or to the subscriber.
fn passed(bench: Bench) {
    let counters = bench.relay.counters();
    let sent = counters.media_forwarded + counters.media_delivered;
    assert!(sent >= (WARM_UP + 1) * BATCH, "the bench forwards: {counters:?}");
}

#[library_benchmark(teardown = passed)]
#[bench::few(args = (4, 20, NEXT), setup = crowded, config = limit(84_000))]
#[bench::many_links(args = (1_000, 20, NEXT), setup = crowded, config = limit(84_000))]
#[bench::many_streams(args = (4, 10_000, NEXT), setup = crowded, config = limit(84_000))]
#[bench::many_of_both(args = (1_000, 10_000, NEXT), setup = crowded, config = limit(84_000))]
fn to_the_next_relay(mut bench: Bench) -> Bench {
    bench.turn();
    bench
}

#[library_benchmark(teardown = passed)]
#[bench::few(args = (4, 20, ME), setup = crowded, config = limit(104_000))]
#[bench::many_links(args = (1_000, 20, ME), setup = crowded, config = limit(104_000))]
#[bench::many_streams(args = (4, 10_000, ME), setup = crowded, config = limit(104_000))]
#[bench::many_of_both(args = (1_000, 10_000, ME), setup = crowded, config = limit(104_000))]
fn to_a_subscriber(mut bench: Bench) -> Bench {
    bench.turn();
    bench
}

fn sfu() -> Peer {
    Peer::Client(ClientRights {
        subject: "sfu".into(),
        namespace: "demo".into(),
        room_pattern: "*".into(),
        publish: true,
        subscribe: true,
        token: None,
    })
}

fn entry(user: u32, subscription: SubscriptionId) -> StreamEntry {
    StreamEntry {
        key: StreamKey { room: RoomId(1), user: UserId(user), stream: StreamId(1) },
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: format!("user-{user}"),
            stream: "camera".into(),
        },
        kind: MediaKind::Video,
        incarnation: Incarnation(0),
        ingress: BEFORE,
        subscriptions: vec![subscription],
        destinations: Vec::new(),
        revision: 1,
        protect: false,
        policy: PolicyIndex::DEFAULT,
    }
}

library_benchmark_group!(name = crowd; benchmarks = to_the_next_relay, to_a_subscriber);
main!(library_benchmark_groups = crowd);
