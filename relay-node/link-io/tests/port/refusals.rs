//! Who is not let in, and what it is told.

use crate::lab::{Bench, Ca, Seen, admit_all, expect_r2};
use link_io::{LinkError, Refusal, Trust};
use std::sync::Arc;
use wire_format::NodeIndex;
use wire_format::session::{RefusalCode, Role};

fn relay() -> Role {
    Role::Relay { node: NodeIndex(1) }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_not_believed() {
    let (ours, foreign) = (Ca::new(), Ca::new());
    let dialler = Bench::open(ours.relay("r1"), admit_all());
    let stranger = Bench::open(foreign.relay("r2"), admit_all());
    let error =
        dialler.port.dial(stranger.port.local_addr(), expect_r2(), relay()).await.expect_err("untrusted");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_dialler_with_a_certificate_of_another_ca_is_not_believed() {
    let (ours, foreign) = (Ca::new(), Ca::new());
    let mut config = foreign.relay("r1");
    config.trust = Trust::Ca(ours.certificate());
    let dialler = Bench::open(config, admit_all());
    let relay_port = Bench::open(ours.relay("r2"), admit_all());
    let error =
        dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect_err("untrusted");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("does not accept our certificate"), "{error}");
}

#[tokio::test]
async fn a_relay_of_another_name_is_not_the_neighbour() {
    let ca = Ca::new();
    let dialler = Bench::open(ca.relay("r1"), admit_all());
    let other = Bench::open(ca.relay("r3"), admit_all());
    let error =
        dialler.port.dial(other.port.local_addr(), expect_r2(), relay()).await.expect_err("wrong name");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("r2"), "{error}");
}

#[tokio::test]
async fn a_fingerprint_finds_its_ca_and_no_other() {
    let ca = Ca::new();
    let relay_port = Bench::open(ca.relay("r2"), admit_all());
    let fingerprint = |ca: &Ca| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ca.certificate());
        Trust::Fingerprint(digest.as_ref().try_into().expect("32 bytes"))
    };
    let role = Role::Client { token: "t".to_owned() };
    for (trust, believed) in [(fingerprint(&ca), true), (fingerprint(&Ca::new()), false)] {
        let mut config = ca.client();
        config.trust = trust;
        let mut client = Bench::open(config, admit_all());
        let dialled =
            client.port.dial(relay_port.port.local_addr(), link_io::Expect::Upstream, role.clone()).await;
        if believed {
            let link = dialled.expect("a link");
            assert_eq!(client.next().await, Seen::Up(link.id(), relay_core::Peer::Upstream));
        } else {
            assert!(matches!(dialled, Err(LinkError::Untrusted { .. })), "{dialled:?}");
        }
    }
}

#[tokio::test]
async fn versions_without_overlap_are_refused_with_both_named() {
    let ca = Ca::new();
    let mut config = ca.relay("r1");
    config.versions = (7, 9);
    let dialler = Bench::open(config, admit_all());
    let relay_port = Bench::open(ca.relay("r2"), admit_all());
    let error =
        dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect_err("no version");
    let LinkError::Refused { code, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(*code, RefusalCode::Version);
    assert!(reason.contains("1 to 4") && reason.contains("7 to 9"), "{reason}");
    // Counted once the refusal is known to have arrived.
    while relay_port.stats().await.refused_diallers == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn admission_sees_the_certificate_and_its_words_reach_the_dialler() {
    let ca = Ca::new();
    let admission: link_io::Admission = Arc::new(|info| {
        assert_eq!(info.certificate_names, ["r1"]);
        Err(Refusal::new(RefusalCode::NotANeighbour, "r1 is no neighbour of r2; ask the controller"))
    });
    let dialler = Bench::open(ca.relay("r1"), admit_all());
    let relay_port = Bench::open(ca.relay("r2"), admission);
    let error =
        dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect_err("refused");
    assert!(error.to_string().contains("r1 is no neighbour of r2; ask the controller"), "{error}");
}

#[tokio::test]
async fn one_link_more_than_allowed_is_refused() {
    let ca = Ca::new();
    let mut config = ca.relay("r2");
    config.limits.links = 1;
    let relay_port = Bench::open(config, admit_all());
    let dialler = Bench::open(ca.relay("r1"), admit_all());
    dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect("the first");
    let error =
        dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect_err("the second");
    assert!(matches!(error, LinkError::Refused { code: RefusalCode::Limit, .. }), "{error}");
    assert_eq!(relay_port.stats().await.refused_links, 1);
}

#[tokio::test]
async fn nobody_at_the_address_is_a_timeout() {
    let ca = Ca::new();
    let mut config = ca.relay("r1");
    config.limits.handshake_timeout = std::time::Duration::from_millis(200);
    let dialler = Bench::open(config, admit_all());
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("bound");
    let error = dialler.port.dial(address, expect_r2(), relay()).await.expect_err("nobody");
    assert!(matches!(error, LinkError::Timeout(at) if at == address), "{error}");
}

#[tokio::test]
async fn a_port_is_dialled_once_it_has_an_identity() {
    let ca = Ca::new();
    let mut config = ca.relay("r1");
    config.limits.handshake_timeout = std::time::Duration::from_millis(500);
    let dialler = Bench::open(config, admit_all());
    let relay_port = Bench::open(ca.client(), admit_all());
    let error =
        dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect_err("nobody yet");
    assert!(!matches!(error, LinkError::Untrusted { .. }), "{error}");
    relay_port.port.renew(ca.identity("r2")).expect("usable");
    dialler.port.dial(relay_port.port.local_addr(), expect_r2(), relay()).await.expect("a link");
}
