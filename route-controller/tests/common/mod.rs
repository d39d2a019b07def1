//! A controller on loopback and relays that speak to it over real sockets. The relays are plain gRPC clients: what
//! happens when the real relay process meets the real controller is tested with both, elsewhere.

#![allow(dead_code, reason = "each test file uses a part of this")]

use base64::Engine as _;
use control_proto::proto::route_control_client::RouteControlClient;
use control_proto::{CONTROLLER_TLS_NAME, JoinToken, proto};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use route_controller::{Config, Controller, JoinTokenRequest, Refusal};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use wire_format::control::{RelayHello, ToController, ToRelay, Welcome};

/// Longest that anything here may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A controller with its state directory.
pub struct Overlay {
    pub controller: Controller,
    pub folder: tempfile::TempDir,
}

impl Overlay {
    pub async fn start() -> Overlay {
        Overlay::with(|config| config).await
    }

    /// One whose configuration is changed.
    pub async fn with(change: impl FnOnce(Config) -> Config) -> Overlay {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let controller = Controller::start(change(Config::local(folder.path()))).await.expect("starts");
        Overlay { controller, folder }
    }

    pub async fn state_of(&self, name: &str) -> String {
        let nodes = self.controller.operations().nodes().await.expect("it runs");
        nodes.into_iter().find(|row| row.name == name).expect("it joined").state
    }

    /// Stops the controller and starts another one on what it left.
    pub async fn restart(self) -> Overlay {
        self.restart_with(|config| config).await
    }

    /// The same with another configuration.
    pub async fn restart_with(self, change: impl FnOnce(Config) -> Config) -> Overlay {
        let Overlay { controller, folder } = self;
        controller.shutdown().await;
        let config = change(Config::local(folder.path()));
        let controller = Controller::start(config).await.expect("starts again");
        Overlay { controller, folder }
    }

    pub async fn join_token(&self, name: &str) -> JoinToken {
        self.try_join_token(name, false).await.expect("a legal name")
    }

    pub async fn try_join_token(&self, name: &str, replace: bool) -> Result<JoinToken, Refusal> {
        let request =
            JoinTokenRequest { name: name.to_owned(), region: Some("eu".to_owned()), ttl_s: None, replace };
        let answer = self.controller.operations().create_join_token(request).await?;
        Ok(answer.token.parse().expect("a join token"))
    }

    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ca.pem")).expect("written at start")
    }

    /// Dials, with or without a certificate.
    pub async fn dial(
        &self,
        relay: Option<&Relay>,
    ) -> Result<RouteControlClient<Channel>, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca_pem()))
            .domain_name(CONTROLLER_TLS_NAME);
        if let Some(relay) = relay {
            tls = tls.identity(Identity::from_pem(&relay.certificate_pem, &relay.key_pem));
        }
        let url = format!("https://{}", self.controller.grpc_address());
        let channel = Endpoint::from_shared(url)?.tls_config(tls)?.connect().await?;
        Ok(RouteControlClient::new(channel))
    }

    pub async fn join(&self, token: &JoinToken) -> Result<Relay, Status> {
        self.join_with(token, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")).await
    }

    pub async fn join_with(&self, token: &JoinToken, key: &KeyPair) -> Result<Relay, Status> {
        let mut client = self.dial(None).await.expect("anyone may dial");
        let csr = CertificateParams::default().serialize_request(key).expect("a request");
        let request = proto::JoinRequest {
            name: token.name.clone(),
            secret: token.secret.0.to_vec(),
            csr_der: csr.der().to_vec(),
        };
        let answer = client.join(request).await?.into_inner();
        Ok(Relay {
            name: token.name.clone(),
            node: answer.node,
            certificate_pem: pem(&answer.certificate_der),
            key_pem: key.serialize_pem(),
            serial: serial(&answer.certificate_der),
            ca_certificate_der: answer.ca_certificate_der,
        })
    }

    /// A relay that has joined.
    pub async fn relay(&self, name: &str) -> Relay {
        let token = self.join_token(name).await;
        self.join(&token).await.expect("a fresh token")
    }
}

/// What a relay has after its join.
#[derive(Clone)]
pub struct Relay {
    pub name: String,
    pub node: u32,
    pub certificate_pem: String,
    pub ca_certificate_der: Vec<u8>,
    pub key_pem: String,
    pub serial: Vec<u8>,
}

impl Relay {
    pub fn hello(&self) -> RelayHello {
        RelayHello {
            name: self.name.clone(),
            node: None,
            region: "eu".to_owned(),
            isp: String::new(),
            tags: Vec::new(),
            position: None,
            addresses: vec!["127.0.0.1:4700".parse().expect("an address")],
            version: "test".to_owned(),
            wire_versions: (1, 1),
            epoch: None,
            table_deltas: false,
            streams: Vec::new(),
            traces: false,
        }
    }

    /// Its next certificate, asked for on a connection.
    pub async fn renew(&self, client: &mut RouteControlClient<Channel>) -> Result<Relay, Status> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let csr = CertificateParams::default().serialize_request(&key).expect("a request");
        let request = proto::RenewRequest { csr_der: csr.der().to_vec(), serial: self.serial.clone() };
        let answer = client.renew(request).await?.into_inner();
        Ok(Relay {
            certificate_pem: pem(&answer.certificate_der),
            key_pem: key.serialize_pem(),
            serial: serial(&answer.certificate_der),
            ..self.clone()
        })
    }

    /// Opens a session and says hello.
    pub async fn session(&self, overlay: &Overlay) -> Session {
        let mut session = Session::open(overlay, Some(self)).await.expect("a relay of this overlay");
        session.say(ToController::Hello(self.hello())).await;
        session
    }
}

/// A relay's side of a session.
pub struct Session {
    pub client: RouteControlClient<Channel>,
    outbound: mpsc::Sender<proto::ToController>,
    inbound: Streaming<proto::ToRelay>,
}

impl Session {
    pub async fn open(overlay: &Overlay, relay: Option<&Relay>) -> Result<Session, Status> {
        let mut client =
            overlay.dial(relay).await.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let (outbound, queue) = mpsc::channel(16);
        let inbound = client.session(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Session { client, outbound, inbound })
    }

    pub async fn say(&mut self, message: ToController) {
        self.outbound.send(message.into()).await.expect("the session stands");
    }

    pub async fn say_raw(&mut self, message: proto::ToController) {
        self.outbound.send(message).await.expect("the session stands");
    }

    /// The next message, or how the session ended.
    pub async fn hear(&mut self) -> Result<ToRelay, Status> {
        let message = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("in time")?;
        let message = message.ok_or_else(|| Status::aborted("the stream ended"))?;
        Ok(message.try_into().expect("the controller keeps its own limits"))
    }

    /// Skips messages until the welcome.
    pub async fn welcome(&mut self) -> Result<Welcome, Status> {
        loop {
            if let ToRelay::Welcome(welcome) = self.hear().await? {
                return Ok(welcome);
            }
        }
    }

    /// Skips messages until the session ends.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }
}

fn serial(certificate_der: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    X509Certificate::from_der(certificate_der).expect("a certificate").1.raw_serial().to_vec()
}

pub fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
