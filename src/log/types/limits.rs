//! Every limit of the library, named once and checked against the others when it is compiled.

/// The most shards that a stream can be created with or scaled to.
pub const SHARD_COUNT_MAX: u32 = 1_024;
/// The longest partition key in bytes: room for Kinesis' 256 characters.
pub const PARTITION_KEY_BYTES_MAX: usize = 1_024;
/// The longest name of a record's header in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 255;
/// The largest record, key, data and headers together, that a stream takes unless it is told otherwise.
pub const RECORD_BYTES_MAX_DEFAULT: u64 = 1 << 20;
/// The size at which a segment is full, unless the stream is told otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// The smallest `segment_bytes`.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// The largest `segment_bytes`.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// The most bytes that one frame takes: what one put, or the part of one batch that goes to one shard, can hold.
pub const FRAME_BYTES_MAX: u64 = 2 << 30;
/// Blocks given to a new segment.
pub(crate) const GROWTH_BYTES_FIRST: u64 = 1 << 20;
/// The most blocks that are given to a segment at a time.
pub(crate) const GROWTH_BYTES_MAX: u64 = 16 << 20;
/// A shard that is put to at this rate or faster has its blocks and pages prepared ahead of it.
pub(crate) const BUSY_BYTES_PER_SECOND: u64 = 16 << 20;
/// A shard whose puts are synced one by one has zeros written ahead of them up to this rate. Without, each sync has to write what the
/// file system notes of new blocks; with them, the disk has to write twice as much.
pub(crate) const ZEROED_BYTES_PER_SECOND_MAX: u64 = 256 << 20;
/// So many bytes are prepared ahead at a time, so that a writer that is close behind gets them soon; a multiple of the large pages of
/// all systems that have them.
pub(crate) const AHEAD_BYTES: u64 = 4 << 20;
/// So many bytes are prepared ahead at most: enough for some milliseconds, and soon written where puts go on.
pub(crate) const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// Frames are indexed once in so many bytes.
pub(crate) const INDEX_STRIDE_BYTES: u64 = 4 << 10;
/// How many rolled segments may wait to be sealed in the background. A writer that would add more seals one itself, and waits for the
/// disk: so what opening after a crash may have to scan stays bounded, by 1 GiB for segments of the default size.
pub(crate) const fn unsealed_count_max(segment_bytes: u64) -> usize {
    let is_medium = segment_bytes >= SEGMENT_BYTES_DEFAULT / 4 && segment_bytes < SEGMENT_BYTES_DEFAULT * 4;
    if is_medium { 16 } else { 4 }
}
/// The largest manifest that is read; one of 1,024 open and 100,000 closed shards has about 40 MiB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// The shortest retention by age.
pub const RETENTION_AGE_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The bytes that a frame header and a record header take in front of a key.
const RECORD_OVERHEAD_BYTES: u64 = 40;

/// The largest `record_bytes_max` that goes with a `segment_bytes`: such a record fits into a segment of its own.
pub(crate) const fn record_bytes_max_of(segment_bytes: u64) -> u64 {
    segment_bytes - (4 << 10) - 88 - RECORD_OVERHEAD_BYTES - 8
}

const _: () =
    assert!(PARTITION_KEY_BYTES_MAX <= u16::MAX as usize, "a frame holds a key's length in 16 bits");
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as u64, "a frame holds its own length in 32 bits");
const _: () = assert!(SEGMENT_BYTES_MAX <= FRAME_BYTES_MAX, "the largest record fits into a frame");
const _: () =
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX_DEFAULT <= record_bytes_max_of(SEGMENT_BYTES_DEFAULT));
const _: () = assert!(record_bytes_max_of(SEGMENT_BYTES_MIN) > PARTITION_KEY_BYTES_MAX as u64);
const _: () = assert!(GROWTH_BYTES_FIRST <= GROWTH_BYTES_MAX && GROWTH_BYTES_FIRST.is_multiple_of(4 << 10));
const _: () = assert!(INDEX_STRIDE_BYTES.is_power_of_two());
