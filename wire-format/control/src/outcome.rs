//! What a recording notes of the messages that cores give out.

use crate::proto;
use prost::Message as _;
use wire_format::control::{LinkState, ToController, ToRelay};
use wire_format::recording::Fingerprint;

/// Notes a message to a relay, as it travels, so that what is new in a later version and not used leaves the fingerprint
/// as it is. Of token keys only the ids count: a recording has pseudonyms of them.
pub fn note_to_relay(fingerprint: &mut Fingerprint, session: u64, message: &ToRelay) {
    fingerprint.put_number(session);
    if let ToRelay::TokenKeys(keys) = message {
        keys.iter().for_each(|key| fingerprint.put(key.id.as_bytes()));
    } else {
        fingerprint.put(&proto::ToRelay::from(message.clone()).encode_to_vec());
    }
}

/// Notes a message of a relay, as it travels, but for what is measured: of links only their state counts. Of the key of a
/// publisher only counts that there is one.
pub fn note_to_controller(fingerprint: &mut Fingerprint, message: &ToController) {
    match message {
        ToController::Links(reports) => {
            for report in reports {
                fingerprint.put_number(report.neighbour.0.into());
                fingerprint.put(match report.state {
                    LinkState::Up => b"u",
                    LinkState::Suspect => b"s",
                    LinkState::Down => b"d",
                });
            }
        }
        ToController::Published(report) => {
            let mut report = report.clone();
            fingerprint.put_number(u64::from(report.publisher.take().is_some()));
            fingerprint.put(&proto::Published::from(report).encode_to_vec());
        }
        ToController::Hello(_)
        | ToController::ReportsComplete
        | ToController::Unpublished { .. }
        | ToController::Subscribed(_)
        | ToController::Unsubscribed { .. }
        | ToController::TableAck { .. }
        | ToController::TableWanted { .. }
        | ToController::StampAck { .. }
        | ToController::StreamAck { .. }
        | ToController::Goodbye
        | ToController::Usage(_)
        | ToController::Traced(_) => {
            fingerprint.put(&proto::ToController::from(message.clone()).encode_to_vec());
        }
    }
}
