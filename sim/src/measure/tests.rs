//! Figures that can be counted by hand.

use super::*;
use crate::scenario::Host;
use link_model::{LinkSchedule, LinkSpec};

/// Two relays 30 ms apart, with a client 1 ms away from each; a voice of 50 packets a second that is due from 1 s to 5 s. The
/// link is cut from 3 s on for so long.
fn scenario(cut_ms: u64) -> Scenario {
    let fault = match cut_ms {
        0 => String::new(),
        cut => format!("[[fault]]\nat = \"3s\"\nuntil = \"{}ms\"\ncut = \"r1-r2\"\n", 3_000 + cut),
    };
    let text = format!(
        "name = \"t\"\nrun_for = \"6s\"\n[[relay]]\nname = \"r1\"\nregion = \"eu\"\n[[relay]]\nname = \"r2\"\nregion = \"us\"\n\
         [[link]]\nbetween = \"r1-r2\"\nis = \"delay=30ms\"\n[[client]]\nname = \"a\"\nrelay = \"r1\"\n\
         [[client]]\nname = \"b\"\nrelay = \"r2\"\n[[stream]]\nclient = \"a\"\nroom = \"r\"\nuser = \"u\"\nstream = \"s\"\n\
         kind = \"audio\"\nbursts_per_s = 50\nbytes = 120\n[[subscription]]\nclient = \"b\"\nroom = \"r\"\n\
         [[price]]\nfrom = \"eu\"\nto = \"us\"\ncents_per_gb = 10\n{fault}\
         [expect]\nrecover_within = \"1s\"\ndelivered_min = 0\n"
    );
    Scenario::parse(&text, &mut |_| unreachable!("no file")).expect("legal")
}

fn measured(scenario: &Scenario) -> Figures {
    measure(scenario, 1, &Fastest::of(scenario))
}

#[test]
fn a_quiet_run_is_what_the_scenario_says() {
    let scenario = scenario(0);
    let figures = measured(&scenario);
    assert_eq!((figures.due, figures.delivered, figures.lost, figures.late), (200, 200, 0, 0));
    assert_eq!(figures.delivered_bytes, 200 * 120);
    // 1 + 30 + 1 ms, and what hosts take to notice: 80 us each at most.
    let delay = figures.audio_delay.quantile(0.5).expect("packets").as_micros();
    assert!((32_000..32_400).contains(&delay), "{delay}");
    assert_eq!((figures.video_delay.total(), figures.silences.total(), figures.failovers.total()), (0, 0, 0));
    assert_eq!((figures.playback().stalls, figures.route_changes), (0, 0));
    assert_eq!((figures.copies, figures.published), (200, 200));
    let [r1, r2] = [RelayId(0), RelayId(1)];
    assert_eq!(figures.paths.values().collect::<Vec<_>>(), [&vec![r1, r2]]);
    let there = figures.links[&(r1, r2)];
    // One packet a datagram, with its frame, header, seal and, as a rule, a heartbeat.
    assert!((200 * 160..200 * 200).contains(&there.media_bytes), "{there:?}");
    assert_eq!(figures.links[&(r2, r1)].carried_bytes(), 0);
    // The way back costs nothing.
    let dollars = there.bytes() as f64 / 1e9 * 0.1;
    assert!((figures.dollars - dollars).abs() < 1e-12, "{} and {dollars}", figures.dollars);
    assert!(figures.violations.is_empty());
    assert_eq!(figures, measured(&scenario), "the same again");
}

#[test]
fn a_cut_is_a_silence_a_failover_and_a_stall() {
    let figures = measured(&scenario(600));
    assert_eq!(figures.due, 200);
    assert_eq!(figures.delivered + figures.lost, 200);
    // The cut and its end; the last packet before came at 3.03 s, the first of those sent after it at 3.63 s at the earliest,
    // and links that were missed take a moment longer.
    assert_eq!(figures.failovers.total(), 2);
    let longest = figures.failovers.longest();
    assert!(longest >= Duration::from_millis(550) && longest < Duration::from_millis(1_500), "{longest:?}");
    assert_eq!(figures.silences.longest(), longest);
    let playback = figures.playback();
    assert_eq!((playback.stalls >= 1, playback.played), (true, Duration::from_secs(4)));
    assert!(playback.stalled + Duration::from_millis(200) > longest, "{playback:?}");
}

#[test]
fn what_comes_later_than_the_fastest_way_and_the_budget_is_late() {
    let scenario = scenario(0);
    let mut slower = scenario.clone();
    let slow = {
        let spec = LinkSpec::parse("delay=300ms", &mut |_| unreachable!("no file")).expect("legal");
        LinkSchedule::new(&spec, "r1", "r2", &[]).expect("legal")
    };
    for direction in [(0, 1), (1, 0)].map(|(from, to)| [from, to].map(|relay| Host::Relay(RelayId(relay)))) {
        slower.paths.insert((direction[0], direction[1]), slow.clone());
    }
    // By its own network nothing is late; by the faster one all of it, as the budget is 200 ms.
    assert_eq!(measured(&slower).late, 0);
    let figures = measure(&slower, 1, &Fastest::of(&scenario));
    // What was published before such a slow link stood is lost.
    assert!(figures.delivered > 100 && figures.lost == 200 - figures.delivered, "{figures:?}");
    assert_eq!(figures.late, figures.delivered);
}
