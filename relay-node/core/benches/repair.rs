//! Instructions that repair costs a relay per packet that it forwards: with repair off, on with nothing lost, with parity
//! of 10+2 on both of its links, and with a twentieth of all datagrams lost on both, in both directions. And what rows of
//! parity cost at most that a neighbour has looked at within a millisecond.
//!
//! Three relays in a row play the call first; what came to the one in the middle is recorded, and played again to another
//! one like it, which does the same. Of that the last [`COUNTED`] steps are counted.
//!
//! ```text
//! cargo bench -p relay-core --bench repair          # needs valgrind and gungraun-runner of the same version
//! ```

#![allow(missing_docs, reason = "the harness generates items of its own")]

mod common;

use common::{hello, limit, media};
use gungraun::{library_benchmark, library_benchmark_group, main};
use relay_core::{
    Endpoint, Input, LinkId, Parity, Peer, Received, Relay, RelayCommand, RelayConfig, RepairMode, Train,
};
use std::hint::black_box;
use std::time::Duration;
use wire_format::control::{Neighbour, ToRelay, Welcome};
use wire_format::parity::{PARITY_COVERED_MAX, PARITY_HEADER_MAX, PARITY_SPAN};
use wire_format::{
    DestinationSet, Epoch, FrameKind, NodeIndex, PacketNumber, ParityHeader, Plane, PolicyIndex, RouteTable,
    Timestamp, frame_header,
};

/// Packets of a step, and the distance of steps: 19 Mbit/s, a block of parity each.
const PACKETS: u64 = 10;
const STEP_US: u64 = 5_000;
/// Steps before those that count, and those.
const WARM_UP: u64 = 200;
const COUNTED: u64 = 20;
/// One in so many datagrams is lost where some are.
const LOST_ONE_IN: u64 = 20;

const BLOCK: RepairMode = RepairMode::Parity(Parity { k: 10, m: 2, depth: 1 });

/// Hands in what the first relay sends on; then the relays in a row, the second of which is counted.
const SOURCE: u16 = 9;
const ROW: [u16; 3] = [0, 1, 2];
const COUNTED_RELAY: usize = 1;

/// What a relay is given in a step: the deadline that has come, or datagrams.
struct Step {
    now: Timestamp,
    is_due: bool,
    arena: Vec<u8>,
    batch: Vec<Received>,
}

struct Bench {
    relay: Relay,
    steps: Vec<Step>,
    train: Train,
    /// Datagrams that left in the steps counted.
    left: usize,
    mode: RepairMode,
    lossy: bool,
}

/// A relay that has played all but the steps that count.
fn recorded(mode: RepairMode, lossy: bool) -> Bench {
    let mut steps = play(mode, lossy);
    let counted = steps.split_off(steps.len() - COUNTED as usize);
    let relay = relay(COUNTED_RELAY, mode);
    let mut bench = Bench { relay, steps: counted, train: Train::new(), left: 0, mode, lossy };
    for step in &steps {
        step.give(&mut bench.relay, &mut bench.train, |_, _, _| {});
    }
    bench
}

/// Plays the call between three relays; returns what the one in the middle was given.
fn play(mode: RepairMode, lossy: bool) -> Vec<Step> {
    let mut relays: Vec<Relay> = (0..ROW.len()).map(|at| relay(at, mode)).collect();
    let mut given: Vec<Vec<(LinkId, PacketNumber, Vec<u8>)>> = ROW.map(|_| Vec::new()).into();
    let (mut train, mut record, mut sent) = (Train::new(), Vec::new(), 0_u64);
    for number in 1..=WARM_UP + COUNTED {
        let now = Timestamp::from_micros(number * STEP_US);
        for at in 0..ROW.len() {
            let mut step = Step::new(now, relays[at].poll_timeout().is_some_and(|due| due <= now));
            for (link, number, plain) in given[at].drain(..) {
                step.push(link, number, &plain);
            }
            if at == 0 {
                datagrams(number, now).for_each(|(number, plain)| {
                    step.push(LinkId(SOURCE.into()), PacketNumber(number), &plain);
                });
            }
            step.give(&mut relays[at], &mut train, |to, number, plain| {
                sent += 1;
                // A multiplicative hash, so that losses come alone and in bursts.
                let hash = sent.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
                let is_lost = lossy && hash.is_multiple_of(LOST_ONE_IN);
                if let Some(place) = ROW.iter().position(|node| LinkId(u32::from(*node)) == to)
                    && !is_lost
                {
                    given[place].push((LinkId(u32::from(ROW[at])), number, plain.to_vec()));
                }
            });
            if at == COUNTED_RELAY {
                record.push(step);
            }
        }
    }
    record
}

impl Step {
    fn new(now: Timestamp, is_due: bool) -> Step {
        Step { now, is_due, arena: Vec::new(), batch: Vec::new() }
    }

    fn push(&mut self, link: LinkId, number: PacketNumber, plain: &[u8]) {
        let range = self.arena.len()..self.arena.len() + plain.len();
        self.arena.extend_from_slice(plain);
        self.batch.push(Received { link, number, range });
    }

    /// Gives it to a relay; `leave` is told of each datagram that leaves, and returns how many did.
    fn give(
        &self,
        relay: &mut Relay,
        train: &mut Train,
        mut leave: impl FnMut(LinkId, PacketNumber, &[u8]),
    ) -> usize {
        let mut left = 0;
        let inputs = [self.is_due.then_some(Input::Timeout), Some(Input::Datagrams(&self.batch))];
        for input in inputs.into_iter().flatten() {
            relay.handle_input(self.now, &self.arena, input);
            while let Some(link) = relay.poll_transmit(self.now, &self.arena, train) {
                left += train.slots().len();
                for slot in train.slots() {
                    leave(link, slot.number, &train.bytes()[slot.plain()]);
                }
            }
            while relay.poll_output().is_some() {}
        }
        left
    }
}

/// One of the relays in a row, linked to those beside it.
fn relay(at: usize, mode: RepairMode) -> Relay {
    let mut relay = Relay::new(RelayConfig { hello: hello(), seed: 1 });
    relay.repair_as(mode);
    let before = at.checked_sub(1).map_or(SOURCE, |before| ROW[before]);
    let beside: Vec<u16> = [Some(before), ROW.get(at + 1).copied()].into_iter().flatten().collect();
    let mut table = RouteTable::new(Epoch(1));
    if let Some(next) = ROW.get(at + 1) {
        table
            .policy_mut(PolicyIndex::DEFAULT)
            .next_hops
            .insert((Plane::PRIMARY, NodeIndex(ROW[ROW.len() - 1])), NodeIndex(*next));
    }
    let neighbours = beside.iter().map(|node| Neighbour {
        node: NodeIndex(*node),
        name: String::new(),
        addresses: Vec::new(),
        certificates_from_unix_s: 0,
    });
    let now = Timestamp::from_micros(1);
    for message in [
        ToRelay::Welcome(Welcome { node: NodeIndex(ROW[at]), term: 1 }),
        ToRelay::Neighbours(neighbours.collect()),
        ToRelay::Table(table),
    ] {
        relay.handle_input(now, &[], Input::Command(RelayCommand::Controller(message)));
    }
    for node in beside {
        let (link, peer) = (LinkId(u32::from(node)), Peer::Relay { node: NodeIndex(node) });
        relay.handle_input(now, &[], Input::LinkUp { link, peer, max_datagram: 1452 });
    }
    relay
}

/// The media of a step, one frame a datagram: numbers and plain bytes.
fn datagrams(step: u64, now: Timestamp) -> impl Iterator<Item = (u64, Vec<u8>)> {
    ((step - 1) * PACKETS..step * PACKETS).map(move |number| {
        let mut plain = Vec::new();
        let last = NodeIndex(ROW[ROW.len() - 1]);
        media(&mut plain, now, number % 20, number, DestinationSet::single(last));
        (number, plain)
    })
}

/// Everything was forwarded, and where nothing was lost nothing was repaired.
fn forwarded(bench: Bench) {
    let counters = bench.relay.counters();
    let sent = (WARM_UP + COUNTED) * PACKETS;
    let views = bench.relay.link_views();
    let repairs: u64 = views.iter().map(|view| view.stats.repair.retransmitted).sum();
    let rows: u64 = views.iter().map(|view| view.stats.repair.parity).sum();
    let restored: u64 = views.iter().map(|view| view.stats.repair.recovered_again).sum();
    assert!(bench.left as u64 >= COUNTED * PACKETS * 9 / 10, "{} left", bench.left);
    let rows_wanted = if bench.mode == BLOCK { sent / 5 - 10..=sent / 5 + 10 } else { 0..=0 };
    assert!(rows_wanted.contains(&rows), "{rows} rows of parity");
    if bench.lossy {
        assert!(repairs > sent / 40 && restored > sent / 40, "{repairs} sent again, {restored} restored");
        assert!(counters.media_forwarded * 1000 >= sent * 995, "{} of {sent}", counters.media_forwarded);
    } else {
        assert_eq!((counters.media_forwarded, repairs, restored), (sent, 0, 0));
    }
}

#[library_benchmark]
#[bench::off(args = (RepairMode::Off, false), setup = recorded, teardown = forwarded, config = limit(356_000))]
#[bench::on(args = (RepairMode::Adaptive, false), setup = recorded, teardown = forwarded, config = limit(406_000))]
#[bench::parity_10_2(args = (BLOCK, false), setup = recorded, teardown = forwarded, config = limit(890_000))]
// 484,000 before bursts of loss were asked whether a full queue drops them: 64 of the datagrams sent before each are looked at.
#[bench::lossy(args = (RepairMode::Adaptive, true), setup = recorded, teardown = forwarded, config = limit(500_000))]
fn steps_of_10(mut bench: Bench) -> Bench {
    for step in &bench.steps {
        bench.left += step.give(&mut bench.relay, &mut bench.train, |_, _, plain| {
            black_box(plain.len());
        });
    }
    bench
}

/// Rows of parity that a neighbour may have looked at within a millisecond.
const HOSTILE_ROWS: u64 = 64;
/// What it says they have covered, of which this relay has every other one.
const SPAN: u64 = PARITY_SPAN as u64;

/// A relay with gaps in what came from a neighbour, which has as many rows for it as are looked at, each over as much as a
/// row may cover. None of them ever restores anything: there are more unknowns than rows.
fn hostile() -> Bench {
    let mut bench = recorded(RepairMode::Adaptive, false);
    let now = bench.steps.last().expect("some").now + Duration::from_millis(1);
    let (link, base) = (LinkId(ROW[COUNTED_RELAY - 1].into()), 2 * (WARM_UP + COUNTED) * PACKETS);
    let mut gaps = Step::new(now, false);
    for number in (base..base + SPAN).step_by(2) {
        let mut plain = Vec::new();
        media(&mut plain, now, 1, number, DestinationSet::single(NodeIndex(ROW[ROW.len() - 1])));
        gaps.push(link, PacketNumber(number), &plain);
    }
    gaps.give(&mut bench.relay, &mut bench.train, |_, _, _| {});
    let mut rows = Step::new(now, false);
    for row in 0..HOSTILE_ROWS {
        let mut covered = 1_u128;
        let mut draw = row + 1;
        while (covered.count_ones() as usize) < PARITY_COVERED_MAX {
            draw = draw.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(row);
            covered |= 1 << (draw >> 57);
        }
        let header = ParityHeader { row: row as u8, base: PacketNumber(base), covered };
        let mut body = [0; PARITY_HEADER_MAX + 1300];
        let body_bytes = header.encode(&mut body) + 1300;
        let mut plain = wire_format::send_time_bytes(now.wire()).to_vec();
        plain.extend(frame_header(FrameKind::Parity, body_bytes));
        plain.extend(&body[..body_bytes]);
        rows.push(link, PacketNumber(base + SPAN + row), &plain);
    }
    bench.steps = vec![rows];
    bench
}

fn looked_at(bench: Bench) {
    assert_eq!(bench.relay.counters().drop_malformed, 0, "each row makes sense");
    let views = bench.relay.link_views();
    let restored: u64 = views.iter().map(|view| view.stats.repair.recovered_parity).sum();
    assert_eq!(restored, 0);
}

#[library_benchmark]
#[bench::most_that_are_looked_at(setup = hostile, teardown = looked_at, config = limit(2_480_000))]
fn rows_of_a_millisecond(mut bench: Bench) -> Bench {
    for step in &bench.steps {
        step.give(&mut bench.relay, &mut bench.train, |_, _, plain| {
            black_box(plain.len());
        });
    }
    bench
}

library_benchmark_group!(name = repair; benchmarks = steps_of_10, rows_of_a_millisecond);
main!(library_benchmark_groups = repair);
