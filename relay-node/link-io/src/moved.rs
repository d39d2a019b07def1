//! Peers that move: the address that datagrams of a link began to come from, until the peer has proved to be there.

use crate::link_table::Route;
use aws_lc_rs::rand;
use relay_core::Train;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire_format::{FrameKind, PacketNumber, PathChallenge, SEAL_OVERHEAD_BYTES, Timestamp, frames};

/// What tells one question from another.
pub(crate) type Token = [u8; 8];

/// Distance of questions to one address.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How long an address has to answer before another is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Distance of signs of life that QUIC is asked for.
pub(crate) const NUDGE_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a sealed question: nothing shorter is answered by one.
const QUESTION_BYTES: usize = SEAL_OVERHEAD_BYTES
    + wire_format::SEND_TIME_BYTES
    + wire_format::FRAME_HEADER_BYTES
    + PathChallenge::BYTES;

/// An authentic datagram, and how it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) from: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) number: PacketNumber,
    pub(crate) bytes: usize,
}

/// Where the peer may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    token: Token,
    next_question: Timestamp,
    until: Timestamp,
    max_datagram: u16,
}

impl Candidate {
    /// The token to ask an address by, if it is to be asked now: one address at a time, not too often, and by no more
    /// bytes than came.
    pub(crate) fn ask(candidate: &mut Option<Candidate>, now: Timestamp, came: &Came) -> Option<Token> {
        if came.bytes < QUESTION_BYTES {
            return None;
        }
        if let Some(candidate) = candidate.as_mut().filter(|candidate| now < candidate.until) {
            if !same(candidate.remote, came.from) || now < candidate.next_question {
                return None;
            }
            candidate.next_question = now + ASK_EVERY;
            return Some(candidate.token);
        }
        let mut token = [0; 8];
        rand::fill(&mut token).ok()?;
        *candidate = Some(Candidate {
            remote: came.from,
            local_ip: came.local_ip,
            token,
            next_question: now + ASK_EVERY,
            until: now + ANSWER_WITHIN,
            max_datagram: QUESTION_BYTES as u16,
        });
        Some(token)
    }

    /// The datagram came from there and carries the answer.
    pub(crate) fn is_proven(&self, came: &Came, plain: &[u8]) -> bool {
        same(self.remote, came.from) && carries(plain, PathChallenge { answer: true, token: self.token })
    }

    /// Where a train goes that is the question; `None` if it is something else.
    pub(crate) fn route_of(&self, train: &Train) -> Option<Route> {
        let [slot] = train.slots() else { return None };
        let question = PathChallenge { answer: false, token: self.token };
        carries(&train.bytes()[slot.plain()], question).then_some(Route {
            remote: self.remote,
            local_ip: self.local_ip,
            max_datagram: self.max_datagram,
        })
    }
}

fn carries(plain: &[u8], wanted: PathChallenge) -> bool {
    frames(plain).map_while(Result::ok).any(|frame| {
        frame.kind == FrameKind::PathChallenge && PathChallenge::decode(&plain[frame.body]) == Ok(wanted)
    })
}

/// The same address and port; what else an IPv6 address carries does not matter.
pub(crate) fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip() == other.ip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(from: &str, bytes: usize) -> Came {
        let from = from.parse().expect("an address");
        Came { from, local_ip: None, number: PacketNumber(9), bytes }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn one_address_is_asked_at_a_time_and_by_no_more_than_it_sent() {
        let mut candidate = None;
        assert_eq!(Candidate::ask(&mut candidate, at(0), &came("10.0.0.1:1", QUESTION_BYTES - 1)), None);
        let token = Candidate::ask(&mut candidate, at(0), &came("10.0.0.1:1", QUESTION_BYTES));
        assert!(token.is_some());
        assert_eq!(Candidate::ask(&mut candidate, at(19), &came("10.0.0.1:1", 1200)), None, "too soon");
        assert_eq!(
            Candidate::ask(&mut candidate, at(20), &came("10.0.0.1:1", 1200)),
            token,
            "the same question"
        );
        assert_eq!(Candidate::ask(&mut candidate, at(999), &came("10.0.0.2:1", 1200)), None);
        let other = Candidate::ask(&mut candidate, at(1000), &came("10.0.0.2:1", 1200));
        assert!(other.is_some() && other != token);
    }

    #[test]
    fn only_the_answer_to_the_question_from_the_address_proves_it() {
        let mut candidate = None;
        let token = Candidate::ask(&mut candidate, at(0), &came("10.0.0.1:1", 1200)).expect("asked");
        let candidate = candidate.expect("asked");
        let plain = |answer, token| {
            let body = PathChallenge { answer, token }.encode();
            [&[0, 0, 1][..], &wire_format::frame_header(FrameKind::PathChallenge, body.len()), &body].concat()
        };
        assert!(candidate.is_proven(&came("10.0.0.1:1", 43), &plain(true, token)));
        assert!(!candidate.is_proven(&came("10.0.0.2:1", 43), &plain(true, token)));
        assert!(!candidate.is_proven(&came("10.0.0.1:1", 43), &plain(false, token)));
        assert!(!candidate.is_proven(&came("10.0.0.1:1", 43), &plain(true, [0; 8])));
        assert!(!candidate.is_proven(&came("10.0.0.1:1", 43), b"\0\0\x01"));
    }
}
