//! Every limit of the library, named once and checked against the others at compile time.

/// The most shards that a stream can be created with or scaled to.
pub const SHARD_COUNT_MAX: u32 = 1_024;
/// The longest partition key in bytes, with room for Kinesis' 256 characters.
pub const PARTITION_KEY_BYTES_MAX: usize = 1_024;
/// The longest name of a record's header in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 255;
/// The longest name of a stream's property in bytes.
pub const PROPERTY_NAME_BYTES_MAX: usize = 255;
/// The longest text of a stream's property in bytes.
pub const PROPERTY_BYTES_MAX: usize = 64 << 10;
/// The default size of the largest record that a stream takes, counting key, data and headers together.
pub const RECORD_BYTES_MAX_DEFAULT: u64 = 1 << 20;
/// The default of the size at which a segment is full.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// The smallest `segment_bytes`.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// The largest `segment_bytes`.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// The most bytes that one frame takes: one put, or the part of one batch that goes to one shard.
pub const FRAME_BYTES_MAX: u64 = 2 << 30;
/// The blocks allocated for a new segment.
pub(crate) const GROWTH_BYTES_FIRST: u64 = 1 << 20;
/// The most blocks that are allocated for a segment at a time.
pub(crate) const GROWTH_BYTES_MAX: u64 = 16 << 20;
/// The rate of puts from which on a shard's blocks and pages are prepared ahead.
pub(crate) const BUSY_BYTES_PER_SECOND: u64 = 16 << 20;
/// The rate of puts up to which a shard whose puts are synced one by one has zeros written ahead. Without the zeros, each sync has to write
/// what the file system notes of new blocks. With them, the disk has to write twice as much.
pub(crate) const ZEROED_BYTES_PER_SECOND_MAX: u64 = 256 << 20;
/// How many bytes are prepared ahead at a time: few enough that a writer close behind gets them soon, and a multiple of the large pages of
/// all systems that have them.
pub(crate) const AHEAD_BYTES: u64 = 4 << 20;
/// The most bytes that are prepared ahead: enough for some milliseconds, and soon used if puts continue.
pub(crate) const AHEAD_BYTES_MAX: u64 = 32 << 20;
/// The stride of the index: one frame is indexed in this many bytes.
pub(crate) const INDEX_STRIDE_BYTES: u64 = 4 << 10;
/// How many rolled segments may wait to be sealed in the background. A writer that would add another seals one itself and waits for the
/// disk. That bounds what opening after a crash may have to scan: 1 GiB with segments of the default size.
pub(crate) const fn unsealed_count_max(segment_bytes: u64) -> usize {
    let is_medium = segment_bytes >= SEGMENT_BYTES_DEFAULT / 4 && segment_bytes < SEGMENT_BYTES_DEFAULT * 4;
    if is_medium { 16 } else { 4 }
}
/// The default limit on the bytes of archived segments that a reader caches.
pub const ARCHIVE_CACHE_BYTES_DEFAULT: u64 = 1 << 30;
/// The largest manifest that is read. A manifest of 1,024 open and 100,000 closed shards has about 40 MiB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// The shortest retention by age.
pub const RETENTION_AGE_MIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The bytes that a frame header and a record's head take in front of a key.
const RECORD_OVERHEAD_BYTES: u64 = 40;

/// Returns the largest `record_bytes_max` that goes with a `segment_bytes`: such a record fits into a segment by itself.
pub(crate) const fn record_bytes_max_of(segment_bytes: u64) -> u64 {
    segment_bytes - (4 << 10) - 88 - RECORD_OVERHEAD_BYTES - 8
}

/// Returns the `record_bytes_max` of a stream with this `segment_bytes` for which nobody has set one.
pub(crate) const fn record_bytes_max_default(segment_bytes: u64) -> u64 {
    let most = record_bytes_max_of(segment_bytes);
    if most < RECORD_BYTES_MAX_DEFAULT { most } else { RECORD_BYTES_MAX_DEFAULT }
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
