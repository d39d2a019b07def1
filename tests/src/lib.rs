//! What tests of several processes share: the binaries and examples of this workspace, started and ended in good order, and
//! questions to their APIs.

pub mod encoders;
mod etcd;
mod http;
mod process;

pub use etcd::{Cable, EtcdServer, has_etcd};
pub use http::{answer_to_get, answer_to_post, get, post};
pub use process::{Process, example, executable};
