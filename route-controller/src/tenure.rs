//! Until when this controller leads. Whatever leaves it for relays or the store looks here first.

use crate::clock::Clock;
use tokio::sync::watch;
use wire_format::Timestamp;

/// This controller does not lead any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this controller leads no more")]
pub(crate) struct Deposed;

/// The time of one leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tenure {
    clock: Clock,
    /// `None`: a controller that is alone.
    until: Option<watch::Receiver<Timestamp>>,
}

impl Tenure {
    /// Of a controller that is alone.
    pub(crate) fn unlimited(clock: Clock) -> Tenure {
        Tenure { clock, until: None }
    }

    /// Of one among several. It is prolonged by the sender, or ended by setting it to zero.
    pub(crate) fn limited(clock: Clock, until: Timestamp) -> (watch::Sender<Timestamp>, Tenure) {
        let (sender, until) = watch::channel(until);
        (sender, Tenure { clock, until: Some(until) })
    }

    /// Whether it is one among several.
    pub(crate) fn is_limited(&self) -> bool {
        self.until.is_some()
    }

    /// Whether this controller still leads.
    pub(crate) fn holds(&self) -> bool {
        self.until.as_ref().is_none_or(|until| self.clock.now() < *until.borrow())
    }

    /// The same as an error.
    pub(crate) fn check(&self) -> Result<(), Deposed> {
        if self.holds() { Ok(()) } else { Err(Deposed) }
    }

    /// Returns when it is over.
    pub(crate) async fn over(&self) {
        let Some(until) = &self.until else { return std::future::pending().await };
        let mut until = until.clone();
        loop {
            let deadline = *until.borrow_and_update();
            if self.clock.now() >= deadline {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => {}
                changed = until.changed() => if changed.is_err() {
                    // Nobody prolongs it any more.
                    tokio::time::sleep_until(self.clock.instant(deadline)).await;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_lasts_until_its_end_unless_it_is_prolonged_or_ended() {
        let clock = Clock::start();
        let (until, tenure) = Tenure::limited(clock, clock.now() + Duration::from_millis(50));
        assert!(tenure.holds());
        until.send_replace(clock.now() + Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_millis(80), tenure.over()).await.is_err());
        assert_eq!(tenure.check(), Ok(()));
        until.send_replace(Timestamp::ZERO);
        tenure.over().await;
        assert_eq!(tenure.check(), Err(Deposed));

        // Nobody who would prolong it is left.
        let (until, tenure) = Tenure::limited(clock, clock.now() + Duration::from_millis(20));
        drop(until);
        tenure.over().await;
        assert!(!tenure.holds());
        assert!(Tenure::unlimited(clock).holds());
    }
}
