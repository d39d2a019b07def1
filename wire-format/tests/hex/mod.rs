//! Reads the vector files. Their format is described in `SPEC.md` section 13.

use std::path::Path;

/// Bytes with a name, and what they should mean.
pub struct Vector {
    /// What the bytes are.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What decoding them gives.
    pub expected: Expected,
}

/// What decoding gives.
#[derive(Debug)]
pub enum Expected {
    /// These fields, in this order.
    Fields(Vec<(String, String)>),
    /// This error.
    Error(String),
}

/// The vectors of `vectors/<file>.hex`.
pub fn read(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut vectors = Vec::new();
    for block in text.split("\n\n") {
        let lines: Vec<_> = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        if !lines.is_empty() {
            vectors.push(vector(file, &lines));
        }
    }
    assert!(!vectors.is_empty(), "{file}: no vectors");
    vectors
}

fn vector(file: &str, lines: &[&str]) -> Vector {
    let (mut name, mut hex, mut fields, mut error) = (None, None::<String>, Vec::new(), None);
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "name" => name = Some(rest.to_owned()),
            "hex" => hex.get_or_insert_default().push_str(rest.split('#').next().unwrap_or_default()),
            "field" => {
                let (field, value) =
                    rest.split_once(' ').unwrap_or_else(|| panic!("{file}: a field has a value: {line}"));
                fields.push((field.to_owned(), value.to_owned()));
            }
            "error" => error = Some(rest.to_owned()),
            _ => panic!("{file}: what is this line: {line}"),
        }
    }
    let name = name.unwrap_or_else(|| panic!("{file}: a vector without name: {lines:?}"));
    let hex = hex.unwrap_or_else(|| panic!("{file}: {name}: without hex"));
    let expected = match error {
        Some(error) if fields.is_empty() => Expected::Error(error),
        Some(_) => panic!("{file}: {name}: fields or an error, not both"),
        None if fields.is_empty() => panic!("{file}: {name}: neither fields nor an error"),
        None => Expected::Fields(fields),
    };
    Vector { name, bytes: bytes_of(&hex), expected }
}

/// Bytes of hex digits; spaces do not count.
pub fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).unwrap_or_else(|| panic!("no hex digit: {digit}")) as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {hex}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
