//! What a packet costs a relay on its way from a link to plain RTP subscribers, beside that to a linked SFU.

use crate::cascade::{Ask, Certificates, Peer, Streams};
use crate::crowd::{admit_all, entry};
use crate::trains::{Trains, equal_trains, hello, pushes};
use crate::{BURST, Course, RTP_BYTES, measure};
use link_io::{Expect, Port, Upcall, admit_nobody};
use relay_core::{PlainLocal, PlainPort, PlainSubscribe, Relay, RelayCommand, RelayConfig, RelayEvent};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::Runtime;
use wire_format::NodeIndex;
use wire_format::control::ToRelay;
use wire_format::session::Role;

/// Measures and prints: each stream has a subscriber of its own, and a burst brings each as many packets.
pub fn report(time: Duration) {
    println!("processor time per packet of {RTP_BYTES} B from a link to plain RTP subscribers");
    println!("{:<34} {:>10} {:>12}", "subscribers", "ns/packet", "packets");
    for subscribers in [1, 20, 100] {
        let figure = measure(&mut Plain::start(subscribers), time);
        println!("{subscribers:<34} {:>10.0} {:>12}", figure.ns_per_packet, figure.packets);
    }
}

struct Plain {
    runtime: Runtime,
    sender: Port<Peer>,
    _relay: Port<Relay>,
    receivers: Vec<UdpSocket>,
    trains: Arc<Trains>,
    thread: String,
}

impl Plain {
    fn start(subscribers: u32) -> Plain {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let certificates = Certificates::new();
        let receivers: Vec<UdpSocket> = (0..subscribers).map(|_| receiver()).collect();
        let (sender, relay) = runtime.block_on(async {
            let core = Relay::new(RelayConfig { hello: hello("r0"), seed: 1 });
            let sink = Box::new(|_: Upcall<'_, RelayEvent>| Ok(()));
            let relay = Port::open(certificates.config("r0"), core, admit_all(), sink).expect("a port");
            relay.command(RelayCommand::ControllerUp).await.expect("running");
            for command in pushes(0, &[(1, "r1")]) {
                relay.command(command).await.expect("running");
            }
            for (user, receiver) in (0..).zip(&receivers) {
                let address = relay.local_addr();
                let (rtp_port, rtcp_port) = (PlainPort::RELAY, PlainPort::RELAY);
                let local = PlainLocal { rtp_port, rtp: address, rtcp_port, rtcp: address, separate: false };
                let wanted = PlainSubscribe {
                    namespace: "demo".into(),
                    room: "room".into(),
                    user: Some(format!("user-{user}")),
                    stream: None,
                    destination: receiver.local_addr().expect("bound"),
                    rtcp_destination: None,
                    local,
                    lease: None,
                };
                let subscribe = |core: &mut Relay, now| core.subscribe_plain(now, wanted);
                let subscription = relay.change(subscribe).await.expect("running").expect("granted");
                let push = RelayCommand::Controller(ToRelay::Stream(entry(user, subscription)));
                relay.command(push).await.expect("running");
            }
            let (told, _) = channel();
            let sink = Box::new(|_: Upcall<'_, ()>| Ok(()));
            let sender = Port::open(certificates.config("r1"), Peer::new(told), admit_nobody(), sink);
            let sender = sender.expect("a port");
            let expect = Expect::Relay { name: "r0".to_owned(), node: NodeIndex(0), begins_unix_s: 0 };
            let role = Role::Relay { node: NodeIndex(1) };
            sender.dial(relay.local_addr(), expect, role).await.expect("a link");
            (sender, relay)
        });
        Plain {
            thread: format!("port-{}", relay.local_addr().port()),
            trains: Arc::new(equal_trains(&[NodeIndex(0)], RTP_BYTES, BURST)),
            runtime,
            sender,
            _relay: relay,
            receivers,
        }
    }
}

/// Room for whole bursts.
fn receiver() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    // Without the right to do so the buffer stays as it is, and packets that are lost are not counted.
    let _ = set_socket_recv_buffer_size_force(&socket, 4 << 20);
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    socket
}

impl Course for Plain {
    fn burst(&mut self) -> usize {
        let streams = Streams { first: 0, count: self.receivers.len() as u32, step: 1 };
        let ask = Ask::Streams(Arc::clone(&self.trains), streams);
        self.runtime.block_on(self.sender.command(ask)).expect("running");
        let each = BURST / self.receivers.len();
        let mut buffer = [0; 2048];
        let arrived = |socket: &UdpSocket| (0..each).take_while(|_| socket.recv(&mut buffer).is_ok()).count();
        self.receivers.iter().map(arrived).sum()
    }

    fn thread(&self) -> &str {
        &self.thread
    }
}
