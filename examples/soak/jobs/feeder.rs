//! The thread that puts the jobs, in bursts with pauses in between.

use std::time::Duration;

use streamlog::{PutRecord, Stream};

use super::note::Note;
use super::record::{Job, KEY_COUNT};
use crate::board::{Board, Outcome, unexpected};
use crate::message::Message;
use crate::record::Number;
use crate::say;

/// While the stream holds more than this, some consumer is far behind, and nothing is put.
const DISK_BYTES_MAX: u64 = 256 << 20;

pub(super) fn feed(stream: &Stream, board: &Board) -> Outcome {
    let mut random = board.random(17);
    let mut counts = vec![0u64; KEY_COUNT.into()];
    while !board.must_stop() {
        // Mostly a steady flow of records, sometimes a pause longer than a window.
        let pause = if random.one_in(200) { 1_500 } else { random.below(25) };
        board.sleep(Duration::from_millis(pause));
        let is_full = random.one_in(50)
            && stream.stats().map_err(unexpected("P2", "no counts"))?.disk_bytes() > DISK_BYTES_MAX;
        if is_full {
            board.sleep(Duration::from_millis(500));
            continue;
        }
        let jobs: Vec<_> = (0..random.between(1, 40))
            .map(|_| {
                let key = random.below(KEY_COUNT.into()) as u16;
                let count = &mut counts[usize::from(key)];
                *count += 1;
                Job { key, number: Number { run: board.plan.run, count: *count - 1 } }
            })
            .collect();
        let texts: Vec<_> = jobs.iter().map(|job| (job.partition_key(), job.data())).collect();
        if random.one_in(2) {
            let records: Vec<_> = texts.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
            for receipt in stream.put_batch(&records).map_err(unexpected("P16", "a batch was refused"))? {
                receipt.map_err(unexpected("P16", "a record of a batch was refused"))?;
            }
        } else {
            for (key, data) in &texts {
                stream.put(key, data).map_err(unexpected("P16", "a put was refused"))?;
            }
        }
        let note = Note::Put { run: board.plan.run, counts: counts.clone() };
        say(&Message::Job(note).to_string());
    }
    Ok(())
}
