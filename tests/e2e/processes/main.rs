//! The binaries as separate processes, from the example configurations in deploy/, with `relayctl` beside them: what the
//! README shows. Only ports and directories differ from the examples, so that tests can run beside each other.

mod calls;
mod controllers;
mod credentials;
mod dev;
mod drain;
mod failover;
mod limits;
mod overlay;
mod plain;
mod policies;
mod record;
mod restore;
mod stream;
mod upgrade;

use std::time::Duration;

/// Everything here happens on loopback; whatever takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}
