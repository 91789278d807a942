//! The members of each operation's request, in the order in which the service reports their violations.

use super::pattern::Pattern;
use super::shape::{Bounds, Member, Required, Shape};

pub(super) const fn text(min: i64, max: i64, pattern: Option<Pattern>) -> Shape {
    Shape::Text { length: Bounds::new(min, max), pattern, values: &[] }
}

const fn of_pattern(pattern: Pattern) -> Shape {
    Shape::Text { length: Bounds::NONE, pattern: Some(pattern), values: &[] }
}

pub(super) const fn one_of(values: &'static [&'static str]) -> Shape {
    Shape::Text { length: Bounds::NONE, pattern: None, values }
}

pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: Required::No }
}

pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: Required::Yes }
}

const fn required_in_2018(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: Required::In2018 }
}

pub(super) const NAME: Shape = text(1, 128, Some(Pattern::Name));
pub(super) const STREAM_ARN_SHAPE: Shape = text(1, 2_048, Some(Pattern::StreamArn));
const CONSUMER_ARN: Shape = text(1, 2_048, Some(Pattern::ConsumerArn));
const RESOURCE_ARN: Shape = text(1, 2_048, Some(Pattern::ResourceArn));
const SEQUENCE_NUMBER: Shape = of_pattern(Pattern::SequenceNumber);
const HASH_KEY: Shape = of_pattern(Pattern::HashKey);
const PARTITION_KEY: Shape = text(1, 256, None);
const DATA: Shape = Shape::Blob(Bounds::at_most(10_485_760).in_2018(1_048_576));
pub(super) const TOKEN: Shape = text(1, 1_048_576, None);
pub(super) const PAGE: Shape = Shape::Integer(Bounds::new(1, 10_000));
const POSITIVE: Shape = Shape::Integer(Bounds::at_least(1));
const NOT_NEGATIVE: Shape = Shape::Integer(Bounds::at_least(0));
pub(super) const BOOLEAN: Shape = Shape::Boolean;
pub(super) const TIME: Shape = Shape::Time;
pub(super) const TAGS: Shape = Shape::TextMap {
    count: Bounds::new(1, 200).in_2018(10),
    names: Bounds::new(1, 128),
    texts: Bounds::new(0, 256),
};
const TAG_KEYS: Shape = Shape::Texts { count: Bounds::new(1, 50).in_2018(10), each: Bounds::new(1, 128) };
const MODE: Shape = Shape::Structure(&[required("StreamMode", &one_of(&["PROVISIONED", "ON_DEMAND"]))]);
const STRATEGY: Shape = one_of(&["AUTO", "USER_PARTITION_KEY"]);
const RECORD_KIB: Shape = Shape::Integer(Bounds::new(1_024, 10_240));
const HOURS: Shape = Shape::Integer(Bounds { min: Some(1), max: None, max_2018: Some(168) });
const ENCRYPTION: Shape = one_of(&["NONE", "KMS"]);
pub(super) const KEY_ID: Shape = text(1, 2_048, None);
const METRICS: Shape = Shape::Texts { count: Bounds::new(1, 7), each: Bounds::NONE };

const STREAM_NAME: Member = required_in_2018("StreamName", &NAME);
const STREAM_ARN: Member = optional("StreamARN", &STREAM_ARN_SHAPE);
pub(super) const REQUIRED_STREAM_ARN: Member = required("StreamARN", &STREAM_ARN_SHAPE);
const STREAM_ID: Member = optional("StreamId", &text(1, 24, Some(Pattern::StreamId)));
const DRY_RUN: Member = optional("DryRun", &BOOLEAN);
const RESOURCE: Member = required("ResourceARN", &RESOURCE_ARN);

pub(in crate::gateway) const NOTHING: &[Member] = &[];

pub(in crate::gateway) const STREAM_ONLY: &[Member] = &[STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const DESCRIBE_ACTIVITY: &[Member] = &[
    optional("ExclusiveStartStreamName", &NAME),
    optional("IncludeConsumers", &BOOLEAN),
    optional("IncludeHistory", &BOOLEAN),
    optional("IncludeShardHistory", &BOOLEAN),
    optional("Limit", &PAGE),
    optional("StreamName", &NAME),
    STREAM_ARN,
    STREAM_ID,
];

#[cfg(feature = "sql")]
const STATEMENT: Member = required("Statement", &text(1, 1 << 20, None));

#[cfg(feature = "sql")]
pub(in crate::gateway) const QUERY: &[Member] =
    &[optional("MaxRows", &PAGE), STATEMENT, optional("TimeoutMillis", &POSITIVE)];

#[cfg(feature = "sql")]
pub(in crate::gateway) const WATCH: &[Member] = &[
    optional(
        "StartingPosition",
        &Shape::Structure(&[
            optional("Timestamp", &TIME),
            required("Type", &one_of(&["LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"])),
        ]),
    ),
    STATEMENT,
];

pub(in crate::gateway) const ADD_TAGS_TO_STREAM: &[Member] =
    &[required("Tags", &TAGS), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const CREATE_STREAM: &[Member] = &[
    required_in_2018("ShardCount", &Shape::Integer(Bounds::at_least(1).in_2018(100_000))),
    required("StreamName", &NAME),
    optional("StreamModeDetails", &MODE),
    optional("Tags", &TAGS),
    optional("WarmThroughputMiBps", &NOT_NEGATIVE),
    optional("MaxRecordSizeInKiB", &RECORD_KIB),
    optional("RecordDistributionStrategy", &STRATEGY),
];

pub(in crate::gateway) const RETENTION: &[Member] =
    &[required("RetentionPeriodHours", &HOURS), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const DELETE_STREAM: &[Member] =
    &[optional("EnforceConsumerDeletion", &BOOLEAN), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const CONSUMER: &[Member] =
    &[STREAM_ARN, optional("ConsumerName", &NAME), optional("ConsumerARN", &CONSUMER_ARN), STREAM_ID];

pub(in crate::gateway) const DESCRIBE_STREAM: &[Member] =
    &[optional("Limit", &PAGE), optional("ExclusiveStartShardId", &NAME), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const ENHANCED_MONITORING: &[Member] =
    &[required("ShardLevelMetrics", &METRICS), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const GET_RECORDS: &[Member] = &[
    optional("Limit", &PAGE),
    required("ShardIterator", &text(1, 512, None)),
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(in crate::gateway) const GET_SHARD_ITERATOR: &[Member] = &[
    required("ShardId", &NAME),
    required(
        "ShardIteratorType",
        &one_of(&["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"]),
    ),
    optional("StartingSequenceNumber", &SEQUENCE_NUMBER),
    STREAM_NAME,
    optional("Timestamp", &TIME),
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(in crate::gateway) const LIST_SHARDS: &[Member] = &[
    optional("ExclusiveStartShardId", &NAME),
    optional("MaxResults", &PAGE),
    optional("NextToken", &TOKEN),
    optional("StreamCreationTimestamp", &TIME),
    optional("StreamName", &NAME),
    optional(
        "ShardFilter",
        &Shape::Structure(&[
            required(
                "Type",
                &one_of(&[
                    "AFTER_SHARD_ID",
                    "AT_TRIM_HORIZON",
                    "FROM_TRIM_HORIZON",
                    "AT_LATEST",
                    "AT_TIMESTAMP",
                    "FROM_TIMESTAMP",
                ]),
            ),
            optional("ShardId", &NAME),
            optional("Timestamp", &TIME),
        ]),
    ),
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const LIST_STREAM_CONSUMERS: &[Member] = &[
    REQUIRED_STREAM_ARN,
    optional("NextToken", &TOKEN),
    optional("MaxResults", &PAGE),
    optional("StreamCreationTimestamp", &TIME),
    STREAM_ID,
];

pub(in crate::gateway) const LIST_STREAMS: &[Member] =
    &[optional("Limit", &PAGE), optional("ExclusiveStartStreamName", &NAME), optional("NextToken", &TOKEN)];

pub(in crate::gateway) const LIST_TAGS_FOR_STREAM: &[Member] = &[
    optional("Limit", &Shape::Integer(Bounds::new(1, 50).in_2018(10))),
    optional("ExclusiveStartTagKey", &text(1, 128, None)),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const MERGE_SHARDS: &[Member] = &[
    required("ShardToMerge", &NAME),
    required("AdjacentShardToMerge", &NAME),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const PUT_RECORD: &[Member] = &[
    optional("SequenceNumberForOrdering", &SEQUENCE_NUMBER),
    required_in_2018("PartitionKey", &PARTITION_KEY),
    optional("ExplicitHashKey", &HASH_KEY),
    required("Data", &DATA),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(in crate::gateway) const PUT_RECORDS: &[Member] = &[
    required(
        "Records",
        &Shape::Structures {
            count: Bounds::new(1, 500),
            members: &[
                required_in_2018("PartitionKey", &PARTITION_KEY),
                optional("ExplicitHashKey", &HASH_KEY),
                required("Data", &DATA),
            ],
            class: "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310",
        },
    ),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(in crate::gateway) const PUT_RESOURCE_POLICY: &[Member] = &[
    RESOURCE,
    STREAM_ID,
    required("Policy", &Shape::Text { length: Bounds::NONE, pattern: None, values: &[] }),
];

pub(in crate::gateway) const RESOURCE_ONLY: &[Member] = &[RESOURCE, STREAM_ID];

pub(in crate::gateway) const REGISTER_STREAM_CONSUMER: &[Member] =
    &[REQUIRED_STREAM_ARN, required("ConsumerName", &NAME), STREAM_ID, optional("Tags", &TAGS)];

pub(in crate::gateway) const REMOVE_TAGS_FROM_STREAM: &[Member] =
    &[required("TagKeys", &TAG_KEYS), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(in crate::gateway) const SPLIT_SHARD: &[Member] = &[
    required("NewStartingHashKey", &HASH_KEY),
    STREAM_NAME,
    required("ShardToSplit", &NAME),
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const STREAM_ENCRYPTION: &[Member] = &[
    required("EncryptionType", &ENCRYPTION),
    required("KeyId", &KEY_ID),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const SUBSCRIBE_TO_SHARD: &[Member] = &[
    required("ConsumerARN", &CONSUMER_ARN),
    STREAM_ID,
    required("ShardId", &NAME),
    required(
        "StartingPosition",
        &Shape::Structure(&[
            required(
                "Type",
                &one_of(&[
                    "AFTER_SEQUENCE_NUMBER",
                    "LATEST",
                    "AT_TIMESTAMP",
                    "AT_SEQUENCE_NUMBER",
                    "TRIM_HORIZON",
                ]),
            ),
            optional("SequenceNumber", &SEQUENCE_NUMBER),
            optional("Timestamp", &TIME),
        ]),
    ),
    DRY_RUN,
];

pub(in crate::gateway) const TAG_RESOURCE: &[Member] = &[required("Tags", &TAGS), RESOURCE, STREAM_ID];

pub(in crate::gateway) const UNTAG_RESOURCE: &[Member] =
    &[required("TagKeys", &TAG_KEYS), RESOURCE, STREAM_ID];

pub(in crate::gateway) const UPDATE_MAX_RECORD_SIZE: &[Member] =
    &[STREAM_ARN, STREAM_ID, required("MaxRecordSizeInKiB", &RECORD_KIB)];

pub(in crate::gateway) const UPDATE_SHARD_COUNT: &[Member] = &[
    required("TargetShardCount", &POSITIVE),
    required("ScalingType", &one_of(&["UNIFORM_SCALING"])),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(in crate::gateway) const UPDATE_STREAM_MODE: &[Member] = &[
    REQUIRED_STREAM_ARN,
    STREAM_ID,
    required("StreamModeDetails", &MODE),
    optional("WarmThroughputMiBps", &NOT_NEGATIVE),
];

pub(in crate::gateway) const UPDATE_STRATEGY: &[Member] =
    &[REQUIRED_STREAM_ARN, STREAM_ID, required("RecordDistributionStrategy", &STRATEGY)];

pub(in crate::gateway) const UPDATE_WARM_THROUGHPUT: &[Member] =
    &[STREAM_ARN, STREAM_NAME, STREAM_ID, required("WarmThroughputMiBps", &NOT_NEGATIVE)];

pub(in crate::gateway) const UPDATE_ACCOUNT_SETTINGS: &[Member] = &[required(
    "MinimumThroughputBillingCommitment",
    &Shape::Structure(&[required("Status", &one_of(&["ENABLED", "DISABLED"]))]),
)];
