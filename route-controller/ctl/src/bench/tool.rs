//! Programs of others that carry datagrams from one UDP port to another: fed with the recorded call, and judged as this
//! overlay is.

use super::outcome::Measured;
use super::{DRAIN, FIRST_DELIVERY, Run, WARM_UP};
use crate::dev::checker::StreamCheck;
use crate::dev::clock::Clock;
use crate::dev::player::Player;
use crate::dev::{Carried, Pair, Proxy, Recording};
use anyhow::{Context as _, bail};
use link_model::Seed;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks at what arrives.
const POLL: Duration = Duration::from_millis(20);
/// These systems hold packets until their budget is over: whatever they deliver, they deliver in time.
const NEVER_LATE: Duration = Duration::from_secs(60);
/// Lines of what a program said that are told when it does not work.
const WORDS_SHOWN: usize = 5;

/// A program of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tool {
    Srt,
    Rist,
}

impl Tool {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Tool::Srt => &["srt-live-transmit"],
            Tool::Rist => &["ristsender", "ristreceiver"],
        }
    }

    fn package(self) -> &'static str {
        match self {
            Tool::Srt => "srt-tools",
            Tool::Rist => "rist-tools",
        }
    }

    /// UDP payload of a packet's first datagram beyond the packet: SRT's data header; GRE with sequence, and RTP.
    fn header_bytes(self) -> u64 {
        match self {
            Tool::Srt => 16,
            Tool::Rist => 20,
        }
    }

    /// Whether its programs are installed.
    pub(super) fn check(self) -> anyhow::Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed =
            |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        match self.programs().iter().find(|program| !installed(program)) {
            None => Ok(()),
            Some(program) => bail!(
                "{program} is not installed: install the package {} (Debian), or leave it out with --systems",
                self.package()
            ),
        }
    }

    /// The end that receives from the link and sends plain datagrams on.
    fn receiver(self, from: u16, to: SocketAddr, budget: Duration) -> Command {
        let ms = budget.as_millis();
        let mut command = Command::new(self.programs()[self.programs().len() - 1]);
        match self {
            Tool::Srt => {
                command.args(["-q", &format!("srt://127.0.0.1:{from}?mode=listener&latency={ms}")]);
                command.arg(format!("udp://{to}"))
            }
            Tool::Rist => {
                command.args(["-p", "1", "-S", "0", "-v", "3", "-b", &ms.to_string()]);
                command.args(["-i", &format!("rist://@127.0.0.1:{from}"), "-o", &format!("udp://{to}")])
            }
        };
        command
    }

    /// The end that takes plain datagrams and sends them over the link.
    fn sender(self, from: u16, to: SocketAddr, budget: Duration) -> Command {
        let ms = budget.as_millis();
        let mut command = Command::new(self.programs()[0]);
        match self {
            Tool::Srt => command.args([
                "-q",
                &format!("udp://127.0.0.1:{from}"),
                &format!("srt://{to}?mode=caller&latency={ms}"),
            ]),
            Tool::Rist => {
                command.args(["-p", "1", "-S", "0", "-v", "3", "-b", &ms.to_string()]);
                command.args(["-i", &format!("udp://@127.0.0.1:{from}"), "-o", &format!("rist://{to}")])
            }
        };
        command
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Process> {
        let file = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Process(child.with_context(|| format!("{:?} does not start", command.get_program()))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was sent and what arrived.
struct Ledger {
    streams: Vec<StreamCheck>,
    packets: u64,
    bytes: u64,
}

type SharedLedger = Arc<Mutex<Ledger>>;

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One moment of a run.
#[derive(Clone, Copy)]
struct Moment {
    sent: u64,
    missing: u64,
    packets: u64,
    bytes: u64,
    entered: u64,
}

pub(super) fn measure(tool: Tool, run: &Run) -> anyhow::Result<Measured> {
    let logs = tempfile::tempdir().context("no temporary directory")?;
    let (receiver_log, sender_log) = (logs.path().join("receiver"), logs.path().join("sender"));
    let output = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    output.set_read_timeout(Some(POLL))?;
    let (input_port, link_port) = (free_port()?, free_port()?);
    let (there, back) = (run.link.schedule()?, run.link.schedule()?);
    let proxy = Proxy::start(&[Pair { relays: (0, 1), there, back }], Seed(run.seed))?;
    proxy.relay_speaks(0);
    proxy.relay_listens(1, SocketAddr::from((Ipv4Addr::LOCALHOST, link_port)));
    let front = proxy.address(0, 1).context("the proxy has a link")?;
    let _receiver =
        Process::start(tool.receiver(link_port, output.local_addr()?, run.budget), &receiver_log)?;
    let _sender = Process::start(tool.sender(input_port, front, run.budget), &sender_log)?;

    let clock = Clock::start();
    let recording = Recording::call()?;
    let checks = recording.tracks().iter().map(|track| StreamCheck::new(track.clone(), NEVER_LATE));
    let ledger = SharedLedger::new(Mutex::new(Ledger { streams: checks.collect(), packets: 0, bytes: 0 }));
    let stop = Arc::new(AtomicBool::new(false));
    let receiving = receive(output, recording.clone(), clock, Arc::clone(&ledger), Arc::clone(&stop))?;
    let mut player = play(recording, clock, Arc::clone(&ledger), input_port)?;

    let measured = follow(run, clock, &ledger, &proxy, &mut player);
    stop.store(true, Ordering::Relaxed);
    // A thread that panicked has said so on stderr.
    let _ = receiving.join();
    let (before, after) = match measured? {
        Some(measured) => measured,
        None => bail!("no packet arrives; {}", words(&[&receiver_log, &sender_log])),
    };
    let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
    let lost = after.missing.saturating_sub(before.missing);
    let first_bytes = bytes + packets * tool.header_bytes();
    Ok(Measured::of(run, after.sent - before.sent, lost, 0, after.entered - before.entered, first_bytes))
}

/// The moments when counting begins and ends, or `None` if nothing arrives at all.
fn follow(
    run: &Run,
    clock: Clock,
    ledger: &Mutex<Ledger>,
    proxy: &Proxy,
    player: &mut Player,
) -> anyhow::Result<Option<(Moment, Moment)>> {
    let begun = clock.now();
    let heard = || lock(ledger).streams.iter().all(|stream| stream.last_delivery().is_some());
    while !heard() {
        if clock.now() > begun + FIRST_DELIVERY {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
    std::thread::sleep(WARM_UP);
    // What these systems hold back is under way for as long as their budget lasts.
    let before = moment(clock, ledger, proxy, true);
    std::thread::sleep(run.duration);
    let entered = moment(clock, ledger, proxy, true).entered;
    player.stop();
    let stopped = clock.now();
    while clock.now() < stopped + DRAIN && moment(clock, ledger, proxy, false).missing > 0 {
        std::thread::sleep(POLL);
    }
    Ok(Some((before, Moment { entered, ..moment(clock, ledger, proxy, false) })))
}

fn moment(clock: Clock, ledger: &Mutex<Ledger>, proxy: &Proxy, under_way: bool) -> Moment {
    let now = clock.now();
    let ledger = lock(ledger);
    let waiting = |stream: &StreamCheck| if under_way { stream.under_way(now) } else { 0 };
    Moment {
        sent: ledger.streams.iter().map(|stream| stream.counts().sent).sum(),
        missing: ledger.streams.iter().map(|stream| stream.counts().lost() - waiting(stream)).sum(),
        packets: ledger.packets,
        bytes: ledger.bytes,
        entered: proxy.carried().values().map(|Carried { offered_bytes, .. }| offered_bytes).sum(),
    }
}

fn play(recording: Recording, clock: Clock, ledger: SharedLedger, to: u16) -> anyhow::Result<Player> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let player = Player::start(recording, clock, move |track, packet| {
        {
            let mut ledger = lock(&ledger);
            ledger.streams[track].sent(clock.now());
            ledger.packets += 1;
            ledger.bytes += packet.len() as u64;
        }
        // Until the program listens, packets are lost; they do not count yet.
        let _ = socket.send_to(packet, (Ipv4Addr::LOCALHOST, to));
    });
    Ok(player?)
}

fn receive(
    socket: UdpSocket,
    recording: Recording,
    clock: Clock,
    ledger: SharedLedger,
    stop: Arc<AtomicBool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
        let mut buffer = [0; 2_048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
            let packet = &buffer[..length];
            if let Some(track) = recording.track_of(packet) {
                lock(&ledger).streams[track].delivered(clock.now(), packet);
            }
        }
    })
}

fn free_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The last that programs said.
fn words(logs: &[&Path]) -> String {
    let said = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok()).collect::<String>();
    let lines: Vec<_> = said.lines().rev().take(WORDS_SHOWN).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_told_of_link_and_budget() {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000));
        for tool in [Tool::Srt, Tool::Rist] {
            for command in [
                tool.receiver(3_000, to, Duration::from_millis(150)),
                tool.sender(3_000, to, Duration::from_millis(150)),
            ] {
                let line = format!("{command:?}");
                assert!(line.contains("150") && line.contains(":3000") && line.contains(":4000"), "{line}");
            }
        }
    }
}
