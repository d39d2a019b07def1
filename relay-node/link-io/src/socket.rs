//! The UDP socket of a port, shared by its worker (all receiving, sealed datagrams out) and the QUIC endpoint (its own
//! datagrams out). A port with several workers has a group of them on one address.

use crate::config::PortConfig;
use crate::error::PortError;
use crate::steer;
use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

nix::getsockopt_impl!(MemoryInfo, libc::SOL_SOCKET, libc::SO_MEMINFO, [u32; 9], GetStruct<[u32; 9]>);

/// `SK_MEMINFO_DROPS` of linux/sock_diag.h.
const MEMORY_DROPS: usize = 8;

/// What the kernel tells of a socket's memory (SO_MEMINFO).
#[derive(Clone, Copy, Debug)]
struct MemoryInfo;

#[derive(Debug)]
pub(crate) struct PortSocket {
    socket: UdpSocket,
    offload: UdpSocketState,
    /// The same for plain datagrams. What is too long for the way to an SFU fails as if trains could not be cut; links,
    /// which know their paths, shall not lose theirs over that.
    plain_offload: UdpSocketState,
    local: SocketAddr,
    /// Set when the port was killed: nothing leaves any more.
    mute: AtomicBool,
}

impl PortSocket {
    /// One socket for each worker, all bound to the same address and told apart by what arrives.
    pub(crate) fn bind_group(config: &PortConfig, workers: usize) -> Result<Vec<PortSocket>, PortError> {
        if workers == 1 {
            return Ok(vec![PortSocket::bind(config, config.bind, false)?]);
        }
        // Others of this user may join a group: that the address is free is seen by taking it alone first.
        let address = PortSocket::bind(config, config.bind, false)?.local();
        let group =
            (0..workers).map(|_| PortSocket::bind(config, address, true)).collect::<Result<Vec<_>, _>>()?;
        steer::attach(&group[0], workers)?;
        Ok(group)
    }

    fn bind(config: &PortConfig, address: SocketAddr, shared: bool) -> Result<PortSocket, PortError> {
        let failed = |source| PortError::Bind { address, source };
        let socket = Socket::new(Domain::for_address(config.bind), Type::DGRAM, Some(Protocol::UDP))
            .map_err(failed)?;
        if config.bind.is_ipv6() {
            socket.set_only_v6(!config.bind.ip().is_unspecified())?;
        }
        size_buffers(&socket, config)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into()).map_err(failed)?;
        let socket = UdpSocket::from(socket);
        // Sets it non-blocking, turns GRO on where the kernel has it, and forbids fragmentation.
        let offload = UdpSocketState::new((&socket).into())?;
        let plain_offload = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(PortSocket { socket, offload, plain_offload, local, mute: AtomicBool::new(false) })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Receives what is there, without waiting.
    pub(crate) fn receive(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        self.offload.recv((&self.socket).into(), buffers, meta)
    }

    /// Datagrams that the kernel dropped since the socket was bound because its receive buffer was full. Wraps at 2^32.
    pub(crate) fn kernel_drops(&self) -> u64 {
        // A kernel that does not tell (before Linux 4.12) counts as one that drops nothing.
        getsockopt(&self.socket, MemoryInfo).map_or(0, |memory| memory[MEMORY_DROPS].into())
    }

    /// Datagrams that one send may carry: 1 where the kernel or a network card cannot cut trains.
    pub(crate) fn segments_max(&self) -> usize {
        self.offload.max_gso_segments()
    }

    pub(crate) fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.offload.try_send((&self.socket).into(), transmit)
    }

    /// Plain datagrams that one send may carry.
    pub(crate) fn plain_segments_max(&self) -> usize {
        self.plain_offload.max_gso_segments()
    }

    /// Sends a plain datagram or several of `segment_size` bytes, with a source address of its own where the socket has
    /// all of them.
    pub(crate) fn send_plain(
        &self,
        from: IpAddr,
        to: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        if self.mute.load(Ordering::Relaxed) {
            return Ok(());
        }
        let destination = match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(to)) => {
                SocketAddr::from((to.ip().to_ipv6_mapped(), to.port()))
            }
            (SocketAddr::V4(_), _) | (_, SocketAddr::V6(_)) => to,
        };
        let src_ip = self.local.ip().is_unspecified().then_some(from);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
        self.plain_offload.try_send((&self.socket).into(), &transmit)
    }

    /// Sends an answer to where a datagram came from, from the address that it went to.
    pub(crate) fn send_answer(&self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.send(&Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip: from })
    }

    pub(crate) fn may_fragment(&self) -> bool {
        self.offload.may_fragment()
    }

    /// From now on what is sent is thrown away.
    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }
}

/// Asks for kernel buffers of the configured sizes.
fn size_buffers(socket: &Socket, config: &PortConfig) -> io::Result<()> {
    // With the right to do so (CAP_NET_ADMIN) buffers may exceed the system's limit; without it they end there.
    if set_socket_recv_buffer_size_force(socket, config.receive_buffer_bytes).is_err() {
        socket.set_recv_buffer_size(config.receive_buffer_bytes)?;
    }
    if set_socket_send_buffer_size_force(socket, config.send_buffer_bytes).is_err() {
        socket.set_send_buffer_size(config.send_buffer_bytes)?;
    }
    // The kernel doubles what it grants, for its own bookkeeping.
    let granted = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    if granted.0 < config.receive_buffer_bytes || granted.1 < config.send_buffer_bytes {
        tracing::info!(
            receive_bytes = granted.0,
            send_bytes = granted.1,
            "socket buffers are smaller than asked for, bursts may be lost: raise net.core.rmem_max and wmem_max"
        );
    }
    Ok(())
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trust;

    #[test]
    fn what_the_kernel_drops_is_known() {
        let config = PortConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            receive_buffer_bytes: 65_536,
            ..PortConfig::new(Trust::Fingerprint([0; 32]))
        };
        let socket = PortSocket::bind(&config, config.bind, false).expect("bound");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a sender");
        assert_eq!(socket.kernel_drops(), 0);
        // On loopback a datagram is in the buffer or dropped when the call returns.
        for _ in 0..1_000 {
            sender.send_to(&[0; 1_000], socket.local()).expect("sent");
        }
        let dropped = socket.kernel_drops();
        let mut received = 0;
        let mut buffer = [0; 2_000];
        while socket.socket.recv(&mut buffer).is_ok() {
            received += 1;
        }
        assert!(dropped > 0 && received > 0);
        assert_eq!(received + dropped, 1_000);
    }
}
