//! Kills a process that ingests video at random moments: each fragment acknowledged as persisted is there, and unchanged: L1.
//!
//! `STREAMLOG_KILLS=100` kills it that often.

use crate::common;
use crate::common::video::mkv;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use common::killed::{kill_each_after, told};
use common::scratch;
use mkv::{Size, TestTrack, cluster, head, simple_block, timecode};
use streamlog::video::{
    AckEvent, FragmentSelector, IngestOptions, StartSelector, Timecodes, VideoStream, VideoStreamOptions,
};

fn rounds() -> u64 {
    std::env::var("STREAMLOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

fn open(path: &Path) -> VideoStream {
    let options =
        VideoStreamOptions::new().stream(|it| it.segment_bytes(1 << 20).record_bytes_max(512 << 10));
    told(options.open(path.join("door")))
}

/// Returns the cluster of a second. Its contents follow from the second.
fn second(at: u64) -> Vec<u8> {
    let frame = |frame: u64| {
        let len = (at * 7_919 + frame * 104_729) % 4_000;
        simple_block(1, frame as i16 * 100, &vec![(at + frame) as u8; len as usize])
    };
    let children = [vec![timecode(at * 1_000)], (0..10).map(frame).collect()].concat();
    cluster(if at.is_multiple_of(3) { Size::Unknown } else { Size::Right }, &children)
}

/// Checks all fragments, and returns the seconds at which they begin.
fn check(stream: &VideoStream) -> Vec<u64> {
    let infos = told(stream.fragments(&FragmentSelector::All));
    for info in &infos {
        let fragment = told(stream.fragment(info.number)).expect("it is listed");
        let at = info.producer_time.as_millis() / 1_000;
        let expected = second(at);
        let payload = |bytes: &[u8]| mkv::read(bytes)[0].payload.to_vec();
        assert_eq!(payload(&fragment.parts().1), payload(&expected), "the fragment of second {at}");
        assert_eq!(info.length, Duration::from_secs(1));
        assert_eq!(info.bytes, fragment.matroska().len() as u64);
    }
    let mut media = told(stream.get_media(StartSelector::Earliest));
    let read = std::iter::from_fn(|| told(media.next_chunk(Duration::ZERO))).map(|chunk| chunk.info);
    assert_eq!(read.collect::<Vec<_>>(), infos);
    infos.iter().map(|info| info.producer_time.as_millis() / 1_000).collect()
}

/// Not a test: the child that the kill test kills. It notes each fragment in a file before it goes on. In its last round it stops by itself.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let stream = open(&path);
    let stored = check(&stream);
    let noted = told(std::fs::read_to_string(path.join("persisted")));
    let noted: Vec<u64> = noted.lines().map(|line| told(line.parse())).collect();
    let missing: Vec<_> = noted.iter().filter(|at| !stored.contains(at)).collect();
    assert!(missing.is_empty(), "persisted, but gone: {missing:?}");
    let mut notes = told(OpenOptions::new().append(true).open(path.join("persisted")));
    let note = move |ack: streamlog::video::Ack| {
        if ack.event == AckEvent::Persisted {
            let at = ack.timecode_ms.expect("a fragment has a timecode") / 1_000;
            told(notes.write_all(format!("{at}\n").as_bytes()));
        }
    };
    let mut ingest = told(stream.ingest(IngestOptions::new().timecodes(Timecodes::Absolute), note));
    told(ingest.write(&head(&[TestTrack::new(1)])));
    let first = stored.last().map_or(0, |at| at + 1);
    let end = if round == rounds() { first + 100 } else { u64::MAX };
    common::killed::note_begun();
    for at in first..end {
        for piece in second(at).chunks(3_001) {
            told(ingest.write(piece));
        }
    }
    told(ingest.finish());
    assert_eq!(check(&stream).len(), stored.len() + 100);
    told(stream.close());
}

#[test]
fn l1_what_was_acknowledged_as_persisted_survives_a_kill() {
    let directory = scratch();
    std::fs::write(directory.path().join("persisted"), "").unwrap();
    kill_each_after(module_path!(), directory.path(), rounds(), |round| {
        Duration::from_millis(10 + round * 173 % 150)
    });
    let stream = open(directory.path());
    let seconds = check(&stream);
    assert_eq!(seconds, (0..seconds.len() as u64).collect::<Vec<_>>(), "each once, and none is missing");
    assert!(seconds.len() > 300, "{} fragments", seconds.len());
}
