//! A relay's core that is run again: what it was told, what became of its links, where destinations moved, what it dropped.

use super::relay_input::{self, Told};
use super::{At, Happened, ReplayError};
use control_proto::note_to_controller;
use relay_core::{
    Counters, Endpoint as _, Input, LinkId, Notice, Outgoing, Output, Peer, PeerView, Relay, RelayCommand,
    RelayEvent, Train,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire_format::control::{LinkState, ToRelay};
use wire_format::recording::{Fingerprint, Outcome};
use wire_format::{NodeIndex, Timestamp};

/// Outputs of one input that are looked for: far more than a sound core has to say.
const OUTPUTS_MAX: u32 = 4_000_000;
/// Packets of one input that come from the process itself.
const LOCAL_MAX: u32 = 65_536;
/// Counts that say that a way was changed, each told whenever it grows.
const TURNS: [&str; 2] = ["destinations_moved", "destinations_returned"];

/// The core of one worker.
pub(super) struct RelayReplay {
    core: Relay,
    train: Train,
    now: Timestamp,
    fingerprint: Fingerprint,
    names: BTreeMap<NodeIndex, String>,
    links: BTreeMap<LinkId, String>,
    counted: Counters,
}

impl RelayReplay {
    /// A core begins.
    pub(super) fn begin(
        at: At,
        start: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<RelayReplay, ReplayError> {
        let made = relay_input::relay(start, at.worker).map_err(|problem| at.error(problem))?;
        let text = format!("relay {} begins, worker {} of {}", made.name, at.worker, made.workers);
        let detail =
            json!({ "name": made.name, "workers": made.workers, "began_unix_ms": made.began_unix_ms });
        happened.push(at.happened("start", text, detail));
        Ok(RelayReplay {
            core: made.core,
            train: Train::new(),
            now: at.now,
            fingerprint: Fingerprint::default(),
            names: BTreeMap::new(),
            links: BTreeMap::new(),
            counted: Counters::default(),
        })
    }

    /// The core is told something.
    pub(super) fn input(
        &mut self,
        at: At,
        bytes: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<Outcome, ReplayError> {
        let (told, arena) = relay_input::input(bytes).map_err(|problem| at.error(problem))?;
        if at.now < self.now {
            return Err(at.error(format!("time goes back from {} to {}", self.now, at.now)));
        }
        self.now = at.now;
        let cause = self.tell(at, &told, happened);
        match told {
            Told::Datagrams(batch) => self.core.handle_input(at.now, &arena, Input::Datagrams(&batch)),
            Told::HandedOver(items) => self.core.handle_input(at.now, &arena, Input::HandedOver(&items)),
            Told::Plain(batch) => self.core.handle_input(at.now, &arena, Input::Plain(&batch)),
            Told::Local(count) => {
                let none = Outgoing { publication: 0, range: 0..0, rtcp: false };
                let batch = vec![none; count.min(LOCAL_MAX) as usize];
                self.core.handle_input(at.now, &arena, Input::Local(&batch));
            }
            Told::Other(input) => self.core.handle_input(at.now, &arena, *input),
        }
        let outputs = self.drain(at, &arena, &cause, happened)?;
        self.count(at, &cause, happened);
        Ok(Outcome { outputs, fingerprint: self.fingerprint.value() })
    }

    /// As the worker of a port does. Returns how many decisions came out.
    fn drain(
        &mut self,
        at: At,
        arena: &[u8],
        cause: &str,
        happened: &mut Vec<Happened>,
    ) -> Result<u32, ReplayError> {
        let (mut outputs, mut polls) = (0, 0_u32);
        let mut more = |at: At| {
            polls += 1;
            if polls > OUTPUTS_MAX { Err(at.error("it never ends")) } else { Ok(()) }
        };
        loop {
            self.train.clear();
            if self.core.poll_transmit(at.now, arena, &mut self.train).is_none() {
                break;
            }
            more(at)?;
        }
        while self.core.poll_plain(arena).is_some() {
            more(at)?;
        }
        while let Some(output) = self.core.poll_output() {
            more(at)?;
            outputs += u32::from(output.note(&mut self.fingerprint, note_to_controller));
            match output {
                Output::Close { link, reason } => {
                    let text = format!("{} is closed: {reason}: {cause}", self.link(link));
                    happened.push(at.happened("link", text, json!({ "link": link.0, "cause": cause })));
                }
                Output::Event(RelayEvent::Notice(Notice::Link { peer, state })) => {
                    self.link_noticed(at, &peer, state, cause, happened);
                }
                Output::Event(RelayEvent::Notice(Notice::StreamUp { name, .. })) => {
                    let text = format!("stream {}/{}/{} begins", name.room, name.user, name.stream);
                    happened.push(at.happened("stream", text, json!({ "cause": cause })));
                }
                Output::Event(RelayEvent::Notice(Notice::StreamDown { name })) => {
                    let text = format!("stream {}/{}/{} is over", name.room, name.user, name.stream);
                    happened.push(at.happened("stream", text, json!({ "cause": cause })));
                }
                Output::Message { .. }
                | Output::PathChallenged { .. }
                | Output::ClosePlain { .. }
                | Output::Event(
                    RelayEvent::ToController(_)
                    | RelayEvent::Notice(
                        Notice::Granted { .. }
                        | Notice::Ended { .. }
                        | Notice::Collision { .. }
                        | Notice::Draining,
                    ),
                ) => {}
            }
        }
        while self.core.poll_delivery().is_some() || self.core.poll_hand_over().is_some() {
            more(at)?;
        }
        Ok(outputs)
    }

    fn link_noticed(
        &self,
        at: At,
        peer: &PeerView,
        state: Option<LinkState>,
        cause: &str,
        happened: &mut Vec<Happened>,
    ) {
        let peer = match peer {
            PeerView::Relay { node } => self.name(*node),
            PeerView::Client { subject, .. } => format!("SFU {subject:?}"),
        };
        let state = match state {
            None => "gone",
            Some(LinkState::Up) => "up",
            Some(LinkState::Suspect) => "suspect",
            Some(LinkState::Down) => "down",
        };
        let text = format!("link to {peer} is {state}: {cause}");
        let detail = json!({ "peer": peer, "state": state, "cause": cause });
        happened.push(at.happened("link", text, detail));
    }

    /// What the core counted since the input before: turns of ways, and the first drop for each reason.
    fn count(&mut self, at: At, cause: &str, happened: &mut Vec<Happened>) {
        let now = *self.core.counters();
        let before = std::mem::replace(&mut self.counted, now);
        for ((name, before), (_, now)) in before.entries().zip(now.entries()) {
            let more = now.saturating_sub(before);
            if more == 0 {
                continue;
            }
            let detail = json!({ "counter": name, "more": more, "total": now, "cause": cause });
            if TURNS.contains(&name) {
                let text = format!("{name}: {more} more, {now} in all: {cause}");
                happened.push(at.happened("reroute", text, detail));
            } else if name.starts_with("drop_") && before == 0 {
                let text = format!("the first {name}: {cause}");
                happened.push(at.happened("drop", text, detail));
            }
        }
    }

    /// What is different from what was counted then: names, what was recorded, and what is counted here.
    pub(super) fn differs(&self, at: At, bytes: &[u8]) -> Result<Vec<(String, u64, u64)>, ReplayError> {
        let mut recorded = relay_input::counts(bytes).map_err(|problem| at.error(problem))?;
        let mut differing = Vec::new();
        for (name, here) in self.core.counters().entries() {
            let there = recorded.remove(name).unwrap_or(0);
            if there != here {
                differing.push((name.to_owned(), there, here));
            }
        }
        // What this version does not count any more.
        differing.extend(recorded.into_iter().map(|(name, there)| (name, there, 0)));
        Ok(differing)
    }

    /// Everything that was dropped, by reason, and how ways turned.
    pub(super) fn totals(&self) -> Value {
        let counts = self.core.counters().entries().filter(|(_, count)| *count > 0);
        Value::Object(counts.map(|(name, count)| (name.to_owned(), count.into())).collect())
    }

    /// The time of the last input.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    fn name(&self, node: NodeIndex) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("relay {}", node.0))
    }

    fn link(&self, link: LinkId) -> String {
        let peer = self.links.get(&link).map_or("?", String::as_str);
        format!("link {} to {peer}", link.0)
    }

    /// What an input is, before the core is told.
    fn tell(&mut self, at: At, told: &Told, happened: &mut Vec<Happened>) -> String {
        let input = match told {
            Told::Datagrams(batch) => {
                let from = batch.first().map_or_else(String::new, |first| self.link(first.link));
                return format!("{} datagrams, of {from} first", batch.len());
            }
            Told::HandedOver(items) => return format!("{} frames of other workers", items.len()),
            Told::Plain(batch) => return format!("{} plain datagrams", batch.len()),
            Told::Local(count) => return format!("{count} packets of the process"),
            Told::Other(input) => input,
        };
        let (kind, text) = match &**input {
            Input::Timeout => return "a timer".to_owned(),
            Input::Datagrams(_) | Input::HandedOver(_) | Input::Plain(_) | Input::Local(_) => {
                return "datagrams".to_owned();
            }
            Input::Challenge { link, .. } => ("link", format!("{} has another address", self.link(*link))),
            Input::LinkUp { link, peer, .. } => {
                let peer = match peer {
                    Peer::Relay { node } => self.name(*node),
                    Peer::Client(rights) => format!("SFU {:?}", rights.subject),
                    Peer::Upstream => "a relay, as an SFU".to_owned(),
                };
                self.links.insert(*link, peer);
                ("link", format!("{} stands", self.link(*link)))
            }
            Input::LinkDown { link } => {
                let text = format!("{} is gone", self.link(*link));
                self.links.remove(link);
                ("link", text)
            }
            Input::Message { link, .. } => return format!("a message of {}", self.link(*link)),
            Input::Command(RelayCommand::ControllerUp) => ("controller", "a session stands".to_owned()),
            Input::Command(RelayCommand::ControllerDown) => ("controller", "the session is gone".to_owned()),
            Input::Command(RelayCommand::Drain) => ("controller", "SFUs are to leave".to_owned()),
            Input::Command(RelayCommand::Shutdown) => ("controller", "the relay stops".to_owned()),
            Input::Command(RelayCommand::Controller(said)) => match self.controller_says(said) {
                Some(text) => ("controller", text),
                None => return "a message of the controller".to_owned(),
            },
        };
        happened.push(at.happened(kind, text.clone(), json!({})));
        text
    }

    fn controller_says(&mut self, said: &ToRelay) -> Option<String> {
        Some(match said {
            ToRelay::Welcome(welcome) => format!("welcome as node {}, term {}", welcome.node.0, welcome.term),
            ToRelay::Neighbours(neighbours) => {
                self.names = neighbours.iter().map(|one| (one.node, one.name.clone())).collect();
                let names: Vec<_> = neighbours.iter().map(|one| one.name.as_str()).collect();
                format!("neighbours: {}", names.join(", "))
            }
            ToRelay::Table(table) => format!("tables of epoch {}, {} rows", table.epoch.0, table.rows()),
            ToRelay::TableDelta(delta) => {
                format!("tables of epoch {}, as changes of {}", delta.epoch.0, delta.base.0)
            }
            ToRelay::Stamp { epoch } => format!("epoch {} is stamped", epoch.0),
            ToRelay::PublicationRefused { reason, .. } => format!("a publication is refused: {reason}"),
            ToRelay::SubscriptionRefused { reason, .. } => format!("a subscription is refused: {reason}"),
            ToRelay::Drain { draining: true } => "this relay is to be empty".to_owned(),
            ToRelay::Drain { draining: false } => return None,
            ToRelay::PublicationGranted { .. }
            | ToRelay::Stream(_)
            | ToRelay::StreamGone { .. }
            | ToRelay::TokenKeys(_)
            | ToRelay::Namespaces(_)
            | ToRelay::Trace(_) => return None,
        })
    }
}
