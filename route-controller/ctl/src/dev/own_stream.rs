//! How to push a stream of one's own into the overlay, and how to play it: plain RTP registrations made ready, and the
//! lines for ffmpeg and GStreamer that use them.

use crate::dev::live::Live;
use crate::dev::overlay::{NAMESPACE, Overlay};
use crate::dev::topology::relay_name;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// The room of that stream.
const ROOM: &str = "yours";
/// Tries to find two free neighbouring ports for the player.
const PAIR_TRIES: usize = 64;

/// Whether the lines are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guide {
    /// Not at all; nothing is registered then.
    None,
    /// Below what the run is.
    Shown,
}

impl Guide {
    /// Registers a publication at the first relay and a subscription at the last, and says how they are used.
    pub(crate) async fn show(self, overlay: &Overlay, live: &mut Live) -> anyhow::Result<()> {
        if self == Guide::None {
            return Ok(());
        }
        let last = overlay.len() - 1;
        let player = free_pair()?;
        let publication = json!({
            "namespace": NAMESPACE, "room": ROOM, "user": "you", "stream": "camera", "kind": "video",
            "source": "127.0.0.1", "port": "own", "rtcp": "mux",
        });
        let subscription = json!({
            "namespace": NAMESPACE, "room": ROOM, "destination": player, "port": "own", "rtcp": "separate",
        });
        let published = register(overlay.api_address(0), "publications", publication).await?;
        register(overlay.api_address(last), "subscriptions", subscription).await?;
        let to: SocketAddr = published["address"].as_str().context("no address")?.parse()?;
        let file = overlay.directory().join("yours.sdp");
        std::fs::write(&file, description(player))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let text = lines(overlay, to, player, &file.display().to_string());
        live.say(&text);
        Ok(())
    }
}

fn lines(overlay: &Overlay, to: SocketAddr, player: SocketAddr, file: &str) -> String {
    let last = overlay.len() - 1;
    let (ip, port) = (to.ip(), to.port());
    format!(
        "\
Push a stream of your own at {first}, with ffmpeg or with GStreamer:
  ffmpeg -re -f lavfi -i testsrc2=size=640x360:rate=30 -pix_fmt yuv420p -c:v libx264 -preset veryfast -tune zerolatency -g 60 -payload_type 96 -f rtp 'rtp://{to}?rtcpport={port}&pkt_size=1200'
  gst-launch-1.0 videotestsrc is-live=true ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=60 ! rtph264pay pt=96 mtu=1200 config-interval=-1 ! udpsink host={ip} port={port}
Play it where it leaves the overlay, at {end}, with ffmpeg's player or with GStreamer:
  ffplay -protocol_whitelist file,udp,rtp -fflags nobuffer {file}
  gst-launch-1.0 udpsrc port={play} caps='application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96' ! rtpjitterbuffer ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! autovideosink
How both are registered, and what passes:
  curl http://{ingress}/v1/publications; curl http://{egress}/v1/subscriptions
",
        first = relay_name(0),
        end = relay_name(last),
        play = player.port(),
        ingress = overlay.api_address(0),
        egress = overlay.api_address(last),
    )
}

/// What a player needs to know of the stream (SDP, RFC 8866).
fn description(player: SocketAddr) -> String {
    format!(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP 96\na=rtpmap:96 \
         H264/90000\na=fmtp:96 packetization-mode=1\n",
        player.port()
    )
}

/// A port that is free, and the one after it for RTCP.
fn free_pair() -> anyhow::Result<SocketAddr> {
    for _ in 0..PAIR_TRIES {
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let next = address.port().checked_add(1);
        if address.port().is_multiple_of(2)
            && next.is_some_and(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        {
            return Ok(address);
        }
    }
    bail!("no two free UDP ports in a row for a player")
}

/// Asks a relay as anyone would.
async fn register(api: SocketAddr, what: &str, body: Value) -> anyhow::Result<Value> {
    let url = format!("http://{api}/v1/{what}");
    let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<Value> {
        let answer = ureq::post(&url).content_type("application/json").send(body.to_string())?;
        Ok(serde_json::from_str(&answer.into_body().read_to_string()?)?)
    });
    asked.await?.with_context(|| format!("the relay registers no {what}"))
}
