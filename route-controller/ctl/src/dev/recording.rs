//! The recording that `dev` plays: what real encoders made, in the format of rtptools, repeated without a seam.
//!
//! Packet `index` of a track is a pure function of the recording, so that whoever checks a delivery can make the packet
//! that was sent anew instead of remembering it.

use anyhow::{Context as _, bail, ensure};
use std::time::Duration;
use wire_format::MediaKind;
use wire_format::rtp::RtpHeader;

/// H.264 and Opus, made by `tests/media/make`.
const CALL: &[u8] = include_bytes!("../../../../tests/media/call.rtpdump");
/// What is recorded in it: RTP payload type, kind, and clock (RFC 6184, RFC 7587).
const CALL_TRACKS: [(u8, MediaKind, u32); 2] =
    [(102, MediaKind::Video, 90_000), (111, MediaKind::Audio, 48_000)];
/// How long it lasts: end and beginning of every track meet after that.
const CALL_PERIOD: Duration = Duration::from_secs(3);

const MAGIC: &[u8] = b"#!rtpplay1.0 ";
const FILE_HEADER_BYTES: usize = 16;
const PACKET_HEADER_BYTES: usize = 8;

/// Media to play for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recording {
    tracks: Vec<Track>,
    period: Duration,
}

/// One RTP stream of a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    kind: MediaKind,
    ssrc: u32,
    first_sequence: u16,
    period_ticks: u32,
    period: Duration,
    packets: Vec<(Duration, Vec<u8>)>,
}

impl Recording {
    /// The recording that is built in: one video and one audio track.
    ///
    /// # Errors
    /// If the build embedded something else.
    pub fn call() -> anyhow::Result<Recording> {
        Recording::parse(CALL, CALL_PERIOD, &CALL_TRACKS).context("the built-in recording")
    }

    /// Reads an rtpdump file that lasts for `period`. `tracks` says what its payload types are.
    ///
    /// # Errors
    /// If it is damaged, or a track is absent or has gaps.
    pub fn parse(
        file: &[u8],
        period: Duration,
        tracks: &[(u8, MediaKind, u32)],
    ) -> anyhow::Result<Recording> {
        let packets = packets(file)?;
        let tracks = tracks.iter().map(|&(payload_type, kind, clock)| {
            let own = packets.iter().filter(|(_, header, _)| header.payload_type == payload_type);
            let own: Vec<_> = own.cloned().collect();
            Track::new(own, kind, clock, period).with_context(|| format!("payload type {payload_type}"))
        });
        Ok(Recording { tracks: tracks.collect::<anyhow::Result<_>>()?, period })
    }

    /// Its tracks, video first.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The place of the track that a packet is of, by its RTP header; `None` for bytes that are of none.
    pub fn track_of(&self, packet: &[u8]) -> Option<usize> {
        let ssrc = RtpHeader::parse(packet)?.ssrc;
        self.tracks.iter().position(|track| track.ssrc == ssrc)
    }

    /// How long one round lasts.
    pub fn period(&self) -> Duration {
        self.period
    }
}

impl Track {
    fn new(
        packets: Vec<(Duration, RtpHeader, &[u8])>,
        kind: MediaKind,
        clock: u32,
        period: Duration,
    ) -> anyhow::Result<Track> {
        let Some((_, first, _)) = packets.first() else { bail!("no packet of it is recorded") };
        for (place, (at, header, _)) in packets.iter().enumerate() {
            ensure!(header.ssrc == first.ssrc, "two sources");
            let sequence = first.sequence.wrapping_add(u16::try_from(place).context("too many packets")?);
            ensure!(header.sequence == sequence, "packet {sequence} is absent");
            ensure!(*at < period, "packet {sequence} comes after the end");
        }
        let period_ticks = u128::from(clock) * period.as_millis() / 1_000;
        Ok(Track {
            kind,
            ssrc: first.ssrc,
            first_sequence: first.sequence,
            period_ticks: u32::try_from(period_ticks).context("the period is too long")?,
            period,
            packets: packets.into_iter().map(|(at, _, bytes)| (at, bytes.to_vec())).collect(),
        })
    }

    /// What it carries.
    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Packets in one round.
    pub fn packets_per_round(&self) -> usize {
        self.packets.len()
    }

    /// When packet `index` goes out, counted from the start of the first round.
    pub fn at(&self, index: u64) -> Duration {
        let (round, place) = self.place(index);
        self.period * round + self.packets[place].0
    }

    /// Writes packet `index` over `out`. Sequence numbers and timestamps go on from round to round.
    pub fn packet(&self, index: u64, out: &mut Vec<u8>) {
        let (round, place) = self.place(index);
        out.clear();
        out.extend_from_slice(&self.packets[place].1);
        // Both wrap, as they do in any long call.
        let sequence = self.first_sequence.wrapping_add(index as u16);
        let (_, rest) = out.split_at_mut(2);
        rest[..2].copy_from_slice(&sequence.to_be_bytes());
        let stamp = u32::from_be_bytes([rest[2], rest[3], rest[4], rest[5]]);
        let stamp = stamp.wrapping_add(round.wrapping_mul(self.period_ticks));
        rest[2..6].copy_from_slice(&stamp.to_be_bytes());
    }

    /// Which packet a delivered one claims to be, by its RTP header: the candidate nearest to `near`. `None` for bytes
    /// that are not of this track.
    pub fn index_of(&self, packet: &[u8], near: u64) -> Option<u64> {
        let header = RtpHeader::parse(packet).filter(|header| header.ssrc == self.ssrc)?;
        let low = header.sequence.wrapping_sub(self.first_sequence);
        // The difference of two 16-bit sequence numbers, the nearer way round.
        let ahead = low.wrapping_sub(near as u16) as i16;
        near.checked_add_signed(i64::from(ahead))
    }

    fn place(&self, index: u64) -> (u32, usize) {
        let length = self.packets.len() as u64;
        ((index / length) as u32, (index % length) as usize)
    }
}

/// Time, header and bytes of every RTP packet of an rtpdump file.
fn packets(file: &[u8]) -> anyhow::Result<Vec<(Duration, RtpHeader, &[u8])>> {
    let line_end = file.iter().position(|byte| *byte == b'\n').filter(|_| file.starts_with(MAGIC));
    let mut rest =
        line_end.and_then(|end| file.get(end + 1 + FILE_HEADER_BYTES..)).context("not an rtpdump file")?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let header = rest.first_chunk::<PACKET_HEADER_BYTES>().context("the file breaks off")?;
        let [length_high, length_low, rtp_high, rtp_low, at @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let rtp_bytes = usize::from(u16::from_be_bytes([rtp_high, rtp_low]));
        let at = Duration::from_millis(u64::from(u32::from_be_bytes(at)));
        let (record, tail) = rest.split_at_checked(length).context("the file breaks off")?;
        let bytes = record.get(PACKET_HEADER_BYTES..).context("a length is too small")?;
        // A length of zero marks RTCP in this format.
        if rtp_bytes != 0 {
            ensure!(rtp_bytes == bytes.len(), "a packet was recorded in part");
            let header = RtpHeader::parse(bytes).context("a packet is not RTP")?;
            packets.push((at, header, bytes));
        }
        rest = tail;
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use wire_format::{Codec, Prioritizer, Priority, RtpDescription};

    fn header(track: &Track, index: u64) -> RtpHeader {
        let mut packet = Vec::new();
        track.packet(index, &mut packet);
        RtpHeader::parse(&packet).expect("RTP")
    }

    #[test]
    fn the_built_in_recording_is_as_promised() {
        let recording = Recording::call().expect("legal");
        let [video, audio] = recording.tracks() else { panic!("two tracks") };
        assert_eq!((video.kind(), audio.kind()), (MediaKind::Video, MediaKind::Audio));
        assert_eq!(audio.packets_per_round(), 150, "50 packets/s");
        let bytes: usize = video.packets.iter().map(|(_, packet)| packet.len()).sum();
        let bits_per_second = bytes * 8 / 3;
        assert!((1_800_000..2_300_000).contains(&bits_per_second), "{bits_per_second}");
        assert!(video.packets.iter().chain(&audio.packets).all(|(_, packet)| packet.len() <= 1_200));
        let pictures =
            video.packets.iter().filter(|(_, packet)| packet[1] & 0x80 != 0 && packet[12] & 31 != 6);
        assert!(pictures.count() >= 90, "30 pictures a second");
        let parameter_sets = video.packets.iter().filter(|(_, packet)| packet[12] & 31 == 7).count();
        assert_eq!(parameter_sets, 3, "a keyframe each second");
    }

    /// What a link that cannot carry everything lets go first, is told apart in the media that the laboratory plays.
    #[test]
    fn its_video_has_keyframes_and_other_frames() {
        let recording = Recording::call().expect("legal");
        let video = &recording.tracks()[0];
        let h264 = RtpDescription { codec: Some(Codec::H264), ..RtpDescription::default() };
        let mut prioritizer = Prioritizer::new(video.kind(), h264);
        let mut frames: BTreeMap<u32, BTreeSet<Priority>> = BTreeMap::new();
        for index in 0..video.packets_per_round() as u64 {
            let mut packet = Vec::new();
            video.packet(index, &mut packet);
            let priority = prioritizer.priority(&packet, false);
            frames.entry(header(video, index).timestamp).or_default().insert(priority);
        }
        let of = |priority| frames.values().filter(|found| **found == BTreeSet::from([priority])).count();
        assert_eq!((of(Priority::BASE), of(Priority::VIDEO), frames.len()), (3, 87, 90));
    }

    #[test]
    fn a_packet_is_known_by_its_track_however_long_it_has_played() {
        let recording = Recording::call().expect("legal");
        let mut packet = Vec::new();
        for (place, track) in recording.tracks().iter().enumerate() {
            for index in [0, 32_767, 32_768, 65_535, 65_536, 1 << 40] {
                track.packet(index, &mut packet);
                assert_eq!(recording.track_of(&packet), Some(place), "{index}");
                assert_eq!(track.index_of(&packet, index + 100), Some(index));
            }
        }
        assert_eq!(recording.track_of(&packet[..8]), None, "cut short");
    }

    #[test]
    fn rounds_join_without_a_seam() {
        for (track, unit_ticks) in Recording::call().expect("legal").tracks().iter().zip([3_000, 960]) {
            let round = track.packets_per_round() as u64;
            let (last, next) = (header(track, round - 1), header(track, round));
            assert_eq!(next.sequence, last.sequence.wrapping_add(1));
            assert_eq!(next.timestamp, last.timestamp.wrapping_add(unit_ticks));
            assert_eq!(track.at(round), Duration::from_secs(3));
            assert!(track.at(round - 1) < track.at(round));
            let late = 1_000_000 * round + 7;
            assert_eq!(header(track, late).sequence, track.first_sequence.wrapping_add(late as u16));
        }
    }

    #[test]
    fn a_packet_is_found_by_its_sequence_number() {
        let recording = Recording::call().expect("legal");
        let track = &recording.tracks()[0];
        let mut packet = Vec::new();
        for index in [0, 1, 65_535, 65_536, 200_000] {
            track.packet(index, &mut packet);
            for near in [index.saturating_sub(300), index, index + 300] {
                assert_eq!(track.index_of(&packet, near), Some(index));
            }
        }
        assert_eq!(track.index_of(&packet[..8], 0), None, "cut short");
        packet[8] ^= 1;
        assert_eq!(track.index_of(&packet, 0), None, "another source");
    }

    #[test]
    fn damage_is_refused() {
        for file in [&b"RIFF"[..], &CALL[..100], &CALL[..CALL.len() - 1]] {
            assert!(Recording::parse(file, CALL_PERIOD, &CALL_TRACKS).is_err());
        }
        let error =
            Recording::parse(CALL, CALL_PERIOD, &[(96, MediaKind::Video, 90_000)]).expect_err("absent");
        assert_eq!(format!("{error:#}"), "payload type 96: no packet of it is recorded");
    }
}
