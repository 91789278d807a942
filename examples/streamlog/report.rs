//! `describe` and `verify`: the settings and the state of a stream.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{
    Corruption, Error, Maintenance, RecoveryReport, Retention, ShardDescription, ShardRecovery, ShardStats,
    Stream, StreamDescription, StreamOptions, StreamStats, Timestamp, Verification,
};

use crate::args::VerifyArgs;
use crate::failure::{Failure, Outcome, tell};
use crate::output::{counted, print_json, print_text, progress};
use crate::shards::{shard_as_json, state};
use crate::{check_interrupted, open, with_stream};

/// Prints settings, shards, counts, and what opening found.
pub(crate) fn describe(stream: &Stream, is_json: bool) -> Outcome {
    let (description, stats) = (stream.describe(), stream.stats()?);
    if is_json {
        return print_json(&describe_as_json(&description, &stats, stream.recovery()));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = describe_settings(&mut text, &description, &stats);
    let _ = describe_shards(&mut text, &description, &stats);
    let _ = describe_recovery(&mut text, stream.recovery());
    print_text(&text)
}

fn describe_settings(text: &mut String, stream: &StreamDescription, stats: &StreamStats) -> std::fmt::Result {
    writeln!(text, "stream       {}", stream.path.display())?;
    writeln!(text, "created      {}", date(stream.created_at))?;
    writeln!(text, "records      {}", HumanCount(stats.record_count()))?;
    writeln!(text, "disk         {}", HumanBytes(stats.disk_bytes()))?;
    writeln!(text, "key hash     {:?}", stream.key_hash)?;
    writeln!(text, "retention    {}", retention_as_text(stream.retention))?;
    writeln!(text, "segments of  {}", HumanBytes(stream.segment_bytes))?;
    writeln!(text, "compression  {}", stream.compression)?;
    writeln!(text, "records to   {}", HumanBytes(stream.record_bytes_max))
}

/// Describes how long records are kept.
pub(crate) fn retention_as_text(retention: Retention) -> String {
    let age = retention.age.map(|age| humantime::format_duration(age).to_string());
    let bytes = retention.bytes_max.map(|bytes| format!("up to {}", HumanBytes(bytes)));
    match (age, bytes) {
        (None, None) => "forever".into(),
        (None, Some(bytes)) => format!("forever, {bytes}"),
        (Some(age), None) => age,
        (Some(age), Some(bytes)) => format!("{age}, {bytes}"),
    }
}

fn describe_shards(text: &mut String, stream: &StreamDescription, stats: &StreamStats) -> std::fmt::Result {
    for (shard, counts) in stream.shards.iter().zip(&stats.shards) {
        writeln!(text, "\n{}   {}{}", shard.id, state(shard), parents(shard))?;
        writeln!(text, "  hash keys  {}", shard.hash_key_range)?;
        writeln!(text, "  records    {}{}", HumanCount(counts.record_count()), sequence_numbers(counts))?;
        let segments = counted(counts.segment_count as u64, "segment");
        writeln!(text, "  disk       {} in {segments}", HumanBytes(counts.disk_bytes))?;
    }
    Ok(())
}

fn parents(shard: &ShardDescription) -> String {
    let parents: Vec<_> = shard.parents().map(|parent| parent.to_string()).collect();
    if parents.is_empty() { String::new() } else { format!(", from {}", parents.join(" and ")) }
}

fn sequence_numbers(counts: &ShardStats) -> String {
    match counts.next_sequence.previous().filter(|&last| last >= counts.horizon) {
        Some(last) => format!(", sequence numbers {} to {last}", counts.horizon),
        None => format!("; the next sequence number is {}", counts.next_sequence),
    }
}

fn describe_recovery(text: &mut String, recovery: &RecoveryReport) -> std::fmt::Result {
    writeln!(text, "\nopened in {:?}", recovery.duration)?;
    if recovery.was_closed_cleanly() {
        return writeln!(text, "the stream was closed cleanly");
    }
    let cut = if recovery.has_torn_tail() { "" } else { ", and nothing was cut" };
    writeln!(text, "the stream was not closed cleanly; what nothing had sealed was scanned{cut}:")?;
    for shard in recovery.shards.iter().filter(|shard| !shard.was_closed_cleanly) {
        let scanned = HumanBytes(shard.scanned_bytes);
        writeln!(text, "  {}: {scanned}; the next sequence number is {}", shard.shard, shard.next_sequence)?;
        for line in losses(shard) {
            writeln!(text, "    {line}")?;
        }
    }
    Ok(())
}

/// Describes what recovery removed from a shard, one line per loss.
fn losses(shard: &ShardRecovery) -> impl Iterator<Item = String> {
    let tail = shard.torn_tail.iter().map(|tail| {
        let (path, bytes) = (tail.path.display(), HumanBytes(tail.bytes));
        format!("cut {bytes} from byte {} of {path}: {}", tail.offset, tail.reason)
    });
    let files =
        shard.removed_files.iter().map(|path| format!("removed {}, which came after", path.display()));
    let lost = shard.lost.iter().map(|lost| lost.to_string());
    let kept = shard.damaged_files.iter().map(|path| format!("kept the damaged file as {}", path.display()));
    tail.chain(files).chain(lost).chain(kept)
}

/// Opens a damaged stream, gives up what is lost, and prints how many records that is.
pub(crate) fn salvage(path: &Path) -> Outcome {
    let options = StreamOptions::new().maintenance(Maintenance::Manual).must_exist().salvage(true);
    with_stream(options.open(path)?, |stream| {
        let recovery = stream.recovery();
        let count: u64 =
            recovery.lost().map(|lost| lost.sequences.end.get() - lost.sequences.start.get()).sum();
        match count {
            0 => print_text("no record is lost\n"),
            count => print_text(&format!("{} lost, and all others can be read\n", counted(count, "record"))),
        }
    })
}

/// Warns on standard error if other users can write to the stream, and about everything that this opening removed. No later opening
/// reports a removal again.
pub(crate) fn warn_of_recovery(stream: &Stream) {
    let recovery = stream.recovery();
    if recovery.is_writable_by_others {
        let path = stream.describe().path;
        tell(&format!("note: others than its owner may write to {0}: chmod go-w {0}", path.display()));
    }
    for shard in &recovery.shards {
        losses(shard).for_each(|loss| tell(&format!("note: recovery of {}: {loss}", shard.shard)));
    }
}

fn date(timestamp: Timestamp) -> String {
    humantime::format_rfc3339_micros(timestamp.into()).to_string()
}

fn describe_as_json(stream: &StreamDescription, stats: &StreamStats, recovery: &RecoveryReport) -> Value {
    let shards = stream.shards.iter().zip(&stats.shards).zip(&recovery.shards);
    let shards = shards.map(|((shard, counts), found)| {
        let mut value = shard_as_json(shard, counts);
        value["recovery"] = recovery_as_json(found);
        value
    });
    json!({
        "path": stream.path.to_string_lossy(),
        "created_at_micros": stream.created_at.as_micros(),
        "key_hash": format!("{:?}", stream.key_hash).to_lowercase(),
        "retention_age_seconds": stream.retention.age.map(|age| age.as_secs_f64()),
        "retention_bytes_max": stream.retention.bytes_max,
        "segment_bytes": stream.segment_bytes,
        "record_bytes_max": stream.record_bytes_max,
        "compression": stream.compression.to_string(),
        "record_count": stats.record_count(),
        "disk_bytes": stats.disk_bytes(),
        "opened_in_micros": recovery.duration.as_micros() as u64,
        "was_closed_cleanly": recovery.was_closed_cleanly(),
        "has_torn_tail": recovery.has_torn_tail(),
        "is_writable_by_others": recovery.is_writable_by_others,
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn recovery_as_json(found: &ShardRecovery) -> Value {
    json!({
        "was_closed_cleanly": found.was_closed_cleanly,
        "scanned_bytes": found.scanned_bytes,
        "torn_tail": found.torn_tail.as_ref().map(|tail| json!({
            "path": tail.path.to_string_lossy(),
            "offset": tail.offset,
            "bytes": tail.bytes,
            "reason": tail.reason,
        })),
        "lost": found.lost.iter().map(|lost| json!({
            "first_sequence": lost.sequences.start.get(),
            "end_sequence": lost.sequences.end.get(),
            "path": lost.path.to_string_lossy(),
            "reason": lost.reason,
        })).collect::<Vec<_>>(),
        "damaged_files": found.damaged_files.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "removed_files": found.removed_files.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}

/// Reads everything and lists damage, including damage that prevents opening the stream.
pub(crate) fn verify(args: &VerifyArgs) -> Outcome {
    let (found, closed) = match open(&args.path) {
        Ok(stream) => {
            warn_of_recovery(&stream);
            let found = read_all(&stream);
            (found?, stream.close())
        }
        Err(Error::Corrupt(damage)) => {
            let mut found = Verification::default();
            found.damage.push(*damage);
            (found, Ok(()))
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        print_json(&verification_as_json(&found))?;
    } else {
        print_text(&verification_as_text(&found))?;
    }
    closed?;
    if found.damage.is_empty() { Ok(()) } else { Err(Failure::AlreadyTold) }
}

fn read_all(stream: &Stream) -> Result<Verification, Failure> {
    let bar = progress(Some(0));
    let found = stream.verify(|progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_read);
        if check_interrupted().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let found = found?;
    if found.is_complete { Ok(found) } else { Err(Failure::Interrupted) }
}

fn verification_as_text(found: &Verification) -> String {
    let lost = found.lost.iter().map(|(shard, lost)| {
        format!(
            "{shard}: sequence numbers {} to before {} are lost, and were given up\n",
            lost.start, lost.end
        )
    });
    let text: String = found.damage.iter().map(|damage| format!("{damage}\n")).chain(lost).collect();
    let damage = match found.damage.len() {
        0 => "no damage".to_owned(),
        count => format!("damage in {}", counted(count as u64, "place")),
    };
    let read = counted(found.record_count, "record");
    text + &format!("read {read}, {}: {damage}\n", HumanBytes(found.record_bytes))
}

fn verification_as_json(found: &Verification) -> Value {
    json!({
        "record_count": found.record_count,
        "record_bytes": found.record_bytes,
        "is_complete": found.is_complete,
        "damage": found.damage.iter().map(damage_as_json).collect::<Vec<_>>(),
        "lost": found.lost.iter().map(|(shard, lost)| json!({
            "shard": shard.to_string(),
            "first_sequence": lost.start.get(),
            "end_sequence": lost.end.get(),
        })).collect::<Vec<_>>(),
    })
}

fn damage_as_json(damage: &Corruption) -> Value {
    json!({
        "path": damage.path.to_string_lossy(),
        "shard": damage.shard.map(|shard| shard.to_string()),
        "offset": damage.offset,
        "sequence": damage.sequence.map(|sequence| sequence.get()),
        "reason": damage.reason,
    })
}
