//! Health checks of strangers: STUN binding requests, answered from one place, not too many.

use crate::socket::PortSocket;
use crate::stats::PortStats;
use quinn::udp::RecvMeta;
use relay_core::{RateLimit, RateMeter};
use std::net::SocketAddr;
use wire_format::{BindingRequest, STUN_ANSWER_BYTES_MAX, Timestamp};

/// Answers in a second, to all that ask together. Whoever asks in another's name makes this port send it 44 kB a second at
/// most, less than it spends itself.
const ANSWERS_PER_S: u64 = 1_000;

/// The bound of answers.
#[derive(Debug)]
pub(crate) struct StunAnswers {
    limit: RateLimit,
    meter: RateMeter,
}

impl StunAnswers {
    pub(crate) fn new() -> StunAnswers {
        StunAnswers { limit: RateLimit::new(Some(ANSWERS_PER_S), None), meter: RateMeter::default() }
    }

    /// Answers a request to the address that it came from, from the address that it went to.
    pub(crate) fn answer(
        &mut self,
        now: Timestamp,
        socket: &PortSocket,
        meta: &RecvMeta,
        datagram: &[u8],
        stats: &mut PortStats,
    ) {
        let mut out = [0; STUN_ANSWER_BYTES_MAX];
        let answer = BindingRequest::decode(datagram).and_then(|request| request.answer(meta.addr, &mut out));
        let Some(bytes) = answer else {
            stats.drop_stun += 1;
            return;
        };
        if !self.meter.admit(&self.limit, now, bytes) {
            stats.drop_stun_rate += 1;
            return;
        }
        let to: SocketAddr = meta.addr;
        match socket.send_answer(meta.dst_ip, to, &out[..bytes]) {
            Ok(()) => stats.stun_answered += 1,
            Err(_) => stats.drop_plain_send += 1,
        }
    }
}
