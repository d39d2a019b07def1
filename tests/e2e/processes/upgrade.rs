//! Software that changes while a call runs: relays are stopped and started anew one by one, older and newer ones share
//! a room.
//!
//! The stream asks for protection, which older relays do not know: it is published without, and copies that newer ones send are
//! passed on. The older ones are relays of this build that are told to speak the oldest version of the link protocol only. A real
//! relay of an earlier release takes their place where `CASCADE_OLD_RELAY_NODE` names its binary.

use crate::overlay::Overlay;
use crate::stream::{Stream, camera};
use sfu_link::{SfuLink, SubscribeOptions};
use std::process::Command;
use wire_format::session::WIRE_VERSIONS;

/// Longest silence when an SFU's relay goes: it says goodbye, and the SFU links to the next one.
const GAP_MS_MAX: u128 = 250;
/// Packets lost by that, of 500 a second.
const LOST_MAX: usize = 125;

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_rolls_through_the_overlay_under_a_call() {
    let mut overlay = Overlay::start_with(old).await;
    let (sender, receiver) = (overlay.sfu_of(&["r1", "r2"]).await, overlay.sfu_of(&["r3", "r2"]).await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera().protect()).await.expect("granted");
    let mut stream = Stream::flowing(publication, &mut subscription).await;

    // Measurements on a busy machine may have led the stream over r2 for a moment.
    let is_straight = |overlay: &Overlay| {
        let routes = overlay.list(&["routes", "dump", "--node", "r1", "--plane", "0"], "routes");
        routes.iter().any(|row| row["path"] == serde_json::json!(["r1", "r3"]))
    };
    overlay.until("the stream goes straight", is_straight).await;

    // r2 carries nothing yet, r3 has the subscriber, which moves to r2; r1 the publisher, likewise.
    for relay in ["r2", "r3", "r1"] {
        let renew = async {
            tokio::task::block_in_place(|| {
                overlay.stop_relay(relay);
                overlay.start_relay(relay, |command| command);
            });
            overlay.until("the relay is back", Overlay::is_whole).await;
        };
        let passage;
        (stream, subscription, passage) = stream.endure(subscription, renew).await;
        eprintln!("{relay} renewed: {passage:?}");
        assert_eq!(passage.repeated, 0, "{relay}: {passage:?}");
        if relay == "r2" {
            assert_eq!(passage.lost, 0, "{relay}: {passage:?}");
        }
        assert!(passage.lost <= LOST_MAX && passage.gap_ms <= GAP_MS_MAX, "{relay}: {passage:?}");
    }
    // Nobody said anything that another did not understand.
    for relay in ["r1", "r2", "r3"] {
        for series in [
            "cascade_relay_port_total{event=\"closed_bad_message\"}",
            "cascade_relay_core_drops_total{reason=\"malformed\"}",
        ] {
            assert_eq!(overlay.metric(relay, series), 0, "{relay}: {series}");
        }
        // An older relay does not say who its publisher is: the one that this moved to refuses the stream, whose name is
        // taken, until it has ended there.
        let refused = overlay.metric(relay, "cascade_relay_core_total{event=\"messages_refused\"}");
        assert!(refused <= u64::from(relay == "r2"), "{relay}: {refused} messages refused");
    }
    for sfu in [&sender, &receiver] {
        SfuLink::close(sfu).await;
    }
    overlay.stop();
}

/// A relay as it was before the upgrade.
fn old(command: Command) -> Command {
    let Some(binary) = std::env::var_os("CASCADE_OLD_RELAY_NODE") else {
        let mut command = command;
        command.args(["--wire-version-max", &WIRE_VERSIONS.0.to_string()]);
        return command;
    };
    let mut old = Command::new(binary);
    if let Some(directory) = command.get_current_dir() {
        old.current_dir(directory);
    }
    old
}
