//! Video: ingesting a gigabyte, compared with copying the same file; 50 live viewers on one thread; and opening, listing and making a
//! playlist of a day of fragments.
//!
//! `cargo bench --features video --bench video -- [DIRECTORY] [--only-day]`; the directory should be on the disk to measure. The figures are medians over the
//! rounds, which take turns.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamlog::video::{
    FragmentSelector, HlsLink, HlsOptions, IngestOptions, PlaybackMode, StartSelector, VideoStream,
    VideoStreamOptions,
};
use streamlog::{DAY, Maintenance, ManualClock, Timestamp};

const ROUNDS: usize = 5;
const FILE_BYTES: u64 = 1 << 30;
const VIEWERS: usize = 50;
const DAY_SECONDS: u64 = 86_400;

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    if std::env::args().all(|arg| arg != "--only-day") {
        ingest(scratch.path());
        viewers(scratch.path());
    }
    day(scratch.path());
}

fn element(id: u32, payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0);
    id.chain((payload.len() as u64 | 1 << 56).to_be_bytes()).chain(payload.iter().copied()).collect()
}

/// The configuration of a decoder of H.264, 640 x 360, as x264 writes it.
const CONFIGURATION: [u8; 50] = [
    0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x23, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5,
    0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xc9, 0x92, 0x00, 0x03, 0xd0, 0x90,
    0x00, 0x7a, 0x13, 0x92, 0x48, 0x01, 0xe2, 0xc5, 0xd4, 0x01, 0x00, 0x04, 0x68, 0xce, 0x3c, 0x80,
];

fn head() -> Vec<u8> {
    let segment = [0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255].to_vec();
    let codec = [element(0x86, b"V_MPEG4/ISO/AVC"), element(0x63A2, &CONFIGURATION)].concat();
    let track = element(0xAE, &[element(0xD7, &[1]), element(0x83, &[1]), codec].concat());
    [element(0x1A45_DFA3, &[]), segment, element(0x1654_AE6B, &track)].concat()
}

/// A cluster with 25 frames a second, the first one larger, with this many bytes in total.
fn cluster(at_ms: u64, seconds: u64, bytes: usize) -> Vec<u8> {
    let count = 25 * seconds as usize;
    let mut children = element(0xE7, &at_ms.to_be_bytes());
    for frame in 0..count {
        let len = if frame == 0 { bytes / 5 } else { bytes * 4 / 5 / (count - 1) };
        let relative = (frame * 40) as i16;
        let mut block = vec![0x81, (relative >> 8) as u8, relative as u8, 0x80];
        // Does not compress, and no page contains only zeros.
        block.extend((0..len).map(|byte| (byte * 31 + frame) as u8));
        children.extend(element(0xA3, &block));
    }
    element(0x1F43_B675, &children)
}

/// Returns the median times of two kinds of work, measured in turns.
fn medians(first: impl Fn() -> Duration, second: impl Fn() -> Duration) -> [Duration; 2] {
    let mut times = [vec![], vec![]];
    for _ in 0..ROUNDS {
        times[0].push(first());
        times[1].push(second());
    }
    times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    })
}

fn ingest(scratch: &Path) {
    let path = scratch.join("camera.mkv");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).expect("a file"));
    file.write_all(&head()).expect("written");
    // 8 Mbit/s.
    let cluster_bytes = 2_000_000;
    for second in (0..FILE_BYTES / cluster_bytes * 2).step_by(2) {
        file.write_all(&cluster(second * 1_000, 2, cluster_bytes as usize)).expect("written");
    }
    file.into_inner().expect("written").sync_all().expect("synced");
    let bytes = fs::metadata(&path).expect("it is there").len();
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;

    let copy = || {
        let target = scratch.join("copy.mkv");
        let begin = Instant::now();
        // Copies through memory, like a program that inspects the data.
        let (mut from, mut to) = (File::open(&path).expect("a file"), File::create(&target).expect("a file"));
        let mut piece = vec![0; 256 << 10];
        loop {
            match from.read(&mut piece).expect("read") {
                0 => break,
                len => to.write_all(&piece[..len]).expect("written"),
            }
        }
        let time = begin.elapsed();
        fs::remove_file(&target).expect("removed");
        time
    };
    let store = || {
        let target = scratch.join("stream");
        let stream = VideoStream::open(&target).expect("a stream");
        let begin = Instant::now();
        let from = File::open(&path).expect("a file");
        stream.ingest_from(from, IngestOptions::new(), |_| {}).expect("ingested");
        let time = begin.elapsed();
        drop(stream);
        fs::remove_dir_all(&target).expect("removed");
        time
    };
    let [copied, stored] = medians(copy, store);
    println!("| {} MB of Matroska | MB/s |", bytes / 1_000_000);
    println!("|---|---|");
    println!("| copied | {:.0} |", rate(copied));
    println!("| ingested | {:.0}, {:.2} of that |", rate(stored), rate(stored) / rate(copied));
    fs::remove_file(&path).expect("removed");
}

/// Discards what is written, and counts it.
fn viewers(scratch: &Path) {
    let target = scratch.join("stream");
    let stream = VideoStream::open(&target).expect("a stream");
    let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).expect("an ingest");
    ingest.write(&head()).expect("taken");
    let media = || stream.get_media(StartSelector::Now).expect("a viewer").without_waiting();
    let mut viewers: Vec<_> = (0..VIEWERS).map(|_| media()).collect();
    let (mut busy, seconds) = (Duration::ZERO, 60);
    for second in 0..seconds {
        ingest.write(&cluster(second * 1_000, 1, 1_000_000)).expect("taken");
        let begin = Instant::now();
        for viewer in &mut viewers {
            io::copy(viewer, &mut io::sink()).expect("read");
        }
        busy += begin.elapsed();
    }
    let share = busy.as_secs_f64() / seconds as f64;
    println!("\n{VIEWERS} live viewers of 8 Mbit/s take {:.2} % of one thread", 100.0 * share);
    drop((ingest, viewers));
    stream.close().expect("closed");
    fs::remove_dir_all(&target).expect("removed");
}

fn day(scratch: &Path) {
    let target = scratch.join("stream");
    let start = Timestamp::from_millis(1_700_000_000_000);
    let clock = Arc::new(ManualClock::new(start));
    let open = || {
        let options = VideoStreamOptions::new().data_retention(30 * DAY).maintenance(Maintenance::Manual);
        options.clock(clock.clone()).open(&target).expect("a stream")
    };
    let stream = open();
    let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).expect("an ingest");
    ingest.write(&head()).expect("taken");
    for second in 0..DAY_SECONDS {
        ingest.write(&cluster(second * 1_000, 1, 20_000)).expect("taken");
        clock.advance(Duration::from_secs(1));
    }
    ingest.finish().expect("finished");
    stream.close().expect("closed");
    let [opened, listed] = medians(
        || {
            let begin = Instant::now();
            drop(open());
            begin.elapsed()
        },
        || {
            let stream = open();
            let begin = Instant::now();
            let fragments = stream.fragments(&FragmentSelector::All).expect("a list");
            assert_eq!(fragments.len() as u64, DAY_SECONDS);
            begin.elapsed()
        },
    );
    println!("\na day of fragments of a second: opened in {opened:.1?}, listed in {listed:.1?}");
    let stream = open();
    let mode = PlaybackMode::OnDemand { from: start, to: start + DAY };
    let link = |link: HlsLink| match link {
        HlsLink::Fragment { fragment, .. } => format!("fragment/{fragment}"),
        _ => "other".to_owned(),
    };
    let playlist = || {
        let begin = Instant::now();
        let session = stream.hls(HlsOptions::new().mode(mode).fragments_max(100_000)).expect("a session");
        let playlist = session.media_playlist(link).expect("a playlist");
        assert_eq!(playlist.matches("#EXTINF").count() as u64, DAY_SECONDS);
        begin.elapsed()
    };
    let [first, again] = medians(playlist, playlist);
    println!("the playlist of that day, of a session that begins with it: {:.1?}", first.max(again));
    drop(stream);
    fs::remove_dir_all(&target).expect("removed");
}
