//! A wire tap: passes the datagrams of one SFU and its relay, and keeps copies of sealed ones.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire_format::DatagramKind;

/// Copies kept, from the SFU to the relay.
const SAMPLES_MAX: usize = 256;
/// Copies needed.
const SAMPLES_MIN: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the process.
pub struct Tap {
    address: SocketAddr,
    samples: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    pub fn towards(relay: SocketAddr) -> Tap {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let (inside, outside) = (bind(), bind());
        outside.connect(relay).expect("an address");
        let address = inside.local_addr().expect("bound");
        let samples: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (kept, back) = (Arc::clone(&samples), inside.try_clone().expect("a handle"));
        let onwards = outside.try_clone().expect("a handle");
        let dialler: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let caller = Arc::clone(&dialler);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((len, from)) = inside.recv_from(&mut buffer) {
                *caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                // The kernel tells late that nobody listened; then nobody needs to be told.
                let _ = onwards.send(&buffer[..len]);
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if DatagramKind::of(&buffer[..len]) == DatagramKind::Sealed && kept.len() < SAMPLES_MAX {
                    kept.push(buffer[..len].to_vec());
                }
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            loop {
                let Ok(len) = outside.recv(&mut buffer) else {
                    // The relay is gone, or not there yet.
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                if let Some(to) = *dialler.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = back.send_to(&buffer[..len], to);
                }
            }
        });
        Tap { address, samples }
    }

    /// What an SFU dials instead of the relay.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sealed datagrams that have passed. Waits for some.
    pub async fn samples(&self) -> Vec<Vec<u8>> {
        let enough = async {
            loop {
                let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if samples.len() >= SAMPLES_MIN {
                    return samples;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("media passes")
    }
}
