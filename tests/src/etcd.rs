//! A real etcd of one member, and cables to it that can be cut.

use crate::Process;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For etcd to start: it syncs its disk several times.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Whether etcd is here (Debian: etcd-server). Where it is not, the test is skipped and says so; with CI=true it fails.
///
/// # Panics
/// With CI=true, if it is not.
pub fn has_etcd() -> bool {
    let mut command = Command::new("etcd");
    let found = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "etcd is not installed (package etcd-server), and CI skips nothing"
        );
        eprintln!("SKIPPED: etcd is not installed (package etcd-server)");
    }
    found
}

/// An etcd that may be killed and started again.
pub struct EtcdServer {
    data: PathBuf,
    clients: SocketAddr,
    peers: SocketAddr,
    process: Option<Process>,
}

impl EtcdServer {
    /// One with its data in this directory, which need not exist. It answers when this returns.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(data: &Path) -> EtcdServer {
        let (clients, peers) = (free(), free());
        let mut server = EtcdServer { data: data.to_owned(), clients, peers, process: None };
        server.start_again();
        server
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.clients
    }

    /// Starts it with the data it had.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&mut self) {
        let (clients, peers) = (format!("http://{}", self.clients), format!("http://{}", self.peers));
        let mut command = Command::new("etcd");
        command.args(["--name", "one", "--logger", "zap", "--log-outputs", "stderr", "--data-dir"]);
        command.arg(&self.data);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("one={peers}")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(Process::spawn(command));
        let begun = Instant::now();
        while !self.is_healthy() {
            assert!(begun.elapsed() < PATIENCE, "etcd does not answer");
            std::thread::sleep(POLL);
        }
    }

    fn is_healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.clients) else { return false };
        let mut answer = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
            && write!(stream, "GET /health HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.contains("\"true\"")
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }
}

/// A way to an address, over a port of its own. While it is cut, nothing comes out at either end, and nobody is told.
pub struct Cable {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: Mutex<bool>,
    mended: Condvar,
    over: AtomicBool,
}

impl Cable {
    /// To this address.
    ///
    /// # Panics
    /// If no port is left.
    pub fn to(end: SocketAddr) -> Cable {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<State>::default();
        let of_listener = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if of_listener.over.load(Ordering::Relaxed) {
                    return;
                }
                // Nobody at the other end: the connection that was just made breaks.
                let Ok(far) = TcpStream::connect(end) else { continue };
                for (from, to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))] {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let state = Arc::clone(&of_listener);
                    std::thread::spawn(move || carry(from, to, &state));
                }
            }
        });
        Cable { address, state }
    }

    /// Its near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it, or mends it.
    pub fn cut(&self, cut: bool) {
        *self.state.cut.lock().unwrap_or_else(PoisonError::into_inner) = cut;
        self.state.mended.notify_all();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.cut(false);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

/// One direction of one connection, until it ends.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).unwrap_or(0);
        let cut = state.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = state.mended.wait_while(cut, |cut| *cut).unwrap_or_else(PoisonError::into_inner);
        drop(whole);
        if length == 0 || to.write_all(&bytes[..length]).is_err() {
            // The other direction ends with it.
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A port that nobody listens on: given back a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port")
}
