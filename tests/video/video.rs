//! Video streams: a producer's input becomes fragments, which are found by number and time, and read live and archived.

use crate::common;
use crate::common::video::mkv;

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{clock, scratch};
use mkv::{Size, TestTrack, cluster, head, simple_block, simple_cluster, tags_in, timecode};
use parking_lot::Mutex;
use streamlog::video::{
    Ack, AckErrorId, AckEvent, FragmentInfo, FragmentNumber, FragmentSelector, Ingest, IngestOptions,
    StartSelector, Timecodes, VideoError, VideoStream, VideoStreamOptions,
};
use streamlog::{Clock, DAY, Error, HOUR, MINUTE, Maintenance, ManualClock, SECOND, Timestamp};
use tempfile::TempDir;

const FOREVER: Duration = Duration::from_secs(60);

struct Place {
    directory: TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        Self { directory: scratch(), clock: clock() }
    }

    fn options(&self) -> VideoStreamOptions {
        let options = VideoStreamOptions::new().maintenance(Maintenance::Manual).clock(self.clock.clone());
        options.stream(|options| options.segment_bytes(1 << 20).record_bytes_max(512 << 10))
    }

    fn open(&self, options: VideoStreamOptions) -> VideoStream {
        options.open(self.directory.path().join("door")).unwrap()
    }
}

/// Acknowledgements as they come.
#[derive(Clone, Default)]
struct Acks(Arc<Mutex<Vec<Ack>>>);

impl Acks {
    fn take(&self) -> Vec<Ack> {
        std::mem::take(&mut self.0.lock())
    }

    fn begin(&self, stream: &VideoStream, options: IngestOptions) -> Ingest {
        let acks = self.0.clone();
        stream.ingest(options, move |ack| acks.lock().push(ack)).unwrap()
    }
}

fn all(stream: &VideoStream) -> Vec<FragmentInfo> {
    stream.fragments(&FragmentSelector::All).unwrap()
}

fn ingest(stream: &VideoStream, data: &[u8]) -> Vec<FragmentInfo> {
    let count = all(stream).len();
    stream.ingest_from(data, IngestOptions::new(), |_| {}).unwrap();
    all(stream).split_off(count)
}

/// Returns the error that an ingest ends with, after checking that an acknowledgement reports the same.
#[track_caller]
fn refused_with(options: IngestOptions, data: &[u8]) -> (AckErrorId, usize) {
    let place = Place::new();
    let stream = place.open(place.options());
    let acks = Acks::default();
    let mut ingest = acks.begin(&stream, options);
    let written = ingest.write(data);
    if let Err(error) = &written {
        assert_eq!(ingest.write(b"").unwrap_err().error_id(), error.error_id(), "it stays over");
    }
    let outcome = written.and_then(|()| ingest.finish().map(drop));
    let id = outcome.unwrap_err().error_id().unwrap();
    let acks = acks.take();
    assert_eq!((acks.last().unwrap().event, acks.last().unwrap().error), (AckEvent::Error, Some(id)));
    let persisted = acks.iter().filter(|ack| ack.event == AckEvent::Persisted).count();
    assert_eq!(all(&stream).len(), persisted);
    (id, persisted)
}

#[track_caller]
fn refused(data: &[u8]) -> (AckErrorId, usize) {
    refused_with(IngestOptions::new(), data)
}

#[test]
fn a_fragment_is_a_whole_matroska_file_with_the_cluster_as_it_came() {
    let place = Place::new();
    let stream = place.open(place.options());
    let track = TestTrack { default_duration: Some(40_000_000), ..TestTrack::new(1) };
    let clusters = [simple_cluster(0, 25, b"one"), simple_cluster(1_000, 3, b"two")];
    let data = [head(std::slice::from_ref(&track)), clusters.concat()].concat();
    let start = place.clock.now();
    let infos = ingest(&stream, &data);
    assert_eq!(infos.len(), 2);
    for (info, (cluster, (at, length))) in infos.iter().zip(clusters.iter().zip([(0, 1_000), (1_000, 120)])) {
        assert_eq!(info.producer_time, start + Duration::from_millis(at));
        assert_eq!((info.server_time, info.length), (start, Duration::from_millis(length)));
        let fragment = stream.fragment(info.number).unwrap().unwrap();
        assert_eq!(fragment.info(), *info);
        assert_eq!(fragment.matroska(), [head(std::slice::from_ref(&track)), cluster.clone()].concat());
        assert_eq!(info.bytes, fragment.matroska().len() as u64);
        assert_eq!(fragment.parts().1, cluster[..]);
    }
    assert!(infos[0].number < infos[1].number && infos[0].number.to_string() < infos[1].number.to_string());
}

#[test]
fn a_cluster_of_unknown_size_ends_where_the_next_element_begins() {
    let place = Place::new();
    let stream = place.open(place.options());
    let children = |at: u64| vec![timecode(at), simple_block(1, 0, b"one"), simple_block(1, 40, b"two")];
    let unknown = |at| cluster(Size::Unknown, &children(at));
    let data =
        [head(&[TestTrack::new(1)]), unknown(0), unknown(80), mkv::tags(&[]), unknown(160), mkv::live(1..2)];
    let infos = ingest(&stream, &data.concat());
    assert_eq!(infos.len(), 4, "a second document begins with the last one");
    for (info, at) in infos.iter().zip([0, 80, 160]) {
        let fragment = stream.fragment(info.number).unwrap().unwrap();
        let sized =
            mkv::sized(mkv::CLUSTER, Size::Said(children(at).concat().len() as u64), &children(at).concat());
        assert_eq!(fragment.matroska(), [head(&[TestTrack::new(1)]), sized].concat(), "it has a size now");
        assert_eq!(info.length, Duration::from_millis(80));
    }
}

#[test]
fn acknowledgements_come_in_order_with_number_and_timecode() {
    let place = Place::new();
    let stream = place.open(place.options());
    let acks = Acks::default();
    let mut ingest = acks.begin(&stream, IngestOptions::new());
    ingest.write(&head(&[TestTrack::new(1)])).unwrap();
    assert!(acks.take().is_empty());
    let cluster = simple_cluster(1_234, 2, b"frame");
    let (first, rest) = cluster.split_at(20);
    ingest.write(first).unwrap();
    let number = FragmentNumber::new(0.into());
    let ack = |event| Ack { event, timecode_ms: Some(1_234), number: Some(number), error: None };
    assert_eq!(acks.take(), [ack(AckEvent::Buffering)]);
    ingest.write(rest).unwrap();
    assert_eq!(acks.take(), [ack(AckEvent::Received), ack(AckEvent::Persisted)], "with its last byte");
    assert_eq!(
        ack(AckEvent::Persisted).to_string(),
        format!(r#"{{"EventType":"PERSISTED","FragmentTimecode":1234,"FragmentNumber":"{number}"}}"#)
    );
    let done = ingest.finish().unwrap();
    assert_eq!((done.fragment_count, done.newest), (1, stream.newest()));
}

#[test]
fn timecodes_count_from_1970_or_from_the_producers_start() {
    let place = Place::new();
    let stream = place.open(place.options());
    let at = Timestamp::from_millis(1_600_000_000_123);
    let absolute = IngestOptions::new().timecodes(Timecodes::Absolute);
    let data = [head(&[TestTrack::new(1)]), simple_cluster(at.as_millis(), 2, b"x")].concat();
    stream.ingest_from(&data[..], absolute, |_| {}).unwrap();
    let relative = IngestOptions::new().producer_start(at);
    stream.ingest_from(&mkv::live(2..3)[..], relative, |_| {}).unwrap();
    // Half a millisecond for each timecode.
    let children = [timecode(3), simple_block(1, 0, b"x"), simple_block(1, 5, b"y")];
    let parts = [mkv::document(), mkv::sized(mkv::SEGMENT, Size::Unknown, &[]), mkv::info(Some(500_000))];
    let data = [parts.concat(), mkv::tracks(&[TestTrack::new(1)]), cluster(Size::Right, &children)].concat();
    stream.ingest_from(&data[..], IngestOptions::new().producer_start(at), |_| {}).unwrap();
    let infos = all(&stream);
    let times: Vec<_> = infos.iter().map(|info| info.producer_time).collect();
    assert_eq!(times, [at, at + 2 * SECOND, at + Duration::from_micros(1_500)]);
    assert_eq!(infos[2].length, Duration::from_millis(5));
}

#[test]
fn the_length_follows_from_durations_or_from_the_frames_before() {
    let place = Place::new();
    let stream = place.open(place.options());
    let audio = TestTrack { default_duration: Some(20_000_000), ..TestTrack::new(200) };
    let length = |track: &TestTrack, children: &[Vec<u8>]| {
        let cluster = cluster(Size::Right, &[&[timecode(0)], children].concat());
        ingest(&stream, &[head(std::slice::from_ref(track)), cluster].concat())[0].length.as_millis()
    };
    let video = TestTrack::new(1);
    assert_eq!(
        length(&video, &[simple_block(1, 0, b"I"), simple_block(1, 80, b"P"), simple_block(1, 40, b"B")]),
        120
    );
    assert_eq!(length(&video, &[simple_block(1, 0, b"I")]), 0, "nothing says it");
    assert_eq!(length(&video, &[mkv::block_group(1, 0, Some(70), b"I")]), 70);
    assert_eq!(length(&audio, &[mkv::laced_block(200, 10, 4, b"sound")]), 90);
    assert_eq!(length(&audio, &[mkv::block_group(200, 100, None, b"sound")]), 120);
}

#[test]
fn tags_before_a_cluster_are_those_of_its_fragment() {
    let place = Place::new();
    let stream = place.open(place.options());
    let one = |at| simple_cluster(at, 1, b"x");
    let of_track = mkv::tags_of(&mkv::uint(0x63C5, 1), &[("DURATION", "1")]);
    let service = [("AWS_KINESISVIDEO_FRAGMENT_NUMBER", "9"), ("motion", "true")];
    let data = [
        head(&[TestTrack::new(1)]),
        mkv::tags(&[("ENCODER", "Lavf")]),
        one(0),
        mkv::tags(&service),
        of_track,
        mkv::tags(&[("place", "yard"), ("light", "on"), ("light", "off")]),
        one(1),
        one(2),
        mkv::tags(&[("late", "true")]),
    ];
    let options = IngestOptions::new().tag("place", "door").tag("camera", "7");
    stream.ingest_from(&data.concat()[..], options, |_| {}).unwrap();
    let tags = |info: &FragmentInfo| {
        let found = tags_in(stream.fragment(info.number).unwrap().unwrap().matroska());
        found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let found: Vec<_> = all(&stream).iter().map(tags).collect();
    assert_eq!(
        found,
        [
            "place=door camera=7 ENCODER=Lavf",
            "place=yard camera=7 motion=true light=off",
            "place=door camera=7",
        ]
    );
}

#[test]
fn a_fragment_does_not_claim_the_length_of_the_whole() {
    let place = Place::new();
    let stream = place.open(place.options());
    let scale = mkv::uint(0x2A_D7B1, 1_000_000);
    for has_checksum in [false, true] {
        let checksum = if has_checksum { mkv::element(0xBF, &[1, 2, 3, 4]) } else { vec![] };
        let duration = mkv::element(0x4489, &3_600_000f64.to_be_bytes());
        let info = mkv::element(mkv::INFO, &[checksum, scale.clone(), duration].concat());
        let begin = [mkv::document(), mkv::sized(mkv::SEGMENT, Size::Unknown, &[])].concat();
        let data =
            [begin, info.clone(), mkv::tracks(&[TestTrack::new(1)]), simple_cluster(0, 2, b"x")].concat();
        let infos = ingest(&stream, &data);
        let fragment = stream.fragment(infos[0].number).unwrap().unwrap();
        let document = mkv::read(fragment.matroska());
        let kept = mkv::only(&mkv::read(mkv::only(&document, mkv::SEGMENT)), mkv::INFO).to_vec();
        assert_eq!(kept.len(), mkv::only(&mkv::read(&info), mkv::INFO).len());
        let left: Vec<_> = mkv::read(&kept).iter().map(|it| it.id).filter(|&id| id != mkv::VOID).collect();
        assert_eq!(left, [0x2A_D7B1], "neither the duration nor a checksum that no longer holds");
    }
}

#[test]
fn what_is_not_media_is_passed_over() {
    let place = Place::new();
    let stream = place.open(place.options());
    let void = |len: usize| mkv::element(mkv::VOID, &vec![0xA3; len]);
    let children = [
        mkv::element(0xBF, &[1, 2, 3, 4]),
        timecode(0),
        void(300),
        mkv::uint(0xA7, 99),
        simple_block(1, 0, b"x"),
    ];
    let clusters = [cluster(Size::Right, &children), simple_cluster(40, 1, b"y")].concat();
    let inside = [
        mkv::element(mkv::SEEK_HEAD, &[0x4D; 60]),
        void(5_000),
        mkv::info(None),
        mkv::element(0xBF, &[1, 2, 3, 4]),
        mkv::tracks(&[TestTrack::new(1)]),
        mkv::element(mkv::CUES, &[0xBB; 700]),
        mkv::element(0x1941_A469, &[7; 1 << 20]),
        mkv::element(0x4DBB, &[7; 20]),
        clusters,
        mkv::element(mkv::CUES, &[0xBB; 7]),
    ];
    // A segment with a known size, between other elements.
    let segment = mkv::element(mkv::SEGMENT, &inside.concat());
    let data = [mkv::document(), void(3), segment, void(3), mkv::live(1..2)].concat();
    let infos = ingest(&stream, &data);
    assert_eq!(infos.len(), 3);
    let fragment = stream.fragment(infos[0].number).unwrap().unwrap();
    assert_eq!(fragment.parts().1, cluster(Size::Right, &children)[..], "as it came");
}

#[test]
fn each_limit_of_kinesis_ends_the_ingest_with_its_id() {
    let one = |at| simple_cluster(at, 2, b"frame");
    let with = |rest: &[Vec<u8>]| [&[head(&[TestTrack::new(1)])], rest].concat().concat();
    let block = simple_block(1, 0, b"x");

    // 4001: whatever is claimed, and where it is not.
    let large = vec![7; 600 << 10];
    assert_eq!(
        refused(&with(&[one(0), simple_cluster(40, 1, &large)])),
        (AckErrorId::MaxFragmentSizeReached, 1)
    );
    let claimed = mkv::sized(mkv::CLUSTER, Size::Said(1 << 50), &timecode(0));
    assert_eq!(refused(&with(&[claimed])).0, AckErrorId::MaxFragmentSizeReached);
    let children = [&[timecode(0)][..], &vec![simple_block(1, 0, &large[..60_000]); 9]].concat();
    assert_eq!(refused(&with(&[cluster(Size::Unknown, &children)])).0, AckErrorId::MaxFragmentSizeReached);

    // 4002
    let long =
        |relative| cluster(Size::Right, &[timecode(0), block.clone(), simple_block(1, relative, b"x")]);
    let twenty = [timecode(0), block.clone(), mkv::block_group(1, 19_000, Some(1_000), b"x")];
    assert_eq!(
        refused(&with(&[cluster(Size::Right, &twenty), long(20_001)])),
        (AckErrorId::MaxFragmentDurationReached, 1)
    );
    let group = [timecode(0), mkv::block_group(1, 19_000, Some(1_001), b"x")];
    assert_eq!(refused(&with(&[cluster(Size::Right, &group)])).0, AckErrorId::MaxFragmentDurationReached);

    // 4004
    assert_eq!(
        refused(&with(&[one(40), one(40), one(39)])),
        (AckErrorId::FragmentTimecodeLesserThanPrevious, 2)
    );

    // 4005
    let tracks = |count: u64| (1..=count).map(TestTrack::new).collect::<Vec<_>>();
    let of_three = [timecode(0), block.clone(), simple_block(2, 0, b"x"), simple_block(3, 0, b"x")];
    let three = [head(&tracks(3)), cluster(Size::Right, &of_three)].concat();
    assert_eq!(refused(&[three, head(&tracks(4))].concat()), (AckErrorId::MoreThanAllowedTracksFound, 1));

    // 4007
    let scaled = |scale: u64, at: u64| {
        let begin =
            [mkv::document(), mkv::sized(mkv::SEGMENT, Size::Unknown, &[]), mkv::info(Some(scale))].concat();
        [begin, mkv::tracks(&[TestTrack::new(1)]), one(at)].concat()
    };
    assert_eq!(refused(&scaled(1_000_000, u64::MAX)).0, AckErrorId::InvalidProducerTimestamp);
    let late = IngestOptions::new().producer_start("9999-12-31T23:59:59Z".parse().unwrap());
    assert_eq!(refused_with(late, &with(&[one(999), one(1_000)])), (AckErrorId::InvalidProducerTimestamp, 1));

    // 4009
    let names: Vec<_> = (0..11).map(|name| name.to_string()).collect();
    let many =
        |count: usize| mkv::tags(&names[..count].iter().map(|name| (&**name, "x")).collect::<Vec<_>>());
    assert_eq!(
        refused(&with(&[many(10), one(0), many(11), one(1)])),
        (AckErrorId::FragmentMetadataLimitReached, 1)
    );
    let (name, value) = ("n".repeat(128), "v".repeat(256));
    let longest = mkv::tags(&[(&name, &value)]);
    for over in [
        mkv::tags(&[(&format!("{name}n"), "")]),
        mkv::tags(&[("n", &format!("{value}v"))]),
        mkv::tags(&[("", "v")]),
    ] {
        let data = with(&[longest.clone(), one(0), over, one(1)]);
        assert_eq!(refused(&data), (AckErrorId::FragmentMetadataLimitReached, 1));
    }
    let tagged = IngestOptions::new().tag("place", "door");
    assert_eq!(refused_with(tagged, &with(&[many(10), one(0)])).0, AckErrorId::FragmentMetadataLimitReached);

    // 4010
    let other = cluster(Size::Right, &[timecode(1), block.clone(), simple_block(2, 0, b"x")]);
    assert_eq!(refused(&with(&[one(0), other])), (AckErrorId::TrackNumberMismatch, 1));
    let changed = mkv::tracks(&[TestTrack { private: vec![9], ..TestTrack::new(1) }]);
    let same = mkv::tracks(&[TestTrack::new(1)]);
    assert_eq!(
        refused(&with(&[one(0), same, one(1), changed, one(2)])),
        (AckErrorId::TrackNumberMismatch, 2)
    );

    // 4011
    let two = head(&tracks(2));
    let lacking = cluster(Size::Right, &[timecode(0), block.clone()]);
    assert_eq!(refused(&[two.clone(), lacking.clone()].concat()).0, AckErrorId::FramesMissingForTrack);
    let empty = cluster(Size::Right, &[timecode(1)]);
    let sparse = IngestOptions::new().sparse_tracks();
    assert_eq!(refused_with(sparse, &[two, lacking, empty].concat()), (AckErrorId::FramesMissingForTrack, 1));
}

#[test]
fn what_is_not_matroska_is_refused_and_what_ends_early_too() {
    let first = [head(&[TestTrack::new(1)]), simple_cluster(0, 1, b"x")].concat();
    let inside = |children: &[Vec<u8>]| [first.clone(), cluster(Size::Right, children)].concat();
    let block = simple_block(1, 0, b"x");
    let begin = [mkv::document(), mkv::sized(mkv::SEGMENT, Size::Unknown, &[])].concat();
    for (data, persisted, why) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 0, "no element"),
        (b"\x00\x00\x00\x18ftypmp42".to_vec(), 0, "MP4"),
        (mkv::element(mkv::EBML, &mkv::element(0x4282, b"other")), 0, "another document type"),
        (mkv::element(mkv::EBML, &mkv::uint(0x42F2, 5)), 0, "longer ids"),
        (mkv::sized(mkv::EBML, Size::Unknown, &[]), 0, "a header without a size"),
        (mkv::sized(mkv::EBML, Size::Said(1 << 40), &[]), 0, "a header of a terabyte"),
        (mkv::sized(mkv::SEGMENT, Size::Unknown, &[]), 0, "no header"),
        ([begin.clone(), simple_cluster(0, 1, b"x")].concat(), 0, "no tracks"),
        ([begin.clone(), mkv::tracks(&[])].concat(), 0, "an empty list of tracks"),
        ([begin.clone(), mkv::tracks(&[TestTrack::new(1), TestTrack::new(1)])].concat(), 0, "a number twice"),
        ([begin.clone(), mkv::tracks(&[TestTrack::new(0)])].concat(), 0, "no number"),
        ([begin.clone(), mkv::info(Some(0))].concat(), 0, "a scale of 0"),
        (
            [begin.clone(), mkv::sized(mkv::TRACKS, Size::Said(1 << 30), &[])].concat(),
            0,
            "a gigabyte of tracks",
        ),
        ([begin.clone(), mkv::element(mkv::INFO, &[0x2A, 0xD7])].concat(), 0, "an element cut short inside"),
        (
            [first.clone(), mkv::sized(0x4DBB, Size::Said(1 << 40), &[])].concat(),
            1,
            "an unknown element without end",
        ),
        ([first.clone(), mkv::sized(mkv::CUES, Size::Unknown, &[])].concat(), 1, "cues without a size"),
        (inside(&[block.clone(), timecode(1)]), 1, "a frame before the timecode"),
        (inside(&[timecode(1), timecode(2), block.clone()]), 1, "two timecodes"),
        (inside(&[timecode(1), mkv::element(0xA3, &[0x81, 0, 0])]), 1, "no flags"),
        (inside(&[timecode(1), mkv::element(0xA3, &[])]), 1, "an empty block"),
        (inside(&[timecode(1), mkv::element(0xA0, &[])]), 1, "a group without a block"),
        (
            inside(&[timecode(1), mkv::sized(0xA3, Size::Said(100), &[0x81, 0, 0, 0])]),
            1,
            "longer than its cluster",
        ),
        (
            inside(&[timecode(1), mkv::sized(0xA3, Size::Unknown, &[0x81, 0, 0, 0])]),
            1,
            "a block without a size",
        ),
        (inside(&[mkv::element(0xE7, &[0; 9])]), 1, "a timecode of 9 bytes"),
    ] {
        assert_eq!(refused(&data), (AckErrorId::InvalidMkvData, persisted), "{why}");
    }
    for cut in [1, 5, 12] {
        assert_eq!(
            refused(&first[..first.len() - cut]).0,
            AckErrorId::StreamReadError,
            "{cut} bytes are missing"
        );
    }
    let group = mkv::block_group(1, 0, Some(1), b"x");
    let unknown = [head(&[TestTrack::new(1)]), cluster(Size::Unknown, &[timecode(0), group])].concat();
    assert_eq!(refused(&unknown[..unknown.len() - 1]).0, AckErrorId::StreamReadError);
}

#[test]
fn a_reader_that_fails_is_a_read_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("unplugged"))
        }
    }
    let place = Place::new();
    let stream = place.open(place.options());
    let data = mkv::live(0..2);
    let acks = Acks::default();
    let told = acks.clone();
    let outcome =
        stream.ingest_from(data.chain(Broken), IngestOptions::new(), move |ack| told.0.lock().push(ack));
    let error = outcome.unwrap_err();
    assert_eq!(error.error_id(), Some(AckErrorId::StreamReadError));
    assert!(error.to_string().contains("unplugged"), "{error}");
    assert_eq!(acks.take().last().unwrap().error, Some(AckErrorId::StreamReadError));
    assert_eq!(all(&stream).len(), 2);
}

#[test]
fn a_stream_has_one_producer_at_a_time() {
    let place = Place::new();
    let stream = place.open(place.options());
    let begin = || stream.ingest(IngestOptions::new(), |_| {});
    let first = begin().unwrap();
    assert!(matches!(begin(), Err(VideoError::IngestInProgress)));
    drop(first);
    let mut failed = begin().unwrap();
    failed.write(b"no Matroska").unwrap_err();
    let second = begin().unwrap();
    drop(failed);
    assert!(matches!(begin(), Err(VideoError::IngestInProgress)), "the failed one took nothing away");
    second.finish().unwrap();
    begin().unwrap().finish().unwrap();
}

#[test]
fn an_ingest_is_idle_after_a_while_and_may_be_limited() {
    let place = Place::new();
    let stream = place.open(place.options());
    let acks = Acks::default();
    let options = IngestOptions::new().idle_after(10 * SECOND).duration_max(MINUTE);
    let mut ingest = acks.begin(&stream, options);
    let mut events = |seconds: u32| {
        place.clock.advance(seconds * SECOND);
        let checked = ingest.check();
        (acks.take().iter().map(|ack| ack.event).collect::<Vec<_>>(), checked)
    };
    assert_eq!(events(9).0, []);
    assert_eq!(events(1).0, [AckEvent::Idle]);
    assert_eq!(events(9).0, []);
    assert_eq!(events(1).0, [AckEvent::Idle]);
    // A clock jump is not elapsed time.
    place.clock.set(place.clock.now() + HOUR);
    assert_eq!(events(0).0, []);
    assert!(events(40).1.is_ok());
    let (told, checked) = events(1);
    assert_eq!(told, [AckEvent::Error]);
    assert_eq!(checked.unwrap_err().error_id(), Some(AckErrorId::MaxConnectionDurationReached));
    assert_eq!(ingest.write(&[]).unwrap_err().error_id(), Some(AckErrorId::MaxConnectionDurationReached));
}

#[test]
fn l1_the_index_is_the_same_after_opening_again() {
    let place = Place::new();
    let small = |options: VideoStreamOptions| {
        options.stream(|it| it.segment_bytes(64 << 10).record_bytes_max(48 << 10))
    };
    let mut stream = place.open(small(place.options()));
    let mut expected = vec![];
    for part in 0..8u64 {
        // Producers start again and again, each a little earlier than the last one ended.
        let start = place.clock.now() - Duration::from_millis(part % 3 * 700);
        let data = mkv::live(0..[1, 31, 992, 5, 600, 700, 100, 1][part as usize]);
        let data = data.split_at(data.len());
        let mut ingest = stream.ingest(IngestOptions::new().producer_start(start), |_| {}).unwrap();
        for piece in data.0.chunks(100_000) {
            place.clock.advance(7 * SECOND);
            ingest.write(piece).unwrap();
        }
        ingest.finish().unwrap();
        expected = all(&stream);
        stream.close().unwrap();
        stream = place.open(small(place.options()));
        assert_eq!(all(&stream), expected);
        let read = stream.reader().stats().unwrap().traffic().outgoing_records;
        assert!(
            read <= 70 + expected.len() as u64 / 1_024,
            "{read} of {} fragments were read",
            expected.len()
        );
    }
    assert_eq!(expected.len(), 2_430);
    // With a horizon in the middle of a block.
    let middle = expected[700].server_time;
    place.clock.advance((middle + DAY).since(place.clock.now()) + Duration::from_micros(1));
    let left: Vec<_> = expected.iter().filter(|info| info.server_time > middle).copied().collect();
    assert_eq!(all(&stream), left);
    stream.maintain().unwrap();
    assert!(stream.reader().stats().unwrap().shards[0].horizon > 500.into());
    assert_eq!(all(&stream), left);
    stream.close().unwrap();
    let stream = place.open(small(place.options()));
    assert_eq!(all(&stream), left);
    let next = ingest(&stream, &mkv::live(0..1));
    assert_eq!(next[0].number.sequence(), 2_430.into());
}

#[test]
fn fragments_are_found_by_time_and_listed_in_pages() {
    let place = Place::new();
    let stream = place.open(place.options());
    let start = place.clock.now();
    let mut ingest = stream.ingest(IngestOptions::new().producer_start(start - HOUR), |_| {}).unwrap();
    let data = mkv::live(0..40);
    for piece in data.chunks(data.len() / 40 + 1) {
        ingest.write(piece).unwrap();
        place.clock.advance(SECOND);
    }
    ingest.finish().unwrap();
    let infos = all(&stream);
    assert_eq!(infos.len(), 40);
    let producer = |from: u64, to: u64| {
        let time = |second: u64| start - HOUR + Duration::from_secs(second);
        FragmentSelector::ProducerTime(time(from)..=time(to))
    };
    assert_eq!(stream.fragments(&producer(3, 7)).unwrap(), infos[3..=7], "both ends belong to it");
    assert_eq!(stream.fragments(&producer(40, 99)).unwrap(), []);
    let server = FragmentSelector::ServerTime(infos[10].server_time..=infos[20].server_time);
    let expected: Vec<_> = infos.iter().filter(|info| server.selects(info)).copied().collect();
    assert!(expected.len() >= 10);
    assert_eq!(stream.fragments(&server).unwrap(), expected);

    for (selector, expected) in [(FragmentSelector::All, &infos[..]), (producer(3, 33), &infos[3..=33])] {
        for max in [1, 7, 31, 40, 1_000] {
            let (mut listed, mut token, mut pages) = (vec![], None, 0);
            loop {
                let page = stream.list_fragments(&selector, max, token.as_deref()).unwrap();
                assert!(page.fragments.len() <= max);
                listed.extend(page.fragments);
                pages += 1;
                token = page.next_token;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(
                (&listed[..], pages),
                (expected, expected.len().div_ceil(max)),
                "no empty page at the end"
            );
        }
    }
    let invalid = |max, token| {
        matches!(stream.list_fragments(&producer(0, 1), max, token), Err(VideoError::InvalidArgument(_)))
    };
    assert!(invalid(0, None) && invalid(1_001, None) && invalid(10, Some("17")));
}

#[test]
fn p12_fragments_expire_with_the_data_retention() {
    let place = Place::new();
    let stream = place.open(place.options().data_retention(HOUR));
    let old = ingest(&stream, &mkv::live(0..3));
    place.clock.advance(HOUR);
    let new = ingest(&stream, &mkv::live(0..2));
    assert_eq!(all(&stream).len(), 5);
    place.clock.advance(Duration::from_micros(1));
    assert_eq!(all(&stream), new, "before any maintenance");
    assert!(
        stream.fragment(old[2].number).unwrap().is_none() && stream.fragment_info(old[2].number).is_none()
    );
    assert_eq!((stream.oldest(), stream.newest()), (Some(new[0]), Some(new[1])));
    assert!(matches!(stream.media_for(&[old[0].number]).unwrap().next_chunk(), Err(VideoError::NotFound(_))));
    let first = stream
        .get_media(StartSelector::At(old[0].number))
        .unwrap()
        .next_chunk(Duration::ZERO)
        .unwrap()
        .unwrap();
    assert_eq!(first.info, new[0]);

    stream.set_data_retention(2 * SECOND).unwrap();
    place.clock.advance(3 * SECOND);
    assert_eq!((all(&stream), stream.newest()), (vec![], None));
    stream.close().unwrap();
    let stream = place.open(place.options());
    assert_eq!(stream.data_retention(), 2 * SECOND, "it is kept with the stream");
    let invalid = Duration::from_millis(999);
    assert!(matches!(stream.set_data_retention(invalid), Err(VideoError::InvalidArgument(_))));
    let refused = place.options().data_retention(invalid).open(place.directory.path().join("yard"));
    assert!(matches!(refused, Err(VideoError::InvalidArgument(_))));
}

#[test]
fn with_a_retention_of_0_only_live_viewers_see_something() {
    let place = Place::new();
    let stream = place.open(place.options().data_retention(Duration::ZERO));
    let acks = Acks::default();
    let mut ingest = acks.begin(&stream, IngestOptions::new());
    ingest.write(&mkv::live(0..3)).unwrap();
    ingest.finish().unwrap();
    let events: Vec<_> = acks.take().iter().map(|ack| ack.event).collect();
    assert_eq!(events, [AckEvent::Buffering, AckEvent::Received].repeat(3));
    let newest = stream.newest().unwrap();
    assert!(matches!(stream.fragments(&FragmentSelector::All), Err(VideoError::NoDataRetention)));
    assert!(matches!(
        stream.list_fragments(&FragmentSelector::All, 1, None),
        Err(VideoError::NoDataRetention)
    ));
    assert!(matches!(stream.media_for(&[newest.number]), Err(VideoError::NoDataRetention)));
    assert_eq!(stream.newest_fragments(2).last(), Some(&newest));
    let live = |stream: &VideoStream| {
        let mut media = stream.get_media(StartSelector::Earliest).unwrap();
        std::iter::from_fn(|| media.next_chunk(Duration::ZERO).unwrap()).count()
    };
    assert_eq!(live(&stream), 3);
    place.clock.advance(5 * MINUTE);
    assert_eq!(live(&stream), 3);
    place.clock.advance(Duration::from_micros(1));
    assert_eq!(live(&stream), 0);
    stream.set_data_retention(HOUR).unwrap();
    assert!(stream.fragments(&FragmentSelector::All).is_ok());
}

#[test]
fn with_a_retention_of_0_the_newest_200_mb_are_kept() {
    let place = Place::new();
    let options = place.options().data_retention(Duration::ZERO);
    let stream =
        place.open(options.stream(|options| options.segment_bytes(64 << 20).record_bytes_max(50 << 20)));
    let data = vec![7; 45_000_000];
    let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).unwrap();
    ingest.write(&head(&[TestTrack::new(1)])).unwrap();
    for second in 0..7 {
        ingest.write(&simple_cluster(second * 1_000, 1, &data)).unwrap();
    }
    let kept = stream.newest_fragments(usize::MAX);
    assert_eq!(kept.iter().map(|info| info.number.sequence().get()).collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert_eq!(stream.reader().stats().unwrap().shards[0].horizon, 3.into());
    stream.maintain().unwrap();
    let disk_bytes = stream.reader().stats().unwrap().disk_bytes();
    assert!(disk_bytes < 320 << 20, "{disk_bytes} bytes");
}

#[test]
fn get_media_begins_where_it_is_told() {
    let place = Place::new();
    let stream = place.open(place.options());
    let start = place.clock.now();
    let empty = |selector| stream.get_media(selector).unwrap().next_chunk(Duration::ZERO).unwrap();
    assert!(empty(StartSelector::Now).is_none() && empty(StartSelector::Earliest).is_none());
    let mut ingest = stream.ingest(IngestOptions::new().producer_start(start - HOUR), |_| {}).unwrap();
    ingest.write(&head(&[TestTrack::new(1)])).unwrap();
    for second in 0..5 {
        ingest.write(&simple_cluster(second * 1_000, 25, b"x")).unwrap();
        place.clock.advance(SECOND);
    }
    let infos = all(&stream);
    let second = |count: u32| count * SECOND;
    let at = |selector| {
        let chunk = stream.get_media(selector).unwrap().next_chunk(Duration::ZERO).unwrap();
        chunk.map(|chunk| infos.iter().position(|info| *info == chunk.info).unwrap())
    };
    assert_eq!(at(StartSelector::Now), Some(4));
    assert_eq!(at(StartSelector::Earliest), Some(0));
    assert_eq!(at(StartSelector::At(infos[2].number)), Some(2));
    assert_eq!(at(StartSelector::After(infos[2].number)), Some(3));
    assert_eq!(at(StartSelector::After(infos[4].number)), None);
    assert_eq!(at(StartSelector::ProducerTime(start - HOUR + second(3))), Some(3));
    assert_eq!(at(StartSelector::ProducerTime(start - HOUR + Duration::from_micros(2_000_001))), Some(3));
    assert_eq!(at(StartSelector::ProducerTime(start - DAY)), Some(0));
    assert_eq!(at(StartSelector::ProducerTime(start)), None);
    assert_eq!(at(StartSelector::ServerTime(start + second(1))), Some(1));
    assert_eq!(at(StartSelector::ServerTime(start + Duration::from_micros(1_000_001))), Some(2));
    assert_eq!(at(StartSelector::ServerTime(start + HOUR)), None);
    assert!(matches!(
        stream.get_media(StartSelector::ContinuationToken("17".to_owned())),
        Err(VideoError::InvalidArgument(_))
    ));

    // One fragment after the other by its tokens, like a consumer that always loses its connection.
    let (mut token, mut seen) = (None, vec![]);
    loop {
        let selector = token.take().map_or(StartSelector::Earliest, StartSelector::ContinuationToken);
        let Some(chunk) = stream.get_media(selector).unwrap().next_chunk(Duration::ZERO).unwrap() else {
            break;
        };
        seen.push(chunk.info);
        let tags = tags_in(&chunk.parts.concat());
        token = tags
            .iter()
            .find(|(name, _)| name == "AWS_KINESISVIDEO_CONTINUATION_TOKEN")
            .map(|(_, value)| value.clone());
        assert!(token.is_some());
    }
    assert_eq!(seen, infos);
}

#[test]
fn get_media_says_number_times_and_how_far_behind_it_is() {
    let place = Place::new();
    let stream = place.open(place.options());
    let start = place.clock.now();
    let options = IngestOptions::new().producer_start(start - Duration::from_millis(10)).tag("place", "door");
    stream.ingest_from(&mkv::live(0..2)[..], options, |_| {}).unwrap();
    place.clock.advance(5 * SECOND);
    let infos = all(&stream);
    let mut read = vec![];
    stream.get_media(StartSelector::Earliest).unwrap().without_waiting().read_to_end(&mut read).unwrap();
    let documents = mkv::documents(&read);
    assert_eq!(documents.len(), 2);
    for (document, (info, behind)) in documents.iter().zip(infos.iter().zip(["5000", "0"])) {
        let number = info.number.to_string();
        let producer = if behind == "0" { "1700000000.990" } else { "1699999999.990" };
        let expected = [
            ("place", "door"),
            ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &*number),
            ("AWS_KINESISVIDEO_SERVER_TIMESTAMP", "1700000000.000"),
            ("AWS_KINESISVIDEO_PRODUCER_TIMESTAMP", producer),
            ("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW", behind),
            ("AWS_KINESISVIDEO_CONTINUATION_TOKEN", &number),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(tags_in(document), expected);
        let segment = mkv::read(mkv::only(&mkv::read(document), mkv::SEGMENT));
        let ids: Vec<_> = segment.iter().map(|element| element.id).collect();
        use mkv::{CLUSTER, INFO, TAGS, TRACKS};
        assert_eq!(ids, [INFO, TRACKS, TAGS, TAGS, CLUSTER, TAGS]);
        let fragment = stream.fragment(info.number).unwrap().unwrap();
        assert!(fragment.parts().1.ends_with(mkv::only(&segment, CLUSTER)));
    }
    // Output can be ingested again, and gets its own tags.
    let again = ingest(&stream, &read);
    assert_eq!(again.len(), 2);
    let fragment = stream.fragment(again[0].number).unwrap().unwrap();
    assert_eq!(tags_in(fragment.matroska()), [("place".to_owned(), "door".to_owned())]);
}

#[test]
fn fragments_are_read_in_the_order_in_which_they_are_asked_for() {
    let place = Place::new();
    let stream = place.open(place.options());
    let infos = ingest(&stream, &mkv::live(0..3));
    let missing = FragmentNumber::new(99.into());
    let numbers = [infos[2].number, infos[0].number, infos[2].number, missing, infos[1].number];
    let mut read = vec![];
    stream.media_for(&numbers).unwrap().read_to_end(&mut read).unwrap();
    let documents = mkv::documents(&read);
    let number = |document: &&[u8]| tags_in(document)[0].1.parse::<FragmentNumber>().unwrap();
    assert_eq!(
        documents.iter().map(number).collect::<Vec<_>>(),
        numbers[..4],
        "it ends with what is not there"
    );
    let names: Vec<_> = tags_in(documents[0]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "AWS_KINESISVIDEO_FRAGMENT_NUMBER",
            "AWS_KINESISVIDEO_SERVER_SIDE_TIMESTAMP",
            "AWS_KINESISVIDEO_PRODUCER_SIDE_TIMESTAMP"
        ]
    );
    let tags = tags_in(documents[3]);
    assert_eq!(tags[1], ("AWS_KINESISVIDEO_EXCEPTION_ERROR_CODE".to_owned(), "4000".to_owned()));
    assert!(tags[2].1.contains("there is no fragment"), "{tags:?}");

    let mut media = stream.media_for(&numbers).unwrap();
    let mut next = || media.next_chunk();
    (0..3).for_each(|_| assert!(next().unwrap().is_some()));
    assert!(matches!(next(), Err(VideoError::NotFound(_))));
    assert_eq!(next().unwrap().unwrap().info, infos[1], "chunk by chunk, it goes on");
    assert!(next().unwrap().is_none());
    for wrong in [vec![], vec![missing; 1_001]] {
        assert!(matches!(stream.media_for(&wrong), Err(VideoError::InvalidArgument(_))));
    }
}

#[test]
fn viewers_wait_for_the_next_fragment_until_the_stream_is_closed() {
    let place = Place::new();
    let stream = place.open(place.options());
    assert!(!stream.wait_after(None, Duration::ZERO).unwrap());
    let (send, receive) = channel();
    let viewer = std::thread::spawn({
        let mut media = stream.get_media(StartSelector::Now).unwrap();
        move || loop {
            match media.next_chunk(FOREVER) {
                Ok(chunk) => send.send(chunk.unwrap().info).unwrap(),
                Err(error) => return error,
            }
        }
    });
    let reader = std::thread::spawn({
        let mut media = stream.get_media(StartSelector::Now).unwrap();
        move || {
            let mut read = vec![];
            media.read_to_end(&mut read).map(|_| mkv::documents(&read).len())
        }
    });
    let mut ingest = stream.ingest(IngestOptions::new(), |_| {}).unwrap();
    ingest.write(&head(&[TestTrack::new(1)])).unwrap();
    for second in 0..5 {
        ingest.write(&simple_cluster(second * 1_000, 25, b"x")).unwrap();
        let seen = receive.recv_timeout(FOREVER).unwrap();
        assert_eq!(Some(seen), stream.newest());
        assert!(stream.wait_after(None, FOREVER).unwrap());
        assert!(!stream.wait_after(Some(seen.number), Duration::from_millis(1)).unwrap());
    }
    let newest = stream.newest().unwrap();
    let waiting = std::thread::spawn({
        let stream = stream.clone();
        move || stream.wait_after(Some(newest.number), FOREVER)
    });
    let clone = stream.clone();
    stream.close().unwrap();
    assert!(matches!(viewer.join().unwrap(), VideoError::Stream(Error::Closed)));
    assert_eq!(reader.join().unwrap().unwrap(), 5);
    assert!(matches!(waiting.join().unwrap(), Err(VideoError::Stream(Error::Closed))));
    assert_eq!(
        clone.fragment(newest.number).unwrap().unwrap().info(),
        newest,
        "what is there can still be read"
    );
    assert!(clone.is_closed());
    let refused = ingest.write(&simple_cluster(9_000, 25, b"x")).unwrap_err();
    assert_eq!(refused.error_id(), Some(AckErrorId::StreamNotActive));
    assert!(matches!(clone.ingest(IngestOptions::new(), |_| {}), Err(VideoError::Stream(Error::Closed))));
}

#[test]
fn a_stream_is_shared_by_threads_and_an_ingest_moves_to_one() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    fn moved<T: Send>(_: &T) {}
    let place = Place::new();
    let stream = place.open(place.options());
    shared(&stream);
    moved(&stream.ingest(IngestOptions::new(), |_| {}).unwrap());
    moved(&stream.get_media(StartSelector::Now).unwrap());
}

#[test]
fn a_stream_of_something_else_is_refused() {
    let place = Place::new();
    let path = place.directory.path().join("door");
    let other = common::small(&place.clock).open(&path).unwrap();
    other.put("user-17", "clicked").unwrap();
    other.close().unwrap();
    assert!(matches!(place.options().open(&path), Err(VideoError::InvalidArgument(_))));
    let other = streamlog::Stream::open(&path).unwrap();
    assert_eq!(other.describe().segment_bytes, 64 << 10, "it keeps its settings");
    let stream = place.options().open(place.directory.path().join("yard")).unwrap();
    assert!(matches!(
        stream.set_property("video.data-retention-ms", None),
        Err(VideoError::InvalidArgument(_))
    ));
    stream.set_property("place", Some("yard")).unwrap();
    assert_eq!(stream.reader().describe().properties["place"], "yard");
}
