//! A picture of the hash-key space over the life of a stream, for any monospaced font.

use std::fmt::Write;

use streamlog::{HashKeyRange, ShardDescription};

const OPEN: char = '#';
const CLOSED: char = '-';
/// A narrower line has no space for a bar.
const BAR_COLUMNS_MIN: usize = 20;

/// Draws one line per shard in order of creation: a bar over its part of the hash-key space.
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

/// Returns the scale: the quarters of the space, each labeled at its position.
fn scale(columns: usize) -> String {
    let mut text = String::new();
    for (quarter, name) in ["0%", "25%", "50%", "75%"].into_iter().enumerate() {
        let at = columns * quarter / 4;
        let _ = write!(text, "{:1$}{name}", "", at - text.len());
    }
    let rest = columns - text.len();
    text + &format!("{:>rest$}", "100%")
}

/// Returns the columns of a range: at least one, and directly before the columns of the next range.
fn place(range: HashKeyRange, columns: usize) -> (usize, usize) {
    let after = range.end.get().checked_add(1).map_or(1 << 64, |after| after >> 64);
    // In steps of 2^64, rounded, so that the product fits into 128 bits.
    let column = |step: u128| ((step * columns as u128 + (1 << 63)) >> 64) as usize;
    let from = column(range.start.get() >> 64).min(columns - 1);
    (from, column(after).max(from + 1))
}
