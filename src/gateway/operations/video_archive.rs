//! Archived video: lists of fragments, clips, images, and sessions of players.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::catalogue::internal;
use super::super::video::{Ask, Discontinuities, Hls, Mode, answered, base_url, player_url};
use super::video::{find, range_of};
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::video::{CodecChanges, FragmentSelector, PictureCodec, VideoError};
use crate::{DAY, Timestamp};

/// How many fragments a page has by default.
const FRAGMENTS_DEFAULT: usize = 100;
/// The largest clip, as in Kinesis.
const CLIP_FRAGMENTS_MAX: usize = 200;
const CLIP_BYTES_MAX: u64 = 100 << 20;
/// How many images a page has by default, and how far they are apart.
const IMAGES_DEFAULT: usize = 25;
const INTERVAL_DEFAULT_MS: i64 = 3_000;
const INTERVAL_MIN_MS: i64 = 200;
/// How long a session is valid by default, in seconds.
const EXPIRES_DEFAULT: u32 = 300;

/// Returns a selector of a request, which has both ends of its range.
fn selector(given: Option<Input<'_>>) -> Answered<FragmentSelector> {
    let Some(mut given) = given else { return Ok(FragmentSelector::All) };
    let (Some(from), Some(to)) = range_of(&mut given) else { return Err(Fault::internal()) };
    select(given.required("FragmentSelectorType"), from, to)
}

fn select(kind: &str, from: Timestamp, to: Timestamp) -> Answered<FragmentSelector> {
    if to < from {
        return Err(Fault::invalid(format!("EndTimestamp {to} is before StartTimestamp {from}.")));
    }
    Ok(match kind {
        "PRODUCER_TIMESTAMP" => FragmentSelector::ProducerTime(from..=to),
        _ => FragmentSelector::ServerTime(from..=to),
    })
}

pub(super) fn list_fragments(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let selector = selector(input.take("FragmentSelector"))?;
    let known = find(call, &input)?;
    let count = input.count("MaxResults").map_or(FRAGMENTS_DEFAULT, |count| count as usize);
    let token = input.text("NextToken").filter(|token| !token.is_empty());
    let page = answered(known.stream.list_fragments(&selector, count, token))?;
    let fragments = page.fragments.iter().map(|info| {
        let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        Value::map([
            ("FragmentNumber", Value::text(info.number.to_string())),
            ("FragmentSizeInBytes", number(info.bytes)),
            ("ProducerTimestamp", Value::Time(info.producer_time)),
            ("ServerTimestamp", Value::Time(info.server_time)),
            ("FragmentLengthInMilliseconds", number(info.length.as_millis() as u64)),
        ])
    });
    let answer = Value::map([("Fragments", Value::List(fragments.collect()))]);
    call.reply(&answer.with("NextToken", page.next_token.map(Value::text)))
}

pub(super) fn clip(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let selector = selector(input.take("ClipFragmentSelector"))?;
    if let FragmentSelector::ProducerTime(range) | FragmentSelector::ServerTime(range) = &selector
        && range.end().since(*range.start()) > DAY
    {
        return Err(Fault::invalid("A clip is of a range of 24 hours at most."));
    }
    let known = find(call, &input)?;
    let fragments = answered(known.stream.fragments(&selector))?;
    let bytes: u64 = fragments.iter().map(|info| info.bytes).sum();
    if fragments.len() > CLIP_FRAGMENTS_MAX || bytes > CLIP_BYTES_MAX {
        return Err(Fault::invalid(format!(
            "The range has {} fragments with {bytes} bytes. A clip has {CLIP_FRAGMENTS_MAX} with {CLIP_BYTES_MAX} at most.",
            fragments.len()
        )));
    }
    let mut clip = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    answered(known.stream.clip(&selector, CodecChanges::Refuse, &mut clip))?;
    Ok(Reply::Bytes("video/mp4", clip))
}

pub(super) fn images(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (Some(mut from), Some(to)) = (input.time("StartTimestamp"), input.time("EndTimestamp")) else {
        return Err(Fault::internal());
    };
    if input.required("Format") != "JPEG"
        || ["FormatConfig", "WidthPixels", "HeightPixels"].iter().any(|name| input.has(name))
    {
        return Err(Fault::invalid(
            "This server decodes nothing: it hands out the pictures of Motion JPEG as they are, as JPEG and in their size.",
        ));
    }
    let interval = input.integer("SamplingInterval").unwrap_or(INTERVAL_DEFAULT_MS);
    if interval < INTERVAL_MIN_MS {
        return Err(Fault::invalid(format!(
            "SamplingInterval is {INTERVAL_MIN_MS} milliseconds or more, and not {interval}."
        )));
    }
    if let Some(token) = input.text("NextToken").filter(|token| !token.is_empty()) {
        let micros = token.parse().map_err(|_| Fault::invalid("NextToken is not one of this list."))?;
        from = from.max(Timestamp::from_micros(micros));
    }
    let kind = input.required("ImageSelectorType");
    let known = find(call, &input)?;
    let interval = Duration::from_millis(interval.unsigned_abs());
    let mut images = answered(known.stream.images(&select(kind, from, to)?, interval))?;
    let max = input.count("MaxResults").map_or(IMAGES_DEFAULT, |max| max as usize);
    let mut list = vec![];
    let mut next = None;
    let failed = |time, error| Value::map([("TimeStamp", Value::Time(time)), ("Error", Value::text(error))]);
    for image in &mut images {
        let image = match image {
            Ok(image) => image,
            Err(VideoError::Stream(error)) => return Err(internal(&error)),
            Err(error) => {
                tracing::debug!(%error, stream = known.name, "no image");
                list.push(failed(from, "MEDIA_ERROR"));
                break;
            }
        };
        let time = if kind == "PRODUCER_TIMESTAMP" { image.producer_time } else { image.server_time };
        if list.len() == max {
            next = Some(Value::text(time.as_micros().to_string()));
            break;
        }
        list.push(match image.codec {
            PictureCodec::Jpeg => Value::map([
                ("TimeStamp", Value::Time(time)),
                ("ImageContent", Value::text(STANDARD.encode(&image.data))),
            ]),
            // Other codecs need the caller's own decoder.
            _ => failed(time, "MEDIA_ERROR"),
        });
    }
    if list.is_empty() {
        list.push(failed(from, "NO_MEDIA"));
    }
    call.reply(&Value::map([("Images", Value::List(list))]).with("NextToken", next))
}

/// Returns the mode of a session, and its time source.
fn mode_of(input: &Input<'_>, selector: Option<Input<'_>>) -> Answered<(Mode, bool)> {
    let (mut from, mut to, mut is_by_producer) = (None, None, false);
    if let Some(mut selector) = selector {
        (from, to) = range_of(&mut selector);
        is_by_producer = selector.text("FragmentSelectorType") == Some("PRODUCER_TIMESTAMP");
    }
    let micros = |time: Timestamp| time.as_micros();
    let needed =
        |what: &str, mode: &str| Fault::invalid(format!("{what} is needed for PlaybackMode {mode}."));
    let mode = match input.text("PlaybackMode").unwrap_or("LIVE") {
        "LIVE" if from.is_some() || to.is_some() => {
            return Err(Fault::invalid("A TimestampRange is not for PlaybackMode LIVE."));
        }
        "LIVE" => Mode::Live,
        mode @ "LIVE_REPLAY" => {
            Mode::Replay(micros(from.ok_or_else(|| needed("StartTimestamp", mode))?), to.map(micros))
        }
        mode => Mode::OnDemand(
            micros(from.ok_or_else(|| needed("StartTimestamp", mode))?),
            micros(to.ok_or_else(|| needed("EndTimestamp", mode))?),
        ),
    };
    Ok((mode, is_by_producer))
}

/// Begins a session, and returns its URL.
fn begin(call: &Call<'_>, input: &Input<'_>, ask: Ask) -> Answered<Value<'static>> {
    let known = find(call, input)?;
    let token = call.service.video.begin(&known.name, ask, &call.service.sealer)?;
    Ok(Value::text(player_url(&base_url(call.asked.request)?, ask.hls.is_some(), &token)))
}

pub(super) fn hls(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let selector = input.take("HLSFragmentSelector");
    let (mode, is_by_producer) = mode_of(&input, selector)?;
    let discontinuities = match input.text("DiscontinuityMode") {
        None => None,
        Some("ALWAYS") => Some(Discontinuities::Always),
        Some("NEVER") => Some(Discontinuities::Never),
        Some(_) => Some(Discontinuities::OnDiscontinuity),
    };
    let is_transport_stream = input.text("ContainerFormat") == Some("MPEG_TS");
    let ask = Ask {
        hls: Some(Hls { is_transport_stream, discontinuities }),
        mode,
        is_by_producer,
        has_times: input.text("DisplayFragmentTimestamp") == Some("ALWAYS"),
        has_numbers: false,
        seconds: input.count("Expires").unwrap_or(EXPIRES_DEFAULT),
        fragments_max: input.count("MaxMediaPlaylistFragmentResults"),
    };
    let url = begin(call, &input, ask)?;
    call.reply(&Value::map([("HLSStreamingSessionURL", url)]))
}

pub(super) fn dash(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let selector = input.take("DASHFragmentSelector");
    let (mode, is_by_producer) = mode_of(&input, selector)?;
    let is_shown = |name| input.text(name) == Some("ALWAYS");
    let ask = Ask {
        hls: None,
        mode,
        is_by_producer,
        has_times: is_shown("DisplayFragmentTimestamp"),
        has_numbers: is_shown("DisplayFragmentNumber"),
        seconds: input.count("Expires").unwrap_or(EXPIRES_DEFAULT),
        fragments_max: input.count("MaxManifestFragmentResults"),
    };
    let url = begin(call, &input, ask)?;
    call.reply(&Value::map([("DASHStreamingSessionURL", url)]))
}
