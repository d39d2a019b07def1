//! Clients that begin a QUIC handshake and fall silent.

use crate::attack::Report;
use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent,
};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sockets of those that prove their address.
const SOCKETS: u64 = 64;

/// Makes first flights, each of a connection of its own.
pub struct Strangers {
    endpoint: Endpoint,
    config: ClientConfig,
    target: SocketAddr,
}

impl Strangers {
    pub fn new(target: SocketAddr) -> Strangers {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"cascade/1".to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("a cipher for the first flight");
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Strangers { endpoint, config: ClientConfig::new(Arc::new(crypto)), target }
    }

    fn connect(&mut self) -> (ConnectionHandle, Connection) {
        self.endpoint.connect(Instant::now(), self.config.clone(), self.target, "relay").expect("possible")
    }

    /// A first flight whose sender is never heard of again.
    pub fn initial(&mut self, bytes: &mut Vec<u8>) {
        let (handle, mut connection) = self.connect();
        let flight = connection.poll_transmit(Instant::now(), 1, bytes).expect("a first flight");
        assert_eq!(flight.size, bytes.len(), "one datagram");
        self.forget(handle);
    }

    fn forget(&mut self, handle: ConnectionHandle) {
        let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
    }
}

/// Handshakes that go on until the address is proved, and no further.
pub fn silent_after_retry(target: SocketAddr, count: u64) -> Report {
    let mut strangers = Strangers::new(target);
    let mut report = Report { sources: SOCKETS, ..Report::default() };
    let begun = Instant::now();
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("allowed");
            socket
        })
        .collect();
    let mut buffer = [0; 2048];
    for number in 0..count {
        let socket = &sockets[(number % SOCKETS) as usize];
        // What was answered to the one before on this socket is of no interest.
        drain(socket, &mut buffer, &mut report);
        let (handle, mut connection) = strangers.connect();
        let mut bytes = Vec::new();
        let flight = connection.poll_transmit(Instant::now(), 1, &mut bytes).expect("a first flight");
        assert_eq!(flight.size, bytes.len(), "one datagram");
        socket.send_to(&bytes, target).expect("sent");
        // Skips what still comes for the one before until the Retry is there.
        while let Ok(len) = socket.recv(&mut buffer) {
            let (now, data) = (Instant::now(), BytesMut::from(&buffer[..len]));
            let mut answer = Vec::new();
            let event = strangers.endpoint.handle(now, target, None, None, data, &mut answer);
            let Some(DatagramEvent::ConnectionEvent(of, event)) = event else { continue };
            if of == handle {
                connection.handle_event(event);
                let mut bytes = Vec::new();
                if connection.poll_transmit(now, 1, &mut bytes).is_some() {
                    socket.send_to(&bytes, target).expect("sent");
                    report.sent += 1;
                }
                break;
            }
        }
        strangers.forget(handle);
    }
    report.took = begun.elapsed();
    report
}

fn drain(socket: &UdpSocket, buffer: &mut [u8], report: &mut Report) {
    socket.set_nonblocking(true).expect("allowed");
    while let Ok(len) = socket.recv(buffer) {
        report.answered += len as u64;
    }
    socket.set_nonblocking(false).expect("allowed");
}
