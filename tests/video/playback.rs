//! Playback sessions on a stream: what they show as fragments come and go, what they return, and what they refuse.

use crate::common;
use crate::common::video::sound;

use std::sync::Arc;
use std::time::Duration;

use sound::{Sound, cluster};
use streamlog::video::{
    DashLink, DashOptions, DiscontinuityMode, FragmentNumber, FragmentSelector, HlsContainer, HlsLink,
    HlsOptions, IngestOptions, PlaybackMode, TimeSource, Timecodes, VideoError, VideoStream,
    VideoStreamOptions,
};
use streamlog::{DAY, HOUR, Maintenance, ManualClock, Timestamp};
use tempfile::TempDir;

const START: u64 = 1_767_225_600_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

/// A stream whose clock stands still, in a directory of its own.
struct Camera {
    stream: VideoStream,
    clock: Arc<ManualClock>,
    scratch: TempDir,
}

impl Camera {
    fn new() -> Self {
        Self::with(DAY)
    }

    fn with(retention: Duration) -> Self {
        let scratch = common::scratch();
        let clock = Arc::new(ManualClock::new(at(0)));
        let stream = open(&scratch, &clock, retention);
        Self { stream, clock, scratch }
    }

    fn open_again(&mut self, retention: Duration) {
        self.stream.clone().close().unwrap();
        self.stream = open(&self.scratch, &self.clock, retention);
    }

    /// Sends fragments of a second that begin at these milliseconds. Each is stored when the one before it would have ended.
    fn send(&self, sound: Sound, times: impl IntoIterator<Item = u64>) {
        let options = IngestOptions::new().timecodes(Timecodes::Absolute);
        let mut ingest = self.stream.ingest(options, |_| {}).unwrap();
        ingest.write(&sound.head()).unwrap();
        for time in times {
            ingest.write(&cluster(START + time)).unwrap();
            self.clock.advance(Duration::from_secs(1));
        }
        ingest.finish().unwrap();
    }

    fn numbers(&self) -> Vec<FragmentNumber> {
        self.stream.fragments(&FragmentSelector::All).unwrap().iter().map(|info| info.number).collect()
    }
}

fn open(scratch: &TempDir, clock: &Arc<ManualClock>, retention: Duration) -> VideoStream {
    VideoStreamOptions::new()
        .data_retention(retention)
        .clock(Arc::clone(clock) as _)
        .maintenance(Maintenance::Manual)
        .stream(|options| options.segment_bytes(1 << 20).record_bytes_max(128 << 10))
        .open(scratch.path().join("camera"))
        .unwrap()
}

fn hls_link(link: HlsLink) -> String {
    match link {
        HlsLink::MediaPlaylist => "media.m3u8".to_owned(),
        HlsLink::Init { fragment } => format!("init-{fragment}.mp4"),
        HlsLink::Fragment { fragment, container: HlsContainer::MpegTs } => format!("{fragment}.ts"),
        HlsLink::Fragment { fragment, .. } => format!("{fragment}.mp4"),
        _ => unreachable!(),
    }
}

fn dash_link(link: DashLink) -> String {
    match link {
        DashLink::Init { fragment, track } => format!("init-{fragment}-{track}.mp4"),
        DashLink::Fragments { track } => format!("$Number$-{track}.mp4"),
        _ => unreachable!(),
    }
}

/// The number of the first fragment in a playlist, and all of them.
fn listed(playlist: &str) -> (u64, Vec<FragmentNumber>) {
    let first = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
    let names = playlist.lines().filter(|line| !line.starts_with('#'));
    (first.parse().unwrap(), names.map(|name| name.split('.').next().unwrap().parse().unwrap()).collect())
}

/// When a media segment of MP4 begins, in units of its track.
fn decode_time(segment: &[u8]) -> u64 {
    let at = segment.windows(4).position(|name| name == b"tfdt").unwrap();
    u64::from_be_bytes(segment[at + 8..at + 16].try_into().unwrap())
}

#[test]
fn a_live_session_follows_its_stream_and_goes_on_after_a_restart() {
    let mut camera = Camera::new();
    camera.send(Sound::default(), (0..4).map(|second| second * 1_000));
    let options = HlsOptions::new().fragments_max(3);
    let session = camera.stream.hls(options).unwrap();
    let numbers = camera.numbers();
    assert_eq!(listed(&session.media_playlist(hls_link).unwrap()), (0, numbers[1..].to_vec()));
    let master = session.master_playlist(hls_link).unwrap();
    assert!(master.contains("CODECS=\"mp4a.40.2\"\nmedia.m3u8\n"), "{master}");
    // A session that has seen none of it so far reports the same.
    let start = session.start();
    for second in 4..10 {
        camera.send(Sound::default(), [second * 1_000]);
        let playlist = session.media_playlist(hls_link).unwrap();
        let again = camera.stream.resume_hls(options, start);
        assert_eq!(again.media_playlist(hls_link).unwrap(), playlist);
        let numbers = camera.numbers();
        let newest = numbers.len() - 3;
        assert_eq!(listed(&playlist), (newest as u64 - 1, numbers[newest..].to_vec()));
    }
    let before = session.media_playlist(hls_link).unwrap();
    drop(session);
    camera.open_again(DAY);
    let session = camera.stream.resume_hls(options, start);
    assert_eq!(session.media_playlist(hls_link).unwrap(), before);
    assert_eq!(session.expires_at(), start.started + Duration::from_secs(300));
}

#[test]
fn a_session_numbers_on_when_its_first_fragments_have_expired() {
    let camera = Camera::with(Duration::from_secs(60));
    camera.send(Sound::default(), (0..5).map(|second| second * 1_000));
    let options = HlsOptions::new().fragments_max(4);
    let kept = camera.stream.hls(options).unwrap();
    let first = listed(&kept.media_playlist(hls_link).unwrap()).0;
    camera.send(Sound::default(), (5..100).map(|second| second * 1_000));
    let playlist = kept.media_playlist(hls_link).unwrap();
    assert_eq!(listed(&playlist), (first + 95, camera.numbers().split_off(camera.numbers().len() - 4)));
    // Another process does not know the dropped fragments, only their number.
    let resumed = camera.stream.resume_hls(options, kept.start());
    assert_eq!(listed(&resumed.media_playlist(hls_link).unwrap()), listed(&playlist));
}

#[test]
fn fragments_are_handed_out_in_the_container_of_the_session() {
    let camera = Camera::new();
    // A pause of ten seconds.
    camera.send(Sound::default(), [0, 1_000, 11_000]);
    let numbers = camera.numbers();
    let by_producer = HlsOptions::new()
        .mode(PlaybackMode::OnDemand { from: at(0), to: at(60_000) })
        .times(TimeSource::Producer);
    let session = camera.stream.hls(by_producer).unwrap();
    let init = session.init(numbers[0]).unwrap();
    assert_eq!(&init[4..8], b"ftyp");
    let times: Vec<_> =
        numbers.iter().map(|number| decode_time(&session.fragment(*number).unwrap())).collect();
    // Players see the pause.
    assert_eq!(times, [10, 11, 21].map(|second| second * 48_000));
    let playlist = session.media_playlist(hls_link).unwrap();
    assert!(!playlist.contains("DISCONTINUITY"), "{playlist}");
    let marked = by_producer.discontinuities(DiscontinuityMode::OnDiscontinuity);
    let playlist = camera.stream.hls(marked).unwrap().media_playlist(hls_link).unwrap();
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");

    let session = camera.stream.hls(by_producer.container(HlsContainer::MpegTs)).unwrap();
    let fragment = session.fragment(numbers[1]).unwrap();
    assert!(fragment.len().is_multiple_of(188) && fragment.chunks(188).all(|packet| packet[0] == 0x47));
    assert!(session.media_playlist(hls_link).unwrap().contains(&format!("{}.ts\n", numbers[1])));

    let options = DashOptions::new()
        .mode(PlaybackMode::OnDemand { from: at(0), to: at(60_000) })
        .times(TimeSource::Producer);
    let session = camera.stream.dash(options).unwrap();
    assert_eq!(&session.init(numbers[0], 1).unwrap()[4..8], b"ftyp");
    let times = [0, 1, 2].map(|place| decode_time(&session.fragment(place, 1).unwrap()));
    // The timeline of DASH has no gaps.
    assert_eq!(times, [10, 11, 12].map(|second| second * 48_000));
    for missing in [session.fragment(3, 1), session.fragment(0, 2), session.init(numbers[0], 2)] {
        assert!(matches!(missing, Err(VideoError::NotFound(_))), "{missing:?}");
    }
}

#[test]
fn a_session_hands_out_no_fragment_that_is_not_its_own() {
    let camera = Camera::new();
    camera.send(Sound::default(), (0..9).map(|second| second * 1_000));
    let numbers = camera.numbers();
    let is_ours = |options: HlsOptions| {
        let session = camera.stream.hls(options).unwrap();
        let asked = numbers.iter().map(|number| match session.fragment(*number) {
            Ok(_) => true,
            Err(VideoError::NotFound(_)) => false,
            Err(error) => panic!("{error}"),
        });
        asked.collect::<Vec<_>>()
    };
    let range = PlaybackMode::OnDemand { from: at(2_000), to: at(4_000) };
    let by_producer = HlsOptions::new().mode(range).times(TimeSource::Producer);
    assert_eq!(is_ours(by_producer), [false, false, true, true, true, false, false, false, false]);
    let live = HlsOptions::new().fragments_max(2);
    assert_eq!(is_ours(live), [false, false, false, false, false, false, false, true, true]);
    let session = camera.stream.hls(by_producer).unwrap();
    for number in [FragmentNumber::new(99.into()), numbers[0]] {
        assert!(matches!(session.init(number), Err(VideoError::NotFound(_))), "{number}");
    }
}

#[test]
fn other_parameters_of_a_codec_are_another_setup() {
    let camera = Camera::new();
    let lower = Sound { sample_rate: 24_000, codec_private: &[0x13, 0x10], ..Sound::default() };
    camera.send(Sound::default(), [0, 1_000]);
    camera.send(lower, [2_000, 3_000]);
    // The same again: a producer that has begun anew.
    camera.send(lower, [4_000]);
    let numbers = camera.numbers();
    let options = HlsOptions::new().discontinuities(DiscontinuityMode::Never);
    let session = camera.stream.hls(options).unwrap();
    let playlist = session.media_playlist(hls_link).unwrap();
    let inits: Vec<_> = playlist.lines().filter(|line| line.starts_with("#EXT-X-MAP")).collect();
    let expected = [numbers[0], numbers[2]].map(|number| format!("#EXT-X-MAP:URI=\"init-{number}.mp4\""));
    assert_eq!(inits, expected, "{playlist}");
    assert_ne!(session.init(numbers[0]).unwrap(), session.init(numbers[2]).unwrap());
    assert_eq!(session.init(numbers[2]).unwrap(), session.init(numbers[4]).unwrap());
    let manifest = camera.stream.dash(DashOptions::new()).unwrap().manifest(dash_link).unwrap();
    assert_eq!(manifest.matches("<Period ").count(), 2, "{manifest}");
    assert!(manifest.contains("<Period id=\"2\" start=\"PT2.000S\">"), "{manifest}");
    assert!(manifest.contains("audioSamplingRate=\"24000\""), "{manifest}");
}

#[test]
fn a_replay_moves_on_as_it_is_played() {
    let camera = Camera::new();
    camera.send(Sound::default(), (0..6).map(|second| second * 1_000));
    let numbers = camera.numbers();
    let options = HlsOptions::new()
        .mode(PlaybackMode::LiveReplay { from: at(1_000), to: None })
        .times(TimeSource::Producer)
        .fragments_max(2);
    let session = camera.stream.hls(options).unwrap();
    let shown = || listed(&session.media_playlist(hls_link).unwrap());
    assert_eq!(shown(), (0, numbers[1..3].to_vec()));
    camera.clock.advance(Duration::from_millis(999));
    assert_eq!(shown(), (0, numbers[1..3].to_vec()));
    camera.clock.advance(Duration::from_millis(1));
    assert_eq!(shown(), (1, numbers[2..4].to_vec()));
    camera.clock.advance(Duration::from_secs(30));
    assert_eq!(shown(), (3, numbers[4..].to_vec()));
    camera.send(Sound::default(), [6_000]);
    assert_eq!(shown(), (4, vec![numbers[5], camera.numbers()[6]]));
}

#[test]
fn on_demand_nothing_is_played_that_came_later() {
    let camera = Camera::new();
    camera.send(Sound::default(), [0, 1_000]);
    camera.clock.advance(Duration::from_secs(1));
    let options = HlsOptions::new()
        .mode(PlaybackMode::OnDemand { from: at(0), to: at(60_000) })
        .times(TimeSource::Producer);
    let session = camera.stream.hls(options).unwrap();
    let before = session.media_playlist(hls_link).unwrap();
    assert_eq!(listed(&before), (0, camera.numbers()));
    camera.clock.advance(Duration::from_secs(1));
    camera.send(Sound::default(), [2_000]);
    assert_eq!(session.media_playlist(hls_link).unwrap(), before);
    assert_eq!(camera.stream.resume_hls(options, session.start()).media_playlist(hls_link).unwrap(), before);
}

#[test]
fn a_long_replay_comes_to_its_end() {
    let camera = Camera::new();
    let count = 1_100;
    camera.send(Sound::default(), (0..count).map(|second| second * 1_000));
    let numbers = camera.numbers();
    // By server time, the range ended half an hour ago.
    camera.clock.advance(Duration::from_secs(1_800));
    let options = HlsOptions::new()
        .mode(PlaybackMode::LiveReplay { from: at(0), to: Some(at(count * 1_000)) })
        .expires_after(HOUR)
        .fragments_max(2);
    let session = camera.stream.hls(options).unwrap();
    assert_eq!(listed(&session.media_playlist(hls_link).unwrap()), (0, numbers[..2].to_vec()));
    camera.clock.advance(Duration::from_secs(count - 3));
    let playlist = session.media_playlist(hls_link).unwrap();
    assert_eq!(listed(&playlist), (count - 3, numbers[numbers.len() - 3..][..2].to_vec()));
    assert!(!playlist.contains("ENDLIST"));
    camera.clock.advance(Duration::from_secs(1));
    let playlist = session.media_playlist(hls_link).unwrap();
    assert_eq!(listed(&playlist), (count - 2, numbers[numbers.len() - 2..].to_vec()));
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn what_kinesis_refuses_is_refused() {
    let kind = |outcome: Result<_, VideoError>| match outcome.err() {
        Some(VideoError::NoDataRetention) => "NoDataRetention",
        Some(VideoError::NotFound(_)) => "NotFound",
        Some(VideoError::InvalidArgument(_)) => "InvalidArgument",
        Some(VideoError::MissingCodecPrivateData(_)) => "MissingCodecPrivateData",
        Some(VideoError::InvalidCodecPrivateData(_)) => "InvalidCodecPrivateData",
        Some(VideoError::UnsupportedMedia(_)) => "UnsupportedMedia",
        other => panic!("{other:?}"),
    };
    let refused = |camera: &Camera, mode: PlaybackMode| {
        let hls = kind(camera.stream.hls(HlsOptions::new().mode(mode)).map(drop));
        assert_eq!(kind(camera.stream.dash(DashOptions::new().mode(mode)).map(drop)), hls);
        hls
    };
    let camera = Camera::with(Duration::ZERO);
    camera.send(Sound::default(), [0]);
    assert_eq!(refused(&camera, PlaybackMode::Live), "NoDataRetention");

    let camera = Camera::new();
    assert_eq!(refused(&camera, PlaybackMode::Live), "NotFound");
    camera.send(Sound::default(), [0]);
    camera.stream.hls(HlsOptions::new()).unwrap();
    let now = at(1_000);
    let nothing = PlaybackMode::OnDemand { from: now - HOUR, to: at(0) - Duration::from_secs(1) };
    assert_eq!(refused(&camera, nothing), "NotFound");
    assert_eq!(refused(&camera, PlaybackMode::LiveReplay { from: now, to: None }), "NotFound");
    let long = PlaybackMode::OnDemand { from: now - DAY - Duration::from_secs(1), to: now };
    assert_eq!(refused(&camera, long), "InvalidArgument");
    let future = PlaybackMode::OnDemand { from: at(0), to: now + HOUR };
    assert_eq!(refused(&camera, future), "InvalidArgument");
    camera.clock.advance(Duration::from_secs(29));
    camera.stream.hls(HlsOptions::new()).unwrap();
    camera.clock.advance(Duration::from_millis(1_001));
    assert_eq!(
        refused(&camera, PlaybackMode::Live),
        "NotFound",
        "the newest fragment is older than 30 seconds"
    );

    for (sound, expected) in [
        (Sound { codec_private: &[], ..Sound::default() }, "MissingCodecPrivateData"),
        (Sound { codec_private: &[0], ..Sound::default() }, "InvalidCodecPrivateData"),
        (Sound { codec: "A_OPUS", ..Sound::default() }, "UnsupportedMedia"),
    ] {
        let camera = Camera::new();
        camera.send(sound, [0]);
        assert_eq!(refused(&camera, PlaybackMode::Live), expected);
    }
}

#[test]
fn a_session_ends() {
    let camera = Camera::new();
    camera.send(Sound::default(), [0]);
    let options = HlsOptions::new().expires_after(Duration::from_secs(10));
    let session = camera.stream.hls(options).unwrap();
    camera.clock.advance(Duration::from_millis(9_999));
    session.media_playlist(hls_link).unwrap();
    camera.clock.advance(Duration::from_millis(1));
    let number = camera.numbers()[0];
    for outcome in [
        session.media_playlist(hls_link).map(drop),
        session.master_playlist(hls_link).map(drop),
        session.init(number).map(drop),
        session.fragment(number).map(drop),
        camera.stream.resume_hls(options, session.start()).fragment(number).map(drop),
    ] {
        assert!(matches!(outcome, Err(VideoError::SessionExpired(_))), "{outcome:?}");
    }
}
