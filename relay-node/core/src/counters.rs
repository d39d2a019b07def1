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

            /// Adds those of another worker of the same relay.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
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
    /// Media frames that came later than their slack allows. Destinations here still get them.
    media_late,
    /// Frames forwarded by the newest tables because theirs are unknown.
    media_epoch_unknown,
    /// Media frames that waited for the entry or announcement of their stream.
    media_waited,
    /// Frames moved to a redundant plane here because their primary next hop is silent or gone. One per copy.
    media_rerouted,
    /// Of those, frames that a failed link may have swallowed and that went again.
    media_resent,
    /// Datagrams that were not kept for repair, and rows of parity not used, because memory for it is used up.
    history_refused,
    /// Frames of streams that ask for protection that left their ingress here on two disjoint planes. One per destination.
    media_protected,
    /// Frames of such streams that left in one copy, because no two planes are apart on the way there. One per destination.
    media_unprotected,
    /// Frames that were stamped anew here for relays that are fed from this one. One per frame, however many relays.
    media_fed,
    /// Video delivered here that began to come by another link.
    streams_switched,
    /// Destinations moved to their backup because a link failed, counted when the link does, not per frame.
    destinations_moved,
    /// Destinations moved back to their primary next hop after the hold-down of its link.
    destinations_returned,
    /// Frames split into several because their destinations do not fit one set.
    media_fanout_splits,
    /// Frames that left in two halves, larger than a datagram of their link.
    frames_cut,
    /// Frames that came in two halves.
    frames_rejoined,
    /// MTU probes sent.
    mtu_probes_sent,
    /// Paths found to have become narrower.
    mtu_fallbacks,
    /// Keyframe requests sent towards publishers.
    keyframe_requests_sent,
    /// Keyframe requests merged into one already sent.
    keyframe_requests_merged,
    /// Dropped: a datagram that was restored before it came, or came again without need.
    drop_restored,
    /// Dropped: a frame for another worker of this relay while too many waited.
    drop_hand_over,
    /// Packets handed to plain RTP subscribers, one per copy.
    plain_delivered,
    /// Receiver reports sent to plain RTP publishers.
    plain_reports_sent,
    /// Receiver reports of plain RTP subscribers.
    plain_reports_received,
    /// Keyframes asked for by plain RTP subscribers.
    plain_keyframe_requests,
    /// Packets asked for again by plain RTP subscribers.
    plain_nacks_received,
    /// Packets sent again to them.
    plain_nacks_answered,
    /// Packets that came after they had been asked for.
    plain_nacks_awaited,
    /// RTCP of plain SFUs that means nothing here.
    plain_rtcp_ignored,
    /// Plain RTP registrations that nobody renewed.
    plain_leases_over,
    /// Dropped: destinations that no table reaches, or whose next hop has no link. One per destination.
    drop_no_route,
    /// Dropped: destinations of a frame on a redundant plane, or of one of two copies, whose next hop has no link. One per
    /// destination.
    drop_plane_cut,
    /// Dropped: destinations whose next hop is where a frame without tables of its stamp comes from. One per destination.
    /// And keyframe requests whose way to the publisher is back where they come from.
    drop_way_back,
    /// Dropped: keyframe requests beyond what one link may bring, or for too many streams at once.
    drop_keyframe_request,
    /// Dropped: hop limit used up.
    drop_hop_limit,
    /// Dropped: no slack was left to go on to another relay.
    drop_slack,
    /// Dropped: audio (and RTCP) that a link could not carry, one per copy.
    drop_congested_audio,
    /// Dropped: keyframes and base layers that a link could not carry.
    drop_congested_base,
    /// Dropped: other video that a link could not carry, and what built on it.
    drop_congested_video,
    /// Dropped: enhancement layers that a link could not carry.
    drop_congested_enhancement,
    /// Dropped: of too many failed links at once, not sent again.
    drop_resend,
    /// Dropped at a destination: seen before.
    drop_duplicate,
    /// Dropped at a destination: the later copy of a frame that travels on two planes at once.
    drop_second_copy,
    /// Dropped at a destination: older than the duplicate window.
    drop_too_old,
    /// Dropped at a destination: nobody here has asked for the stream, nor did within 200 ms.
    drop_unknown_stream,
    /// Dropped from a publisher: the stream has no subscriber anywhere.
    drop_no_subscriber,
    /// Dropped from a publisher: its namespace sends faster than it may.
    drop_over_rate,
    /// Dropped: datagrams of an SFU that sends faster than one link may.
    drop_link_rate,
    /// Dropped: the handle was never granted, or is no longer; at an SFU, nor was announced within 200 ms.
    drop_unknown_handle,
    /// Dropped: a packet larger than the overlay carries.
    drop_oversize,
    /// Dropped: halves of frames whose other half did not come in time, or that too many others followed.
    drop_half,
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
    /// Dropped: entries of streams beyond what the stream table holds; their subscribers were told.
    drop_stream_table_full,
    /// Publications refused because as many streams as may be are published here.
    refused_stream_limit,
    /// Streams held that a hello to the controller had no room for.
    hello_streams_left_out,
    /// Dropped: outputs beyond the bound of the output queue.
    drop_output_full,
    /// Dropped: plain RTP or RTCP from an address that is not registered.
    drop_plain_stranger,
    /// Dropped: plain datagrams that are neither RTP nor RTCP.
    drop_plain_malformed,
    /// Dropped: packets of a plain publication that the controller has not granted yet.
    drop_plain_not_granted,
    /// Dropped: a stream for a plain subscriber that already gets another with its SSRC.
    drop_plain_collision,
    /// Dropped: packets that a plain subscriber asks for too often, or too many.
    drop_plain_resend_rate,
    /// Dropped: plain datagrams beyond the bound of their queue.
    drop_plain_queue_full,
    /// Links of SFUs that ended because their token expired.
    links_token_expired,
    /// Links of SFUs that ended because the key that signed their token was removed.
    links_key_removed,
    /// Streams that were to be watched, beyond the number that is watched at once.
    traces_refused,
    /// Messages that make no sense from this peer.
    messages_refused,
    /// Tables or entries of the controller that were older than what is held.
    stale_pushes,
    /// Route tables that came as changes of those before.
    table_deltas,
    /// Such changes of tables that are not held, or of which they cannot be: all of the tables were asked for instead.
    table_deltas_refused,
}
