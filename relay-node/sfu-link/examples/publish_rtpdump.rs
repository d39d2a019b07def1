//! Publishes RTP into a room: from a recording in the format of rtptools, or whatever comes to a UDP port.

mod link;

use link::LinkArgs;
use sfu_link::{Codec, MediaKind, Publication, PublishOptions, SfuLink};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

const HELP: &str = "\
Publish RTP into a room of a Cascade overlay.

Usage: publish_rtpdump --relay HOST:PORT --ca FINGERPRINT --token JWT --room ROOM --user USER
                       (--file FILE.rtpdump [--loop] | --listen IP:PORT) [--audio PT]...

  --relay HOST:PORT   a relay port; repeat it to name more relays to fall back to
  --ca FINGERPRINT    SHA-256 of the overlay's CA certificate, 64 hex digits
  --token JWT         made by `relayctl token create`; default: environment CASCADE_CLIENT_TOKEN
  --file FILE         a recording (rtpdump); each SSRC in it becomes a stream
  --loop              begin again at its end, with continuous sequence numbers and timestamps
  --listen IP:PORT    publish what comes to this UDP port, RTP and RTCP on the same port
  --audio PT          payload type that is audio (default 111); everything else counts as video
  --codec CODEC       what the video is: vp8, vp9, h264 or av1; its keyframes and layers are told apart then

Examples:
  publish_rtpdump --relay 127.0.0.1:4700 --ca 3f0a... --room demo --user alice --file tests/media/call.rtpdump --loop
  ffmpeg -re -i in.mp4 -an -c:v libx264 -tune zerolatency -f rtp 'rtp://127.0.0.1:5004?pkt_size=1200' &
  publish_rtpdump --relay 127.0.0.1:4700 --ca 3f0a... --room demo --user alice --listen 127.0.0.1:5004
";

struct Args {
    link: LinkArgs,
    room: String,
    user: String,
    file: Option<String>,
    looped: bool,
    listen: Option<String>,
    audio: Vec<u8>,
    codec: Option<Codec>,
}

fn args() -> Result<Option<Args>, Box<dyn Error>> {
    let mut args = Args {
        link: LinkArgs::new(),
        room: String::new(),
        user: String::new(),
        file: None,
        looped: false,
        listen: None,
        audio: Vec::new(),
        codec: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--room" => args.room = value()?,
            "--user" => args.user = value()?,
            "--file" => args.file = Some(value()?),
            "--listen" => args.listen = Some(value()?),
            "--audio" => args.audio.push(value()?.parse()?),
            "--codec" => args.codec = Some(codec(&value()?)?),
            "--loop" => args.looped = true,
            _ if args.link.take(&word, &mut value)? => {}
            _ => return Err(format!("unknown argument {word}; see --help").into()),
        }
    }
    if args.audio.is_empty() {
        args.audio.push(111);
    }
    if !args.link.is_complete() || args.room.is_empty() || args.user.is_empty() {
        return Err("--relay, --ca, --room and --user are needed; see --help".into());
    }
    Ok(Some(args))
}

fn codec(name: &str) -> Result<Codec, Box<dyn Error>> {
    match name {
        "vp8" => Ok(Codec::Vp8),
        "vp9" => Ok(Codec::Vp9),
        "h264" => Ok(Codec::H264),
        "av1" => Ok(Codec::Av1),
        _ => Err(format!("no such codec: {name}; see --help").into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let Some(args) = args()? else {
        eprint!("{HELP}");
        return Ok(());
    };
    let link = args.link.connect().await?;
    let mut streams = Streams { link: link.clone(), args: &args, by_ssrc: BTreeMap::new() };
    tokio::select! {
        result = publish(&mut streams) => result?,
        _ = tokio::signal::ctrl_c() => {}
    }
    let stats = link.stats().await?;
    eprintln!("{} packets sent, round trip to the relay {:?}", stats.packets_out, stats.rtt);
    drop(streams);
    link.close().await;
    Ok(())
}

async fn publish(streams: &mut Streams<'_>) -> Result<(), Box<dyn Error>> {
    match (&streams.args.file, &streams.args.listen) {
        (Some(file), None) => {
            let recording = Recording::parse(&std::fs::read(file)?)?;
            let looped = streams.args.looped;
            recording.play(looped, streams).await
        }
        (None, Some(address)) => {
            let socket = UdpSocket::bind(address).await?;
            let mut buffer = [0; 65_536];
            loop {
                let length = socket.recv(&mut buffer).await?;
                streams.send(&buffer[..length]).await?;
            }
        }
        (Some(_), Some(_)) | (None, None) => Err("give either --file or --listen; see --help".into()),
    }
}

/// One publication for each SSRC.
struct Streams<'a> {
    link: SfuLink,
    args: &'a Args,
    by_ssrc: BTreeMap<u32, Publication>,
}

impl Streams<'_> {
    async fn send(&mut self, packet: &[u8]) -> Result<(), Box<dyn Error>> {
        let rtcp = matches!(packet, [_, 192..=223, ..]);
        let at = if rtcp { 4 } else { 8 };
        let Some(ssrc) = packet.get(at..at + 4) else { return Ok(()) };
        let ssrc = u32::from_be_bytes(ssrc.try_into()?);
        if !self.by_ssrc.contains_key(&ssrc) {
            if rtcp {
                return Ok(());
            }
            let audio = self.args.audio.contains(&(packet[1] & 0x7F));
            let kind = if audio { MediaKind::Audio } else { MediaKind::Video };
            let name = format!("{}-{ssrc:08x}", if audio { "audio" } else { "video" });
            eprintln!("publishing {}/{}/{name}", self.args.room, self.args.user);
            let mut options = PublishOptions::new(&self.args.room, &self.args.user, name, kind);
            if kind == MediaKind::Video {
                options.description.codec = self.args.codec;
            }
            self.by_ssrc.insert(ssrc, self.link.publish(options).await?);
        }
        let publication = &self.by_ssrc[&ssrc];
        let sent = if rtcp { publication.send_rtcp(packet) } else { publication.send(packet) };
        if let Err(error) = sent {
            eprintln!("not sent: {error}");
        }
        Ok(())
    }
}

/// Packets with their time since the beginning.
struct Recording {
    packets: Vec<(Duration, Vec<u8>)>,
}

impl Recording {
    fn parse(file: &[u8]) -> Result<Recording, Box<dyn Error>> {
        if !file.starts_with(b"#!rtpplay1.0 ") {
            return Err("not a recording in the format of rtptools".into());
        }
        let line = file.iter().position(|byte| *byte == b'\n').ok_or("recording ends in its first line")?;
        let mut rest = file.get(line + 1 + 16..).ok_or("recording ends in its header")?;
        let mut packets = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
            let millis = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let body = tail.get(..length.saturating_sub(8)).ok_or("recording ends within a packet")?;
            packets.push((Duration::from_millis(millis.into()), body.to_vec()));
            rest = &tail[body.len()..];
        }
        if packets.is_empty() {
            return Err("recording without packets".into());
        }
        Ok(Recording { packets })
    }

    async fn play(mut self, looped: bool, streams: &mut Streams<'_>) -> Result<(), Box<dyn Error>> {
        // A round lasts as long as the recording and one more average gap.
        let last = self.packets.last().map_or(Duration::ZERO, |(at, _)| *at);
        let round = last + last / u32::try_from(self.packets.len())?;
        let steps = self.steps(round);
        let mut begin = Instant::now();
        loop {
            for (at, packet) in &self.packets {
                sleep_until(begin + *at).await;
                streams.send(packet).await?;
            }
            if !looped {
                return Ok(());
            }
            begin += round;
            for (_, packet) in &mut self.packets {
                if let Some(ssrc) = ssrc_of(packet)
                    && let Some((sequence, timestamp)) = steps.get(&ssrc)
                {
                    advance(packet, *sequence, *timestamp);
                }
            }
        }
    }

    /// By SSRC, what a round adds to sequence numbers and timestamps.
    fn steps(&self, round: Duration) -> BTreeMap<u32, (u16, u32)> {
        let mut spans: BTreeMap<u32, (u16, u32, u32, Duration, Duration)> = BTreeMap::new();
        for (at, packet) in &self.packets {
            let Some(ssrc) = ssrc_of(packet) else { continue };
            let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            let span = spans.entry(ssrc).or_insert((0, timestamp, timestamp, *at, *at));
            (span.0, span.2, span.4) = (span.0.wrapping_add(1), timestamp, *at);
        }
        let step = |(packets, first, last, begin, end): (u16, u32, u32, Duration, Duration)| {
            // The clock rate is what the timestamps did in that time, to the nearest usual one.
            let seconds = (end - begin).as_secs_f64();
            let measured = f64::from(last.wrapping_sub(first)) / seconds.max(0.001);
            let usual = [8_000.0, 16_000.0, 48_000.0, 90_000.0];
            let rate = usual
                .into_iter()
                .min_by(|a: &f64, b: &f64| (a - measured).abs().total_cmp(&(b - measured).abs()));
            (packets, (rate.unwrap_or(90_000.0) * round.as_secs_f64()) as u32)
        };
        spans.into_iter().map(|(ssrc, span)| (ssrc, step(span))).collect()
    }
}

fn ssrc_of(packet: &[u8]) -> Option<u32> {
    let rtcp = matches!(packet, [_, 192..=223, ..]);
    let bytes = packet.get(8..12).filter(|_| !rtcp)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn advance(packet: &mut [u8], sequence: u16, timestamp: u32) {
    let new = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(sequence);
    packet[2..4].copy_from_slice(&new.to_be_bytes());
    let new = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]).wrapping_add(timestamp);
    packet[4..8].copy_from_slice(&new.to_be_bytes());
}
