//! The engine that replays a corpus and goes a little beyond it.

use crate::mutate::{Draws, mutated};
use bolero::bolero_engine::driver::Options;
use bolero::bolero_engine::{input, panic};
use bolero::{Engine, Test};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Mutations of a run without a time of its own.
const MUTATIONS: usize = 2_000;
/// Attempts to make a failing input shorter.
const SHORTENINGS_MAX: usize = 4_000;

/// The corpus of one target.
#[derive(Clone, Debug)]
pub struct Corpus {
    name: &'static str,
    mutations: usize,
}

impl Corpus {
    /// That of `tests/fuzz/corpus/<name>`.
    pub fn of(name: &'static str) -> Corpus {
        Corpus { name, mutations: MUTATIONS }
    }

    fn folder(&self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "corpus", self.name].iter().collect()
    }

    /// Name and content of each file, in the order of names.
    fn inputs(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.folder();
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}: a target has a corpus", folder.display()));
        let mut inputs: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("a file").path();
                let bytes =
                    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes)
            })
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{}: an empty corpus", folder.display());
        inputs
    }

    /// Writes a failing input where the next run finds it first.
    fn keep(&self, bytes: &[u8]) -> String {
        let path = self.folder().join(format!("crash-{:016x}", fnv(bytes)));
        match std::fs::write(&path, bytes) {
            Ok(()) => format!("written to {}: commit it with the fix", path.display()),
            Err(error) => format!("{}: {error}", path.display()),
        }
    }
}

impl<T: Test> Engine<T> for Corpus {
    type Output = ();

    fn run(self, mut test: T, options: Options) {
        let inputs = self.inputs();
        panic::set_hook();
        panic::forward_panic(false);
        for (file, bytes) in &inputs {
            if let Err(error) = fails(&mut test, bytes, &options) {
                panic::forward_panic(true);
                panic!("corpus/{}/{file}: {error}\n{}", self.name, hex(bytes));
            }
        }
        let seeds: Vec<_> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
        let seed = setting("CASCADE_FUZZ_SEED").unwrap_or(0);
        let mut draws = Draws::new(fnv(self.name.as_bytes()) ^ seed);
        let time = setting("CASCADE_FUZZ_SECONDS").map(Duration::from_secs);
        let begun = Instant::now();
        let mut count = 0_usize;
        while time.map_or(count < self.mutations, |time| begun.elapsed() < time) {
            count += 1;
            let bytes = mutated(&seeds, &mut draws);
            if let Err(error) = fails(&mut test, &bytes, &options) {
                let bytes = shortened(&mut test, bytes, &options);
                let kept = if time.is_some() { self.keep(&bytes) } else { String::new() };
                panic::forward_panic(true);
                panic!("{} mutation {count} of seed {seed}: {error}\n{}\n{kept}", self.name, hex(&bytes));
            }
        }
        panic::forward_panic(true);
    }
}

fn fails<T: Test>(test: &mut T, bytes: &[u8], options: &Options) -> Result<(), panic::PanicError> {
    test.test(&mut input::Bytes::new(bytes, options)).map(|_| ())
}

/// Leaves out whatever is not needed to fail, large pieces first.
fn shortened<T: Test>(test: &mut T, mut bytes: Vec<u8>, options: &Options) -> Vec<u8> {
    let mut attempts = 0;
    let mut piece = bytes.len() / 2;
    while piece > 0 && attempts < SHORTENINGS_MAX {
        let mut at = 0;
        while at < bytes.len() && attempts < SHORTENINGS_MAX {
            attempts += 1;
            let mut shorter = bytes.clone();
            drop(shorter.drain(at..(at + piece).min(bytes.len())));
            if fails(test, &shorter, options).is_err() {
                bytes = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    bytes
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}: a whole number is expected")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bolero::TestTarget;

    /// A parser with a hole: eats everything but a long input with a certain byte.
    fn fragile(bytes: &[u8]) {
        assert!(bytes.len() < 20 || !bytes.contains(&0x2A), "fell into the hole");
    }

    #[test]
    fn a_failing_input_is_found_shortened_and_shown() {
        let outcome = std::panic::catch_unwind(|| {
            TestTarget::new(Corpus::of("engine")).for_each(fragile);
        });
        let said = *outcome.expect_err("found").downcast::<String>().expect("a text");
        assert!(said.contains("fell into the hole"), "{said}");
        let shown = said.lines().find(|line| line.len() == 40).expect("20 bytes of hex, no more");
        assert!(shown.contains("2a"), "{said}");
    }

    #[test]
    fn an_input_of_the_corpus_that_fails_is_named() {
        let outcome = std::panic::catch_unwind(|| {
            TestTarget::new(Corpus::of("engine"))
                .for_each(|bytes: &[u8]| assert!(!bytes.starts_with(b"plain"), "no plain text"));
        });
        let said = *outcome.expect_err("found").downcast::<String>().expect("a text");
        assert!(said.contains("corpus/engine/plain") && said.contains("no plain text"), "{said}");
    }
}
