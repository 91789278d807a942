//! A model of records and shards: whatever happens, a reader that follows the shards reads each record once, and each key in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u8,
    },
    PutBatch {
        keys: Vec<u8>,
    },
    Split {
        shard: usize,
        part: u8,
    },
    Merge {
        shard: usize,
    },
    Scale {
        more: bool,
    },
    Restart,
    Advance {
        seconds: u16,
    },
    /// Reads some records of each shard that a reader may read now.
    Read {
        limit: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<u8>().prop_map(|key| Step::Put { key }),
        4 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|keys| Step::PutBatch { keys }),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(shard, part)| Step::Split { shard, part }),
        2 => any::<usize>().prop_map(|shard| Step::Merge { shard }),
        1 => any::<bool>().prop_map(|more| Step::Scale { more }),
        1 => Just(Step::Restart),
        1 => (0u16..200).prop_map(|seconds| Step::Advance { seconds }),
        4 => (1u8..10).prop_map(|limit| Step::Read { limit }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What was put, by key and in order; and a reader that follows shards as the KCL does.
#[derive(Default)]
struct Model {
    put: BTreeMap<String, Vec<String>>,
    read: BTreeMap<String, Vec<String>>,
    numbers: BTreeMap<String, String>,
    next: u32,
    /// The shards that the reader reads, with the number after which it continues.
    reading: BTreeMap<String, Option<String>>,
    ended: BTreeSet<String>,
    waiting: VecDeque<(String, Vec<String>)>,
}

impl Model {
    fn data(&mut self, key: &str) -> String {
        self.next += 1;
        let data = self.next.to_string();
        self.put.entry(key.to_owned()).or_default().push(data.clone());
        data
    }

    fn begin(&mut self, world: &World) {
        let listed = world
            .ok("ListShards", json!({"StreamName": "clicks", "ShardFilter": {"Type": "AT_TRIM_HORIZON"}}));
        for shard in listed["Shards"].as_array().unwrap() {
            self.reading.insert(shard["ShardId"].as_str().unwrap().to_owned(), None);
        }
    }

    /// Reads from each shard. It remembers sequence numbers instead of iterators, as checkpoints do.
    fn read(&mut self, world: &World, limit: u8) -> bool {
        let mut has_more = false;
        for (shard, after) in self.reading.clone() {
            let mut asked =
                json!({"StreamName": "clicks", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
            if let Some(after) = &after {
                asked["ShardIteratorType"] = json!("AFTER_SEQUENCE_NUMBER");
                asked["StartingSequenceNumber"] = json!(after);
            }
            let iterator = world.ok("GetShardIterator", asked)["ShardIterator"].clone();
            let mut got = world.ok("GetRecords", json!({"ShardIterator": iterator, "Limit": limit}));
            let records = got["Records"].as_array().unwrap().clone();
            for (record, data) in records.iter().zip(data_of(&got)) {
                let number = record["SequenceNumber"].as_str().unwrap().to_owned();
                assert_eq!(self.numbers[&data], number, "a record has the number that its put was given");
                let key = record["PartitionKey"].as_str().unwrap();
                self.read.entry(key.to_owned()).or_default().push(data);
                self.reading.insert(shard.clone(), Some(number));
            }
            has_more |= !records.is_empty();
            if records.is_empty() {
                while let Some(next) = got.get("NextShardIterator").filter(|_| got["MillisBehindLatest"] != 0)
                {
                    got = world.ok("GetRecords", json!({"ShardIterator": next}));
                }
            }
            if got.get("NextShardIterator").is_none() {
                has_more = true;
                self.reading.remove(&shard);
                self.ended.insert(shard);
                for child in got["ChildShards"].as_array().expect("both or neither") {
                    let parents = child["ParentShards"].as_array().unwrap().iter();
                    let parents = parents.map(|parent| parent.as_str().unwrap().to_owned()).collect();
                    self.waiting.push_back((child["ShardId"].as_str().unwrap().to_owned(), parents));
                }
            }
        }
        let ready: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, parents)| parents.iter().all(|it| self.ended.contains(it)))
            .cloned()
            .collect();
        for (child, _) in ready {
            self.waiting.retain(|(waiting, _)| *waiting != child);
            if !self.ended.contains(&child) {
                self.reading.entry(child).or_insert(None);
            }
        }
        has_more
    }
}

fn open_shards(world: &World) -> Vec<(String, u128, u128)> {
    let listed =
        world.ok("ListShards", json!({"StreamName": "clicks", "ShardFilter": {"Type": "AT_LATEST"}}));
    let number = |text: &Json| text.as_str().unwrap().parse().unwrap();
    let shards = listed["Shards"].as_array().unwrap().iter().map(|shard| {
        let range = &shard["HashKeyRange"];
        let id = shard["ShardId"].as_str().unwrap().to_owned();
        (id, number(&range["StartingHashKey"]), number(&range["EndingHashKey"]))
    });
    let mut shards: Vec<_> = shards.collect();
    shards.sort_by_key(|(_, start, _)| *start);
    // They cover the space exactly once, as the KCL verifies.
    assert_eq!((shards[0].1, shards.last().unwrap().2), (0, u128::MAX));
    assert!(shards.windows(2).all(|pair| pair[0].2 + 1 == pair[1].1));
    shards
}

fn run(steps: Vec<Step>) {
    let mut world = World::new();
    world.create("clicks", 2);
    let mut model = Model::default();
    model.begin(&world);
    for step in steps {
        match step {
            Step::Put { key } => {
                let key = format!("key-{}", key % 16);
                let data = model.data(&key);
                let put = world.put("clicks", &key, &data);
                model.numbers.insert(data, put["SequenceNumber"].as_str().unwrap().to_owned());
            }
            Step::PutBatch { keys } => {
                let entries: Vec<_> = keys
                    .iter()
                    .map(|key| {
                        let key = format!("key-{}", key % 16);
                        let data = model.data(&key);
                        (json!({"PartitionKey": key, "Data": base64(&data)}), data)
                    })
                    .collect();
                let records: Vec<_> = entries.iter().map(|(entry, _)| entry.clone()).collect();
                let got = world.ok("PutRecords", json!({"StreamName": "clicks", "Records": records}));
                assert_eq!(got["FailedRecordCount"], 0);
                for ((_, data), placed) in entries.into_iter().zip(got["Records"].as_array().unwrap()) {
                    model.numbers.insert(data, placed["SequenceNumber"].as_str().unwrap().to_owned());
                }
            }
            Step::Split { shard, part } => {
                let shards = open_shards(&world);
                let (id, start, end) = &shards[shard % shards.len()];
                let at = start + (end - start) / 256 * u128::from(part);
                if shards.len() < 8 && at > start + 1 && at < *end {
                    world.ok("SplitShard", json!({"StreamName": "clicks", "ShardToSplit": id, "NewStartingHashKey": at.to_string()}));
                }
            }
            Step::Merge { shard } => {
                let shards = open_shards(&world);
                if let [a, b, ..] = &shards[shard % shards.len()..] {
                    world.ok(
                        "MergeShards",
                        json!({"StreamName": "clicks", "ShardToMerge": a.0, "AdjacentShardToMerge": b.0}),
                    );
                }
            }
            Step::Scale { more } => {
                let count = open_shards(&world).len();
                let target = if more { (count * 2).min(8).max(count.div_ceil(2)) } else { count.div_ceil(2) };
                world.ok("UpdateShardCount", json!({"StreamName": "clicks", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}));
                assert_eq!(open_shards(&world).len(), target);
            }
            Step::Restart => world.restart(|_| {}),
            Step::Advance { seconds } => world.clock.advance(Duration::from_secs(seconds.into())),
            Step::Read { limit } => drop(model.read(&world, limit)),
        }
    }
    while model.read(&world, 10) {}
    assert_eq!(model.read, model.put);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_read_once_and_each_key_in_order(steps in steps()) {
        run(steps);
    }
}
