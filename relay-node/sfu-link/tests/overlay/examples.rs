//! The examples run: a recording goes in through one, and comes out of the other as plain RTP.

use crate::lab::{Overlay, soon};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tokio::net::UdpSocket;

/// Three seconds of a call.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/call.rtpdump");
const TOKEN: &str = "demo:*:ps";

/// Built with the tests, in the folder beside theirs.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    profile.join("examples").join(name)
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(name: &str, overlay: &Overlay, args: &[&str]) -> Running {
    let relay = overlay.relays[0].local_addr().to_string();
    let child = Command::new(example(name))
        .args(["--relay", &relay, "--ca", &overlay.fingerprint.to_string(), "--token", TOKEN])
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .expect("the example is built");
    Running(child)
}

fn recorded() -> BTreeSet<Vec<u8>> {
    let file = std::fs::read(RECORDING).expect("the recording");
    let line = file.iter().position(|byte| *byte == b'\n').expect("a first line");
    let mut rest = &file[line + 17..];
    let mut packets = BTreeSet::new();
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])) - 8;
        packets.insert(tail[..length].to_vec());
        rest = &tail[length..];
    }
    packets
}

#[tokio::test]
async fn a_recording_goes_in_through_one_example_and_comes_out_of_the_other() {
    let overlay = Overlay::start(1).await;
    let player = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let to = player.local_addr().expect("bound").to_string();
    let _subscriber = run("subscribe_to_udp", &overlay, &["--room", "r", "--to", &to]);
    soon(async {
        while overlay.relays[0].inspect(|core, _| core.link_views().len()).await.expect("open") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Round and round, so that it does not matter which packet is the first that someone listens to.
    let publish = ["--room", "r", "--user", "alice", "--file", RECORDING, "--loop"];
    let _publisher = run("publish_rtpdump", &overlay, &publish);
    let recorded = recorded();
    let mut arrived = BTreeSet::new();
    let mut buffer = [0; 2048];
    soon(async {
        while arrived.len() < recorded.len() / 2 {
            let length = player.recv(&mut buffer).await.expect("a packet");
            arrived.insert(buffer[..length].to_vec());
        }
    })
    .await;
    let from_the_first_round = arrived.intersection(&recorded).count();
    assert!(from_the_first_round > recorded.len() / 4, "{from_the_first_round} of {}", recorded.len());
}
