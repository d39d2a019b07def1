//! Messages of the control session. Whatever bytes come as protobuf, in either direction, become a legal value or an
//! error; and a legal value survives the way back.

use control_proto::{JoinToken, proto};
use fuzz::target;
use prost::Message as _;
use wire_format::control::{ToController, ToRelay};

#[test]
fn control_to_relay() {
    target!("control-to-relay").for_each(|bytes: &[u8]| {
        let Ok(message) = proto::ToRelay::decode(bytes) else { return };
        let Ok(value) = ToRelay::try_from(message) else { return };
        let again = proto::ToRelay::from(value.clone()).encode_to_vec();
        let decoded = proto::ToRelay::decode(&again[..]).expect("our own encoding");
        assert_eq!(ToRelay::try_from(decoded).expect("a legal value stays legal"), value);
    });
}

#[test]
fn control_to_controller() {
    target!("control-to-controller").for_each(|bytes: &[u8]| {
        let Ok(message) = proto::ToController::decode(bytes) else { return };
        let Ok(value) = ToController::try_from(message) else { return };
        let again = proto::ToController::from(value.clone()).encode_to_vec();
        let decoded = proto::ToController::decode(&again[..]).expect("our own encoding");
        assert_eq!(ToController::try_from(decoded).expect("a legal value stays legal"), value);
    });
}

#[test]
fn join_token() {
    target!("join-token").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<JoinToken>() {
            Ok(token) => assert_eq!(token.to_text().parse(), Ok(token)),
            Err(error) => {
                let said = error.to_string();
                assert!(said.len() < 200, "an error repeats nothing of a secret: {said}");
            }
        }
    });
}
