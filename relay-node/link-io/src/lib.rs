//! The relay port: one UDP socket for QUIC and sealed media, and the worker thread that drives a sans-IO core with it.
//! Relays and SFUs use the same [`Port`], around a [`relay_core::Relay`] or a [`relay_core::Client`].
//!
//! # What happens where
//!
//! ```text
//!   tokio                                     the port's worker thread
//!   ┌──────────────────────────┐  commands    ┌───────────────────────────────┐
//!   │ dial, accept, admission  │ ───────────> │ poll ─> receive a batch (GRO)  │
//!   │ hello, accept, keys      │  QUIC        │   first byte: QUIC or sealed?  │
//!   │ control stream of a link │ <─────────── │   open in place, replay window │ <──> UDP socket
//!   │ (quinn)                  │  messages    │   core: handle_input, drain    │
//!   │                          │ <─────────── │   seal trains in place, GSO    │
//!   └──────────────────────────┘              └───────────────────────────────┘
//! ```
//!
//! - **QUIC** proves who is there (TLS 1.3, the overlay's CA) and carries the link's messages. **Media** goes in sealed
//!   datagrams beside it, on the same addresses, with keys from the TLS exporter. Both come in through the worker, which
//!   hands QUIC's datagrams over a bounded queue; quinn sends straight to the socket.
//! - The worker runs each wake-up to completion: a batch of datagrams is one input to the core, what the core wants
//!   done is done, and the thread sleeps again. On that way nothing is allocated, no lock is taken and no string is
//!   hashed. A link is found by the low bits of the receiver index that its peer was given; the high bits are random and
//!   are compared.
//! - Other threads reach the worker over bounded queues, and pay for a system call only if it sleeps.
//!
//! A port with **several workers** has a socket, a thread and a core for each, in one SO_REUSEPORT group; a small program
//! in the kernel gives each datagram to the worker that its receiver index names. A link between relays has a lane (keys,
//! numbers, replay window) for each worker, a client's link belongs to one. What must change hands goes through bounded
//! mailboxes, whole batches at a time. QUIC, and all that is no sealed datagram, is the first worker's.
//!
//! # Why it may be trusted
//!
//! - An unauthenticated datagram costs no memory and gets no answer larger than itself: it is dropped and counted, or
//!   QUIC's business, which makes every stranger prove its address before it keeps anything (Retry, RFC 9000 section 8.1).
//! - Sealing refuses a packet number that is not above the last one, so no nonce repeats under a key. Each 2^22 numbers
//!   have keys of their own.
//! - A link's address follows its peer only to where the peer has answered a sealed question.
//! - Both cores hear `LinkUp` before anything of that link. The side that accepted sends no sealed datagram before the
//!   dialler has shown that it can open them.
//! - A peer that does not read its messages loses its link, not this port's memory.
//!
//! # Limits
//!
//! All in [`Limits`]; whatever exceeds one is refused or dropped and counted in [`PortStats`].

mod clock;
mod config;
mod connection_ids;
mod control;
mod error;
mod hand_over;
mod handshake;
mod link;
mod link_table;
mod local;
mod moved;
mod patience;
mod plain;
mod port;
mod quic;
mod replay;
mod seal;
#[cfg(test)]
mod seal_fuzz;
mod sink;
mod slots;
mod socket;
mod spool;
mod stats;
mod steer;
mod stun;
mod tls;
mod wake;
mod worker;

pub use clock::now;
pub use config::{Admission, DialInfo, Expect, Identity, Limits, PortConfig, Refusal, Trust, admit_nobody};
pub use error::{LinkError, PortClosed, PortError, SendError};
pub use plain::PlainSocket;
pub use port::{Link, Port};
pub use sink::{EventReceiver, Overflow, Sink, Upcall, WorkerEvents, event_queue, worker_event_queue};
pub use stats::PortStats;
pub use steer::WORKERS_MAX;
