//! A relay under attack while a call crosses it. The relays and the controller are processes of their own, so that the
//! memory and the counters are those of the relay alone; the SFUs, the attackers and a tap that catches real sealed
//! datagrams are this process.
//!
//! In the test suite some hundred thousand datagrams arrive at a pace that a debug build on two cores bears. The whole
//! run, by hand:
//!
//! ```text
//! CASCADE_HOSTILE_DATAGRAMS=10000000 CASCADE_HOSTILE_RATE=20000 \
//!     cargo test --release -p e2e --test under_attack -- --nocapture
//! ```
//!
//! Each kind of datagram has its counter, and what was sent must be found there, but for what the kernel dropped before
//! the relay saw it, which the kernel counts.

#![allow(clippy::print_stdout, reason = "the figures are what a long run is for")]

mod attack;
mod call;
mod forgeries;
mod handshakes;
mod overlay;
mod tap;

use attack::{Attack, Blow, Report};
use call::Call;
use forgeries::{Draws, KINDS};
use overlay::{Counters, Overlay};
use std::time::Duration;
use tap::Tap;

/// Datagrams in all, and how many a second.
const DATAGRAMS: u64 = 100_000;
const RATE: u64 = 10_000;
/// What the attacked relay may grow by, KiB: the kernel's view of its memory, so heaps that are not given back count.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
/// Lost packets of a stream that attacks may cost, of 10,000.
const LOST_OF_10_000_MAX: u64 = 10;
/// Half-open handshakes of each sort.
const HANDSHAKES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_under_attack_carries_a_call_undisturbed() {
    let datagrams = setting("CASCADE_HOSTILE_DATAGRAMS").unwrap_or(DATAGRAMS);
    let rate = setting("CASCADE_HOSTILE_RATE").unwrap_or(RATE);
    let overlay = Overlay::start().await;
    let target = overlay.port("r2");
    let tap = Tap::towards(target);

    // A call from r1 to r3, by way of r2; and one whose publisher sits behind the tap.
    let receiver = overlay.sfu(overlay.port("r3")).await;
    let mut call = Call::listening(&receiver, "call").await;
    let caller = overlay.sfu(overlay.port("r1")).await;
    let tapped = overlay.sfu(tap.address()).await;
    call.speak(&caller, "camera", Duration::from_millis(2)).await;
    call.speak(&caller, "microphone", Duration::from_millis(20)).await;
    call.speak(&tapped, "tapped", Duration::from_millis(10)).await;
    call.flowing().await;
    let before = overlay.counters("r2");
    assert!(before["core media_forwarded"] > 0, "the call crosses the attacked relay");

    let mut rss_kib = overlay.rss_kib("r2");
    println!(
        "{:<28} {:>10} {:>8} {:>9} {:>9} {:>9}",
        "kind", "sent", "sources", "counted", "kernel", "RSS KiB"
    );
    println!("{:<28} {:>10} {:>8} {:>9} {:>9} {rss_kib:>9}", "before", "", "", "", "");
    let mut warm = None;
    let shares: u64 = KINDS.iter().map(|kind| kind.share).sum();
    for kind in KINDS {
        let attack = Attack { target, rate: kind.rate(rate), sources: kind.sources };
        let count = datagrams * kind.share / shares;
        let samples = tap.samples().await;
        let mut draws = Draws::new(count);
        let (from, dropped) = (overlay.counters("r2"), overlay.kernel_drops("r2"));
        let report = tokio::task::block_in_place(|| {
            attack.run(count, |number, bytes| (kind.forge)(&samples, number, &mut draws, bytes))
        });
        let lost = || overlay.kernel_drops("r2") - dropped;
        let counted = |now: &Counters| kind.counters.iter().map(|name| now[*name] - from[*name]).sum::<u64>();
        let settled = |now: &Counters| counted(now) + lost() >= report.sent;
        let now = overlay.until("what was sent is counted", "r2", settled).await;
        assert!(counted(&now) <= report.sent + kind.others, "{}: {} counted", kind.name, counted(&now));
        for name in kind.counters {
            assert!(now[*name] > from[*name], "{}: {name} counts", kind.name);
        }
        assert!(report.most_answered() <= kind.answered_max, "{}: {report:?}", kind.name);
        rss_kib = overlay.rss_kib("r2");
        row(kind.name, &report, counted(&now), lost(), rss_kib);
        // The first kind fills queues to their working size, and heaps with them.
        warm.get_or_insert(rss_kib);
    }

    assert_eq!(
        overlay.counters("r2")["port drop_receive_buffer"],
        overlay.kernel_drops("r2"),
        "the relay knows what the kernel dropped"
    );
    rss_kib = rss_kib.max(handshakes(&overlay, rate).await);
    flood(&overlay, &receiver).await;

    let warm = warm.expect("there is a first kind");
    let after = overlay.rss_kib("r2").max(rss_kib);
    assert!(after <= warm + GROWTH_KIB_MAX, "the relay grew from {warm} to {after} KiB");
    for stream in call.end().await {
        println!("{stream}");
        assert_eq!((stream.twice, stream.damaged), (0, 0), "{stream}");
        assert!(stream.sent > 100 && stream.lost() * 10_000 <= stream.sent * LOST_OF_10_000_MAX, "{stream}");
    }
    // The relay is as good as new: another SFU links and is heard.
    let late = overlay.sfu(target).await;
    let mut again = Call::listening(&receiver, "again").await;
    again.speak(&late, "late", Duration::from_millis(5)).await;
    again.flowing().await;
    overlay.stop();
}

/// Thousands begin a handshake and say nothing more: first from addresses that never answer, then from some that prove
/// themselves before they fall silent.
async fn handshakes(overlay: &Overlay, rate: u64) -> u64 {
    let target = overlay.port("r2");
    let (from, dropped) = (overlay.counters("r2"), overlay.kernel_drops("r2"));
    let attack = Attack { target, rate: rate.min(2_000), sources: 1_000 };
    let mut strangers = handshakes::Strangers::new(target);
    let blow: Blow<'_> = &mut |_, bytes| strangers.initial(bytes);
    let report = tokio::task::block_in_place(|| attack.run(HANDSHAKES, blow));
    let lost = overlay.kernel_drops("r2") - dropped;
    let told = |now: &Counters| now["port quic_retries"] - from["port quic_retries"];
    // What the port itself had no room for is counted as well.
    let overflowed = |now: &Counters| now["port drop_quic_queue"] - from["port drop_quic_queue"];
    let settled = |now: &Counters| told(now) + lost + overflowed(now) >= report.sent;
    let now = overlay.until("strangers are told to prove themselves", "r2", settled).await;
    assert!(report.most_answered() <= 1.0, "half-open: {report:?}");
    row("half-open handshakes", &report, told(&now), lost, overlay.rss_kib("r2"));

    let proved = tokio::task::spawn_blocking(move || handshakes::silent_after_retry(target, HANDSHAKES));
    let report = proved.await.expect("no panic");
    let names = ["port refused_handshakes", "port failed_handshakes"];
    let counted = |now: &Counters| names.iter().map(|name| now[*name] - from[*name]).sum::<u64>();
    // The last of them are given up 5 s after they began.
    let lost = || overlay.kernel_drops("r2") - dropped;
    let settled = |now: &Counters| counted(now) + lost() + overflowed(now) >= report.sent;
    let now = overlay.until("handshakes that stand still end", "r2", settled).await;
    for name in names {
        assert!(now[name] > from[name], "{name} counts");
    }
    let rss_kib = overlay.rss_kib("r2");
    row("half-open, address proved", &report, counted(&now), lost(), rss_kib);
    rss_kib
}

/// An SFU that is let in and sends ten times what its link may, every packet legal.
async fn flood(overlay: &Overlay, receiver: &sfu_link::SfuLink) {
    let from = overlay.counters("r2");
    let neighbour = overlay.sfu(overlay.port("r2")).await;
    let mut flood = Call::listening(receiver, "flood").await;
    flood.speak(&neighbour, "flood", Duration::from_micros(166)).await;
    flood.flowing().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let streams = flood.end().await;
    let now = overlay.counters("r2");
    let (sent, arrived) = (streams[0].sent, streams[0].sent - streams[0].lost());
    let taken = now["core media_published"] - from["core media_published"];
    let refused = now["core drop_link_rate"] - from["core drop_link_rate"];
    println!("ten times its rate: {}; {refused} datagrams refused", streams[0]);
    assert!(taken >= arrived && arrived > 0, "{taken} taken, {arrived} arrived");
    assert!(refused > 0 && arrived < sent / 2, "cut down to its rate: {arrived} of {sent}");
    neighbour.close().await;
}

fn row(name: &str, report: &Report, counted: u64, lost: u64, rss_kib: u64) {
    println!(
        "{name:<28} {:>10} {:>8} {counted:>9} {lost:>9} {rss_kib:>9}   {:.0}/s, {} bytes answered, {:.2} at most of what \
         a source sent",
        report.sent,
        report.sources,
        report.rate(),
        report.answered,
        report.most_answered()
    );
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}: a whole number is expected")))
}
