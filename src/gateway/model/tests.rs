use super::shapes::{ADD_TAGS_TO_STREAM, GET_SHARD_ITERATOR, PUT_RECORD, PUT_RECORDS, SPLIT_SHARD};
use super::*;
use crate::gateway::wire::Format;

fn checked<'a>(body: &'a str, members: &'static [Member]) -> Answered<Input<'a>> {
    check(Format::Json.decode(body.as_bytes()).unwrap(), members, Profile::Year2018)
}

fn text_of(body: &str, members: &'static [Member]) -> (&'static str, String) {
    let fault = checked(body, members).unwrap_err();
    (fault.kind, fault.message.unwrap().into_owned())
}

#[test]
fn types_are_refused_with_the_texts_of_the_service() {
    let number = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to";
    let cases = [
        (r#"{"PartitionKey":true}"#, "class java.lang.Boolean can not be converted to an String".to_owned()),
        (r#"{"PartitionKey":1}"#, format!("{number} an String")),
        (r#"{"PartitionKey":[]}"#, "Start of list found where not expected".to_owned()),
        (r#"{"PartitionKey":{}}"#, "Start of structure or map found where not expected.".to_owned()),
        (r#"{"Data":2}"#, format!("{number} a Blob")),
        (r#"{"Data":"abc"}"#, "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3".to_owned()),
        (r#"{"Data":"ab*d"}"#, "'ab*d' can not be converted to a Blob: Invalid Base64 character: '*'".to_owned()),
        (r#"{"Data":"=bcd"}"#, "'=bcd' can not be converted to a Blob: Invalid Base64 character: '='".to_owned()),
        (r#"{"Data":"ABC="}"#, "'ABC=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected".to_owned()),
    ];
    for (body, expected) in cases {
        assert_eq!(text_of(body, PUT_RECORD), ("SerializationException", expected), "{body}");
    }
    assert_eq!(text_of(r#"{"Records":1}"#, PUT_RECORDS).1, "Expected list or null");
    assert_eq!(text_of(r#"{"Records":[1]}"#, PUT_RECORDS).1, "Expected null");
    assert_eq!(text_of(r#"{"Tags":1}"#, ADD_TAGS_TO_STREAM).1, "Expected map or null");
    let time = "class java.lang.String can not be converted to milliseconds since epoch";
    assert_eq!(text_of(r#"{"Timestamp":"x"}"#, GET_SHARD_ITERATOR).1, time);
}

#[test]
fn bounds_are_refused_in_the_order_and_the_words_of_the_service() {
    let (kind, text) = text_of("{}", SPLIT_SHARD);
    assert_eq!(kind, "ValidationException");
    assert_eq!(
        text,
        "3 validation errors detected: Value null at 'newStartingHashKey' failed to satisfy constraint: Member must not \
         be null; Value null at 'streamName' failed to satisfy constraint: Member must not be null; Value null at \
         'shardToSplit' failed to satisfy constraint: Member must not be null"
    );
    let (_, text) =
        text_of(r#"{"StreamName":"","PartitionKey":"","Data":"","ExplicitHashKey":"01"}"#, PUT_RECORD);
    assert_eq!(
        text,
        "4 validation errors detected: Value '' at 'partitionKey' failed to satisfy constraint: Member must have length \
         greater than or equal to 1; Value '01' at 'explicitHashKey' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: 0|([1-9]\\d{0,38}); Value '' at 'streamName' failed to satisfy constraint: Member \
         must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '' at 'streamName' failed to satisfy \
         constraint: Member must have length greater than or equal to 1"
    );
}

#[test]
fn at_most_ten_entries_are_listed_and_items_count_from_one() {
    let records = ["{}"; 12].join(",");
    let body = format!(r#"{{"StreamName":"s","Records":[{records}]}}"#);
    let (_, text) = text_of(&body, PUT_RECORDS);
    assert!(
        text.starts_with("10 validation errors detected: Value null at 'records.1.member.partitionKey'"),
        "{text}"
    );
    assert_eq!(text.matches("; ").count(), 9);
}

#[test]
fn members_that_the_service_does_not_know_are_dropped() {
    let input = checked(
        r#"{"Foo":{"Bar":[]},"StreamName":"s","Data":"aGk=","PartitionKey":"k","ExplicitHashKey":null}"#,
        PUT_RECORD,
    );
    let input = input.unwrap();
    assert!(!input.has("Foo") && !input.has("ExplicitHashKey"));
    assert_eq!((input.blob("Data"), input.text("PartitionKey")), (&b"hi"[..], Some("k")));
}

#[test]
fn numbers_are_floored_and_clamped() {
    let input = checked(r#"{"ShardIterator":"x","Limit":9.9}"#, shapes::GET_RECORDS).unwrap();
    assert_eq!(input.integer("Limit"), Some(9));
    let (_, text) = text_of(r#"{"ShardIterator":"x","Limit":99999999999}"#, shapes::GET_RECORDS);
    assert!(text.contains("Value '2147483647' at 'limit'"), "{text}");
}
