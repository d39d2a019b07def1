//! Receiving.

use crate::client::Shared;
use crate::config::SubscribeOptions;
use crate::error::RequestError;
use crate::inbox::Inbox;
use crate::router::Standing;
use bytes::Bytes;
use relay_core::ClientCommand;
use std::sync::Arc;
use tokio::sync::watch;
use wire_format::{Incarnation, MediaKind};

/// A stream of another participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream.
    pub stream: String,
    /// What it carries.
    pub kind: MediaKind,
    /// Which publication of it; a new one starts its sequence anew.
    pub incarnation: Incarnation,
}

impl StreamInfo {
    pub(crate) fn matches(&self, wanted: &SubscribeOptions) -> bool {
        self.room == wanted.room
            && wanted.user.as_ref().is_none_or(|user| *user == self.user)
            && wanted.stream.as_ref().is_none_or(|stream| *stream == self.stream)
    }
}

/// An RTP or RTCP packet as its publisher sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Its stream.
    pub stream: Arc<StreamInfo>,
    /// The publisher's count of packets in this stream and incarnation: a gap is a loss.
    pub sequence: u32,
    /// It is RTCP.
    pub rtcp: bool,
    /// The packet.
    pub bytes: Bytes,
}

/// What happens on a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A stream that matches; its packets follow. Also after a link was lost, for each stream again.
    Started(Arc<StreamInfo>),
    /// A packet.
    Packet(Packet),
    /// The stream is over, or the link to the relay was lost.
    Ended(Arc<StreamInfo>),
}

/// Streams wanted. Outlives reconnects; ends when dropped.
pub struct Subscription {
    pub(crate) number: u32,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) shared: Arc<Shared>,
}

impl Subscription {
    /// What happens next. `None` when the client was closed, or the overlay took the subscription back (then
    /// [`Subscription::refusal`] says why). Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.inbox.next().await
    }

    /// The next packet, of any stream; beginnings and ends of streams are passed over. `None` and cancellation as for
    /// [`Subscription::next`].
    pub async fn recv(&mut self) -> Option<Packet> {
        loop {
            match self.inbox.next().await? {
                Event::Packet(packet) => return Some(packet),
                Event::Started(_) | Event::Ended(_) => {}
            }
        }
    }

    /// Asks the publisher of a stream for a keyframe. Relays merge and limit such requests; nothing is lost by asking.
    pub async fn request_keyframe(&self, stream: &StreamInfo) {
        if let Some(handle) = self.shared.router.handle_of(stream) {
            // On a closed port there is nobody to ask.
            let _ = self.shared.port.command(ClientCommand::RequestKeyframe { handle }).await;
        }
    }

    /// Why the overlay took the subscription back, if it did.
    pub fn refusal(&self) -> Option<RequestError> {
        match &*self.standing.borrow() {
            Standing::Refused(code, reason) => {
                Some(RequestError::Refused { code: *code, reason: reason.clone() })
            }
            Standing::Asked | Standing::Granted | Standing::Closed => None,
        }
    }

    /// Packets dropped because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.end(self.number, ClientCommand::Unsubscribe { request: self.number });
    }
}
