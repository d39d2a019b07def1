//! A controller lost with its host, and restored from a backup as RUNBOOK.md says: relays and calls go on.

use crate::overlay::Overlay;
use crate::stream::{Stream, camera};
use sfu_link::SubscribeOptions;
use std::fs;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_restored_from_a_backup_knows_its_relays() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;
    let nodes = |overlay: &Overlay| {
        let mut nodes: Vec<_> = overlay
            .list(&["nodes"], "nodes")
            .iter()
            .map(|row| (row["name"].clone(), row["node"].clone()))
            .collect();
        nodes.sort_by_key(|(name, _)| name.to_string());
        nodes
    };
    let before = nodes(&overlay);

    // The backup is taken while nobody writes, and calls go on. Then a relay joins that the backup does not know.
    let backup = overlay.path("backup");
    let token = overlay.relayctl(&["join-token", "create", "--name", "r4", "--region", "local"]);
    fs::write(overlay.path("r4.token"), token).expect("written");
    let take = async {
        overlay.stop_controller();
        copy(overlay.state(), &backup);
        overlay.start_controller();
        overlay.until("every relay has a route to every other", Overlay::is_whole).await;
    };
    let stream = stream.run(&mut subscription, 1000, take).await;
    let mut newcomer = overlay.command("relay-node");
    newcomer.args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--log-format", "json"]);
    newcomer.arg("--state-dir").arg(overlay.path("r4"));
    newcomer.arg("--join-token-file").arg(overlay.path("r4.token"));
    let newcomer = e2e::Process::start(newcomer, "relay port open");
    let connected = |overlay: &Overlay| {
        overlay.list(&["nodes"], "nodes").iter().filter(|node| node["state"] == "connected").count()
    };
    overlay.until("the newcomer is there", |overlay| connected(overlay) == 4).await;
    let with_newcomer = nodes(&overlay);
    assert_eq!(with_newcomer[..3], before);

    // The controller is lost with its disk.
    let restore = async {
        overlay.kill_controller();
        fs::remove_dir_all(overlay.state()).expect("removed");
        *overlay.state() = backup;
        overlay.start_controller();
        overlay.until("all relays are back", |overlay| connected(overlay) == 4).await;
    };
    let stream = stream.run(&mut subscription, 1500, restore).await;
    assert_eq!(nodes(&overlay), with_newcomer, "all under their old indices, the newcomer too");
    stream.run(&mut subscription, 100, async {}).await;
    newcomer.terminate();
    sender.close().await;
    receiver.close().await;
    overlay.stop();
}

/// A controller that comes back from the past, of an older term than relays have heard of: as one that hung for long.
#[tokio::test(flavor = "multi_thread")]
async fn relays_follow_no_controller_of_an_older_term() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;
    let connected = |overlay: &Overlay| {
        let is = |relay: &&str| overlay.metric(relay, "cascade_relay_controller_connected") == 1;
        ["r1", "r2", "r3"].iter().filter(|relay| is(relay)).count()
    };
    let stamped = |overlay: &Overlay| {
        ["r1", "r2", "r3"].map(|relay| overlay.metric(relay, "cascade_relay_stamp_epoch"))
    };

    let (present, future) = (overlay.path("controller"), overlay.path("future"));
    let disturbance = async {
        tokio::task::block_in_place(|| {
            overlay.stop_controller();
            copy(&present, &future);
            set_term(&future.join("route-controller.redb"), 4_000_000_000);
            *overlay.state() = future.clone();
            overlay.start_controller();
        });
        overlay.until("all follow the newer term", |overlay| connected(overlay) == 3).await;
        overlay.until("its tables are in force", Overlay::is_whole).await;
        let epochs = tokio::task::block_in_place(|| {
            overlay.stop_controller();
            *overlay.state() = present;
            overlay.start_controller();
            stamped(&overlay)
        });
        let tried = |overlay: &Overlay| {
            let metrics = e2e::get(overlay.admin(), "/metrics");
            let sessions =
                metrics.lines().find_map(|line| line.strip_prefix("cascade_controller_sessions_total "));
            sessions.and_then(|sessions| sessions.parse::<u64>().ok()).is_some_and(|sessions| sessions >= 9)
        };
        overlay.until("each has looked at the older one again and again", tried).await;
        let (followed, after) = tokio::task::block_in_place(|| (connected(&overlay), stamped(&overlay)));
        assert_eq!(followed, 0, "nobody follows it");
        assert_eq!(after, epochs, "nobody takes its tables");
        tokio::task::block_in_place(|| {
            overlay.stop_controller();
            *overlay.state() = future;
            overlay.start_controller();
        });
        overlay.until("all are back", |overlay| connected(overlay) == 3).await;
    };
    let (stream, mut subscription, passage) = stream.endure(subscription, disturbance).await;
    assert_eq!((passage.lost, passage.repeated), (0, 0), "{passage:?}");
    stream.run(&mut subscription, 100, async {}).await;
    sender.close().await;
    receiver.close().await;
    overlay.stop();
}

/// Changes the term that a store remembers.
fn set_term(file: &Path, term: u64) {
    let database = redb::Database::open(file).expect("a store");
    let transaction = database.begin_write().expect("nobody else writes");
    let numbers = redb::TableDefinition::<&str, u64>::new("numbers");
    transaction.open_table(numbers).expect("it is there").insert("term", term).expect("written");
    transaction.commit().expect("durable");
}

/// What `cp -r` does.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)
        } else {
            fs::copy(source, target).map(|_| ()).expect("copied")
        }
    }
}
