//! What a network does to a datagram, as plain state: no sockets, no clock, no global randomness.
//!
//! A [`Link`] is one direction between two hosts. It is offered datagrams with the time at which they enter and answers
//! at once with their [`Fate`]: when they (and perhaps a second copy) come out, or why they never do. Whoever holds the
//! link delivers them: the simulator from its event queue, the impairment proxy of `relayctl dev` from a timer. Times
//! are [`std::time::Duration`]s since an origin that the caller chose, and never go back.
//!
//! A datagram passes, in this order:
//!
//! 1. *the switch*: a link that is `down` loses everything. What had entered before still comes out.
//! 2. *the queue*: at `rate` bits per second one datagram leaves after the other. One that would wait longer than
//!    `queue` is dropped (drop-tail); the bytes counted are those that the caller names.
//! 3. *the wire*: `loss`, which costs the queue's time all the same. Either every datagram alone with a probability;
//!    or in bursts of a mean length, by the two-state model of Gilbert and Elliott, whose good state loses nothing and
//!    whose bad state everything; or in bursts with pauses, by a model of three states (`states:P13/P31/P32/P23`); or symbol by symbol from a recorded trace, which wraps around and is entered at an
//!    offset drawn from the seed. Several `segments` are as many wires in a row, each with that loss: what one has lost
//!    the next never sees.
//! 4. *the way*: `delay`, plus a share of `jitter` that is drawn evenly from nothing to all of it, so that `delay` is
//!    the least there is. Links keep order: jitter alone never lets a datagram overtake another, it waits behind the
//!    slower one, as in a router's queue. Only a datagram chosen by `reorder` falls behind: it is held back for longer
//!    and holds back none of those that follow.
//! 5. *the copier*: `duplicate`, whose second copy draws a jitter of its own and comes with the first or after it.
//!
//! [`Oracle`] says what repetition can at best make of such a link's losses.
//!
//! The same specification, seed and offers give the same fates. Each kind of chance draws from a random stream of its
//! own, so that adding jitter to a link does not change which datagrams it loses.

mod error;
mod link;
mod loss;
mod option;
mod oracle;
mod rng;
mod spec;
mod units;

pub use error::SpecError;
pub use link::{DropReason, Fate, Link};
pub use loss::{Bursts, LossTrace, States, TRACE_SYMBOLS_MAX};
pub use option::{LinkOption, LinkSchedule, Selector};
pub use oracle::{Oracle, Shown};
pub use rng::{Seed, Xoshiro256};
pub use spec::{KEYS, LinkChange, LinkSpec, Loss, SEGMENTS_MAX};
pub use units::{BurstLength, Ppm, Rate, parse_duration};
