//! A peer behind a NAT that gives it another address: the link follows, without a handshake.

use crate::lab::{Bench, Ca, Order, Seen, admit_all, expect_r2};
use relay_core::LinkId;
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use wire_format::NodeIndex;
use wire_format::session::{Message, Role};

/// Between a dialler and the port it dials. Whenever told to, it goes on from another port, and forgets the one before.
struct Nat {
    address: SocketAddr,
    rebind: mpsc::Sender<()>,
}

impl Nat {
    async fn to(server: SocketAddr) -> Nat {
        let inside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = inside.local_addr().expect("bound");
        let (rebind, mut rebinds) = mpsc::channel(1);
        tokio::spawn(async move {
            let (mut outside, mut client) = (outside(server).await, None);
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    came = inside.recv_from(&mut up) => {
                        let Ok((bytes, from)) = came else { return };
                        client = Some(from);
                        // What the port does not take is lost, as anywhere.
                        let _ = outside.send(&up[..bytes]).await;
                    }
                    came = outside.recv(&mut down) => {
                        let (Ok(bytes), Some(client)) = (came, client) else { continue };
                        let _ = inside.send_to(&down[..bytes], client).await;
                    }
                    told = rebinds.recv() => {
                        if told.is_none() {
                            return;
                        }
                        outside = crate::moving::outside(server).await;
                    }
                }
            }
        });
        Nat { address, rebind }
    }
}

async fn outside(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(server).await.expect("an address");
    socket
}

async fn send(bench: &Bench, link: LinkId, count: u8, bytes: usize) {
    bench.port.command(Order::Send { link, count, bytes }).await.expect("open");
}

async fn expect_train(bench: &mut Bench, count: u8) {
    for index in 0..count {
        let Seen::Datagram(_, _, bytes) = bench.next().await else { panic!("a datagram") };
        assert_eq!(bytes[0], index);
    }
}

#[tokio::test]
async fn a_link_follows_its_peer_to_another_address_and_so_does_quic() {
    let ca = Ca::new();
    let mut r1 = Bench::open(ca.relay("r1"), admit_all());
    let mut r2 = Bench::open(ca.relay("r2"), admit_all());
    let nat = Nat::to(r2.port.local_addr()).await;
    let link =
        r1.port.dial(nat.address, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link");
    let (Seen::Up(_, _), Seen::Up(at_r2, _)) = (r1.next().await, r2.next().await) else { panic!("up") };
    send(&r1, link.id(), 3, 200).await;
    expect_train(&mut r2, 3).await;
    for moves in 1..=3 {
        nat.rebind.send(()).await.expect("the NAT works");
        // The first datagram from the new address is enough.
        send(&r1, link.id(), 1, 200).await;
        expect_train(&mut r2, 1).await;
        while r2.stats().await.paths_moved < moves {
            tokio::task::yield_now().await;
        }
        send(&r2, at_r2, 10, 1000).await;
        expect_train(&mut r1, 10).await;
        // A message of the side that was dialled finds the way, long before QUIC would have spoken by itself.
        let message = Message::Ended { handle: wire_format::StreamHandle(moves as u16) };
        r2.port.command(Order::Say { link: at_r2, message: message.clone() }).await.expect("open");
        assert_eq!(r1.next().await, Seen::Message(link.id(), message));
    }
    let (one, two) = (r1.stats().await, r2.stats().await);
    assert_eq!((one.links_up, two.links_up, one.links_down, two.links_down), (1, 1, 0, 0));
    assert_eq!((two.paths_moved, one.paths_moved), (3, 0));
    assert!(two.path_challenges >= 3);
}

#[tokio::test]
async fn a_copy_sent_from_elsewhere_moves_nothing() {
    let ca = Ca::new();
    let mut r1 = Bench::open(ca.relay("r1"), admit_all());
    let mut r2 = Bench::open(ca.relay("r2"), admit_all());
    let server = r2.port.local_addr();
    let middle = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let thief = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = middle.local_addr().expect("bound");
    // Passes everything on, but each sealed datagram of the dialler only after a copy from elsewhere has overtaken it.
    tokio::spawn(async move {
        let (mut buffer, mut client) = (vec![0; 65_536], None);
        loop {
            let Ok((bytes, from)) = middle.recv_from(&mut buffer).await else { return };
            let datagram = &buffer[..bytes];
            if from == server {
                let _ = middle.send_to(datagram, client.expect("the dialler speaks first")).await;
                continue;
            }
            client = Some(from);
            if wire_format::DatagramKind::of(datagram) == wire_format::DatagramKind::Sealed {
                let _ = thief.send_to(datagram, server).await;
            }
            let _ = middle.send_to(datagram, server).await;
        }
    });
    let link = r1.port.dial(address, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link");
    let (Seen::Up(_, _), Seen::Up(at_r2, _)) = (r1.next().await, r2.next().await) else { panic!("up") };
    for _ in 0..5 {
        send(&r1, link.id(), 2, 200).await;
        expect_train(&mut r2, 2).await;
        // What the peer sends still goes where it always went.
        send(&r2, at_r2, 2, 200).await;
        expect_train(&mut r1, 2).await;
    }
    let stats = r2.stats().await;
    assert!(stats.path_challenges > 0, "the thief was asked");
    assert_eq!((stats.paths_moved, stats.drop_replayed), (0, 10), "and could not answer");
}
