//! What leaves by a link, train by train: a path challenge first, then what waits, then what goes again, parity, and probes
//! of the path's size.

use super::Link;
use crate::Train;
use crate::repair::{AGAIN_BYTES, RepairMemory};
use wire_format::{
    DATAGRAM_BYTES_BASE, FRAME_HEADER_BYTES, FrameKind, Heartbeat, MEDIA_HEADER_MAX, PARITY_ROOM_BYTES,
    PacketNumber, PathChallenge, REPAIR_HEADER_BYTES, REQUEST_BYTES_MAX, SEAL_OVERHEAD_BYTES,
    SEND_TIME_BYTES, Timestamp, frame_header, send_time_bytes,
};

impl Link {
    /// Packs what waits into `train`; `bytes` are arena and annex. `true` when nothing is left.
    pub(crate) fn pack(
        &mut self,
        now: Timestamp,
        bytes: (&[u8], &[u8]),
        memory: &mut RepairMemory,
        train: &mut Train,
    ) -> bool {
        if let Some(token) = self.challenge.take() {
            let body = PathChallenge { answer: false, token }.encode();
            self.pack_alone(now, FrameKind::PathChallenge, &body, 0, train);
        } else {
            let waits = self.heartbeat_waits && !self.queue.is_empty() && self.queue.is_fresh();
            if waits && self.queue.is_small_with(Heartbeat::BYTES_MAX) {
                self.heartbeat(now, true);
            }
            if self.repair.request_is_due(now) && self.queue.is_fresh() && self.pack_request(now, train) {
                return self.packed(now, train);
            }
            if !self.queue.is_empty() {
                let kept = (&mut self.repair, memory);
                if self.queue.pack(now, bytes, &mut self.next_number, kept, train) {
                    self.limit_queue();
                }
            } else if !self.pack_repairs(now, memory, train) && !self.pack_parity(now, train) {
                self.pack_probe(now, train);
                self.repair.stats.probe_bytes += train.bytes().len() as u64;
                return self.packed(now, train);
            }
            self.count_large(train);
        }
        self.packed(now, train)
    }

    fn packed(&mut self, now: Timestamp, train: &Train) -> bool {
        self.datagrams_out += train.slots().len() as u64;
        self.bytes_out += train.bytes().len() as u64;
        self.sending.spent(now, train.bytes().len(), self.next_number);
        if self.queue.is_empty() {
            self.sending.drained();
        }
        !self.has_output(now)
    }

    /// What is missing is asked for: with what leaves now, or, `true`, in a datagram of its own.
    fn pack_request(&mut self, now: Timestamp, train: &mut Train) -> bool {
        let mut body = [0; REQUEST_BYTES_MAX];
        let Some(used) = self.repair.request(now, &mut body) else { return false };
        self.repair.stats.requests += 1;
        if used <= MEDIA_HEADER_MAX && self.push_small(FrameKind::RepairRequest, &body[..used]).is_ok() {
            return false;
        }
        self.pack_alone(now, FrameKind::RepairRequest, &body[..used], 0, train);
        self.repair.stats.request_bytes += train.bytes().len() as u64;
        true
    }

    /// Datagrams that go again, each in one of its own. `false` if there are none.
    fn pack_repairs(&mut self, now: Timestamp, memory: &mut RepairMemory, train: &mut Train) -> bool {
        while let Some((sent, plain)) = self.repair.next_again(now, self.mtu.again_max()) {
            let bytes = AGAIN_BYTES + plain.len();
            if !train.fits(bytes) {
                return true;
            }
            if !self.sending.may_send(now, train.bytes().len() + bytes + SEAL_OVERHEAD_BYTES) {
                self.repair.postpone_again(now);
                break;
            }
            let number = PacketNumber(self.next_number);
            self.next_number += 1;
            let out = train.append(number, bytes);
            // This datagram's own time; that of the one repeated is within.
            out[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(now.wire()));
            let (head, again) = out[SEND_TIME_BYTES..].split_at_mut(FRAME_HEADER_BYTES + REPAIR_HEADER_BYTES);
            let (frame, repeats) = head.split_at_mut(FRAME_HEADER_BYTES);
            frame.copy_from_slice(&frame_header(FrameKind::Repair, REPAIR_HEADER_BYTES + plain.len()));
            repeats.copy_from_slice(&(sent.number.0 as u32).to_be_bytes());
            again.copy_from_slice(plain);
            self.repair.left_again(now, sent.number, number, bytes + SEAL_OVERHEAD_BYTES, memory);
        }
        !train.is_empty()
    }

    /// Rows of parity that are due. `false` if there are none.
    fn pack_parity(&mut self, now: Timestamp, train: &mut Train) -> bool {
        let body_max = self.mtu.plain_max() + PARITY_ROOM_BYTES - SEND_TIME_BYTES - FRAME_HEADER_BYTES;
        while let Some(body) = self.repair.next_row(now, body_max) {
            let bytes = SEND_TIME_BYTES + FRAME_HEADER_BYTES + body.len();
            if !train.fits(bytes) {
                return true;
            }
            if !self.sending.spares(now, train.bytes().len() + bytes + SEAL_OVERHEAD_BYTES) {
                self.repair.give_up_rows();
                break;
            }
            let out = train.append(PacketNumber(self.next_number), bytes);
            self.next_number += 1;
            out[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(now.wire()));
            out[SEND_TIME_BYTES..][..FRAME_HEADER_BYTES]
                .copy_from_slice(&frame_header(FrameKind::Parity, body.len()));
            out[SEND_TIME_BYTES + FRAME_HEADER_BYTES..].copy_from_slice(body);
            self.repair.row_left(bytes + SEAL_OVERHEAD_BYTES);
        }
        !train.is_empty()
    }

    /// An MTU probe: a datagram of the size that it asks for.
    fn pack_probe(&mut self, now: Timestamp, train: &mut Train) {
        let Some(probe) = self.mtu.probe_leaves(self.next_number) else { return };
        let plain_bytes = usize::from(probe.bytes) - SEAL_OVERHEAD_BYTES;
        self.pack_alone(now, FrameKind::MtuProbe, &probe.encode(), plain_bytes, train);
    }

    /// A datagram of one frame, padded to a length at least.
    fn pack_alone(
        &mut self,
        now: Timestamp,
        kind: FrameKind,
        body: &[u8],
        plain_bytes: usize,
        train: &mut Train,
    ) {
        let end = SEND_TIME_BYTES + FRAME_HEADER_BYTES + body.len();
        let plain = train.append(PacketNumber(self.next_number), plain_bytes.max(end));
        self.next_number += 1;
        plain[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(now.wire()));
        plain[SEND_TIME_BYTES..][..FRAME_HEADER_BYTES].copy_from_slice(&frame_header(kind, body.len()));
        plain[SEND_TIME_BYTES + FRAME_HEADER_BYTES..end].copy_from_slice(body);
        plain[end..].fill(0);
    }

    /// Notes datagrams that not every path carries. All of a train but the last are of one length.
    fn count_large(&mut self, train: &Train) {
        if train.segment_bytes() > DATAGRAM_BYTES_BASE
            && let Some((last, others)) = train.slots().split_last()
        {
            let count = others.len() + usize::from(last.sealed.len() > DATAGRAM_BYTES_BASE);
            self.mtu.large_leave(count as u32, last.number.0);
        }
    }
}
