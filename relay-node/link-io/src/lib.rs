//! link-io.

mod clock;
mod config;
mod error;
mod port;
mod sink;
mod stats;

pub use clock::now;
pub use config::{Admission, DialInfo, Expect, Identity, Limits, PortConfig, Refusal, Trust, admit_nobody};
pub use error::{LinkError, PortClosed, PortError, SendError};
pub use port::{Link, Port};
pub use sink::{EventReceiver, Overflow, Sink, Upcall, event_queue};
pub use stats::PortStats;
