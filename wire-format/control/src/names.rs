//! Names that certificates carry, so that relay and controller agree on them.

/// Metadata of a refusal by a controller that does not lead: `HOST:PORT` where the leader is, as far as is known.
pub const LEADER_METADATA: &str = "cascade-leader";

/// The DNS name in the controller's own certificate; a relay checks it however it reached the controller. No relay may
/// have it: relays' certificates come from the same CA and could otherwise pass for the controller.
pub const CONTROLLER_TLS_NAME: &str = "controller.cascade.internal";

/// Longest name of a relay: one label of a DNS name (RFC 1035 section 2.3.4).
pub const RELAY_NAME_BYTES: usize = 63;

/// Why a text cannot be the name of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a relay's name is 1 to {RELAY_NAME_BYTES} lower-case letters, digits and hyphens, with a letter or digit first \
     and last, for instance `fra-1`"
)]
pub struct RelayNameError;

/// Checks that `name` can be a relay's: it is the DNS name in the relay's certificate.
///
/// # Errors
/// If it cannot.
pub fn check_relay_name(name: &str) -> Result<(), RelayNameError> {
    let bytes = name.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let within =
        bytes.len() <= RELAY_NAME_BYTES && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-');
    if ends_well && within { Ok(()) } else { Err(RelayNameError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["r1", "fra-1", "1", &"a".repeat(63)] {
            assert_eq!(check_relay_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "Fra-1", "a.b", "a_b", "é", CONTROLLER_TLS_NAME, &"a".repeat(64)] {
            assert_eq!(check_relay_name(bad), Err(RelayNameError), "{bad}");
        }
    }
}
