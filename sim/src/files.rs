//! Files that scenarios name: beside the scenario, or in the folder of measured data.

use std::io::{Error, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Names the folder of measured data, laid out as rtt/, loss/, topo/.
pub const DATA: &str = "CASCADE_DATA";
/// What a compressed file may become.
const BYTES_MAX: u64 = 256 << 20;

/// The text of a file that a scenario in `folder` names; what ends in `.xz` is unpacked.
///
/// # Errors
/// If it lies neither there nor in the folder of measured data; the message says where it was looked for.
pub fn read_named(folder: &Path, name: &str) -> std::io::Result<String> {
    let data = std::env::var_os(DATA).map(PathBuf::from);
    let places = [Some(folder.join(name)), data.as_ref().map(|data| data.join(name))];
    let found = places.into_iter().flatten().find(|place| place.is_file());
    let Some(path) = found else {
        let advice = match data {
            Some(data) => format!("it is neither beside the scenario nor in {}", data.display()),
            None => {
                format!("it is not beside the scenario; if it is measured data, set {DATA} to its folder")
            }
        };
        return Err(Error::new(ErrorKind::NotFound, advice));
    };
    if path.extension().is_none_or(|extension| extension != "xz") {
        return std::fs::read_to_string(path);
    }
    let packed = std::io::BufReader::new(std::fs::File::open(path)?);
    let mut text = String::new();
    let mut unpacked = lzma_rust2::XzReader::new(packed, false).take(BYTES_MAX + 1);
    unpacked.read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("more than {BYTES_MAX} bytes when unpacked")));
    }
    Ok(text)
}
