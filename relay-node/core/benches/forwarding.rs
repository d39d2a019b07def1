//! Instructions that the core spends on a batch of media frames, from opened datagrams to trains ready to seal. Counted
//! by callgrind, so the figures are the same on every run; the limits below fail the run when the path grows.
//!
//! ```text
//! cargo bench -p relay-core --bench forwarding      # needs valgrind and gungraun-runner of the same version
//! ```

#![allow(missing_docs, reason = "the harness generates items of its own")]

mod common;

use common::{hello, limit, media};
use gungraun::{library_benchmark, library_benchmark_group, main};
use relay_core::{Endpoint, Input, LinkId, Peer, Received, Relay, RelayCommand, RelayConfig, Train};
use std::hint::black_box;
use wire_format::control::{Neighbour, ToRelay, Welcome};
use wire_format::{
    DestinationSet, Epoch, NodeIndex, PacketNumber, Plane, PolicyIndex, RouteTable, Timestamp,
};

/// Datagrams of one batch, as many as leave in one train.
const BATCH: u64 = 50;
/// Batches that come before the one that is counted, and their distance: by then queues, and the memory of what was
/// sent, have grown to what 19 Mbit/s need.
const WARM_UP: u64 = 30;
const BATCH_EVERY_US: u64 = 25_000;

struct Bench {
    relay: Relay,
    arena: Vec<u8>,
    batch: Vec<Received>,
    train: Train,
    batches: u64,
}

/// A relay between a sender (node 1) and `fan_out` further relays, warmed up.
fn transit(fan_out: u16) -> Bench {
    let mut relay = Relay::new(RelayConfig { hello: hello(), seed: 1 });
    let nodes: Vec<_> = (1..2 + fan_out).map(NodeIndex).collect();
    let neighbours = nodes.iter().map(|node| Neighbour {
        node: *node,
        name: String::new(),
        addresses: Vec::new(),
        certificates_from_unix_s: 0,
    });
    let mut table = RouteTable::new(Epoch(1));
    for node in &nodes {
        table.policy_mut(PolicyIndex::DEFAULT).next_hops.insert((Plane::PRIMARY, *node), *node);
    }
    let now = Timestamp::from_micros(1);
    for message in [
        ToRelay::Welcome(Welcome { node: NodeIndex(0), term: 1 }),
        ToRelay::Neighbours(neighbours.collect()),
        ToRelay::Table(table),
    ] {
        relay.handle_input(now, &[], Input::Command(RelayCommand::Controller(message)));
    }
    for node in &nodes {
        let peer = Peer::Relay { node: *node };
        relay.handle_input(now, &[], Input::LinkUp { link: LinkId(node.0.into()), peer, max_datagram: 1452 });
    }
    let mut bench = Bench { relay, arena: Vec::new(), batch: Vec::new(), train: Train::new(), batches: 0 };
    for _ in 0..WARM_UP {
        bench.fill(&nodes[1..]);
        forward(&mut bench);
    }
    bench.fill(&nodes[1..]);
    bench
}

impl Bench {
    /// A batch of datagrams from node 1 to `destinations`, one media frame each.
    fn fill(&mut self, destinations: &[NodeIndex]) {
        let first = self.batches * BATCH;
        self.batches += 1;
        let sent = Timestamp::from_micros(self.batches * BATCH_EVERY_US);
        self.arena.clear();
        self.batch.clear();
        for number in first..first + BATCH {
            let start = self.arena.len();
            let destinations = DestinationSet::take(destinations).0;
            media(&mut self.arena, sent, number % 20, number, destinations);
            let range = start..self.arena.len();
            self.batch.push(Received { link: LinkId(1), number: PacketNumber(number), range });
        }
    }
}

fn forward(bench: &mut Bench) -> usize {
    let now = Timestamp::from_micros(bench.batches * BATCH_EVERY_US);
    bench.relay.handle_input(now, &bench.arena, Input::Datagrams(&bench.batch));
    let mut datagrams = 0;
    while bench.relay.poll_transmit(now, &bench.arena, &mut bench.train).is_some() {
        datagrams += bench.train.slots().len();
    }
    datagrams
}

fn forwarded(bench: Bench) {
    let sent = bench.relay.counters().media_forwarded;
    assert!(sent >= (WARM_UP + 1) * BATCH, "the bench forwards: {sent}");
}

#[library_benchmark]
#[bench::one_to_one(args = (1), setup = transit, teardown = forwarded, config = limit(83_500))]
#[bench::one_to_eight(args = (8), setup = transit, teardown = forwarded, config = limit(572_000))]
fn batch_of_50(mut bench: Bench) -> Bench {
    black_box(forward(&mut bench));
    bench
}

library_benchmark_group!(name = forwarding; benchmarks = batch_of_50);
main!(library_benchmark_groups = forwarding);
