//! What a worker does with the answers of its core: seals and sends, passes on messages, events, deliveries and
//! hand-overs, and ends links.

use super::{Outbound, Shared, lock_slots};
use crate::hand_over::{Item, Outbox};
use crate::handshake::CLOSE_NORMAL;
use crate::link_table::LinkTable;
use crate::plain::{PlainPorts, PlainTrain, PlainTrains};
use crate::sink::{Sink, Upcall};
use crate::socket::PortSocket;
use crate::stats::PortStats;
use quinn::udp::Transmit;
use relay_core::{Endpoint, Input, LinkId, Output, PlainPort, Train};
use std::io;
use tokio::sync::mpsc;
use wire_format::Timestamp;
use wire_format::session::Message;

/// Everything but the core: where its answers go.
pub(super) struct Outward<E: Endpoint> {
    pub(super) shared: Shared,
    pub(super) links: LinkTable,
    pub(super) plain_ports: PlainPorts,
    pub(super) plain_trains: PlainTrains,
    pub(super) sink: Sink<E::Event>,
    pub(super) outbox: Outbox,
    pub(super) train: Train,
    /// Links that are to end after the current drain.
    pub(super) closing: Vec<LinkId>,
    pub(super) stats: PortStats,
}

impl<E: Endpoint> Outward<E> {
    /// Carries out everything that the core wants after an input.
    pub(super) fn drain(&mut self, core: &mut E, now: Timestamp, arena: &[u8]) {
        self.drain_core(core, now, arena);
        self.end_links(core, now);
        self.outbox.flush();
    }

    pub(super) fn drain_core(&mut self, core: &mut E, now: Timestamp, arena: &[u8]) {
        loop {
            self.train.clear();
            match core.poll_transmit(now, arena, &mut self.train) {
                Some(link) => self.transmit(link),
                None => break,
            }
        }
        self.transmit_plain(core, arena);
        // Outputs first: an announcement comes before the packets of its stream.
        while let Some(output) = core.poll_output() {
            match output {
                Output::Message { link, message } => self.message(link, message),
                Output::Close { link, reason } => self.close(link, reason),
                Output::PathChallenged { link } => self.links.nudge(now, link),
                Output::ClosePlain { port } => self.plain_ports.close(port),
                Output::Event(event) => {
                    if (self.sink)(Upcall::Event(event)).is_err() {
                        self.stats.drop_sink += 1;
                    }
                }
            }
        }
        while let Some(delivery) = core.poll_delivery() {
            self.stats.deliveries += 1;
            let packet = relay_core::packet_bytes(arena, core.annex(), &delivery.range);
            if (self.sink)(Upcall::Delivery(&delivery, packet)).is_err() {
                self.stats.drop_sink += 1;
            }
        }
        while let Some(hand_over) = core.poll_hand_over() {
            let packet = relay_core::packet_bytes(arena, core.annex(), &hand_over.packet);
            for worker in hand_over.to.iter() {
                self.outbox.gather(worker, Item::Frame, [hand_over.head(), packet]);
            }
        }
    }

    /// Seals and sends the train.
    pub(super) fn transmit(&mut self, link: LinkId) {
        let datagrams = self.train.slots().len() as u64;
        let Some((sealer, route)) = self.links.outwards(link, &self.train) else {
            self.stats.drop_no_link += datagrams;
            return;
        };
        let segment = self.train.segment_bytes();
        if segment > usize::from(route.max_datagram) {
            self.stats.drop_send_oversize += datagrams;
            return;
        }
        let (slots, bytes) = self.train.parts_mut();
        for slot in slots {
            match sealer.seal(slot.number, &mut bytes[slot.sealed.clone()]) {
                Ok(begun) => self.stats.key_generations += u64::from(begun),
                Err(crate::seal::SealError::Number) => {
                    self.stats.drop_send_number += datagrams;
                    return;
                }
                Err(crate::seal::SealError::Key) => {
                    self.stats.drop_send_key += datagrams;
                    return;
                }
            }
        }
        let mut contents = self.train.bytes();
        while !contents.is_empty() {
            let segments_max = self.shared.socket.segments_max();
            let length = contents.len().min(segment * segments_max);
            let (now, rest) = contents.split_at(length);
            let count = length.div_ceil(segment.max(1)) as u64;
            let transmit = Transmit {
                destination: route.remote,
                ecn: None,
                contents: now,
                segment_size: (count > 1).then_some(segment),
                src_ip: route.local_ip,
            };
            match self.shared.socket.send(&transmit) {
                Ok(()) => {
                    self.stats.trains_out += 1;
                    self.stats.datagrams_out += count;
                    self.stats.bytes_out += length as u64;
                }
                // The kernel or a network card cannot cut trains; the socket has noted it. The same bytes go again,
                // one datagram at a time.
                Err(_) if count > 1 && self.shared.socket.segments_max() == 1 => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stats.drop_send_would_block += count;
                }
                Err(_) => self.stats.drop_send_error += count,
            }
            contents = rest;
        }
    }

    /// Gathers plain datagrams and sends them; an empty one stands for nothing.
    fn transmit_plain(&mut self, core: &mut E, arena: &[u8]) {
        let Outward { shared, plain_ports, plain_trains, stats, .. } = self;
        let mut send = |train: &PlainTrain| send_plain(&shared.socket, plain_ports, stats, train);
        while let Some(transmit) = core.poll_plain(arena) {
            if !transmit.bytes.is_empty() {
                plain_trains.gather(&transmit, &mut send);
            }
        }
        plain_trains.flush(send);
    }

    pub(super) fn message(&mut self, link: LinkId, message: Message) {
        let Some(outbound) = self.links.outbound(link) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outbound.try_send(Outbound::Message(message)) {
            self.stats.closed_message_queue += 1;
            self.close(link, "messages are not read");
        }
    }

    pub(super) fn close(&mut self, link: LinkId, reason: &'static str) {
        if let Some(outbound) = self.links.outbound(link) {
            if outbound.try_send(Outbound::Close(reason)).is_err()
                && let Some(connection) = self.links.connection(link)
            {
                connection.close(CLOSE_NORMAL.into(), reason.as_bytes());
            }
            self.closing.push(link);
        }
    }

    /// Takes ended links from the table and the core. Ending one may make the core end more.
    pub(super) fn end_links(&mut self, core: &mut E, now: Timestamp) {
        while let Some(link) = self.closing.pop() {
            let Some(known_to_core) = self.links.remove(link) else { continue };
            lock_slots(&self.shared.slots).give_back(link);
            if known_to_core {
                self.stats.links_down += 1;
                core.handle_input(now, &[], Input::LinkDown { link });
                self.drain_core(core, now, &[]);
            }
        }
    }
}

/// Sends a train of plain datagrams, in one call if the kernel cuts it and one by one otherwise.
fn send_plain(socket: &PortSocket, ports: &PlainPorts, stats: &mut PortStats, train: &PlainTrain) {
    let PlainTrain { port, from, to, segment, ref bytes } = *train;
    let on_relay_port = port == PlainPort::RELAY;
    let send = |contents: &[u8]| {
        let segment_size = (contents.len() > segment).then_some(segment);
        if on_relay_port {
            socket.send_plain(from, to, contents, segment_size)
        } else {
            ports.send(port, to, contents, segment_size)
        }
    };
    let segments_max = if on_relay_port { socket.plain_segments_max() } else { ports.segments_max(port) };
    for contents in bytes.chunks(segment * segments_max) {
        let count = contents.len().div_ceil(segment) as u64;
        stats.plain_trains_out += 1;
        match send(contents) {
            Ok(()) => stats.plain_out += count,
            Err(error) if count == 1 || error.kind() == io::ErrorKind::WouldBlock => {
                stats.drop_plain_send += count;
            }
            // Too long for the way there, or trains cannot be cut here: each for itself.
            Err(_) => {
                for datagram in contents.chunks(segment) {
                    let sent = send(datagram).is_ok();
                    stats.plain_out += u64::from(sent);
                    stats.drop_plain_send += u64::from(!sent);
                }
            }
        }
    }
}
