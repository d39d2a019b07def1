//! How a driver (the worker thread of a port, or the simulator) runs a core: the contract.
//!
//! Each worker of a port has one core (most ports have one worker): [`crate::Relay`] in a relay, [`crate::Client`] in an
//! SFU. Both are driven the same way:
//!
//! ```text
//! handle_input(now, arena, input)
//! then until each answers None:  poll_transmit(now, arena, train)   poll_output()   poll_delivery()   poll_hand_over()
//!                                 poll_plain(arena)
//! then                           poll_timeout()
//! ```
//!
//! The laws, which the simulator's driver asserts on every step:
//!
//! 1. `now` never goes back.
//! 2. One input, then drain, then the next. A batch of datagrams is one input. `arena` is the same slice for an input
//!    and its drain; ranges that a core hands out point into it or, from its end on, into the core's `annex`
//!    ([`crate::packet_bytes`] reads both).
//! 3. After [`Input::Timeout`] and a drain the next deadline is later than `now`.
//! 4. Nothing waits that the deadline does not announce.
//! 5. The driver re-reads the deadline after each drain.
//! 6. Outputs and queues are bounded; an overflow is a counted drop.
//! 7. The same configuration, seed and inputs give the same outputs.
//! 8. No bytes from the wire can panic.
//!
//! What needs an answer, as registrations of plain RTP do, is a method of its core that changes it. A call counts as an
//! input: a drain follows.

use crate::{HandOver, PlainPort, PlainReceived, PlainTransmit, Train};
use std::ops::Range;
use std::time::Duration;
use wire_format::control::TokenKey;
use wire_format::session::Message;
use wire_format::{Incarnation, NodeIndex, PacketNumber, Sequence, StreamHandle, Timestamp};

/// A link as its port counts them; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u32);

/// Who is at the other end of a link, proven by certificate or token before the core hears of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A relay of this overlay.
    Relay {
        /// Its index.
        node: NodeIndex,
    },
    /// An SFU, seen from its relay.
    Client(ClientRights),
    /// The relay, seen from an SFU.
    Upstream,
}

/// What a client's token grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRights {
    /// Who, for people.
    pub subject: String,
    /// Tenant.
    pub namespace: String,
    /// Rooms, `*` matching any run of characters.
    pub room_pattern: String,
    /// May publish.
    pub publish: bool,
    /// May subscribe.
    pub subscribe: bool,
    /// What the token itself hangs on; `None` where no token limits the link.
    pub token: Option<Box<TokenTerms>>,
}

/// What a client's token, and so its link, hangs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenTerms {
    /// The key that signed it.
    pub key: TokenKey,
    /// How long it still holds when the link begins.
    pub valid_for: Duration,
}

/// A plain datagram that arrived, opened and never seen before; its bytes are `arena[range]`.
#[derive(Clone, Debug)]
pub struct Received {
    /// The link it came by.
    pub link: LinkId,
    /// Its number.
    pub number: PacketNumber,
    /// Where the plain bytes are in the arena.
    pub range: Range<usize>,
}

/// An RTP or RTCP packet of this process on its way into the overlay; its bytes are `arena[range]`.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The publication, by the number of the request that began it.
    pub publication: u32,
    /// Where the packet is in the arena.
    pub range: Range<usize>,
    /// It is RTCP.
    pub rtcp: bool,
}

/// An RTP or RTCP packet for this process; [`crate::packet_bytes`] gives its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The announced stream.
    pub handle: StreamHandle,
    /// Which publication of it.
    pub incarnation: Incarnation,
    /// The publisher's sequence.
    pub sequence: Sequence,
    /// Where the packet is in the arena or, from its end on, in the annex.
    pub range: Range<usize>,
    /// It is RTCP.
    pub rtcp: bool,
}

/// What a core is told. `C` is what only this kind of core understands.
#[derive(Debug)]
pub enum Input<'a, C> {
    /// A link stands: sealed datagrams may flow both ways.
    LinkUp {
        /// Its name from now on.
        link: LinkId,
        /// The other end.
        peer: Peer,
        /// Largest datagram (sealed, UDP payload) that both ends accept.
        max_datagram: u16,
    },
    /// A link is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// Datagrams of one wake-up.
    Datagrams(&'a [Received]),
    /// RTP of this process, gathered in one wake-up.
    Local(&'a [Outgoing]),
    /// What other workers of this port handed over: places in the arena, each with the bytes of one [`HandOver`].
    HandedOver(&'a [Range<usize>]),
    /// Plain RTP and RTCP of one wake-up, from whoever sent it.
    Plain(&'a [PlainReceived]),
    /// Datagrams of a link came from another address: ask there, by a datagram of its own, whether the peer receives.
    Challenge {
        /// The link.
        link: LinkId,
        /// Random, for the driver to know its question and the answer by.
        token: [u8; 8],
    },
    /// A message came on the reliable stream of a link.
    Message {
        /// The link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// From the process around the core.
    Command(C),
    /// The deadline of `poll_timeout` has come.
    Timeout,
}

/// What a core wants done, besides datagrams and deliveries. `E` is what only this kind of core says.
#[derive(Debug)]
pub enum Output<E> {
    /// Send a message on the reliable stream of a link.
    Message {
        /// The link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// The peer sees this end of a link at another address, and was told that it is received there.
    PathChallenged {
        /// The link.
        link: LinkId,
    },
    /// Close a link; `LinkDown` follows.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for the log and the peer.
        reason: &'static str,
    },
    /// Close a socket for plain RTP: its registration is over.
    ClosePlain {
        /// The socket.
        port: PlainPort,
    },
    /// For the process around the core.
    Event(E),
}

/// A sans-IO core, driven by the laws above.
pub trait Endpoint: Send + 'static {
    /// What the process around it asks of it.
    type Command: Send;
    /// What it tells the process around it.
    type Event: Send;

    /// Takes one input.
    fn handle_input(&mut self, now: Timestamp, arena: &[u8], input: Input<'_, Self::Command>);

    /// Fills `train` with plain datagrams of equal length (the last may be shorter) for one link, numbered, ready to
    /// seal. Changed by every input.
    #[must_use]
    fn poll_transmit(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> Option<LinkId>;

    /// Bytes of the core's own that ranges may point into behind the arena's end, until the next input: packets that did
    /// not arrive in one piece, or not now.
    fn annex(&self) -> &[u8] {
        &[]
    }

    /// The next packet for this process. Changed by `Input::Datagrams`.
    #[must_use]
    fn poll_delivery(&mut self) -> Option<Delivery>;

    /// The next frame for other workers of this port; a core that is alone has none. Changed by every input.
    #[must_use]
    fn poll_hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// The next plain datagram. Changed by every input. An empty one stands for one that came to nothing.
    #[must_use]
    fn poll_plain<'a>(&'a mut self, arena: &'a [u8]) -> Option<PlainTransmit<'a>> {
        let _ = arena;
        None
    }

    /// Whether plain datagrams at the relay port mean anything to this core. Changed by commands and registrations.
    #[must_use]
    fn takes_plain(&self) -> bool {
        false
    }

    /// The next message or event. Changed by every input.
    #[must_use]
    fn poll_output(&mut self) -> Option<Output<Self::Event>>;

    /// When `Input::Timeout` is due. Changed by every input and by draining.
    #[must_use]
    fn poll_timeout(&self) -> Option<Timestamp>;
}
