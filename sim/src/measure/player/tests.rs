//! Sequences whose stalls can be counted by hand.

use super::*;

const AUDIO: Duration = Duration::from_millis(20);
const VIDEO: Duration = Duration::from_millis(40);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Frames of one packet, from zero on; `took` says what each takes, in milliseconds, or that it is lost.
fn played(kind: MediaKind, frames: u64, took: impl Fn(u64) -> Option<u64>) -> Playback {
    let interval = if kind == MediaKind::Audio { AUDIO } else { VIDEO };
    let mut player = Player::new(kind, interval);
    let mut events: Vec<(Duration, bool, u64)> = Vec::new();
    for frame in 0..frames {
        let sent = interval * frame as u32;
        events.push((sent, false, frame));
        events.extend(took(frame).map(|took| (sent + ms(took), true, frame)));
    }
    events.sort_unstable();
    for (at, arrives, frame) in events {
        if arrives {
            player.arrive(at, frame, at - interval * frame as u32);
        } else {
            assert_eq!(player.expect(at, 1), frame);
        }
    }
    player.finish(interval * frames as u32 + ms(5_000))
}

#[test]
fn what_comes_evenly_never_stalls() {
    let audio = played(MediaKind::Audio, 1_000, |_| Some(50));
    assert_eq!(audio, Playback { stalls: 0, stalled: ms(0), played: ms(20_000) });
    let video = played(MediaKind::Video, 500, |_| Some(50));
    assert_eq!(video, Playback { stalls: 0, stalled: ms(0), played: ms(20_000) });
}

#[test]
fn a_lost_frame_of_audio_is_concealed_for_its_time() {
    // The buffer holds 20 ms at least: the frame after it is there.
    let one = played(MediaKind::Audio, 500, |frame| (frame != 300).then_some(50));
    assert_eq!((one.stalls, one.stalled), (1, ms(20)));
    let apart = played(MediaKind::Audio, 500, |frame| (frame % 100 != 99).then_some(50));
    assert_eq!((apart.stalls, apart.stalled), (4 + 1, ms(100)), "the last of all as well");
}

#[test]
fn a_silence_of_audio_is_one_stall_until_something_comes() {
    // Delay settles at 50 + 20 ms. Frame 300 is due at 6,070 ms; after the buffer's last frame there is nothing until
    // frame 320 comes at 6,450 ms, which is before its own time, 6,470 ms.
    let lost = played(MediaKind::Audio, 500, |frame| (!(300..320).contains(&frame)).then_some(50));
    assert_eq!((lost.stalls, lost.stalled), (1, ms(400)));
    // The same frames come late, all at 6,450 ms: the first of them is played then, 380 ms late, and the delay grows by that.
    let late = played(MediaKind::Audio, 500, |frame| {
        Some(if (300..320).contains(&frame) { 6_450 - 20 * frame } else { 50 })
    });
    assert_eq!((late.stalls, late.stalled), (1, ms(6_450 - 6_070)));
}

#[test]
fn the_buffer_learns_to_hold_what_jitters() {
    // Every tenth frame takes 100 ms longer. The target is 80 ms at first, so frames 9 and 19 are late by 20 ms. The first
    // sample makes it 120 ms, but frame 29 is due when the buffer has grown by eight tenths of a frame only: late by 4 ms.
    let frames = |frame: u64| Some(if frame % 10 == 9 { 150 } else { 50 });
    let learning = played(MediaKind::Audio, 30, frames);
    let longer = played(MediaKind::Audio, 3_000, frames);
    // Nothing is there after the last of them: it is played when it comes. Later on it would have been skipped.
    assert_eq!((learning.stalls, learning.stalled), (3, ms(44)));
    assert_eq!((longer.stalls, longer.stalled), (3, ms(60)), "nothing more, once it knows");
}

#[test]
fn a_late_picture_is_shown_late_and_a_short_delay_is_no_freeze() {
    // Delay settles at 50 + 20 ms: one that comes 120 ms later is shown 100 ms after its time, and stands for 140 ms.
    let late = played(MediaKind::Video, 500, |frame| Some(if frame == 300 { 170 } else { 50 }));
    assert_eq!(late.stalls, 0, "{late:?}");
    // 190 ms later: shown 170 ms after its time, so the one before it stood for 210 ms, more than 40 + 150.
    let frozen = played(MediaKind::Video, 500, |frame| Some(if frame == 300 { 240 } else { 50 }));
    assert_eq!((frozen.stalls, frozen.stalled), (1, ms(210)));
}

#[test]
fn a_picture_that_never_comes_freezes_until_a_keyframe() {
    // Picture 300 leaves at 12,000 ms, is due at 12,070 and given up at 12,270. The request is there at 12,320; the first
    // picture after that is number 308, which leaves then and is shown at 12,390. Number 299 was shown at 12,030.
    let lost = played(MediaKind::Video, 500, |frame| (frame != 300).then_some(50));
    assert_eq!((lost.stalls, lost.stalled), (1, ms(12_390 - 12_030)));
}

#[test]
fn a_picture_is_there_when_all_its_packets_are() {
    let mut player = Player::new(MediaKind::Video, VIDEO);
    for frame in 0..100 {
        let sent = VIDEO * frame as u32;
        assert_eq!(player.expect(sent, 2), frame);
        player.arrive(sent + ms(10), frame, ms(10));
        // Of one the second packet is lost.
        if frame != 50 {
            player.arrive(sent + ms(11), frame, ms(11));
        }
    }
    // Due 20 ms after 11: 2,031. Given up at 2,231, asked for at 2,242, answered by the picture of 2,280, shown at 2,311,
    // 320 ms after the one of 1,960.
    let stalls = player.finish(ms(10_000));
    assert_eq!((stalls.stalls, stalls.stalled), (1, ms(2_311 - 1_991)));
}

#[test]
fn nothing_at_all_is_one_stall() {
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let none = played(kind, 100, |_| None);
        assert_eq!((none.stalls, none.stalled), (1, none.played), "{kind:?}");
    }
    let half = played(MediaKind::Audio, 1_000, |frame| (frame < 500).then_some(50));
    assert_eq!((half.stalls, half.stalled), (1, ms(10_000)));
    let half = played(MediaKind::Video, 500, |frame| (frame < 250).then_some(50));
    assert_eq!((half.stalls, half.stalled), (1, ms(10_000) + VIDEO));
}
