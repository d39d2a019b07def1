//! A day of what was measured and decided, in bounded space: what `--at` asks.
//!
//! The core tells what routes hang on ([`route_core::Moment`]); once in ten seconds, and when there is a new epoch, what
//! changed of it is appended to a file, off the event loop. A history that is full forgets its oldest hour, and one that
//! cannot be written says so and goes on when it can: neither keeps the controller from its work. It is this controller's
//! own: of several, each keeps what it decided while it led.

mod asked;
mod config;
mod frame;
mod keeper;
mod recorder;
mod segments;
#[cfg(test)]
mod tests;

pub(crate) use config::HistoryConfig;
pub(crate) use keeper::Keeper;

use crate::clock::utc;
use crate::refusal::{Refusal, RefusalKind};
use anyhow::Context as _;
use frame::Frame;
use route_core::Moment;
use segments::{Found, Missing, Segments};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How the history fares.
#[derive(Default, Debug)]
pub(crate) struct HistoryCounts {
    /// Bytes on disk.
    pub(crate) bytes: AtomicU64,
    /// Frames that were written.
    pub(crate) frames: AtomicU64,
    /// Times that nothing could be written.
    pub(crate) errors: AtomicU64,
}

/// The history of this controller. Shared by whoever writes and whoever asks.
#[derive(Debug)]
pub(crate) struct History {
    /// `None` if nothing is kept.
    segments: Option<Arc<Mutex<Segments>>>,
    /// Why nothing is kept.
    trouble: Option<String>,
    pub(crate) counts: Arc<HistoryCounts>,
}

/// A moment of the past, and when it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Past {
    pub(crate) moment: Moment,
    pub(crate) as_of_ms: u64,
}

impl History {
    /// One that cannot be opened is none; the controller works without.
    pub(crate) fn open(config: &HistoryConfig) -> History {
        let counts = Arc::<HistoryCounts>::default();
        let Some(folder) = &config.folder else {
            return History { segments: None, trouble: None, counts };
        };
        let keep_ms = u64::try_from(config.keep.as_millis()).unwrap_or(u64::MAX);
        match Segments::open(folder, config.bytes_max, keep_ms) {
            Ok(segments) => {
                counts.bytes.store(segments.bytes(), Ordering::Relaxed);
                History { segments: Some(Arc::new(Mutex::new(segments))), trouble: None, counts }
            }
            Err(error) => {
                tracing::warn!("no history is kept: {error:#}");
                History { segments: None, trouble: Some(format!("{error:#}")), counts }
            }
        }
    }

    fn is_kept(&self) -> bool {
        self.segments.is_some()
    }

    fn wants_whole(&self, now_ms: u64) -> bool {
        let segments = self.segments.as_ref();
        segments.is_some_and(|segments| locked(segments).wants_whole(now_ms))
    }

    /// Appends frames of now.
    async fn keep(&self, now_ms: u64, frames: Vec<Frame>) {
        let Some(segments) = self.segments.clone().filter(|_| !frames.is_empty()) else { return };
        let written = frames.len() as u64;
        let write = move || {
            let mut segments = locked(&segments);
            let appended = frames.iter().try_for_each(|frame| segments.append(now_ms, frame));
            (appended, segments.bytes())
        };
        let Ok((appended, bytes)) = tokio::task::spawn_blocking(write).await else { return };
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        match appended {
            Ok(()) => {
                self.counts.frames.fetch_add(written, Ordering::Relaxed);
            }
            Err(error) => {
                if self.counts.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!("the history is not written at the moment: {error:#}");
                }
            }
        }
    }

    /// What was so at a moment, milliseconds since 1970.
    pub(crate) async fn at(&self, at_ms: u64) -> Result<Past, Refusal> {
        let Some(segments) = self.segments.clone() else {
            let hint = self.trouble.clone().unwrap_or_else(|| {
                "`history_bytes` is 0 in the controller's configuration: without it the present alone is known".to_owned()
            });
            return Err(Refusal::new(RefusalKind::NotFound, "no history is kept", hint));
        };
        let read = move || locked(&segments).at(at_ms).context("cannot read the history");
        let found = tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::stopping())?;
        let found = found.map_err(|error| {
            Refusal::broken(format!("{error:#}"), "check the folder of the history and its owner")
        })?;
        found
            .map(|Found { moment, as_of_ms }| Past { moment, as_of_ms })
            .map_err(|missing| nothing_of(at_ms, missing))
    }
}

fn locked(segments: &Mutex<Segments>) -> std::sync::MutexGuard<'_, Segments> {
    // Whoever panicked while it was locked left at worst a segment that ends early.
    segments.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nothing_of(at_ms: u64, missing: Missing) -> Refusal {
    let hint = match missing {
        Missing::Empty => {
            "nothing has been kept so far: the first moments are written some seconds after the start"
                .to_owned()
        }
        Missing::Before(began_ms) => format!("it begins at {}", utc(began_ms / 1000)),
        Missing::Gap(before_ms, None) => {
            format!("nothing was kept after {}: is that time to come?", utc(before_ms / 1000))
        }
        Missing::Gap(before_ms, Some(after_ms)) => format!(
            "this controller did not run, or did not lead, from {} to {}",
            utc(before_ms / 1000),
            utc(after_ms / 1000)
        ),
    };
    Refusal::new(RefusalKind::NotFound, format!("the history has nothing of {}", utc(at_ms / 1000)), hint)
}
