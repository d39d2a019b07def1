//! What holds for every link and every pattern of datagrams.

use link_model::{Fate, Link, LinkOption, LinkSpec, Seed};
use proptest::prelude::*;
use std::time::Duration;

fn specs() -> impl Strategy<Value = String> {
    let keys = (0u32..100, 0u32..50, 0u32..50, 0u32..10, prop::option::of(100u32..50_000), 1u32..200);
    keys.prop_map(|(delay, jitter, loss, duplicate, rate, queue)| {
        let rate = rate.map_or("unlimited".to_owned(), |rate| format!("{rate}kbit"));
        format!(
            "delay={delay}ms,jitter={jitter}ms,loss={loss}%,burst=2,duplicate={duplicate}%,rate={rate},queue={queue}"
        )
    })
}

fn link(text: &str, seed: u64) -> Link {
    let spec = LinkSpec::parse(text, &mut |_| unreachable!("no trace")).expect("well-formed");
    Link::new(spec, Seed(seed))
}

proptest! {
    #[test]
    fn order_is_kept_and_delays_are_within_bounds(
        text in specs(),
        seed in any::<u64>(),
        offers in prop::collection::vec((0u64..20_000, 1usize..1_500), 1..400),
    ) {
        let (mut link, mut again) = (link(&text, seed), link(&text, seed));
        let (mut now, mut last) = (Duration::ZERO, Duration::ZERO);
        for (gap_us, bytes) in offers {
            now += Duration::from_micros(gap_us);
            let fate = link.offer(now, bytes);
            prop_assert_eq!(fate, again.offer(now, bytes), "the same seed gives the same fates");
            if let Fate::Delivered { at, copy_at } = fate {
                prop_assert!(at >= last, "no datagram overtakes another");
                prop_assert!(at >= now + link.spec().delay);
                last = copy_at.unwrap_or(at);
                prop_assert!(last >= at);
                let on_the_wire = link.spec().rate.map_or(0.0, |rate| bytes as f64 * 8.0 / rate.bits_per_second() as f64);
                // Jitter's waits do not add up: whoever is ahead waited at most that long itself.
                let slowest = link.spec().queue + link.spec().delay + link.spec().jitter;
                let most = slowest + Duration::from_secs_f64(on_the_wire) + Duration::from_nanos(10);
                prop_assert!(last <= now + most, "{:?} {:?} {:?}", now, at, most);
            }
        }
    }

    #[test]
    fn any_text_is_an_option_or_a_message(text in "\\PC{0,40}|[a-z0-9:,=@.%>-]{0,40}") {
        match LinkOption::parse(&text, &mut |_| Ok("0".to_owned())) {
            Ok(option) => prop_assert!(text.contains(':') && option.at <= Duration::from_secs(86_400)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
