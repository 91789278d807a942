//! The members of the requests about channels.

use super::pattern::Pattern;
use super::shape::{Bounds, Member, Shape};
use super::shapes::{BOOLEAN, KEY_ID, NAME, REQUIRED_STREAM_ARN, TAGS, one_of, optional, required, text};

const CHANNEL: Member = required("ChannelARN", &text(1, 2_048, Some(Pattern::ChannelArn)));
const SECONDS: Shape = Shape::Integer(Bounds::NONE);
const BUCKET: Member = required("BucketARN", &text(1, 2_048, Some(Pattern::BucketArn)));
const BUCKET_OWNER: Member = required("ExpectedBucketOwner", &text(12, 12, Some(Pattern::Account)));
const TABLE_TEXT: Shape = text(1, 255, Some(Pattern::Table));
const DEAD_LETTERS: Shape = Shape::Structure(&[
    BUCKET,
    BUCKET_OWNER,
    optional("ErrorOutputPrefix", &text(1, 512, Some(Pattern::ErrorPrefix))),
]);

const S3: Shape = Shape::Structure(&[
    optional("DataFreshnessInSeconds", &SECONDS),
    optional("DeadLetterQueueS3Configuration", &DEAD_LETTERS),
    required(
        "StorageConfiguration",
        &Shape::Structure(&[
            BUCKET,
            BUCKET_OWNER,
            optional("OutputKeyTemplate", &text(1, 1_024, Some(Pattern::KeyTemplate))),
            optional("StorageClass", &one_of(&["STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR"])),
            required("CompressionType", &one_of(&["NONE", "GZIP", "ZSTD"])),
        ]),
    ),
]);

const PARTITIONS: Shape = Shape::Structure(&[required(
    "PartitionFields",
    &Shape::Structures {
        count: Bounds::new(1, 10),
        members: &[
            required("Transform", &one_of(&["TIME_HOUR"])),
            required("SourceName", &text(1, 255, Some(Pattern::PartitionSource))),
        ],
        class: "com.amazonaws.kinesis.v20131202.PartitionField",
    },
)]);

const S3_TABLES: Shape = Shape::Structure(&[
    optional("DataFreshnessInSeconds", &SECONDS),
    required("DeadLetterQueueS3Configuration", &DEAD_LETTERS),
    required(
        "S3TablesConfigurationList",
        &Shape::Structures {
            count: Bounds::new(1, 10_000),
            members: &[
                required("TableBucketARN", &text(1, 2_048, Some(Pattern::TableBucketArn))),
                required("Namespace", &TABLE_TEXT),
                required("TableName", &TABLE_TEXT),
                required("CompressionType", &one_of(&["NONE", "ZSTD", "SNAPPY"])),
                optional("PartitionSpec", &PARTITIONS),
            ],
            class: "com.amazonaws.kinesis.v20131202.S3TablesConfiguration",
        },
    ),
]);

const RECORDS: Shape = Shape::Structure(&[
    required("RecordFormatType", &one_of(&["GSR_JSON", "JSON", "STRING", "BYTE_ARRAY"])),
    optional("GSRSchemaARN", &text(1, 512, Some(Pattern::SchemaArn))),
]);

const LOGGING: Shape = Shape::Structure(&[required(
    "CloudWatchLogs",
    &Shape::Structure(&[
        required("Enabled", &BOOLEAN),
        optional("LogGroupName", &text(1, 512, Some(Pattern::LogGroup))),
        optional("LogStreamName", &text(1, 512, Some(Pattern::LogStream))),
    ]),
)]);

const FRESHNESS: Shape = Shape::Structure(&[required("DataFreshnessInSeconds", &SECONDS)]);

pub(in crate::gateway) const CREATE_CHANNEL: &[Member] = &[
    required("ChannelName", &NAME),
    required("ServiceExecutionRoleARN", &text(1, 512, Some(Pattern::RoleArn))),
    required(
        "StreamConfigurationList",
        &Shape::Structures {
            count: Bounds::new(1, 10_000),
            members: &[REQUIRED_STREAM_ARN, required("RecordConfiguration", &RECORDS)],
            class: "com.amazonaws.kinesis.v20131202.ChannelStreamConfiguration",
        },
    ),
    optional("S3DestinationConfiguration", &S3),
    optional("S3TablesDestinationConfiguration", &S3_TABLES),
    optional(
        "EncryptionConfiguration",
        &Shape::Structure(&[required("EncryptionType", &one_of(&["KMS"])), required("KeyId", &KEY_ID)]),
    ),
    optional("Tags", &TAGS),
    optional("LoggingConfiguration", &LOGGING),
];

pub(in crate::gateway) const UPDATE_CHANNEL: &[Member] = &[
    CHANNEL,
    optional("S3DestinationConfiguration", &FRESHNESS),
    optional("S3TablesDestinationConfiguration", &FRESHNESS),
    optional("LoggingConfiguration", &LOGGING),
];

pub(in crate::gateway) const CHANNEL_ONLY: &[Member] = &[CHANNEL];
