//! Playlists and manifests, from lists of fragments to their text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::dash::{self, DashLink};
use super::hls::{self, HlsLink};
use super::options::{DiscontinuityMode, HlsContainer, HlsOptions, Play, PlaybackMode, TimeSource};
use super::rendition::{Played, Rendition};
use super::tape::{Missing, Rules, TOLERANCE_MICROS, Tape};
use crate::Timestamp;
use crate::video::{FragmentInfo, FragmentNumber};

/// When the tests begin, in milliseconds.
const START: u64 = 1_767_225_600_000;
const NEVER: DiscontinuityMode = DiscontinuityMode::Never;
/// How often a player asks.
const POLL: Duration = Duration::from_millis(500);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

fn number(sequence: u64) -> FragmentNumber {
    FragmentNumber::new(sequence.into())
}

/// A fragment with the times of the producer and the server, and its length, in milliseconds.
fn info(sequence: u64, producer: u64, server: u64, length: u64) -> FragmentInfo {
    FragmentInfo {
        number: number(sequence),
        producer_time: at(producer),
        server_time: at(server),
        length: Duration::from_millis(length),
        bytes: 100_000,
        setup: 7,
    }
}

/// A fragment of a second for each second from 0 on, which arrives when it has ended.
fn seconds(count: u64) -> Vec<FragmentInfo> {
    (0..count).map(|at| info(at, at * 1_000, (at + 1) * 1_000, 1_000)).collect()
}

fn play(mode: PlaybackMode, source: TimeSource, count: usize) -> Play {
    HlsOptions::new().mode(mode).times(source).fragments_max(count).play
}

fn tape(play: Play, discontinuities: DiscontinuityMode, infos: &[FragmentInfo]) -> Tape {
    // On demand, what was stored later is not played.
    let started = if play.mode.is_on_demand() { at(1_000_000_000) } else { at(0) };
    let rules = Rules { play, discontinuities, started };
    let mut tape = Tape::new(rules, Missing::default());
    infos.iter().for_each(|info| tape.push(info));
    tape
}

fn on_demand(source: TimeSource, from: u64, to: u64) -> Play {
    play(PlaybackMode::OnDemand { from: at(from), to: at(to) }, source, 1_000)
}

/// The sequence numbers of the fragments that are shown at a time.
fn shown(tape: &mut Tape, now: u64) -> Vec<u64> {
    tape.window(at(now)).segments.iter().map(|segment| segment.number.sequence().get()).collect()
}

const STYLE: hls::Style =
    hls::Style { container: HlsContainer::FragmentedMp4, has_times: false, is_on_demand: false };

fn hls_link(link: HlsLink) -> String {
    match link {
        HlsLink::MediaPlaylist => "media".to_owned(),
        HlsLink::Init { fragment } => format!("init/{}", fragment.sequence()),
        HlsLink::Fragment { fragment, .. } => format!("fragment/{}", fragment.sequence()),
    }
}

/// For each fragment of a playlist: its number, the number of its timeline, and its initialization segment.
fn parse(playlist: &str) -> BTreeMap<String, (u64, u64, String)> {
    let value = |name: &str| {
        let line = playlist.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.parse().unwrap())
    };
    let (mut sequence, mut timeline) =
        (value("#EXT-X-MEDIA-SEQUENCE:"), value("#EXT-X-DISCONTINUITY-SEQUENCE:"));
    let mut init = String::new();
    let mut found = BTreeMap::new();
    for line in playlist.lines() {
        if line == "#EXT-X-DISCONTINUITY" {
            timeline += 1;
        } else if let Some(uri) = line.strip_prefix("#EXT-X-MAP:URI=") {
            uri.trim_matches('"').clone_into(&mut init);
        } else if !line.starts_with('#') {
            assert_eq!(
                found.insert(line.to_owned(), (sequence, timeline, init.clone())),
                None,
                "{line} is twice"
            );
            sequence += 1;
        }
    }
    found
}

#[test]
fn a_live_playlist_has_the_newest_fragments_and_each_as_soon_as_it_is_there() {
    let infos = seconds(8);
    let mut tape = tape(play(PlaybackMode::Live, TimeSource::Server, 3), NEVER, &infos[..1]);
    assert_eq!(shown(&mut tape, 0), [0]);
    for end in 2..=8 {
        tape.push(&infos[end - 1]);
        let expected: Vec<_> = (end.saturating_sub(3) as u64..end as u64).collect();
        assert_eq!(shown(&mut tape, 0), expected);
    }
    let window = tape.window(at(0));
    let playlist = hls::media(&window, STYLE, hls_link);
    assert_eq!(
        playlist,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-MAP:URI=\"init/0\"\n\
         #EXTINF:1.000,\nfragment/5\n#EXTINF:1.000,\nfragment/6\n#EXTINF:1.000,\nfragment/7\n"
    );
}

#[test]
fn a_playlist_on_demand_is_whole() {
    let mut infos = seconds(5);
    infos[3].length = Duration::from_micros(2_500_250);
    let mut tape = tape(on_demand(TimeSource::Server, 2_000, 4_000), DiscontinuityMode::Always, &infos);
    let style = hls::Style { container: HlsContainer::MpegTs, has_times: true, is_on_demand: true };
    assert_eq!(
        hls::media(&tape.window(at(0)), style, hls_link),
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z\n#EXTINF:1.000,\nfragment/1\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:03.000Z\n#EXTINF:1.000,\nfragment/2\n\
         #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:04.000Z\n#EXTINF:2.500250,\nfragment/3\n\
         #EXT-X-ENDLIST\n"
    );
}

#[test]
fn on_demand_the_first_fragments_of_a_range_are_shown() {
    let options =
        HlsOptions::new().mode(PlaybackMode::OnDemand { from: at(0), to: at(90_000) }).fragments_max(4);
    let mut tape = tape(options.play, NEVER, &seconds(10));
    assert_eq!(shown(&mut tape, 100_000), [0, 1, 2, 3]);
    assert!(!tape.wants_more(at(100_000)));
}

#[test]
fn a_range_has_both_its_ends_and_no_fragment_that_runs_into_it() {
    for source in [TimeSource::Server, TimeSource::Producer] {
        let infos: Vec<_> = (0..6).map(|at| info(at, at * 1_000, at * 1_000, 1_000)).collect();
        assert_eq!(
            shown(&mut tape(on_demand(source, 2_000, 4_000), NEVER, &infos), 0),
            [2, 3, 4],
            "{source:?}"
        );
        assert_eq!(shown(&mut tape(on_demand(source, 2_001, 3_999), NEVER, &infos), 0), [3], "{source:?}");
    }
}

#[test]
fn of_a_time_that_was_sent_twice_the_oldest_recording_is_played() {
    let first = seconds(10);
    let mut infos = first.clone();
    // The same again, and then again with other times in between.
    infos.extend((0..10).map(|at| info(10 + at, at * 1_000, 20_000 + at, 1_000)));
    infos.extend((0..10).map(|at| info(20 + at, at * 1_000 + 500, 40_000 + at, 1_000)));
    let by_producer = on_demand(TimeSource::Producer, 3_000, 6_000);
    assert_eq!(shown(&mut tape(by_producer, NEVER, &infos), 0), [3, 4, 5, 6]);
    // Nothing ends the first recording within this range, but its times are not played again.
    let whole = on_demand(TimeSource::Producer, 0, 60_000);
    let expected: Vec<_> = (0..10).chain(20..30).collect();
    assert_eq!(shown(&mut tape(whole, NEVER, &infos), 0), expected);
    // By the time of the server, all are there.
    let by_server = on_demand(TimeSource::Server, 0, 60_000);
    assert_eq!(shown(&mut tape(by_server, NEVER, &infos), 0).len(), 30);
}

#[test]
fn a_live_playlist_follows_the_order_of_storing_whatever_the_producer_says() {
    let mut infos = seconds(6);
    // A clock that was set back, and a fragment that was sent twice.
    infos.push(info(6, 500, 7_000, 1_000));
    infos.push(info(7, 5_000, 8_000, 1_000));
    infos.push(info(8, 1_500, 9_000, 1_000));
    let mut tape = tape(play(PlaybackMode::Live, TimeSource::Producer, 3), NEVER, &infos);
    assert_eq!(shown(&mut tape, 0), [5, 6, 8]);
}

#[test]
fn discontinuities_are_gaps_and_overlaps_of_more_than_50_milliseconds() {
    let infos = [
        info(0, 0, 0, 1_000),
        info(1, 1_050, 1, 1_000),
        info(2, 2_000, 2, 1_000),
        info(3, 3_051, 3, 1_000),
        info(4, 4_000, 4, 1_000),
    ];
    let marks = |mode| {
        let mut tape = tape(on_demand(TimeSource::Producer, 0, 60_000), mode, &infos);
        tape.window(at(0)).segments.iter().map(|segment| segment.is_discontinuous).collect::<Vec<_>>()
    };
    assert_eq!(marks(DiscontinuityMode::OnDiscontinuity), [false, false, false, true, true]);
    assert_eq!(marks(DiscontinuityMode::Always), [false, true, true, true, true]);
    assert_eq!(marks(DiscontinuityMode::Never), [false; 5]);
}

#[test]
fn a_player_is_set_up_again_when_the_parameters_of_a_codec_change() {
    let mut infos = seconds(6);
    infos[2].setup = 8;
    infos[3].setup = 8;
    let mut tape =
        tape(on_demand(TimeSource::Producer, 0, 60_000), DiscontinuityMode::OnDiscontinuity, &infos);
    let window = tape.window(at(0));
    let parsed = parse(&hls::media(&window, STYLE, hls_link));
    let inits: Vec<_> = parsed.values().map(|(_, timeline, init)| (*timeline, init.as_str())).collect();
    let expected = [(0, "init/0"), (0, "init/0"), (1, "init/2"), (1, "init/2"), (2, "init/4"), (2, "init/4")];
    assert_eq!(inits, expected);
    // A transport stream brings its parameters along.
    let style = hls::Style { container: HlsContainer::MpegTs, ..STYLE };
    assert!(!hls::media(&window, style, hls_link).contains("EXT-X-MAP"));
}

#[test]
fn a_replay_shows_a_further_fragment_when_it_has_been_played() {
    let mode = PlaybackMode::LiveReplay { from: at(0), to: None };
    let mut tape = tape(play(mode, TimeSource::Producer, 3), NEVER, &seconds(6));
    assert_eq!(shown(&mut tape, 0), [0, 1, 2]);
    assert_eq!(shown(&mut tape, 999), [0, 1, 2]);
    assert_eq!(shown(&mut tape, 1_000), [1, 2, 3]);
    assert!(!tape.wants_more(at(2_999)));
    assert_eq!(shown(&mut tape, 60_000), [3, 4, 5]);
    assert!(tape.wants_more(at(60_000)), "it goes on with what comes");
    assert!(!tape.window(at(60_000)).is_over);
}

#[test]
fn a_replay_with_an_end_ends() {
    let mode = PlaybackMode::LiveReplay { from: at(0), to: Some(at(3_000)) };
    let mut tape = tape(play(mode, TimeSource::Producer, 2), NEVER, &seconds(6));
    assert!(!tape.window(at(0)).is_over, "not all has been shown");
    assert_eq!(shown(&mut tape, 10_000), [2, 3]);
    let window = tape.window(at(10_000));
    assert!(window.is_over && hls::media(&window, STYLE, hls_link).ends_with("#EXT-X-ENDLIST\n"));
}

fn rendition(tracks: &[(u64, bool)]) -> Rendition {
    let of_track = |&(number, is_video): &(u64, bool)| Played {
        number,
        is_video,
        codec: if is_video { "avc1.64001f" } else { "mp4a.40.2" }.to_owned(),
        width: 640,
        height: 360,
        sample_rate: 48_000,
        channels: 2,
        frame_ns: is_video.then_some(33_366_666),
    };
    Rendition {
        tracks: tracks.iter().map(of_track).collect(),
        bits_per_second: 750_000,
        bits_per_second_max: 800_000,
    }
}

#[test]
fn the_master_playlist_says_what_a_player_has_to_know() {
    let playlist = hls::master(&rendition(&[(1, true), (2, false)]), HlsContainer::FragmentedMp4, hls_link);
    assert_eq!(
        playlist,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-STREAM-INF:BANDWIDTH=800000,AVERAGE-BANDWIDTH=750000,\
         CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970\nmedia\n"
    );
    let sound = hls::master(&rendition(&[(2, false)]), HlsContainer::MpegTs, hls_link);
    assert!(sound.contains("CODECS=\"mp4a.40.2\"\nmedia\n"), "{sound}");
}

fn dash_link(link: DashLink) -> String {
    match link {
        DashLink::Init { fragment, track } => format!("init?fragment={}&track={track}", fragment.sequence()),
        DashLink::Fragments { track } => format!("$Number$?track={track}"),
    }
}

const DASH_STYLE: dash::Style = dash::Style {
    has_times: false,
    has_numbers: false,
    is_on_demand: false,
    epoch: Timestamp::from_millis(START),
    now: Timestamp::from_millis(START + 9_000),
};

#[test]
fn a_manifest_has_no_gaps_and_a_period_for_each_setting_of_the_codecs() {
    let mut infos = seconds(5);
    infos[1].length = Duration::from_millis(1_500);
    // An hour without video, and then another picture size.
    for info in &mut infos[3..] {
        info.producer_time = info.producer_time + Duration::from_secs(3_600);
        info.setup = 8;
    }
    let mut tape = tape(on_demand(TimeSource::Producer, 0, 86_400_000), NEVER, &infos);
    let style = dash::Style { is_on_demand: true, ..DASH_STYLE };
    let tracks = [(1, true), (2, false)];
    let of =
        |segment: &super::tape::Segment| Ok(rendition(&tracks[..if segment.setup == 8 { 1 } else { 2 }]));
    let manifest = dash::manifest(&tape.window(at(0)), style, of, dash_link).unwrap();
    assert_eq!(
        manifest,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" minBufferTime="PT1.500S" type="static" mediaPresentationDuration="PT5.500S">
  <Period id="0" start="PT0.000S">
    <AdaptationSet id="1" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
      <SegmentTemplate timescale="1000000" startNumber="0" presentationTimeOffset="10000000" initialization="init?fragment=0&#38;track=1" media="$Number$?track=1">
        <SegmentTimeline>
          <S t="10000000" d="1000000"/>
          <S d="1500000"/>
          <S d="1000000"/>
        </SegmentTimeline>
      </SegmentTemplate>
      <Representation id="video-1" bandwidth="800000" codecs="avc1.64001f" width="640" height="360"/>
    </AdaptationSet>
    <AdaptationSet id="2" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1">
      <SegmentTemplate timescale="1000000" startNumber="0" presentationTimeOffset="10000000" initialization="init?fragment=0&#38;track=2" media="$Number$?track=2">
        <SegmentTimeline>
          <S t="10000000" d="1000000"/>
          <S d="1500000"/>
          <S d="1000000"/>
        </SegmentTimeline>
      </SegmentTemplate>
      <Representation id="audio-2" bandwidth="800000" codecs="mp4a.40.2" audioSamplingRate="48000">
        <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>
      </Representation>
    </AdaptationSet>
  </Period>
  <Period id="3" start="PT3.500S">
    <AdaptationSet id="1" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
      <SegmentTemplate timescale="1000000" startNumber="3" presentationTimeOffset="13500000" initialization="init?fragment=3&#38;track=1" media="$Number$?track=1">
        <SegmentTimeline>
          <S t="13500000" d="1000000" r="1"/>
        </SegmentTimeline>
      </SegmentTemplate>
      <Representation id="video-1" bandwidth="800000" codecs="avc1.64001f" width="640" height="360"/>
    </AdaptationSet>
  </Period>
</MPD>
"#
    );
}

#[test]
fn a_live_manifest_moves_on_and_shows_times_and_numbers_when_asked() {
    let mut tape = tape(play(PlaybackMode::Live, TimeSource::Producer, 2), NEVER, &seconds(4));
    let of = |_: &super::tape::Segment| Ok(rendition(&[(1, true)]));
    let style = dash::Style { has_times: true, has_numbers: true, ..DASH_STYLE };
    let manifest = dash::manifest(&tape.window(at(0)), style, of, dash_link).unwrap();
    for part in [
        "xmlns:kvs=",
        "type=\"dynamic\" availabilityStartTime=\"2026-01-01T00:00:00.000Z\" publishTime=\"2026-01-01T00:00:09.000Z\"",
        "timeShiftBufferDepth=\"PT2.000S\" minimumUpdatePeriod=\"PT0.500S\"",
        "startNumber=\"2\" presentationTimeOffset=\"10000000\"",
        &format!("<S t=\"12000000\" d=\"1000000\" kvs:ts=\"1767225602.000\" kvs:fn=\"{}\"/>", number(2)),
        &format!("<S d=\"1000000\" kvs:ts=\"1767225603.000\" kvs:fn=\"{}\"/>", number(3)),
    ] {
        assert!(manifest.contains(part), "{part}\n{manifest}");
    }
    assert!(!manifest.contains("mediaPresentationDuration"), "{manifest}");
}

#[test]
fn a_day_of_fragments_is_written_in_no_time() {
    let infos = seconds(86_400);
    let options = HlsOptions::new().mode(PlaybackMode::OnDemand { from: at(0), to: at(86_400_000) });
    let begun = Instant::now();
    let mut tape = tape(options.fragments_max(100_000).play, NEVER, &infos);
    let window = tape.window(at(0));
    let playlist = hls::media(&window, STYLE, |link| match link {
        HlsLink::Fragment { fragment, .. } => fragment.to_string(),
        other => hls_link(other),
    });
    let took = begun.elapsed();
    assert_eq!((window.segments.len(), playlist.lines().count()), (86_400, 86_400 * 2 + 6));
    println!("a playlist of a day: {took:?}, {} bytes", playlist.len());
    // It takes a few milliseconds when it is optimized, on a machine that does nothing else.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn any_infos() -> impl Strategy<Value = Vec<FragmentInfo>> {
    let one = (0u64..3_000, 0u64..2_000, 0u64..3_000, 1u64..4_000, 0u32..2);
    prop::collection::vec(one, 1..60).prop_map(|steps| {
        let (mut producer, mut server, mut sequence) = (10_000u64, 10_000, 0);
        let fragment = |(forth, back, later, length, setup): (u64, u64, u64, u64, u32)| {
            // Rounded, so that times meet again.
            producer = (producer + forth).saturating_sub(back) / 500 * 500;
            server += later;
            sequence += 1 + u64::from(setup);
            FragmentInfo { setup, ..info(sequence, producer, server, length) }
        };
        steps.into_iter().map(fragment).collect()
    })
}

fn any_mode() -> impl Strategy<Value = PlaybackMode> {
    prop_oneof![
        Just(PlaybackMode::Live),
        (0u64..20_000).prop_map(|from| PlaybackMode::LiveReplay { from: at(from), to: None }),
        (0u64..20_000, 0u64..60_000)
            .prop_map(|(from, more)| PlaybackMode::LiveReplay { from: at(from), to: Some(at(from + more)) }),
        (0u64..20_000, 0u64..60_000)
            .prop_map(|(from, more)| PlaybackMode::OnDemand { from: at(from), to: at(from + more) }),
    ]
}

fn any_discontinuities() -> impl Strategy<Value = DiscontinuityMode> {
    use DiscontinuityMode::{Always, Never, OnDiscontinuity};
    prop_oneof![Just(Always), Just(Never), Just(OnDiscontinuity)]
}

proptest! {
    /// A fragment keeps its number, its timeline and its setup while the playlist moves on, and a continued session has the same values.
    #[test]
    fn what_a_playlist_says_of_a_fragment_never_changes(
        infos in any_infos(),
        mode in any_mode(),
        by_producer: bool,
        discontinuities in any_discontinuities(),
        count in 1usize..7,
        steps in prop::collection::vec((1usize..5, 0u64..4_000), 1..30),
    ) {
        let source = if by_producer { TimeSource::Producer } else { TimeSource::Server };
        let play = play(mode, source, count);
        let mut live = tape(play, discontinuities, &[]);
        let mut told = BTreeMap::new();
        let (mut read, mut now, mut target_before) = (0, 0, 0);
        for (more, later) in steps {
            now += later;
            for info in infos.iter().skip(read).take(more) {
                // Like a session, it reads no more than what is to be shown.
                if !live.wants_more(at(now)) {
                    break;
                }
                live.push(info);
                read += 1;
            }
            let mut again = tape(play, discontinuities, &infos[..read]);
            let window = live.window(at(now));
            let playlist = hls::media(&window, STYLE, hls_link);
            prop_assert_eq!(&playlist, &hls::media(&again.window(at(now)), STYLE, hls_link));
            for (fragment, place) in parse(&playlist) {
                let before = told.entry(fragment.clone()).or_insert_with(|| place.clone());
                prop_assert_eq!(before, &place, "{}", fragment);
            }
            prop_assert!(window.segments.len() <= count);
            let mut ends = window.segments.windows(2);
            prop_assert!(ends.all(|pair| pair[0].end_micros().abs_diff(pair[1].offset_micros) <= TOLERANCE_MICROS
                && pair[0].sequence + 1 == pair[1].sequence && pair[0].number < pair[1].number));
            let longest = window.segments.iter().map(|segment| (segment.length.as_millis() + 500) / 1_000).max();
            let target = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:")).unwrap();
            let target: u128 = target.parse().unwrap();
            prop_assert!(longest.is_none_or(|longest| longest <= target) && target >= target_before);
            target_before = target;
            // DASH finds fragments by their place, and HLS by their number.
            let shown: Vec<_> = window.segments.iter().map(|segment| **segment).collect();
            for segment in shown {
                prop_assert_eq!(live.at(segment.sequence), Some(&segment));
            }
        }
    }

    /// Each fragment that belongs to a session is shown to a player that polls in time, and no other fragment is.
    #[test]
    fn every_fragment_of_the_range_is_shown_once(infos in any_infos(), from in 0u64..20_000, more in 1u64..60_000) {
        let infos: Vec<_> =
            infos.into_iter().map(|info| FragmentInfo { length: info.length.max(POLL), ..info }).collect();
        let mode = PlaybackMode::OnDemand { from: at(from), to: at(from + more) };
        let mut by_server = tape(play(mode, TimeSource::Server, 1_000), NEVER, &infos);
        let range = at(from)..=at(from + more);
        let expected: Vec<_> =
            infos.iter().filter(|info| range.contains(&info.server_time)).map(|info| info.number.sequence().get()).collect();
        prop_assert_eq!(shown(&mut by_server, 0), expected.clone());
        // A replay shows the same fragments.
        let replay = PlaybackMode::LiveReplay { from: at(from), to: Some(at(from + more)) };
        let mut replay = tape(play(replay, TimeSource::Server, 2), NEVER, &infos);
        let mut seen = vec![];
        for now in (0..1_000_000).step_by(POLL.as_millis() as usize) {
            seen.extend(shown(&mut replay, now));
        }
        seen.dedup();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen, expected);
    }
}
