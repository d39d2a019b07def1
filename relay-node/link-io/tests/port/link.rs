//! A link between two ports: sealed datagrams and messages both ways, over real sockets.

use crate::lab::{Bench, Ca, Order, Pair, Seen, admit_all, expect_r2};
use relay_core::Peer;
use wire_format::NodeIndex;
use wire_format::session::{Message, Role};

#[tokio::test]
async fn a_train_of_fifty_arrives_whole_and_in_order() {
    let mut pair = Pair::linked().await;
    let there = Order::Send { link: pair.link.id(), count: 50, bytes: 1200 };
    pair.r1.port.command(there).await.expect("open");
    for index in 0..50 {
        let expected = Seen::Datagram(pair.at_r2, u64::from(index), vec![index; 1200]);
        assert_eq!(pair.r2.next().await, expected);
    }
    let back = Order::Send { link: pair.at_r2, count: 50, bytes: 700 };
    pair.r2.port.command(back).await.expect("open");
    for index in 0..50 {
        let expected = Seen::Datagram(pair.link.id(), u64::from(index), vec![index; 700]);
        assert_eq!(pair.r1.next().await, expected);
    }
    let (r1, r2) = (pair.r1.stats().await, pair.r2.stats().await);
    assert_eq!((r1.datagrams_out, r2.datagrams_out), (50, 50));
    assert_eq!((r1.trains_out, r2.trains_out), (1, 1));
}

#[tokio::test]
async fn messages_cross_and_a_close_reaches_both_sides() {
    let mut pair = Pair::linked().await;
    let message = Message::Unpublish { request: 7 };
    let say = Order::Say { link: pair.link.id(), message: message.clone() };
    pair.r1.port.command(say).await.expect("open");
    assert_eq!(pair.r2.next().await, Seen::Message(pair.at_r2, message));
    let say = Order::Say { link: pair.at_r2, message: Message::Goodbye };
    pair.r2.port.command(say).await.expect("open");
    pair.r2.port.command(Order::Close { link: pair.at_r2 }).await.expect("open");
    assert_eq!(pair.r2.next().await, Seen::Down(pair.at_r2));
    assert_eq!(pair.r1.next().await, Seen::Message(pair.link.id(), Message::Goodbye));
    assert_eq!(pair.r1.next().await, Seen::Down(pair.link.id()));
    let reason = pair.link.down().await;
    assert!(!reason.is_empty());
}

#[tokio::test]
async fn a_killed_port_says_nothing_and_a_closed_one_says_so() {
    let mut pair = Pair::linked().await;
    pair.r1.port.close().await;
    assert_eq!(pair.r2.next().await, Seen::Down(pair.at_r2));

    let pair = Pair::linked().await;
    pair.r1.port.kill();
    let order = Order::Send { link: pair.at_r2, count: 1, bytes: 100 };
    pair.r2.port.command(order).await.expect("open");
    assert_eq!(pair.r2.stats().await.links_down, 0);
}

#[tokio::test]
async fn a_dual_stack_port_links_over_both_families() {
    let ca = Ca::new();
    let mut config = ca.relay("r2");
    config.bind = "[::]:0".parse().expect("an address");
    let mut r2 = Bench::open(config, admit_all());
    let port = r2.port.local_addr().port();
    for (bind, address) in [
        ("[::]:0", format!("127.0.0.1:{port}")),
        ("[::]:0", format!("[::1]:{port}")),
        ("127.0.0.1:0", format!("127.0.0.1:{port}")),
    ] {
        let mut config = ca.relay("r1");
        config.bind = bind.parse().expect("an address");
        let mut r1 = Bench::open(config, admit_all());
        let address = address.parse().expect("an address");
        let link =
            r1.port.dial(address, expect_r2(), Role::Relay { node: NodeIndex(1) }).await.expect("a link");
        let Seen::Up(at_r2, _) = r2.next().await else { panic!("the link comes first") };
        assert_eq!(r1.next().await, Seen::Up(link.id(), Peer::Relay { node: NodeIndex(2) }));
        r1.port.command(Order::Send { link: link.id(), count: 3, bytes: 500 }).await.expect("open");
        r2.port.command(Order::Send { link: at_r2, count: 3, bytes: 500 }).await.expect("open");
        for index in 0..3 {
            let Seen::Datagram(_, _, bytes) = r1.next().await else { panic!("a datagram") };
            assert_eq!(bytes, vec![index; 500]);
            let Seen::Datagram(_, _, bytes) = r2.next().await else { panic!("a datagram") };
            assert_eq!(bytes, vec![index; 500]);
        }
        assert_eq!(r2.stats().await.drop_send_error, 0);
        r1.port.close().await;
        assert_eq!(r2.next().await, Seen::Down(at_r2));
    }
}
