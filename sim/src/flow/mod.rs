//! The flow grain: the real controller core with up to a thousand relays and a hundred thousand streams, for days. Relays
//! say what their links are like, hold what they are told and acknowledge it; links are formulas, streams are rates, and
//! nobody sends a packet. What comes of it is measured and judged over the true network, which the controller never sees.
//!
//! | part | what |
//! | --- | --- |
//! | `truth` | what links are really like at a moment |
//! | `station` | a relay as far as the controller can tell |
//! | `crowd` | who publishes and wants what, when |
//! | `run` | the loop: messages with their delay, reports, faults, samples |
//! | `sample` | what routes and streams are like at a moment |
//! | `judge` | what must hold of samples |
//! | `outcome` | what a run comes to |

mod crowd;
mod judge;
mod outcome;
mod run;
mod sample;
mod station;
mod truth;

pub use outcome::{FlowOutcome, RouteShares, Spread};
