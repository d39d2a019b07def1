//! What the processes around the cores ask of them and hear from them.

use crate::Output;
use crate::notice::Notice;
use std::time::Duration;
use wire_format::control::{RelayHello, ToController, ToRelay};
use wire_format::recording::Fingerprint;
use wire_format::session::RefusalCode;
use wire_format::{ClientKey, Incarnation, MediaKind, RtpDescription, StreamHandle};

/// What a relay core is made from.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Who this relay is. `node`, `epoch` and `streams` are filled in by the core whenever it says hello.
    pub hello: RelayHello,
    /// Seed of everything random in the core.
    pub seed: u64,
}

/// To a relay core.
#[derive(Debug)]
pub enum RelayCommand {
    /// A session with the controller stands: say hello and report everything held.
    ControllerUp,
    /// The session is gone; keep the last good tables.
    ControllerDown,
    /// A message of the controller.
    Controller(ToRelay),
    /// Send SFUs to other relays, as the controller may say, too.
    Drain,
    /// Tell the controller, neighbours and SFUs that this relay is about to stop.
    Shutdown,
}

/// From a relay core.
#[derive(Debug)]
pub enum RelayEvent {
    /// Send this to the controller. Dropped by the process while no session stands.
    ToController(ToController),
    /// For whoever watches the relay.
    Notice(Notice),
}

impl Output<RelayEvent> {
    /// Adds it to the fingerprint of what a core decides, if it is a decision: what is measured, and what is told to whoever
    /// watches, is not. `message` adds one to the controller, which only the process around the core can write down.
    pub fn note(
        &self,
        fingerprint: &mut Fingerprint,
        message: impl FnOnce(&mut Fingerprint, &ToController),
    ) -> bool {
        match self {
            Output::Message { link, message } => {
                fingerprint.put(b"m");
                fingerprint.put_number(link.0.into());
                let mut bytes = Vec::new();
                // What is too long for the wire is noted as nothing.
                let _ = wire_format::codec::encode(message, &mut bytes);
                fingerprint.put(&bytes);
            }
            Output::PathChallenged { link } => {
                fingerprint.put(b"p");
                fingerprint.put_number(link.0.into());
            }
            Output::Close { link, reason } => {
                fingerprint.put(b"c");
                fingerprint.put_number(link.0.into());
                fingerprint.put(reason.as_bytes());
            }
            Output::ClosePlain { port } => {
                fingerprint.put(b"s");
                fingerprint.put_number(port.0.into());
            }
            Output::Event(RelayEvent::ToController(ToController::Usage(_) | ToController::Traced(_)))
            | Output::Event(RelayEvent::Notice(_)) => return false,
            Output::Event(RelayEvent::ToController(said)) => {
                fingerprint.put(b"e");
                message(fingerprint, said);
            }
        }
        true
    }
}

/// What a client core is made from.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Seed of everything random in the core.
    pub seed: u64,
    /// By which relays know the client on its next link, so that its publications go on there; `None` to have them begin
    /// anew. Nobody may be able to guess it.
    pub key: Option<ClientKey>,
}

/// To a client core. Publications and subscriptions outlive links: the core asks for them again on the next one.
#[derive(Debug)]
pub enum ClientCommand {
    /// Begin a stream.
    Publish {
        /// Chosen by the caller, unique among publications and subscriptions of this client.
        request: u32,
        /// Call.
        room: String,
        /// Participant.
        user: String,
        /// The participant's stream.
        stream: String,
        /// What it carries.
        kind: MediaKind,
        /// Delay budget on top of the path's own delay; `None` takes the default of the kind.
        budget: Option<Duration>,
        /// Its packets are to go two disjoint ways at once (1+1 protection), as far as there are two.
        protect: bool,
        /// What its RTP is, for the priority of its packets.
        description: RtpDescription,
    },
    /// End it.
    Unpublish {
        /// The request that began it.
        request: u32,
    },
    /// Receive what matches, now and later.
    Subscribe {
        /// Chosen by the caller, unique among publications and subscriptions of this client.
        request: u32,
        /// Call.
        room: String,
        /// Only this participant.
        user: Option<String>,
        /// Only the stream of this name.
        stream: Option<String>,
    },
    /// Stop receiving it.
    Unsubscribe {
        /// The request that began it.
        request: u32,
    },
    /// Ask the publisher of an announced stream for a keyframe.
    RequestKeyframe {
        /// The stream.
        handle: StreamHandle,
    },
    /// Tell the relay that this client leaves.
    Shutdown,
}

/// From a client core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// The publication may send. Said again for each link.
    Published {
        /// The request.
        request: u32,
    },
    /// The subscription stands. Said again for each link.
    Subscribed {
        /// The request.
        request: u32,
    },
    /// The relay refused it; it is forgotten.
    Refused {
        /// The request.
        request: u32,
        /// For programs.
        code: RefusalCode,
        /// For people.
        reason: String,
    },
    /// A stream that was subscribed to; deliveries name its handle.
    Announced {
        /// Its handle until `Ended`, which comes when no link has it any more; it stays the same while the client moves.
        handle: StreamHandle,
        /// Subscriptions that it matches.
        subscriptions: Vec<u32>,
        /// Call.
        room: String,
        /// Participant.
        user: String,
        /// The participant's stream.
        stream: String,
        /// What it carries.
        kind: MediaKind,
        /// Which publication of it.
        incarnation: Incarnation,
    },
    /// The stream is over, or no longer wanted, or its link is gone.
    Ended {
        /// Its handle.
        handle: StreamHandle,
    },
    /// A subscriber of this publication wants a keyframe.
    KeyframeRequested {
        /// The request that began the publication.
        request: u32,
    },
    /// The relay is to be empty, or about to stop: connect elsewhere. The present link carries on until everything has gone
    /// over.
    RelayLeaving,
}
