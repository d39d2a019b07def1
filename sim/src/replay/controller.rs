//! A controller's core that is run again, and what its decisions came from.
//!
//! Routes do not change at the input that gives reason for it: a report moves a price, a moment later tables are computed and
//! prepared, and when relays hold them they are stamped. So reasons are gathered (prices that moved, links that opened or
//! closed, relays that came and went, what operators decided) until tables are prepared, and told where these are stamped.

use super::routes::{self, Ends, Moments, Prices};
use super::{At, Happened, ReplayError, controller_input};
use control_proto::note_to_relay;
use route_core::{Controller, Input, LinkFact, Output, SessionId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use wire_format::control::{LinkState, ToController, ToRelay};
use wire_format::recording::{Fingerprint, Outcome};
use wire_format::{Epoch, NodeIndex, Timestamp};

/// Epochs that are prepared and not stamped yet, at most; older ones were merged into later ones.
const PREPARED_MAX: usize = 16;
/// Reasons told for one epoch; the others are counted.
const REASONS_MAX: usize = 50;
/// Outputs of one input that are looked for: far more than a sound core has to say.
const OUTPUTS_MAX: u32 = 4_000_000;

/// The core of one term.
pub(super) struct ControllerReplay {
    core: Controller,
    now: Timestamp,
    fingerprint: Fingerprint,
    sessions: BTreeMap<SessionId, String>,
    names: BTreeMap<NodeIndex, String>,
    prices: Prices,
    /// Those of when the epoch was stamped that relays stamp.
    stamped_prices: Prices,
    /// Since tables were prepared last.
    reasons: Vec<Reason>,
    prepared: BTreeMap<Epoch, Prepared>,
    /// Prices that changed and links that failed, as the core counts them.
    counted: (u64, u64),
}

/// Why routes may have changed.
#[derive(Clone, Debug)]
struct Reason {
    at: At,
    text: String,
}

/// Tables that relays were given.
#[derive(Debug)]
struct Prepared {
    at: At,
    reasons: Vec<Reason>,
}

/// What an input is, for people, and what it may touch.
struct Told {
    text: String,
    /// Of which kind a reason it is, if it is one by itself.
    reason: Option<&'static str>,
    /// Links whose prices may have moved.
    look: Look,
}

/// Whose prices may have moved.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Look {
    Nowhere,
    Links(BTreeSet<Ends>),
    Everywhere,
}

impl ControllerReplay {
    /// A core begins.
    pub(super) fn begin(
        at: At,
        start: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<ControllerReplay, ReplayError> {
        let (config, began_unix_ms) =
            controller_input::controller(start).map_err(|problem| at.error(problem))?;
        let names = config.nodes.iter().map(|record| (record.node, record.name.clone())).collect();
        let text =
            format!("a controller begins: term {}, {} relays in its store", config.term, config.nodes.len());
        let detail =
            json!({ "term": config.term, "nodes": config.nodes.len(), "began_unix_ms": began_unix_ms });
        happened.push(at.happened("start", text, detail));
        Ok(ControllerReplay {
            core: Controller::new(config),
            now: at.now,
            fingerprint: Fingerprint::default(),
            sessions: BTreeMap::new(),
            names,
            prices: Prices::new(),
            stamped_prices: Prices::new(),
            reasons: Vec::new(),
            prepared: BTreeMap::new(),
            counted: (0, 0),
        })
    }

    /// The core is told something.
    pub(super) fn input(
        &mut self,
        at: At,
        bytes: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<Outcome, ReplayError> {
        let input = controller_input::input(bytes).map_err(|problem| at.error(problem))?;
        if at.now < self.now {
            return Err(at.error(format!("time goes back from {} to {}", self.now, at.now)));
        }
        self.now = at.now;
        let Told { text, reason, look } = self.tell(&input);
        let before = self.core.newest_epoch();
        self.core.handle_input(at.now, input);
        let mut outputs = 0;
        let mut prepared = None;
        while let Some(output) = self.core.poll_output() {
            outputs += 1;
            if outputs > OUTPUTS_MAX {
                return Err(at.error("it never ends"));
            }
            output.note(&mut self.fingerprint, |fingerprint, session, message| {
                note_to_relay(fingerprint, session.0, message);
            });
            match output {
                Output::ToRelay { message: ToRelay::Table(table), .. } => prepared = Some(table.epoch),
                Output::ToRelay { message: ToRelay::TableDelta(delta), .. } => prepared = Some(delta.epoch),
                Output::ToRelay { .. } | Output::Persist(_) => {}
                Output::Kick { session, reason, .. } => {
                    let text = format!("the session of {} is ended: {reason}", self.session(session));
                    happened.push(at.happened("kick", text, json!({ "session": session.0 })));
                    self.sessions.remove(&session);
                }
            }
        }
        if let Some(kind) = reason {
            happened.push(at.happened(kind, text.clone(), json!({})));
            self.reasons.push(Reason { at, text: text.clone() });
        }
        let counters = self.core.status().counters;
        let counted = (counters.cost_changes, counters.links_failed);
        let missed = std::mem::replace(&mut self.counted, counted) != counted;
        let prepared = prepared.filter(|epoch| !self.prepared.contains_key(epoch) && before != Some(*epoch));
        let look = if missed || prepared.is_some() { Look::Everywhere } else { look };
        self.look(at, &text, look, happened);
        if let Some(epoch) = prepared {
            self.prepared.insert(epoch, Prepared { at, reasons: std::mem::take(&mut self.reasons) });
            while self.prepared.len() > PREPARED_MAX {
                self.prepared.pop_first();
            }
        }
        if let Some(after) = self.core.newest_epoch().filter(|after| before != Some(*after)) {
            self.stamped(at, before, after, happened);
        }
        Ok(Outcome { outputs, fingerprint: self.fingerprint.value() })
    }

    /// Relays are told to stamp an epoch.
    fn stamped(&mut self, at: At, before: Option<Epoch>, after: Epoch, happened: &mut Vec<Happened>) {
        // What was prepared before and never stamped is in it.
        let later = self.prepared.split_off(&Epoch(after.0.saturating_add(1)));
        let prepared = std::mem::replace(&mut self.prepared, later);
        let prepared_at = prepared.get(&after).map(|prepared| prepared.at.record);
        let reasons: Vec<Reason> = prepared.into_values().flat_map(|prepared| prepared.reasons).collect();
        let moments = Moments { then: &self.stamped_prices, now: &self.prices };
        let changes = before.map(|before| routes::changes(&self.core, at.now, (before, after), moments));
        let mut text = format!("epoch {} is stamped", after.0);
        if let Some(record) = prepared_at {
            let _ = write!(text, ", prepared at record {record}");
        }
        match &changes {
            Some(changes) => {
                let (routes, prices) = (changes.routes_changed, changes.prices.len());
                let _ = write!(text, ": {routes} routes and {prices} prices are others");
            }
            None => text.push_str(": the first of this controller"),
        }
        for reason in reasons.iter().take(REASONS_MAX) {
            let first = reason.text.lines().next().unwrap_or_default();
            let _ = write!(text, "\n  because of record {}, {}: {first}", reason.at.record, reason.at.now);
        }
        if reasons.len() > REASONS_MAX {
            let _ = write!(text, "\n  and of {} records more", reasons.len() - REASONS_MAX);
        }
        if let Some(changes) = &changes {
            text.push_str(&changes.text);
        }
        let told = reasons.iter().take(REASONS_MAX).map(|reason| {
            json!({ "record": reason.at.record, "at_us": reason.at.now.as_micros(), "text": reason.text })
        });
        let detail = json!({
            "epoch": after.0,
            "before": before.map(|before| before.0),
            "prepared_at_record": prepared_at,
            "reasons": told.collect::<Vec<_>>(),
            "reasons_all": reasons.len(),
            "routes_changed": changes.as_ref().map(|changes| changes.routes_changed),
            "routes": changes.as_ref().map(|changes| changes.routes.clone()),
            "prices": changes.map(|changes| changes.prices),
        });
        happened.push(at.happened("epoch", text, detail));
        self.stamped_prices = self.prices.clone();
    }

    /// Tells which prices moved.
    fn look(&mut self, at: At, told: &str, look: Look, happened: &mut Vec<Happened>) {
        let found: Vec<(Ends, LinkFact)> = match look {
            Look::Nowhere => return,
            Look::Links(links) => {
                links.into_iter().filter_map(|ends| Some((ends, self.fact(ends)?))).collect()
            }
            Look::Everywhere => {
                let nodes = self.core.nodes(at.now);
                self.names.extend(nodes.into_iter().map(|node| (node.node, node.name)));
                let found: Prices = self.core.link_facts(at.now, None, usize::MAX).into_iter().collect();
                // What is not known any more is closed.
                let gone = self.prices.keys().filter(|ends| !found.contains_key(ends));
                let gone: Vec<_> = gone.map(|ends| (*ends, LinkFact::default())).collect();
                found.into_iter().chain(gone).collect()
            }
        };
        for ((from, to), fact) in found {
            let before = self.prices.insert((from, to), fact).unwrap_or_default();
            if before.cost_us == fact.cost_us {
                continue;
            }
            let (from, to) = (self.name(from), self.name(to));
            let what = routes::change(&before, &fact);
            let text = format!("link {from}>{to}: {what}: {told}");
            let detail = json!({
                "from": from,
                "to": to,
                "before": routes::price(&before),
                "after": routes::price(&fact),
                "cause": told,
            });
            happened.push(at.happened("link", text.clone(), detail));
            self.reasons.push(Reason { at, text });
        }
    }

    /// What is known of one direction of a link.
    fn fact(&self, ends: Ends) -> Option<LinkFact> {
        let (from, to) = ends;
        let behind = match (from.0, to.0) {
            (0, 0) => None,
            (from, 0) => Some((NodeIndex(from - 1), NodeIndex(u16::MAX))),
            (from, to) => Some((NodeIndex(from), NodeIndex(to - 1))),
        };
        let found = self.core.link_facts(self.now, behind, 1);
        found.into_iter().find(|(known, _)| *known == ends).map(|(_, fact)| fact)
    }

    fn name(&self, node: NodeIndex) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("node {}", node.0))
    }

    fn session(&self, session: SessionId) -> String {
        self.sessions.get(&session).cloned().unwrap_or_else(|| format!("session {}", session.0))
    }

    /// What an input is, before the core is told.
    fn tell(&mut self, input: &Input) -> Told {
        let reason = |kind, text| Told { text, reason: Some(kind), look: Look::Everywhere };
        let aside = |text| Told { text, reason: None, look: Look::Nowhere };
        match input {
            Input::Timeout => aside("a timer".to_owned()),
            Input::Join { name, .. } => reason("relay", format!("{name} joins")),
            Input::Certificates { name, rule } if rule.revoked => {
                reason("operator", format!("the certificates of {name} are void"))
            }
            Input::Certificates { name, .. } => aside(format!("{name} has a new certificate")),
            Input::Cordon { name, cordoned: true } => {
                reason("operator", format!("an operator has routes avoid {name}"))
            }
            Input::Cordon { name, cordoned: false } => {
                reason("operator", format!("an operator lets routes pass {name}"))
            }
            Input::Drain { name } => reason("operator", format!("an operator wants {name} empty")),
            Input::Policies(policies) => {
                let names: Vec<_> = policies.iter().map(|(_, policy)| policy.name.as_str()).collect();
                reason("operator", format!("an operator sets policies: {}", names.join(", ")))
            }
            Input::RelayUp { session, name, hello } => {
                self.sessions.insert(*session, name.clone());
                reason("relay", format!("{name} opens a session, version {}", hello.version))
            }
            Input::RelayDown { session } => {
                let name = self.session(*session);
                // A session that the core ended is closed after that.
                match self.sessions.remove(session) {
                    Some(_) => reason("relay", format!("the session of {name} is gone")),
                    None => aside(format!("{name} is closed")),
                }
            }
            Input::TokenKeys(keys) => aside(format!("{} token keys", keys.len())),
            Input::FromRelay { session, message } => self.tell_said(&self.session(*session), message),
        }
    }

    /// What a relay says.
    fn tell_said(&self, name: &str, message: &ToController) -> Told {
        let mut look = Look::Nowhere;
        let mut reason = None;
        let text = match message {
            ToController::Hello(_) => format!("{name} says hello again"),
            ToController::ReportsComplete => {
                (reason, look) = (Some("relay"), Look::Everywhere);
                format!("{name} has reported everything")
            }
            ToController::Goodbye => {
                (reason, look) = (Some("relay"), Look::Everywhere);
                format!("{name} says goodbye")
            }
            ToController::Links(reports) => {
                let node = self.core.node_index(name);
                let pairs = reports.iter().filter_map(|report| Some((node?, report.neighbour)));
                look = Look::Links(pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect());
                let ill = reports.iter().filter(|report| report.state != LinkState::Up);
                let ill = ill.map(|report| {
                    let state = match report.state {
                        LinkState::Up => "up",
                        LinkState::Suspect => "suspect",
                        LinkState::Down => "down",
                    };
                    format!(", {} {state}", self.name(report.neighbour))
                });
                format!("report of {name}{}", ill.collect::<String>())
            }
            ToController::Published(report) => {
                let stream = &report.name;
                format!("{name} reports that {}/{}/{} is published", stream.room, stream.user, stream.stream)
            }
            ToController::Unpublished { .. } => format!("{name} reports that a stream is over"),
            ToController::Subscribed(report) => format!("{name} reports a subscription of {}", report.room),
            ToController::Unsubscribed { .. } => format!("{name} reports that a subscription is over"),
            ToController::TableAck { epoch } => format!("{name} holds the tables of epoch {}", epoch.0),
            ToController::TableWanted { epoch } => format!("{name} wants all tables of epoch {}", epoch.0),
            ToController::StampAck { epoch } => format!("{name} stamps epoch {}", epoch.0),
            ToController::StreamAck { .. } => format!("{name} holds a row"),
            ToController::Usage(_) => format!("{name} tells what namespaces use"),
            ToController::Traced(_) => format!("{name} answers a trace too late"),
        };
        Told { text, reason, look }
    }
}
