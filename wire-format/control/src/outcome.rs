//! What a recording notes of the messages that a controller's core gives out.

use crate::proto;
use prost::Message as _;
use wire_format::control::ToRelay;
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
