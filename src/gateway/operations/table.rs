//! The table of operations.

use super::super::model::shapes as of;
use super::{
    Family, Operation, Subject, absent, activity, consumers, describe, encryption, lifecycle, list,
    monitoring, policies, read, records, reshard, subscribe, tags,
};

const RESOURCE: Subject = Subject::Arn("ResourceARN");
const QUEUE: Subject = Subject::Arn("QueueARN");
const CHANNEL: Subject = Subject::Arn("ChannelARN");

const KINESIS: Family = Family { target: "Kinesis_20131202", action: "kinesis" };
/// What Kinesis has no operation for. The date is that of its first version.
const STREAMLOG: Family = Family { target: "Streamlog_20261129", action: "streamlog" };

macro_rules! operations {
    ($all:ident $family:ident $($name:literal $members:ident $subject:expr, $speed:ident, $run:path;)+) => {
        const $all: &[Operation] = &[
            $(Operation {
                family: &$family,
                name: $name,
                members: of::$members,
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
    "PutRecord" PUT_RECORD Subject::Stream, quick, records::put_record;
    "PutRecords" PUT_RECORDS Subject::Stream, quick, records::put_records;
    "GetRecords" GET_RECORDS Subject::Iterator, quick, read::get_records;
    "GetShardIterator" GET_SHARD_ITERATOR Subject::Stream, quick, read::get_shard_iterator;
    "SubscribeToShard" SUBSCRIBE_TO_SHARD Subject::Consumer, slow, subscribe::subscribe_to_shard;
    "AddTagsToStream" ADD_TAGS_TO_STREAM Subject::Stream, slow, tags::add_to_stream;
    "CreateStream" CREATE_STREAM Subject::Stream, slow, lifecycle::create_stream;
    "DecreaseStreamRetentionPeriod" RETENTION Subject::Stream, slow, lifecycle::decrease_retention;
    "DeleteStream" DELETE_STREAM Subject::Stream, slow, lifecycle::delete_stream;
    "DeregisterStreamConsumer" CONSUMER Subject::Consumer, slow, consumers::deregister;
    "DescribeAccountSettings" NOTHING Subject::Account, slow, monitoring::describe_account_settings;
    "DescribeLimits" NOTHING Subject::Account, slow, monitoring::describe_limits;
    "DescribeStream" DESCRIBE_STREAM Subject::Stream, slow, describe::describe_stream;
    "DescribeStreamConsumer" CONSUMER Subject::Consumer, slow, consumers::describe;
    "DescribeStreamSummary" STREAM_ONLY Subject::Stream, slow, describe::describe_stream_summary;
    "DisableEnhancedMonitoring" ENHANCED_MONITORING Subject::Stream, slow, monitoring::disable;
    "EnableEnhancedMonitoring" ENHANCED_MONITORING Subject::Stream, slow, monitoring::enable;
    "IncreaseStreamRetentionPeriod" RETENTION Subject::Stream, slow, lifecycle::increase_retention;
    "ListShards" LIST_SHARDS Subject::Stream, slow, list::list_shards;
    "ListStreamConsumers" LIST_STREAM_CONSUMERS Subject::Stream, slow, consumers::list;
    "ListStreams" LIST_STREAMS Subject::Account, slow, list::list_streams;
    "ListTagsForResource" RESOURCE_ONLY RESOURCE, slow, tags::list_of_resource;
    "ListTagsForStream" LIST_TAGS_FOR_STREAM Subject::Stream, slow, tags::list_of_stream;
    "MergeShards" MERGE_SHARDS Subject::Stream, slow, reshard::merge_shards;
    "RegisterStreamConsumer" REGISTER_STREAM_CONSUMER Subject::Stream, slow, consumers::register;
    "RemoveTagsFromStream" REMOVE_TAGS_FROM_STREAM Subject::Stream, slow, tags::remove_from_stream;
    "SplitShard" SPLIT_SHARD Subject::Stream, slow, reshard::split_shard;
    "StartStreamEncryption" STREAM_ENCRYPTION Subject::Stream, slow, encryption::start;
    "StopStreamEncryption" STREAM_ENCRYPTION Subject::Stream, slow, encryption::stop;
    "TagResource" TAG_RESOURCE RESOURCE, slow, tags::add_to_resource;
    "UntagResource" UNTAG_RESOURCE RESOURCE, slow, tags::remove_from_resource;
    "UpdateAccountSettings" UPDATE_ACCOUNT_SETTINGS Subject::Account, slow, monitoring::update_account_settings;
    "UpdateMaxRecordSize" UPDATE_MAX_RECORD_SIZE Subject::Stream, slow, lifecycle::update_max_record_size;
    "UpdateShardCount" UPDATE_SHARD_COUNT Subject::Stream, slow, reshard::update_shard_count;
    "UpdateStreamMode" UPDATE_STREAM_MODE Subject::Stream, slow, lifecycle::update_stream_mode;
    "UpdateStreamRecordDistributionStrategy" UPDATE_STRATEGY Subject::Stream, slow, lifecycle::update_strategy;
    "UpdateStreamWarmThroughput" UPDATE_WARM_THROUGHPUT Subject::Stream, slow, lifecycle::update_warm_throughput;
    "DeleteResourcePolicy" RESOURCE_ONLY RESOURCE, slow, policies::delete;
    "GetResourcePolicy" RESOURCE_ONLY RESOURCE, slow, policies::get;
    "PutResourcePolicy" PUT_RESOURCE_POLICY RESOURCE, slow, policies::put;
    "AcknowledgeDeadLetterQueueRecords" ENTRIES QUEUE, slow, absent::queue;
    "AcknowledgeQueueRecords" ENTRIES QUEUE, slow, absent::queue;
    "CreateChannel" CREATE_CHANNEL Subject::Account, slow, absent::create_channel;
    "CreateQueue" CREATE_QUEUE Subject::Account, slow, absent::create_queue;
    "DeleteChannel" CHANNEL_ONLY CHANNEL, slow, absent::channel;
    "DeleteQueue" QUEUE_ONLY QUEUE, slow, absent::queue;
    "DescribeChannel" CHANNEL_ONLY CHANNEL, slow, absent::channel;
    "DescribeQueue" QUEUE_ONLY QUEUE, slow, absent::queue;
    "ListChannels" LIST_QUEUES Subject::Account, slow, absent::list_channels;
    "ListQueues" LIST_QUEUES Subject::Account, slow, absent::list_queues;
    "ReceiveDeadLetterQueueRecords" RECEIVE QUEUE, slow, absent::queue;
    "ReceiveQueueRecords" RECEIVE QUEUE, slow, absent::queue;
    "RestoreDeadLetterQueueRecords" ENTRIES QUEUE, slow, absent::queue;
    "UpdateChannel" CHANNEL_ONLY CHANNEL, slow, absent::channel;
    "UpdateDeadLetterQueueRecordsVisibility" VISIBILITY_ENTRIES QUEUE, slow, absent::queue;
    "UpdateQueue" UPDATE_QUEUE QUEUE, slow, absent::queue;
    "UpdateQueueRecordsVisibility" VISIBILITY_ENTRIES QUEUE, slow, absent::queue;
}

operations! {
    OWN_OPERATIONS STREAMLOG
    "DescribeActivity" DESCRIBE_ACTIVITY Subject::StreamOrAccount, slow, activity::describe_activity;
}

/// Returns the operation that a request names.
pub(in crate::gateway) fn find(service: &str, name: &str) -> Option<&'static Operation> {
    let all = OPERATIONS.iter().chain(OWN_OPERATIONS);
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
    }
}
