//! Video data: from producers, to viewers, and fragments by their numbers.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::super::http::{Piece, Pieces};
use super::super::video::answered;
use super::video::find;
use super::{Answered, Call, Fault, Input, Reply};
use crate::video::{
    Ack, AckEvent, FragmentNumber, GetMedia, Ingest, IngestOptions, MediaChunk, StartSelector, Timecodes,
};

const MATROSKA: &str = "video/x-matroska";
const JSON: &str = "application/json";
/// How many acknowledgements may wait for a producer. It must read them before it may send more.
const ACKS_AHEAD: usize = 1_024;
/// How many parts of fragments may wait for a viewer.
const PARTS_AHEAD: usize = 4;
/// How often a wait for live video checks whether the server or the viewer has gone.
const WAIT: Duration = Duration::from_millis(500);

pub(super) fn put(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = find(call, &input)?;
    let pieces = call.asked.pieces.take().ok_or_else(Fault::internal)?;
    let connection = call.service.video.connections.open()?;
    let timecodes = match input.required("FragmentTimecodeType") {
        "ABSOLUTE" => Timecodes::Absolute,
        _ => Timecodes::Relative,
    };
    let options = IngestOptions::new().timecodes(timecodes);
    let options =
        input.time("ProducerStartTimestamp").map_or(options.clone(), |start| options.producer_start(start));
    let (acks, answer) = mpsc::channel(ACKS_AHEAD);
    // The producer gets errors in any case.
    let wants_all = input.text("FragmentAcknowledgmentRequired") == Some("1");
    let send = move |ack: Ack| {
        if wants_all || ack.event == AckEvent::Error {
            // A producer that has gone is noticed when its data ends.
            let _ = acks.blocking_send(Bytes::from(format!("{ack}\n")));
        }
    };
    let ingest = answered(known.stream.ingest(options, send))?;
    let ending = call.service.ending.subscribe();
    connection.run(move || take(ingest, pieces, &ending))?;
    Ok(Reply::Pieces(JSON, answer))
}

/// Ingests a producer's data until it ends.
fn take(mut ingest: Ingest, mut pieces: Pieces, ending: &watch::Receiver<bool>) {
    // The acknowledgements report errors to the producer. It resends unacknowledged fragments on a new connection.
    while !*ending.borrow() {
        let taken = match pieces.blocking_recv() {
            Some(Piece::Data(bytes)) => ingest.write(&bytes),
            Some(Piece::Silence) => ingest.check(),
            Some(Piece::End) => return drop(ingest.finish()),
            None => return drop(ingest.abort("the connection ended before the data")),
        };
        if taken.is_err() {
            return;
        }
    }
}

pub(super) fn get(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let selector = input.take("StartSelector").ok_or_else(Fault::internal)?;
    let known = find(call, &input)?;
    let needed = |what: &str| Fault::invalid(format!("This StartSelectorType needs {what}."));
    let time = || selector.time("StartTimestamp").ok_or_else(|| needed("StartTimestamp"));
    let start = match selector.required("StartSelectorType") {
        "NOW" => StartSelector::Now,
        "EARLIEST" => StartSelector::Earliest,
        "FRAGMENT_NUMBER" => {
            let number = selector.text("AfterFragmentNumber").ok_or_else(|| needed("AfterFragmentNumber"))?;
            StartSelector::After(answered(number.parse())?)
        }
        "PRODUCER_TIMESTAMP" => StartSelector::ProducerTime(time()?),
        "SERVER_TIMESTAMP" => StartSelector::ServerTime(time()?),
        _ => {
            let token = selector.text("ContinuationToken").ok_or_else(|| needed("ContinuationToken"))?;
            StartSelector::ContinuationToken(token.to_owned())
        }
    };
    let media = answered(known.stream.get_media(start))?;
    let connection = call.service.video.connections.open()?;
    let (parts, answer) = mpsc::channel(PARTS_AHEAD);
    let ending = call.service.ending.subscribe();
    connection.run(move || show(media, &parts, &ending))?;
    Ok(Reply::Pieces(MATROSKA, answer))
}

/// Sends a viewer existing and new fragments, until somebody ends it.
fn show(mut media: GetMedia, parts: &mpsc::Sender<Bytes>, ending: &watch::Receiver<bool>) {
    while !*ending.borrow() && !parts.is_closed() {
        match media.next_chunk(WAIT) {
            Ok(Some(chunk)) => {
                if !send(chunk, parts) {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "a viewer's connection ends");
                return;
            }
        }
    }
}

/// Sends a fragment. Returns whether somebody takes it.
fn send(chunk: MediaChunk, parts: &mpsc::Sender<Bytes>) -> bool {
    chunk.parts.into_iter().filter(|part| !part.is_empty()).all(|part| parts.blocking_send(part).is_ok())
}

pub(super) fn get_for_fragments(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = find(call, &input)?;
    let numbers = input.texts("Fragments").into_iter().map(str::parse::<FragmentNumber>);
    let numbers = answered(numbers.collect::<Result<Vec<_>, _>>())?;
    let mut media = answered(known.stream.media_for(&numbers))?;
    let connection = call.service.video.connections.open()?;
    let (parts, answer) = mpsc::channel(PARTS_AHEAD);
    connection.run(move || {
        while let Ok(Some(chunk)) = media.next_chunk() {
            if !send(chunk, &parts) {
                return;
            }
        }
    })?;
    Ok(Reply::Pieces(MATROSKA, answer))
}
