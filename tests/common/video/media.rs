//! Media from ffmpeg, and what ffmpeg finds in media.
//!
//! The path of an ffmpeg with libx264, libx265 and its AAC is in `STREAMLOG_FFMPEG`. The one in the Python package `imageio-ffmpeg` serves.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Returns the ffmpeg to test with. Without one, prints a line.
pub(crate) fn ffmpeg() -> Option<Ffmpeg> {
    let program = std::env::var_os("STREAMLOG_FFMPEG").map(PathBuf::from);
    if program.is_none() {
        println!("not tested: set STREAMLOG_FFMPEG to the path of an ffmpeg");
    }
    program.map(|program| Ffmpeg { program })
}

pub(crate) struct Ffmpeg {
    program: PathBuf,
}

/// The generated media: a moving test picture, and a tone.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) seconds: u32,
    pub(crate) video: Option<&'static [&'static str]>,
    pub(crate) frame_rate: u32,
    /// The length of a fragment: there is a key frame at the beginning of each, and nowhere else.
    pub(crate) fragment_seconds: u32,
    pub(crate) audio: Option<&'static [&'static str]>,
    pub(crate) sample_rate: u32,
    pub(crate) size: &'static str,
    /// Options between the encoders and the output, such as `-live 1`.
    pub(crate) more: &'static [&'static str],
}

pub(crate) const H264: &[&str] = &["-c:v", "libx264", "-bf", "3", "-preset", "veryfast"];
pub(crate) const H264_NO_B: &[&str] = &["-c:v", "libx264", "-bf", "0", "-preset", "ultrafast"];
pub(crate) const H265: &[&str] =
    &["-c:v", "libx265", "-preset", "ultrafast", "-bf", "4", "-x265-params", "log-level=none:b-adapt=2"];
pub(crate) const MJPEG: &[&str] = &["-c:v", "mjpeg"];
pub(crate) const VP9: &[&str] = &["-c:v", "libvpx-vp9", "-cpu-used", "8"];
pub(crate) const AAC: &[&str] = &["-c:a", "aac", "-b:a", "64k"];
pub(crate) const PCM: &[&str] = &["-c:a", "pcm_s16le"];
pub(crate) const MU_LAW: &[&str] = &["-c:a", "pcm_mulaw"];
pub(crate) const A_LAW: &[&str] = &["-c:a", "pcm_alaw"];

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seconds: 4,
            video: Some(H264),
            frame_rate: 25,
            fragment_seconds: 1,
            audio: None,
            sample_rate: 48_000,
            size: "192x108",
            more: &[],
        }
    }
}

impl Recipe {
    /// Returns the Matroska file.
    pub(crate) fn generate(&self, ffmpeg: &Ffmpeg) -> Vec<u8> {
        let Self { seconds, frame_rate, fragment_seconds, sample_rate, size, .. } = self;
        let mut arguments: Vec<String> = vec![];
        if self.video.is_some() {
            let source = format!("testsrc2=size={size}:rate={frame_rate}:duration={seconds}");
            arguments.extend(["-f", "lavfi", "-i", &source].map(str::to_owned));
        }
        if self.audio.is_some() {
            let source =
                format!("sine=frequency=440:beep_factor=4:sample_rate={sample_rate}:duration={seconds}");
            arguments.extend(["-f", "lavfi", "-i", &source].map(str::to_owned));
        }
        let mut add = |more: &[&str]| arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        add(self.video.unwrap_or_default());
        add(self.audio.unwrap_or_default());
        let keys = format!("expr:gte(t,n_forced*{fragment_seconds})");
        add(&["-g", "100000", "-sc_threshold", "0", "-force_key_frames", &keys, "-pix_fmt", "yuv420p"]);
        // A cluster begins with each key frame, and with nothing else.
        add(&["-cluster_time_limit", "600000", "-cluster_size_limit", "100000000"]);
        add(self.more);
        add(&["-f", "matroska", "pipe:1"]);
        let arguments: Vec<_> = arguments.iter().map(|argument| &**argument).collect();
        ffmpeg.run_leniently(&arguments, &[]).0
    }
}

/// A packet, or a picture, or a piece of sound.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// When it is presented.
    pub(crate) micros: i64,
    pub(crate) duration_micros: i64,
    pub(crate) bytes: usize,
    /// The MD5 of its bytes.
    pub(crate) hash: String,
}

impl Ffmpeg {
    /// Runs ffmpeg, and returns its output. It must not complain.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let (output, complaints) = self.run_leniently(arguments, input);
        assert!(complaints.is_empty(), "{arguments:?}: {complaints}");
        output
    }

    /// Runs ffmpeg, and returns its output and its complaints.
    pub(crate) fn run_leniently(&self, arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
        let mut command = Command::new(&self.program);
        command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-threads", "2"]).args(arguments);
        if input.is_empty() {
            command.stdin(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("an ffmpeg");
        let stdin = child.stdin.take();
        let (input, output) = (input.to_vec(), std::thread::spawn(move || child.wait_with_output()));
        if let Some(mut stdin) = stdin {
            // It may end before it has read all.
            let _ = stdin.write_all(&input);
        }
        let output = output.join().expect("no panic").expect("its output");
        // Telephone codecs do not specify a channel layout.
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        let complaints = complaints.lines().filter(|line| !line.contains("Guessed Channel Layout"));
        let complaints = complaints.collect::<Vec<_>>().join("\n");
        assert!(output.status.success(), "{arguments:?}: {complaints}");
        (output.stdout, complaints)
    }

    /// Returns the packets of a stream (`v:0`, `a:0`) in one of our files, unchanged. ffmpeg must not complain.
    pub(crate) fn packets(&self, media: &[u8], stream: &str) -> Vec<Found> {
        let (found, complaints) = self.hashes(media, stream, COPIED);
        assert!(complaints.is_empty(), "{complaints}");
        found
    }

    /// Returns the decoded pictures or pieces of sound of a stream in one of our files. ffmpeg must not complain.
    pub(crate) fn decoded(&self, media: &[u8], stream: &str) -> Vec<Found> {
        let (found, complaints) = self.hashes(media, stream, DECODED);
        assert!(complaints.is_empty(), "{complaints}");
        found
    }

    /// The same, without scaling pictures whose size changes within the stream.
    pub(crate) fn decoded_as_is(&self, media: &[u8], stream: &str) -> Vec<Found> {
        self.hashes(media, stream, &[DECODED, &["-noautoscale"]].concat()).0
    }

    /// Decodes bytes without a container.
    pub(crate) fn decoded_alone(&self, bytes: &[u8], format: &str) -> Vec<Found> {
        let file = TemporaryFile::new(bytes);
        let arguments = ["-f", format, "-i", file.path(), "-map", "0:v:0"];
        self.list(&[&arguments[..], DECODED].concat()).0
    }

    /// Returns the packets of a Matroska stream. ffmpeg may complain about missing decoding times.
    pub(crate) fn source_packets(&self, media: &[u8], stream: &str) -> Vec<Found> {
        self.hashes(media, stream, COPIED).0
    }

    /// Returns the decoded pictures or pieces of sound of a Matroska stream.
    pub(crate) fn source_decoded(&self, media: &[u8], stream: &str) -> Vec<Found> {
        self.hashes(media, stream, DECODED).0
    }

    /// Returns all the sound of a stream, decoded.
    pub(crate) fn sound(&self, media: &[u8], format: &str) -> Vec<u8> {
        let file = TemporaryFile::new(media);
        self.run(&["-i", file.path(), "-map", "0:a:0", "-f", format, "pipe:1"], &[])
    }

    fn hashes(&self, media: &[u8], stream: &str, how: &[&str]) -> (Vec<Found>, String) {
        let file = TemporaryFile::new(media);
        let map = format!("0:{stream}");
        let mut arguments = vec!["-copyts", "-i", file.path(), "-map", &map];
        arguments.extend(how);
        self.list(&arguments)
    }

    fn list(&self, arguments: &[&str]) -> (Vec<Found>, String) {
        let arguments = [arguments, &["-f", "framehash", "-hash", "md5", "pipe:1"]].concat();
        let (listing, complaints) = self.run_leniently(&arguments, &[]);
        let listing = String::from_utf8(listing).expect("text");
        let base = listing.lines().find_map(|line| line.strip_prefix("#tb 0: ")).expect("a time base");
        let (numerator, denominator) = base.split_once('/').expect("a fraction");
        let number = |text: &str| text.trim().parse::<i64>().expect("a number");
        let micros = |text: &str| {
            let exact = i128::from(number(text)) * i128::from(number(numerator)) * 1_000_000;
            let denominator = i128::from(number(denominator));
            (exact + denominator / 2).div_euclid(denominator) as i64
        };
        let lines = listing.lines().filter(|line| !line.starts_with('#'));
        let found = lines.map(|line| {
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            Found {
                micros: micros(fields[2]),
                duration_micros: micros(fields[3]),
                bytes: number(fields[4]) as usize,
                hash: fields[5].to_owned(),
            }
        });
        (found.collect(), complaints)
    }
}

const COPIED: &[&str] = &["-c", "copy"];
const DECODED: &[&str] = &["-fps_mode", "passthrough", "-enc_time_base", "demux"];

/// A file for ffmpeg to seek in.
struct TemporaryFile {
    path: String,
    _directory: tempfile::TempDir,
}

impl TemporaryFile {
    fn new(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("media");
        std::fs::write(&path, content).expect("a file");
        Self { path: path.to_str().expect("a path of text").to_owned(), _directory: directory }
    }

    fn path(&self) -> &str {
        &self.path
    }
}

/// An EBML element: its identifier, its whole range, and where its data begins.
fn element(bytes: &[u8], at: usize) -> (u32, usize, Option<usize>) {
    let id_length = bytes[at].leading_zeros() as usize + 1;
    let id = bytes[at..at + id_length].iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
    let size_at = at + id_length;
    let size_length = bytes[size_at].leading_zeros() as usize + 1;
    let ones = (1_u64 << (7 * size_length)) - 1;
    let size =
        bytes[size_at..size_at + size_length].iter().fold(0, |size, &byte| size << 8 | u64::from(byte))
            & ones;
    (id, size_at + size_length, (size != ones).then_some(size as usize))
}

/// Splits a file as ffmpeg writes it into fragments: each a whole file with one cluster.
pub(crate) fn cut(file: &[u8]) -> Vec<Vec<u8>> {
    let (_, data, size) = element(file, 0);
    let segment = data + size.expect("a header of known size");
    let (_, first, _) = element(file, segment);
    let mut head = file[..segment].to_vec();
    head.extend_from_slice(&[0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    let mut fragments = vec![];
    let mut at = first;
    while at < file.len() {
        let (id, data, size) = element(file, at);
        let end = data + size.expect("elements of known size");
        match id {
            0x1549_A966 | 0x1654_AE6B => head.extend_from_slice(&file[at..end]),
            0x1F43_B675 => fragments.push([&head, &file[at..end]].concat()),
            _ => {}
        }
        at = end;
    }
    fragments
}
