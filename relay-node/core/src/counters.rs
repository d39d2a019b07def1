//! Plain counters: every drop has one, so that what arrives and what leaves add up.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened to frames and messages since the core was made.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values, in the order of declaration.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Media frames accepted from publishers of this port.
    media_published,
    /// Media frames that came from relays.
    media_received,
    /// Media frames sent towards relays, one per copy.
    media_forwarded,
    /// Media frames handed to subscribers of this port, one per copy.
    media_delivered,
    /// Bytes of packets in `media_delivered`.
    media_delivered_bytes,
    /// Frames forwarded by the newest tables because theirs are unknown.
    media_epoch_unknown,
    /// Frames split into several because their destinations do not fit one set.
    media_fanout_splits,
    /// Keyframe requests sent towards publishers.
    keyframe_requests_sent,
    /// Keyframe requests merged into one already sent.
    keyframe_requests_merged,
    /// Dropped: destinations that no table reaches, or whose next hop has no link. One per destination.
    drop_no_route,
    /// Dropped: destinations whose next hop is where a frame without tables of its stamp comes from. One per destination.
    drop_way_back,
    /// Dropped: hop limit used up.
    drop_hop_limit,
    /// Dropped at a destination: seen before.
    drop_duplicate,
    /// Dropped at a destination: older than the duplicate window.
    drop_too_old,
    /// Dropped at a destination: nobody here asked for the stream.
    drop_unknown_stream,
    /// Dropped from a publisher: the stream has no subscriber anywhere.
    drop_no_subscriber,
    /// Dropped from a publisher: the handle was never granted, or is no longer.
    drop_unknown_handle,
    /// Dropped: a packet larger than the overlay carries whole.
    drop_oversize,
    /// Dropped: the frame does not decode.
    drop_malformed,
    /// Dropped: a frame of a kind that this kind of peer may not send.
    drop_forbidden,
    /// Skipped: frames of a kind that this version does not know.
    skip_unknown_kind,
    /// Dropped: the send queue of a link is full.
    drop_queue_full,
    /// Dropped: datagrams of a link that the core no longer has.
    drop_unknown_link,
    /// Dropped: outputs beyond the bound of the output queue.
    drop_output_full,
    /// Messages that make no sense from this peer.
    messages_refused,
    /// Tables or entries of the controller that were older than what is held.
    stale_pushes,
}
