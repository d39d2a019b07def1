//! Where the API listens: plain TCP on loopback, TLS where a certificate is configured.

use crate::config::ApiConfig;
use crate::error::RelayError;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// TLS handshakes under way, and finished ones that wait for the server.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A bound listener.
pub(crate) struct ApiListener {
    address: SocketAddr,
    accepted: Accepted,
}

enum Accepted {
    Plain(TcpListener),
    /// Handshakes run in a task of their own, so that a slow one holds up nobody.
    Tls(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>),
}

/// A connection of either kind.
pub(crate) enum ApiStream {
    /// On loopback.
    Plain(TcpStream),
    /// Elsewhere.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ApiListener {
    /// Binds, and reads the certificate if one is configured.
    pub(crate) async fn bind(config: &ApiConfig) -> Result<ApiListener, RelayError> {
        let failed = |source| RelayError::ApiListen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let accepted = match &config.tls {
            None => Accepted::Plain(listener),
            Some((certificate, key)) => {
                let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate, key)?));
                let (sender, receiver) = mpsc::channel(HANDSHAKES_MAX);
                tokio::spawn(accept_tls(listener, acceptor, sender));
                Accepted::Tls(receiver)
            }
        };
        Ok(ApiListener { address, accepted })
    }

    /// Where it is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener for ApiListener {
    type Io = ApiStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ApiStream, SocketAddr) {
        match &mut self.accepted {
            Accepted::Plain(listener) => {
                let (stream, address) = Listener::accept(listener).await;
                (ApiStream::Plain(stream), address)
            }
            Accepted::Tls(receiver) => match receiver.recv().await {
                Some((stream, address)) => (ApiStream::Tls(Box::new(stream)), address),
                None => std::future::pending().await,
            },
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Ends when the receiver is dropped.
async fn accept_tls(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            (stream, address) = Listener::accept(&mut listener), if handshakes.len() < HANDSHAKES_MAX => {
                let (acceptor, done) = (acceptor.clone(), done.clone());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        // The receiver may be gone meanwhile; the connection then closes.
                        Ok(Ok(stream)) => drop(done.send((stream, address)).await),
                        Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed at the local API"),
                        Err(_) => debug!(%address, "TLS handshake took too long at the local API"),
                    }
                });
            }
            Some(_) = handshakes.join_next() => {}
            () = done.closed() => return,
        }
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, RelayError> {
    let unusable = |path: &Path, error: rustls_pki_types::pem::Error| RelayError::File {
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
        advice: "api_tls_certificate and api_tls_key must be PEM files that this user may read",
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| unusable(certificate, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| {
            RelayError::Tls(format!("the local API's certificate {}: {error}", certificate.display()))
        })
}

impl AsyncRead for ApiStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ApiStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            ApiStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ApiStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ApiStream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            ApiStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ApiStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            ApiStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ApiStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            ApiStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
