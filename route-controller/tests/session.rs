//! A session is for relays of this overlay, one each.

mod common;

use common::{Overlay, Session};
use control_proto::proto;
use tonic::Code;
use wire_format::control::ToController;

#[tokio::test]
async fn a_relay_is_welcomed_under_the_name_of_its_certificate() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    let welcome = session.welcome().await.expect("welcome");
    let first_term = welcome.term;
    assert_eq!(u32::from(welcome.node.0), relay.node);
    let nodes = overlay.controller.operations().nodes().await.expect("it runs");
    assert_eq!((nodes[0].name.as_str(), nodes[0].state.as_str()), ("fra-1", "connected"));

    // The same certificate and index serve after a restart; the term grows.
    let overlay = overlay.restart().await;
    let welcome = relay.session(&overlay).await.welcome().await.expect("welcome");
    assert_eq!(u32::from(welcome.node.0), relay.node);
    assert!(welcome.term > first_term, "{} after {first_term}", welcome.term);
}

#[tokio::test]
async fn without_a_certificate_there_is_no_session() {
    let overlay = Overlay::start().await;
    let status = Session::open(&overlay, None).await.err().expect("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("join first"), "{}", status.message());
}

#[tokio::test]
async fn a_certificate_of_another_overlay_opens_nothing() {
    let overlay = Overlay::start().await;
    let other = Overlay::start().await;
    let foreign = other.relay("fra-1").await;
    let status = Session::open(&overlay, Some(&foreign)).await.err().expect("refused");
    // In TLS 1.3 the client hears of it with its first read, as a broken connection.
    assert_ne!(status.code(), Code::Ok);
    let nodes = overlay.controller.operations().nodes().await.expect("it runs");
    assert!(nodes.is_empty(), "nothing was learnt from it");
}

#[tokio::test]
async fn the_ca_certificate_comes_along_for_who_knows_only_its_hash() {
    let overlay = Overlay::start().await;
    let other = Overlay::start().await;
    let token = overlay.join_token("fra-1").await;
    let relay = overlay.join(&token).await.expect("a fresh token");
    // A client that trusts the other overlay's CA does not accept this controller.
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(other.ca_pem()))
        .domain_name(control_proto::CONTROLLER_TLS_NAME);
    let url = format!("https://{}", overlay.controller.grpc_address());
    let endpoint =
        tonic::transport::Endpoint::from_shared(url).expect("a URL").tls_config(tls).expect("a root");
    assert!(endpoint.connect().await.is_err());
    assert_eq!(common::pem(&relay.ca_certificate_der).replace('\n', ""), overlay.ca_pem().replace('\n', ""));
}

#[tokio::test]
async fn a_relay_cannot_say_another_name() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    overlay.relay("sin-1").await;
    let mut session = Session::open(&overlay, Some(&relay)).await.expect("a relay of this overlay");
    let mut hello = relay.hello();
    hello.name = "sin-1".to_owned();
    session.say(ToController::Hello(hello)).await;
    let status = session.end().await;
    assert!(
        status.message().contains("hello of the relay that the certificate names"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_second_process_of_the_same_name_is_refused_while_the_first_speaks() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut first = relay.session(&overlay).await;
    first.welcome().await.expect("welcome");
    let mut second = relay.session(&overlay).await;
    second.say(ToController::Goodbye).await;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(200));
    let refused = second.end();
    tokio::pin!(refused);
    let status = loop {
        tokio::select! {
            _ = pace.tick() => first.say(ToController::Links(Vec::new())).await,
            status = &mut refused => break status,
        }
    };
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("stop one of the two"), "{}", status.message());
    assert_eq!(overlay.state_of("fra-1").await, "connected", "and its goodbye was not heard");
}

#[tokio::test]
async fn a_silent_session_gives_way_to_the_next() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut first = relay.session(&overlay).await;
    first.welcome().await.expect("welcome");
    let status = relay.session(&overlay).await.end().await;
    assert_eq!(status.code(), Code::Unavailable, "{}", status.message());
    relay.session(&overlay).await.welcome().await.expect("the place is free now");
    let status = first.end().await;
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("silent"), "{}", status.message());
}

#[tokio::test]
async fn a_malformed_message_ends_the_session() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    session.say_raw(proto::ToController { kind: None }).await;
    let status = session.end().await;
    assert!(status.message().contains("malformed"), "{}", status.message());
}

#[tokio::test]
async fn a_stopping_controller_says_so() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    overlay.controller.shutdown().await;
    let status = session.end().await;
    assert!(status.message().contains("stopping"), "{}", status.message());
}
