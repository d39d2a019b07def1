//! From the core's events and deliveries to publications and subscriptions. Runs on the port's worker thread.

use crate::config::SubscribeOptions;
use crate::inbox::Inbox;
use crate::subscription::{Packet, StreamInfo};
use bytes::{Bytes, BytesMut};
use link_io::{Overflow, Sink, Upcall};
use relay_core::{ClientEvent, Delivery};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use wire_format::StreamHandle;
use wire_format::session::RefusalCode;

/// Packets are cut from blocks of this size, so that not each is an allocation.
const BLOCK_BYTES: usize = 64 * 1024;

/// Where a publication or subscription stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Asked for, not answered yet (on any link).
    Asked,
    /// Granted; the client core asks again by itself on every new link.
    Granted,
    /// Refused; forgotten by the overlay.
    Refused(RefusalCode, String),
    /// The client was closed.
    Closed,
}

/// One publication or subscription.
pub(crate) struct Request {
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) kind: RequestKind,
}

pub(crate) enum RequestKind {
    /// Notified when a subscriber wants a keyframe.
    Publication(Arc<Notify>),
    Subscription(SubscribeOptions, Arc<Inbox>),
}

struct Stream {
    info: Arc<StreamInfo>,
    inboxes: Vec<(u32, Arc<Inbox>)>,
}

#[derive(Default)]
struct State {
    requests: BTreeMap<u32, Request>,
    /// By handle. The relay counts handles from 0 and reuses them.
    streams: Vec<Option<Stream>>,
    closed: bool,
}

/// Publications, subscriptions and announced streams of a client.
pub(crate) struct Router {
    state: Mutex<State>,
    /// Notified when the relay says that it is about to stop.
    pub(crate) leaving: Notify,
}

impl Router {
    pub(crate) fn new() -> Router {
        Router { state: Mutex::default(), leaving: Notify::new() }
    }

    /// The sink of the client's port.
    pub(crate) fn sink(self: &Arc<Self>) -> Sink<ClientEvent> {
        let router = Arc::clone(self);
        let mut block = BytesMut::new();
        Box::new(move |upcall| match upcall {
            Upcall::Event(event) => {
                router.event(event);
                Ok(())
            }
            Upcall::Delivery(delivery, packet) => router.deliver(delivery, packet, &mut block),
        })
    }

    /// Adds a request; `false` if the client is closed. A subscription gets the streams that are already announced.
    pub(crate) fn add(&self, number: u32, request: Request) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if let RequestKind::Subscription(wanted, inbox) = &request.kind {
            for stream in state.streams.iter_mut().flatten() {
                if stream.info.matches(wanted) {
                    inbox.started(&stream.info);
                    stream.inboxes.push((number, Arc::clone(inbox)));
                }
            }
        }
        state.requests.insert(number, request);
        true
    }

    /// Forgets a request.
    pub(crate) fn remove(&self, number: u32) {
        let mut state = self.lock();
        state.requests.remove(&number);
        for stream in state.streams.iter_mut().flatten() {
            stream.inboxes.retain(|(request, _)| *request != number);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// The handle that a stream has on the present link.
    pub(crate) fn handle_of(&self, info: &StreamInfo) -> Option<StreamHandle> {
        let state = self.lock();
        let found = state.streams.iter().position(|stream| {
            stream.as_ref().is_some_and(|stream| {
                let other = &stream.info;
                (&other.room, &other.user, &other.stream) == (&info.room, &info.user, &info.stream)
            })
        })?;
        u16::try_from(found).ok().map(StreamHandle)
    }

    /// Tells everyone that nothing more will come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for request in std::mem::take(&mut state.requests).into_values() {
            request.end(Standing::Closed);
        }
        state.streams.clear();
    }

    fn event(&self, event: ClientEvent) {
        let mut state = self.lock();
        match event {
            ClientEvent::Published { request } | ClientEvent::Subscribed { request } => {
                if let Some(request) = state.requests.get(&request) {
                    request.standing.send_replace(Standing::Granted);
                }
            }
            ClientEvent::Refused { request, code, reason } => {
                if let Some(request) = state.requests.remove(&request) {
                    request.end(Standing::Refused(code, reason));
                }
                for stream in state.streams.iter_mut().flatten() {
                    stream.inboxes.retain(|(number, _)| *number != request);
                }
            }
            ClientEvent::Announced { handle, subscriptions: _, room, user, stream, kind, incarnation } => {
                let info = Arc::new(StreamInfo { room, user, stream, kind, incarnation });
                state.announced(handle, info);
            }
            ClientEvent::Ended { handle } => state.ended(handle),
            ClientEvent::KeyframeRequested { request } => {
                if let Some(Request { kind: RequestKind::Publication(wanted), .. }) =
                    state.requests.get(&request)
                {
                    wanted.notify_one();
                }
            }
            ClientEvent::RelayLeaving => self.leaving.notify_one(),
        }
    }

    fn deliver(&self, delivery: &Delivery, packet: &[u8], block: &mut BytesMut) -> Result<(), Overflow> {
        let state = self.lock();
        let stream = state.streams.get(usize::from(delivery.handle.0)).and_then(Option::as_ref);
        let Some(stream) = stream else { return Err(Overflow) };
        let bytes = cut(block, packet);
        let mut taken = true;
        for (_, inbox) in &stream.inboxes {
            taken &= inbox.packet(Packet {
                stream: Arc::clone(&stream.info),
                sequence: delivery.sequence.0,
                rtcp: delivery.rtcp,
                bytes: bytes.clone(),
            });
        }
        if taken { Ok(()) } else { Err(Overflow) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn announced(&mut self, handle: StreamHandle, info: Arc<StreamInfo>) {
        self.ended(handle);
        let mut inboxes = Vec::new();
        for (number, request) in &self.requests {
            if let RequestKind::Subscription(wanted, inbox) = &request.kind
                && info.matches(wanted)
            {
                inbox.started(&info);
                inboxes.push((*number, Arc::clone(inbox)));
            }
        }
        let place = usize::from(handle.0);
        if self.streams.len() <= place {
            self.streams.resize_with(place + 1, || None);
        }
        self.streams[place] = Some(Stream { info, inboxes });
    }

    fn ended(&mut self, handle: StreamHandle) {
        let stream = self.streams.get_mut(usize::from(handle.0)).and_then(Option::take);
        for stream in stream.iter() {
            for (_, inbox) in &stream.inboxes {
                inbox.ended(&stream.info);
            }
        }
    }
}

impl Request {
    fn end(&self, standing: Standing) {
        self.standing.send_replace(standing);
        match &self.kind {
            RequestKind::Publication(wanted) => wanted.notify_one(),
            RequestKind::Subscription(_, inbox) => inbox.close(),
        }
    }
}

fn cut(block: &mut BytesMut, packet: &[u8]) -> Bytes {
    if block.capacity() < packet.len() {
        block.reserve(BLOCK_BYTES.max(packet.len()));
    }
    block.extend_from_slice(packet);
    block.split().freeze()
}
