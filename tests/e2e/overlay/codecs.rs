//! Real codecs across three relays: every RTP packet comes out as it went in, and what is decoded from it is what is
//! decoded without the overlay.

use crate::media::{Passage, pass};
use e2e::encoders::{FfmpegDecoder, GstDecoder, command, has_ffmpeg, has_gstreamer};
use sfu_link::MediaKind;

fn assert_untouched(passage: &Passage, at_least: usize) {
    assert!(passage.rtp_in.len() >= at_least, "{} packets", passage.rtp_in.len());
    assert!(passage.rtp_out == passage.rtp_in, "{} of {}", passage.rtp_out.len(), passage.rtp_in.len());
    assert!(passage.rtcp_out == passage.rtcp_in, "{:?} of {:?}", passage.rtcp_out, passage.rtcp_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_from_ffmpeg_to_ffmpeg() -> anyhow::Result<()> {
    if !has_ffmpeg() {
        return Ok(());
    }
    let media = "m=video PORT RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1";
    // Of 90, so that none of the last is waited for that the decoder keeps to itself.
    let (mut direct, mut far) = (FfmpegDecoder::start(media, 80)?, FfmpegDecoder::start(media, 80)?);
    let encoder = |to: std::net::SocketAddr| {
        command(&format!(
            "ffmpeg -v error -re -f lavfi -i testsrc2=size=640x360:rate=30:duration=3 -pix_fmt yuv420p -c:v libx264 \
             -profile:v baseline -preset veryfast -tune zerolatency -g 30 -b:v 1M -payload_type 96 -f rtp \
             rtp://{to}?rtcpport={}&pkt_size=1200",
            to.port()
        ))
    };
    let passage =
        pass(MediaKind::Video, encoder, |packet| direct.feed(packet), |packet| far.feed(packet)).await?;
    assert_untouched(&passage, 300);
    assert!(!passage.rtcp_in.is_empty(), "ffmpeg sends sender reports");
    let (direct, far) = (direct.finish()?, far.finish()?);
    assert_eq!(direct.len(), 80);
    assert_eq!(far, direct);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_from_gstreamer_to_gstreamer() -> anyhow::Result<()> {
    if !has_gstreamer(&["vp8enc", "rtpvp8pay", "rtpvp8depay", "vp8dec", "rtpstreamdepay"]) {
        return Ok(());
    }
    let caps = "media=video,clock-rate=90000,encoding-name=VP8,payload=97";
    let decode = "rtpvp8depay ! vp8dec";
    let (mut direct, mut far) = (GstDecoder::start(caps, decode)?, GstDecoder::start(caps, decode)?);
    let encoder = |to: std::net::SocketAddr| {
        command(&format!(
            "gst-launch-1.0 -q videotestsrc is-live=true num-buffers=90 pattern=ball \
             ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
             ! vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=800000 ! rtpvp8pay pt=97 mtu=1200 \
             ! udpsink host=127.0.0.1 port={}",
            to.port()
        ))
    };
    let passage =
        pass(MediaKind::Video, encoder, |packet| direct.feed(packet), |packet| far.feed(packet)).await?;
    assert_untouched(&passage, 90);
    let (direct, far) = (direct.finish()?, far.finish()?);
    assert_eq!(direct.len(), 90 * 320 * 240 * 3 / 2, "every picture is decoded");
    assert!(far == direct, "pictures differ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_from_gstreamer_to_gstreamer() -> anyhow::Result<()> {
    if !has_gstreamer(&["x264enc", "rtph264pay", "rtph264depay", "avdec_h264", "rtpstreamdepay"]) {
        return Ok(());
    }
    let caps = "media=video,clock-rate=90000,encoding-name=H264,payload=96";
    let decode = "rtph264depay ! h264parse ! avdec_h264";
    let (mut direct, mut far) = (GstDecoder::start(caps, decode)?, GstDecoder::start(caps, decode)?);
    let encoder = |to: std::net::SocketAddr| {
        command(&format!(
            "gst-launch-1.0 -q videotestsrc is-live=true num-buffers=90 pattern=ball \
             ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
             ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=30 bitrate=1000 \
             ! rtph264pay pt=96 mtu=1200 config-interval=-1 ! udpsink host=127.0.0.1 port={}",
            to.port()
        ))
    };
    let passage =
        pass(MediaKind::Video, encoder, |packet| direct.feed(packet), |packet| far.feed(packet)).await?;
    assert_untouched(&passage, 90);
    let (direct, far) = (direct.finish()?, far.finish()?);
    assert_eq!(direct.len(), 90 * 320 * 240 * 3 / 2, "every picture is decoded");
    assert!(far == direct, "pictures differ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn opus_from_ffmpeg_to_gstreamer() -> anyhow::Result<()> {
    if !has_ffmpeg() || !has_gstreamer(&["rtpopusdepay", "opusdec", "rtpstreamdepay"]) {
        return Ok(());
    }
    let caps = "media=audio,clock-rate=48000,encoding-name=OPUS,payload=97";
    let decode = "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE";
    let (mut direct, mut far) = (GstDecoder::start(caps, decode)?, GstDecoder::start(caps, decode)?);
    let encoder = |to: std::net::SocketAddr| {
        command(&format!(
            "ffmpeg -v error -re -f lavfi -i sine=frequency=440:sample_rate=48000:duration=3 -c:a libopus -b:a 48k \
             -ac 2 -payload_type 97 -f rtp rtp://{to}?rtcpport={}&pkt_size=1200",
            to.port()
        ))
    };
    let passage =
        pass(MediaKind::Audio, encoder, |packet| direct.feed(packet), |packet| far.feed(packet)).await?;
    assert_untouched(&passage, 150);
    let (direct, far) = (direct.finish()?, far.finish()?);
    assert!(direct.len() >= 48_000 * 2 * 2 * 29 / 10, "three seconds are decoded: {} bytes", direct.len());
    assert!(far == direct, "sound differs");
    Ok(())
}
