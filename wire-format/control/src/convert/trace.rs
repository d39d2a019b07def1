//! Watching a stream: the question and the answer.

use super::parts::{bounded, byte, micros, name, node, present, stream_key};
use crate::{ConvertError, proto};
use std::time::Duration;
use wire_format::Sequence;
use wire_format::control::limits::{TRACE_DURATION, TRACED_PEERS};
use wire_format::control::{TraceReport, TraceRequest, TracedIn, TracedOut, TracedPeer, TracedSpread};

impl From<TraceRequest> for proto::Trace {
    fn from(request: TraceRequest) -> proto::Trace {
        let TraceRequest { trace, key, duration } = request;
        proto::Trace { trace, key: Some(key.into()), duration_us: micros(duration) }
    }
}

impl TryFrom<proto::Trace> for TraceRequest {
    type Error = ConvertError;

    fn try_from(request: proto::Trace) -> Result<TraceRequest, ConvertError> {
        let duration = Duration::from_micros(request.duration_us);
        if duration > TRACE_DURATION {
            return Err(ConvertError::OutOfRange("duration_us"));
        }
        Ok(TraceRequest { trace: request.trace, key: stream_key(request.key)?, duration })
    }
}

impl From<TraceReport> for proto::Traced {
    fn from(report: TraceReport) -> proto::Traced {
        let TraceReport { trace, key, refused, watched, incoming, outgoing, left_out } = report;
        proto::Traced {
            trace,
            key: Some(key.into()),
            refused,
            watched_us: micros(watched),
            incoming: incoming.into_iter().map(Into::into).collect(),
            outgoing: outgoing.into_iter().map(Into::into).collect(),
            left_out,
        }
    }
}

impl TryFrom<proto::Traced> for TraceReport {
    type Error = ConvertError;

    fn try_from(report: proto::Traced) -> Result<TraceReport, ConvertError> {
        let proto::Traced { trace, key, refused, watched_us, incoming, outgoing, left_out } = report;
        bounded(incoming.len(), TRACED_PEERS, "incoming")?;
        bounded(outgoing.len(), TRACED_PEERS, "outgoing")?;
        Ok(TraceReport {
            trace,
            key: stream_key(key)?,
            refused,
            watched: Duration::from_micros(watched_us),
            incoming: incoming.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            outgoing: outgoing.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            left_out,
        })
    }
}

impl From<TracedPeer> for proto::TracedPeer {
    fn from(peer: TracedPeer) -> proto::TracedPeer {
        match peer {
            TracedPeer::Relay(node) => proto::TracedPeer { node: Some(u32::from(node.0)), sfu: None },
            TracedPeer::Sfu(sfu) => proto::TracedPeer { node: None, sfu: Some(sfu) },
            TracedPeer::Plain => proto::TracedPeer { node: None, sfu: None },
        }
    }
}

impl TryFrom<proto::TracedPeer> for TracedPeer {
    type Error = ConvertError;

    fn try_from(peer: proto::TracedPeer) -> Result<TracedPeer, ConvertError> {
        Ok(match (peer.node, peer.sfu) {
            (Some(index), None) => TracedPeer::Relay(node(index, "node")?),
            (None, Some(sfu)) => TracedPeer::Sfu(name(sfu, "sfu")?),
            (None, None) => TracedPeer::Plain,
            (Some(_), Some(_)) => return Err(ConvertError::OutOfRange("peer")),
        })
    }
}

impl From<TracedSpread> for proto::TracedSpread {
    fn from(spread: TracedSpread) -> proto::TracedSpread {
        let TracedSpread { count, mean, p50, p99, max } = spread;
        proto::TracedSpread {
            count,
            mean_us: micros(mean),
            p50_us: micros(p50),
            p99_us: micros(p99),
            max_us: micros(max),
        }
    }
}

/// Where nothing was measured the message may be left out.
fn spread(spread: Option<proto::TracedSpread>) -> TracedSpread {
    let proto::TracedSpread { count, mean_us, p50_us, p99_us, max_us } = spread.unwrap_or_default();
    TracedSpread {
        count,
        mean: Duration::from_micros(mean_us),
        p50: Duration::from_micros(p50_us),
        p99: Duration::from_micros(p99_us),
        max: Duration::from_micros(max_us),
    }
}

impl From<TracedIn> for proto::TracedIn {
    fn from(row: TracedIn) -> proto::TracedIn {
        proto::TracedIn {
            peer: Some(row.peer.into()),
            packets: row.packets,
            bytes: row.bytes,
            again: row.again,
            parity: row.parity,
            first: row.first.0,
            last: row.last.0,
            excess: Some(row.excess.into()),
            wait: Some(row.wait.into()),
            slack_min_us: micros(row.slack_min),
            slack_p50_us: micros(row.slack_p50),
            hop_limit: u32::from(row.hop_limit),
            planes: u32::from(row.planes),
            marked: row.marked,
            rtt_min_us: row.rtt_min.map(micros),
            queueing_us: micros(row.queueing),
        }
    }
}

impl TryFrom<proto::TracedIn> for TracedIn {
    type Error = ConvertError;

    fn try_from(row: proto::TracedIn) -> Result<TracedIn, ConvertError> {
        Ok(TracedIn {
            peer: present(row.peer, "peer")?.try_into()?,
            packets: row.packets,
            bytes: row.bytes,
            again: row.again,
            parity: row.parity,
            first: Sequence(row.first),
            last: Sequence(row.last),
            excess: spread(row.excess),
            wait: spread(row.wait),
            slack_min: Duration::from_micros(row.slack_min_us),
            slack_p50: Duration::from_micros(row.slack_p50_us),
            hop_limit: byte(row.hop_limit, "hop_limit")?,
            planes: byte(row.planes, "planes")?,
            marked: row.marked,
            rtt_min: row.rtt_min_us.map(Duration::from_micros),
            queueing: Duration::from_micros(row.queueing_us),
        })
    }
}

impl From<TracedOut> for proto::TracedOut {
    fn from(row: TracedOut) -> proto::TracedOut {
        proto::TracedOut {
            peer: Some(row.peer.into()),
            packets: row.packets,
            bytes: row.bytes,
            again: row.again,
            residence: Some(row.residence.into()),
            planes: u32::from(row.planes),
            marked: row.marked,
        }
    }
}

impl TryFrom<proto::TracedOut> for TracedOut {
    type Error = ConvertError;

    fn try_from(row: proto::TracedOut) -> Result<TracedOut, ConvertError> {
        Ok(TracedOut {
            peer: present(row.peer, "peer")?.try_into()?,
            packets: row.packets,
            bytes: row.bytes,
            again: row.again,
            residence: spread(row.residence),
            planes: byte(row.planes, "planes")?,
            marked: row.marked,
        })
    }
}
