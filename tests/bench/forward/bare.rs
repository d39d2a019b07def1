//! Forwarders with nothing around them: what the machine can do.

use crate::Course;
use crate::trains::Trains;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wire_format::{SEALED_HEADER_BYTES, TAG_BYTES};

const BUFFER_BYTES: usize = 65_536 + 1_216;

/// A UDP socket with receive and segmentation offload, used blocking.
struct Offloaded {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
}

impl Offloaded {
    fn bind() -> Offloaded {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, 8 << 20);
        let state = UdpSocketState::new((&socket).into()).expect("UDP offload");
        Offloaded { socket, state, buffers: vec![0; BATCH_SIZE * BUFFER_BYTES] }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Waits up to 50 ms for trains; hands each to `take` with its segment size.
    fn receive(&mut self, mut take: impl FnMut(&UdpSocket, &UdpSocketState, &mut [u8], usize)) {
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)).expect("poll");
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut chunks = self.buffers.chunks_exact_mut(BUFFER_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("as many buffers")));
        let Ok(filled) = self.state.recv((&self.socket).into(), &mut slices, &mut meta) else { return };
        for (buffer, meta) in self.buffers.chunks_exact_mut(BUFFER_BYTES).zip(&meta[..filled]) {
            take(&self.socket, &self.state, &mut buffer[..meta.len], meta.stride);
        }
    }
}

fn send(socket: &UdpSocket, state: &UdpSocketState, to: SocketAddr, contents: &[u8], segment: usize) {
    let segment_size = (contents.len() > segment).then_some(segment);
    let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
    while let Err(error) = state.try_send(socket.into(), &transmit) {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        thread::yield_now();
    }
}

fn key(byte: u8) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[byte; 16]).expect("16 bytes"))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn seal(key: &LessSafeKey, number: u64, datagram: &mut [u8]) {
    let (head, rest) = datagram.split_at_mut(SEALED_HEADER_BYTES);
    head[5..].copy_from_slice(&number.to_be_bytes());
    let (plain, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
    let sealed = key.seal_in_place_separate_tag(nonce(number), Aad::from(&*head), plain).expect("sealed");
    tag.copy_from_slice(sealed.as_ref());
}

fn open(key: &LessSafeKey, datagram: &mut [u8]) {
    let (head, rest) = datagram.split_at_mut(SEALED_HEADER_BYTES);
    let number = u64::from_be_bytes(head[5..].try_into().expect("8 bytes"));
    key.open_in_place(nonce(number), Aad::from(&*head), rest).expect("authentic");
}

/// Receives trains, opens and seals every datagram where it lies, and sends the trains on.
pub struct Sealed {
    sender: Offloaded,
    receiver: Offloaded,
    forwarder: SocketAddr,
    trains: Vec<(Vec<u8>, usize)>,
    /// Media packets per burst and datagrams per burst.
    packets: usize,
    datagrams: usize,
    number: u64,
    stop: Arc<AtomicBool>,
}

impl Sealed {
    pub fn start(trains: &Trains) -> Sealed {
        let receiver = Offloaded::bind();
        let mut socket = Offloaded::bind();
        let (forwarder, to) = (socket.address(), receiver.address());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let (inbound, outbound) = (key(1), key(2));
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                socket.receive(|socket, state, bytes, stride| {
                    for datagram in bytes.chunks_mut(stride) {
                        open(&inbound, datagram);
                        number += 1;
                        seal(&outbound, number, datagram);
                    }
                    send(socket, state, to, bytes, stride);
                });
            }
        };
        thread::Builder::new().name("limit".into()).spawn(run).expect("a thread");
        let packets = crate::BURST;
        let datagrams = trains.iter().map(Vec::len).sum();
        let trains = trains
            .iter()
            .map(|train| {
                let segment = train[0].len() + SEALED_HEADER_BYTES + TAG_BYTES;
                let mut bytes = Vec::new();
                for plain in train {
                    bytes.extend([8; SEALED_HEADER_BYTES]);
                    bytes.extend(plain);
                    bytes.extend([0; TAG_BYTES]);
                }
                (bytes, segment)
            })
            .collect();
        Sealed { sender: Offloaded::bind(), receiver, forwarder, trains, packets, datagrams, number: 0, stop }
    }
}

impl Course for Sealed {
    fn burst(&mut self) -> usize {
        let key = key(1);
        for (plain, segment) in &self.trains {
            let mut bytes = plain.clone();
            for datagram in bytes.chunks_mut(*segment) {
                self.number += 1;
                seal(&key, self.number, datagram);
            }
            send(&self.sender.socket, &self.sender.state, self.forwarder, &bytes, *segment);
        }
        let mut arrived = 0;
        let start = Instant::now();
        while arrived < self.datagrams && start.elapsed() < Duration::from_millis(200) {
            self.receiver.receive(|_, _, bytes, stride| arrived += bytes.len().div_ceil(stride));
        }
        arrived * self.packets / self.datagrams
    }

    fn thread(&self) -> &str {
        "limit"
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
