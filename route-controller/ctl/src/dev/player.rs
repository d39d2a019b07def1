//! Plays a recording in real time: a thread that sends every packet when it is due.

use crate::dev::clock::Clock;
use crate::dev::recording::Recording;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest sleep, so that stopping is noticed.
const NAP_MAX: Duration = Duration::from_millis(20);

/// A recording that is being played. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Player {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    /// Plays `recording` from now on, for ever. `send` is called with the number of the track and the bytes of its next
    /// packet.
    pub(crate) fn start(
        recording: Recording,
        clock: Clock,
        mut send: impl FnMut(usize, &[u8]) + Send + 'static,
    ) -> std::io::Result<Player> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("player".to_owned()).spawn(move || {
            let begin = clock.now();
            let mut next = vec![0_u64; recording.tracks().len()];
            let mut packet = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let due = recording.tracks().iter().zip(&next).map(|(track, index)| track.at(*index));
                let Some((number, at)) = due.enumerate().min_by_key(|(_, at)| *at) else { return };
                let wait = (begin + at).saturating_sub(clock.now());
                if !wait.is_zero() {
                    std::thread::sleep(wait.min(NAP_MAX));
                    continue;
                }
                recording.tracks()[number].packet(next[number], &mut packet);
                send(number, &packet);
                next[number] += 1;
            }
        })?;
        Ok(Player { stop, thread: Some(thread) })
    }

    /// Stops; nothing is sent once this returns.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A player that panicked has said so on stderr and sends no more either.
            let _ = thread.join();
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stop();
    }
}
