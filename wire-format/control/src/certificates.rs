//! What relays and the controller must agree on about relays' certificates, beyond X.509.

use std::time::Duration;

/// Certificates begin this long before they are issued, for hosts whose clocks are behind: a relay's was issued at its
/// `notBefore` plus this.
pub const CERTIFICATE_BACKDATING: Duration = Duration::from_secs(3600);
/// A certificate that has expired opens nothing any more, but for this long it can still be renewed, if it is the
/// newest of its name: relays come back by themselves after a weekend without a controller.
pub const CERTIFICATE_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A serial number, bytes.
pub const SERIAL_BYTES: usize = 16;

/// When a certificate is due for renewal: after two thirds of its life. All in seconds since 1970.
#[must_use]
pub fn renewal_due_unix_s(issued_unix_s: u64, expires_unix_s: u64) -> u64 {
    issued_unix_s + expires_unix_s.saturating_sub(issued_unix_s).saturating_mul(2) / 3
}
