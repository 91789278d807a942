//! The progress and the report of a snapshot.

/// The progress of a snapshot.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// let report = stream.snapshot(directory.path().join("backup"), |progress| {
///     println!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
///     ControlFlow::Continue(())
/// })?;
/// assert!(report.is_complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// The bytes of segment files that are in the snapshot so far, whether they were copied or not.
    pub bytes_done: u64,
    /// The bytes of all segment files. It grows at the beginning, until all files are known.
    pub bytes_total: u64,
}

/// What a snapshot did. [`StreamReader::snapshot`](crate::StreamReader::snapshot) returns it.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// stream.put("user-17", "clicked")?;
/// let target = directory.path().join("backup");
/// let first = stream.snapshot(&target, |_| ControlFlow::Continue(()))?;
/// assert_eq!((first.copied_file_count, first.kept_file_count), (1, 0));
/// let second = stream.snapshot(&target, |_| ControlFlow::Continue(()))?;
/// assert_eq!((second.copied_file_count, second.kept_file_count), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SnapshotReport {
    /// The segment files that were hard-linked into the snapshot, and take no space there.
    pub linked_file_count: u64,
    /// The segment files that were copied, at least in part.
    pub copied_file_count: u64,
    /// The segment files that an earlier or unfinished snapshot at the same path already had.
    pub kept_file_count: u64,
    /// The bytes of the copied files.
    pub copied_bytes: u64,
    /// The bytes of all segment files of the snapshot.
    pub total_bytes: u64,
    /// Whether the snapshot is complete; `false` if the caller stopped it.
    pub is_complete: bool,
}
