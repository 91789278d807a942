//! The members of the destinations in requests to Firehose.

use super::pattern::Pattern;
use super::shape::{Bounds, Member, Shape};
use super::shapes::{BOOLEAN, one_of, optional, required, text};

/// A member that this server refuses, whatever its contents.
pub(super) const ABSENT: Shape = Shape::Structure(&[]);

const ROLE_SHAPE: Shape = text(1, 512, Some(Pattern::AnyRoleArn));
const ROLE: Member = optional("RoleARN", &ROLE_SHAPE);
pub(super) const REQUIRED_ROLE: Member = required("RoleARN", &ROLE_SHAPE);
const BUCKET_SHAPE: Shape = text(1, 2_048, Some(Pattern::AnyBucketArn));
const LINE: Option<Pattern> = Some(Pattern::Line);
const PREFIX: Shape = text(0, 1_024, LINE);
const NOT_BLANK: Option<Pattern> = Some(Pattern::NotBlank);
const WORD: Shape = text(1, 1_024, Some(Pattern::Word));

pub(super) const fn number(min: i64, max: i64) -> Shape {
    Shape::Integer(Bounds::new(min, max))
}

const SECONDS: Shape = number(0, 900);
const HINTS: Shape =
    Shape::Structure(&[optional("SizeInMBs", &number(1, 128)), optional("IntervalInSeconds", &SECONDS)]);
const RETRY: Member =
    optional("RetryOptions", &Shape::Structure(&[optional("DurationInSeconds", &number(0, 7_200))]));
const LOGGING: Member = optional(
    "CloudWatchLoggingOptions",
    &Shape::Structure(&[
        optional("Enabled", &BOOLEAN),
        optional("LogGroupName", &text(0, 512, Some(Pattern::LogGroupOrNone))),
        optional("LogStreamName", &text(0, 512, Some(Pattern::LogStream))),
    ]),
);

const COMPRESSION: Member =
    optional("CompressionFormat", &one_of(&["UNCOMPRESSED", "GZIP", "ZIP", "Snappy", "HADOOP_SNAPPY"]));
const ENCRYPTION: Member = optional(
    "EncryptionConfiguration",
    &Shape::Structure(&[
        optional("NoEncryptionConfig", &one_of(&["NoEncryption"])),
        optional(
            "KMSEncryptionConfig",
            &Shape::Structure(&[required("AWSKMSKeyARN", &text(1, 512, Some(Pattern::KeyOrAliasArn)))]),
        ),
    ]),
);

/// The members of all bucket destinations, with the first two required or not.
macro_rules! bucket_members {
    ($role:expr, $bucket:expr $(, $more:expr)* $(,)?) => {
        &[
            $role,
            $bucket,
            optional("Prefix", &PREFIX),
            optional("ErrorOutputPrefix", &PREFIX),
            optional("BufferingHints", &HINTS),
            COMPRESSION,
            ENCRYPTION,
            LOGGING,
            $($more,)*
        ]
    };
}

pub(super) const S3: Shape =
    Shape::Structure(bucket_members!(REQUIRED_ROLE, required("BucketARN", &BUCKET_SHAPE)));
pub(super) const S3_UPDATE: Shape =
    Shape::Structure(bucket_members!(ROLE, optional("BucketARN", &BUCKET_SHAPE)));
const REQUIRED_S3: Member = required("S3Configuration", &S3);

const PARAMETERS: Shape = Shape::Structures {
    count: Bounds::NONE,
    members: &[
        required(
            "ParameterName",
            &one_of(&[
                "LambdaArn",
                "NumberOfRetries",
                "MetadataExtractionQuery",
                "JsonParsingEngine",
                "RoleArn",
                "BufferSizeInMBs",
                "BufferIntervalInSeconds",
                "SubRecordType",
                "Delimiter",
                "CompressionFormat",
                "DataMessageExtraction",
            ]),
        ),
        required("ParameterValue", &text(1, 5_120, NOT_BLANK)),
    ],
    class: "com.amazonaws.services.firehose.ProcessorParameter",
};
const PROCESSING: Member = optional(
    "ProcessingConfiguration",
    &Shape::Structure(&[
        optional("Enabled", &BOOLEAN),
        optional(
            "Processors",
            &Shape::Structures {
                count: Bounds::NONE,
                members: &[
                    required(
                        "Type",
                        &one_of(&[
                            "RecordDeAggregation",
                            "Decompression",
                            "CloudWatchLogProcessing",
                            "Lambda",
                            "MetadataExtraction",
                            "AppendDelimiterToRecord",
                        ]),
                    ),
                    optional("Parameters", &PARAMETERS),
                ],
                class: "com.amazonaws.services.firehose.Processor",
            },
        ),
    ]),
);

const SCHEMA: Member = optional(
    "SchemaConfiguration",
    &Shape::Structure(&[
        optional("RoleARN", &WORD),
        optional("CatalogId", &WORD),
        optional("DatabaseName", &WORD),
        optional("TableName", &WORD),
        optional("Region", &WORD),
        optional("VersionId", &WORD),
    ]),
);
const CONVERSION: Member = optional(
    "DataFormatConversionConfiguration",
    &Shape::Structure(&[
        SCHEMA,
        optional(
            "InputFormatConfiguration",
            &Shape::Structure(&[optional(
                "Deserializer",
                &Shape::Structure(&[
                    optional(
                        "OpenXJsonSerDe",
                        &Shape::Structure(&[
                            optional("ConvertDotsInJsonKeysToUnderscores", &BOOLEAN),
                            optional("CaseInsensitive", &BOOLEAN),
                            optional(
                                "ColumnToJsonKeyMappings",
                                &Shape::TextMap {
                                    count: Bounds::NONE,
                                    names: Bounds::new(1, 1_024),
                                    texts: Bounds::new(1, 1_024),
                                },
                            ),
                        ]),
                    ),
                    optional("HiveJsonSerDe", &ABSENT),
                ]),
            )]),
        ),
        optional(
            "OutputFormatConfiguration",
            &Shape::Structure(&[optional(
                "Serializer",
                &Shape::Structure(&[
                    optional(
                        "ParquetSerDe",
                        &Shape::Structure(&[
                            optional("BlockSizeBytes", &Shape::Integer(Bounds::at_least(67_108_864))),
                            optional("PageSizeBytes", &Shape::Integer(Bounds::at_least(65_536))),
                            optional("Compression", &one_of(&["UNCOMPRESSED", "GZIP", "SNAPPY"])),
                            optional("EnableDictionaryCompression", &BOOLEAN),
                            optional("MaxPaddingBytes", &Shape::Integer(Bounds::at_least(0))),
                            optional("WriterVersion", &one_of(&["V1", "V2"])),
                        ]),
                    ),
                    optional("OrcSerDe", &ABSENT),
                ]),
            )]),
        ),
        optional("Enabled", &BOOLEAN),
    ]),
);
const PARTITIONING: Member =
    optional("DynamicPartitioningConfiguration", &Shape::Structure(&[RETRY, optional("Enabled", &BOOLEAN)]));
const BACKUP_MODE: Member = optional("S3BackupMode", &one_of(&["Disabled", "Enabled"]));
const EXTENSION: Member = optional("FileExtension", &text(0, 128, Some(Pattern::FileExtension)));
const TIME_ZONE: Member = optional("CustomTimeZone", &text(0, 50, Some(Pattern::TimeZone)));

pub(super) const EXTENDED_S3: Shape = Shape::Structure(bucket_members!(
    REQUIRED_ROLE,
    required("BucketARN", &BUCKET_SHAPE),
    PROCESSING,
    BACKUP_MODE,
    optional("S3BackupConfiguration", &S3),
    CONVERSION,
    PARTITIONING,
    EXTENSION,
    TIME_ZONE,
));
pub(super) const EXTENDED_S3_UPDATE: Shape = Shape::Structure(bucket_members!(
    ROLE,
    optional("BucketARN", &BUCKET_SHAPE),
    PROCESSING,
    BACKUP_MODE,
    optional("S3BackupUpdate", &S3_UPDATE),
    CONVERSION,
    PARTITIONING,
    EXTENSION,
    TIME_ZONE,
));

const HTTP_HINTS: Member = optional(
    "BufferingHints",
    &Shape::Structure(&[optional("SizeInMBs", &number(1, 64)), optional("IntervalInSeconds", &SECONDS)]),
);
const ENDPOINT: Shape = Shape::Structure(&[
    required("Url", &text(1, 1_000, Some(Pattern::WebAddress))),
    optional("Name", &text(1, 256, NOT_BLANK)),
    optional("AccessKey", &text(0, 4_096, LINE)),
]);
const REQUEST: Member = optional(
    "RequestConfiguration",
    &Shape::Structure(&[
        optional("ContentEncoding", &one_of(&["NONE", "GZIP"])),
        optional(
            "CommonAttributes",
            &Shape::Structures {
                count: Bounds::new(0, 50),
                members: &[
                    required("AttributeName", &text(1, 256, NOT_BLANK)),
                    required("AttributeValue", &text(0, 1_024, LINE)),
                ],
                class: "com.amazonaws.services.firehose.HttpEndpointCommonAttribute",
            },
        ),
    ]),
);
const DATA_BACKUP: Member = optional("S3BackupMode", &one_of(&["FailedDataOnly", "AllData"]));
const SECRETS: Member = optional(
    "SecretsManagerConfiguration",
    &Shape::Structure(&[
        optional("SecretARN", &text(1, 2_048, Some(Pattern::SecretArn))),
        ROLE,
        required("Enabled", &BOOLEAN),
    ]),
);
pub(super) const HTTP: Shape = Shape::Structure(&[
    required("EndpointConfiguration", &ENDPOINT),
    HTTP_HINTS,
    LOGGING,
    REQUEST,
    PROCESSING,
    ROLE,
    RETRY,
    DATA_BACKUP,
    REQUIRED_S3,
    SECRETS,
]);
pub(super) const HTTP_UPDATE: Shape = Shape::Structure(&[
    optional("EndpointConfiguration", &ENDPOINT),
    HTTP_HINTS,
    LOGGING,
    REQUEST,
    PROCESSING,
    ROLE,
    RETRY,
    DATA_BACKUP,
    optional("S3Update", &S3_UPDATE),
    SECRETS,
]);

const HEC_TEXT: Shape = text(0, 2_048, LINE);
const HEC_KIND: Shape = one_of(&["Raw", "Event"]);
const HEC_SECONDS: Member = optional("HECAcknowledgmentTimeoutInSeconds", &number(180, 600));
const EVENTS_BACKUP: Member = optional("S3BackupMode", &one_of(&["FailedEventsOnly", "AllEvents"]));
const SPLUNK_HINTS: Member = optional(
    "BufferingHints",
    &Shape::Structure(&[optional("IntervalInSeconds", &number(0, 60)), optional("SizeInMBs", &number(1, 5))]),
);
pub(super) const SPLUNK: Shape = Shape::Structure(&[
    required("HECEndpoint", &HEC_TEXT),
    required("HECEndpointType", &HEC_KIND),
    optional("HECToken", &HEC_TEXT),
    HEC_SECONDS,
    RETRY,
    EVENTS_BACKUP,
    REQUIRED_S3,
    PROCESSING,
    LOGGING,
    SPLUNK_HINTS,
    SECRETS,
]);
pub(super) const SPLUNK_UPDATE: Shape = Shape::Structure(&[
    optional("HECEndpoint", &HEC_TEXT),
    optional("HECEndpointType", &HEC_KIND),
    optional("HECToken", &HEC_TEXT),
    HEC_SECONDS,
    RETRY,
    EVENTS_BACKUP,
    optional("S3Update", &S3_UPDATE),
    PROCESSING,
    LOGGING,
    SPLUNK_HINTS,
    SECRETS,
]);

const DOMAIN: Member = optional("DomainARN", &text(1, 512, Some(Pattern::DomainArn)));
const CLUSTER: Member = optional("ClusterEndpoint", &text(1, 512, Some(Pattern::ClusterAddress)));
const INDEX: Shape = text(1, 80, LINE);
const TYPE: Member = optional("TypeName", &text(0, 100, LINE));
const ROTATION: Member =
    optional("IndexRotationPeriod", &one_of(&["NoRotation", "OneHour", "OneDay", "OneWeek", "OneMonth"]));
const SEARCH_HINTS: Member = optional(
    "BufferingHints",
    &Shape::Structure(&[optional("IntervalInSeconds", &SECONDS), optional("SizeInMBs", &number(1, 100))]),
);
const DOCUMENT_IDS: Member = optional(
    "DocumentIdOptions",
    &Shape::Structure(&[required(
        "DefaultDocumentIdFormat",
        &one_of(&["FIREHOSE_DEFAULT", "NO_DOCUMENT_ID"]),
    )]),
);
pub(super) const SEARCH: Shape = Shape::Structure(&[
    REQUIRED_ROLE,
    DOMAIN,
    CLUSTER,
    required("IndexName", &INDEX),
    TYPE,
    ROTATION,
    SEARCH_HINTS,
    RETRY,
    optional("S3BackupMode", &one_of(&["FailedDocumentsOnly", "AllDocuments"])),
    REQUIRED_S3,
    PROCESSING,
    LOGGING,
    optional("VpcConfiguration", &ABSENT),
    DOCUMENT_IDS,
]);
pub(super) const SEARCH_UPDATE: Shape = Shape::Structure(&[
    ROLE,
    DOMAIN,
    CLUSTER,
    optional("IndexName", &INDEX),
    TYPE,
    ROTATION,
    SEARCH_HINTS,
    RETRY,
    optional("S3Update", &S3_UPDATE),
    PROCESSING,
    LOGGING,
    DOCUMENT_IDS,
]);
