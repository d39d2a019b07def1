//! Keeps this relay's certificate young. After two thirds of its life the controller is asked for the next one, on the
//! connection of the session, with a new key that never leaves this host. It serves handshakes from then on; links and
//! the session that stand are not touched.
//!
//! A certificate that expired while there was no controller still serves to be renewed, for a week. After that, or if
//! the controller says no, only a new join token helps, and the log says so.

use crate::backoff::Backoff;
use crate::clock;
use crate::identity::{Facts, Identity, Store};
use crate::overlay::Overlay;
use crate::recording::RecordedRelay;
use crate::tls;
use control_proto::proto::RenewRequest;
use control_proto::proto::route_control_client::RouteControlClient;
use control_proto::{limits, renewal_due_unix_s};
use link_io::Port;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{info, warn};
use wire_format::NodeIndex;

/// For an answer of the controller.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest sleep at a time: the host may sleep too, and its calendar goes on meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// This relay's identity, and how it stays valid.
pub(crate) struct Renewal {
    store: Store,
    port: Port<RecordedRelay>,
    overlay: Arc<Overlay>,
    identity: Identity,
    tls: Arc<ClientConfig>,
    seed: u64,
    /// The failure that was logged last.
    logged: String,
}

/// Why a certificate was not renewed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The controller says no; asking again soon would change nothing.
    Refused(String),
    /// For now.
    Passing(String),
}

impl Renewal {
    pub(crate) fn new(
        store: Store,
        identity: Identity,
        port: Port<RecordedRelay>,
        overlay: Arc<Overlay>,
        seed: u64,
    ) -> Result<Renewal, rustls::Error> {
        let tls = tls::mutual(&identity)?;
        overlay.certificate_expires(identity.facts.expires_unix_s);
        Ok(Renewal { store, port, overlay, identity, tls, seed, logged: String::new() })
    }

    /// Index of this relay, which every certificate of it serves.
    pub(crate) fn node(&self) -> NodeIndex {
        self.identity.membership.node
    }

    /// How this relay shows who it is in the next connection to a controller.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// No session can be opened before it is renewed.
    pub(crate) fn has_expired(&self) -> bool {
        clock::unix_s() > self.identity.facts.expires_unix_s
    }

    /// Renews whenever it is due, for as long as the connection serves.
    pub(crate) async fn run(&mut self, channel: Channel) -> Infallible {
        loop {
            let Facts { issued_unix_s, expires_unix_s, .. } = self.identity.facts;
            sleep_until(renewal_due_unix_s(issued_unix_s, expires_unix_s)).await;
            let life = Duration::from_secs(expires_unix_s.saturating_sub(issued_unix_s));
            let floor = (life / 60).clamp(Duration::from_millis(100), PAUSE_MAX);
            let mut backoff = Backoff::new(floor, (floor * 8).min(PAUSE_MAX), self.seed ^ expires_unix_s);
            // The first pause is none, and it has been waited for already.
            let _ = backoff.next();
            while let Err(failure) = self.once(channel.clone()).await {
                self.complain(failure);
                backoff.pause().await;
            }
        }
    }

    fn complain(&mut self, failure: Failure) {
        let (Failure::Refused(reason) | Failure::Passing(reason)) = failure;
        self.overlay.renewal_failed();
        let left_s = self.identity.facts.expires_unix_s.saturating_sub(clock::unix_s());
        if reason != self.logged {
            warn!(
                reason,
                left_s,
                "the certificate is not renewed yet; when it has expired, no new link or session can be made"
            );
            self.logged = reason;
        }
    }

    /// Asks for the next certificate and puts it in place.
    pub(crate) async fn once(&mut self, channel: Channel) -> Result<(), Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
        let key = self.store.next_key().map_err(|error| passing(&error))?;
        let name = self.identity.membership.name.clone();
        let csr = rcgen::CertificateParams::new(vec![name])
            .and_then(|params| params.serialize_request(&key))
            .map_err(|error| passing(&error))?;
        let serial = self.identity.facts.serial.clone();
        let request = RenewRequest { csr_der: csr.der().to_vec(), serial };
        let mut client = RouteControlClient::new(channel);
        let call = tokio::time::timeout(TIMEOUT, client.renew(request)).await;
        let answer = match call {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(failed(&status)),
            Err(_) => return Err(Failure::Passing("no answer".to_owned())),
        };
        let certificate = CertificateDer::from(answer.certificate_der);
        let Some(facts) = Facts::of(&certificate).filter(|_| certificate.len() <= limits::CERTIFICATE_BYTES)
        else {
            return Err(Failure::Passing("the controller's answer is no certificate".to_owned()));
        };
        let identity = Identity {
            certificate,
            facts,
            ca: self.identity.ca.clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            membership: self.identity.membership.clone(),
        };
        self.store.replace(&identity, &key).map_err(|error| passing(&error))?;
        self.port.renew(identity.for_port()).map_err(|error| passing(&error))?;
        self.tls = tls::mutual(&identity).map_err(|error| passing(&error))?;
        let Facts { issued_unix_s, expires_unix_s, .. } = identity.facts;
        info!(valid_s = expires_unix_s.saturating_sub(issued_unix_s), "certificate renewed");
        self.overlay.renewed(expires_unix_s);
        self.identity = identity;
        self.logged.clear();
        Ok(())
    }
}

fn failed(status: &Status) -> Failure {
    match status.code() {
        Code::PermissionDenied | Code::AlreadyExists | Code::InvalidArgument | Code::Unauthenticated => {
            Failure::Refused(status.message().to_owned())
        }
        Code::Unimplemented => {
            Failure::Refused("the controller is too old to renew certificates: upgrade it".to_owned())
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failure::Passing(status.message().to_owned()),
    }
}

async fn sleep_until(unix_s: u64) {
    loop {
        let left = Duration::from_secs(unix_s.saturating_sub(clock::unix_s()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLEEP_MAX)).await;
    }
}
