//! What a peer claims to send costs no memory. The only test of its process, so that the process's peak is its own.

use std::fs;
use wire_format::codec::{self, CodecError};

/// Peak of the address space of this process, kB.
fn peak_kb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmPeak:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let claims: [&[u8]; 4] = [
        // Announce with 4,294,967,295 subscriptions.
        &[9, 1, 252, 255, 255, 255, 255],
        // Announce with 2^62 subscriptions.
        &[9, 1, 253, 0, 0, 0, 0, 0, 0, 0, 64],
        // Refuse with a reason of 2 GiB.
        &[2, 0, 2, 252, 255, 255, 255, 127],
        // Hello with 2^32 ciphers.
        &[0, 1, 1, 1, 253, 0, 0, 0, 0, 1, 0, 0, 0],
    ];
    // What the first call needs anyway.
    assert_eq!(codec::decode(&[0xFF]), Err(CodecError::Malformed));
    let before = peak_kb();
    for claim in claims {
        assert_eq!(codec::decode(claim), Err(CodecError::Malformed));
    }
    match (before, peak_kb()) {
        (Some(before), Some(after)) => assert!(after - before < 8 << 10, "{} kB", after - before),
        (None, _) | (_, None) => {
            eprintln!("no /proc here: the peak is not known, only that nothing was believed")
        }
    }
}
