//! Measured networks, found through the environment.

use std::io::Write as _;
use std::path::PathBuf;

/// A matrix of round trips in milliseconds, as it stands in its file; `None`, and a loud word, where there is none.
#[allow(clippy::disallowed_methods, reason = "no core: a test that finds its data through the environment")]
pub fn rtt(name: &str) -> Option<String> {
    let folder = std::env::var_os("CASCADE_DATA").map(|data| PathBuf::from(data).join("rtt"));
    let Some(file) = folder.map(|folder| folder.join(name)).filter(|file| file.is_file()) else {
        tell(&format!("SKIPPED: CASCADE_DATA names no folder with rtt/{name} in it"));
        return None;
    };
    Some(std::fs::read_to_string(file).expect("readable"))
}

/// Says what is worth reading in the log of a test.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
