//! Looks at the core every second, and has kept what changed.

use super::History;
use super::recorder::{Present, Recorder};
use crate::clock;
use crate::engine::{EngineHandle, Loop};
use crate::refusal::Refusal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// New epochs are looked for so often, ...
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... and links at least so often.
const LINKS_EVERY_MS: u64 = 10_000;
/// Links that are asked for at once: the event loop has other things to do.
const LINKS_AT_ONCE: usize = 2_048;

/// Feeds the history from the loop that leads.
pub(crate) struct Keeper {
    history: Arc<History>,
    engine: EngineHandle,
    recorder: Recorder,
    /// When links were looked at last; `None` before this controller leads.
    looked_ms: Option<u64>,
}

impl Keeper {
    pub(crate) fn new(history: Arc<History>, engine: EngineHandle) -> Keeper {
        Keeper { history, engine, recorder: Recorder::default(), looked_ms: None }
    }

    /// Runs until it is dropped. Where nothing is kept it ends.
    pub(crate) async fn run(mut self) {
        let mut next = tokio::time::interval(LOOK_EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.history.is_kept() {
            next.tick().await;
            // A loop that ends is told of elsewhere; another may begin here.
            if self.look().await.is_err() {
                self.looked_ms = None;
            }
        }
    }

    async fn look(&mut self) -> Result<(), Refusal> {
        let engine = self.engine.leader()?;
        let now_ms = clock::unix_ms();
        let newest = engine.ask(|core, _| core.newest_epoch()).await?;
        let quiet = newest == self.recorder.epoch()
            && self.looked_ms.is_some_and(|looked_ms| now_ms.abs_diff(looked_ms) < LINKS_EVERY_MS);
        if quiet {
            return Ok(());
        }
        let goes_on = self.looked_ms.replace(now_ms).is_some();
        let mut frames = Vec::new();
        if goes_on {
            let since = self.recorder.epoch();
            let tables = engine.ask(move |core, now| core.table_facts(now, since)).await?;
            let present = Present { tables, ..present(&engine).await? };
            frames.extend(self.recorder.changes(now_ms, &present));
        }
        if !goes_on || self.history.wants_whole(now_ms) {
            let tables = engine.ask(|core, now| core.table_facts(now, None)).await?;
            let present = Present { tables, ..present(&engine).await? };
            frames.extend(self.recorder.whole(now_ms, &present));
        }
        self.history.keep(now_ms, frames).await;
        Ok(())
    }
}

/// Relays and links.
async fn present(engine: &Loop) -> Result<Present, Refusal> {
    let nodes = engine.ask(|core, now| core.node_facts(now)).await?;
    let mut links = BTreeMap::new();
    let mut behind = None;
    loop {
        let some = engine.ask(move |core, now| core.link_facts(now, behind, LINKS_AT_ONCE)).await?;
        behind = some.last().map(|(ends, _)| *ends);
        let all = some.len() < LINKS_AT_ONCE;
        links.extend(some);
        if all {
            return Ok(Present { nodes, links, tables: None });
        }
    }
}
