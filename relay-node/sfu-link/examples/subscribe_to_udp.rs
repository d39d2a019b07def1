//! Subscribes to a room and sends what comes, as plain RTP, to a UDP address.

mod link;

use link::LinkArgs;
use sfu_link::{Event, SfuLink, SubscribeOptions};
use std::error::Error;
use std::process::ExitCode;
use tokio::net::UdpSocket;

const HELP: &str = "\
Send the streams of a room of a Cascade overlay to a UDP address, as plain RTP and RTCP.

Usage: subscribe_to_udp --relay HOST:PORT --ca FINGERPRINT --token JWT --room ROOM --to IP:PORT
                        [--user USER] [--stream NAME]

  --relay HOST:PORT   a relay port; repeat it to name more relays to fall back to
  --ca FINGERPRINT    SHA-256 of the overlay's CA certificate, 64 hex digits
  --token JWT         made by `relayctl token create`; default: environment CASCADE_CLIENT_TOKEN
  --to IP:PORT        where RTP goes; RTCP goes to the next port
  --user, --stream    only this participant, only the stream of this name

Streams are told apart by their SSRC; a keyframe is asked for when one begins. Example, with a player:
  subscribe_to_udp --relay 127.0.0.1:4730 --ca 3f0a... --room demo --stream video-43415631 --to 127.0.0.1:5004 &
  printf 'c=IN IP4 127.0.0.1\\nm=video 5004 RTP/AVP 102\\na=rtpmap:102 H264/90000\\n' > video.sdp
  ffplay -protocol_whitelist file,udp,rtp -fflags nobuffer video.sdp
";

struct Args {
    link: LinkArgs,
    wanted: SubscribeOptions,
    to: String,
}

fn args() -> Result<Option<Args>, Box<dyn Error>> {
    let mut args = Args { link: LinkArgs::new(), wanted: SubscribeOptions::room(""), to: String::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--room" => args.wanted.room = value()?,
            "--user" => args.wanted.user = Some(value()?),
            "--stream" => args.wanted.stream = Some(value()?),
            "--to" => args.to = value()?,
            _ if args.link.take(&word, &mut value)? => {}
            _ => return Err(format!("unknown argument {word}; see --help").into()),
        }
    }
    if !args.link.is_complete() || args.wanted.room.is_empty() || args.to.is_empty() {
        return Err("--relay, --ca, --room and --to are needed; see --help".into());
    }
    Ok(Some(args))
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
    tokio::select! {
        result = forward(&link, &args) => result?,
        _ = tokio::signal::ctrl_c() => {}
    }
    let stats = link.stats().await?;
    eprintln!("{} packets received, round trip to the relay {:?}", stats.packets_in, stats.rtt);
    link.close().await;
    Ok(())
}

async fn forward(link: &SfuLink, args: &Args) -> Result<(), Box<dyn Error>> {
    let to: std::net::SocketAddr = args.to.parse()?;
    let rtcp_to = std::net::SocketAddr::new(to.ip(), to.port().checked_add(1).ok_or("no port after --to")?);
    let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await?;
    let mut subscription = link.subscribe(args.wanted.clone()).await?;
    while let Some(event) = subscription.next().await {
        match event {
            Event::Started(stream) => {
                eprintln!("{}/{}/{} begins", stream.room, stream.user, stream.stream);
                subscription.request_keyframe(&stream).await;
            }
            Event::Packet(packet) => {
                // Nobody may listen at the moment; then the packet is lost, as RTP is.
                let _ = socket.send_to(&packet.bytes, if packet.rtcp { rtcp_to } else { to }).await;
            }
            Event::Ended(stream) => eprintln!("{}/{}/{} ends", stream.room, stream.user, stream.stream),
        }
    }
    match subscription.refusal() {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}
