//! Sockets for plain RTP beside the relay port: one or two for each registration that wants ports of its own. The worker
//! owns them; it learns over one `epoll` descriptor which of them have something, however many there are.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use relay_core::PlainPort;
use rustix::event::{Timespec, epoll};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sockets looked at in one turn; the others have theirs in the next.
pub(crate) const SOCKETS_A_TURN: usize = 16;

/// A bound socket for plain RTP or RTCP, to be given to a port.
#[derive(Debug)]
pub struct PlainSocket {
    socket: UdpSocket,
    offload: UdpSocketState,
    local: SocketAddr,
}

impl PlainSocket {
    /// Binds a socket; port 0 takes any.
    ///
    /// # Errors
    /// If the address is taken, or is not this host's.
    pub fn bind(address: SocketAddr) -> io::Result<PlainSocket> {
        let socket = UdpSocket::bind(address)?;
        // Sets it non-blocking, turns GRO on where the kernel has it.
        let offload = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(PlainSocket { socket, offload, local })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// The sockets of a worker.
#[derive(Debug)]
pub(crate) struct PlainPorts {
    epoll: OwnedFd,
    sockets: BTreeMap<PlainPort, PlainSocket>,
}

impl PlainPorts {
    pub(crate) fn new() -> io::Result<PlainPorts> {
        Ok(PlainPorts { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, sockets: BTreeMap::new() })
    }

    pub(crate) fn open(&mut self, port: PlainPort, socket: PlainSocket) -> io::Result<()> {
        let data = epoll::EventData::new_u64(port.0.into());
        epoll::add(&self.epoll, &socket.socket, data, epoll::EventFlags::IN)?;
        self.sockets.insert(port, socket);
        Ok(())
    }

    pub(crate) fn close(&mut self, port: PlainPort) {
        // The kernel forgets a descriptor that is closed.
        self.sockets.remove(&port);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Sockets that have something, at most [`SOCKETS_A_TURN`], without waiting. The rest of the array is left as it is.
    pub(crate) fn ready(&self, ports: &mut [PlainPort; SOCKETS_A_TURN]) -> usize {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; SOCKETS_A_TURN];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An interrupted look is repeated at the next turn.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&none)) else { return 0 };
        for (port, event) in ports.iter_mut().zip(&*events) {
            *port = PlainPort(event.data.u64() as u32);
        }
        events.len()
    }

    pub(crate) fn receive(
        &self,
        port: PlainPort,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let Some(PlainSocket { socket, offload, local: _ }) = self.sockets.get(&port) else { return Ok(0) };
        offload.recv(socket.into(), buffers, meta)
    }

    pub(crate) fn send(&self, port: PlainPort, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let Some(PlainSocket { socket, offload, local: _ }) = self.sockets.get(&port) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let transmit =
            Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip: None };
        offload.try_send(socket.into(), &transmit)
    }
}

impl AsFd for PlainPorts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
