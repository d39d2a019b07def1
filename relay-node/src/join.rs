//! How a relay becomes part of an overlay: once, with a join token.
//!
//! The relay makes a key, sends a certificate request and the token's secret to the controller that the token names, and
//! keeps what it gets. It trusts nobody but the CA whose hash is in the token, so the secret never reaches anyone else.

use crate::backoff::Backoff;
use crate::config::Config;
use crate::error::RelayError;
use crate::identity::{Facts, Identity, Membership, Store};
use crate::tls::{self, ConnectError};
use control_proto::cli::ConfigError;
use control_proto::proto::route_control_client::RouteControlClient;
use control_proto::proto::{JoinRequest, JoinResponse};
use control_proto::{JoinToken, limits};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::time::Duration;
use tonic::Code;
use tracing::{info, warn};
use wire_format::NodeIndex;

/// For an answer, once connected.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the token from the setting or the file that is set.
pub(crate) fn read_join_token(
    text: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<JoinToken>, ConfigError> {
    let (key, text) = match (text, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let problem = "join_token is set too: set one of them";
            return Err(ConfigError::value("join_token_file", "(set)", problem));
        }
        (Some(text), None) => ("join_token", text.to_owned()),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            // What stands in for a credential that is not there any more.
            Ok(text) if text.trim().is_empty() => return Ok(None),
            Ok(text) => ("join_token_file", text),
            // It was used and thrown away, as it should be; whether it is missed shows later.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConfigError::Read { path: file.to_owned(), source }),
        },
    };
    text.parse().map(Some).map_err(|error: control_proto::JoinTokenError| {
        ConfigError::value(key, "(not shown)", error.to_string())
    })
}

/// The identity of an earlier join, or that of a join made now. Tries until a controller answers.
pub(crate) async fn identity(
    config: &Config,
    store: &Store,
    backoff: Backoff,
) -> Result<Identity, RelayError> {
    if let Some(identity) = store.load()? {
        check_still_meant(config, store, &identity)?;
        return Ok(identity);
    }
    let Some(token) = &config.join_token else {
        let (state_dir, token_file) = (store.directory().to_owned(), config.join_token_file.clone());
        return Err(RelayError::NotJoined { state_dir, token_file });
    };
    let identity = join(config, token, store, backoff).await?;
    store.save(&identity)?;
    info!(name = %identity.membership.name, node = identity.membership.node.0, "joined the overlay");
    Ok(identity)
}

/// A certificate from before does not serve a relay that is now called differently, or sent to another overlay.
fn check_still_meant(config: &Config, store: &Store, identity: &Identity) -> Result<(), RelayError> {
    let name = &identity.membership.name;
    let wanted = config.name.as_ref().or(config.join_token.as_ref().map(|token| &token.name));
    let foreign =
        config.join_token.as_ref().is_some_and(|token| token.ca_sha256 != tls::fingerprint(&identity.ca));
    let problem = match wanted {
        Some(wanted) if wanted != name => format!(
            "it belongs to relay {name:?}, this one is called {wanted:?}: set another state_dir, or remove it to join anew"
        ),
        Some(_) | None if foreign => {
            "its certificate is from another overlay than the join token: remove it to join \
                                      anew, or take the token away to stay"
                .to_owned()
        }
        Some(_) | None => return Ok(()),
    };
    Err(RelayError::State { path: store.directory().to_owned(), problem })
}

async fn join(
    config: &Config,
    token: &JoinToken,
    store: &Store,
    mut backoff: Backoff,
) -> Result<Identity, RelayError> {
    let key = store.key()?;
    let request = rcgen::CertificateParams::new(vec![token.name.clone()])
        .and_then(|params| params.serialize_request(&key))
        .map_err(|error| RelayError::Tls(error.to_string()))?;
    let request = JoinRequest {
        name: token.name.clone(),
        secret: token.secret.0.to_vec(),
        csr_der: request.der().to_vec(),
    };
    let endpoints = if config.controllers.is_empty() { &token.controllers } else { &config.controllers };
    for endpoint in endpoints.iter().cycle() {
        backoff.pause().await;
        match ask(endpoint, token, request.clone()).await {
            Ok(answer) => {
                let membership = Membership {
                    name: token.name.clone(),
                    node: NodeIndex(u16::try_from(answer.node).map_err(|_| bad_answer())?),
                    region: token.region.clone(),
                    controllers: token.controllers.clone(),
                };
                let ca = CertificateDer::from(answer.ca_certificate_der);
                let certificate = CertificateDer::from(answer.certificate_der);
                if tls::fingerprint(&ca) != token.ca_sha256 || certificate.len() > limits::CERTIFICATE_BYTES {
                    return Err(bad_answer());
                }
                let facts = Facts::of(&certificate).ok_or_else(bad_answer)?;
                let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                return Ok(Identity { certificate, facts, ca, key, membership });
            }
            Err(Failure::Refused(reason)) => return Err(RelayError::JoinRefused(reason)),
            Err(Failure::Passing(reason)) => {
                warn!(controller = %endpoint, reason, "cannot join yet, trying again")
            }
        }
    }
    Err(RelayError::JoinRefused("the join token names no controller; set `controllers`".to_owned()))
}

/// Why a join failed.
enum Failure {
    /// For good: asking again would change nothing.
    Refused(String),
    /// For now.
    Passing(String),
}

async fn ask(endpoint: &str, token: &JoinToken, request: JoinRequest) -> Result<JoinResponse, Failure> {
    let tls = tls::pinned(token.ca_sha256).map_err(|error| Failure::Refused(error.to_string()))?;
    let channel = tls::connect(endpoint, tls).await.map_err(|error| match error {
        ConnectError::Untrusted(why) => Failure::Refused(format!(
            "what answers at {endpoint} is not the controller that the join token is from ({why}); the token was not \
             sent: compare the address, or create a new token"
        )),
        ConnectError::Failed(why) => Failure::Passing(why),
    })?;
    let mut client = RouteControlClient::new(channel);
    let call = tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await;
    match call {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if is_final(status.code()) => Err(Failure::Refused(status.message().to_owned())),
        Ok(Err(status)) => Err(Failure::Passing(status.to_string())),
        Err(_) => Err(Failure::Passing("no answer".to_owned())),
    }
}

fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

fn bad_answer() -> RelayError {
    RelayError::JoinRefused(
        "its answer makes no sense: compare the versions of relay and controller".to_owned(),
    )
}
