//! A port as its process sees it.

use crate::config::{Admission, Expect, Identity, PortConfig};
use crate::error::{LinkError, PortClosed, PortError, SendError};
use crate::sink::Sink;
use crate::stats::PortStats;
use relay_core::{Endpoint, LinkId};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use wire_format::session::Role;

/// One UDP port with its worker thread and the core that the worker drives. Clones share it.
///
/// Dropping the last clone stops it at once; [`Port::close`] does so in good order.
pub struct Port<E: Endpoint> {
    inner: Arc<Inner<E>>,
}

impl<E: Endpoint> Clone for Port<E> {
    fn clone(&self) -> Port<E> {
        Port { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<E: Endpoint> {
    core: std::marker::PhantomData<fn(E)>,
}

impl<E: Endpoint> Port<E> {
    /// Binds the socket, starts the worker around `core` and, if there is an identity, lets diallers in as `admission`
    /// decides. What the core says to its process goes to `sink`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`PortError`] if the address is taken, or certificates or settings are unusable.
    pub fn open(
        config: PortConfig,
        core: E,
        admission: Admission,
        sink: Sink<E::Event>,
    ) -> Result<Port<E>, PortError> {
        let _ = (config, core, admission, sink);
        unimplemented!()
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Links to a peer. The core hears `Input::LinkUp` before this returns. Gives up after the handshake timeout.
    ///
    /// # Errors
    /// [`LinkError`], by whose fault it is.
    pub async fn dial(&self, address: SocketAddr, expect: Expect, role: Role) -> Result<Link, LinkError> {
        let _ = (address, expect, role);
        unimplemented!()
    }

    /// Gives the core a command, waiting for room in the queue.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn command(&self, command: E::Command) -> Result<(), PortClosed> {
        let _ = command;
        unimplemented!()
    }

    /// Looks into the core, on the worker's thread, between two inputs. Keep it short: media waits.
    ///
    /// # Errors
    /// [`PortClosed`].
    pub async fn inspect<R, F>(&self, look: F) -> Result<R, PortClosed>
    where
        R: Send + 'static,
        F: FnOnce(&E, &PortStats) -> R + Send + 'static,
    {
        let _ = look;
        unimplemented!()
    }

    /// Hands an RTP or RTCP packet of this process to the core. Copies it and returns at once.
    ///
    /// # Errors
    /// [`SendError`]; the packet is then dropped and counted.
    pub fn send_rtp(&self, publication: u32, packet: &[u8], rtcp: bool) -> Result<(), SendError> {
        let _ = (publication, packet, rtcp);
        let _ = &self.inner.core;
        unimplemented!()
    }

    /// Presents another certificate from the next handshake on. Links that stand are not touched.
    ///
    /// # Errors
    /// [`PortError::Tls`] if it is unusable; the old one then stays.
    pub fn renew(&self, identity: Identity) -> Result<(), PortError> {
        let _ = identity;
        unimplemented!()
    }

    /// Writes out what waits, closes every link and stops. Takes 2 s at most. Tell the core to say goodbye before.
    pub async fn close(&self) {
        unimplemented!()
    }

    /// Stops at once without a word to anyone, as a crash would.
    pub fn kill(&self) {
        unimplemented!()
    }
}

/// A link that this side dialled. Dropping it does not close the link.
#[derive(Clone, Debug)]
pub struct Link {
    id: LinkId,
    address: SocketAddr,
    down: watch::Receiver<Option<Arc<str>>>,
}

impl Link {
    /// Its name towards the core.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// The address that was dialled.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the link is gone, and says why.
    pub async fn down(&mut self) -> Arc<str> {
        match self.down.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| Arc::from("closed")),
            Err(_) => Arc::from("the port is closed"),
        }
    }
}
