//! SFUs behind address translation, whose translator forgets: from one packet to the next they come from another port, or
//! from another address. The call goes on over the same link: no handshake, no new keys.

use crate::call::{Call, Passage};
use crate::network::{Family, Network, possible};
use crate::overlay::{Overlay, network_of};

/// Longest silence: whoever sends is asked at its new address at once, and whoever only listens sends a heartbeat 30 times
/// a second.
const GAP_MS_MAX: u128 = 500;

/// The largest packet of the cable that an SFU moves to, and what a datagram on it may carry: the largest size that links
/// ask for below.
const NARROW_BYTES: u16 = 1_300;
const NARROW_MTU_BYTES: u64 = 1_252;

#[test]
fn a_call_survives_an_sfu_that_comes_from_elsewhere() {
    if !possible() {
        return;
    }
    let mut network = network_of(Family::V4, &[]);
    for (sfu, translator, relay) in [("sfu-a", "nat-a", "r1"), ("sfu-b", "nat-b", "r3")] {
        translate(&mut network, sfu, translator, relay);
    }
    let mut overlay = Overlay::start_on(network, Family::V4);
    let call = Call::begin(&mut overlay);
    let begin = call.now();
    call.more(100);
    assert_eq!(call.since(begin).lost, 0);

    let links = ["r1", "r3"].map(|relay| Links::of(&overlay, relay));
    let mut passages = Vec::new();
    for (what, translator, relay) in [("publisher", "nat-a", "r1"), ("subscriber", "nat-b", "r3")] {
        let forget = |network: &Network| {
            network.unplug(translator, relay);
            network.plug(translator, relay);
        };
        passages.push((what, "port", moved(&overlay, &call, relay, forget)));
        let elsewhere = if relay == "r1" { "10.77.1.1" } else { "10.77.1.3" };
        let renumber = |network: &Network| {
            network.narrow(relay, translator, NARROW_BYTES);
            network.ip(relay, &format!("route replace {elsewhere}/32 dev {translator}"));
            let old = network.address(translator);
            network.ip(translator, &format!("address del {old}/32 dev {relay}"));
            network.ip(translator, &format!("address add {elsewhere}/32 dev {relay}"));
            let there = network.address(relay);
            network.ip(translator, &format!("route replace {there}/32 dev {relay} src {elsewhere}"));
        };
        passages.push((what, "address", moved(&overlay, &call, relay, renumber)));
    }
    for (who, what, passage) in &passages {
        eprintln!("another {what} of the {who}: {passage:?}");
    }
    for (who, what, passage) in passages {
        assert!(passage.gap_ms <= GAP_MS_MAX, "another {what} of the {who}: {passage:?}");
        assert_eq!((passage.repeated, passage.damaged), (0, 0), "another {what} of the {who}: {passage:?}");
    }
    // Each relay saw its SFU move twice, on the link that it had.
    for (relay, before) in ["r1", "r3"].into_iter().zip(links) {
        let now = Links::of(&overlay, relay);
        eprintln!("{relay}: {before:?}, then {now:?}");
        assert_eq!(now, Links { moved: before.moved + 2, ..before }, "{relay}");
    }
    // The new path takes less, which no packet of this call is large enough to find out: the link has asked.
    for relay in ["r1", "r3"] {
        overlay.until("the size of the new path is known", |overlay| {
            let links = overlay.relay(relay, "links");
            links.iter().any(|link| link["peer"] == "client" && link["mtu_bytes"] == NARROW_MTU_BYTES)
        });
    }
    drop(call);
    overlay.stop();
}

/// Puts a translator between an SFU and its relay.
fn translate(network: &mut Network, sfu: &str, translator: &str, relay: &str) {
    network.host(sfu);
    network.host(translator);
    network.cable(sfu, translator);
    network.cable(translator, relay);
    let (via, there) = (network.address(translator), network.address(relay));
    network.ip(sfu, &format!("route replace {there}/32 via {via} dev {translator}"));
    network.forward(translator);
    network.nft(
        translator,
        &format!(
            "table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname {relay} masquerade random; }}; }}"
        ),
    );
}

/// Waits, after the change, until the call flows and its relay sees the SFU elsewhere.
fn moved(overlay: &Overlay, call: &Call, relay: &str, change: impl Fn(&Network)) -> Passage {
    let (before, seen) = (call.now(), flow(overlay, relay));
    change(&overlay.network);
    overlay.until("the SFU comes from elsewhere", |overlay| {
        let now = flow(overlay, relay);
        !now.is_empty() && now != seen
    });
    call.settle();
    call.more(100);
    call.since(before)
}

/// What the translator of a relay's SFU has made of its address, as it stands in its table.
fn flow(overlay: &Overlay, relay: &str) -> String {
    let translator = if relay == "r1" { "nat-a" } else { "nat-b" };
    let there = overlay.network.address(relay).to_string();
    let table =
        overlay.network.on(translator, || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
    let table = table.expect("the table of translations");
    // The second tuple is that of answers: where the relay sends them.
    let flows = table.lines().filter(|line| line.contains("udp") && line.contains(&format!("src={there} ")));
    let answers = flows.filter_map(|line| line.split(&format!("src={there} ")).nth(1));
    answers.map(|answer| answer.split(" [").next().unwrap_or_default().to_owned()).collect()
}

/// What became of the links of a relay since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Links {
    made: u64,
    ended: u64,
    moved: u64,
}

impl Links {
    fn of(overlay: &Overlay, relay: &str) -> Links {
        let count =
            |event: &str| overlay.metric(relay, &format!("cascade_relay_port_total{{event=\"{event}\"}}"));
        Links { made: count("links_up"), ended: count("links_down"), moved: count("paths_moved") }
    }
}
