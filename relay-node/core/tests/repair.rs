//! A neighbour that asks for everything again and again, repeats what nobody missed, or sends parity that cannot be: what
//! it costs is bounded and counted, and the link goes on.

mod lab;

use lab::Lab;
use proptest::prelude::*;
use relay_core::{RepairStats, Train};
use std::time::Duration;
use wire_format::parity::{PARITY_COVERED_MAX, PARITY_ROWS, PARITY_SPAN};
use wire_format::{FrameKind, PacketNumber, ParityHeader, REQUEST_RANGES_MAX, frame_header};

const PACKET: [u8; 1000] = [0x80; 1000];
/// What may be saved up for repairs.
const SAVED: u64 = 64 << 10;

/// A call from an SFU at relay 0 to one at relay 1.
struct Call {
    lab: Lab,
    publisher: usize,
    subscriber: usize,
    /// Of what relay 1 is made to say to relay 0, and relay 0 to relay 1.
    numbers: [u64; 2],
}

impl Call {
    fn new() -> Call {
        let mut lab = Lab::new(2);
        let (publisher, subscriber) = lab.one_hop();
        lab.run(Duration::from_secs(1));
        Call { lab, publisher, subscriber, numbers: [1 << 20; 2] }
    }

    /// So many milliseconds with a packet of media in each; how many arrive.
    fn media(&mut self, ms: u64) -> usize {
        self.lab.delivered.clear();
        for _ in 0..ms {
            self.lab.send(self.publisher, 1, &[&PACKET]);
            self.lab.run(Duration::from_millis(1));
        }
        let subscriber = self.subscriber;
        self.lab
            .delivered
            .iter()
            .filter(|(client, _, packet)| *client == subscriber && *packet == PACKET)
            .count()
    }

    /// A frame of the other relay comes to this one.
    fn comes_to(&mut self, relay: u16, kind: FrameKind, body: &[u8]) {
        let mut plain = vec![0; 3];
        plain.extend(frame_header(kind, body.len()));
        plain.extend(body);
        let link = self.lab.link_id(usize::from(relay), usize::from(1 - relay));
        let number = &mut self.numbers[usize::from(relay)];
        *number += 1;
        let number = *number;
        self.lab.inject(usize::from(relay), link, number, plain);
    }

    /// What the link between the relays counts at one of them.
    fn stats(&mut self, relay: u16) -> RepairStats {
        let link = self.lab.link_id(usize::from(relay), usize::from(1 - relay));
        let views = self.lab.relay_mut(relay).1.link_views();
        views.into_iter().find(|view| view.link == link).expect("linked").stats.repair
    }

    fn malformed(&mut self, relay: u16) -> u64 {
        self.lab.relay_mut(relay).1.counters().drop_malformed
    }
}

/// A request for all of the last 16,320 numbers up to this one, and for what should have come since.
fn everything(through: u32) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(through.to_be_bytes());
    body.extend([0, 0, 255].repeat(REQUEST_RANGES_MAX));
    body
}

/// The highest number that relay 0 has sent, as a peer would know it.
fn sent(call: &mut Call) -> u32 {
    let link = call.lab.link_id(0, 1);
    let views = call.lab.relay_mut(0).1.link_views();
    let stats = &views.iter().find(|view| view.link == link).expect("linked").stats;
    u32::try_from(stats.datagrams_out).expect("few") - 1
}

#[test]
fn who_asks_for_everything_again_and_again_gets_its_share_and_no_more() {
    let mut call = Call::new();
    assert_eq!(call.media(400), 400);
    let (before, media_before) = (call.stats(0), 400);
    for _ in 0..1_000 {
        assert_eq!(call.media(1), 1, "the media goes on");
        let through = sent(&mut call);
        for _ in 0..10 {
            call.comes_to(0, FrameKind::RepairRequest, &everything(through));
        }
    }
    let after = call.stats(0);
    let media = (1_000 + media_before) * 1_100;
    let repaired = after.retransmitted_bytes - before.retransmitted_bytes;
    assert!(repaired > SAVED, "it is answered: {repaired}");
    assert!(repaired < SAVED + media / 2, "{repaired} bytes sent again, {media} of media");
    assert!(after.requests_ignored - before.requests_ignored >= 9_000, "nine of ten within a millisecond");
    assert_eq!(call.malformed(0), 0);
    let datagrams = call.lab.crossings.iter().filter(|crossing| crossing.kind == FrameKind::Repair).count();
    assert_eq!(datagrams as u64, after.retransmitted);
}

#[test]
fn requests_that_make_no_sense_are_counted_and_nothing_is_sent() {
    let mut call = Call::new();
    call.media(100);
    let through = sent(&mut call);
    let wrong = [
        Vec::new(),
        vec![0; 4],
        // Ends within a range.
        [&[0][..], &through.to_be_bytes(), &[0, 0]].concat(),
        // An empty range.
        [&[0][..], &through.to_be_bytes(), &[0, 0, 0]].concat(),
        // Too many.
        [&everything(through)[..], &[0, 0, 1]].concat(),
        // More than was ever sent.
        everything(through + 1_000),
    ];
    for (count, body) in wrong.iter().enumerate() {
        call.comes_to(0, FrameKind::RepairRequest, body);
        assert_eq!(call.malformed(0), count as u64 + 1, "{body:?}");
    }
    call.lab.run(Duration::from_millis(50));
    assert_eq!(call.stats(0).retransmitted, 0);
}

#[test]
fn what_nobody_missed_is_not_handled_twice() {
    let mut call = Call::new();
    call.media(100);
    call.lab.delivered.clear();
    let number = sent(&mut call);
    for _ in 0..1_000 {
        call.comes_to(1, FrameKind::Repair, &[&number.to_be_bytes()[..], &[0, 0, 1, 2, 3, 4, 5]].concat());
    }
    assert_eq!(call.lab.relay_mut(1).1.counters().drop_restored, 1_000);
    for wrong in [&[0; 3][..], &[0; 4], &[0, 0, 0, 1, 9, 9, 9], &[0xFF, 0xFF, 0xFF, 0xF0, 9, 9, 9, 9]] {
        let before = call.malformed(1);
        call.comes_to(1, FrameKind::Repair, wrong);
        assert_eq!(call.malformed(1), before + 1, "{wrong:?}");
    }
    assert!(call.lab.delivered.is_empty());
    assert_eq!(call.media(10), 10);
}

/// A row of parity over these numbers, counted from a base.
fn row(row: u8, base: u64, covered: u128, sum: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 32];
    let used = ParityHeader { row, base: PacketNumber(base), covered }.encode(&mut body);
    body.truncate(used);
    body.extend(sum);
    body
}

#[test]
fn headers_of_parity_that_make_no_sense_are_counted() {
    let mut call = Call::new();
    call.media(10);
    let base = u64::from(sent(&mut call)) - 5;
    let sum = [1; 100];
    let fine = row(0, base, 0b101, &sum);
    let (mut long_map, mut no_map, mut not_shortest, mut no_base) =
        (fine.clone(), fine.clone(), fine.clone(), fine.clone());
    long_map[1] = (PARITY_SPAN / 8) as u8 + 1;
    no_map[1] = 0;
    not_shortest[1] = 2;
    not_shortest.insert(7, 0);
    no_base[6] = 0b100;
    let many = (1_u128 << (PARITY_COVERED_MAX + 1)) - 1;
    let wrong = [
        fine[..5].to_vec(),
        fine[..8].to_vec(),
        row(PARITY_ROWS as u8, base, 1, &sum),
        row(u8::MAX, base, 1, &sum),
        row(0, base, many, &sum),
        row(0, base + (1 << 31), 1, &sum),
        long_map,
        no_map,
        not_shortest,
        no_base,
        // Longer than any datagram.
        row(0, base, 1, &[1; 1_600]),
    ];
    for (count, body) in wrong.iter().enumerate() {
        call.comes_to(1, FrameKind::Parity, body);
        assert_eq!(call.malformed(1), count as u64 + 1, "{count}: {body:?}");
    }
    assert_eq!(call.media(10), 10);
}

/// Rows over what was never sent, many at once and each over others: equations with far more unknowns than there are rows.
#[test]
fn rows_that_can_never_be_solved_take_a_bounded_place_and_a_train_of_them_a_millisecond_is_looked_at() {
    let mut call = Call::new();
    call.media(100);
    for ms in 1..=50 {
        for number in 0..100_u64 {
            // Each second number is missing; of these all but one.
            call.numbers[1] += 1;
            let covered = (u128::MAX / 3) & !(4 << (2 * (number % 63)));
            let (place, base) = ((number % PARITY_ROWS as u64) as u8, call.numbers[1] - 150);
            call.comes_to(1, FrameKind::Parity, &row(place, base, covered, &[number as u8; 1_200]));
        }
        assert_eq!(call.stats(1).rows_ignored, ms * (100 - Train::DATAGRAMS_MAX as u64));
        call.lab.run(Duration::from_millis(1));
    }
    assert_eq!((call.stats(1).recovered_parity, call.malformed(1)), (0, 0));
    assert_eq!(call.media(100), 100);
}

#[test]
fn rows_over_what_has_not_come_yet_are_counted() {
    let mut call = Call::new();
    call.media(10);
    let next = call.numbers[1] + 1;
    call.comes_to(1, FrameKind::Parity, &row(0, next - 4, 0b1_0001, &[1; 100]));
    assert_eq!(call.malformed(1), 0, "its own number is the highest");
    call.comes_to(1, FrameKind::Parity, &row(0, next - 4, 0b100_0001, &[1; 100]));
    assert_eq!(call.malformed(1), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a neighbour says about losses, its link and the media on it go on; its own numbers end where they end.
    #[test]
    fn any_repair_at_all(
        frames in prop::collection::vec((0u8..3, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 1..40),
        high: bool,
    ) {
        let mut call = Call::new();
        call.media(20);
        let newest = sent(&mut call);
        if high {
            // The last numbers of all, but for the one that nobody may use.
            call.numbers = [u64::MAX - 1 - frames.len() as u64; 2];
        }
        for (kind, mut body, near) in frames {
            // And where the number stands that it is about, and which is the newest.
            let known = call.numbers[1] as u32;
            let (kind, at, newest) = [
                (FrameKind::RepairRequest, 1, newest),
                (FrameKind::Repair, 0, known),
                (FrameKind::Parity, 2, known),
            ][usize::from(kind)];
            if near && body.len() > 8 {
                // Of this moment, so that it is looked at.
                let number = newest - u32::from(body[7]) % 20;
                body[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            for relay in 0..2 {
                call.comes_to(relay, kind, &body);
            }
            call.lab.run(Duration::from_millis(3));
        }
        let sent_again = call.stats(0).retransmitted_bytes;
        prop_assert!(sent_again <= 2 * SAVED, "{sent_again}");
    }
}
