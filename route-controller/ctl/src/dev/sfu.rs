//! An SFU's end of a link: dials a relay, publishes, subscribes, and says which kind of stream a packet belongs to.

use anyhow::Context as _;
use link_io::{Expect, Port, PortConfig, Trust, Upcall};
use relay_core::{Client, ClientCommand, ClientConfig, ClientEvent};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use wire_format::MediaKind;
use wire_format::session::Role;

/// A linked SFU.
pub(crate) struct Sfu {
    pub(crate) port: Port<Client>,
    pub(crate) events: mpsc::UnboundedReceiver<ClientEvent>,
}

impl Sfu {
    pub(crate) async fn connect(
        relay: SocketAddr,
        ca: [u8; 32],
        token: String,
        mut on_announced: impl FnMut() + Send + 'static,
        mut on_packet: impl FnMut(MediaKind, &[u8]) + Send + 'static,
    ) -> anyhow::Result<Sfu> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut kinds = BTreeMap::new();
        let sink = move |upcall: Upcall<'_, ClientEvent>| {
            match upcall {
                Upcall::Event(event) => {
                    if let ClientEvent::Announced { handle, kind, .. } = &event {
                        kinds.insert(*handle, *kind);
                        on_announced();
                    }
                    let _ = sender.send(event);
                }
                Upcall::Delivery(delivery, bytes) => {
                    if let Some(kind) = kinds.get(&delivery.handle)
                        && !delivery.rtcp
                    {
                        on_packet(*kind, bytes);
                    }
                }
            }
            Ok(())
        };
        let config = PortConfig { bind: "127.0.0.1:0".parse()?, ..PortConfig::new(Trust::Fingerprint(ca)) };
        let port = Port::open(
            config,
            Client::new(ClientConfig { seed: 1 }),
            link_io::admit_nobody(),
            Box::new(sink),
        )
        .context("port")?;
        port.dial(relay, Expect::Upstream, Role::Client { token }).await?;
        Ok(Sfu { port, events })
    }

    pub(crate) async fn publish(
        &mut self,
        request: u32,
        stream: &str,
        kind: MediaKind,
        budget: Duration,
    ) -> anyhow::Result<()> {
        let command = ClientCommand::Publish {
            request,
            room: "dev".into(),
            user: "alice".into(),
            stream: stream.into(),
            kind,
            budget: Some(budget),
        };
        self.port.command(command).await?;
        loop {
            match self.events.recv().await.context("gone")? {
                ClientEvent::Published { request: r } if r == request => return Ok(()),
                ClientEvent::Refused { reason, .. } => anyhow::bail!("refused: {reason}"),
                ClientEvent::Published { request: _ }
                | ClientEvent::Subscribed { request: _ }
                | ClientEvent::Announced { .. }
                | ClientEvent::Ended { handle: _ }
                | ClientEvent::KeyframeRequested { request: _ }
                | ClientEvent::RelayLeaving => {}
            }
        }
    }

    pub(crate) async fn subscribe(&mut self) -> anyhow::Result<()> {
        let command = ClientCommand::Subscribe { request: 1, room: "dev".into(), user: None, stream: None };
        self.port.command(command).await?;
        Ok(())
    }
}
