//! Plain counters of a port.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a port has done and, above all, what it has dropped and why. Counts since the port was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Wake-ups of the worker.
    pub wakeups: u64,
    /// UDP datagrams received.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Sealed datagrams sent.
    pub datagrams_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Trains sent (calls to the kernel).
    pub trains_out: u64,
    /// QUIC datagrams received.
    pub quic_in: u64,
    /// QUIC datagrams sent.
    pub quic_out: u64,
    /// Packets delivered to this process.
    pub deliveries: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Links that ended.
    pub links_down: u64,

    /// Dropped: a first byte that means nothing here.
    pub drop_unknown_kind: u64,
    /// Dropped: plain RTP from an address that nobody registered.
    pub drop_rtp: u64,
    /// Dropped: STUN, which nobody answers here.
    pub drop_stun: u64,
    /// Dropped: a malformed sealed datagram.
    pub drop_malformed: u64,
    /// Dropped: a receiver index that names no association.
    pub drop_unknown_receiver: u64,
    /// Dropped: failed authentication, or a key generation out of turn.
    pub drop_failed_open: u64,
    /// Dropped: seen before, or too old to tell.
    pub drop_replayed: u64,
    /// Dropped: QUIC datagram while the endpoint's queue was full.
    pub drop_quic_queue: u64,
    /// Dropped: QUIC datagram that the kernel did not take.
    pub drop_quic_send: u64,
    /// Dropped: local RTP while the worker's queue was full.
    pub drop_local_queue: u64,
    /// Dropped: local RTP larger than any datagram.
    pub drop_local_oversize: u64,
    /// Dropped: event or delivery that the process did not take in time.
    pub drop_sink: u64,
    /// Dropped: sealed datagram for a link that is gone.
    pub drop_no_link: u64,
    /// Dropped: sealed datagram longer than the peer accepts.
    pub drop_send_oversize: u64,
    /// Dropped: packet number out of order under its key; sealing it could repeat a nonce.
    pub drop_send_number: u64,
    /// Dropped: the key of its generation could not be derived.
    pub drop_send_key: u64,
    /// Dropped: sealed datagrams that found the socket's buffer full.
    pub drop_send_would_block: u64,
    /// Dropped: sealed datagrams that the kernel refused.
    pub drop_send_error: u64,

    /// Handshakes refused because as many as allowed were under way.
    pub refused_handshakes: u64,
    /// Links refused because as many as allowed stood.
    pub refused_links: u64,
    /// Diallers refused by version, admission or malformed hello.
    pub refused_diallers: u64,
    /// Handshakes that failed or took too long.
    pub failed_handshakes: u64,
    /// Links closed because their peer did not read its messages.
    pub closed_message_queue: u64,
    /// Links closed because of a malformed or oversized message.
    pub closed_bad_message: u64,
    /// Key generations begun (either direction).
    pub key_generations: u64,
}

macro_rules! shared_counters {
    ($($name:ident),* $(,)?) => {
        /// Counters of the tasks beside the worker.
        #[derive(Debug, Default)]
        pub(crate) struct SharedCounters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl SharedCounters {
            /// Puts the counters into `stats`.
            pub(crate) fn read_into(&self, stats: &mut PortStats) {
                $(stats.$name = self.$name.load(Ordering::Relaxed);)*
            }
        }
    };
}

shared_counters!(
    quic_out,
    drop_quic_send,
    drop_local_queue,
    drop_local_oversize,
    refused_handshakes,
    refused_links,
    refused_diallers,
    failed_handshakes,
    closed_bad_message,
);
