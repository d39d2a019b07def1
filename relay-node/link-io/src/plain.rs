//! Sockets for plain RTP beside the relay port: one or two for each registration that wants ports of its own. The worker
//! owns them; it learns over one `epoll` descriptor which of them have something, however many there are.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use relay_core::{PlainPort, PlainTransmit, Train};
use rustix::event::{Timespec, epoll};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Addresses for which datagrams are gathered at once; one more makes the train of another leave early.
const TRAINS_MAX: usize = 32;
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

    /// Datagrams that one send of a port may carry.
    pub(crate) fn segments_max(&self, port: PlainPort) -> usize {
        self.sockets.get(&port).map_or(1, |socket| socket.offload.max_gso_segments())
    }

    /// Sends a datagram, or several of `segment` bytes.
    pub(crate) fn send(
        &self,
        port: PlainPort,
        to: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let Some(PlainSocket { socket, offload, local: _ }) = self.sockets.get(&port) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        offload.try_send(socket.into(), &transmit)
    }
}

/// Plain datagrams on their way out, gathered by where they go: those of equal length leave in one call to the kernel,
/// with a shorter one at the end, as sealed ones do. Each address gets its datagrams in order.
#[derive(Debug, Default)]
pub(crate) struct PlainTrains {
    /// The first [`PlainTrains::used`] of them wait; the others keep their buffers.
    trains: Vec<PlainTrain>,
    used: usize,
    /// Whose turn it is to leave early.
    turn: usize,
}

/// Datagrams from one socket to one address, back to back.
#[derive(Debug)]
pub(crate) struct PlainTrain {
    pub(crate) port: PlainPort,
    pub(crate) from: IpAddr,
    pub(crate) to: SocketAddr,
    /// Length of each but perhaps the last.
    pub(crate) segment: usize,
    pub(crate) bytes: Vec<u8>,
}

impl PlainTrains {
    /// Takes a datagram that is not empty. What can wait no longer goes to `send`.
    pub(crate) fn gather(&mut self, transmit: &PlainTransmit<'_>, send: impl FnOnce(&PlainTrain)) {
        let is_for = |train: &PlainTrain| {
            (train.port, train.to, train.from) == (transmit.port, transmit.to, transmit.from)
        };
        let place = match self.trains[..self.used].iter().position(is_for) {
            Some(place) if self.trains[place].fits(transmit.bytes.len()) => {
                self.trains[place].bytes.extend_from_slice(transmit.bytes);
                return;
            }
            Some(place) => {
                send(&self.trains[place]);
                place
            }
            None if self.used < TRAINS_MAX => {
                self.used += 1;
                self.used - 1
            }
            None => {
                let place = self.turn;
                self.turn = (place + 1) % TRAINS_MAX;
                send(&self.trains[place]);
                place
            }
        };
        let PlainTransmit { port, from, to, bytes } = *transmit;
        let begun = match self.trains.get_mut(place) {
            Some(train) => {
                (train.port, train.from, train.to) = (port, from, to);
                train
            }
            None => {
                self.trains.push(PlainTrain { port, from, to, segment: 0, bytes: Vec::new() });
                &mut self.trains[place]
            }
        };
        begun.segment = bytes.len();
        begun.bytes.clear();
        begun.bytes.extend_from_slice(bytes);
    }

    /// All that still waits goes to `send`.
    pub(crate) fn flush(&mut self, send: impl FnMut(&PlainTrain)) {
        self.trains[..std::mem::take(&mut self.used)].iter().for_each(send);
    }
}

impl PlainTrain {
    /// Whether one more datagram of this length may ride along.
    fn fits(&self, length: usize) -> bool {
        let whole = self.bytes.len().is_multiple_of(self.segment);
        let few = self.bytes.len() / self.segment < Train::DATAGRAMS_MAX;
        whole && few && length <= self.segment && self.bytes.len() + length <= Train::BYTES_MAX
    }
}

impl AsFd for PlainPorts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn to(port: u16) -> SocketAddr {
        SocketAddr::new(HERE, port)
    }

    /// What leaves for these (port of the address, bytes): address, and datagrams of the train.
    fn trains_of(datagrams: &[(u16, Vec<u8>)]) -> Vec<(u16, Vec<Vec<u8>>)> {
        let (mut trains, mut left) = (PlainTrains::default(), Vec::new());
        let mut note = |train: &PlainTrain| {
            let datagrams = train.bytes.chunks(train.segment).map(<[u8]>::to_vec).collect();
            left.push((train.to.port(), datagrams));
        };
        for (port, bytes) in datagrams {
            let transmit = PlainTransmit { port: PlainPort::RELAY, from: HERE, to: to(*port), bytes };
            trains.gather(&transmit, &mut note);
        }
        trains.flush(note);
        left
    }

    #[test]
    fn equal_datagrams_to_one_address_leave_together_and_a_shorter_one_ends_their_train() {
        let sent = |number: u8, length: usize| vec![number; length];
        let left = trains_of(&[
            (1, sent(0, 1200)),
            (2, sent(1, 160)),
            (1, sent(2, 1200)),
            (2, sent(3, 170)),
            (1, sent(4, 300)),
            (1, sent(5, 300)),
        ]);
        assert_eq!(
            left,
            [
                (2, vec![sent(1, 160)]),
                (1, vec![sent(0, 1200), sent(2, 1200), sent(4, 300)]),
                (1, vec![sent(5, 300)]),
                (2, vec![sent(3, 170)]),
            ]
        );
    }

    #[test]
    fn trains_end_where_the_kernel_ends_them_and_more_addresses_than_places_lose_nothing() {
        let count = Train::DATAGRAMS_MAX + 1;
        let left = trains_of(&vec![(1, vec![7; 100]); count]);
        assert_eq!(left.iter().map(|(_, train)| train.len()).collect::<Vec<_>>(), [count - 1, 1]);
        let left = trains_of(&vec![(1, vec![7; 1400]); 60]);
        assert_eq!(left.iter().map(|(_, train)| train.len()).collect::<Vec<_>>(), [46, 14]);

        // Two packets for each of more addresses than there are places.
        let ports = 0..2 * TRAINS_MAX as u16 + 1;
        let input: Vec<_> =
            (0..2_u8).flat_map(|number| ports.clone().map(move |port| (port, vec![number; 50]))).collect();
        let left = trains_of(&input);
        for port in ports {
            let of_it: Vec<_> =
                left.iter().filter(|(to, _)| *to == port).flat_map(|(_, train)| train.clone()).collect();
            assert_eq!(of_it, [vec![0; 50], vec![1; 50]], "address {port}");
        }
    }

    #[test]
    fn the_other_end_gets_every_datagram_of_a_train_as_one() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut ports = PlainPorts::new().expect("epoll");
        let port = PlainPort(1);
        ports.open(port, PlainSocket::bind(to(0)).expect("a socket")).expect("watched");
        let destination = receiver.local_addr().expect("bound");
        let contents: Vec<u8> = (0..2500_u32).map(|byte| byte as u8).collect();
        assert!(ports.segments_max(port) > 1, "this kernel cuts trains");
        ports.send(port, destination, &contents, Some(1000)).expect("sent");
        let mut buffer = [0; 4096];
        for expected in contents.chunks(1000) {
            let length = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], expected);
        }
    }
}
