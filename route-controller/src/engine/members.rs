//! Who belongs to the overlay: joins, renewals, revocations, and whose session is let in.

use super::{Engine, Joined, Outbox, SessionEnd, count};
use crate::ca::Issued;
use crate::clock;
use crate::operations::unknown_relay;
use crate::refusal::{Refusal, RefusalKind};
use crate::store::{CertificateRecord, JoinRecord, JoinState, JoinTokenId};
use crate::trust::{Certified, Line, Worthless};
use route_core::{Input, KickCause, SessionId};
use std::collections::BTreeMap;
use wire_format::NodeIndex;
use wire_format::control::RelayHello;

/// A relay that calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The name in its certificate.
    pub(crate) name: String,
    /// The certificate.
    pub(crate) certificate: Certified,
    /// The connection that it calls on.
    pub(crate) connection: u64,
}

/// What a relay asks its next certificate with.
pub(crate) struct RenewalRequest {
    pub(crate) caller: Caller,
    /// Serial number of the newest certificate that it has.
    pub(crate) newest: Vec<u8>,
    pub(crate) csr: Vec<u8>,
}

impl Engine {
    /// Lets a session in, if its certificate is worth something.
    pub(super) fn open(
        &mut self,
        session: SessionId,
        caller: Caller,
        hello: RelayHello,
        outbox: Outbox,
    ) -> anyhow::Result<()> {
        let Caller { name, certificate, connection } = caller;
        let serial = &certificate.serial;
        self.learn(&name, &certificate)?;
        // A relay that joined before this controller kept lines has none; its certificate is of this CA all the same.
        if let Some(line) = self.lines.get_mut(&name) {
            if let Err(worthless) = line.judge(serial, clock::unix_s()) {
                count(&self.counts.sessions_void);
                tracing::warn!(name, "a session is refused: {}", worthless.reason());
                let cause = match worthless {
                    Worthless::Revoked | Worthless::Superseded => KickCause::Void,
                    Worthless::Expired => KickCause::Broken,
                };
                // Just made, so there is room.
                let _ = outbox.end.try_send(SessionEnd { cause, reason: worthless.reason() });
                return Ok(());
            }
            if line.used(serial) {
                self.store.set_line(&name, line, None, clock::unix_s())?;
            }
        }
        self.sessions.insert(session, outbox);
        self.connections.insert(session, connection);
        self.input(Input::RelayUp { session, name, hello })
    }

    /// An operator decides what becomes of a relay.
    pub(super) fn decide(
        &mut self,
        name: &str,
        what: &'static str,
        decision: Input,
    ) -> anyhow::Result<Result<(), Refusal>> {
        if self.core.node_index(name).is_none() {
            return Ok(Err(unknown_relay(&self.core, self.clock.now(), name)));
        }
        tracing::info!(name, what, "an operator decides about a relay");
        self.input(decision)?;
        Ok(Ok(()))
    }

    /// What a store from a backup does not know any more.
    fn learn(&mut self, name: &str, certificate: &Certified) -> anyhow::Result<()> {
        let Some(line) = self.lines.get_mut(name) else { return Ok(()) };
        if !line.learn(certificate) {
            return Ok(());
        }
        tracing::info!(
            name,
            "a relay has a younger certificate than this store knows: it was restored from a backup"
        );
        self.store.set_line(name, line, None, clock::unix_s())?;
        let rule = line.rule();
        self.input(Input::Certificates { name: name.to_owned(), rule })
    }

    /// Gives a relay index and certificate for its join token. The token is spent in the transaction that records the
    /// certificate; the index is durable before. A relay whose answer got lost may ask again with the same key.
    pub(super) fn join(
        &mut self,
        name: &str,
        secret_hash: &[u8; 32],
        csr: &[u8],
    ) -> anyhow::Result<Result<Joined, Refusal>> {
        let now_unix_s = clock::unix_s();
        let (token, spender) = match self.store.join_token(secret_hash, now_unix_s)? {
            JoinState::Fresh(token) => (token, None),
            JoinState::Spent(token, key_sha256) => (token, Some(key_sha256)),
            JoinState::Void => return Ok(Err(spent())),
        };
        if token.name != name {
            return Ok(Err(Refusal::invalid(
                format!("this join token is for relay {:?}, not {name:?}", token.name),
                "start the relay under the name that its token was made for, or create a token for this name",
            )));
        }
        let issue_unix_s = self.lines.get(name).map_or(now_unix_s, |line| line.next_issue_unix_s(now_unix_s));
        let issued = match self.keys.authority.issue_relay(name, csr, issue_unix_s, self.lifetime) {
            Ok(issued) => issued,
            Err(error) => return Ok(Err(bad_request(&error))),
        };
        if spender.is_some_and(|spender| spender != issued.key_sha256) {
            return Ok(Err(spent()));
        }
        if !token.replace && self.core.is_present(name, self.clock.now()) {
            return Ok(Err(name_in_use(name)));
        }
        self.input(Input::Join { name: name.to_owned(), region: token.region.unwrap_or_default() })?;
        let Some(node) = self.core.node_index(name) else {
            return Ok(Err(Refusal::new(
                RefusalKind::Unavailable,
                "no node index is left",
                "an overlay holds at most 65536 relays",
            )));
        };
        let (certified, record) = self.recorded(name, node, &issued, issue_unix_s);
        let line = Line::begin(certified);
        let Issued { key_sha256, serial, .. } = &issued;
        self.store.spend_join_token(secret_hash, key_sha256, serial, &record, &line, now_unix_s)?;
        let rule = line.rule();
        self.lines.insert(name.to_owned(), line);
        self.input(Input::Certificates { name: name.to_owned(), rule })?;
        tracing::info!(name, %node, expires_unix_s = record.expires_unix_s, "a relay joined the overlay");
        Ok(Ok(Joined {
            certificate: issued.certificate.to_vec(),
            ca_certificate: self.keys.authority.certificate().to_vec(),
            node,
        }))
    }

    /// Gives a relay its next certificate: on the connection of its session, or while nobody is in session under its
    /// name. So a copy of its state directory cannot renew while the relay itself is there.
    pub(super) fn renew(&mut self, request: &RenewalRequest) -> anyhow::Result<Result<Vec<u8>, Refusal>> {
        let now_unix_s = clock::unix_s();
        let name = &request.caller.name;
        let session = self.core.session_of(name);
        if session.is_some_and(|session| self.connections.get(&session) != Some(&request.caller.connection)) {
            return Ok(Err(name_in_use(name)));
        }
        self.learn(name, &request.caller.certificate)?;
        let (Some(line), Some(node)) = (self.lines.get(name), self.core.node_index(name)) else {
            return Ok(Err(worthless(Worthless::Superseded)));
        };
        // Whoever is in session was judged when that began; a revocation since then would have ended it.
        let judged = match session {
            Some(_) => line.judge_renewal(&request.newest, now_unix_s),
            None => line
                .judge_renewal(&request.caller.certificate.serial, now_unix_s)
                .and_then(|()| line.judge_renewal(&request.newest, now_unix_s)),
        };
        if let Err(why) = judged {
            return Ok(Err(worthless(why)));
        }
        let issue_unix_s = line.next_issue_unix_s(now_unix_s);
        let issued = match self.keys.authority.issue_relay(name, &request.csr, issue_unix_s, self.lifetime) {
            Ok(issued) => issued,
            Err(error) => return Ok(Err(bad_request(&error))),
        };
        let (certified, record) = self.recorded(name, node, &issued, issue_unix_s);
        let mut line = line.clone();
        line.follow(&request.newest, certified);
        self.store.set_line(name, &line, Some((&issued.serial, &record)), now_unix_s)?;
        self.lines.insert(name.clone(), line);
        tracing::debug!(name, expires_unix_s = record.expires_unix_s, "a relay's certificate is renewed");
        Ok(Ok(issued.certificate.to_vec()))
    }

    /// Cuts a relay off, durably, until it joins anew.
    pub(super) fn revoke(&mut self, name: &str) -> anyhow::Result<Result<(), Refusal>> {
        if self.core.node_index(name).is_none() {
            return Ok(Err(Refusal::new(
                RefusalKind::NotFound,
                format!("no relay is called {name:?}"),
                "`relayctl nodes` lists them",
            )));
        }
        let mut line = self.lines.get(name).cloned().unwrap_or_default();
        line.revoke(clock::unix_s());
        self.store.revoke(name, &line)?;
        let rule = line.rule();
        self.lines.insert(name.to_owned(), line);
        count(&self.counts.revoked);
        tracing::warn!(name, "a relay is revoked");
        self.input(Input::Certificates { name: name.to_owned(), rule })?;
        Ok(Ok(()))
    }

    /// Keeps a join token, unless the relay that it is for is there.
    pub(super) fn add_join_token(
        &mut self,
        secret_hash: &[u8; 32],
        record: &JoinRecord,
    ) -> anyhow::Result<Result<(), Refusal>> {
        if !record.replace && self.core.is_present(&record.name, self.clock.now()) {
            return Ok(Err(name_in_use(&record.name)));
        }
        let added = self.store.add_join_token(secret_hash, record, clock::unix_s())?;
        Ok(if added { Ok(()) } else { Err(too_many_join_tokens()) })
    }

    /// Takes back a join token that nobody has used.
    pub(super) fn revoke_join_token(&mut self, id: JoinTokenId) -> anyhow::Result<Result<(), Refusal>> {
        let Some(record) = self.store.remove_join_token(id)? else {
            return Ok(Err(Refusal::new(
                RefusalKind::NotFound,
                "no join token of this id waits to be used",
                "`relayctl join-token list` shows those that do; a relay that has used one is cut off with `relayctl \
                 node revoke`",
            )));
        };
        count(&self.counts.join_tokens_revoked);
        tracing::info!(name = record.name, "a join token is revoked");
        Ok(Ok(()))
    }

    /// When the newest certificate of each name ends, seconds since 1970.
    pub(super) fn expiries(&self) -> BTreeMap<String, u64> {
        let expiries =
            self.lines.iter().filter_map(|(name, line)| Some((name.clone(), line.expires_unix_s()?)));
        expiries.collect()
    }

    fn recorded(
        &self,
        name: &str,
        node: NodeIndex,
        issued: &Issued,
        issued_unix_s: u64,
    ) -> (Certified, CertificateRecord) {
        let expires_unix_s = issued_unix_s + self.lifetime.as_secs();
        let certified = Certified { serial: issued.serial.to_vec(), issued_unix_s, expires_unix_s };
        (certified, CertificateRecord { name: name.to_owned(), node: node.0, issued_unix_s, expires_unix_s })
    }
}

fn worthless(why: Worthless) -> Refusal {
    Refusal::new(RefusalKind::Conflict, "the certificate cannot be renewed", why.reason())
}

fn bad_request(error: &anyhow::Error) -> Refusal {
    Refusal::invalid(format!("{error:#}"), "this is a defect of the relay's software")
}

fn name_in_use(name: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        format!("relay {name:?} is in session"),
        "stop it first, or choose another name; a token made with `relayctl join-token create --replace` takes the \
         place of a relay that runs, and voids its certificate",
    )
}

fn spent() -> Refusal {
    Refusal::invalid(
        "the join token is unknown, used or expired",
        "a join token works once; create a new one with `relayctl join-token create`",
    )
}

fn too_many_join_tokens() -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "too many join tokens wait to be used",
        "use them, or wait until some expire",
    )
}
