//! Any bytes as the input from a camera, in one piece and in several; stored fragments, sent again, must be stored identically.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use streamlog::video::{
    AckErrorId, FragmentNumber, IngestOptions, VideoError, VideoStream, VideoStreamOptions,
};
use streamlog::{Maintenance, Timestamp};
use tempfile::TempDir;

/// A stream that keeps only the newest fragments, however many inputs arrive.
static STREAM: LazyLock<(TempDir, VideoStream)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let options = VideoStreamOptions::new().data_retention(Duration::ZERO).maintenance(Maintenance::Manual);
    let options = options.stream(|options| options.segment_bytes(16 << 20).record_bytes_max(1 << 20));
    let stream = options.open(directory.path().join("door")).expect("a stream");
    (directory, stream)
});

/// The fragments stored from an input, with their lengths, and how the ingest ended.
type Outcome = (Vec<(Vec<u8>, Duration)>, Option<AckErrorId>);

fn ingest(data: &[u8], piece_bytes: usize) -> Outcome {
    let stream = &STREAM.1;
    let before = stream.newest().map(|info| info.number);
    let options = IngestOptions::new().producer_start(Timestamp::default()).sparse_tracks();
    let mut ingest = stream.ingest(options, |_| {}).expect("nobody else sends");
    let written = data.chunks(piece_bytes).try_for_each(|piece| ingest.write(piece));
    let ended = written.and_then(|()| ingest.finish().map(drop));
    let is_new = |number: FragmentNumber| before.is_none_or(|before| number > before);
    let new = stream.newest_fragments(1_000).into_iter().filter(|info| is_new(info.number));
    let stored = new.map(|info| {
        let fragment = stream.fragment(info.number).expect("it can be read").expect("it is there");
        (fragment.matroska().to_vec(), info.length)
    });
    let stored = stored.collect();
    let id = |error: VideoError| error.error_id().expect("a refusal has an id");
    (stored, ended.err().map(id))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (piece_bytes, data) = input;
    let whole = ingest(data, usize::MAX);
    assert_eq!(ingest(data, usize::from(piece_bytes).max(1)), whole);
    for stored in whole.0 {
        assert_eq!(ingest(&stored.0, usize::MAX), (vec![stored], None));
    }
    STREAM.1.maintain().expect("maintenance");
});
