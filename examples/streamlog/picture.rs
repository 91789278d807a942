//! A picture of the hash-key space over the life of a stream, for any monospaced font.

use std::fmt::Write;

use streamlog::{HashKeyRange, ShardDescription};

const OPEN: char = '#';
const CLOSED: char = '-';
/// A narrower one has no room for a bar.
const BAR_COLUMNS_MIN: usize = 20;

/// One line a shard, in the order of creation: a bar over the part of the space that it owns.
pub(crate) fn lineage(shards: &[ShardDescription], columns: usize) -> String {
    let label_of = |shard: &ShardDescription| shard.id.get().to_string();
    let label_columns =
        shards.iter().map(|shard| label_of(shard).len()).max().unwrap_or(0).max("shard".len());
    let bar_columns = columns.saturating_sub(label_columns + 2).max(BAR_COLUMNS_MIN);
    let mut text = format!("{:label_columns$}  {}\n", "shard", scale(bar_columns));
    for shard in shards {
        let (from, to) = place(shard.hash_key_range, bar_columns);
        let bar = if shard.is_open() { OPEN } else { CLOSED }.to_string().repeat(to - from);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>label_columns$}  {:from$}{bar}", label_of(shard), "");
    }
    let _ = writeln!(text, "{:label_columns$}  {OPEN} open, {CLOSED} closed", "");
    text
}

/// Where the quarters of the space begin, each named at its place.
fn scale(columns: usize) -> String {
    let mut text = String::new();
    for (quarter, name) in ["0%", "25%", "50%", "75%"].into_iter().enumerate() {
        let at = columns * quarter / 4;
        let _ = write!(text, "{:1$}{name}", "", at - text.len());
    }
    let rest = columns - text.len();
    text + &format!("{:>rest$}", "100%")
}

/// The columns that a range takes: at least one, and side by side with those of the range that follows.
fn place(range: HashKeyRange, columns: usize) -> (usize, usize) {
    let after = range.end.get().checked_add(1).map_or(1 << 64, |after| after >> 64);
    // In steps of 2^64, so that the product stays within 128 bits; rounded.
    let column = |step: u128| ((step * columns as u128 + (1 << 63)) >> 64) as usize;
    let from = column(range.start.get() >> 64).min(columns - 1);
    (from, column(after).max(from + 1))
}
