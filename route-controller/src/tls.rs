//! TLS in front of both servers: gRPC always, the admin API beyond loopback.
//!
//! The controller's certificate comes from the overlay's own CA and is replaced in good time while the process runs. The
//! CA's certificate is sent along, so that who knows only its hash can check both. gRPC clients may show a certificate of
//! the same CA; whether they must depends on the call.

use crate::ca::{self, Authority, SERVER_VALIDITY};
use crate::clock;
use anyhow::Context as _;
use control_proto::CERTIFICATE_GRACE;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections of one server at once, unfinished handshakes included; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// Finished handshakes that wait for the server.
const READY_MAX: usize = 64;
/// Longest time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A gRPC connection without a client certificate is cut after this long: time enough to join, not to sit in a place.
const ANONYMOUS_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// HTTP/2; client certificates welcome.
    Grpc,
    /// HTTP/1.1; no client certificates.
    Admin,
}

/// The controller's certificate for one purpose, always fresh.
pub(crate) struct Identity {
    authority: Arc<Authority>,
    hosts: Vec<String>,
    purpose: Purpose,
    /// Of each certificate. The next is made after half of it.
    validity: Duration,
    current: Mutex<Option<(Arc<ServerConfig>, SystemTime)>>,
}

impl Identity {
    pub(crate) fn new(
        authority: Arc<Authority>,
        hosts: Vec<String>,
        purpose: Purpose,
    ) -> anyhow::Result<Identity> {
        Identity::lasting(authority, hosts, purpose, SERVER_VALIDITY)
    }

    fn lasting(
        authority: Arc<Authority>,
        hosts: Vec<String>,
        purpose: Purpose,
        validity: Duration,
    ) -> anyhow::Result<Identity> {
        let identity = Identity { authority, hosts, purpose, validity, current: Mutex::new(None) };
        identity.config()?;
        Ok(identity)
    }

    /// What the next handshake uses.
    fn config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let now = clock::calendar();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, renewal)) = &*current
            && now < *renewal
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build()?);
        *current = Some((Arc::clone(&config), now + self.validity / 2));
        Ok(config)
    }

    fn build(&self) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let identity = self.authority.issue_server(&self.hosts, self.validity)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS 1.3 is not available")?;
        let (builder, protocol) = match self.purpose {
            Purpose::Grpc => {
                let mut roots = RootCertStore::empty();
                roots.add(self.authority.certificate().clone()).context("the CA's certificate is damaged")?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .context("client certificates cannot be checked")?;
                (builder.with_client_cert_verifier(Arc::new(Lenient(verifier))), b"h2".as_slice())
            }
            Purpose::Admin => (builder.with_no_client_auth(), b"http/1.1".as_slice()),
        };
        let mut config = builder
            .with_single_cert(identity.chain, identity.key)
            .context("the controller's certificate cannot be used")?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// Believes a relay's certificate for a while after it expired, so that it can be renewed. Nothing else is done for it:
/// the service looks at the time again.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let expired = ca::relay_certificate(leaf).ok().map(|leaf| leaf.expires_unix_s);
        let expired = expired.filter(|expires| {
            *expires < now.as_secs() && now.as_secs() <= *expires + CERTIFICATE_GRACE.as_secs()
        });
        // Everything else about it is judged, as of its last moment.
        let at = expired.map_or(now, |expires| UnixTime::since_unix_epoch(Duration::from_secs(expires)));
        self.0.verify_client_cert(leaf, others, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Its certificate, of this overlay's CA. It may have expired, though not long ago: whoever serves more than a
    /// renewal looks.
    pub(crate) certificate: Option<CertificateDer<'static>>,
    /// Number of the connection, unique within this process.
    pub(crate) connection: u64,
}

/// A connection whose handshake is done.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// When it is cut.
    end: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections and does their handshakes beside each other, so that a slow one holds up no other.
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<Connection>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, identity: Identity) -> io::Result<TlsListener> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, Arc::new(identity), sender));
        Ok(TlsListener { ready, address, accepting })
    }

    /// The next connection.
    pub(crate) async fn next(&mut self) -> Connection {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task only ends when this listener is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, identity: Arc<Identity>, ready: mpsc::Sender<Connection>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for connection in 0_u64.. {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let config = match identity.config() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!("the controller's certificate cannot be renewed: {error:#}");
                continue;
            }
        };
        let anonymous_timeout = match identity.purpose {
            Purpose::Grpc => Some(ANONYMOUS_TIMEOUT),
            Purpose::Admin => None,
        };
        let acceptor = TlsAcceptor::from(config);
        let caller = Caller { address, connection, anonymous_timeout };
        tokio::spawn(shake_hands(stream, caller, acceptor, permit, ready.clone()));
    }
}

/// A connection before its handshake.
struct Caller {
    address: SocketAddr,
    connection: u64,
    anonymous_timeout: Option<Duration>,
}

async fn shake_hands(
    stream: TcpStream,
    caller: Caller,
    acceptor: TlsAcceptor,
    permit: OwnedSemaphorePermit,
    ready: mpsc::Sender<Connection>,
) {
    let Caller { address, connection, anonymous_timeout } = caller;
    // Without it small messages would wait for acknowledgements; a failure only costs delay.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, "TLS handshake failed: {error}");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake took too long");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|certificate| certificate.clone().into_owned());
    let peer = Peer { address, certificate, connection };
    let end = anonymous_timeout.filter(|_| peer.certificate.is_none());
    let end = end.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    // Fails only when the server stops.
    let _ = ready.send(Connection { stream, peer, end, _permit: permit }).await;
}

impl axum::serve::Listener for TlsListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.next().await;
        let address = connection.peer.address;
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl tokio_stream::Stream for TlsListener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        self.ready.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn connection(purpose: Purpose) -> anyhow::Result<(Connection, TcpStreamOverTls)> {
        let (authority, _) = Authority::generate()?;
        let authority = Arc::new(authority);
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        let mut listener = TlsListener::new(listener, Identity::new(authority, Vec::new(), purpose)?)?;
        let name = control_proto::CONTROLLER_TLS_NAME.try_into()?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let (connection, client) = tokio::join!(listener.next(), connector.connect(name, stream));
        Ok((connection, client?))
    }

    type TcpStreamOverTls = tokio_rustls::client::TlsStream<TcpStream>;

    #[tokio::test]
    async fn whoever_shows_no_certificate_cannot_stay() -> anyhow::Result<()> {
        let (mut connection, mut client) = connection(Purpose::Grpc).await?;
        assert!(connection.peer.certificate.is_none());
        client.write_all(b"x").await?;
        client.flush().await?;
        assert_eq!(connection.read_u8().await?, b'x');
        // The clock that the deadline is on is stopped and moved.
        tokio::time::pause();
        tokio::time::advance(ANONYMOUS_TIMEOUT).await;
        let cut = connection.read_u8().await.err().map(|error| error.kind());
        assert_eq!(cut, Some(io::ErrorKind::TimedOut));
        Ok(())
    }

    #[tokio::test]
    async fn operators_may_stay() -> anyhow::Result<()> {
        let (connection, _client) = connection(Purpose::Admin).await?;
        assert!(connection.end.is_none());
        Ok(())
    }
}
