//! `snapshot`: backing up a stream.

use std::ops::ControlFlow;

use indicatif::HumanBytes;
use serde_json::json;
use streamlog::{SnapshotReport, StreamReader};

use crate::args::SnapshotArgs;
use crate::check_interrupted;
use crate::failure::{Failure, Outcome};
use crate::output::{counted, print_json, print_text, progress};

/// Takes a snapshot, and prints what was copied.
pub(crate) fn snapshot(stream: &StreamReader, args: &SnapshotArgs) -> Outcome {
    let bar = progress(Some(0));
    let report = stream.snapshot(&args.to, |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        if check_interrupted().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let report = report?;
    if !report.is_complete {
        return Err(Failure::Interrupted);
    }
    if args.json {
        return print_json(&json!({
            "path": args.to.to_string_lossy(),
            "linked_file_count": report.linked_file_count,
            "copied_file_count": report.copied_file_count,
            "kept_file_count": report.kept_file_count,
            "copied_bytes": report.copied_bytes,
            "total_bytes": report.total_bytes,
        }));
    }
    print_text(&as_text(&report))
}

fn as_text(report: &SnapshotReport) -> String {
    let (copied, total) = (HumanBytes(report.copied_bytes), HumanBytes(report.total_bytes));
    let files = counted(report.copied_file_count, "file");
    let (linked, kept) = (report.linked_file_count, report.kept_file_count);
    format!("{total}: copied {files} with {copied}, linked {linked}, kept {kept} from the last snapshot\n")
}
