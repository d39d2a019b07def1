//! This overlay across one hop.

use super::outcome::Measured;
use super::{FIRST_DELIVERY, Run, WARM_UP};
use crate::dev::repair::RepairWatch;
use crate::dev::{Budget, Call, Carried, Options, Overlay, StreamStatus, Topology};
use anyhow::{Context as _, ensure};
use link_model::{LinkOption, Selector};

/// Packets of all streams: sent, and not there; later than the budget.
fn counts(streams: &[StreamStatus], under_way: bool) -> [u64; 3] {
    let sum = |count: fn(&StreamStatus) -> u64| streams.iter().map(count).sum::<u64>();
    let waiting = if under_way { sum(|stream| stream.under_way) } else { 0 };
    [
        sum(|stream| stream.counts.sent),
        sum(|stream| stream.counts.lost()) - waiting,
        sum(|stream| stream.counts.late),
    ]
}

pub(super) async fn measure(run: &Run) -> anyhow::Result<Measured> {
    let change = run.link.change.clone();
    let options = Options {
        relays: 2,
        topology: Topology::Line,
        duration: Some(run.duration),
        links: vec![LinkOption { selector: Selector::All, change, at: std::time::Duration::ZERO }],
        budget: Budget { video: run.budget, audio: run.budget },
        seed: run.seed,
        ..Options::default()
    };
    let overlay = Overlay::start(&options).await?;
    let mut call = Call::across(&overlay, &options).await?;
    tokio::time::timeout(FIRST_DELIVERY, call.first_delivery()).await.context("no packet arrives")??;
    tokio::time::sleep(WARM_UP).await;
    let mut repair = RepairWatch::default();
    repair.look(&overlay).await;
    let (before, entered_before) = (counts(&call.streams(), true), entered(&overlay));
    tokio::time::sleep(run.duration).await;
    repair.look(&overlay).await;
    let entered = entered(&overlay) - entered_before;
    call.finish().await;
    let after = counts(&call.streams(), false);
    call.close().await;
    overlay.stop().await;
    ensure!(repair.first_bytes() > 0, "the relays counted no datagram with media");
    let [sent, lost, late] = [0, 1, 2].map(|place| after[place].saturating_sub(before[place]));
    Ok(Measured::of(run, sent, lost, late, entered, repair.first_bytes()))
}

/// Bytes that entered the link, both directions.
fn entered(overlay: &Overlay) -> u64 {
    overlay.carried().values().map(|Carried { offered_bytes, .. }| offered_bytes).sum()
}
