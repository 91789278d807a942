//! The AWS SDK for Rust on a gateway: records, lists, resharding, and subscriptions through a take-over and the end of a shard: L1 L3.

use std::error::Error;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::subscribe_to_shard::{SubscribeToShardError, SubscribeToShardOutput};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    ConsumerStatus, PutRecordsRequestEntry, ShardFilter, ShardFilterType, ShardIteratorType,
    StartingPosition, StreamStatus, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use streamlog::gateway::Gateway;
use streamlog::{Store, StreamOptions};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::common;

type Outcome<T> = Result<T, Box<dyn Error>>;

const STREAM: &str = "sdk";
const FIRST_SHARD: &str = "shardId-000000000000";
/// The timeout for everything here.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time after a subscription in which the shard cannot be subscribed to again.
const HOLD: Duration = Duration::from_secs(5);

fn client(url: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn until_active(client: &Client) -> Outcome<()> {
    loop {
        let answer = client.describe_stream_summary().stream_name(STREAM).send().await?;
        let summary = answer.stream_description_summary().ok_or("a summary")?;
        if *summary.stream_status() == StreamStatus::Active {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Puts records whose data are these numbers, half of them in either half of the hash keys.
async fn put(client: &Client, numbers: std::ops::Range<u32>) -> Outcome<()> {
    let entry = |number: u32| {
        let data = Blob::new(number.to_string());
        let hash_key = (u128::from(number % 2) << 127).to_string();
        PutRecordsRequestEntry::builder().data(data).partition_key("key").explicit_hash_key(hash_key).build()
    };
    let entries = numbers.map(entry).collect::<Result<Vec<_>, _>>()?;
    let answer = client.put_records().stream_name(STREAM).set_records(Some(entries)).send().await?;
    assert_eq!(answer.failed_record_count(), Some(0));
    Ok(())
}

fn numbers(event: &SubscribeToShardEvent) -> Outcome<Vec<u32>> {
    let number = |data: &Blob| -> Outcome<u32> { Ok(std::str::from_utf8(data.as_ref())?.parse()?) };
    event.records().iter().map(|record| number(record.data())).collect()
}

/// A subscription, and what it has returned.
struct Subscription {
    output: SubscribeToShardOutput,
    numbers: Vec<u32>,
    continuation: String,
    children: Vec<String>,
}

impl Subscription {
    async fn open(
        client: &Client,
        consumer: &str,
        shard: &str,
        after: Option<&str>,
    ) -> Result<Self, SdkError<SubscribeToShardError>> {
        let kind = if after.is_some() {
            ShardIteratorType::AfterSequenceNumber
        } else {
            ShardIteratorType::TrimHorizon
        };
        let position =
            StartingPosition::builder().r#type(kind).set_sequence_number(after.map(str::to_owned)).build();
        let position = position.map_err(SdkError::construction_failure)?;
        let call =
            client.subscribe_to_shard().consumer_arn(consumer).shard_id(shard).starting_position(position);
        Ok(Self {
            output: call.send().await?,
            numbers: vec![],
            continuation: String::new(),
            children: vec![],
        })
    }

    /// Processes an event. Returns whether there was one: otherwise the subscription has ended.
    async fn next(&mut self) -> Outcome<bool> {
        let event = match timeout(PATIENCE, self.output.event_stream.recv()).await? {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => event,
            Ok(None) => return Ok(false),
            // The other way to end when another subscription takes over.
            Err(SdkError::ServiceError(error)) if error.err().is_resource_in_use_exception() => {
                return Ok(false);
            }
            other => return Err(format!("an event was expected instead of {other:?}").into()),
        };
        self.numbers.extend(numbers(&event)?);
        self.continuation = event.continuation_sequence_number().to_owned();
        self.children.extend(event.child_shards().iter().map(|child| child.shard_id().to_owned()));
        Ok(true)
    }

    async fn until_count(&mut self, count: usize) -> Outcome<()> {
        while self.numbers.len() < count {
            assert!(self.next().await?, "it ends before its records are there");
        }
        Ok(())
    }
}

async fn records_and_lists(client: &Client) -> Outcome<()> {
    client.create_stream().stream_name(STREAM).shard_count(1).send().await?;
    let error =
        client.create_stream().stream_name(STREAM).shard_count(1).send().await.err().ok_or("an error")?;
    assert!(error.into_service_error().is_resource_in_use_exception());
    until_active(client).await?;

    let data = Blob::new(vec![0, 255, 10, 13]);
    let placed =
        client.put_record().stream_name(STREAM).partition_key("ключ").data(data.clone()).send().await?;
    let iterator = client
        .get_shard_iterator()
        .stream_name(STREAM)
        .shard_id(placed.shard_id())
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
        .starting_sequence_number(placed.sequence_number());
    let iterator = iterator.send().await?.shard_iterator.ok_or("an iterator")?;
    let got = client.get_records().shard_iterator(iterator).send().await?;
    let [record] = got.records() else { return Err(format!("one record was expected in {got:?}").into()) };
    assert_eq!((record.data(), record.partition_key()), (&data, "ключ"));
    assert_eq!(record.sequence_number(), placed.sequence_number());
    assert_eq!(got.millis_behind_latest(), Some(0));
    assert!(record.approximate_arrival_timestamp().is_some_and(|time| time.secs() > 1_600_000_000));

    // The subscriptions read a stream without it.
    client.delete_stream().stream_name(STREAM).send().await?;
    while client.describe_stream_summary().stream_name(STREAM).send().await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    for name in [STREAM, "sdk-2", "sdk-3"] {
        client.create_stream().stream_name(name).shard_count(1).send().await?;
    }
    let pages = client.list_streams().limit(2).into_paginator().send().collect::<Result<Vec<_>, _>>().await?;
    let names: Vec<_> = pages.iter().flat_map(|page| page.stream_names()).map(String::as_str).collect();
    assert_eq!((pages.len(), names), (2, vec![STREAM, "sdk-2", "sdk-3"]));
    let error = client.describe_stream().stream_name("nobody").send().await.err().ok_or("an error")?;
    let error = error.into_service_error();
    assert!(error.is_resource_not_found_exception(), "{error:?}");
    assert_eq!(error.meta().message(), Some("Stream nobody under account 000000000000 not found."));
    until_active(client).await
}

async fn register(client: &Client) -> Outcome<String> {
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await?;
    let stream = summary.stream_description_summary().ok_or("a summary")?.stream_arn().to_owned();
    let registered = client.register_stream_consumer().stream_arn(&stream).consumer_name("c").send().await?;
    let arn = registered.consumer().ok_or("a consumer")?.consumer_arn().to_owned();
    loop {
        let described = client.describe_stream_consumer().consumer_arn(&arn).send().await?;
        if *described.consumer_description().ok_or("a consumer")?.consumer_status() == ConsumerStatus::Active
        {
            return Ok(arn);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn subscriptions(client: &Client) -> Outcome<()> {
    let consumer = register(client).await?;
    put(client, 0..10).await?;
    let mut first = Subscription::open(client, &consumer, FIRST_SHARD, None).await?;
    let held_until = Instant::now() + HOLD + Duration::from_millis(200);
    first.until_count(10).await?;
    put(client, 10..15).await?;
    first.until_count(15).await?;
    assert_eq!(first.numbers, Vec::from_iter(0..15));

    // Too early. The SDK retries, so the clock decides and not the number of tries.
    let early = Subscription::open(client, &consumer, FIRST_SHARD, Some(&first.continuation)).await;
    if let Err(error) = early {
        assert!(error.into_service_error().is_resource_in_use_exception());
    }
    // Another one takes over, and continues where the first one was.
    sleep_until(held_until).await;
    let mut second = Subscription::open(client, &consumer, FIRST_SHARD, Some(&first.continuation)).await?;
    put(client, 15..20).await?;
    while first.next().await? {}
    assert_eq!(first.numbers.len(), 15, "what comes after the take-over is for the other one");
    second.until_count(5).await?;

    // The shard ends with its children, which have the records from then on.
    let split = client.split_shard().stream_name(STREAM).shard_to_split(FIRST_SHARD);
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await?;
    until_active(client).await?;
    put(client, 20..40).await?;
    while second.next().await? {}
    assert_eq!(second.numbers, Vec::from_iter(15..20));
    let filter = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build()?;
    let open = client.list_shards().stream_name(STREAM).shard_filter(filter).send().await?;
    let open: Vec<_> = open.shards().iter().map(|shard| shard.shard_id()).collect();
    assert_eq!(second.children, open);
    let mut children = vec![];
    for shard in open {
        children.push(Subscription::open(client, &consumer, shard, None).await?);
    }
    for child in &mut children {
        child.until_count(10).await?;
    }
    let numbers: Vec<_> = children.into_iter().map(|child| child.numbers).collect();
    assert_eq!(numbers, [0, 1].map(|half| Vec::from_iter((20 + half..40).step_by(2))));
    Ok(())
}

#[tokio::test]
async fn l1_l3_the_aws_sdk_for_rust_puts_reads_and_subscribes() -> Outcome<()> {
    let directory = common::scratch();
    let store = Store::open(directory.path(), StreamOptions::new())?;
    let running = Gateway::new(store).without_authentication().start("127.0.0.1:0")?;
    let client = client(&format!("http://{}", running.local_address()));
    records_and_lists(&client).await?;
    subscriptions(&client).await?;
    running.close()?;
    Ok(())
}
