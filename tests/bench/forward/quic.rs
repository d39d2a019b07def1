//! Forwarding with QUIC datagrams: one connection in, one out, quinn on its own socket.

use crate::Course;
use crate::trains::Trains;
use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Forwarders made so far: the one before may still be ending when its successor is measured.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A sender and a receiver with a forwarder between them.
pub struct Datagrams {
    runtime: Runtime,
    sender: Connection,
    receiver: Connection,
    _endpoints: Vec<Endpoint>,
    packets: Vec<Bytes>,
    thread: String,
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.initial_mtu(1452);
    transport.mtu_discovery_config(None);
    transport.datagram_receive_buffer_size(Some(4 << 20));
    transport.datagram_send_buffer_size(4 << 20);
    Arc::new(transport)
}

fn server(certificate: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> Endpoint {
    let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], key.clone_key())
        .expect("a usable certificate");
    config.transport_config(transport());
    endpoint(Some(config))
}

/// An endpoint whose socket holds as much as those of the other forwarders.
fn endpoint(server: Option<ServerConfig>) -> Endpoint {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, 8 << 20);
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime)).expect("a runtime")
}

fn client(certificate: &CertificateDer<'static>) -> Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).expect("roots");
    config.transport_config(transport());
    let mut endpoint = endpoint(None);
    endpoint.set_default_client_config(config);
    endpoint
}

impl Datagrams {
    /// One QUIC datagram for each datagram of `trains`, of the same plain size.
    pub fn start(trains: &Trains) -> Datagrams {
        // The provider may be installed by an earlier course of the run.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["bench".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sink, sink_address) = {
            let _inside = runtime.enter();
            let sink = server(&certificate, &key);
            let address = sink.local_addr().expect("bound");
            (sink, address)
        };
        let (address_told, address) = std::sync::mpsc::channel();
        let forwarder_certificate = certificate.clone();
        let forward = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let inbound = server(&forwarder_certificate, &key);
                let outbound = client(&forwarder_certificate);
                let to = outbound.connect(sink_address, "bench").expect("an address").await.expect("a link");
                address_told.send(inbound.local_addr().expect("bound")).expect("the bench waits");
                let from = inbound.accept().await.expect("a dialler").await.expect("a link");
                while let Ok(datagram) = from.read_datagram().await {
                    to.send_datagram(datagram).expect("room");
                }
            });
        };
        let thread = format!("quinn-{}", MADE.fetch_add(1, Ordering::Relaxed));
        std::thread::Builder::new().name(thread.clone()).spawn(forward).expect("a thread");
        let (sender, receiver, dialler) = runtime.block_on(async {
            let receiver = sink.accept().await.expect("the forwarder").await.expect("a link");
            let dialler = client(&certificate);
            let address = address.recv().expect("the forwarder tells");
            let sender = dialler.connect(address, "bench").expect("an address").await.expect("a link");
            (sender, receiver, dialler)
        });
        let packets = trains.iter().flatten().map(|plain| Bytes::from(plain.clone())).collect();
        Datagrams { runtime, sender, receiver, _endpoints: vec![sink, dialler], packets, thread }
    }
}

impl Course for Datagrams {
    fn burst(&mut self) -> usize {
        self.runtime.block_on(async {
            for packet in &self.packets {
                self.sender.send_datagram(packet.clone()).expect("room");
            }
            let mut arrived = 0;
            let receive = async {
                while arrived < self.packets.len() && self.receiver.read_datagram().await.is_ok() {
                    arrived += 1;
                }
            };
            // What was lost does not come; the count says so.
            let _ = tokio::time::timeout(Duration::from_millis(500), receive).await;
            arrived * crate::BURST / self.packets.len()
        })
    }

    fn thread(&self) -> &str {
        &self.thread
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // Ends the forwarder's loop, and with it its thread.
        self.sender.close(0u32.into(), b"done");
        self.runtime.block_on(self.sender.closed());
    }
}
