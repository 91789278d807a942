//! Buffers of a shard that are used again.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use crate::delivery::error_output::Source;
use crate::delivery::objects::Ready;
use crate::delivery::part::{Part, Row};
use crate::delivery::plan::{Plan, Rules};
use crate::delivery::tests::{SHARD, plan};
use crate::{SequenceNumber, Timestamp};

fn push(shard: &mut Shard, data: &[u8]) {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let source = Source { shard: SHARD, sequence: shard.read_to, arrival: at, data, now: at };
    let row = Row { part: Part::Records(vec![]), data: data.into(), key: b"key".into() };
    assert_eq!(shard.push(&source, &[row], Duration::ZERO, || true), 0);
}

/// Decides and commits the object that is built.
fn commit(shard: &mut Shard) -> Ready {
    shard.decide_all();
    let (next, _) = shard.take_checkpoint();
    shard.note_commit(next).pop().expect("an object was decided")
}

/// Returns the bytes of an object, and then the buffer that they were in.
fn written(ready: Ready) -> (u64, Vec<u8>, Vec<u8>) {
    let bytes = ready.building.rows.finish().expect("rows are written").bytes;
    let written = bytes.to_vec();
    let mut buffer = bytes.try_into_mut().expect("nobody else has it");
    buffer.clear();
    (ready.object, written, buffer.into())
}

#[test]
fn l4_a_buffer_is_counted_while_it_waits_for_the_next_object_and_goes_when_nothing_is_left() {
    let plan = Plan { keys: vec![], prefix: String::new(), ..plan(0) };
    let rules = Arc::new(Rules::new(plan).expect("they are valid"));
    let mut shard = Shard::new(SHARD, SequenceNumber::ZERO, rules, None).expect("there is no state");
    push(&mut shard, &[b'a'; 10_000]);
    let first = commit(&mut shard);
    push(&mut shard, b"second");
    let (object, bytes, buffer) = written(first);
    assert_eq!(bytes, [&[b'a'; 10_000][..], b"\n"].concat());
    let (capacity, place) = (buffer.capacity(), buffer.as_ptr());
    shard.note_delivered(object, Some(buffer));
    let small = shard.memory_bytes - capacity;
    assert!(small < 1_000, "{small} B for one small row");

    // The third object has it, and nothing is counted twice.
    let second = commit(&mut shard);
    push(&mut shard, b"third");
    assert!((capacity + small..capacity + 2 * small).contains(&shard.memory_bytes));
    let (object, bytes, buffer) = written(second);
    assert_eq!(bytes, b"second\n");
    shard.note_delivered(object, Some(buffer));
    shard.drop_spare();
    assert!((capacity..capacity + small).contains(&shard.memory_bytes), "a spare one is given back");
    let (object, bytes, buffer) = written(commit(&mut shard));
    assert_eq!((bytes.as_slice(), buffer.as_ptr()), (&b"third\n"[..], place));
    shard.note_delivered(object, Some(buffer));
    assert_eq!(shard.memory_bytes, 0);
}
