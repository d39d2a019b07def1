//! `relayctl dev` as a process: the lines that it prints are run as they stand, and it ends well when it is told to.

use crate::PATIENCE;
use e2e::encoders::{has_ffmpeg, has_gstreamer};
use e2e::{executable, get};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Between two looks at something that is not there yet.
const POLL: Duration = Duration::from_millis(50);

/// A line as a shell runs it, with what it writes to stderr. Ends with the test, and all its children with it.
struct Line {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Line {
    fn run(line: &str) -> anyhow::Result<Line> {
        // The shell becomes the program, so that the program is what is killed.
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {line}")])
            .env("SDL_VIDEODRIVER", "dummy")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, said) = mpsc::channel();
        let output = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            // Progress is written with carriage returns only.
            for part in output.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&part).into_owned());
            }
        });
        Ok(Line { child, said })
    }

    /// Waits until it says something with `words` in it.
    fn says(&self, words: &str) {
        let mut all = String::new();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(line) = self.said.recv_timeout(POLL) {
                if line.contains(words) {
                    return;
                }
                all.push_str(&line);
                all.push('\n');
            }
        }
        panic!("it never says {words:?}: {all}");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The printed line that begins with a word and contains another.
fn printed<'a>(guide: &'a str, program: &str, word: &str) -> &'a str {
    let mut lines = guide.lines().map(str::trim);
    lines
        .find(|line| line.starts_with(program) && line.contains(word))
        .unwrap_or_else(|| panic!("no line of {program} with {word}: {guide}"))
}

#[test]
fn the_printed_lines_push_and_play_a_stream_and_sigterm_ends_with_a_summary() -> anyhow::Result<()> {
    if !has_ffmpeg() || !has_gstreamer(&["x264enc", "rtph264pay", "rtph264depay", "avdec_h264"]) {
        return Ok(());
    }
    let mut dev = Command::new(executable("relayctl"))
        .args(["dev", "--relays", "3"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut guide = String::new();
    let mut out = BufReader::new(dev.stdout.take().expect("piped"));
    while !guide.contains("/v1/subscriptions") {
        anyhow::ensure!(out.read_line(&mut guide)? > 0, "it ended: {guide}");
    }
    // What it shows is read on, so that it never waits for its reader.
    let shown = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });

    // ffmpeg pushes, its player plays. Whatever the machine, no window is opened.
    let ffmpeg = Line::run(printed(&guide, "ffmpeg", "testsrc2"))?;
    let player = Line::run(printed(&guide, "ffplay", "yours.sdp"))?;
    player.says("Video: h264");
    drop((ffmpeg, player));

    // GStreamer pushes and plays; the pictures go to a file instead of a window.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pictures");
    let play = printed(&guide, "gst-launch-1.0", "udpsrc");
    let play = play
        .replace("autovideosink", &format!("filesink buffer-mode=unbuffered location={}", file.display()));
    let _player = Line::run(&play)?;
    let _pusher = Line::run(printed(&guide, "gst-launch-1.0", "videotestsrc"))?;
    let begun = Instant::now();
    let picture = 640 * 360 * 3 / 2;
    while std::fs::metadata(&file).map_or(0, |data| data.len()) < 30 * picture {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "no pictures are decoded");
        std::thread::sleep(POLL);
    }

    // The curl line tells the truth.
    let curl = printed(&guide, "curl", "publications");
    let api: SocketAddr = curl.split('/').nth(2).unwrap_or_default().parse()?;
    let answer: Value = serde_json::from_str(&get(api, "/v1/publications"))?;
    assert!(answer["publications"][0]["packets"].as_u64() > Some(100), "{answer}");

    assert!(Command::new("kill").args(["-TERM", &dev.id().to_string()]).status()?.success());
    let status = dev.wait()?;
    let shown = shown.join().expect("no panic")?;
    assert!(status.success(), "{status}: {shown}");
    assert!(shown.contains("0 duplicated, 0 reordered, 0 corrupted"), "no summary: {shown}");
    Ok(())
}
