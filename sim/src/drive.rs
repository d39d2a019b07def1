//! Drives a core by the laws of its contract and says which of them it breaks.
//!
//! | law | how it is watched |
//! | --- | --- |
//! | 1 `now` never goes back | asserted here: a fault of the simulator itself |
//! | 2 one input, then drain | each step is both, under one arena |
//! | 3 after a timeout the next deadline is later | compared |
//! | 4 nothing waits unannounced | before each input and after each drain every poll must be empty |
//! | 5 the deadline is re-read | returned by every step |
//! | 6 outputs are bounded | counted, and each train measured |
//! | 7 the same inputs give the same outputs | the hash of the trace, in two runs |
//! | 8 no bytes can panic | whoever runs a world catches panics and names the seed |

use relay_core::{Delivery, Endpoint, Input, LinkId, Output, Train};
use route_core::Controller;
use wire_format::{PacketNumber, SEAL_OVERHEAD_BYTES, SEALED_HEADER_BYTES, TAG_BYTES, Timestamp};

/// Most outputs of one step. Far more than a sound core has to say in any scenario.
const OUTPUTS_MAX: usize = 200_000;

/// A broken law.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation(pub(crate) String);

/// A datagram that a core sends.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    pub(crate) link: LinkId,
    pub(crate) number: PacketNumber,
    pub(crate) plain: Vec<u8>,
}

/// What one step brought out.
#[derive(Debug)]
pub(crate) struct Drained<E> {
    pub(crate) departures: Vec<Departure>,
    /// Deliveries and their bytes.
    pub(crate) deliveries: Vec<(Delivery, Vec<u8>)>,
    pub(crate) outputs: Vec<Output<E>>,
    pub(crate) violations: Vec<Violation>,
}

/// A core of a port and what the driver watches of it.
#[derive(Debug)]
pub(crate) struct Driver<C> {
    core: C,
    train: Train,
    now: Timestamp,
}

impl<C: Endpoint> Driver<C> {
    pub(crate) fn new(core: C) -> Driver<C> {
        Driver { core, train: Train::new(), now: Timestamp::ZERO }
    }

    pub(crate) fn core(&self) -> &C {
        &self.core
    }

    /// When the core wants its timeout.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.core.poll_timeout()
    }

    /// One input, then everything that it brings out.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        arena: &[u8],
        input: Input<'_, C::Command>,
    ) -> Drained<C::Event> {
        assert!(now >= self.now, "law 1: the world's clock went back from {} to {now}", self.now);
        self.now = now;
        let mut violations = Vec::new();
        if self.has_more(now, arena) {
            violations.push(Violation("law 4: something waited that no deadline announced".to_owned()));
        }
        let is_timeout = matches!(input, Input::Timeout);
        self.core.handle_input(now, arena, input);
        let mut drained =
            Drained { departures: Vec::new(), deliveries: Vec::new(), outputs: Vec::new(), violations };
        self.drain(now, arena, &mut drained);
        if self.has_more(now, arena) {
            drained.violations.push(Violation("law 2: a drain was not complete".to_owned()));
        }
        if let Some(deadline) = self.core.poll_timeout().filter(|deadline| is_timeout && *deadline <= now) {
            let text = format!("law 3: after a timeout at {now} the next deadline is {deadline}");
            drained.violations.push(Violation(text));
        }
        drained
    }

    fn drain(&mut self, now: Timestamp, arena: &[u8], drained: &mut Drained<C::Event>) {
        let count = |drained: &Drained<C::Event>| {
            drained.departures.len() + drained.deliveries.len() + drained.outputs.len()
        };
        while let Some(link) = self.core.poll_transmit(now, arena, &mut self.train) {
            self.take_train(link, drained);
            if count(drained) > OUTPUTS_MAX {
                break;
            }
        }
        while let Some(output) = self.core.poll_output() {
            drained.outputs.push(output);
            if count(drained) > OUTPUTS_MAX {
                break;
            }
        }
        while let Some(delivery) = self.core.poll_delivery() {
            if delivery.range.end > arena.len() + self.core.annex().len() {
                drained.violations.push(Violation(format!("delivery beyond the arena: {delivery:?}")));
            } else {
                let bytes = relay_core::packet_bytes(arena, self.core.annex(), &delivery.range).to_vec();
                drained.deliveries.push((delivery, bytes));
            }
            if count(drained) > OUTPUTS_MAX {
                break;
            }
        }
        if count(drained) > OUTPUTS_MAX {
            drained.violations.push(Violation(format!("law 6: more than {OUTPUTS_MAX} outputs of one step")));
        }
    }

    fn take_train(&mut self, link: LinkId, drained: &mut Drained<C::Event>) {
        let slots = self.train.slots();
        let segment = self.train.segment_bytes();
        let uniform = slots.split_last().is_none_or(|(last, others)| {
            others.iter().all(|slot| slot.sealed.len() == segment) && last.sealed.len() <= segment
        });
        if slots.is_empty() || !uniform || self.train.bytes().len() > Train::BYTES_MAX {
            let lengths: Vec<_> = slots.iter().map(|slot| slot.sealed.len()).collect();
            drained.violations.push(Violation(format!("a train that the kernel cannot cut: {lengths:?}")));
        }
        for slot in slots {
            let plain = slot.plain();
            debug_assert_eq!(plain.len() + SEALED_HEADER_BYTES + TAG_BYTES, slot.sealed.len());
            let plain = self.train.bytes()[plain].to_vec();
            drained.departures.push(Departure { link, number: slot.number, plain });
        }
    }

    /// Something can be polled although nothing was put in.
    fn has_more(&mut self, now: Timestamp, arena: &[u8]) -> bool {
        self.core.poll_transmit(now, arena, &mut self.train).is_some()
            || self.core.poll_delivery().is_some()
            || self.core.poll_output().is_some()
    }
}

/// Bytes of a departure on the network.
pub(crate) fn sealed_bytes(departure: &Departure) -> usize {
    departure.plain.len() + SEAL_OVERHEAD_BYTES
}

/// The controller's core, watched by the same laws.
#[derive(Debug)]
pub(crate) struct ControllerDriver {
    core: Controller,
    now: Timestamp,
}

impl ControllerDriver {
    pub(crate) fn new(core: Controller) -> ControllerDriver {
        ControllerDriver { core, now: Timestamp::ZERO }
    }

    pub(crate) fn core(&self) -> &Controller {
        &self.core
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.core.poll_timeout()
    }

    /// One input, then everything that it brings out.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        input: route_core::Input,
    ) -> (Vec<route_core::Output>, Vec<Violation>) {
        assert!(now >= self.now, "law 1: the world's clock went back from {} to {now}", self.now);
        self.now = now;
        let mut violations = Vec::new();
        if self.core.poll_output().is_some() {
            violations.push(Violation("law 4: an output waited that no deadline announced".to_owned()));
        }
        let is_timeout = matches!(input, route_core::Input::Timeout);
        self.core.handle_input(now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| self.core.poll_output()).take(OUTPUTS_MAX).collect();
        if self.core.poll_output().is_some() {
            violations.push(Violation(format!("law 6: more than {OUTPUTS_MAX} outputs of one step")));
        }
        if let Some(deadline) = self.core.poll_timeout().filter(|deadline| is_timeout && *deadline <= now) {
            let text = format!("law 3: after a timeout at {now} the next deadline is {deadline}");
            violations.push(Violation(text));
        }
        (outputs, violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::Outgoing;
    use std::time::Duration;

    /// Which law the core below breaks.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Bug {
        None,
        NeverDone,
        DeadlineStays,
        SpeaksUnasked,
        DeliversBeyondTheArena,
    }

    /// A core with a bug planted in it.
    struct Planted {
        bug: Bug,
        outputs: usize,
        deliveries: Vec<Delivery>,
        deadline: Option<Timestamp>,
    }

    impl Endpoint for Planted {
        type Command = ();
        type Event = ();

        fn handle_input(&mut self, now: Timestamp, _arena: &[u8], input: Input<'_, ()>) {
            let is_timeout = matches!(input, Input::Timeout);
            self.outputs = if self.bug == Bug::NeverDone { usize::MAX } else { 3 };
            let stays = is_timeout && self.bug == Bug::DeadlineStays;
            self.deadline = Some(if stays { now } else { now + Duration::from_secs(1) });
            if self.bug == Bug::DeliversBeyondTheArena {
                self.deliveries.push(Delivery {
                    handle: wire_format::StreamHandle(1),
                    incarnation: wire_format::Incarnation(0),
                    sequence: wire_format::Sequence(0),
                    range: 5..50,
                    rtcp: false,
                });
            }
        }

        fn poll_transmit(&mut self, _now: Timestamp, _arena: &[u8], _train: &mut Train) -> Option<LinkId> {
            None
        }

        fn poll_delivery(&mut self) -> Option<Delivery> {
            self.deliveries.pop()
        }

        fn poll_output(&mut self) -> Option<Output<()>> {
            if self.outputs == 0 {
                // Ready again a moment later, though no input came.
                self.outputs = usize::from(self.bug == Bug::SpeaksUnasked);
                return None;
            }
            self.outputs -= 1;
            Some(Output::Event(()))
        }

        fn poll_timeout(&self) -> Option<Timestamp> {
            self.deadline
        }
    }

    fn violations(bug: Bug) -> String {
        let core = Planted { bug, outputs: 0, deliveries: Vec::new(), deadline: None };
        let mut driver = Driver::new(core);
        let mut all = Vec::new();
        for (at, input) in [(1, Input::Local(&[] as &[Outgoing])), (2, Input::Timeout)] {
            all.extend(driver.step(Timestamp::from_micros(at), &[0; 10], input).violations);
        }
        all.into_iter().map(|Violation(text)| text).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_sound_core_breaks_no_law() {
        assert_eq!(violations(Bug::None), "");
    }

    #[test]
    fn each_planted_bug_is_noticed() {
        for (bug, law) in [
            (Bug::NeverDone, "law 6"),
            (Bug::DeadlineStays, "law 3"),
            (Bug::SpeaksUnasked, "law 2"),
            (Bug::DeliversBeyondTheArena, "beyond the arena"),
        ] {
            let found = violations(bug);
            assert!(found.contains(law), "{bug:?}: {found:?}");
        }
    }

    #[test]
    #[should_panic(expected = "law 1")]
    fn the_clock_never_goes_back() {
        let core = Planted { bug: Bug::None, outputs: 0, deliveries: Vec::new(), deadline: None };
        let mut driver = Driver::new(core);
        let _ = driver.step(Timestamp::from_micros(2), &[], Input::Timeout);
        let _ = driver.step(Timestamp::from_micros(1), &[], Input::Timeout);
    }
}
