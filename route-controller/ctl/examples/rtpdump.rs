//! Joins a video and an audio stream, as GStreamer's `rtpstreampay` writes them (RFC 4571: each packet behind its
//! length), into one recording in the format of rtptools, three seconds long. Used by `tests/media/make`.
//!
//! Times of the packets follow from their RTP timestamps: a packet of Opus goes out with its timestamp, the packets of a
//! picture over the first half of its thirtieth of a second, as a paced encoder sends them.

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeMap;
use wire_format::rtp::RtpHeader;

const SECONDS: u32 = 3;
const VIDEO: Track = Track { clock: 90_000, unit_ticks: 3_000 };
const AUDIO: Track = Track { clock: 48_000, unit_ticks: 960 };

/// How a stream counts time, and how much of it one picture or one Opus packet takes.
struct Track {
    clock: u32,
    unit_ticks: u32,
}

fn main() -> anyhow::Result<()> {
    let [video, audio, out] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| anyhow::anyhow!("usage: rtpdump VIDEO AUDIO OUT"))?;
    let mut packets = timed(&VIDEO, &split(&std::fs::read(&video).context(video)?)?)?;
    packets.extend(timed(&AUDIO, &split(&std::fs::read(&audio).context(audio)?)?)?);
    packets.sort_by_key(|(at_ms, _)| *at_ms);

    let mut bytes = b"#!rtpplay1.0 127.0.0.1/5004\n".to_vec();
    bytes.extend([0; 16]);
    for (at_ms, packet) in packets {
        let length = u16::try_from(packet.len()).context("a packet's length has 16 bits")?;
        bytes.extend((length + 8).to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(at_ms.to_be_bytes());
        bytes.extend(packet);
    }
    std::fs::write(&out, bytes).context(out)
}

fn split(mut rest: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (packet, tail) = tail.split_at_checked(length).context("the file breaks off within a packet")?;
        packets.push(packet.to_vec());
        rest = tail;
    }
    Ok(packets)
}

/// Gives each packet of the first three seconds its time, in milliseconds. What an encoder cuts short at the start
/// (Opus trims its look-ahead off the first packet) is left out, and timestamps are rounded to whole units, so that the
/// end joins the beginning.
fn timed(track: &Track, packets: &[Vec<u8>]) -> anyhow::Result<Vec<(u32, Vec<u8>)>> {
    let mut units: BTreeMap<u32, Vec<&Vec<u8>>> = BTreeMap::new();
    for packet in packets {
        let header = RtpHeader::parse(packet).context("not RTP")?;
        units.entry(header.timestamp).or_default().push(packet);
    }
    let stamps: Vec<u32> = units.keys().copied().collect();
    let [first, second, ..] = stamps[..] else { bail!("less than two units") };
    let first = if (second - first).abs_diff(track.unit_ticks) > 1 { second } else { first };
    let mut out = Vec::new();
    for index in 0..SECONDS * track.clock / track.unit_ticks {
        let stamp = first + index * track.unit_ticks;
        let (_, unit) = units.range(stamp - 1..=stamp + 1).next().context("a unit is missing")?;
        let span = track.unit_ticks / 2;
        for (place, packet) in unit.iter().enumerate() {
            let share = u64::try_from(place)? * u64::from(span) / u64::try_from(unit.len())?;
            let ticks = u64::from(index * track.unit_ticks) + share;
            let at_ms = u32::try_from(ticks * 1_000 / u64::from(track.clock))?;
            let mut packet = (*packet).clone();
            packet[4..8].copy_from_slice(&stamp.to_be_bytes());
            out.push((at_ms, packet));
        }
    }
    ensure!(out.iter().all(|(_, packet)| packet.len() <= 1_200), "a packet is longer than 1,200 bytes");
    Ok(out)
}
