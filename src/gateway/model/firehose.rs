//! The members of the requests to Firehose.

use super::destinations::{
    ABSENT, EXTENDED_S3, EXTENDED_S3_UPDATE, HTTP, HTTP_UPDATE, REQUIRED_ROLE, S3, S3_UPDATE, SEARCH,
    SEARCH_UPDATE, SPLUNK, SPLUNK_UPDATE, number,
};
use super::pattern::Pattern;
use super::shape::{Bounds, Member, Shape};
use super::shapes::{BOOLEAN, one_of, optional, required, text};

const NAME: Member = required("DeliveryStreamName", &text(1, 64, Some(Pattern::Name)));
const KIND: Member = optional(
    "DeliveryStreamType",
    &one_of(&["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"]),
);
/// The largest record: 1,000 KiB.
const DATA: Member = required("Data", &Shape::Blob(Bounds::at_most(1_024_000)));
const RECORD: &[Member] = &[DATA];
const KEY_OF_STREAM: Member = optional(
    "DeliveryStreamEncryptionConfigurationInput",
    &Shape::Structure(&[
        optional("KeyARN", &text(1, 512, Some(Pattern::KeyArn))),
        required("KeyType", &one_of(&["AWS_OWNED_CMK", "CUSTOMER_MANAGED_CMK"])),
    ]),
);
const TAG_KEY: Shape = text(1, 128, Some(Pattern::TagKey));
const TAGS: Shape = Shape::Structures {
    count: Bounds::new(1, 50),
    members: &[required("Key", &TAG_KEY), optional("Value", &text(0, 256, Some(Pattern::TagText)))],
    class: "com.amazonaws.services.firehose.Tag",
};

pub(in crate::gateway) const CREATE: &[Member] = &[
    NAME,
    KIND,
    optional(
        "DirectPutSourceConfiguration",
        &Shape::Structure(&[required("ThroughputHintInMBs", &number(1, 100))]),
    ),
    optional(
        "KinesisStreamSourceConfiguration",
        &Shape::Structure(&[
            required("KinesisStreamARN", &text(1, 512, Some(Pattern::AnyStreamArn))),
            REQUIRED_ROLE,
        ]),
    ),
    KEY_OF_STREAM,
    optional("S3DestinationConfiguration", &S3),
    optional("ExtendedS3DestinationConfiguration", &EXTENDED_S3),
    optional("RedshiftDestinationConfiguration", &ABSENT),
    optional("ElasticsearchDestinationConfiguration", &ABSENT),
    optional("AmazonopensearchserviceDestinationConfiguration", &SEARCH),
    optional("SplunkDestinationConfiguration", &SPLUNK),
    optional("HttpEndpointDestinationConfiguration", &HTTP),
    optional("Tags", &TAGS),
    optional("AmazonOpenSearchServerlessDestinationConfiguration", &ABSENT),
    optional("MSKSourceConfiguration", &ABSENT),
    optional("SnowflakeDestinationConfiguration", &ABSENT),
    optional("IcebergDestinationConfiguration", &ABSENT),
    optional("DatabaseSourceConfiguration", &ABSENT),
];

pub(in crate::gateway) const DELETE: &[Member] = &[NAME, optional("AllowForceDelete", &BOOLEAN)];

pub(in crate::gateway) const NAME_ONLY: &[Member] = &[NAME];

const DESTINATION_SHAPE: Shape = text(1, 100, Some(Pattern::DestinationId));

pub(in crate::gateway) const DESCRIBE: &[Member] = &[
    NAME,
    optional("Limit", &number(1, 10_000)),
    optional("ExclusiveStartDestinationId", &DESTINATION_SHAPE),
];

pub(in crate::gateway) const LIST: &[Member] = &[
    optional("Limit", &number(1, 10_000)),
    KIND,
    optional("ExclusiveStartDeliveryStreamName", &text(1, 64, Some(Pattern::Name))),
];

pub(in crate::gateway) const LIST_TAGS: &[Member] =
    &[NAME, optional("ExclusiveStartTagKey", &TAG_KEY), optional("Limit", &number(1, 50))];

pub(in crate::gateway) const PUT_RECORD: &[Member] = &[NAME, required("Record", &Shape::Structure(RECORD))];

pub(in crate::gateway) const PUT_RECORD_BATCH: &[Member] = &[
    NAME,
    required(
        "Records",
        &Shape::Structures {
            count: Bounds::new(1, 500),
            members: RECORD,
            class: "com.amazonaws.services.firehose.Record",
        },
    ),
];

pub(in crate::gateway) const START_ENCRYPTION: &[Member] = &[NAME, KEY_OF_STREAM];

pub(in crate::gateway) const TAG: &[Member] = &[NAME, required("Tags", &TAGS)];

pub(in crate::gateway) const UNTAG: &[Member] =
    &[NAME, required("TagKeys", &Shape::Texts { count: Bounds::new(1, 50), each: Bounds::new(1, 128) })];

pub(in crate::gateway) const UPDATE: &[Member] = &[
    NAME,
    required("CurrentDeliveryStreamVersionId", &text(1, 50, Some(Pattern::Digits))),
    required("DestinationId", &DESTINATION_SHAPE),
    optional("S3DestinationUpdate", &S3_UPDATE),
    optional("ExtendedS3DestinationUpdate", &EXTENDED_S3_UPDATE),
    optional("RedshiftDestinationUpdate", &ABSENT),
    optional("ElasticsearchDestinationUpdate", &ABSENT),
    optional("AmazonopensearchserviceDestinationUpdate", &SEARCH_UPDATE),
    optional("SplunkDestinationUpdate", &SPLUNK_UPDATE),
    optional("HttpEndpointDestinationUpdate", &HTTP_UPDATE),
    optional("AmazonOpenSearchServerlessDestinationUpdate", &ABSENT),
    optional("SnowflakeDestinationUpdate", &ABSENT),
    optional("IcebergDestinationUpdate", &ABSENT),
];
