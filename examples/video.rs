//! Ingests a camera into a video stream while a viewer follows it live, then exports the last minute as an MP4 file.
//!
//! The camera is ffmpeg, with a moving test picture that shows a clock. Each frame carries the system time at which it was made, so the
//! viewer can compute the age of each frame that it receives. A fragment is delivered once it is complete. So its first frame is late by the
//! length of the fragment, and its last one by the cost of the path: encoding, a pipe, the stream, and waking the viewer.
//!
//! ```text
//! cargo run --release --features video --example video
//! cargo run --release --features video --example video -- --seconds 90 --clip minute.mp4
//! ```
//!
//! It needs ffmpeg with libx264: the one that `STREAMLOG_FFMPEG` names, or the one in the `PATH`. At the end it checks that the viewer has seen all
//! fragments in order, and soon enough, and that ffmpeg decodes from the clip as many frames as the viewer has seen of that minute.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use streamlog::video::{
    CodecChanges, FragmentInfo, FragmentSelector, IngestOptions, Ingested, Media, MediaChunk, StartSelector,
    Timecodes, VideoStream,
};
use streamlog::{MINUTE, SECOND, Timestamp};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const FRAMES_A_SECOND: u64 = 25;
/// Each fragment begins with a key frame.
const FRAMES_A_FRAGMENT: u64 = 12;
/// How long the viewer waits before it checks whether the camera has ended.
const WAIT: Duration = Duration::from_millis(100);
/// A viewer that gets half of all fragments later than this is not live. Typical delays are some tens of milliseconds.
const DELAY_MAX: Duration = SECOND;

/// Takes a generated camera into a stream, follows it live, and makes a clip of its last minute.
#[derive(Debug, Parser)]
struct Args {
    /// How long the camera runs, in seconds
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Where to write the clip; into a temporary directory if not given
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let ffmpeg = std::env::var_os("STREAMLOG_FFMPEG").map_or("ffmpeg".into(), PathBuf::from);
    let directory = tempfile::tempdir()?;
    let stream = VideoStream::open(directory.path().join("camera"))?;

    let is_over = AtomicBool::new(false);
    let (ingested, seen) = thread::scope(|scope| {
        let viewer = scope.spawn(|| view(&stream, &is_over));
        let recorded = record(&stream, &ffmpeg, args.seconds);
        // The viewer must end, even if recording has failed.
        is_over.store(true, Ordering::Release);
        let seen = viewer.join().map_err(|_| "the viewer has died")?;
        Ok::<_, Box<dyn Error + Send + Sync>>((recorded?, seen?))
    })?;
    check_view(&stream, &ingested, &seen, args.seconds)?;

    let path = args.clip.unwrap_or_else(|| directory.path().join("minute.mp4"));
    clip(&stream, &ffmpeg, &seen, &path)?;
    Ok(stream.close()?)
}

// ---- The camera ----

/// Ingests what the camera sends until it ends.
fn record(stream: &VideoStream, ffmpeg: &Path, seconds: u64) -> Result<Ingested> {
    let mut camera = start_camera(ffmpeg, seconds)?;
    let video = camera.stdout.take().ok_or("the camera has no output")?;
    let options = IngestOptions::new().timecodes(Timecodes::Absolute).tag("place", "front door");
    // Acknowledgements are for cameras that keep unacknowledged fragments to resend them. This one keeps nothing.
    let ingested = stream.ingest_from(video, options, |_| {});
    // If the stream refuses the video, the camera loses its reader and ends, too.
    let status = camera.wait()?;
    let ingested = ingested?;
    if status.success() { Ok(ingested) } else { Err(format!("the camera failed: {status}").into()) }
}

/// Starts a camera that writes Matroska as it films, and gives each frame the time of day at which it is made.
fn start_camera(ffmpeg: &Path, seconds: u64) -> Result<Child> {
    let source = format!("testsrc2=size=640x360:rate={FRAMES_A_SECOND}:duration={seconds}");
    let fragment = FRAMES_A_FRAGMENT.to_string();
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &source]);
    // `realtime` releases each frame when it is due. Then the frame's time becomes the time of day, in milliseconds.
    command.args(["-vf", "realtime,settb=1/1000,setpts=RTCTIME/1000", "-copyts", "-fps_mode", "passthrough"]);
    command.args([
        "-enc_time_base",
        "1:1000",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
    ]);
    command.args(["-threads", "1", "-pix_fmt", "yuv420p", "-g", &fragment]);
    // A cluster ends at the next key frame, and is sent immediately. Without these limits, it would also end after 32 KiB.
    command.args(["-cluster_time_limit", "20000", "-cluster_size_limit", "40M", "-flush_packets", "1"]);
    command.args(["-f", "matroska", "-live", "1", "pipe:1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
        let ffmpeg = ffmpeg.display();
        format!("{ffmpeg} cannot be started ({error}): install ffmpeg, or set STREAMLOG_FFMPEG to its path")
            .into()
    })
}

// ---- The viewer ----

/// A fragment as the viewer got it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    info: FragmentInfo,
    frame_count: usize,
    /// The ages of the first and the last frame.
    first_age: Duration,
    last_age: Duration,
}

/// Follows the stream from its beginning until the camera has ended.
fn view(stream: &VideoStream, is_over: &AtomicBool) -> Result<Vec<Seen>> {
    let mut media = stream.get_media(StartSelector::Earliest)?;
    let mut all_seen = vec![];
    println!("fragment  frames     bytes  age of its first and last frame when the viewer has them");
    loop {
        // Load the flag before the read, so that the read finds all fragments.
        let is_last_look = is_over.load(Ordering::Acquire);
        match media.next_chunk(WAIT)? {
            Some(chunk) => {
                let seen = look(&chunk, stream.now())?;
                let Seen { info, frame_count, first_age, last_age } = seen;
                all_seen.push(seen);
                let number = all_seen.len();
                let (first, last) = (first_age.as_millis(), last_age.as_millis());
                println!("{number:>8}  {frame_count:>6}  {:>8}  {first:>5} ms, {last:>4} ms", info.bytes);
            }
            None if is_last_look => return Ok(all_seen),
            None => {}
        }
    }
}

/// Parses a fragment, as a player does, and returns the ages of its frames.
fn look(chunk: &MediaChunk, now: Timestamp) -> Result<Seen> {
    let document = chunk.parts.concat();
    let media = Media::parse(&document)?;
    // The producer's time belongs to the timecode that frame times are relative to.
    let age = |time_ns: i64| {
        let behind = Duration::from_nanos(time_ns.saturating_sub(media.timecode_ns).max(0) as u64);
        now.since(chunk.info.producer_time + behind)
    };
    let times = || media.frames.iter().map(|frame| frame.time_ns);
    let (first, last) = times().min().zip(times().max()).ok_or("a fragment without a frame")?;
    let frame_count = media.frames.len();
    Ok(Seen { info: chunk.info, frame_count, first_age: age(first), last_age: age(last) })
}

fn check_view(stream: &VideoStream, ingested: &Ingested, seen: &[Seen], seconds: u64) -> Result<()> {
    let stored = stream.fragments(&FragmentSelector::All)?;
    assert_eq!(stored.len() as u64, ingested.fragment_count);
    let seen_infos: Vec<_> = seen.iter().map(|seen| seen.info).collect();
    assert_eq!(seen_infos, stored, "the viewer has seen all fragments, in order");
    let frame_count: usize = seen.iter().map(|seen| seen.frame_count).sum();
    assert_eq!(frame_count as u64, seconds * FRAMES_A_SECOND, "and all frames of the camera");

    let mut ages: Vec<_> = seen.iter().map(|seen| seen.last_age).collect();
    ages.sort_unstable();
    let (median, max) = ages.get(ages.len() / 2).zip(ages.last()).ok_or("the camera has sent nothing")?;
    println!("{frame_count} frames in {} fragments", seen.len());
    println!(
        "from the last frame of a fragment to the viewer: {median:.1?} for half of them, {max:.1?} at most"
    );
    assert!(*median <= DELAY_MAX, "the viewer is not live");
    Ok(())
}

// ---- The clip ----

/// Writes the last minute, and has ffmpeg decode it.
fn clip(stream: &VideoStream, ffmpeg: &Path, seen: &[Seen], path: &Path) -> Result<()> {
    let end = stream.newest().ok_or("there is no fragment")?.producer_end();
    let minute = FragmentSelector::ProducerTime(end - MINUTE..=end);
    let mut file = BufWriter::new(File::create(path)?);
    stream.clip(&minute, CodecChanges::Describe, &mut file)?;
    drop(file);

    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(["-f", "framecrc", "pipe:1"]);
    let decoded = command.stderr(Stdio::piped()).output()?;
    let complaints = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success() && complaints.is_empty(), "ffmpeg cannot play the clip: {complaints}");
    let frame_lines = String::from_utf8(decoded.stdout)?;
    let decoded_count = frame_lines.lines().filter(|line| !line.starts_with('#')).count();
    let in_minute = seen.iter().filter(|seen| minute.selects(&seen.info));
    assert_eq!(decoded_count, in_minute.map(|seen| seen.frame_count).sum::<usize>());
    let bytes = path.metadata()?.len();
    println!("{}: {bytes} bytes, from which ffmpeg decodes {decoded_count} frames", path.display());
    Ok(())
}
