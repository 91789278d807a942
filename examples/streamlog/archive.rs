//! `archive` and `restore`: sealed segments in a directory or an object store, `--archive`, which reads them back, and a stream made of them.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use crate::parse::{Age, parse_age, parse_bytes};

/// Copy the sealed segments of a stream into an archive: an existing directory, or a place in an object store.
///
/// Segments are sealed when they are full, and when the stream is closed. Encrypted records stay encrypted. If you run it again, it copies only
/// what is new. A program may have the stream open at the same time. Give commands that read --archive with the same place: they then read from
/// there what retention has dropped.
///
/// Needs a build with --features delivery.
#[derive(Debug, clap::Args)]
pub(crate) struct ArchiveArgs {
    /// The stream's directory
    pub(crate) path: PathBuf,
    /// The directory, or an object store URL: s3://bucket/path, gs://bucket/path, az://container/path. An object store needs a build with
    /// --features object-store; its region and credentials come from the environment (AWS_REGION, AWS_ACCESS_KEY_ID and so on)
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) to: String,
    /// Keep retention from dropping what is not archived yet, up to this many bytes beyond what retention keeps. The stream stores this hold; to
    /// set it, no program may have the stream open
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) hold: Option<u64>,
    /// The name of the hold. Each archive of a stream needs a different name
    #[arg(long, value_name = "NAME", default_value = "archive")]
    pub(crate) hold_name: String,
    /// Continue with segments that are sealed later, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How often --follow looks for sealed segments
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_age)]
    pub(crate) every: Age,
    /// Print one JSON object with what was archived
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make a stream from an archive: everything that was archived, with all shards and settings.
///
/// The new stream has no records that were put after the last archived segment, and no consumer groups. It keeps records forever, until you
/// change its retention. If the command is interrupted, run it again: it continues from there.
///
/// Needs a build with --features delivery.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The archive: a directory, or a place in an object store as for archive --to
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) from: String,
    /// The stream's directory: new or empty
    pub(crate) path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(not(feature = "delivery"))]
mod without {
    use std::path::Path;

    use streamlog::StreamOptions;

    use super::{ArchiveArgs, RestoreArgs};
    use crate::failure::{Failure, Outcome};

    fn refused() -> Failure {
        Failure::Told("this tool was built without archives: build it with --features delivery".to_owned())
    }

    pub(crate) fn with_archive(
        options: StreamOptions,
        place: Option<&str>,
    ) -> Result<StreamOptions, Failure> {
        if place.is_some() { Err(refused()) } else { Ok(options) }
    }

    pub(crate) fn archive(_: &ArchiveArgs, _: Option<&Path>) -> Outcome {
        Err(refused())
    }

    pub(crate) fn restore(_: &RestoreArgs) -> Outcome {
        Err(refused())
    }
}

#[cfg(not(feature = "delivery"))]
pub(crate) use without::{archive, restore, with_archive};

#[cfg(feature = "delivery")]
pub(crate) use with_delivery::{archive, restore, with_archive};

#[cfg(feature = "delivery")]
mod with_delivery {
    use std::ops::ControlFlow;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use indicatif::HumanBytes;
    use serde_json::json;
    use streamlog::delivery::Directory;
    use streamlog::{
        Archive, ArchiveProgress, ArchiveReport, Archiver, RestoreReport, Stream, StreamOptions,
    };

    use super::{ArchiveArgs, RestoreArgs};
    use crate::check_interrupted;
    use crate::failure::{Failure, Outcome, tell};
    use crate::output::{counted, print_json, print_text, progress};

    /// The longest time before Ctrl-C is noticed.
    const LOOK: Duration = Duration::from_millis(100);

    /// Returns the place of an archive.
    fn place(text: &str) -> Result<Arc<dyn Archive>, Failure> {
        if text.contains("://") { in_object_store(text) } else { Ok(Arc::new(Directory::new(text))) }
    }

    #[cfg(feature = "object-store")]
    fn in_object_store(url: &str) -> Result<Arc<dyn Archive>, Failure> {
        Ok(Arc::new(streamlog::delivery::ObjectStorage::from_url(url)?))
    }

    #[cfg(not(feature = "object-store"))]
    fn in_object_store(url: &str) -> Result<Arc<dyn Archive>, Failure> {
        let how = "this tool was built without object stores: build it with --features object-store";
        Err(Failure::Told(format!("{url}: {how}")))
    }

    /// Reads from an archive what retention has dropped.
    pub(crate) fn with_archive(options: StreamOptions, at: Option<&str>) -> Result<StreamOptions, Failure> {
        Ok(match at {
            Some(at) => options.archive(place(at)?),
            None => options,
        })
    }

    pub(crate) fn archive(args: &ArchiveArgs, key_file: Option<&Path>) -> Outcome {
        let place = place(&args.to)?;
        if let Some(bytes_max) = args.hold {
            let stream = crate::open(&args.path)?;
            drop(stream.archiver(Arc::clone(&place)).hold_name(&args.hold_name).hold(bytes_max)?);
            stream.close()?;
        }
        crate::with_reader(&args.path, key_file, None, |reader| {
            let mut archiver = reader.archiver(place).hold_name(&args.hold_name);
            if !archiver.is_held() {
                tell("note: retention does not wait for this archive: see --hold");
            }
            let mut total = ArchiveReport::default();
            let outcome = run(&mut archiver, args, &mut total);
            if args.json {
                print_json(&json!({
                    "segment_count": total.segment_count,
                    "bytes": total.bytes,
                    "record_count": total.record_count,
                    "waiting": total.waiting.iter().map(ToString::to_string).collect::<Vec<_>>(),
                }))?;
            } else {
                print_text(&as_text(&total))?;
            }
            outcome
        })
    }

    /// Archives until everything is archived, or until Ctrl-C.
    fn run(archiver: &mut Archiver, args: &ArchiveArgs, total: &mut ArchiveReport) -> Outcome {
        loop {
            let bar = progress(None);
            let report = archiver.run(|at| show(&bar, at));
            bar.finish_and_clear();
            match report {
                Ok(report) => {
                    total.segment_count += report.segment_count;
                    total.bytes += report.bytes;
                    total.record_count += report.record_count;
                    total.waiting = report.waiting;
                    if !report.is_complete {
                        return Err(Failure::Interrupted);
                    }
                }
                Err(error) if args.follow && error.is_retryable() => {
                    tell(&format!("note: retrying after: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
            if !args.follow {
                return Ok(());
            }
            let begun = Instant::now();
            while args.every.0.is_none_or(|every| begun.elapsed() < every) {
                check_interrupted()?;
                std::thread::sleep(LOOK);
            }
        }
    }

    fn show(bar: &indicatif::ProgressBar, at: ArchiveProgress) -> ControlFlow<()> {
        bar.set_position(at.bytes);
        if check_interrupted().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn as_text(total: &ArchiveReport) -> String {
        let (records, segments) =
            (counted(total.record_count, "record"), counted(total.segment_count, "segment"));
        let waiting = match total.waiting.len() {
            0 => String::new(),
            count => format!("; {} with records that are not sealed yet", counted(count as u64, "shard")),
        };
        format!("archived {records} in {segments} with {}{waiting}\n", HumanBytes(total.bytes))
    }

    pub(crate) fn restore(args: &RestoreArgs) -> Outcome {
        let bar = progress(None);
        let report = Stream::restore(place(&args.from)?, &args.path, |at| show(&bar, at));
        bar.finish_and_clear();
        let report = report?;
        if !report.is_complete {
            return Err(Failure::Interrupted);
        }
        if report.lost_count > 0 {
            let lost = counted(report.lost_count, "record");
            tell(&format!("note: the archive has gaps: {lost} missing, and lost to readers"));
        }
        if args.json {
            return print_json(&json!({
                "path": args.path.to_string_lossy(),
                "segment_count": report.segment_count,
                "bytes": report.bytes,
                "record_count": report.record_count,
                "lost_count": report.lost_count,
            }));
        }
        print_text(&restored_as_text(&report))
    }

    fn restored_as_text(report: &RestoreReport) -> String {
        let (records, segments) =
            (counted(report.record_count, "record"), counted(report.segment_count, "segment"));
        format!("restored {records}, and fetched {segments} with {}\n", HumanBytes(report.bytes))
    }
}
