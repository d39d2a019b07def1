//! Encoders and decoders that know nothing of the overlay, through plain RTP registrations at relays that are processes.

use crate::PATIENCE;
use crate::overlay::Overlay;
use e2e::encoders::{FfmpegDecoder, GstDecoder, command, has_ffmpeg, has_gstreamer};
use e2e::{get, post};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::process::Child;
use std::time::Instant;
use wire_format::rtp::RtpHeader;

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(line: &str) -> anyhow::Result<Running> {
        Ok(Running(command(line).spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers at a relay, and returns the answer.
fn register(overlay: &Overlay, relay: &str, what: &str, body: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&post(overlay.api(relay), &format!("/v1/{what}"), &body.to_string()))?)
}

fn publication(stream: &str, kind: &str, rtcp: &str) -> Value {
    json!({"namespace": "demo", "room": "studio", "user": "encoder", "stream": stream, "kind": kind,
           "source": "127.0.0.1", "port": "own", "rtcp": rtcp})
}

fn subscription(stream: &str, destination: SocketAddr, rtcp: &str) -> Value {
    json!({"namespace": "demo", "room": "studio", "stream": stream, "destination": destination,
           "port": "own", "rtcp": rtcp})
}

fn address(answer: &Value) -> anyhow::Result<SocketAddr> {
    Ok(answer["address"].as_str().unwrap_or_default().parse()?)
}

/// Until packets of all streams that enter at r1 are sent to r3.
async fn until_stamped(overlay: &Overlay) {
    let stamped = |overlay: &Overlay| {
        let answer: Value = serde_json::from_str(&get(overlay.api("r1"), "/v1/streams")).expect("JSON");
        let streams = answer["streams"].as_array().expect("a list");
        !streams.is_empty() && streams.iter().all(|stream| stream["destination_names"] == json!(["r3"]))
    };
    overlay.until("the stream has its destination", stamped).await;
}

/// A socket that an SFU would have: RTP and RTCP come to it.
fn tap() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Decodes what comes to a socket, on a thread of its own, until as many packets have come as are `wanted`: of all RTP, or
/// of those with a marker, with which each picture ends.
async fn decoded(
    socket: UdpSocket,
    mut decoder: GstDecoder,
    wanted: usize,
    marked: bool,
) -> anyhow::Result<Vec<u8>> {
    let decoding = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 2048];
        let mut seen = 0;
        while seen < wanted {
            let bytes = socket.recv(&mut buffer)?;
            decoder.feed(&buffer[..bytes]);
            let header = RtpHeader::parse(&buffer[..bytes]);
            seen += usize::from(header.is_some_and(|header| header.marker || !marked));
        }
        decoder.finish()
    });
    decoding.await?
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_from_ffmpeg_to_ffmpeg() -> anyhow::Result<()> {
    if !has_ffmpeg() {
        return Ok(());
    }
    let overlay = Overlay::start().await;
    let media = "m=video PORT RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1";
    // Of 90, so that none of the last is waited for that a decoder keeps to itself.
    let (direct, far) = (FfmpegDecoder::start(media, 80)?, FfmpegDecoder::start(media, 80)?);
    let to = address(&register(&overlay, "r1", "publications", &publication("camera", "video", "mux"))?)?;
    register(&overlay, "r3", "subscriptions", &subscription("camera", far.address()?, "separate"))?;
    until_stamped(&overlay).await;
    // One encoder, two ways: straight to a decoder, and through the overlay to the other.
    // Through the overlay go ffmpeg's packets as they are by default, 1,472 bytes: too long for one datagram.
    let _encoder = Running::start(&format!(
        "ffmpeg -v error -re -f lavfi -i testsrc2=size=640x360:rate=30:duration=3 -pix_fmt yuv420p -map 0:v -c:v libx264 \
         -profile:v baseline -preset veryfast -tune zerolatency -g 30 -b:v 1M -f tee \
         [f=rtp:payload_type=96]rtp://{}?pkt_size=1200|[f=rtp:payload_type=96]rtp://{to}?rtcpport={}",
        direct.address()?,
        to.port()
    ))?;
    let (direct, far) = tokio::task::spawn_blocking(move || (direct.finish(), far.finish())).await?;
    let (direct, far) = (direct?, far?);
    assert_eq!(direct.len(), 80);
    assert_eq!(far, direct);
    overlay.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn opus_from_ffmpeg_to_gstreamer() -> anyhow::Result<()> {
    if !has_ffmpeg() || !has_gstreamer(&["rtpopusdepay", "opusdec", "rtpstreamdepay"]) {
        return Ok(());
    }
    let overlay = Overlay::start().await;
    let caps = "media=audio,clock-rate=48000,encoding-name=OPUS,payload=97";
    let decode = "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE";
    let (direct, far) = (GstDecoder::start(caps, decode)?, GstDecoder::start(caps, decode)?);
    let (near_tap, far_tap) = (tap()?, tap()?);
    let to = address(&register(&overlay, "r1", "publications", &publication("microphone", "audio", "mux"))?)?;
    register(&overlay, "r3", "subscriptions", &subscription("microphone", far_tap.local_addr()?, "mux"))?;
    until_stamped(&overlay).await;
    let near = near_tap.local_addr()?;
    let _encoder = Running::start(&format!(
        "ffmpeg -v error -re -f lavfi -i sine=frequency=440:sample_rate=48000:duration=3 -map 0:a -c:a libopus -b:a 48k \
         -ac 2 -f tee [f=rtp:payload_type=97]rtp://{near}?rtcpport={}&pkt_size=1200|\
         [f=rtp:payload_type=97]rtp://{to}?rtcpport={}&pkt_size=1200",
        near.port(),
        to.port()
    ))?;
    let (direct, far) =
        tokio::join!(decoded(near_tap, direct, 150, false), decoded(far_tap, far, 150, false));
    let (direct, far) = (direct?, far?);
    assert!(direct.len() >= 48_000 * 2 * 2 * 29 / 10, "three seconds are decoded: {} bytes", direct.len());
    assert!(far == direct, "sound differs");
    overlay.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_from_gstreamer_to_gstreamer() -> anyhow::Result<()> {
    if !has_gstreamer(&["x264enc", "rtph264pay", "rtph264depay", "avdec_h264", "rtpstreamdepay"]) {
        return Ok(());
    }
    let overlay = Overlay::start().await;
    let caps = "media=video,clock-rate=90000,encoding-name=H264,payload=96";
    let decode = "rtph264depay ! h264parse ! avdec_h264";
    let (direct, far) = (GstDecoder::start(caps, decode)?, GstDecoder::start(caps, decode)?);
    let (near_tap, far_tap) = (tap()?, tap()?);
    let to = address(&register(&overlay, "r1", "publications", &publication("camera", "video", "mux"))?)?;
    register(&overlay, "r3", "subscriptions", &subscription("camera", far_tap.local_addr()?, "mux"))?;
    until_stamped(&overlay).await;
    let _encoder = Running::start(&format!(
        "gst-launch-1.0 -q videotestsrc is-live=true num-buffers=90 pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=30 bitrate=1000 \
         ! rtph264pay pt=96 mtu=1200 config-interval=-1 ! multiudpsink clients={},{to}",
        near_tap.local_addr()?
    ))?;
    let (direct, far) = tokio::join!(decoded(near_tap, direct, 90, true), decoded(far_tap, far, 90, true));
    let (direct, far) = (direct?, far?);
    assert_eq!(direct.len(), 90 * 320 * 240 * 3 / 2, "every picture is decoded");
    assert!(far == direct, "pictures differ");
    overlay.stop();
    Ok(())
}

/// Whether an RTP packet begins a keyframe of H.264 (RFC 6184): an IDR slice, alone or as the first of its fragments.
fn begins_keyframe(packet: &[u8]) -> bool {
    let Some(header) = RtpHeader::parse(packet) else { return false };
    match packet[header.payload_offset..] {
        [first, ..] if first & 0x1F == 5 => true,
        [first, fragment, ..] => first & 0x1F == 28 && fragment & 0x9F == 0x85,
        [_] | [] => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyframe_request_reaches_the_encoder() -> anyhow::Result<()> {
    if !has_gstreamer(&["x264enc", "rtph264pay", "rtpbin"]) {
        return Ok(());
    }
    let overlay = Overlay::start().await;
    let tap = tap()?;
    let published = register(&overlay, "r1", "publications", &publication("camera", "video", "separate"))?;
    let to = address(&published)?;
    let subscribed =
        register(&overlay, "r3", "subscriptions", &subscription("camera", tap.local_addr()?, "mux"))?;
    until_stamped(&overlay).await;
    // It sends from a port that it names, and listens for RTCP at the one after it, as RTP without signalling does.
    let own = loop {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let port = socket.local_addr()?.port();
        if port.is_multiple_of(2) && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            break port;
        }
    };
    // A keyframe at the beginning, and none after it unless one is asked for.
    let _encoder = Running::start(&format!(
        "gst-launch-1.0 -q rtpbin name=bin videotestsrc is-live=true pattern=ball \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=1000000 bitrate=500 option-string=scenecut=0 \
         ! rtph264pay pt=96 mtu=1200 config-interval=-1 ! bin.send_rtp_sink_0 \
         bin.send_rtp_src_0 ! udpsink host={} port={} bind-address=127.0.0.1 bind-port={own} \
         udpsrc address=127.0.0.1 port={} ! bin.recv_rtcp_sink_0",
        to.ip(),
        to.port(),
        own + 1
    ))?;
    let from = address(&subscribed)?;
    let waited = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let mut buffer = [0; 2048];
        // Two seconds without a keyframe: those of the start, and what the overlay asked for meanwhile, are over.
        let mut quiet = 0;
        let begun = Instant::now();
        while quiet < 60 {
            let bytes = tap.recv(&mut buffer)?;
            let header = RtpHeader::parse(&buffer[..bytes]);
            quiet += usize::from(header.is_some_and(|header| header.marker));
            if begins_keyframe(&buffer[..bytes]) {
                quiet = 0;
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "keyframes that nobody asked for");
        }
        let media = loop {
            let bytes = tap.recv(&mut buffer)?;
            if let Some(header) = RtpHeader::parse(&buffer[..bytes]) {
                break header.ssrc;
            }
        };
        let mut request = Vec::new();
        wire_format::rtcp::write_receiver_report(&mut request, 1, &[]);
        wire_format::rtcp::write_picture_loss(&mut request, 1, media);
        tap.send_to(&request, from)?;
        let mut waited = 0;
        loop {
            let bytes = tap.recv(&mut buffer)?;
            if begins_keyframe(&buffer[..bytes]) {
                return Ok(waited);
            }
            let header = RtpHeader::parse(&buffer[..bytes]);
            waited += usize::from(header.is_some_and(|header| header.marker));
            anyhow::ensure!(waited < 30, "a second has passed");
        }
    })
    .await??;
    assert!(waited < 30, "{waited} pictures");
    overlay.stop();
    Ok(())
}
