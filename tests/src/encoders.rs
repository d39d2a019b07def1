//! Encoders and decoders of this machine: ffmpeg and GStreamer.

use anyhow::{Context as _, ensure};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For a decoder to start, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a decoder is looked at that says nothing.
const POLL: Duration = Duration::from_millis(10);

/// Whether ffmpeg is here. Where it is not, the test is skipped and says so; with CI=true it fails.
///
/// # Panics
/// With CI=true, if it is not.
pub fn has_ffmpeg() -> bool {
    there("ffmpeg", Command::new("ffmpeg").arg("-version"))
}

/// Whether these elements of GStreamer are here; else as above.
///
/// # Panics
/// With CI=true, if one is not.
pub fn has_gstreamer(elements: &[&str]) -> bool {
    elements
        .iter()
        .all(|element| there(&format!("GStreamer's {element}"), Command::new("gst-inspect-1.0").arg(element)))
}

fn there(what: &str, command: &mut Command) -> bool {
    let found =
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{what} is not installed, and CI skips nothing"
        );
        eprintln!("SKIPPED: {what} is not installed");
    }
    found
}

/// A command from one line of words.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    command
}

/// GStreamer, fed with packets through a pipe: it gets every packet and knows the end.
#[derive(Debug)]
pub struct GstDecoder {
    child: Child,
    feed: Option<mpsc::Sender<Vec<u8>>>,
    feeder: Option<std::thread::JoinHandle<std::io::Result<()>>>,
    output: PathBuf,
    _directory: TempDir,
}

impl GstDecoder {
    /// `caps` describe the RTP stream, `decode` takes it apart and decodes it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(caps: &str, decode: &str) -> anyhow::Result<GstDecoder> {
        let directory = tempfile::tempdir()?;
        let output = directory.path().join("decoded");
        let line = format!(
            "gst-launch-1.0 -q fdsrc fd=0 ! application/x-rtp-stream,{caps} ! rtpstreamdepay ! {decode} ! \
             filesink location={}",
            output.display()
        );
        let mut child = command(&line).stdin(Stdio::piped()).spawn()?;
        let mut pipe = child.stdin.take().context("stdin is piped")?;
        let (feed, packets) = mpsc::channel::<Vec<u8>>();
        // A thread of its own, so that a decoder that takes its time does not hold up the call.
        let feeder = std::thread::spawn(move || {
            for packet in packets {
                // RFC 4571: each packet behind its length.
                pipe.write_all(&(packet.len() as u16).to_be_bytes())?;
                pipe.write_all(&packet)?;
            }
            Ok(())
        });
        Ok(GstDecoder { child, feed: Some(feed), feeder: Some(feeder), output, _directory: directory })
    }

    /// Takes a packet. RTCP is passed over.
    pub fn feed(&mut self, packet: &[u8]) {
        if let Some(feed) = self.feed.as_ref().filter(|_| !wire_format::rtp::is_rtcp(packet)) {
            // A decoder that has ended early shows when it is asked for its result.
            let _ = feed.send(packet.to_vec());
        }
    }

    /// Everything it decoded, raw.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.feed = None;
        let fed = self.feeder.take().context("finished once")?.join();
        fed.map_err(|_| anyhow::anyhow!("the feeder panicked"))?.context("the decoder takes no more")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "gst-launch-1.0: {status}");
        Ok(std::fs::read(&self.output)?)
    }
}

impl Drop for GstDecoder {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// ffmpeg, which receives RTP over UDP and prints a checksum of each of the first pictures.
#[derive(Debug)]
pub struct FfmpegDecoder {
    child: Child,
    socket: UdpSocket,
    output: PathBuf,
    _directory: TempDir,
}

impl FfmpegDecoder {
    /// `media` is the stream's description in SDP, with `PORT` in place of the port. Returns when ffmpeg listens.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(media: &str, pictures: usize) -> anyhow::Result<FfmpegDecoder> {
        let directory = tempfile::tempdir()?;
        let port = free_port_pair()?;
        let sdp = directory.path().join("stream.sdp");
        let media = media.replace("PORT", &port.to_string());
        std::fs::write(
            &sdp,
            format!("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n{media}\n"),
        )?;
        let output = directory.path().join("checksums");
        let line = format!(
            "ffmpeg -v error -protocol_whitelist file,udp,rtp -reorder_queue_size 0 -i {} -frames:v {pictures} -f \
             framemd5 {}",
            sdp.display(),
            output.display()
        );
        let child = command(&line).spawn()?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        let decoder = FfmpegDecoder { child, socket, output, _directory: directory };
        let begin = Instant::now();
        while !is_bound(port)? {
            ensure!(begin.elapsed() < PATIENCE, "ffmpeg does not listen");
            std::thread::sleep(POLL);
        }
        Ok(decoder)
    }

    /// Where it listens; the port after it is for RTCP.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.peer_addr()?)
    }

    /// Takes a packet. RTCP is passed over.
    pub fn feed(&mut self, packet: &[u8]) {
        if !wire_format::rtp::is_rtcp(packet) {
            // Refused once it has seen enough pictures and has gone.
            let _ = self.socket.send(packet);
        }
    }

    /// Waits until it has seen as many pictures as it wanted; their checksums.
    ///
    /// # Errors
    /// If it failed, or saw too little in time.
    pub fn finish(mut self) -> anyhow::Result<Vec<String>> {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None => ensure!(begin.elapsed() < PATIENCE, "ffmpeg still waits for pictures"),
            }
            std::thread::sleep(POLL);
        };
        ensure!(status.success(), "ffmpeg: {status}");
        // Times of presentation depend on when ffmpeg was started; the last column does not.
        let text = std::fs::read_to_string(&self.output)?;
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        Ok(rows.filter_map(|row| row.rsplit(',').next()).map(|sum| sum.trim().to_owned()).collect())
    }
}

impl Drop for FfmpegDecoder {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free, and the one after it, which ffmpeg takes for RTCP.
fn free_port_pair() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let SocketAddr::V4(address) = socket.local_addr()? else { continue };
        let port = address.port();
        if port % 2 == 0 && UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no two free ports in a row")
}

/// Whether anyone has bound that UDP port, of IPv4 or IPv6.
fn is_bound(port: u16) -> anyhow::Result<bool> {
    let suffix = format!(":{port:04X}");
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        let mut locals = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        if locals.any(|local| local.ends_with(&suffix)) {
            return Ok(true);
        }
    }
    Ok(false)
}
