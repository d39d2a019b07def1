//! Drives a core by its contract, and asserts it.

use relay_core::{Endpoint, Input, LinkId, Output, Received, Train, packet_bytes};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use wire_format::{FrameKind, PacketNumber, SEAL_OVERHEAD_BYTES, Timestamp, frames};

/// Trains and outputs after one input, at most: far more than a core of a few links has reason for.
const ANSWERS_MAX: usize = 10_000;
pub const MAX_DATAGRAM: u16 = 1_452;

/// A core, its clock, and what its neighbours know of it.
pub struct Bench<E> {
    pub now: Timestamp,
    pub core: E,
    /// Links that stand, and the highest number that left on each.
    pub links: BTreeMap<LinkId, Option<u64>>,
    /// Next number that comes in on each.
    next_in: BTreeMap<LinkId, u64>,
    /// Frames that came in.
    pub frames_in: u64,
    /// Frames that left, by the link and kind.
    pub frames_out: Vec<(LinkId, FrameKind)>,
    /// All that came out so far, hashed: two runs of the same steps agree.
    pub digest: u64,
}

impl<E: Endpoint> Bench<E>
where
    E::Event: Debug,
{
    pub fn new(core: E) -> Bench<E> {
        Bench {
            now: Timestamp::from_micros(1_000_000),
            core,
            links: BTreeMap::new(),
            next_in: BTreeMap::new(),
            frames_in: 0,
            frames_out: Vec::new(),
            digest: 0xCBF2_9CE4_8422_2325,
        }
    }

    /// One input and its drain.
    pub fn input(&mut self, arena: &[u8], input: Input<'_, E::Command>) -> Vec<Output<E::Event>> {
        let is_timeout = matches!(input, Input::Timeout);
        if let Input::LinkUp { link, .. } = &input {
            self.links.insert(*link, None);
        }
        if let Input::LinkDown { link } = &input {
            self.links.remove(link);
        }
        self.core.handle_input(self.now, arena, input);
        let outputs = self.drain(arena);
        let deadline = self.core.poll_timeout();
        if is_timeout {
            assert!(deadline.is_none_or(|deadline| deadline > self.now), "law 3: {deadline:?}");
        }
        outputs
    }

    fn drain(&mut self, arena: &[u8]) -> Vec<Output<E::Event>> {
        let mut train = Train::new();
        let mut answers = 0;
        while let Some(link) = self.core.poll_transmit(self.now, arena, &mut train) {
            answers += 1;
            assert!(answers < ANSWERS_MAX, "law 6: the drain ends");
            self.sent(link, &train);
        }
        let mut outputs = Vec::new();
        while let Some(output) = self.core.poll_output() {
            self.note(format!("{output:?}").as_bytes());
            outputs.push(output);
            assert!(outputs.len() < ANSWERS_MAX, "law 6: outputs are bounded");
        }
        let mut deliveries = 0;
        while let Some(delivery) = self.core.poll_delivery() {
            deliveries += 1;
            assert!(deliveries < ANSWERS_MAX, "law 6: deliveries are bounded");
            assert!(
                !packet_bytes(arena, self.core.annex(), &delivery.range).is_empty(),
                "law 2: ranges point into the arena or the annex"
            );
            self.note(format!("{delivery:?}").as_bytes());
        }
        outputs
    }

    /// A train left: equal lengths, the last may be shorter, numbered upwards, well-formed within.
    fn sent(&mut self, link: LinkId, train: &Train) {
        let last = self.links.get_mut(&link).expect("what leaves, leaves on a link that stands");
        let segment = train.segment_bytes();
        let mut end = 0;
        for (index, slot) in train.slots().iter().enumerate() {
            assert_eq!(slot.sealed.start, end, "datagrams of a train are neighbours");
            end = slot.sealed.end;
            let bytes = slot.sealed.len();
            let is_last = index + 1 == train.slots().len();
            assert!(bytes == segment || is_last && bytes < segment, "a train has equal datagrams");
            assert!(bytes <= usize::from(MAX_DATAGRAM) && bytes > SEAL_OVERHEAD_BYTES);
            assert!(last.is_none_or(|last| slot.number.0 > last), "numbers never step back");
            *last = Some(slot.number.0);
        }
        for slot in train.slots() {
            let plain = &train.bytes()[slot.plain()];
            self.note(plain);
            for frame in frames(plain) {
                let frame = frame.expect("cores write well-formed frames");
                self.frames_out.push((link, frame.kind));
            }
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    /// A datagram came, `gap` after the one before it.
    pub fn datagram(&mut self, link: LinkId, gap: u32, plain: &[u8]) -> Vec<Output<E::Event>> {
        let next = self.next_in.entry(link).or_default();
        let number = next.saturating_add(u64::from(gap));
        *next = number.saturating_add(1);
        self.frames_in += frames(plain).count() as u64;
        let batch = [Received { link, number: PacketNumber(number), range: 0..plain.len() }];
        self.input(plain, Input::Datagrams(&batch))
    }

    /// Time passes, with every deadline on its way.
    pub fn wait(&mut self, time: Duration) -> Vec<Output<E::Event>> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while let Some(deadline) = self.core.poll_timeout().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            outputs.extend(self.input(&[], Input::Timeout));
        }
        self.now = end;
        outputs
    }
}
