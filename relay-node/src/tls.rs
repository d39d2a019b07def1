//! TLS towards the controller. Before the relay has joined it knows only the hash of the overlay's CA certificate;
//! afterwards the certificate itself, and it presents its own.

use crate::identity::Identity;
use control_proto::CONTROLLER_TLS_NAME;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// From the first packet to a TLS session.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A controller that does not answer pings of the connection for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// SHA-256 of a certificate's DER.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Settings for the join: any CA certificate that the controller sends along and that has this hash.
pub(crate) fn pinned(ca_sha256: [u8; 32]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PinnedCa { ca_sha256, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(with_h2(config))
}

/// Settings for sessions: only this CA, and this relay's certificate.
pub(crate) fn mutual(identity: &Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca.clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    Ok(with_h2(config))
}

fn with_h2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Why there is no connection to the controller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Somebody answers who is not the controller of this overlay, or does not believe this relay.
    #[error("whoever answers there is not trusted: {0}")]
    Untrusted(rustls::Error),
    /// Nobody answers, or not as expected.
    #[error("{0}")]
    Failed(String),
}

/// A connection to the controller at `HOST:PORT`, made now.
pub(crate) async fn connect(controller: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    // The URI only fills the `:authority` of requests; where to connect and whom to expect is decided below.
    let endpoint = Endpoint::from_shared(format!("http://{controller}"))
        .map_err(|_| ConnectError::Failed(format!("{controller:?} is no HOST:PORT")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let connector = Connector { address: controller.into(), config };
    endpoint.connect_with_connector(connector).await.map_err(|error| explained(&error))
}

/// Upper layers of the HTTP stack say no more than "transport error": what happened lies at the bottom.
fn explained(error: &(dyn std::error::Error + 'static)) -> ConnectError {
    let mut cause = error;
    loop {
        let within = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls @ rustls::Error::InvalidCertificate(_)) =
            within.and_then(|inner| inner.downcast_ref())
        {
            return ConnectError::Untrusted(tls.clone());
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return ConnectError::Failed(cause.to_string()),
        }
    }
}

#[derive(Clone)]
struct Connector {
    address: Arc<str>,
    config: Arc<ClientConfig>,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { address, config } = self.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(&*address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(CONTROLLER_TLS_NAME).expect("a constant that is a DNS name");
            Ok(TokioIo::new(TlsConnector::from(config).connect(name, tcp).await?))
        })
    }
}

/// Believes a chain only if it ends in a CA certificate that has the known hash.
#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = others
            .iter()
            .find(|certificate| fingerprint(certificate) == self.ca_sha256)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(leaf, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
