//! A link between two ports: sealed datagrams and messages both ways, over real sockets.

use crate::lab::{Order, Pair, Seen};
use wire_format::session::Message;

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
