//! Media of outside programs on its way through an overlay: RTP comes in over UDP as from any encoder, and goes out to a
//! decoder beside one that gets the same without the overlay.

use relayctl::dev::{Options, Overlay};
use sfu_link::{Config, Fingerprint, MediaKind, PublishOptions, SfuLink, SubscribeOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use tokio::net::UdpSocket;

/// For anything that takes a moment; everything is on loopback, in real time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two probes.
const PROBE_PACE: Duration = Duration::from_millis(10);
/// The source of probes; encoders draw theirs at random.
const PROBE_SSRC: u32 = 0x70_72_6F_62;

/// What went in and what came out, in order.
#[derive(Default)]
pub(crate) struct Passage {
    pub(crate) rtp_in: Vec<Vec<u8>>,
    pub(crate) rtp_out: Vec<Vec<u8>>,
    pub(crate) rtcp_in: Vec<Vec<u8>>,
    pub(crate) rtcp_out: Vec<Vec<u8>>,
}

/// Sends what an encoder makes across three relays, and everything to both decoders: `direct` gets it where it goes in,
/// `far` where it comes out.
pub(crate) async fn pass(
    kind: MediaKind,
    encoder: impl FnOnce(SocketAddr) -> Command,
    mut direct: impl FnMut(&[u8]) + Send,
    mut far: impl FnMut(&[u8]) + Send,
) -> anyhow::Result<Passage> {
    let overlay = Overlay::start(&Options { relays: 3, ..Options::default() }).await?;
    anyhow::ensure!(overlay.route().await?.is_some_and(|path| path.len() == 3), "not over three relays");
    let (sender, receiver) = (sfu(&overlay, 0).await?, sfu(&overlay, 2).await?);
    let publication = sender.publish(PublishOptions::new("call", "encoder", "main", kind)).await?;
    let mut subscription = receiver.subscribe(SubscribeOptions::room("call")).await?;

    // Nobody says when the first relay knows where to: probes do.
    let mut probes = 0;
    let probing = async {
        let mut pace = tokio::time::interval(PROBE_PACE);
        loop {
            tokio::select! {
                _ = pace.tick() => {
                    publication.send(&probe(probes))?;
                    probes += 1;
                }
                packet = subscription.recv() => break anyhow::Ok(packet),
            }
        }
    };
    let mut last = tokio::time::timeout(PATIENCE, probing).await??;
    while last.as_ref().is_some_and(|packet| packet.bytes[..] != probe(probes - 1)) {
        last = tokio::time::timeout(PATIENCE, subscription.recv()).await?;
    }

    let ingest = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut encoder =
        tokio::process::Command::from(encoder(ingest.local_addr()?)).kill_on_drop(true).spawn()?;
    let mut passage = Passage::default();
    let mut buffer = [0; 2_048];
    let mut encoding = true;
    let (mut sent, mut received) = (0, 0);
    while encoding || received < sent {
        tokio::select! {
            biased;
            length = ingest.recv(&mut buffer) => {
                let packet = &buffer[..length?];
                direct(packet);
                sent += 1;
                if wire_format::rtp::is_rtcp(packet) {
                    publication.send_rtcp(packet)?;
                    passage.rtcp_in.push(packet.to_vec());
                } else {
                    publication.send(packet)?;
                    passage.rtp_in.push(packet.to_vec());
                }
            }
            packet = subscription.recv() => {
                let Some(packet) = packet else { anyhow::bail!("the subscription has ended") };
                far(&packet.bytes);
                received += 1;
                let out = if packet.rtcp { &mut passage.rtcp_out } else { &mut passage.rtp_out };
                out.push(packet.bytes.to_vec());
            }
            status = encoder.wait(), if encoding => {
                anyhow::ensure!(status?.success(), "the encoder failed");
                // What it has sent waits in the socket, which is looked at first.
                encoding = false;
            }
            () = tokio::time::sleep(PATIENCE) => anyhow::bail!("{sent} went in, {received} came out"),
        }
    }
    sender.close().await;
    receiver.close().await;
    overlay.stop().await;
    Ok(passage)
}

async fn sfu(overlay: &Overlay, relay: usize) -> anyhow::Result<SfuLink> {
    let address = overlay.port_address(relay).to_string();
    let config = Config::new([address], overlay.token("test")?, Fingerprint(overlay.ca_sha256()));
    Ok(SfuLink::connect(config).await?)
}

fn probe(number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 127];
    packet.extend(number.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(PROBE_SSRC.to_be_bytes());
    packet
}
