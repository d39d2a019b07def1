//! Ports with several workers: one lane of a link between relays for each, the kernel steers by receiver index.

use crate::lab::{Bench, Ca, Order, Parrot, Seen, admit_all, expect_r2, next};
use link_io::{EventReceiver, Expect, Port};
use quinn::udp::{Transmit, UdpSocketState};
use relay_core::{LinkId, Peer};
use std::net::{SocketAddr, UdpSocket};
use wire_format::session::{Message, Role};
use wire_format::{DatagramKind, NodeIndex, SealedHeader};

const R1: Peer = Peer::Relay { node: NodeIndex(1) };
const R2: Peer = Peer::Relay { node: NodeIndex(2) };

async fn dial(port: &Port<Parrot>, address: SocketAddr) -> link_io::Link {
    port.dial(address, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link")
}

async fn up(events: &mut EventReceiver<Seen>, peer: Peer) -> LinkId {
    let seen = next(events).await;
    let Seen::Up(link, of) = seen else { panic!("not the link but {seen:?}") };
    assert_eq!(of, peer);
    link
}

async fn send(port: &Port<Parrot>, link: LinkId) {
    // Each worker hears all orders and obeys those for its own links.
    port.command_each(|| Order::Send { link, count: 3, bytes: 300 }).await.expect("open");
}

#[tokio::test]
async fn each_worker_that_both_sides_have_gets_a_lane_of_its_own() {
    let ca = Ca::new();
    let (r1, mut at_r1) = Bench::open_with_workers(ca.relay("r1"), 3, admit_all());
    let (r2, mut at_r2) = Bench::open_with_workers(ca.relay("r2"), 2, admit_all());
    let link = dial(&r1, r2.local_addr()).await;
    let mut lanes = Vec::new();
    for worker in 0..2 {
        lanes.push((up(&mut at_r1[worker], R2).await, up(&mut at_r2[worker], R1).await));
    }
    assert_eq!(lanes[0].0, link.id());
    for (worker, (here, there)) in lanes.iter().enumerate() {
        send(&r1, *here).await;
        for number in 0..3 {
            let arrived = next(&mut at_r2[worker]).await;
            assert_eq!(arrived, Seen::Datagram(*there, number, vec![number as u8; 300]));
        }
        send(&r2, *there).await;
        for number in 0..3 {
            let arrived = next(&mut at_r1[worker]).await;
            assert_eq!(arrived, Seen::Datagram(*here, number, vec![number as u8; 300]));
        }
    }
    // Messages are the first worker's.
    r2.command_each(|| Order::Say { link: lanes[0].1, message: Message::Goodbye }).await.expect("open");
    assert_eq!(next(&mut at_r1[0]).await, Seen::Message(lanes[0].0, Message::Goodbye));
    // Whichever worker closes its lane, the link ends whole.
    r2.command_each(|| Order::Close { link: lanes[1].1 }).await.expect("open");
    for worker in 0..2 {
        assert_eq!(next(&mut at_r1[worker]).await, Seen::Down(lanes[worker].0));
        assert_eq!(next(&mut at_r2[worker]).await, Seen::Down(lanes[worker].1));
    }
    // All slots are free again: the next link gets as many lanes.
    dial(&r1, r2.local_addr()).await;
    for worker in 0..2 {
        up(&mut at_r1[worker], R2).await;
        up(&mut at_r2[worker], R1).await;
    }
}

#[tokio::test]
async fn a_relay_of_the_version_before_lanes_gets_one() {
    let ca = Ca::new();
    let mut old = ca.relay("r1");
    old.versions = (1, 1);
    let (r1, mut at_r1) = Bench::open_with_workers(old, 2, admit_all());
    let (r2, mut at_r2) = Bench::open_with_workers(ca.relay("r2"), 2, admit_all());
    let link = dial(&r1, r2.local_addr()).await;
    let here = up(&mut at_r1[0], R2).await;
    let there = up(&mut at_r2[0], R1).await;
    send(&r1, here).await;
    assert_eq!(next(&mut at_r2[0]).await, Seen::Datagram(there, 0, vec![0; 300]));
    assert_eq!(here, link.id());
    for events in [&mut at_r1[1], &mut at_r2[1]] {
        assert!(tokio::time::timeout(std::time::Duration::ZERO, events.recv()).await.is_err());
    }
}

#[tokio::test]
async fn clients_are_dealt_out_to_the_workers() {
    let ca = Ca::new();
    let (relay, mut events) = Bench::open_with_workers(ca.relay("relay"), 2, admit_all());
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Bench::open(ca.client(), admit_all());
        let role = Role::Client { token: "sfu".to_owned() };
        let link = client.port.dial(relay.local_addr(), Expect::Upstream, role).await.expect("a link");
        assert_eq!(client.next().await, Seen::Up(link.id(), Peer::Upstream));
        clients.push((client, link.id()));
    }
    let mut at_relay = Vec::new();
    for turn in 0..4 {
        let seen = next(&mut events[turn % 2]).await;
        let Seen::Up(link, Peer::Client(_)) = seen else { panic!("client {turn} comes next, not {seen:?}") };
        at_relay.push(link);
    }
    for (turn, (client, link)) in clients.iter().enumerate() {
        client.port.command(Order::Send { link: *link, count: 1, bytes: 100 }).await.expect("open");
        let arrived = next(&mut events[turn % 2]).await;
        assert_eq!(arrived, Seen::Datagram(at_relay[turn], 0, vec![0; 100]));
    }
}

#[tokio::test]
async fn a_datagram_that_the_kernel_gave_to_the_wrong_worker_is_handed_over() {
    let ca = Ca::new();
    let (r1, mut at_r1) = Bench::open_with_workers(ca.relay("r1"), 2, admit_all());
    let (r2, mut at_r2) = Bench::open_with_workers(ca.relay("r2"), 2, admit_all());
    let middle = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = middle.local_addr().expect("bound");
    let towards = r2.local_addr();
    std::thread::spawn(move || merge_lanes(&middle, towards));
    dial(&r1, address).await;
    let mut lanes = Vec::new();
    for worker in 0..2 {
        lanes.push((up(&mut at_r1[worker], R2).await, up(&mut at_r2[worker], R1).await));
    }
    for (here, _) in &lanes {
        r1.command_each(|| Order::Send { link: *here, count: 1, bytes: 300 }).await.expect("open");
    }
    for (worker, (_, there)) in lanes.iter().enumerate() {
        assert_eq!(next(&mut at_r2[worker]).await, Seen::Datagram(*there, 0, vec![0; 300]));
    }
    let stats = r2.inspect(|_, stats| *stats).await.expect("open");
    assert_eq!((stats.handed_over, stats.drop_hand_over), (1, 0), "one of the two was a stray");
}

/// Passes datagrams both ways; two sealed ones of different lanes leave as one train, which the kernel hands to one socket.
fn merge_lanes(socket: &UdpSocket, towards: SocketAddr) {
    let state = UdpSocketState::new(socket.into()).expect("offload");
    socket.set_nonblocking(false).expect("blocking");
    let mut buffer = [0; 65_536];
    let mut dialler = None;
    let mut waiting: Option<Vec<u8>> = None;
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let datagram = &buffer[..length];
        if from == towards {
            socket.send_to(datagram, dialler.expect("the dialler speaks first")).expect("sent");
            continue;
        }
        dialler = Some(from);
        let lane = |bytes: &[u8]| SealedHeader::decode(bytes).expect("sealed").receiver;
        if DatagramKind::of(datagram) != DatagramKind::Sealed {
            socket.send_to(datagram, towards).expect("sent");
        } else if let Some(mut train) = waiting.take_if(|first| lane(first) != lane(datagram)) {
            train.extend_from_slice(datagram);
            let transmit = Transmit {
                destination: towards,
                ecn: None,
                contents: &train,
                segment_size: Some(length),
                src_ip: None,
            };
            state.send(socket.into(), &transmit).expect("sent");
        } else {
            waiting = Some(datagram.to_vec());
        }
    }
}
