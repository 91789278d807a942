//! The members of the requests about queues.

use super::pattern::Pattern;
use super::shape::{Bounds, Member, Shape};
use super::shapes::{NAME, PAGE, REQUIRED_STREAM_ARN, TAGS, TIME, TOKEN, one_of, optional, required, text};

const QUEUE: Member = required("QueueARN", &text(1, 2_048, Some(Pattern::QueueArn)));
const SECONDS: Shape = Shape::Integer(Bounds::new(0, 43_200));
const QUEUE_ATTRIBUTES: Shape = Shape::Structure(&[
    optional("VisibilityTimeoutSeconds", &SECONDS),
    optional(
        "DeadLetterConfiguration",
        &Shape::Structure(&[
            required("TargetType", &one_of(&["BUILT_IN", "NONE"])),
            optional("MaxReceiveCount", &Shape::Integer(Bounds::new(1, 1_000))),
        ]),
    ),
]);
const HANDLE: Shape = text(1, 1_024, None);
const STREAM_FILTER: Shape = Shape::Structures {
    count: Bounds::new(1, 10_000),
    members: &[REQUIRED_STREAM_ARN, optional("StreamCreationTimestamp", &TIME)],
    class: "com.amazonaws.kinesis.v20131202.StreamFilter",
};

pub(in crate::gateway) const QUEUE_ONLY: &[Member] = &[QUEUE];

pub(in crate::gateway) const CREATE_QUEUE: &[Member] = &[
    required("QueueName", &NAME),
    required(
        "StreamConfigurationList",
        &Shape::Structures {
            count: Bounds::new(1, 10_000),
            members: &[
                REQUIRED_STREAM_ARN,
                optional(
                    "StartingPosition",
                    &Shape::Structure(&[
                        required("Type", &one_of(&["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"])),
                        optional("Timestamp", &TIME),
                    ]),
                ),
            ],
            class: "com.amazonaws.kinesis.v20131202.QueueStreamConfiguration",
        },
    ),
    optional("QueueAttributes", &QUEUE_ATTRIBUTES),
    optional("Tags", &TAGS),
];

pub(in crate::gateway) const UPDATE_QUEUE: &[Member] =
    &[QUEUE, required("QueueAttributes", &QUEUE_ATTRIBUTES)];

pub(in crate::gateway) const LIST_QUEUES: &[Member] =
    &[optional("MaxResults", &PAGE), optional("NextToken", &TOKEN), optional("StreamFilter", &STREAM_FILTER)];

pub(in crate::gateway) const RECEIVE: &[Member] = &[
    QUEUE,
    optional("Limit", &Shape::Integer(Bounds::new(1, 10))),
    optional("WaitTimeSeconds", &Shape::Integer(Bounds::new(1, 20))),
    optional("VisibilityTimeoutSeconds", &SECONDS),
];

pub(in crate::gateway) const ENTRIES: &[Member] = &[
    QUEUE,
    required(
        "Entries",
        &Shape::Structures {
            count: Bounds::new(1, 10),
            members: &[required("ReceiptHandle", &HANDLE)],
            class: "com.amazonaws.kinesis.v20131202.QueueRecordsEntry",
        },
    ),
];

pub(in crate::gateway) const VISIBILITY_ENTRIES: &[Member] = &[
    QUEUE,
    required(
        "Entries",
        &Shape::Structures {
            count: Bounds::new(1, 10),
            members: &[required("ReceiptHandle", &HANDLE), required("VisibilityTimeoutSeconds", &SECONDS)],
            class: "com.amazonaws.kinesis.v20131202.QueueRecordsVisibilityEntry",
        },
    ),
];
