//! Keyframe requests travel upstream, merged, to the publisher.

mod lab;

use lab::{Lab, entry, table};
use relay_core::{ClientCommand, ClientEvent};
use std::time::Duration;
use wire_format::control::ToRelay;
use wire_format::{Epoch, FrameKind};

#[test]
fn requests_of_many_subscribers_reach_the_publisher_as_one_a_second() {
    let mut lab = Lab::new(3);
    lab.link(0, 1);
    lab.link(1, 2);
    lab.push(0, table(1, &[(1, 1), (2, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2)]));
    lab.push(2, table(1, &[(0, 1), (1, 1)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(1) });
    let publisher = lab.publisher(0);
    let (a, subscription_a) = lab.subscriber(2);
    let (b, subscription_b) = lab.subscriber(2);
    lab.push(2, ToRelay::Stream(entry(0, vec![subscription_a, subscription_b], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[2])));
    let asked = |lab: &Lab| {
        let wanted = (publisher, ClientEvent::KeyframeRequested { request: 1 });
        lab.client_events.iter().filter(|event| **event == wanted).count()
    };
    assert_eq!(asked(&lab), 1, "the new destination needs a keyframe");
    lab.run(Duration::from_secs(2));
    for client in [a, b, a, b] {
        let handle = lab
            .client_events
            .iter()
            .find_map(|(at, event)| {
                let ClientEvent::Announced { handle, .. } = event else { return None };
                (*at == client).then_some(*handle)
            })
            .expect("announced");
        lab.ask(client, ClientCommand::RequestKeyframe { handle });
    }
    assert_eq!(asked(&lab), 2, "the first at once");
    lab.run(Duration::from_millis(1500));
    assert_eq!(asked(&lab), 3, "the three others as one, a second later");
    let upstream =
        lab.crossings.iter().filter(|c| c.kind == FrameKind::KeyframeRequest && c.from == 1).count();
    assert_eq!(upstream, 2);
    lab.run(Duration::from_secs(3));
    assert_eq!(asked(&lab), 3);
}
