//! Recordings, and their replay. Whatever a file says, it is run or refused, and runs in the same way again.

use fuzz::target;
use wire_format::recording::Recording;

#[test]
fn recording() {
    target!("recording").for_each(|bytes: &[u8]| {
        if let Ok(recording) = Recording::new(bytes) {
            assert!(recording.count() <= bytes.len());
        }
        let first = sim::replay(bytes, None);
        if let Ok(replay) = &first {
            assert!(replay.inputs <= replay.records && !replay.to_string().is_empty());
            assert!(replay.json().is_object());
        }
        assert_eq!(sim::replay(bytes, None), first, "the same inputs give the same outputs");
    });
}
