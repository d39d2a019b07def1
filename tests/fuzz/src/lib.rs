//! What fuzz targets share: a corpus of inputs that mattered, and an engine of bolero that replays it.
//!
//! A target is an ordinary test that begins with [`target!`]. Under `cargo nextest run` it meets every file of its
//! corpus, and some thousand mutations of them that are the same on every run: a test that is green today is green
//! tomorrow. Two ways lead further:
//!
//! ```text
//! CASCADE_FUZZ_SECONDS=60 cargo test -p fuzz --release -- media_header         # mutations for a minute
//! cargo bolero test -p fuzz wire::media_header --sanitizer NONE \
//!     --corpus-dir tests/fuzz/corpus/media-header                              # guided by coverage, until stopped
//! ```
//!
//! `CASCADE_FUZZ_SEED=N` draws other mutations. What fails is made shorter, printed, and, in a run by time, written to the
//! corpus: commit it with the fix. The second command needs `cargo install cargo-bolero`; it too works on the stable
//! toolchain, and adds what reaches new code to the corpus.
//!
//! Targets of what only a crate itself can see (sealing, client tokens) stand in that crate, beside what they test.

mod corpus;
mod mutate;

pub use bolero;
pub use corpus::Corpus;

/// Begins a fuzz target of the name of its corpus: `target!("rtp").for_each(|bytes: &[u8]| ...)`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {{
        #[cfg(fuzzing)]
        let target = $crate::bolero::check!(name = $name);
        #[cfg(not(fuzzing))]
        let target = $crate::bolero::TestTarget::new($crate::Corpus::of($name));
        target
    }};
}
