//! How urgent a packet is, is read from its RTP where it enters, and travels beside it to the last relay.

mod lab;

use lab::{Lab, entry, publish, table};
use relay_core::ClientCommand;
use wire_format::control::ToRelay;
use wire_format::{
    Codec, EDGE_HEADER_BYTES, EdgeHeader, Epoch, FrameKind, MediaKind, Priority, RtpDescription, Sequence,
    Slack, StreamHandle, frame_header,
};

/// A publisher at relay 0, whose stream goes to relay 1.
fn pair(kind: MediaKind, description: RtpDescription) -> (Lab, usize) {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    lab.push(1, table(1, &[(0, 0)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(1) });
    lab.push(1, ToRelay::Stamp { epoch: Epoch(1) });
    let mut command = publish(1);
    if let ClientCommand::Publish { kind: is, description: says, .. } = &mut command {
        (*is, *says) = (kind, description);
    }
    let publisher = lab.publisher_of(0, command);
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    lab.crossings.clear();
    (lab, publisher)
}

fn rtp(timestamp: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, timestamp, 0, 0, 0, 7];
    packet.extend(payload);
    packet
}

fn priorities(lab: &Lab) -> Vec<Priority> {
    lab.headers(0, 1).iter().map(|header| header.priority).collect()
}

const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];

#[test]
fn frames_of_a_described_stream_are_told_apart() {
    let h264 = RtpDescription { codec: Some(Codec::H264), ..RtpDescription::default() };
    let (mut lab, publisher) = pair(MediaKind::Video, h264);
    let packets =
        [rtp(1, &[0x67, 0x42]), rtp(1, &[0x7C, 0x85]), rtp(2, &[0x41, 0x9A]), rtp(3, &[0x01, 0x9E])];
    let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    lab.send(publisher, 1, &slices);
    lab.send(publisher, 1, &[b"no RTP at all"]);
    let (base, video, enhancement) = (Priority::BASE, Priority::VIDEO, Priority::ENHANCEMENT);
    assert_eq!(priorities(&lab), [base, base, video, enhancement, video]);
}

#[test]
fn audio_goes_first_and_undescribed_video_is_other_video() {
    let (mut lab, publisher) = pair(MediaKind::Audio, RtpDescription::default());
    lab.send(publisher, 1, &[&rtp(1, &[0x78]), &REPORT]);
    assert_eq!(priorities(&lab), [Priority::AUDIO, Priority::AUDIO]);
    let (mut lab, publisher) = pair(MediaKind::Video, RtpDescription::default());
    lab.send(publisher, 1, &[&rtp(1, &[0x67])]);
    assert_eq!(priorities(&lab), [Priority::VIDEO]);
}

/// An SFU writes the priority itself; what it gains by lying ends at its own streams.
#[test]
fn video_that_calls_itself_audio_is_base_video() {
    for (kind, expected) in [(MediaKind::Video, Priority::BASE), (MediaKind::Audio, Priority::AUDIO)] {
        let (mut lab, publisher) = pair(kind, RtpDescription::default());
        let edge = EdgeHeader {
            handle: StreamHandle(1),
            sequence: Sequence(0),
            slack: Slack(2000),
            priority: Priority::AUDIO,
            rtcp: false,
        };
        let packet = rtp(1, &[0x41]);
        let mut plain = vec![0, 0, 0];
        plain.extend(frame_header(FrameKind::Edge, EDGE_HEADER_BYTES + packet.len()));
        plain.extend(edge.encode());
        plain.extend(packet);
        let link = lab.link_id(0, publisher);
        lab.inject(0, link, 1 << 20, plain);
        assert_eq!(priorities(&lab), [expected]);
    }
}
