//! What a packet costs a relay of two workers, in what it costs one of one worker: all threads of the relay together, the
//! same packets, from and to as many ends.

use crate::cascade::{Ask, Certificates, Peer, Streams, Tell};
use crate::crowd::{admit_all, entry};
use crate::trains::{Trains, equal_trains, hello, pushes};
use crate::{BURST, Course, Limits, RTP_BYTES};
use link_io::{Expect, Port, PortConfig, Upcall, admit_nobody};
use relay_core::{Relay, RelayCommand, RelayConfig, RelayEvent, Worker};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::runtime::Runtime;
use wire_format::control::{ToController, ToRelay};
use wire_format::session::Role;
use wire_format::{NodeIndex, SubscriptionId};

const STREAMS: u32 = 20;
/// SFUs that the streams are for.
const SUBSCRIBERS: u32 = 2;
/// What a packet may cost two workers, in what it costs one.
const LIMIT: f64 = 1.15;
/// The same where every packet goes from one worker to the other: it is copied, and two cores look its stream up.
const HANDED_OVER_LIMIT: f64 = 1.5;
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the packets of a relay with two workers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the next relay.
    Through,
    /// To SFUs linked to the worker that they come to.
    Delivered,
    /// To SFUs linked to the other worker.
    HandedOver,
}

/// Measures, prints and judges everything.
pub fn report(time: Duration, limits: &mut Limits) {
    for (way, name, limit) in [
        (Way::Through, "1 worker; 2 workers: to the next relay", LIMIT),
        (Way::Delivered, "1 worker; 2 workers: to subscribers", LIMIT),
        (Way::HandedOver, "1 worker; 2 workers: to subscribers of the other worker", HANDED_OVER_LIMIT),
    ] {
        let (mut one, mut two) = (Team::start(way, 1), Team::start(way, 2));
        limits.compare(name, (&mut one, &mut two), time, limit);
    }
}

/// A relay of several workers, a neighbour with as many lanes that sends, and who gets what it sends.
struct Team {
    runtime: Runtime,
    sender: Port<Peer>,
    /// Each worker of these gets as much as every other.
    receivers: Vec<Port<Peer>>,
    relay: Port<Relay>,
    told: Receiver<Tell>,
    /// What one lane of the sender sends in a burst.
    trains: Arc<Trains>,
    thread: String,
}

impl Team {
    fn start(way: Way, workers: u8) -> Team {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (tell, told) = channel();
        let (report, reports) = channel();
        let certificates = Certificates::new();
        let peer = |config: PortConfig, workers, admission| {
            let one = || -> (Peer, link_io::Sink<()>) {
                (Peer::new(tell.clone()), Box::new(|_: Upcall<'_, ()>| Ok(())))
            };
            let cores = (0..workers).map(|_| one()).collect();
            Port::open_with_workers(config, cores, admission).expect("a port")
        };
        let core = |index| -> (Relay, link_io::Sink<RelayEvent>) {
            let report = report.clone();
            let sink = move |upcall: Upcall<'_, RelayEvent>| {
                if let Upcall::Event(RelayEvent::ToController(ToController::Subscribed(told))) = upcall {
                    // The bench may have stopped listening.
                    let _ = report.send(told.subscription);
                }
                Ok(())
            };
            let config = RelayConfig { hello: hello("r0"), seed: 1 };
            (Relay::of_worker(config, Worker { index, count: workers }), Box::new(sink))
        };
        let trains = match way {
            Way::Through => [NodeIndex(2)],
            Way::Delivered | Way::HandedOver => [NodeIndex(0)],
        };
        let trains = equal_trains(&trains, RTP_BYTES, BURST / usize::from(workers));
        let (sender, receivers, relay, subscriptions) = runtime.block_on(async {
            let cores = (0..workers).map(core).collect();
            let relay = Port::open_with_workers(certificates.config("r0"), cores, admit_all());
            let relay = relay.expect("a port");
            relay.command_each(|| RelayCommand::ControllerUp).await.expect("running");
            let neighbours = [(1, "r1"), (2, "r2")];
            for number in 0..pushes(0, &neighbours).len() {
                relay.command_each(|| pushes(0, &neighbours).swap_remove(number)).await.expect("running");
            }
            let expect = |name: &str, node: u16| Expect::Relay {
                name: name.to_owned(),
                node: NodeIndex(node),
                begins_unix_s: 0,
            };
            let role = |node: u16| Role::Relay { node: NodeIndex(node) };
            let sender = peer(certificates.config("r1"), workers, admit_nobody());
            sender.dial(relay.local_addr(), expect("r0", 0), role(1)).await.expect("a link");
            let (mut receivers, mut subscriptions) = (Vec::new(), Vec::new());
            if way == Way::Through {
                let receiver = peer(certificates.config("r2"), workers, admit_all());
                relay.dial(receiver.local_addr(), expect("r2", 2), role(0)).await.expect("a link");
                receivers.push(receiver);
            } else {
                for number in 0..SUBSCRIBERS {
                    let receiver = peer(certificates.client(), 1, admit_nobody());
                    let role = Role::Client { token: String::new() };
                    receiver.dial(relay.local_addr(), Expect::Upstream, role).await.expect("a link");
                    receiver.command(Ask::Subscribe).await.expect("running");
                    let subscription: SubscriptionId =
                        reports.recv_timeout(PATIENCE).expect("the subscription is reported");
                    let worker = number % u32::from(workers);
                    assert_eq!(subscription.0 % u32::from(workers), worker, "SFUs are dealt out in turn");
                    subscriptions.push(subscription);
                    receivers.push(receiver);
                }
            }
            (sender, receivers, relay, subscriptions)
        });
        let thread = format!("port-{}", relay.local_addr().port());
        let team = Team { runtime, sender, receivers, relay, told, trains: Arc::new(trains), thread };
        if way != Way::Through {
            team.announce(&subscriptions, u32::from(way == Way::HandedOver));
        }
        team
    }

    /// Plays the controller: every stream is for one of the SFUs, in turn, shifted by so many.
    fn announce(&self, subscriptions: &[SubscriptionId], shift: u32) {
        for user in 0..STREAMS {
            let subscription = subscriptions[((user + shift) % SUBSCRIBERS) as usize];
            let push = || RelayCommand::Controller(ToRelay::Stream(entry(user, subscription)));
            self.runtime.block_on(self.relay.command_each(push)).expect("running");
            while !matches!(self.told.recv_timeout(PATIENCE), Ok(Tell::Announced)) {}
        }
    }
}

impl Course for Team {
    fn burst(&mut self) -> usize {
        let places: usize = self.receivers.iter().map(Port::workers).sum();
        self.runtime.block_on(async {
            for receiver in &self.receivers {
                receiver.command_each(|| Ask::Expect(BURST / places)).await.expect("running");
            }
            let lanes = self.sender.workers();
            for lane in 0..lanes {
                let step = lanes as u32;
                let streams = Streams { first: lane as u32, count: STREAMS / step, step };
                let ask = Ask::Streams(Arc::clone(&self.trains), streams);
                self.sender.command_worker(lane, ask).await.expect("running");
            }
        });
        let arrived = (0..places).all(|_| self.told.recv_timeout(Duration::from_millis(500)).is_ok());
        if arrived { BURST } else { 0 }
    }

    fn thread(&self) -> &str {
        &self.thread
    }
}
