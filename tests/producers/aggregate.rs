//! Aggregates of the Kinesis Producer Library: the bytes, both ways, and the KCL's rules for damaged and foreign ones: L3, L4, L6.

use crate::common;

use common::aggregates::{aggregate, bytes, hex, signed};
use proptest::prelude::*;
use streamlog::aggregate::{
    Aggregate, AggregatedRecord, Aggregator, BYTES_MAX_DEFAULT, UserRecords, deaggregate,
};
use streamlog::{
    Batch, Error, HashKey, HashKeyRange, KeyHash, Position, PutRecord, Stream, StreamOptions, limits,
};

/// A user record: partition key, explicit hash key, data.
type User = (String, Option<u128>, Vec<u8>);

fn user(key: &str, hash_key: Option<u128>, data: &str) -> User {
    (key.to_owned(), hash_key, data.as_bytes().to_owned())
}

fn put_record((key, hash_key, data): &User) -> PutRecord<'_> {
    let record = PutRecord::new(key, data);
    match hash_key {
        Some(hash_key) => record.explicit_hash_key(HashKey::new(*hash_key)),
        None => record,
    }
}

fn users(aggregate: &Aggregate<'_>) -> Vec<User> {
    let user = |record: PutRecord<'_>| {
        let key = String::from_utf8(record.partition_key.to_vec()).unwrap();
        (key, record.explicit_hash_key.map(HashKey::get), record.data.to_vec())
    };
    aggregate.iter().map(user).collect()
}

fn decoded(data: &[u8]) -> Option<Vec<User>> {
    Aggregate::decode(data).map(|aggregate| users(&aggregate))
}

/// Vectors from other encoders: `aws_kinesis_agg`, and the documentation of ex_kpl.
#[test]
fn bytes_are_those_of_other_encoders() {
    let vectors = [
        (
            vec![user("a", None, "x"), user("b", Some(7), "yz"), user("a", None, "")],
            "f3899ac2 0a0161 0a0162 120137 1a0508001a0178 1a08080110001a02797a 1a0408001a00 \
             54925a31a4aac00a22528ee36917490e",
        ),
        (
            vec![user("partition_key", None, "data")],
            "f3899ac2 0a0d 706172746974696f6e5f6b6579 1a08 0800 1a04 64617461 d03699da5a222fa32108ad1bd955a14e",
        ),
    ];
    for (expected, vector) in vectors {
        assert_eq!(decoded(&bytes(vector)), Some(expected.clone()));
        if expected.len() > 1 {
            let records: Vec<_> = expected.iter().map(put_record).collect();
            let encoded = aggregate(&records);
            assert_eq!(hex(&encoded.data), hex(&bytes(vector)));
            assert_eq!((encoded.partition_key.as_str(), encoded.explicit_hash_key), ("a", None));
        }
    }
}

/// A message with the keys "a" and "b", the explicit hash keys "7" and "x", and then these fields.
fn message(fields: &str) -> Vec<u8> {
    bytes(&format!("0a0161 0a0162 120137 120178 {fields}"))
}

const A: &str = "1a05 0800 1a0141"; // key 0, data "A"
const B: &str = "1a05 0801 1a0142"; // key 1, data "B"
const A7: &str = "1a07 0800 1000 1a0137"; // key 0, explicit hash key 0, data "7"

/// The returned data of the user records, as text; `None` for a plain record.
fn outcome(fields: &str) -> Option<(String, bool)> {
    let data = signed(&message(fields));
    let aggregate = Aggregate::decode(&data)?;
    assert!(!aggregate.is_foreign());
    let text: Vec<u8> = aggregate.iter().flat_map(|record| record.data.to_vec()).collect();
    Some((String::from_utf8(text).unwrap(), aggregate.is_broken()))
}

#[test]
fn l6_data_without_magic_digest_or_message_is_that_of_a_plain_record() {
    let whole = signed(&message(A));
    assert_eq!(decoded(&whole).map(|users| users.len()), Some(1));
    for len in 0..whole.len() {
        assert_eq!(decoded(&whole[..len]), None, "the first {len} bytes");
    }
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decoded(&damaged), None, "bit {bit}");
    }
    assert_eq!(decoded(&signed(&[])), None, "nothing between magic and digest");
    assert_eq!(decoded(&[whole, vec![0]].concat()), None, "something behind the digest");
}

#[test]
fn l6_a_message_that_is_broken_or_lacks_a_required_field_is_a_plain_record() {
    let refused = [
        ("1a03 1a0141", "no partition key"),
        ("1a02 0800", "no data"),
        ("1a00", "neither"),
        ("1a09 0800 1a0141 2202 1200", "a tag without a name"),
        ("1a05 0800 1a02 41", "data longer than its record"),
        ("1a7f 0800 1a0141", "a record longer than the message"),
        ("1a05 0a00 1a0141", "text in the place of an index"),
        ("00", "field 0"),
        ("0c", "the end of no group"),
        ("4b", "a group without an end"),
        ("46 00", "an unknown wire type"),
    ];
    for (fields, what) in refused {
        assert_eq!(outcome(&format!("{A} {fields}")), None, "{what}");
    }
}

#[test]
fn l6_what_protobuf_permits_is_permitted() {
    let permitted = [
        ("a0 06 05", "an unknown number"),
        ("2a 03 010203", "unknown bytes"),
        ("31 0000000000000000 35 00000000", "unknown numbers of fixed length"),
        ("2b 08 01 3b 3c 2c", "an unknown group, and one within"),
        ("18 05", "a number in the place of a record"),
        ("08 00", "a number in the place of a key"),
    ];
    for (fields, what) in permitted {
        assert_eq!(outcome(&format!("{A} {fields} {B}")), Some(("AB".to_owned(), false)), "{what}");
    }
    let tagged = "1a0e 0800 1a0141 2207 0a016b 1202 7676";
    assert_eq!(outcome(tagged), Some(("A".to_owned(), false)), "a tag is skipped");
    let twice = "1a0a 0801 1a0142 0800 1a0141";
    let data = signed(&message(twice));
    assert_eq!(decoded(&data), Some(vec![user("a", None, "A")]), "the last value of a field counts");
    let keys_last = signed(&bytes(&format!("{B} {A} 0a0161 0a0162")));
    assert_eq!(decoded(&keys_last), Some(vec![user("b", None, "B"), user("a", None, "A")]));
    // The KCL drops the bits above 32 of an index.
    let index_of_a = "1a09 088080808010 1a0141";
    assert_eq!(outcome(index_of_a), Some(("A".to_owned(), false)));
}

#[test]
fn l6_from_the_first_broken_user_record_on_the_rest_is_dropped() {
    let broken = [
        ("1a05 0802 1a0158", "a key that is not in the table"),
        ("1a09 08ffffffff07 1a0158", "an index below 0 in Java"),
        ("1a07 0800 1002 1a0158", "an explicit hash key that is not in the table"),
        ("1a07 0800 1001 1a0158", "an explicit hash key that is not a number"),
    ];
    for (record, what) in broken {
        assert_eq!(outcome(&format!("{A} {B} {record} {A}")), Some(("AB".to_owned(), true)), "{what}");
        assert_eq!(outcome(record), Some((String::new(), true)), "{what}, and nothing before it");
    }
    assert_eq!(outcome(A7), Some(("7".to_owned(), false)));
    assert_eq!(outcome(""), Some((String::new(), false)), "an aggregate without user records is one");
}

#[test]
fn l6_a_foreign_user_record_drops_the_whole_aggregate_unless_a_broken_one_comes_first() {
    // MD5 sends "a" into the lower half of the hash keys, and "b" into the upper half.
    let half = |index| {
        let middle = 1 << 127;
        match index {
            0 => HashKeyRange { start: HashKey::MIN, end: HashKey::new(middle - 1) },
            _ => HashKeyRange { start: HashKey::new(middle), end: HashKey::MAX },
        }
    };
    let count = |fields: &str, range| {
        let data = signed(&message(fields));
        let aggregate = Aggregate::decode_within(&data, range, KeyHash::Md5).unwrap();
        assert_eq!(aggregate.is_empty(), aggregate.iter().next().is_none());
        (aggregate.len(), aggregate.is_foreign(), aggregate.is_broken())
    };
    let broken = "1a05 0805 1a0158";
    assert_eq!(count(&format!("{A} {A}"), half(0)), (2, false, false), "\"b\" is in the table only");
    assert_eq!(count(&format!("{A} {A}"), half(1)), (0, true, false));
    assert_eq!(count(&format!("{A} {A} {B}"), half(0)), (0, true, false));
    assert_eq!(count(&format!("{A} {B} {broken}"), half(0)), (0, true, false));
    assert_eq!(count(&format!("{A} {broken} {B}"), half(0)), (1, false, true));
    assert_eq!(count(&format!("{A} {B}"), HashKeyRange::ALL), (2, false, false));
    // The explicit hash key counts, and not the partition key.
    let b7 = "1a07 0801 1000 1a0137";
    assert_eq!(count(&format!("{A} {b7}"), half(0)), (2, false, false));
    assert_eq!(count(&format!("{B} {b7}"), half(1)), (0, true, false));

    let foreign_anywhere = ["340282366920938463463374607431768211456", "-1", &"9".repeat(300)];
    for hash_key in foreign_anywhere {
        let mut message = bytes("0a0161 12");
        let len = hash_key.len();
        if len >= 0x80 {
            message.push((len & 0x7f) as u8 | 0x80);
            message.push((len >> 7) as u8);
        } else {
            message.push(len as u8);
        }
        message.extend_from_slice(hash_key.as_bytes());
        message.extend_from_slice(&bytes(&format!("{A} {A7}")));
        let data = signed(&message);
        let aggregate = Aggregate::decode(&data).unwrap();
        assert!(aggregate.is_foreign() && aggregate.is_empty(), "no shard owns {hash_key}");
    }
}

fn batch_of(stream: &Stream) -> Batch {
    stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(1_000).unwrap()
}

#[test]
fn l3_a_batch_hands_out_user_records_in_order_with_their_numbers() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(2).key_hash(KeyHash::Md5).open(scratch.path()).unwrap();
    let low = |data: &'static str| PutRecord::new("key", data).explicit_hash_key(HashKey::MIN);
    let put = |record: &AggregatedRecord| stream.put_record(&record.as_put()).unwrap();
    stream.put_record(&low("plain").header("trace", "1")).unwrap();
    put(&aggregate(&[low("x"), low("y"), low("z")]));
    let high = PutRecord::new("key", "high").explicit_hash_key(HashKey::MAX);
    put(&aggregate(&[low("of both shards"), high]));
    let broken = signed(&message(&format!("{A} 1a05 0809 1a0158")));
    stream.put_record(&PutRecord::new("a", &broken)).unwrap();
    put(&aggregate(&[low("q"), low("r")]));

    let batch = batch_of(&stream);
    assert_eq!(batch.len(), 5);
    let texts = |records: &mut UserRecords<'_>| -> Vec<String> {
        let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
        records.map(|it| format!("{}.{} {}", it.sequence(), it.sub_sequence(), text(it.data()))).collect()
    };
    let range = stream.shards()[0].hash_key_range;
    let mut records = deaggregate(&batch).within(range, KeyHash::Md5);
    let expected = ["0.0 plain", "1.0 x", "1.1 y", "1.2 z", "3.0 A", "4.0 q", "4.1 r"];
    assert_eq!(texts(&mut records), expected);
    assert_eq!((records.foreign_count(), records.broken_count()), (1, 1));
    let all = texts(&mut deaggregate(&batch));
    assert_eq!(all[4..6], ["2.0 of both shards", "2.1 high"], "without a range, nothing is foreign");

    let places: Vec<(u64, u64)> =
        deaggregate(&batch).map(|it| (it.sequence().get(), it.sub_sequence())).collect();
    for (at, &(sequence, sub_sequence)) in places.iter().enumerate() {
        let rest = deaggregate(&batch).starting_at(sequence.into(), sub_sequence);
        assert_eq!(rest.map(|it| (it.sequence().get(), it.sub_sequence())).collect::<Vec<_>>(), places[at..]);
    }
    assert_eq!(deaggregate(&batch).starting_at(1.into(), 9).next().unwrap().sequence().get(), 2);
    assert_eq!(deaggregate(&batch).starting_at(0.into(), 1).next().unwrap().sequence().get(), 1);

    let records: Vec<_> = deaggregate(&batch).collect();
    let plain = records[0];
    assert_eq!(plain.record().headers().get("trace"), Some(&b"1"[..]));
    assert_eq!((plain.is_aggregated(), plain.is_last(), plain.explicit_hash_key()), (false, true, None));
    let (first, last) = (records[1], records[3]);
    assert_eq!((first.is_aggregated(), first.is_last(), last.is_last()), (true, false, true));
    assert_eq!((first.partition_key(), first.explicit_hash_key()), (&b"key"[..], Some(HashKey::MIN)));
    assert_eq!(first.timestamp(), first.record().timestamp());
    for record in &batch {
        let of_record = deaggregate(record).map(|it| it.data().to_vec());
        let of_batch = records.iter().filter(|it| it.sequence() == record.sequence());
        assert!(of_record.eq(of_batch.map(|it| it.data().to_vec())));
    }
}

#[test]
fn l3_plain_records_and_aggregates_of_any_length_come_in_order() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let mut put = 0;
    for round in 0..60_usize {
        let data: Vec<String> =
            (0..[1, 3, 1, 40, 2][round % 5]).map(|index| format!("{}", put + index)).collect();
        let records: Vec<_> = data.iter().map(|data| PutRecord::new("key", data)).collect();
        stream.put_record(&aggregate(&records).as_put()).unwrap();
        put += data.len();
    }
    let batch = batch_of(&stream);
    assert_eq!(batch.len(), 60);
    let found = deaggregate(&batch).map(|record| String::from_utf8(record.data().to_vec()).unwrap());
    assert!(found.eq((0..put).map(|number| number.to_string())));
}

#[test]
fn a_user_record_by_itself_stays_plain_unless_it_would_be_read_as_an_aggregate() {
    let only = aggregate(&[PutRecord::new("key", "data").explicit_hash_key(HashKey::new(7))]);
    assert_eq!((&only.data[..], only.is_aggregated, only.user_record_count), (&b"data"[..], false, 1));
    assert_eq!(only.as_put(), PutRecord::new("key", "data").explicit_hash_key(HashKey::new(7)));

    let inner = aggregate(&[PutRecord::new("a", "1"), PutRecord::new("b", "2")]);
    let outer = aggregate(&[inner.as_put()]);
    assert!(outer.is_aggregated);
    assert_eq!(Aggregate::decode(&outer.data).unwrap().get(0), Some(inner.as_put()));
}

#[test]
fn l4_an_aggregate_has_the_size_and_the_number_of_user_records_that_were_set() {
    let add_all = |mut aggregator: Aggregator, data: &[&[u8]]| {
        let mut full = vec![];
        for data in data {
            let bytes = aggregator.bytes();
            full.extend(aggregator.add(&PutRecord::new("key", data)).unwrap());
            assert!(aggregator.bytes() > bytes || aggregator.len() == 1);
        }
        full.extend(aggregator.finish());
        assert!(aggregator.is_empty() && aggregator.bytes() == 0 && aggregator.finish().is_none());
        full
    };
    let counts = |records: &[AggregatedRecord]| -> Vec<usize> {
        records.iter().map(|record| record.user_record_count).collect()
    };
    let small: Vec<&[u8]> = vec![b"12345"; 10];
    // 20 bytes around the message, 5 for the key, and 11 for each user record.
    assert_eq!(counts(&add_all(Aggregator::new().bytes_max(20 + 5 + 33), &small)), [3, 3, 3, 1]);
    assert_eq!(counts(&add_all(Aggregator::new().bytes_max(20 + 5 + 32), &small)), [2; 5]);
    assert_eq!(counts(&add_all(Aggregator::new().user_records_max(4), &small)), [4, 4, 2]);
    assert_eq!(counts(&add_all(Aggregator::new().user_records_max(0), &small)), [1; 10]);
    assert_eq!(counts(&add_all(Aggregator::new().bytes_max(0), &small)), [1; 10]);
    assert_eq!(BYTES_MAX_DEFAULT, 51_200);
    let large = [7; 60_000];
    let mixed = add_all(Aggregator::default(), &[b"a", b"b", &large, b"c", b"d"]);
    assert_eq!(counts(&mixed), [2, 1, 2]);
    assert!(mixed[1].data == large && !mixed[1].is_aggregated, "what does not fit becomes a plain record");
}

#[test]
fn l6_what_no_aggregate_can_hold_is_refused_and_not_added() {
    let mut aggregator = Aggregator::new();
    aggregator.add(&PutRecord::new("key", "data")).unwrap();
    let before = aggregator.bytes();
    let long = "k".repeat(limits::PARTITION_KEY_BYTES_MAX + 1);
    let refused = [
        (PutRecord::new("", "data"), "1 to 1024"),
        (PutRecord::new(&long, "data"), "1025 bytes"),
        (PutRecord::new(b"\xff", "data"), "UTF-8"),
        (PutRecord::new("key", "data").header("trace", "1"), "headers"),
    ];
    for (record, expected) in refused {
        match aggregator.add(&record) {
            Err(Error::InvalidRecord { index: 0, reason }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((aggregator.len(), aggregator.bytes()), (1, before));
    let records = [PutRecord::new("key", "data"), PutRecord::new("", "data"), PutRecord::new("", "data")];
    assert!(matches!(aggregator.add_all(&records), Err(Error::InvalidRecord { index: 1, .. })));
    assert_eq!((aggregator.len(), aggregator.bytes()), (1, before), "none of them is added");
}

fn any_user() -> impl Strategy<Value = User> {
    let key = prop_oneof![3 => "[a-c]", 1 => "\\PC{1,20}", 1 => "[a-z]{120,140}"];
    let hash_key = prop_oneof![3 => Just(None), 1 => Just(Some(7)), 1 => any::<u128>().prop_map(Some)];
    let short = proptest::collection::vec(any::<u8>(), 0..40);
    let data = prop_oneof![4 => short, 1 => Just(vec![7; 200]), 1 => Just(bytes("f3899ac2 00"))];
    (key, hash_key, data)
}

/// Any bytes, and bytes that contain many fields of an aggregate.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(bytes("0a0161")),
        Just(bytes("120137")),
        Just(bytes("12012d")),
        Just(bytes(A)),
        Just(bytes(B)),
        Just(bytes(A7)),
        Just(bytes("1a0b 0800 1a0141 2204 0a016b 1a")),
        Just(bytes("2b 2c")),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l3_l4_what_was_added_comes_back_in_order(
        added in proptest::collection::vec(any_user(), 0..200),
        bytes_max in 0_usize..3_000,
        user_records_max in 1_usize..60,
    ) {
        let mut aggregator = Aggregator::new().bytes_max(bytes_max).user_records_max(user_records_max);
        let mut made = vec![];
        for user in &added {
            made.extend(aggregator.add(&put_record(user)).unwrap());
            prop_assert!(aggregator.len() <= user_records_max);
            prop_assert!(aggregator.len() <= 1 || aggregator.bytes() <= bytes_max);
        }
        let rest = aggregator.bytes();
        made.extend(aggregator.finish());
        let records: Vec<_> = added.iter().map(put_record).collect();
        let mut at_once = aggregator.add_all(&records).unwrap();
        prop_assert_eq!(aggregator.bytes(), rest);
        at_once.extend(aggregator.finish());
        prop_assert_eq!(&at_once, &made, "many at once are the same as one by one");
        let mut found: Vec<User> = vec![];
        for record in &made {
            match Aggregate::decode(&record.data) {
                Some(aggregate) => {
                    prop_assert!(record.is_aggregated && !aggregate.is_broken() && !aggregate.is_foreign());
                    prop_assert!(record.data.len() <= bytes_max || record.user_record_count == 1);
                    prop_assert_eq!(aggregate.len(), record.user_record_count);
                    let range = HashKeyRange { start: HashKey::MIN, end: HashKey::new(3 << 126) };
                    for key_hash in [KeyHash::Md5, KeyHash::Xxh3] {
                        let hash = |it: PutRecord<'_>| it.explicit_hash_key.unwrap_or(key_hash.hash(it.partition_key));
                        let is_ours = aggregate.iter().all(|it| range.contains(hash(it)));
                        let within = Aggregate::decode_within(&record.data, range, key_hash).unwrap();
                        prop_assert_eq!((within.is_foreign(), within.is_empty()), (!is_ours, !is_ours));
                    }
                    prop_assert_eq!(aggregate.get(0).unwrap().partition_key, record.as_put().partition_key);
                    prop_assert_eq!(aggregate.get(0).unwrap().explicit_hash_key, record.explicit_hash_key);
                    found.extend(users(&aggregate));
                }
                None => {
                    prop_assert!(!record.is_aggregated && record.user_record_count == 1);
                    let hash_key = record.explicit_hash_key.map(HashKey::get);
                    found.push((record.partition_key.clone(), hash_key, record.data.clone()));
                }
            }
        }
        prop_assert_eq!(found, added);
    }

    #[test]
    fn l6_no_bytes_cause_a_panic(message in any_message(), start in any::<u128>(), end in any::<u128>()) {
        prop_assert!(Aggregate::decode(&message).is_none() || message.starts_with(&[0xf3]));
        let data = signed(&message);
        let range = HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) };
        let all = Aggregate::decode(&data);
        let within = Aggregate::decode_within(&data, range, KeyHash::Xxh3);
        prop_assert_eq!(all.is_some(), within.is_some());
        if let (Some(all), Some(within)) = (all, within) {
            prop_assert!(within.is_foreign() || within.len() == all.len());
            prop_assert_eq!(all.iter().count(), all.len());
            prop_assert!(all.get(all.len()).is_none());
            // A user record takes at least 6 bytes.
            prop_assert!(all.len() <= message.len() / 6);
        }
    }
}
