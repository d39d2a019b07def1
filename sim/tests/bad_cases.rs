//! Links that go wrong in ways that repair could make worse: what it may cost then, seen at the link model.

use sim::{Datagram, Event, Host, Packet, Purpose, RelayId, Scenario, Trace, judge};
use std::collections::BTreeMap;
use std::time::Duration;

/// Measured from here on: the link knows itself.
const SETTLED: Duration = Duration::from_secs(4);
/// The last moments of a run, in which packets are still under way.
const TAIL: Duration = Duration::from_millis(1_500);
/// Everything that hosts take to notice what came, both SFUs and their links included.
const HOSTS: Duration = Duration::from_millis(3);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An SFU at relay 1 whose audio and video (2 Mbit/s, evenly spread) an SFU at relay 2 gets, over a link that does this.
struct Call {
    scenario: Scenario,
    trace: Trace,
}

impl Call {
    fn run(links: &str, packets_per_s: u32, budget: &str, seed: u64) -> Call {
        Call::run_for(24, links, packets_per_s, budget, seed)
    }

    fn run_for(run_s: u64, links: &str, packets_per_s: u32, budget: &str, seed: u64) -> Call {
        let (video, audio) = (video("cam", packets_per_s, budget), stream("mic", "audio", 50, 120, budget));
        Call::of(run_s, links, &format!("{video}{audio}"), seed)
    }

    /// The same with these streams.
    fn of(run_s: u64, links: &str, streams: &str, seed: u64) -> Call {
        let text = format!(
            "name = \"call\"\nrun_for = \"{run_s}s\"\nclients_link = \"delay=1ms\"\n\
             [[relay]]\nname = \"r1\"\n[[relay]]\nname = \"r2\"\n{links}\
             [[client]]\nname = \"a\"\nrelay = \"r1\"\n[[client]]\nname = \"b\"\nrelay = \"r2\"\n{streams}\
             [[subscription]]\nclient = \"b\"\nroom = \"call\"\n\
             [expect]\nrecover_within = \"2s\"\ndelivered_min = 1000\n"
        );
        let scenario = Scenario::parse(&text, &mut |_| unreachable!("names no files")).expect("legal");
        let trace = sim::run(&scenario, seed);
        assert_eq!(judge(&scenario, &trace), [], "{links}");
        Call { scenario, trace }
    }

    /// What left relay 1 for relay 2.
    fn there(&self) -> impl Iterator<Item = (Duration, &Datagram)> {
        let all = self.trace.events().iter().filter_map(|(at, event)| Some((*at, event.datagram()?)));
        all.filter(|(_, datagram)| datagram.from == RelayId(0))
    }

    /// How many datagrams to relay 2 were there for that, when the link knew itself.
    fn count(&self, purpose: Purpose) -> usize {
        let span = SETTLED..self.scenario.media_end();
        self.there().filter(|(at, datagram)| span.contains(at) && datagram.purpose == purpose).count()
    }

    /// Datagrams of relay 2 that asked for something.
    fn asked(&self) -> usize {
        let all = self.trace.events().iter().filter_map(|(at, event)| Some((*at, event.datagram()?)));
        let span = SETTLED..self.scenario.media_end();
        all.filter(|(at, datagram)| span.contains(at) && datagram.asks).count()
    }

    /// Of each packet sent then: how long it took, unless it never came.
    fn packets(&self, from: Duration, until: Duration) -> Vec<Option<Duration>> {
        self.fates(from, until).into_iter().map(|(_, took)| took).collect()
    }

    /// Of the so-manieth stream, once the link knew itself: how many packets never came, of how many.
    fn lost_of(&self, stream: u16) -> (usize, usize) {
        let mut fates = self.fates(SETTLED, self.scenario.run_for - TAIL);
        fates.retain(|(packet, _)| packet.stream.0 == stream);
        (fates.iter().filter(|(_, took)| took.is_none()).count(), fates.len())
    }

    fn fates(&self, from: Duration, until: Duration) -> Vec<(Packet, Option<Duration>)> {
        let (mut sent, mut came) = (BTreeMap::new(), BTreeMap::<Packet, Duration>::new());
        for (at, event) in self.trace.events() {
            if let Event::Sent { packet, .. } = event
                && (from..until).contains(at)
            {
                sent.insert(*packet, *at);
            }
            if let Some(packet) = event.delivered().and_then(|delivered| delivered.packet) {
                assert_eq!(came.insert(packet, *at), None, "{packet:?} was delivered twice");
            }
        }
        sent.into_iter().map(|(packet, at)| (packet, came.get(&packet).map(|came| *came - at))).collect()
    }

    /// All packets sent when the link knew itself have arrived; how long the last one took.
    fn all_arrived(&self) -> Duration {
        let packets = self.packets(SETTLED, self.scenario.run_for - TAIL);
        let lost = packets.iter().filter(|packet| packet.is_none()).count();
        assert_eq!(lost, 0, "of {}", packets.len());
        packets.into_iter().flatten().max().expect("some were sent")
    }

    /// Nothing was held back or dropped because a queue was seen.
    fn was_not_slowed(&self) {
        for (_, event) in self.trace.events() {
            if let Event::Counter { host, name, value } = event {
                assert!(!name.starts_with("drop_congested"), "{host:?} counts {name} = {value}");
            }
        }
    }

    /// The most bytes that left for relay 2 in any stretch of so long within a time, as a rate per second.
    fn peak(&self, from: Duration, until: Duration, window: Duration) -> f64 {
        let sent: Vec<_> = self.there().filter(|(at, _)| (from..until).contains(at)).collect();
        let (mut first, mut bytes, mut most) = (0, 0, 0);
        for (at, datagram) in &sent {
            bytes += u64::from(datagram.bytes);
            while *at - sent[first].0 >= window {
                bytes -= u64::from(sent[first].1.bytes);
                first += 1;
            }
            most = most.max(bytes);
        }
        most as f64 / window.as_secs_f64()
    }
}

/// Of 2 Mbit/s.
fn video(name: &str, packets_per_s: u32, budget: &str) -> String {
    stream(name, "video", packets_per_s, 250_000 / packets_per_s, budget)
}

fn stream(name: &str, kind: &str, packets_per_s: u32, bytes: u32, budget: &str) -> String {
    format!(
        "[[stream]]\nclient = \"a\"\nroom = \"call\"\nuser = \"ann\"\nstream = \"{name}\"\nkind = \"{kind}\"\n\
         bursts_per_s = {packets_per_s}\nbytes = {bytes}\nbudget = \"{budget}\"\n"
    )
}

fn both(is: &str) -> String {
    format!("[[link]]\nbetween = \"r1-r2\"\nis = \"{is}\"\n")
}

/// Feedback, and requests with it, gets lost; media does not. Whether a round of repair fits or not.
#[test]
fn loss_of_feedback_alone_loses_no_media_and_calls_forth_no_repairs() {
    for (delay, budget) in [(20, "200ms"), (80, "60ms")] {
        for loss in ["loss=5%", "loss=30%,burst=4"] {
            let there = format!("[[link]]\nbetween = \"r1>r2\"\nis = \"delay={delay}ms\"\n");
            let back = format!("[[link]]\nbetween = \"r2>r1\"\nis = \"delay={delay}ms,{loss}\"\n");
            let call = Call::run(&format!("{there}{back}"), 250, budget, 3);
            assert!(call.all_arrived() <= ms(delay + 2) + HOSTS, "{:?}", call.all_arrived());
            call.was_not_slowed();
            let (media, again) = (call.count(Purpose::Media), call.count(Purpose::Again));
            assert!(again * 1000 <= media, "{again} repairs of {media} datagrams, {loss} at {delay} ms");
            assert_eq!(call.count(Purpose::Parity), 0, "{loss} at {delay} ms");
        }
    }
}

/// *Paced rate*: what leaves in the mean before the outage. *Peak*: the most in any 100 ms after it. In 20 ms, in which a
/// datagram is a fifth of the paced rate and chance as much, it is bounded as well.
#[test]
fn after_an_outage_nothing_storms() {
    let (outage, over) = (ms(10_000), ms(10_500));
    for (delay, way) in [(10, "-"), (40, "-"), (80, "-"), (20, ">")] {
        for seed in 1..=2 {
            let (from, until) = (outage.as_millis(), over.as_millis());
            let mut links = both(&format!("delay={delay}ms"));
            for (at, what) in [(from, "down"), (until, "down=false")] {
                links += &format!("[[link]]\nbetween = \"r1{way}r2\"\nis = \"{what}\"\nfrom = \"{at}ms\"\n");
            }
            let call = Call::run(&links, 250, "200ms", seed);
            let paced = call.peak(SETTLED, outage, outage - SETTLED);
            let after = over..over + ms(3_000);
            let most = call.peak(after.start, after.end, ms(100)) / paced;
            let short = call.peak(after.start, after.end, ms(20)) / paced;
            let usual = call.peak(SETTLED, outage, ms(20)) / paced;
            let lost =
                call.packets(over + ms(20), ms(20_000)).iter().filter(|packet| packet.is_none()).count();
            assert_eq!(lost, 0, "everything passes again");
            assert!(after.end < call.scenario.media_end());
            assert!(most <= 1.5, "{most:.2} times the paced rate over 100 ms, {delay} ms {way}");
            assert!(short <= usual + 0.8, "{short:.2} times the paced rate over 20 ms, {usual:.2} before");
        }
    }
}

/// Packets that come 20 behind where they were: those of a thousand a second are held back by up to 20 ms, and so on.
/// *Adapted*: to how late packets are, within the first moments; to that being no loss, where no round of repair fits and
/// losses would be answered by parity, 10 s after the last one that was asked for.
#[test]
fn reordering_by_twenty_packets_is_no_loss() {
    let often = ["1%", "5%", "20%"];
    for (delay, packets_per_s, budget, shares) in
        [(20, 1_000, "200ms", &often[1..]), (80, 250, "200ms", &often[..]), (80, 250, "100ms", &often[1..])]
    {
        for share in shares {
            let link = both(&format!("delay={delay}ms,reorder={share}"));
            let call = Call::run_for(26, &link, packets_per_s, budget, 5);
            assert!(call.all_arrived() <= ms(3 * delay + 2) + HOSTS);
            call.was_not_slowed();
            let media = call.count(Purpose::Media);
            assert!(call.asked() * 1000 <= media, "{} requests with {share} reordered", call.asked());
            // Copies that nobody asked for are sent where no round fits, like parity.
            let rounds_fit = delay < 80;
            let adapted = if rounds_fit { SETTLED } else { Duration::from_secs(20) };
            let count = |purpose| {
                let span = adapted..call.scenario.media_end();
                call.there().filter(|(at, datagram)| span.contains(at) && datagram.purpose == purpose).count()
            };
            let (again, parity) = (count(Purpose::Again), count(Purpose::Parity));
            assert!(again * 1000 <= media, "{again} repairs of {media} datagrams with {share} reordered");
            assert_eq!(parity, 0, "{share} within {budget}");
        }
    }
}

#[test]
fn duplicated_datagrams_are_delivered_once_and_not_repaired() {
    for (delay, budget) in [(20, "200ms"), (80, "60ms")] {
        let call = Call::run(&both(&format!("delay={delay}ms,jitter=4ms,duplicate=30%")), 250, budget, 7);
        assert!(call.all_arrived() <= ms(delay + 4 + 2) + HOSTS);
        call.was_not_slowed();
        let counts = [Purpose::Again, Purpose::Parity].map(|purpose| call.count(purpose));
        assert_eq!((counts, call.asked()), ([0, 0], 0));
    }
}

#[test]
fn a_hostile_neighbour_gets_its_share_of_repairs_and_the_call_goes_on() {
    for loss in ["", ",loss=2%,burst=3"] {
        let links = format!(
            "[[link]]\nbetween = \"r1-r2\"\nis = \"delay=20ms{loss}\"\n\
             [[fault]]\nat = \"2s\"\nhostile = \"r2\"\n"
        );
        let call = Call::run(&links, 200, "150ms", 1);
        // Where some is lost its own requests are in each other's way, and nobody else's.
        if loss.is_empty() {
            call.all_arrived();
        }
        let (media, again) = (call.count(Purpose::Media), call.count(Purpose::Again));
        assert!(again > media / 10, "it is answered: {again} of {media}");
        assert!(again < media * 2 / 5, "and gets its share: {again} of {media}");
        // One of eight of its frames names what was never sent, one a row that is none, one what was not sent yet.
        let mut counts = Vec::new();
        for (_, event) in call.trace.events() {
            if let Event::Counter { host, name: "drop_malformed", value } = event {
                counts.push((*host, *value));
            }
        }
        let [(Host::Relay(RelayId(0)), malformed)] = counts[..] else {
            panic!("the other relay counts it, and nobody else")
        };
        assert!(malformed > 100, "{malformed}");
    }
}

/// A link that lost, and loses no more, is asked for nothing half a minute later: what media pauses for is no loss again.
#[test]
fn where_nothing_is_lost_any_more_nothing_is_asked_for() {
    for delay in [40, 80] {
        let links = format!(
            "[[link]]\nbetween = \"r1-r2\"\nis = \"delay={delay}ms,loss=5%,burst=2\"\n\
             [[link]]\nbetween = \"r1-r2\"\nis = \"loss=0%,burst=none\"\nfrom = \"10s\"\n"
        );
        // Pictures of eight packets, and nothing between them.
        let cam = video("cam", 26, "200ms")
            .replace("bytes =", "burst = 8\nspread = \"2ms\"\nbytes =")
            .replace("9615", "1200");
        let call = Call::of(60, &links, &cam, 3);
        let asks = |from: u64, until: u64| {
            let all = call.trace.events().iter().filter_map(|(at, event)| Some((*at, event.datagram()?)));
            all.filter(|(at, datagram)| (ms(from)..ms(until)).contains(at) && datagram.asks).count()
        };
        assert!(asks(4_000, 10_000) > 10, "it was asked while it lost");
        assert_eq!(asks(42_000, 58_000), 0, "RTT {} ms", 2 * delay);
    }
}

/// The links of SFUs are repaired as those between relays are, whichever of them loses.
#[test]
fn what_the_links_of_sfus_lose_is_repaired() {
    for lossy in [&["a>r1", "r1>a"][..], &["r2>b", "b>r2"], &["a>r1", "r1>a", "r2>b", "b>r2"]] {
        for loss in ["loss=5%,burst=3", "loss=10%"] {
            let mut links = both("delay=10ms");
            for way in lossy {
                links += &format!("[[link]]\nbetween = \"{way}\"\nis = \"delay=20ms,{loss}\"\n");
            }
            for seed in 1..=4 {
                let call = Call::run(&links, 208, "200ms", seed);
                let own = |way| if lossy.contains(&way) { 20 } else { 1 };
                let path = ms(own("a>r1") + 10 + own("r2>b"));
                let packets = call.packets(SETTLED, call.scenario.run_for - TAIL);
                let in_time = path + ms(200) + HOSTS;
                let late = packets.iter().filter(|took| took.is_none_or(|took| took > in_time)).count();
                assert_eq!(late, 0, "of {}: {lossy:?}, {loss}, seed {seed}", packets.len());
            }
        }
    }
}

/// No round of repair fits for one of two videos on a link; the other has time for some. Each is repaired by its own means.
#[test]
fn video_in_a_hurry_is_repaired_as_well_beside_video_with_time() {
    let link = both("delay=80ms,loss=2%,burst=3");
    for seed in 1..=2 {
        for others in ["400ms", "2s"] {
            let streams = format!("{}{}", video("cam", 208, "60ms"), video("screen", 208, others));
            let call = Call::of(64, &link, &streams, seed);
            let (lost, all) = call.lost_of(0);
            assert!(lost * 100 <= all, "{lost} of {all} beside {others}, seed {seed}");
            assert_eq!(call.lost_of(1).0, 0, "what has time is sent again");
        }
    }
}
