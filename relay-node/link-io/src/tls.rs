//! Who is believed: TLS 1.3 with the overlay's CA and nothing else.

use crate::config::{Identity, PortConfig, Trust};
use crate::error::PortError;
use crate::quic::transport;
use aws_lc_rs::digest::{SHA256, digest};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls13_signature};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const ALPN: &[u8] = b"cascade/1";
/// QUIC connections that nobody has accepted, refused or told to come again.
const INCOMING_MAX: usize = 1_024;
/// Bytes kept of one of them, and of all.
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 1024 * 1024;

/// How this port presents itself and whom it believes, for connections made from now on.
pub(crate) struct TlsConfigs {
    pub(crate) client: quinn::ClientConfig,
    pub(crate) server: Option<quinn::ServerConfig>,
}

impl TlsConfigs {
    pub(crate) fn new(config: &PortConfig) -> Result<TlsConfigs, PortError> {
        let provider = Arc::new(default_provider());
        let client = client_config(&provider, config).map_err(PortError::Tls)?;
        let server = match &config.identity {
            Some(identity) => {
                Some(server_config(&provider, identity, &config.trust).map_err(PortError::Tls)?)
            }
            None => None,
        };
        Ok(TlsConfigs { client, server })
    }
}

fn client_config(provider: &Arc<CryptoProvider>, config: &PortConfig) -> Result<quinn::ClientConfig, String> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(text)?;
    let builder = match &config.trust {
        Trust::Ca(ca) => builder.with_root_certificates(Arc::new(roots(ca)?)),
        Trust::Fingerprint(fingerprint) => {
            let verifier = FingerprintVerifier { fingerprint: *fingerprint, provider: Arc::clone(provider) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut tls = match &config.identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).map_err(text)?
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(text)?));
    client.transport_config(transport());
    Ok(client)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    identity: &Identity,
    trust: &Trust,
) -> Result<quinn::ServerConfig, String> {
    let Trust::Ca(ca) = trust else {
        return Err(
            "a port that others dial must know the CA certificate, not only its fingerprint".to_owned()
        );
    };
    // SFUs have no certificate: admission tells them from relays and asks those for one.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(text)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(text)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(text)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    let mut server =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(text)?));
    server.transport_config(transport());
    // Handshakes that the port has not looked at yet: it looks at once, so these are few.
    server.max_incoming(INCOMING_MAX);
    server.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    Ok(server)
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(text)?;
    Ok(roots)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// DNS names in the certificate of the other end; none if it presented no certificate.
pub(crate) fn peer_names(connection: &quinn::Connection) -> Vec<String> {
    let Some(leaf) = peer_leaf(connection) else { return Vec::new() };
    match webpki::EndEntityCert::try_from(&leaf) {
        Ok(certificate) => certificate.valid_dns_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// When the certificate of the other end begins, seconds since 1970; zero if it presented no certificate.
pub(crate) fn peer_begins_unix_s(connection: &quinn::Connection) -> u64 {
    let begins = |leaf: CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
        u64::try_from(parsed.validity().not_before.timestamp()).ok()
    };
    peer_leaf(connection).and_then(begins).unwrap_or(0)
}

fn peer_leaf(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// Believes a server whose chain ends in a CA certificate with a known digest, whatever it is called.
#[derive(Debug)]
struct FingerprintVerifier {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| digest(&SHA256, certificate).as_ref() == self.fingerprint)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
