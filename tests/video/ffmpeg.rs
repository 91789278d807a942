//! Real video: media from ffmpeg is ingested, and the output has the same pictures and sound at the same times, as ffmpeg reads it.
//!
//! The path of an ffmpeg is in `STREAMLOG_FFMPEG`; without it, the tests print a line and pass.

use crate::common;
use crate::common::video::media;

use std::io::Read;
use std::time::Duration;

use common::scratch;
use media::{Ffmpeg, Found, Recipe};
use streamlog::Timestamp;
use streamlog::video::{FragmentInfo, FragmentSelector, IngestOptions, StartSelector, VideoStream};

/// The time that the producer's timecodes count from.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn recipes() -> Vec<(&'static str, Recipe)> {
    let video = |video| Recipe { video: Some(video), ..Recipe::default() };
    let live = &["-live", "1"];
    vec![
        ("H.264 with B frames", video(media::H264)),
        ("H.265, and AAC, live", Recipe { audio: Some(media::AAC), more: live, ..video(media::H265) }),
        (
            "H.264 in fragments of 10 s, and G.711",
            Recipe {
                seconds: 20,
                fragment_seconds: 10,
                audio: Some(media::MU_LAW),
                sample_rate: 8_000,
                ..video(media::H264_NO_B)
            },
        ),
        // No decoding times, and no default duration.
        (
            "H.264 at a variable rate",
            Recipe {
                more: &["-vf", "select='lt(mod(n,7),4)'", "-fps_mode", "vfr", "-live", "1"],
                ..video(media::H264_NO_B)
            },
        ),
        ("MJPEG", video(media::MJPEG)),
    ]
}

/// Ingests a file in pieces of an odd size.
fn ingest(stream: &VideoStream, file: &[u8]) -> Vec<FragmentInfo> {
    // A file may end with some sound that has no picture.
    let options = IngestOptions::new().producer_start(START).sparse_tracks();
    let mut ingest = stream.ingest(options, |_| {}).unwrap();
    file.chunks(4_099).for_each(|piece| ingest.write(piece).unwrap());
    ingest.finish().unwrap();
    stream.fragments(&FragmentSelector::All).unwrap()
}

fn streams(recipe: &Recipe) -> impl Iterator<Item = &'static str> {
    [recipe.video.map(|_| "v:0"), recipe.audio.map(|_| "a:0")].into_iter().flatten()
}

/// Compares results, except for durations: that of a track's last packet depends on where the data ends.
#[track_caller]
fn assert_same(found: &[Found], expected: &[Found], what: &str) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let of = |it: &Found| (it.micros, it.bytes, it.hash.clone());
        assert_eq!(of(found), of(expected), "{what}: the {at}th");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn check(ffmpeg: &Ffmpeg, what: &str, recipe: &Recipe) {
    let directory = scratch();
    let stream = VideoStream::open(directory.path().join("door")).unwrap();
    let file = recipe.generate(ffmpeg);
    let infos = ingest(&stream, &file);
    assert!(
        infos.len() as u32 >= recipe.seconds / recipe.fragment_seconds,
        "{what}: {} fragments",
        infos.len()
    );

    let mut read = vec![];
    stream.get_media(StartSelector::Earliest).unwrap().without_waiting().read_to_end(&mut read).unwrap();
    for of in streams(recipe) {
        let packets = ffmpeg.source_packets(&file, of);
        assert!(packets.len() > 10, "{what}, {of}: {} packets", packets.len());
        let viewed = ffmpeg.source_packets(&read, of);
        assert_same(&viewed, &packets, &format!("{what}, {of}: what a viewer gets"));
        let decoded = ffmpeg.source_decoded(&read, of);
        assert_same(&decoded, &ffmpeg.source_decoded(&file, of), &format!("{what}, {of}: decoded"));
        // Each fragment by itself has the same packets. ffmpeg changes the times of those that are shown before the first one.
        let fragments = infos.iter().flat_map(|info| {
            let fragment = stream.fragment(info.number).unwrap().unwrap();
            ffmpeg.source_packets(fragment.matroska(), of)
        });
        let hashes: Vec<_> = fragments.map(|found| found.hash).collect();
        assert!(hashes.iter().eq(packets.iter().map(|packet| &packet.hash)), "{what}, {of}: one by one");
    }
    // Where a fragment begins and how long it plays, by its pictures.
    if recipe.audio.is_none() {
        let times: Vec<_> = ffmpeg.source_packets(&file, "v:0").iter().map(|packet| packet.micros).collect();
        for (info, next) in infos.iter().zip(infos.iter().skip(1)) {
            let first = info.producer_time.as_micros() as i64 - START.as_micros() as i64;
            assert!(times.contains(&first), "{what}: {first} us");
            // The last picture is as long as the one before it, or as the rate says: not always until the next one.
            let end = info.producer_end();
            let gap = next.producer_time.as_micros().abs_diff(end.as_micros());
            assert!(gap <= 160_000, "{what}: it ends {gap} us from where the next begins");
        }
    }
    stream.close().unwrap();
}

#[test]
fn what_comes_out_has_the_same_pictures_at_the_same_times() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (what, recipe) in recipes() {
        check(&ffmpeg, what, &recipe);
    }
}

#[test]
fn what_ffmpeg_sends_to_a_pipe_is_a_file_that_is_sent_live() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let directory = scratch();
    let stream = VideoStream::open(directory.path().join("door")).unwrap();
    let camera = Recipe { fragment_seconds: 2, seconds: 6, more: &["-live", "1"], ..Recipe::default() };
    let infos = ingest(&stream, &camera.generate(&ffmpeg));
    let lengths: Vec<_> = infos.iter().map(|info| info.length).collect();
    assert_eq!(lengths, [Duration::from_secs(2); 3]);
    let starts: Vec<_> = infos.iter().map(|info| info.producer_time.since(START)).collect();
    assert_eq!(starts, [0, 2, 4].map(Duration::from_secs));
}
