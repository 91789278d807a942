//! The table of operations.

#[cfg(feature = "delivery")]
use super::super::model::firehose as hose_shapes;
use super::super::model::queues as queue_shapes;
#[cfg(feature = "video")]
use super::super::model::video as video_shapes;
use super::super::model::{channels, shapes};
#[cfg(feature = "sql")]
use super::sql;
use super::{
    Family, Operation, Subject, absent, activity, consumers, describe, encryption, lifecycle, list,
    monitoring, policies, queue_records, queues, read, records, reshard, subscribe, tags,
};
#[cfg(feature = "delivery")]
use super::{firehose, firehose_records};
#[cfg(feature = "video")]
use super::{video, video_archive, video_media};

const RESOURCE: Subject = Subject::Arn("ResourceARN");
const QUEUE: Subject = Subject::Arn("QueueARN");
const CHANNEL: Subject = Subject::Arn("ChannelARN");
#[cfg(feature = "delivery")]
const HOSE: Subject = Subject::DeliveryStream;

const KINESIS: Family = Family { target: "Kinesis_20131202", action: "kinesis", signed_for: "kinesis" };
/// The operations that Kinesis lacks. The date is that of their first version.
const STREAMLOG: Family = Family { target: "Streamlog_20261129", action: "streamlog", signed_for: "kinesis" };
#[cfg(feature = "delivery")]
const FIREHOSE: Family = Family { target: "Firehose_20150804", action: "firehose", signed_for: "firehose" };

/// Its requests name the operation in their path.
#[cfg(feature = "video")]
const VIDEO: Family = Family { target: "", action: "kinesisvideo", signed_for: "kinesisvideo" };
#[cfg(feature = "video")]
const FILM: Subject = Subject::VideoStream;

macro_rules! operations {
    ($all:ident $family:ident $($name:literal $members:path, $subject:expr, $speed:ident, $run:path;)+) => {
        const $all: &[Operation] = &[
            $(Operation {
                family: &$family,
                name: $name,
                members: $members,
                subject: $subject,
                is_quick: operations!($speed),
                run: $run,
            }),+
        ];
    };
    (quick) => { true };
    (slow) => { false };
}

operations! {
    OPERATIONS KINESIS
    "PutRecord" shapes::PUT_RECORD, Subject::Stream, quick, records::put_record;
    "PutRecords" shapes::PUT_RECORDS, Subject::Stream, quick, records::put_records;
    "GetRecords" shapes::GET_RECORDS, Subject::Iterator, quick, read::get_records;
    "GetShardIterator" shapes::GET_SHARD_ITERATOR, Subject::Stream, quick, read::get_shard_iterator;
    "SubscribeToShard" shapes::SUBSCRIBE_TO_SHARD, Subject::Consumer, slow, subscribe::subscribe_to_shard;
    "AddTagsToStream" shapes::ADD_TAGS_TO_STREAM, Subject::Stream, slow, tags::add_to_stream;
    "CreateStream" shapes::CREATE_STREAM, Subject::Stream, slow, lifecycle::create_stream;
    "DecreaseStreamRetentionPeriod" shapes::RETENTION, Subject::Stream, slow, lifecycle::decrease_retention;
    "DeleteStream" shapes::DELETE_STREAM, Subject::Stream, slow, lifecycle::delete_stream;
    "DeregisterStreamConsumer" shapes::CONSUMER, Subject::Consumer, slow, consumers::deregister;
    "DescribeAccountSettings" shapes::NOTHING, Subject::Account, slow, monitoring::describe_account_settings;
    "DescribeLimits" shapes::NOTHING, Subject::Account, slow, monitoring::describe_limits;
    "DescribeStream" shapes::DESCRIBE_STREAM, Subject::Stream, slow, describe::describe_stream;
    "DescribeStreamConsumer" shapes::CONSUMER, Subject::Consumer, slow, consumers::describe;
    "DescribeStreamSummary" shapes::STREAM_ONLY, Subject::Stream, slow, describe::describe_stream_summary;
    "DisableEnhancedMonitoring" shapes::ENHANCED_MONITORING, Subject::Stream, slow, monitoring::disable;
    "EnableEnhancedMonitoring" shapes::ENHANCED_MONITORING, Subject::Stream, slow, monitoring::enable;
    "IncreaseStreamRetentionPeriod" shapes::RETENTION, Subject::Stream, slow, lifecycle::increase_retention;
    "ListShards" shapes::LIST_SHARDS, Subject::Stream, slow, list::list_shards;
    "ListStreamConsumers" shapes::LIST_STREAM_CONSUMERS, Subject::Stream, slow, consumers::list;
    "ListStreams" shapes::LIST_STREAMS, Subject::Account, slow, list::list_streams;
    "ListTagsForResource" shapes::RESOURCE_ONLY, RESOURCE, slow, tags::list_of_resource;
    "ListTagsForStream" shapes::LIST_TAGS_FOR_STREAM, Subject::Stream, slow, tags::list_of_stream;
    "MergeShards" shapes::MERGE_SHARDS, Subject::Stream, slow, reshard::merge_shards;
    "RegisterStreamConsumer" shapes::REGISTER_STREAM_CONSUMER, Subject::Stream, slow, consumers::register;
    "RemoveTagsFromStream" shapes::REMOVE_TAGS_FROM_STREAM, Subject::Stream, slow, tags::remove_from_stream;
    "SplitShard" shapes::SPLIT_SHARD, Subject::Stream, slow, reshard::split_shard;
    "StartStreamEncryption" shapes::STREAM_ENCRYPTION, Subject::Stream, slow, encryption::start;
    "StopStreamEncryption" shapes::STREAM_ENCRYPTION, Subject::Stream, slow, encryption::stop;
    "TagResource" shapes::TAG_RESOURCE, RESOURCE, slow, tags::add_to_resource;
    "UntagResource" shapes::UNTAG_RESOURCE, RESOURCE, slow, tags::remove_from_resource;
    "UpdateAccountSettings" shapes::UPDATE_ACCOUNT_SETTINGS, Subject::Account, slow, monitoring::update_account_settings;
    "UpdateMaxRecordSize" shapes::UPDATE_MAX_RECORD_SIZE, Subject::Stream, slow, lifecycle::update_max_record_size;
    "UpdateShardCount" shapes::UPDATE_SHARD_COUNT, Subject::Stream, slow, reshard::update_shard_count;
    "UpdateStreamMode" shapes::UPDATE_STREAM_MODE, Subject::Stream, slow, lifecycle::update_stream_mode;
    "UpdateStreamRecordDistributionStrategy" shapes::UPDATE_STRATEGY, Subject::Stream, slow, lifecycle::update_strategy;
    "UpdateStreamWarmThroughput" shapes::UPDATE_WARM_THROUGHPUT, Subject::Stream, slow, lifecycle::update_warm_throughput;
    "DeleteResourcePolicy" shapes::RESOURCE_ONLY, RESOURCE, slow, policies::delete;
    "GetResourcePolicy" shapes::RESOURCE_ONLY, RESOURCE, slow, policies::get;
    "PutResourcePolicy" shapes::PUT_RESOURCE_POLICY, RESOURCE, slow, policies::put;
    "AcknowledgeDeadLetterQueueRecords" queue_shapes::ENTRIES, QUEUE, slow, queue_records::acknowledge_dead;
    "AcknowledgeQueueRecords" queue_shapes::ENTRIES, QUEUE, slow, queue_records::acknowledge;
    "CreateChannel" channels::CREATE_CHANNEL, Subject::Account, slow, absent::create_channel;
    "CreateQueue" queue_shapes::CREATE_QUEUE, Subject::QueueStream, slow, queues::create;
    "DeleteChannel" channels::CHANNEL_ONLY, CHANNEL, slow, absent::channel;
    "DeleteQueue" queue_shapes::QUEUE_ONLY, QUEUE, slow, queues::delete;
    "DescribeChannel" channels::CHANNEL_ONLY, CHANNEL, slow, absent::channel;
    "DescribeQueue" queue_shapes::QUEUE_ONLY, QUEUE, slow, queues::describe;
    "ListChannels" queue_shapes::LIST_QUEUES, Subject::Account, slow, absent::list_channels;
    "ListQueues" queue_shapes::LIST_QUEUES, Subject::Account, slow, queues::list;
    "ReceiveDeadLetterQueueRecords" queue_shapes::RECEIVE, QUEUE, slow, queue_records::receive_dead;
    "ReceiveQueueRecords" queue_shapes::RECEIVE, QUEUE, slow, queue_records::receive;
    "RestoreDeadLetterQueueRecords" queue_shapes::ENTRIES, QUEUE, slow, queue_records::restore;
    "UpdateChannel" channels::UPDATE_CHANNEL, CHANNEL, slow, absent::channel;
    "UpdateDeadLetterQueueRecordsVisibility" queue_shapes::VISIBILITY_ENTRIES, QUEUE, slow, queue_records::update_dead_visibility;
    "UpdateQueue" queue_shapes::UPDATE_QUEUE, QUEUE, slow, queues::update;
    "UpdateQueueRecordsVisibility" queue_shapes::VISIBILITY_ENTRIES, QUEUE, slow, queue_records::update_visibility;
}

operations! {
    OWN_OPERATIONS STREAMLOG
    "DescribeActivity" shapes::DESCRIBE_ACTIVITY, Subject::StreamOrAccount, slow, activity::describe_activity;
}

#[cfg(feature = "sql")]
operations! {
    SQL_OPERATIONS STREAMLOG
    "Query" shapes::QUERY, Subject::Account, slow, sql::query;
    "Watch" shapes::WATCH, Subject::Account, slow, sql::watch;
}
#[cfg(not(feature = "sql"))]
const SQL_OPERATIONS: &[Operation] = &[];

#[cfg(feature = "delivery")]
operations! {
    FIREHOSE_OPERATIONS FIREHOSE
    "PutRecord" hose_shapes::PUT_RECORD, HOSE, quick, firehose_records::put_record;
    "PutRecordBatch" hose_shapes::PUT_RECORD_BATCH, HOSE, quick, firehose_records::put_record_batch;
    "CreateDeliveryStream" hose_shapes::CREATE, HOSE, slow, firehose::create;
    "DeleteDeliveryStream" hose_shapes::DELETE, HOSE, slow, firehose::delete;
    "DescribeDeliveryStream" hose_shapes::DESCRIBE, HOSE, slow, firehose::describe;
    "ListDeliveryStreams" hose_shapes::LIST, Subject::Account, slow, firehose::list;
    "ListTagsForDeliveryStream" hose_shapes::LIST_TAGS, HOSE, slow, firehose::list_tags;
    "StartDeliveryStreamEncryption" hose_shapes::START_ENCRYPTION, HOSE, slow, firehose::start_encryption;
    "StopDeliveryStreamEncryption" hose_shapes::NAME_ONLY, HOSE, slow, firehose::stop_encryption;
    "TagDeliveryStream" hose_shapes::TAG, HOSE, slow, firehose::tag;
    "UntagDeliveryStream" hose_shapes::UNTAG, HOSE, slow, firehose::untag;
    "UpdateDestination" hose_shapes::UPDATE, HOSE, slow, firehose::update;
}
#[cfg(not(feature = "delivery"))]
const FIREHOSE_OPERATIONS: &[Operation] = &[];

#[cfg(feature = "video")]
operations! {
    VIDEO_OPERATIONS VIDEO
    "CreateStream" video_shapes::CREATE, Subject::NewVideoStream, slow, video::create;
    "DeleteStream" video_shapes::DELETE, Subject::Arn("StreamARN"), slow, video::delete;
    "DescribeStream" video_shapes::STREAM, FILM, slow, video::describe;
    "DescribeStreamStorageConfiguration" video_shapes::STREAM, FILM, slow, video::describe_storage;
    "GetDataEndpoint" video_shapes::ENDPOINT, FILM, slow, video::endpoint;
    "ListStreams" video_shapes::LIST, Subject::Account, slow, video::list;
    "ListTagsForResource" video_shapes::LIST_RESOURCE_TAGS, RESOURCE, slow, video::list_tags;
    "ListTagsForStream" video_shapes::LIST_TAGS, FILM, slow, video::list_tags;
    "TagResource" video_shapes::TAG_RESOURCE, RESOURCE, slow, video::tag;
    "TagStream" video_shapes::TAG_STREAM, FILM, slow, video::tag;
    "UntagResource" video_shapes::UNTAG_RESOURCE, RESOURCE, slow, video::untag;
    "UntagStream" video_shapes::UNTAG_STREAM, FILM, slow, video::untag;
    "UpdateDataRetention" video_shapes::UPDATE_RETENTION, FILM, slow, video::update_retention;
    "UpdateStream" video_shapes::UPDATE, FILM, slow, video::update;
    "PutMedia" video_shapes::PUT_MEDIA, FILM, slow, video_media::put;
    "GetMedia" video_shapes::GET_MEDIA, FILM, slow, video_media::get;
    "GetMediaForFragmentList" video_shapes::MEDIA_FOR_FRAGMENTS, FILM, slow, video_media::get_for_fragments;
    "ListFragments" video_shapes::LIST_FRAGMENTS, FILM, slow, video_archive::list_fragments;
    "GetClip" video_shapes::GET_CLIP, FILM, slow, video_archive::clip;
    "GetImages" video_shapes::GET_IMAGES, FILM, slow, video_archive::images;
    "GetHLSStreamingSessionURL" video_shapes::HLS, FILM, slow, video_archive::hls;
    "GetDASHStreamingSessionURL" video_shapes::DASH, FILM, slow, video_archive::dash;
}

/// Returns the operation of video that a path names: the name after a slash, usually with its first letter in lower case.
#[cfg(feature = "video")]
pub(in crate::gateway) fn find_video(path: &str) -> Option<&'static Operation> {
    let name = path.strip_prefix('/')?;
    let is_named = |operation: &&Operation| {
        name.get(1..) == operation.name.get(1..) && name[..1].eq_ignore_ascii_case(&operation.name[..1])
    };
    VIDEO_OPERATIONS.iter().find(is_named)
}

/// Returns the operation that a request names.
pub(in crate::gateway) fn find(service: &str, name: &str) -> Option<&'static Operation> {
    let all = OPERATIONS.iter().chain(OWN_OPERATIONS).chain(SQL_OPERATIONS).chain(FIREHOSE_OPERATIONS);
    all.into_iter().find(|operation| operation.name == name && operation.family.target == service)
}

/// Returns the operations of Kinesis.
pub(super) fn of_kinesis() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_operations_of_the_service_are_there_once() {
        let mut names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), OPERATIONS.len()), (57, 57));
        #[cfg(feature = "delivery")]
        assert_eq!(FIREHOSE_OPERATIONS.len(), 12);
    }
}
