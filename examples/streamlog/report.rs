//! `describe` and `verify`: the settings and the state of a stream.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{
    Corruption, EncryptionDescription, Error, Maintenance, Retention, ShardDescription, ShardRecovery,
    ShardStats, Stream, StreamDescription, StreamOptions, StreamReader, Timestamp, Verification,
};

use crate::archive::with_archive;
use crate::args::VerifyArgs;
use crate::failure::{Failure, Outcome, tell};
use crate::keys::with_keys;
use crate::output::{counted, print_json, print_text, progress};
use crate::shards::{Counted, shard_as_json, state, with_counts};
use crate::{check_interrupted, with_stream};

/// Prints settings, shards and counts.
pub(crate) fn describe(stream: &StreamReader, is_json: bool) -> Outcome {
    let description = stream.describe();
    let shards = with_counts(stream, description.shards.clone())?;
    if is_json {
        return print_json(&describe_as_json(&description, &shards));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = describe_settings(&mut text, &description, &shards);
    let _ = shards.iter().try_for_each(|shard| describe_shard(&mut text, shard));
    print_text(&text)
}

fn record_count(shards: &[Counted]) -> u64 {
    shards.iter().map(|(_, counts)| counts.record_count()).sum()
}

fn disk_bytes(shards: &[Counted]) -> u64 {
    shards.iter().map(|(_, counts)| counts.disk_bytes).sum()
}

fn describe_settings(text: &mut String, stream: &StreamDescription, shards: &[Counted]) -> std::fmt::Result {
    writeln!(text, "stream       {}", stream.path.display())?;
    writeln!(text, "created      {}", date(stream.created_at))?;
    writeln!(text, "records      {}", HumanCount(record_count(shards)))?;
    writeln!(text, "disk         {}", HumanBytes(disk_bytes(shards)))?;
    writeln!(text, "key hash     {:?}", stream.key_hash)?;
    writeln!(text, "retention    {}", retention_as_text(stream.retention))?;
    writeln!(text, "durability   {:?}", stream.durability)?;
    writeln!(text, "segments of  {}", HumanBytes(stream.segment_bytes))?;
    writeln!(text, "compression  {}", stream.compression)?;
    writeln!(text, "encryption   {}", encryption_as_text(stream.encryption.as_ref()))?;
    writeln!(text, "max record   {}", HumanBytes(stream.record_bytes_max))
}

/// Describes the key that encrypts new records.
fn encryption_as_text(encryption: Option<&EncryptionDescription>) -> String {
    let described = |key: &EncryptionDescription| format!("data key {}, by {}", key.data_key, key.key_id);
    encryption.map_or_else(|| "none".to_owned(), described)
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

fn describe_shard(text: &mut String, (shard, counts): &Counted) -> std::fmt::Result {
    writeln!(text, "\n{}   {}{}", shard.id, state(shard), parents(shard))?;
    writeln!(text, "  hash keys  {}", shard.hash_key_range)?;
    writeln!(text, "  records    {}{}", HumanCount(counts.record_count()), sequence_numbers(counts))?;
    let unsynced = counts.next_sequence.get().saturating_sub(counts.synced_sequence.get());
    if unsynced > 0 {
        writeln!(text, "  not synced {}", HumanCount(unsynced))?;
    }
    let segments = counted(counts.segment_count as u64, "segment");
    writeln!(text, "  disk       {} in {segments}", HumanBytes(counts.disk_bytes))
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

/// Describes what recovery removed from a shard, one line per loss.
fn losses(shard: &ShardRecovery) -> impl Iterator<Item = String> {
    let tail = shard.torn_tail.iter().map(|tail| {
        let (path, bytes) = (tail.path.display(), HumanBytes(tail.bytes));
        format!("cut {bytes} from byte {} of {path}: {}", tail.offset, tail.reason)
    });
    let files = shard.removed_files.iter().map(|path| format!("removed {}, a later file", path.display()));
    let lost = shard.lost.iter().map(|lost| lost.to_string());
    let kept = shard.damaged_files.iter().map(|path| format!("kept the damaged file as {}", path.display()));
    tail.chain(files).chain(lost).chain(kept)
}

/// Opens a damaged stream with salvage, and prints how many records are lost.
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

/// Prints on standard error what this opening removed, and whether other users can write to the stream. Later openings do not report a
/// removal again.
pub(crate) fn warn_of_recovery(stream: &Stream) {
    warn_of_permissions(&stream.describe().path);
    for shard in &stream.recovery().shards {
        losses(shard).for_each(|loss| tell(&format!("note: recovery of {}: {loss}", shard.shard)));
    }
}

/// Warns on standard error if users other than the owner of a stream's directory can write to it.
pub(crate) fn warn_of_permissions(path: &Path) {
    if is_writable_by_others(path) {
        tell(&format!(
            "note: users other than its owner can write to {0}: run chmod go-w {0}",
            path.display()
        ));
    }
}

fn is_writable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o022 != 0)
}

fn date(timestamp: Timestamp) -> String {
    humantime::format_rfc3339_micros(timestamp.into()).to_string()
}

fn describe_as_json(stream: &StreamDescription, shards: &[Counted]) -> Value {
    json!({
        "path": stream.path.to_string_lossy(),
        "created_at_micros": stream.created_at.as_micros(),
        "key_hash": format!("{:?}", stream.key_hash).to_lowercase(),
        "retention_age_seconds": stream.retention.age.map(|age| age.as_secs_f64()),
        "retention_bytes_max": stream.retention.bytes_max,
        "durability": format!("{:?}", stream.durability).to_lowercase(),
        "segment_bytes": stream.segment_bytes,
        "record_bytes_max": stream.record_bytes_max,
        "compression": stream.compression.to_string(),
        "data_key": stream.encryption.as_ref().map(|key| key.data_key),
        "key_id": stream.encryption.as_ref().map(|key| &key.key_id),
        "record_count": record_count(shards),
        "disk_bytes": disk_bytes(shards),
        "is_writable_by_others": is_writable_by_others(&stream.path),
        "shards": shards.iter().map(|(shard, counts)| shard_as_json(shard, counts)).collect::<Vec<_>>(),
    })
}

/// Reads everything and lists damage, including damage that prevents opening the stream.
pub(crate) fn verify(args: &VerifyArgs, key_file: Option<&Path>, archive: Option<&str>) -> Outcome {
    let options = with_archive(with_keys(StreamOptions::new(), key_file)?, archive)?;
    let found = match options.open_reader(&args.path) {
        Ok(reader) => {
            warn_of_permissions(&args.path);
            read_all(&reader)?
        }
        Err(Error::Corrupt(damage)) => {
            let mut found = Verification::default();
            found.damage.push(*damage);
            found
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        print_json(&verification_as_json(&found))?;
    } else {
        print_text(&verification_as_text(&found))?;
    }
    if found.damage.is_empty() { Ok(()) } else { Err(Failure::AlreadyTold) }
}

fn read_all(stream: &StreamReader) -> Result<Verification, Failure> {
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
    let unread = match found.unread_count {
        0 => String::new(),
        count => format!(
            ", and checked {} without decrypting, because the key is missing",
            counted(count, "record")
        ),
    };
    text + &format!("read {read}, {}{unread}: {damage}\n", HumanBytes(found.record_bytes))
}

fn verification_as_json(found: &Verification) -> Value {
    json!({
        "record_count": found.record_count,
        "record_bytes": found.record_bytes,
        "unread_count": found.unread_count,
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
