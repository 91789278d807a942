//! Sinks: records that a processor puts into another stream are there exactly once, also in a pipeline whose process is killed: L1, L2, L3.

use crate::common;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use common::killed::{data, ids, kill_again_and_again, open, put_until_killed, told};
use streamlog::{Error, Invocation, Processor, PutRecord, ShardFilter, Sink, Stream};

const ROUNDS: u64 = 7;

#[test]
fn l2_what_was_put_before_is_recognised_also_after_a_crash_and_what_is_committed_is_refused() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let root = |name: &str| scratch.path().join(name);
    let open =
        |path: &std::path::Path, name: &str| common::small(&clock).shards(2).open(path.join(name)).unwrap();
    let (input, output) = (open(&root("0"), "input"), open(&root("0"), "output"));
    let put = |number: u32| input.put("key", number.to_string()).unwrap();
    let receipts: Vec<_> = (0..5_000).map(put).collect();
    let shard = receipts[0].shard;
    let (mut input, mut output) = (input, output);
    let mut worker = input.group("copy").worker().batch_records(100).open().unwrap();
    let mut sink = Sink::open(&output, &input.group("copy")).unwrap();
    let mut handed_out = 0;
    for round in 0..50_u64 {
        // Twice, as after a failure, and with two output records for each.
        for _ in 0..2 {
            for sequence in round * 100..round * 100 + 100 {
                for index in 0..2 {
                    let text = format!("{sequence}.{index}");
                    sink.put(shard, sequence.into(), index, &PutRecord::new(&text, &text)).unwrap();
                }
            }
        }
        if round % 3 == 1 {
            output.split_shard_evenly(output.list_shards(ShardFilter::AtLatest)[0].id).unwrap();
        }
        if round % 7 == 3 {
            // The process dies before the commit, and everything of this round is put again.
            let (from, to) = (root(&(round / 7).to_string()), root(&(round / 7 + 1).to_string()));
            common::copy_dir(&from, &to);
            drop((worker, sink));
            (input, output) = (open(&to, "input"), open(&to, "output"));
            worker = input.group("copy").worker().batch_records(100).open().unwrap();
            handed_out = 0;
            sink = Sink::open(&output, &input.group("copy")).unwrap();
            for sequence in round * 100..round * 100 + 100 {
                let text = format!("{sequence}.0");
                sink.put(shard, sequence.into(), 0, &PutRecord::new(&text, &text)).unwrap();
            }
        }
        let last = round * 100 + 99;
        // A batch ends where a segment does.
        while handed_out <= last {
            let batch = worker.poll(Duration::ZERO).unwrap().expect("a batch");
            handed_out = batch.last_sequence().unwrap().get() + 1;
        }
        worker.commit_to(shard, last.into()).unwrap();
    }
    let mut counts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for text in data(&output) {
        *counts.entry(text).or_default() += 1;
    }
    assert_eq!(counts.len(), 10_000);
    assert!(counts.values().all(|&count| count == 1));
    // The floor was raised several times meanwhile.
    let late = sink.put(shard, 17.into(), 0, &PutRecord::new("key", "too late"));
    assert!(matches!(late, Err(Error::InvalidArgument(_))), "{late:?}");
    let bytes = common::disk_bytes(&root("7").join("output/sinks"));
    assert!(bytes < 8 << 20, "{bytes} bytes for a floor");
}

#[test]
fn l2_a_record_of_a_finished_shard_is_refused_as_well() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = |name: &str| common::small(&clock).open(scratch.path().join(name)).unwrap();
    let (input, output) = (open("input"), open("output"));
    let shard = input.put("key", "record").unwrap().shard;
    input.split_shard_evenly(shard).unwrap();
    let child = input.put("key", "record").unwrap();
    let mut worker = input.group("copy").worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().expect("the record of the parent");
    worker.commit(&batch).unwrap();
    let sink = Sink::open(&output, &input.group("copy")).unwrap();
    let record = PutRecord::new("key", "record");
    assert!(matches!(sink.put(shard, 0.into(), 0, &record), Err(Error::InvalidArgument(_))));
    // Its children have begun, and theirs may have children by now.
    let grandchild = &input.split_shard_evenly(child.shard).unwrap()[0];
    for (shard, sequence) in [(child.shard, child.sequence), (grandchild.id, grandchild.first_sequence)] {
        sink.put(shard, sequence, 0, &record).unwrap();
    }
}

#[test]
fn l2_a_record_that_has_the_header_of_another_sink_is_recognised() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = |name: &str| common::small(&clock).open(scratch.path().join(name)).unwrap();
    let (input, output) = (open("input"), open("output"));
    let shard = input.put("key", "record").unwrap().shard;
    let put = |sink: &Sink| {
        let record = PutRecord::new("key", "record").header("origin", "earlier shardId-000000000000 17 0");
        sink.put(shard, 0.into(), 0, &record).unwrap()
    };
    let first = put(&Sink::open(&output, &input.group("copy")).unwrap());
    assert_eq!(put(&Sink::open(&output, &input.group("copy")).unwrap()), first);
}

#[test]
fn a_sink_is_open_once_and_has_the_name_of_a_group() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let _sink = Sink::open(&stream, &stream.group("copy")).unwrap();
    assert!(matches!(Sink::open(&stream, &stream.group("copy")), Err(Error::Locked(_))));
    assert!(matches!(Sink::open(&stream, &stream.group("no/name")), Err(Error::InvalidArgument(_))));
    let _other = Sink::open(&stream, &stream.group("other")).unwrap();
}

/// A stage of the pipeline: forwards records to the next stream. It fails now and then, after some of them.
fn stage(from: &Stream, to: &Stream, name: &'static str, round: u64) -> Processor {
    let sink = told(Sink::open(to, &from.group(name)));
    let pass_on = move |invocation: &Invocation| -> Result<(), String> {
        for record in invocation.records() {
            let passed = PutRecord::new(record.partition_key(), record.data());
            told(sink.put(invocation.shard(), record.sequence(), 0, &passed));
            if invocation.attempt() == 1 && record.sequence().get() % 97 == round {
                return Err("by chance".to_owned());
            }
        }
        Ok(())
    };
    let options = from.processor(name).batch_size(13).parallelization_factor(1 + round as usize % 3);
    told(options.backoff(Duration::from_millis(1), Duration::from_millis(5)).start(pass_on))
}

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when everything was forwarded.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let [first, second, third, last] = ["first", "second", "third", "last"].map(|name| open(&path, name));
    let stages = [
        (&first, stage(&first, &second, "parse", round)),
        (&second, stage(&second, &third, "enrich", round)),
        (&third, stage(&third, &last, "count", round)),
    ];
    if round < ROUNDS {
        put_until_killed(&first, &[&first, &second, &third, &last], round);
    }
    for (stream, stage) in stages {
        while told(stream.group(stage.name()).describe()).lag().record_count > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        told(stage.close());
    }
}

#[test]
fn l1_l2_l3_a_pipeline_of_three_stages_is_exact_wherever_it_is_killed() {
    let scratch = common::scratch();
    kill_again_and_again(module_path!(), scratch.path(), ROUNDS);
    let [put, passed] = ["first", "last"].map(|name| ids(&open(scratch.path(), name)));
    assert!(put.len() > 1_000, "{} records are too few for a test", put.len());
    let mut sorted = [put, passed.clone()];
    sorted.iter_mut().for_each(|numbers| numbers.sort_unstable());
    assert!(sorted[0] == sorted[1], "{} of {} records", sorted[1].len(), sorted[0].len());
    // In the order of each key, as the shards are listed: parents first.
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, number) in passed {
        let next = next.entry(key).or_default();
        assert_eq!(number, *next, "key {key}");
        *next += 1;
    }
}
