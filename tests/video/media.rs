//! Fragments, segments and clips decode in ffmpeg to the original media: the same frames, at the same times.

use crate::common::video::media;

use md5::{Digest, Md5};
use media::{A_LAW, AAC, Ffmpeg, Found, H264_NO_B, H265, MJPEG, MU_LAW, PCM, Recipe, VP9};
use streamlog::SECOND;
use streamlog::video::{
    CodecChanges, FragmentSelector, IngestOptions, Media, PictureCodec, PlacedMedia, SegmentPlace, TrackKind,
    VideoError, VideoStream, fmp4_init, fmp4_segment, ts_segment, write_clip,
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
    write_clip(&placed, CodecChanges::Refuse, &mut file)?;
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

/// Checks that the output decodes to the input, shifted.
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
            // A freshly started decoder needs a frame to synchronise, and encoder delay is signalled in different ways.
            wanted.drain(..2);
            let first = found.iter().position(|found| found.hash == wanted[0].hash).expect("the same sound");
            assert!(first <= 3, "{what}: {first} pieces of sound too many");
            found.drain(..first);
        }
        // The audio decoder extrapolates from rounded times.
        let micros = if track.kind == TrackKind::Audio { 2_000 } else { 1_050 };
        assert_same(what, &found, &shifted(&wanted, shift_micros), micros);
    }
}

#[test]
fn uncompressed_sound_is_the_same_to_the_bit() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (audio, sample_rate, more) in [
        (MU_LAW, 8_000, &[] as &[&str]),
        (A_LAW, 8_000, &["-live", "1"]),
        (PCM, 48_000, &[]),
        (PCM, 44_100, &["-ac", "2"]),
        (&["-c:a", "pcm_s24be"], 32_000, &[]),
    ] {
        let what = format!("{audio:?} {more:?}");
        let file = Recipe { audio: Some(audio), sample_rate, more, ..Recipe::default() }.generate(&ffmpeg);
        let fragments = media::cut(&file);
        let parsed = parse(&fragments);
        let mut segments = fmp4_init(&parsed[0].tracks).expect("an initialization segment");
        for media in &parsed {
            segments.extend(fmp4_segment(media, SegmentPlace::default()).expect("a segment"));
        }
        let clip = clip_of(&parsed).expect("a clip");
        let wanted = ffmpeg.sound(&file, "s32le");
        assert!(wanted.len() as u64 > 15 * u64::from(sample_rate), "{what}: {} bytes", wanted.len());
        assert!(ffmpeg.sound(&clip, "s32le") == wanted, "{what}: the sound of a clip");
        assert!(ffmpeg.sound(&segments, "s32le") == wanted, "{what}: the sound of segments");
        // Each moment of a clip's sound is a sample, whatever the sizes of blocks are.
        let sizes = tables(&clip, b"stsz");
        assert!(sizes.iter().any(|sizes| sizes[4..8] != [0; 4]), "{what}: sizes of samples");

        let refused = ts_segment(&parsed[0], 0).expect_err("MPEG-TS holds no such sound");
        let codec = parsed[0].tracks[1].codec_id.clone();
        assert!(matches!(&refused, VideoError::UnsupportedMedia(what) if what.contains(&codec)), "{refused}");
    }
}

/// Returns the content of each box of a kind, found by its name.
fn tables<'f>(file: &'f [u8], kind: &[u8; 4]) -> Vec<&'f [u8]> {
    let found = file.windows(4).enumerate().filter(|(_, name)| name == kind).map(|(at, _)| at);
    let content = found.map(|at| {
        let size = u32::from_be_bytes(file[at - 4..at].try_into().expect("four bytes")) as usize;
        &file[at + 4..at - 4 + size]
    });
    content.collect()
}

fn find<'f>(file: &'f [u8], kind: &[u8; 4]) -> Option<&'f [u8]> {
    tables(file, kind).first().copied()
}

#[test]
fn what_a_container_cannot_hold_is_named() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (video, codec) in [(VP9, "V_VP9"), (MJPEG, "V_MJPEG")] {
        let file = Recipe { video: Some(video), seconds: 1, ..Recipe::default() }.generate(&ffmpeg);
        let media = Media::parse(&file).expect("a file");
        let errors = [
            fmp4_init(&media.tracks).expect_err("MP4"),
            fmp4_segment(&media, SegmentPlace::default()).expect_err("MP4"),
            ts_segment(&media, 0).expect_err("MPEG-TS"),
            clip_of(&[media]).expect_err("MP4"),
        ];
        for error in errors {
            assert!(matches!(&error, VideoError::UnsupportedMedia(what) if what.contains(codec)), "{error}");
        }
    }
}

#[test]
fn missing_and_damaged_parameters_are_told_apart() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let file = Recipe { seconds: 1, audio: Some(AAC), ..Recipe::default() }.generate(&ffmpeg);
    let media = Media::parse(&file).expect("a file");
    for index in 0..2 {
        let mut tracks = media.tracks.clone();
        tracks[index].codec_private.clear();
        let missing = fmp4_init(&tracks).expect_err("nothing to begin with");
        assert!(matches!(missing, VideoError::MissingCodecPrivateData(_)), "{missing}");
        tracks[index].codec_private = vec![0xFF];
        let damaged = fmp4_init(&tracks).expect_err("nothing to begin with");
        assert!(matches!(damaged, VideoError::InvalidCodecPrivateData(_)), "{damaged}");
    }
}

#[test]
fn a_clip_keeps_the_time_between_its_fragments() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let file = Recipe { audio: Some(AAC), ..Recipe::default() }.generate(&ffmpeg);
    let fragments = media::cut(&file);
    let parsed = parse(&fragments);
    // The second fragment is missing, and the last one came an hour later.
    let placed = [(0, 0), (2, 0), (3, 3_600_000_000_000)];
    let placed = placed.map(|(index, offset_ns)| PlacedMedia { media: &parsed[index], offset_ns });
    let mut clip = vec![];
    write_clip(&placed, CodecChanges::Refuse, &mut clip).expect("a clip");
    for track in &parsed[0].tracks {
        let wanted: Vec<_> = placed
            .iter()
            .flat_map(|placed| {
                let micros = (placed.offset_ns - earliest_ns(&parsed)) / 1_000;
                shifted(&frames_of(std::slice::from_ref(placed.media), track.number), micros)
            })
            .collect();
        assert_same("with gaps", &ffmpeg.packets(&clip, stream_of(track.kind)), &wanted, 1_050);
    }
    // The clip is as long as its tables say, within the duration of one picture.
    let header = find(&clip, b"mvhd").expect("a header");
    let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let seconds = number(24) as f64 / 90_000.0;
    assert!((seconds - 3_604.0).abs() < 0.1, "{seconds} s");
}

#[test]
fn a_clip_plays_through_changes_of_the_codec_s_parameters() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let small = Recipe { seconds: 2, audio: Some(AAC), ..Recipe::default() };
    let files = [
        small.clone(),
        Recipe { size: "256x144", ..small.clone() },
        Recipe { seconds: 2, size: "256x144", video: Some(H264_NO_B), ..Recipe::default() },
        small,
    ];
    let files = files.map(|recipe| recipe.generate(&ffmpeg));
    let parsed = files.each_ref().map(|file| Media::parse(file).expect("a file"));
    let placed: Vec<_> = (0..)
        .zip(&parsed)
        .map(|(index, media)| PlacedMedia { media, offset_ns: index * 2_000_000_000 })
        .collect();
    let mut clip = vec![];
    write_clip(&placed, CodecChanges::Describe, &mut clip).expect("a clip");
    assert_eq!(find(&clip, b"stsd").expect("descriptions")[4..8], [0, 0, 0, 3], "descriptions of pictures");
    for track in &parsed[0].tracks {
        let wanted: Vec<_> = placed
            .iter()
            .flat_map(|placed| {
                let micros = (placed.offset_ns - earliest_ns(&parsed)) / 1_000;
                shifted(&frames_of(std::slice::from_ref(placed.media), track.number), micros)
            })
            .collect();
        // Each file's sound begins before its pictures, and so overlaps the end of the previous sound; in the clip it follows that instead.
        let micros = if track.kind == TrackKind::Audio { 50_000 } else { 1_050 };
        assert_same("with changes", &ffmpeg.packets(&clip, stream_of(track.kind)), &wanted, micros);
    }
    // Decoded pictures keep their sizes: they differ in their bytes.
    let decoded = ffmpeg.decoded_as_is(&clip, "v:0");
    let wanted: Vec<_> = files.iter().flat_map(|file| ffmpeg.source_decoded(file, "v:0")).collect();
    let hashes = |found: &[Found]| found.iter().map(|found| found.hash.clone()).collect::<Vec<_>>();
    assert_eq!(hashes(&decoded), hashes(&wanted));

    let refused = |media: &[Media<'_>]| clip_of(media).expect_err("a change");
    assert!(matches!(refused(&parsed[..2]), VideoError::InvalidCodecPrivateData(_)), "other parameters");
    assert!(matches!(
        refused(&parsed[1..3]),
        VideoError::UnsupportedMedia(_) | VideoError::InvalidCodecPrivateData(_)
    ));
    let [_, _, without, with] = parsed;
    assert!(matches!(
        refused(&[without, with]),
        VideoError::UnsupportedMedia(_) | VideoError::InvalidCodecPrivateData(_)
    ));
}

#[test]
fn a_stream_hands_out_clips_and_pictures() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    for (video, codec, format) in [
        (H264_NO_B, PictureCodec::H264, "h264"),
        (H265, PictureCodec::H265, "hevc"),
        (MJPEG, PictureCodec::Jpeg, "mjpeg"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let stream = VideoStream::open(directory.path().join("door")).expect("a stream");
        let file = Recipe { video: Some(video), ..Recipe::default() }.generate(&ffmpeg);
        stream.ingest_from(&file[..], IngestOptions::new(), |_| {}).expect("an ingest");
        let all = stream.fragments(&FragmentSelector::All).expect("fragments");
        let decoded = ffmpeg.source_decoded(&file, "v:0");

        let images = stream.images(&FragmentSelector::All, 2 * SECOND).expect("a list");
        let images = images.collect::<Result<Vec<_>, _>>().expect("pictures");
        let times: Vec<_> =
            images.iter().map(|image| image.producer_time.since(all[0].producer_time)).collect();
        assert_eq!(times, [std::time::Duration::ZERO, 2 * SECOND]);
        for image in images {
            assert_eq!((image.codec, image.width, image.height), (codec, 192, 108));
            let found = ffmpeg.decoded_alone(&image.data, format);
            let millis = image.producer_time.since(all[0].producer_time).as_micros() as i64;
            let wanted = decoded.iter().find(|found| found.micros == millis).expect("its picture");
            assert_eq!(found.iter().map(|found| &found.hash).collect::<Vec<_>>(), [&wanted.hash]);
        }

        let mut clip = vec![];
        let end = all[0].producer_time + 2 * SECOND;
        let range = FragmentSelector::ProducerTime(all[0].producer_time + SECOND..=end);
        let written = stream.clip(&range, CodecChanges::Refuse, &mut clip);
        if codec == PictureCodec::Jpeg {
            assert!(matches!(written, Err(VideoError::UnsupportedMedia(_))));
            continue;
        }
        written.expect("a clip");
        // Pictures that are presented before the first key frame are not in the clip.
        let fragments = [1, 2]
            .map(|index: usize| stream.fragment(all[index].number).expect("a read").expect("a fragment"));
        let parsed = fragments.each_ref().map(|fragment| fragment.media().expect("media"));
        let times: Vec<_> = frames_of(&parsed, 1).iter().map(|found| found.micros).collect();
        let is_in = |found: &&Found| found.micros >= 1_000_000 && times.contains(&found.micros);
        let wanted: Vec<_> = decoded.iter().filter(is_in).cloned().collect();
        assert!(wanted.len() > 40, "only {} pictures", wanted.len());
        assert_same(
            "a clip of the middle",
            &ffmpeg.decoded(&clip, "v:0"),
            &shifted(&wanted, -1_000_000),
            1_050,
        );

        let none = FragmentSelector::ProducerTime(end + 1_000 * SECOND..=end + 2_000 * SECOND);
        let nothing = stream.clip(&none, CodecChanges::Refuse, &mut vec![]).expect_err("nothing there");
        assert!(matches!(nothing, VideoError::NotFound(_)), "{nothing}");
    }
}

#[test]
fn what_a_producer_sends_twice_is_once_in_a_clip_by_its_time() {
    let Some(ffmpeg) = media::ffmpeg() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let stream = VideoStream::open(directory.path().join("door")).expect("a stream");
    let file = Recipe::default().generate(&ffmpeg);
    let start = stream.now();
    for _ in 0..2 {
        let options = IngestOptions::new().producer_start(start);
        stream.ingest_from(&file[..], options, |_| {}).expect("an ingest");
    }
    let infos = stream.fragments(&FragmentSelector::All).expect("fragments");
    assert_eq!(infos.len(), 8);
    let clip = |selector| {
        let mut clip = vec![];
        stream.clip(&selector, CodecChanges::Refuse, &mut clip).expect("a clip");
        ffmpeg.decoded(&clip, "v:0")
    };
    let once = ffmpeg.source_decoded(&file, "v:0");
    let producer = FragmentSelector::ProducerTime(infos[0].producer_time..=infos[7].producer_time);
    assert_same("by the producer's time", &clip(producer), &once, 1_050);
    // By server time, one follows the other.
    let server = FragmentSelector::ServerTime(infos[0].server_time..=infos[7].server_time);
    let twice = [once.clone(), shifted(&once, 4_000_000)].concat();
    assert_same("by the server's time", &clip(server), &twice, 1_050);
}
