//! The QUIC endpoint of a port: quinn, fed by the worker through a bounded queue, sending on the same socket.
//!
//! QUIC authenticates peers and carries a link's messages; media never goes through it. So it is kept thin: one stream,
//! small windows, no datagrams, no MTU discovery. Its idle timeout is long, because sealed heartbeats alone judge a link.

use crate::connection_ids::ConnectionIds;
use crate::socket::PortSocket;
use crate::spool::Spool;
use crate::stats::SharedCounters;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, UdpPoller, VarInt};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const IDLE_TIMEOUT_MS: u32 = 60_000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const WINDOW_BYTES: u32 = 64 * 1024;
/// Room in the queue for each QUIC datagram allowed in it, on average.
const DATAGRAM_BYTES: usize = 1500;

/// Where a queued QUIC datagram came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
}

#[derive(Debug)]
struct Queue {
    spool: Spool<Origin>,
    /// Packets of the spool already taken.
    taken: usize,
    waker: Option<Waker>,
}

/// What quinn believes to be its socket.
#[derive(Debug)]
pub(crate) struct QuicSocket {
    socket: Arc<PortSocket>,
    counters: Arc<SharedCounters>,
    queue: Mutex<Queue>,
}

impl QuicSocket {
    pub(crate) fn new(
        socket: Arc<PortSocket>,
        counters: Arc<SharedCounters>,
        datagrams_max: usize,
    ) -> QuicSocket {
        let spool = Spool::new(datagrams_max, datagrams_max.saturating_mul(DATAGRAM_BYTES));
        QuicSocket { socket, counters, queue: Mutex::new(Queue { spool, taken: 0, waker: None }) }
    }

    /// Queues a datagram for quinn; `false` if the queue is full.
    pub(crate) fn push(&self, origin: Origin, datagram: &[u8]) -> bool {
        let mut queue = self.lock();
        let pushed = queue.spool.push(origin, datagram);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        pushed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue of datagrams is consistent after any panic of its users.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.counters.quic_out.fetch_add(1, Ordering::Relaxed);
        if self.socket.send(transmit).is_err() {
            // QUIC repairs what is lost here as it does what is lost on the way.
            self.counters.drop_quic_send.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = self.lock();
        let Queue { spool, taken, waker } = &mut *queue;
        let waiting = &spool.entries()[*taken..];
        if waiting.is_empty() {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut filled = 0;
        for (((origin, range), buffer), meta) in waiting.iter().zip(buffers).zip(meta) {
            let datagram = &spool.bytes()[range.clone()];
            // One longer than quinn's buffer is longer than it ever allowed its peers; cut short, it fails to open.
            let len = datagram.len().min(buffer.len());
            buffer[..len].copy_from_slice(&datagram[..len]);
            *meta =
                RecvMeta { addr: origin.address, len, stride: len, ecn: origin.ecn, dst_ip: origin.local_ip };
            filled += 1;
        }
        *taken += filled;
        if *taken == spool.entries().len() {
            spool.clear();
            *taken = 0;
        }
        Poll::Ready(Ok(filled))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.socket.local())
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Starts the endpoint. Must be called within a tokio runtime.
pub(crate) fn endpoint(
    socket: Arc<QuicSocket>,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    let mut config = EndpointConfig::default();
    // The bit tells QUIC from everything else on the port (RFC 9443).
    config.grease_quic_bit(false);
    config.cid_generator(|| Box::new(ConnectionIds::new()));
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

/// How every connection behaves.
pub(crate) fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    Arc::new(transport)
}
