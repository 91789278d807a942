//! The members of the requests to Kinesis Video Streams.

use super::pattern::Pattern;
use super::shape::{Bounds, Member, Shape};
use super::shapes::{TIME, one_of, optional, required, text};

const fn number(min: i64, max: i64) -> Shape {
    Shape::Integer(Bounds::new(min, max))
}

const NAME_SHAPE: Shape = text(1, 256, Some(Pattern::Name));
const ARN_SHAPE: Shape = text(1, 1_024, Some(Pattern::VideoArn));
const NAME: Member = optional("StreamName", &NAME_SHAPE);
const ARN: Member = optional("StreamARN", &ARN_SHAPE);
const DEVICE: Member = optional("DeviceName", &text(1, 128, Some(Pattern::Name)));
const MEDIA_TYPE: Member = optional("MediaType", &text(1, 128, Some(Pattern::MediaType)));
const VERSION_SHAPE: Shape = text(1, 64, Some(Pattern::Alphanumeric));
const TOKEN: Member = optional("NextToken", &text(0, 4_096, None));
const TAG_MAP: Shape =
    Shape::TextMap { count: Bounds::new(1, 50), names: Bounds::new(1, 128), texts: Bounds::new(0, 256) };
const TAG_KEYS: Member =
    required("TagKeyList", &Shape::Texts { count: Bounds::new(1, 50), each: Bounds::new(1, 128) });
const TAG_LIST: Shape = Shape::Structures {
    count: Bounds::new(1, 50),
    members: &[
        required("Key", &text(1, 128, Some(Pattern::TagText))),
        required("Value", &text(0, 256, Some(Pattern::TagText))),
    ],
    class: "com.amazonaws.kinesisvideo.Tag",
};
const TIER: Shape = Shape::Structure(&[required("DefaultStorageTier", &one_of(&["HOT", "WARM"]))]);
const SOURCES: Shape = one_of(&["PRODUCER_TIMESTAMP", "SERVER_TIMESTAMP"]);
const WHOLE_RANGE: Shape =
    Shape::Structure(&[required("StartTimestamp", &TIME), required("EndTimestamp", &TIME)]);
const SELECTOR: Shape =
    Shape::Structure(&[required("FragmentSelectorType", &SOURCES), required("TimestampRange", &WHOLE_RANGE)]);
const PLAYED: Shape = Shape::Structure(&[
    optional("FragmentSelectorType", &SOURCES),
    optional(
        "TimestampRange",
        &Shape::Structure(&[optional("StartTimestamp", &TIME), optional("EndTimestamp", &TIME)]),
    ),
]);
const MODE: Member = optional("PlaybackMode", &one_of(&["LIVE", "LIVE_REPLAY", "ON_DEMAND"]));
const SHOWN: Shape = one_of(&["ALWAYS", "NEVER"]);
const EXPIRES: Member = optional("Expires", &number(300, 43_200));
const FRAGMENTS_MAX: Shape = number(1, 5_000);

pub(in crate::gateway) const CREATE: &[Member] = &[
    DEVICE,
    required("StreamName", &NAME_SHAPE),
    MEDIA_TYPE,
    optional("KmsKeyId", &text(1, 2_048, None)),
    optional("DataRetentionInHours", &Shape::Integer(Bounds::at_least(0))),
    optional("Tags", &TAG_MAP),
    optional("StreamStorageConfiguration", &TIER),
];

pub(in crate::gateway) const STREAM: &[Member] = &[NAME, ARN];

pub(in crate::gateway) const LIST: &[Member] = &[
    optional("MaxResults", &number(1, 10_000)),
    TOKEN,
    optional(
        "StreamNameCondition",
        &Shape::Structure(&[
            optional("ComparisonOperator", &one_of(&["BEGINS_WITH"])),
            optional("ComparisonValue", &NAME_SHAPE),
        ]),
    ),
];

pub(in crate::gateway) const DELETE: &[Member] =
    &[required("StreamARN", &ARN_SHAPE), optional("CurrentVersion", &VERSION_SHAPE)];

pub(in crate::gateway) const UPDATE: &[Member] =
    &[NAME, ARN, required("CurrentVersion", &VERSION_SHAPE), DEVICE, MEDIA_TYPE];

pub(in crate::gateway) const UPDATE_RETENTION: &[Member] = &[
    NAME,
    ARN,
    required("CurrentVersion", &VERSION_SHAPE),
    required("Operation", &one_of(&["INCREASE_DATA_RETENTION", "DECREASE_DATA_RETENTION"])),
    required("DataRetentionChangeInHours", &Shape::Integer(Bounds::at_least(1))),
];

pub(in crate::gateway) const TAG_STREAM: &[Member] = &[ARN, NAME, required("Tags", &TAG_MAP)];
pub(in crate::gateway) const UNTAG_STREAM: &[Member] = &[ARN, NAME, TAG_KEYS];
pub(in crate::gateway) const LIST_TAGS: &[Member] = &[TOKEN, ARN, NAME];

const RESOURCE: Member = required("ResourceARN", &ARN_SHAPE);

pub(in crate::gateway) const TAG_RESOURCE: &[Member] = &[RESOURCE, required("Tags", &TAG_LIST)];
pub(in crate::gateway) const UNTAG_RESOURCE: &[Member] = &[RESOURCE, TAG_KEYS];
pub(in crate::gateway) const LIST_RESOURCE_TAGS: &[Member] = &[TOKEN, RESOURCE];

pub(in crate::gateway) const ENDPOINT: &[Member] = &[
    NAME,
    ARN,
    required(
        "APIName",
        &one_of(&[
            "PUT_MEDIA",
            "GET_MEDIA",
            "LIST_FRAGMENTS",
            "GET_MEDIA_FOR_FRAGMENT_LIST",
            "GET_HLS_STREAMING_SESSION_URL",
            "GET_DASH_STREAMING_SESSION_URL",
            "GET_CLIP",
            "GET_IMAGES",
        ]),
    ),
];

/// The headers of `PutMedia`, by the names that they would have in a body.
pub(in crate::gateway) const PUT_MEDIA: &[Member] = &[
    NAME,
    ARN,
    required("FragmentTimecodeType", &one_of(&["ABSOLUTE", "RELATIVE"])),
    optional("ProducerStartTimestamp", &TIME),
    optional("FragmentAcknowledgmentRequired", &one_of(&["0", "1"])),
];

pub(in crate::gateway) const GET_MEDIA: &[Member] = &[
    NAME,
    ARN,
    required(
        "StartSelector",
        &Shape::Structure(&[
            required(
                "StartSelectorType",
                &one_of(&[
                    "FRAGMENT_NUMBER",
                    "SERVER_TIMESTAMP",
                    "PRODUCER_TIMESTAMP",
                    "NOW",
                    "EARLIEST",
                    "CONTINUATION_TOKEN",
                ]),
            ),
            optional("AfterFragmentNumber", &text(1, 128, Some(Pattern::Digits))),
            optional("StartTimestamp", &TIME),
            optional("ContinuationToken", &text(1, 128, Some(Pattern::Name))),
        ]),
    ),
];

pub(in crate::gateway) const LIST_FRAGMENTS: &[Member] =
    &[NAME, ARN, optional("MaxResults", &number(1, 1_000)), TOKEN, optional("FragmentSelector", &SELECTOR)];

pub(in crate::gateway) const MEDIA_FOR_FRAGMENTS: &[Member] = &[
    NAME,
    ARN,
    required("Fragments", &Shape::Texts { count: Bounds::new(1, 1_000), each: Bounds::new(1, 128) }),
];

pub(in crate::gateway) const GET_CLIP: &[Member] = &[NAME, ARN, required("ClipFragmentSelector", &SELECTOR)];

pub(in crate::gateway) const GET_IMAGES: &[Member] = &[
    NAME,
    ARN,
    required("ImageSelectorType", &SOURCES),
    required("StartTimestamp", &TIME),
    required("EndTimestamp", &TIME),
    optional("SamplingInterval", &Shape::Integer(Bounds::NONE)),
    required("Format", &one_of(&["JPEG", "PNG"])),
    optional(
        "FormatConfig",
        &Shape::TextMap { count: Bounds::new(1, 1), names: Bounds::NONE, texts: Bounds::new(0, 256) },
    ),
    optional("WidthPixels", &number(1, 3_840)),
    optional("HeightPixels", &number(1, 2_160)),
    optional("MaxResults", &number(1, 100)),
    TOKEN,
];

pub(in crate::gateway) const HLS: &[Member] = &[
    NAME,
    ARN,
    MODE,
    optional("HLSFragmentSelector", &PLAYED),
    optional("ContainerFormat", &one_of(&["FRAGMENTED_MP4", "MPEG_TS"])),
    optional("DiscontinuityMode", &one_of(&["ALWAYS", "NEVER", "ON_DISCONTINUITY"])),
    optional("DisplayFragmentTimestamp", &SHOWN),
    EXPIRES,
    optional("MaxMediaPlaylistFragmentResults", &FRAGMENTS_MAX),
];

pub(in crate::gateway) const DASH: &[Member] = &[
    NAME,
    ARN,
    MODE,
    optional("DisplayFragmentTimestamp", &SHOWN),
    optional("DisplayFragmentNumber", &SHOWN),
    optional("DASHFragmentSelector", &PLAYED),
    EXPIRES,
    optional("MaxManifestFragmentResults", &FRAGMENTS_MAX),
];
