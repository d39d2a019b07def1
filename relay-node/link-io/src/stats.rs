//! Plain counters of a port.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! port_stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a port has done and, above all, what it has dropped and why. Counts since the port was opened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct PortStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl PortStats {
            /// Names and values, in the order of declaration.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// Adds those of another worker of the port.
            pub fn add(&mut self, other: &PortStats) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

port_stats! {
    /// Wake-ups of the worker.
    wakeups,
    /// UDP datagrams received.
    datagrams_in,
    /// Their bytes.
    bytes_in,
    /// Sealed datagrams sent.
    datagrams_out,
    /// Their bytes.
    bytes_out,
    /// Trains sent (calls to the kernel).
    trains_out,
    /// Failed calls to receive.
    receive_errors,
    /// Rests of the worker because receiving failed again and again.
    receive_pauses,
    /// QUIC datagrams received.
    quic_in,
    /// QUIC datagrams sent.
    quic_out,
    /// Strangers who began a QUIC handshake and were told to prove their address first.
    quic_retries,
    /// Frames and datagrams handed from one worker of the port to another.
    handed_over,
    /// STUN binding requests answered.
    stun_answered,
    /// Packets delivered to this process.
    deliveries,
    /// Plain RTP and RTCP received from addresses that may be registered.
    plain_in,
    /// Plain RTP and RTCP sent.
    plain_out,
    /// Trains of it (calls to the kernel).
    plain_trains_out,
    /// Links that came up.
    links_up,
    /// Links that ended.
    links_down,
    /// Questions sent to addresses that datagrams of a link began to come from.
    path_challenges,
    /// Links that followed their peer to another address.
    paths_moved,

    /// Dropped: a first byte that means nothing here.
    drop_unknown_kind,
    /// Dropped: plain RTP at a relay port where nobody is registered.
    drop_rtp,
    /// Dropped: STUN that is no binding request, or has no room for an answer.
    drop_stun,
    /// Dropped: STUN binding requests beyond those that are answered in a second.
    drop_stun_rate,
    /// Dropped by the kernel before this port saw them: datagrams that found the socket's receive buffer full.
    drop_receive_buffer,
    /// Dropped: a malformed sealed datagram.
    drop_malformed,
    /// Dropped: a receiver index that names no association.
    drop_unknown_receiver,
    /// Dropped: failed authentication, or a key generation out of turn.
    drop_failed_open,
    /// Dropped: seen before, or too old to tell.
    drop_replayed,
    /// Dropped: a frame or datagram for a worker of this port whose mailbox was full.
    drop_hand_over,
    /// Dropped: QUIC datagram while the endpoint's queue was full.
    drop_quic_queue,
    /// Dropped: QUIC datagram that the kernel did not take.
    drop_quic_send,
    /// Dropped: local RTP while the worker's queue was full.
    drop_local_queue,
    /// Dropped: local RTP larger than any frame.
    drop_local_oversize,
    /// Dropped: event or delivery that the process did not take in time.
    drop_sink,
    /// Dropped: plain RTP or RTCP that the kernel did not take.
    drop_plain_send,
    /// Dropped: sealed datagram for a link that is gone.
    drop_no_link,
    /// Dropped: sealed datagram longer than the peer accepts.
    drop_send_oversize,
    /// Dropped: packet number out of order under its key; sealing it could repeat a nonce.
    drop_send_number,
    /// Dropped: the key of its generation could not be derived.
    drop_send_key,
    /// Dropped: sealed datagrams that found the socket's buffer full.
    drop_send_would_block,
    /// Dropped: sealed datagrams that the kernel refused.
    drop_send_error,

    /// Handshakes refused because as many as allowed were under way.
    refused_handshakes,
    /// Links refused because as many as allowed stood.
    refused_links,
    /// Diallers refused by version, admission or malformed hello.
    refused_diallers,
    /// Handshakes that failed or took too long.
    failed_handshakes,
    /// Links closed because their peer did not read its messages.
    closed_message_queue,
    /// Links closed because of a malformed or oversized message.
    closed_bad_message,
    /// Key generations begun (either direction).
    key_generations,
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
    handed_over,
    drop_hand_over,
    quic_out,
    quic_retries,
    drop_quic_send,
    drop_local_queue,
    drop_local_oversize,
    refused_handshakes,
    refused_links,
    refused_diallers,
    failed_handshakes,
    closed_bad_message,
);
