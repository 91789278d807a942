//! What ffmpeg decodes from fragments, segments and clips is what went in: the same frames, at the same times.
#![cfg(feature = "video")]

#[path = "video/media.rs"]
mod media;

use md5::{Digest, Md5};
use media::{AAC, Ffmpeg, Found, H264_NO_B, H265, MJPEG, MU_LAW, PCM, Recipe, VP9};
use streamlog::video::{
    CodecChanges, Media, PlacedMedia, SegmentPlace, TrackKind, VideoError, clip, fmp4_init, fmp4_segment,
    ts_segment,
};

fn recipes() -> Vec<(&'static str, Recipe)> {
    let base = Recipe::default();
    vec![
        ("H.264", base.clone()),
        ("H.264 without B frames", Recipe { video: Some(H264_NO_B), ..base.clone() }),
        ("H.264 and AAC", Recipe { audio: Some(AAC), ..base.clone() }),
        ("H.264 and AAC, live", Recipe { audio: Some(AAC), more: &["-live", "1"], ..base.clone() }),
        (
            "H.264 and AAC of 44.1 kHz, 30 a second",
            Recipe { audio: Some(AAC), sample_rate: 44_100, frame_rate: 30, ..base.clone() },
        ),
        ("H.264, variable rate", Recipe { more: VARIABLE, frame_rate: 30, ..base.clone() }),
        (
            "H.264 and AAC, fragments of 10 s",
            Recipe { audio: Some(AAC), seconds: 20, fragment_seconds: 10, ..base.clone() },
        ),
        ("H.265", Recipe { video: Some(H265), ..base.clone() }),
        (
            "H.265 and AAC, live, 60 a second",
            Recipe {
                video: Some(H265),
                audio: Some(AAC),
                frame_rate: 60,
                more: &["-live", "1"],
                ..base.clone()
            },
        ),
        (
            "AAC only",
            Recipe { video: None, audio: Some(AAC), more: &["-cluster_time_limit", "1000"], ..base },
        ),
    ]
}

/// Drops frames without a pattern.
const VARIABLE: &[&str] = &["-vf", "select='lt(mod(n*n*7+n,11),6)+eq(mod(n,30),0)'", "-fps_mode", "vfr"];

fn hash(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stream_of(kind: TrackKind) -> &'static str {
    if kind == TrackKind::Video { "v:0" } else { "a:0" }
}

/// Checks that frames are the same, and that no time is off by more than `micros`.
#[track_caller]
fn assert_same(what: &str, found: &[Found], wanted: &[Found], micros: i64) {
    let hashes = |frames: &[Found]| frames.iter().map(|frame| frame.hash.clone()).collect::<Vec<_>>();
    assert_eq!(found.len(), wanted.len(), "{what}: how many frames");
    assert!(hashes(found) == hashes(wanted), "{what}: other frames");
    for (found, wanted) in found.iter().zip(wanted) {
        let off = found.micros - wanted.micros;
        assert!(
            off.abs() <= micros,
            "{what}: a frame at {} µs instead of {} µs",
            found.micros,
            wanted.micros
        );
    }
}

fn shifted(found: &[Found], micros: i64) -> Vec<Found> {
    found.iter().map(|frame| Found { micros: frame.micros + micros, ..frame.clone() }).collect()
}

fn parse(fragments: &[Vec<u8>]) -> Vec<Media<'_>> {
    fragments.iter().map(|fragment| Media::parse(fragment).expect("a fragment")).collect()
}

/// Returns the frames of a track as ffmpeg would list them.
fn frames_of(media: &[Media<'_>], track: u64) -> Vec<Found> {
    let frames = media.iter().flat_map(|media| &media.frames).filter(|frame| frame.track == track);
    let found = frames.map(|frame| Found {
        micros: frame.time_ns / 1_000,
        duration_micros: 0,
        bytes: frame.data.len(),
        hash: hash(&frame.data),
    });
    found.collect()
}

/// Joins fragments on the time line of their timecodes.
fn clip_of(media: &[Media<'_>]) -> Result<Vec<u8>, VideoError> {
    let placed: Vec<_> = media.iter().map(|media| PlacedMedia { media, offset_ns: 0 }).collect();
    let mut file = vec![];
    clip(&placed, CodecChanges::Refuse, &mut file)?;
    Ok(file)
}

fn earliest_ns(media: &[Media<'_>]) -> i64 {
    media.iter().flat_map(|media| &media.frames).map(|frame| frame.time_ns).min().expect("frames")
}

#[test]
fn a_fragment_has_the_frames_and_times_that_ffmpeg_finds() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let other = [
        ("MJPEG and PCM", Recipe { video: Some(MJPEG), audio: Some(PCM), ..Recipe::default() }),
        (
            "VP9 and mu-law",
            Recipe { video: Some(VP9), audio: Some(MU_LAW), sample_rate: 8_000, ..Recipe::default() },
        ),
    ];
    for (what, recipe) in recipes().into_iter().chain(other) {
        let file = recipe.generate(&ffmpeg);
        let whole = Media::parse(&file).expect("a file");
        let fragments = media::cut(&file);
        let parsed = parse(&fragments);
        assert_eq!(
            parsed.iter().map(|media| media.frames.len()).sum::<usize>(),
            whole.frames.len(),
            "{what}"
        );
        assert!(
            fragments.len() >= (recipe.seconds / recipe.fragment_seconds) as usize,
            "{what}: {}",
            fragments.len()
        );
        assert!(parsed.iter().flat_map(|media| &media.frames).eq(&whole.frames), "{what}");
        for track in &whole.tracks {
            let wanted = ffmpeg.source_packets(&file, stream_of(track.kind));
            let found = frames_of(std::slice::from_ref(&whole), track.number);
            assert_same(what, &found, &wanted, 999);
        }
        if recipe.video.is_some() {
            let first = parsed.iter().map(|media| {
                media
                    .frames
                    .iter()
                    .find(|frame| media.track(frame.track).unwrap().kind == TrackKind::Video)
                    .unwrap()
            });
            assert!(first.clone().all(|frame| frame.is_key), "{what}: a fragment begins with another frame");
        }
    }
}

#[test]
fn segments_of_fragmented_mp4_play_as_what_went_in() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (what, recipe) in recipes() {
        let file = recipe.generate(&ffmpeg);
        let fragments = media::cut(&file);
        let parsed = parse(&fragments);
        let offset_ns = 10_000_000_000 - earliest_ns(&parsed);
        let mut played = fmp4_init(&parsed[0].tracks).expect("an initialization segment");
        for (sequence, media) in (1..).zip(&parsed) {
            let place = SegmentPlace { sequence, offset_ns, ..SegmentPlace::default() };
            played.extend(fmp4_segment(media, place).expect("a segment"));
        }
        check_played(&ffmpeg, what, &file, &played, &parsed, offset_ns / 1_000, true);

        // The last segment by itself.
        let last = parsed.last().expect("fragments");
        let place = SegmentPlace { sequence: 7, offset_ns, ..SegmentPlace::default() };
        let init = fmp4_init(&last.tracks).expect("an initialization segment");
        let alone = [init, fmp4_segment(last, place).expect("a segment")].concat();
        let single = fragments.last().expect("fragments");
        check_played(&ffmpeg, what, single, &alone, std::slice::from_ref(last), offset_ns / 1_000, true);
    }
}

#[test]
fn segments_of_mpeg_ts_play_as_what_went_in() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (what, recipe) in recipes() {
        let file = recipe.generate(&ffmpeg);
        let fragments = media::cut(&file);
        let parsed = parse(&fragments);
        let offset_ns = 10_000_000_000 - earliest_ns(&parsed);
        let segments: Vec<_> =
            parsed.iter().map(|media| ts_segment(media, offset_ns).expect("a segment")).collect();
        assert!(segments.iter().all(|segment| segment.len() % 188 == 0));
        check_played(&ffmpeg, what, &file, &segments.concat(), &parsed, offset_ns / 1_000, false);

        let (last, single) = (parsed.last().expect("fragments"), fragments.last().expect("fragments"));
        let alone = segments.last().expect("segments");
        check_played(&ffmpeg, what, single, alone, std::slice::from_ref(last), offset_ns / 1_000, false);
    }
}

#[test]
fn a_clip_plays_as_what_went_in() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (what, recipe) in recipes() {
        let file = recipe.generate(&ffmpeg);
        let fragments = media::cut(&file);
        let parsed = parse(&fragments);
        let played = clip_of(&parsed).expect("a clip");
        check_played(&ffmpeg, what, &file, &played, &parsed, -earliest_ns(&parsed) / 1_000, true);
    }
}

/// Checks that what was written decodes to what went in, shifted.
fn check_played(
    ffmpeg: &Ffmpeg,
    what: &str,
    file: &[u8],
    played: &[u8],
    media: &[Media<'_>],
    shift_micros: i64,
    has_same_packets: bool,
) {
    for track in &media[0].tracks {
        let stream = stream_of(track.kind);
        let wanted = shifted(&frames_of(media, track.number), shift_micros);
        let mut found = ffmpeg.packets(played, stream);
        if !has_same_packets {
            // The times are the same, the bytes are packed in another way.
            assert_eq!(found.len(), wanted.len(), "{what}: how many packets");
            for (found, wanted) in found.iter_mut().zip(&wanted) {
                found.hash.clone_from(&wanted.hash);
            }
        }
        assert_same(what, &found, &wanted, 1_050);
        let (mut found, mut wanted) = (ffmpeg.decoded(played, stream), ffmpeg.source_decoded(file, stream));
        if track.kind == TrackKind::Audio {
            // A decoder that begins anew needs a frame before it is in step, and what encoders put in front is told in different ways.
            wanted.drain(..2);
            let first = found.iter().position(|found| found.hash == wanted[0].hash).expect("the same sound");
            assert!(first <= 3, "{what}: {first} pieces of sound too many");
            found.drain(..first);
        }
        // The decoder of sound counts on from times that are rounded.
        let micros = if track.kind == TrackKind::Audio { 2_000 } else { 1_050 };
        assert_same(what, &found, &shifted(&wanted, shift_micros), micros);
    }
}
