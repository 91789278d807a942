//! The words of the file `live`, in which a writer shows other processes how far it is; `docs/FORMAT.md` owns their meaning.

/// What the file is, and its version.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"slogliv\x01");
/// The words of a shard. No two shards share a cache line, or two that a processor fetches together.
pub(crate) const SLOT_WORDS: usize = 32;
/// The slots in a page.
pub(crate) const PAGE_SLOTS: usize = 4096 / 8 / SLOT_WORDS;

/// The numbers of the words in the first page.
pub(crate) mod header {
    /// What the file is: [`MAGIC`](super::MAGIC).
    pub(crate) const MAGIC: usize = 0;
    /// The identity of the machine's boot, in two words.
    pub(crate) const BOOT: usize = 1;
    /// The identity of the file itself, in two words: its device and its number there.
    pub(crate) const FILE: usize = 3;
    /// The opening of the stream whose slots count, or 0 if none do.
    pub(crate) const OPENING: usize = 5;
    /// How many times this opening has replaced the manifest.
    pub(crate) const MANIFESTS: usize = 6;
    /// Whether each put is synced before it returns.
    pub(crate) const SYNCS_EACH: usize = 7;
}

/// The numbers of the words in a slot.
pub(crate) mod slot {
    /// The shard, plus 1; 0 if the slot belongs to none.
    pub(crate) const SHARD: usize = 0;
    /// The number that the next record will have.
    pub(crate) const END: usize = 1;
    /// The oldest number that can be read.
    pub(crate) const HORIZON: usize = 2;
    /// The number after the last record, plus 1, of a shard that is closed; otherwise 0.
    pub(crate) const CLOSED: usize = 3;
    /// How many segments this opening has begun.
    pub(crate) const BEGUN: usize = 4;
    /// Three places, each for the first number of a segment and the offset up to which it is committed. The last segment's place is the number of
    /// segments begun, modulo 3. The next place is filled while readers use the last one and the one before.
    pub(super) const PLACES: [usize; 3] = [5, 7, 9];
    /// The number that the next record had when the stream was opened.
    pub(crate) const OPENED: usize = 11;
    /// All numbers below survive power loss.
    pub(crate) const SYNCED: usize = 12;
    /// Two words, each for the bytes that were put since the stream was opened, less the committed offset of the last segment; it may be below 0.
    /// The valid one is at the number of segments begun, modulo 2.
    pub(super) const BYTES: [usize; 2] = [13, 14];
    /// The opening of the stream that shows the shard here.
    pub(crate) const OPENING: usize = 15;
    /// The bytes that compression has saved since the stream was opened.
    pub(crate) const SAVED: usize = 16;
}

/// Returns the place of the segment that was begun as the one with this number.
pub(crate) fn place_at(begun: u64) -> usize {
    slot::PLACES[(begun % slot::PLACES.len() as u64) as usize]
}

/// Returns the word for the bytes that were put before the segment that was begun as the one with this number.
pub(crate) fn bytes_at(begun: u64) -> usize {
    slot::BYTES[(begun % slot::BYTES.len() as u64) as usize]
}
