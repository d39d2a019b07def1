//! Which worker of a port gets a datagram.
//!
//! The workers' sockets form one SO_REUSEPORT group. Left alone, the kernel picks a socket by the 4-tuple, so that all
//! lanes of a link would meet in one worker. A classic BPF program of seven instructions picks by content instead: a
//! sealed datagram goes to the worker that its receiver index names, everything else (QUIC, STUN, plain RTP) to the first.
//! The rule is one line, so the workers can check it: a datagram that still lands elsewhere (the kernel may merge
//! datagrams of several lanes into one) is a stray and is handed over.

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::AsFd;
use wire_format::ReceiverIndex;

/// Workers of a port, at most. The program looks at one byte of the index.
pub const WORKERS_MAX: usize = 16;

/// Opcodes of classic BPF, as linux/filter.h composes them.
mod op {
    /// A = byte at a fixed place.
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const AND: u16 = 0x54;
    pub(super) const MODULO: u16 = 0x94;
    pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
    pub(super) const RETURN: u16 = 0x06;
    pub(super) const RETURN_A: u16 = 0x16;
}

/// The worker that a receiver index belongs to. The low bits of the index are the slot, so slots are dealt out to workers
/// in turn.
pub(crate) fn worker_of_receiver(receiver: ReceiverIndex, workers: usize) -> usize {
    (receiver.0 & 0xFF) as usize % workers.max(1)
}

/// The worker that a slot belongs to.
pub(crate) fn worker_of_slot(slot: usize, workers: usize) -> usize {
    (slot & 0xFF) % workers.max(1)
}

/// Attaches the program to the group of `socket`, whose members joined in the order of their workers.
pub(crate) fn attach(socket: &impl AsFd, workers: usize) -> io::Result<()> {
    let mut program = program(workers as u32);
    let header = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(socket, sockopt::AttachReusePortCbpf, &header).map_err(io::Error::from)
}

/// Loads outside of the datagram end the program with 0, so a short one goes to the first worker, which drops it.
fn program(workers: u32) -> [sock_filter; 7] {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    [
        step(op::LOAD_BYTE, 0, 0, 0),
        step(op::AND, 0, 0, 0xF8),
        step(op::JUMP_IF_EQUAL, 0, 3, 0x08),
        // The lowest byte of the receiver index, which is big-endian behind the first byte.
        step(op::LOAD_BYTE, 0, 0, 4),
        step(op::MODULO, 0, 0, workers.max(1)),
        step(op::RETURN_A, 0, 0, 0),
        step(op::RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    #[test]
    fn the_kernel_and_the_workers_agree_on_who_gets_a_datagram() {
        const WORKERS: usize = 3;
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut group = Vec::new();
        for _ in 0..WORKERS {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("reuse");
            socket.bind(&address.into()).expect("bound");
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            address = socket.local_addr().expect("address");
            group.push(socket);
        }
        attach(&group[0], WORKERS).expect("attached");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a sender");
        for receiver in [0_u32, 1, 2, 5, 0xFF, 0x100, 0xABCD_EF01, u32::MAX] {
            for first in 0x08..=0x0F {
                let mut datagram = vec![first; 40];
                datagram[1..5].copy_from_slice(&receiver.to_be_bytes());
                sender.send_to(&datagram, address).expect("sent");
                let worker = worker_of_receiver(ReceiverIndex(receiver), WORKERS);
                let mut got = [0; 64];
                let length = group[worker].recv(&mut got).expect("its worker gets it");
                assert_eq!(got[..length], datagram);
            }
        }
        for other in [&[0x40_u8, 1, 2, 3, 4, 5][..], &[0x80; 40], &[0x00; 20], &[0x0C, 0, 0], &[]] {
            sender.send_to(other, address).expect("sent");
            let mut got = [0; 64];
            let length = group[0].recv(&mut got).expect("the first worker gets the rest");
            assert_eq!(got[..length], *other);
        }
    }
}
