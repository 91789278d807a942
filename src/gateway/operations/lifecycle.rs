//! Creating and deleting streams, and their settings.

use super::super::catalogue::{Known, Mode, Settings, Strategy};
use super::tags;
use super::{Answered, Call, Fault, Input, Reply};
use crate::{DAY, HOUR, Retention, Timestamp, limits};

const RETENTION_HOURS_MIN: i64 = 24;
const RETENTION_HOURS_MAX: i64 = 8_760;
/// The default number of shards of a new stream, as on demand.
const SHARDS_DEFAULT: u32 = 4;
/// How many streams may be in creation at the same time.
const CREATING_MAX: u32 = 5;
/// How often the mode may be changed in a day.
const MODE_CHANGES_MAX: usize = 2;

pub(super) fn create_stream(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let mode = input.take("StreamModeDetails").map(|mode| Mode::parse(mode.required("StreamMode")));
    let count = input.count("ShardCount");
    let mode = mode.unwrap_or(if count.is_some() { Mode::Provisioned } else { Mode::OnDemand });
    let shard_count = match (mode, count) {
        (Mode::OnDemand, Some(_)) => {
            return Err(Fault::invalid("ShardCount must not be provided for a stream in On-Demand mode."));
        }
        (Mode::Provisioned, None) => {
            return Err(Fault::invalid("ShardCount must be provided for a stream in Provisioned mode."));
        }
        (_, count) => count.unwrap_or(SHARDS_DEFAULT),
    };
    let strategy = input.text("RecordDistributionStrategy").map(Strategy::parse).unwrap_or_default();
    if strategy == Strategy::Auto && mode == Mode::Provisioned {
        return Err(Fault::invalid("RecordDistributionStrategy AUTO is for streams in On-Demand mode."));
    }
    let mut settings = Settings { mode, strategy, ..Settings::default() };
    settings.max_record_kib = input.count("MaxRecordSizeInKiB").unwrap_or(settings.max_record_kib);
    let name = input.required("StreamName");
    check_not_warm(call, &input, name)?;
    settings.tags = tags::of_new(call, &input, &format!("stream {name}"))?;
    // In the order of the service: a taken name is reported before the quotas.
    call.service.catalogue.check_free(name)?;
    check_quotas(call, shard_count, mode)?;
    call.service.catalogue.create(name, shard_count, &settings)?;
    Ok(Reply::Empty)
}

fn check_quotas(call: &Call<'_>, shard_count: u32, mode: Mode) -> Answered<()> {
    let behaviour = call.service.catalogue.behaviour();
    let usage = call.service.catalogue.usage()?;
    if mode == Mode::Provisioned {
        check_shard_limit(call, usage.open_shards, shard_count)?;
    }
    if shard_count > limits::SHARD_COUNT_MAX {
        return Err(Fault::limit(format!(
            "A stream of this server may have {} open shards.",
            limits::SHARD_COUNT_MAX
        )));
    }
    if behaviour.has_quotas() && usage.creating >= CREATING_MAX {
        return Err(Fault::limit(format!(
            "This request would exceed the limit of {CREATING_MAX} streams in state CREATING under account {}.",
            behaviour.account.id
        )));
    }
    Ok(())
}

/// Fails if more shards would be open than the account may have.
pub(super) fn check_shard_limit(call: &Call<'_>, open: u32, more: u32) -> Answered<()> {
    let behaviour = call.service.catalogue.behaviour();
    let limit = behaviour.shards_max;
    if open.saturating_add(more) <= limit {
        return Ok(());
    }
    let account = &behaviour.account;
    Err(Fault::limit(format!(
        "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {open}. \
         Limit: {limit}. Number of additional shards that would have resulted from this request: {more}. Refer to the AWS \
         Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and \
         how to request higher limits.",
        account.id, account.region
    )))
}

pub(super) fn delete_stream(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    known.begin_deleting(|| {
        check_no_queues(&known)?;
        if input.is_true("EnforceConsumerDeletion") || known.consumers()?.is_empty() {
            return Ok(());
        }
        Err(Fault::in_use(format!(
            "Stream {} under account {} has registered consumers. Deregister them, or set EnforceConsumerDeletion.",
            known.name,
            known.account_id()
        )))
    })?;
    if known.is_gone(known.now()) {
        call.service.catalogue.finish_deleting(&known)?;
    } else {
        call.service.janitor.delete(known);
    }
    Ok(Reply::Empty)
}

fn check_no_queues(known: &Known) -> Answered<()> {
    if known.queues().is_empty() {
        return Ok(());
    }
    Err(Fault::in_use(format!(
        "Stream {} under account {} has queues. Delete them first.",
        known.name,
        known.account_id()
    )))
}

pub(super) fn increase_retention(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    set_retention(call, &input, |name, hours, existing| {
        (hours < existing).then(|| {
            format!(
                "Requested retention period ({hours} hours) for stream {name} can not be shorter than existing retention \
                 period ({existing} hours). Use DecreaseRetentionPeriod API."
            )
        })
    })
}

pub(super) fn decrease_retention(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    set_retention(call, &input, |name, hours, existing| {
        (hours > existing).then(|| {
            format!(
                "Requested retention period ({hours} hours) for stream {name} can not be longer than existing retention \
                 period ({existing} hours). Use IncreaseRetentionPeriod API."
            )
        })
    })
}

fn set_retention(
    call: &Call<'_>,
    input: &Input<'_>,
    refusal: impl Fn(&str, i64, i64) -> Option<String>,
) -> Answered<Reply> {
    let known = call.stream(input)?;
    let hours = input.integer("RetentionPeriodHours").unwrap_or_default();
    if hours < RETENTION_HOURS_MIN {
        return Err(Fault::invalid(format!(
            "Minimum allowed retention period is {RETENTION_HOURS_MIN} hours. Requested retention period ({hours} hours) is \
             too short."
        )));
    }
    if hours > RETENTION_HOURS_MAX {
        return Err(Fault::invalid(format!(
            "Maximum allowed retention period is {RETENTION_HOURS_MAX} hours. Requested retention period ({hours} hours) is \
             too long."
        )));
    }
    known.change(|changing| {
        let existing = known.settings().retention_hours.into();
        if let Some(refusal) = refusal(&known.name, hours, existing) {
            return Err(Fault::invalid(refusal));
        }
        let hours = hours as u32;
        // A crash in between still changes the retention: opening the stream takes it from the log.
        known.stream.set_retention(Retention::age(hours * HOUR)).map_err(|error| known.failed(&error))?;
        changing.set(|settings| settings.retention_hours = hours)
    })?;
    Ok(Reply::Empty)
}

pub(super) fn update_stream_mode(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let mode = input.take("StreamModeDetails");
    let mode = mode.map(|mode| Mode::parse(mode.required("StreamMode"))).unwrap_or_default();
    let known = call.stream(&input)?;
    check_not_warm(call, &input, &known.name)?;
    let has_quotas = call.service.catalogue.behaviour().has_quotas();
    known.change(|changing| {
        if mode == known.settings().mode {
            return Ok(());
        }
        if mode == Mode::Provisioned {
            check_no_queues(&known)?;
        }
        let changes = in_last_day(&known.settings().mode_changes, changing.now);
        if has_quotas && changes.len() >= MODE_CHANGES_MAX {
            return Err(Fault::limit(format!(
                "The mode of stream {} may be changed {MODE_CHANGES_MAX} times in 24 hours.",
                known.name
            )));
        }
        changing.set(|settings| {
            settings.mode_changes = with_now(changes, changing.now);
            settings.mode = mode;
            // Only streams on demand have another one.
            settings.strategy = Strategy::PartitionKey;
        })
    })?;
    Ok(Reply::Empty)
}

/// Returns the times that lie in the last 24 hours, in milliseconds.
pub(super) fn in_last_day(times: &[u64], now: Timestamp) -> Vec<u64> {
    let since = now.as_millis().saturating_sub(DAY.as_millis() as u64);
    times.iter().copied().filter(|time| *time > since).collect()
}

pub(super) fn with_now(mut times: Vec<u64>, now: Timestamp) -> Vec<u64> {
    times.push(now.as_millis());
    times
}

pub(super) fn update_max_record_size(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let kib = input.count("MaxRecordSizeInKiB").unwrap_or_default();
    known.change(|changing| changing.set(|settings| settings.max_record_kib = kib))?;
    Ok(Reply::Empty)
}

pub(super) fn update_strategy(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let strategy = Strategy::parse(input.required("RecordDistributionStrategy"));
    known.change(|changing| {
        if strategy == Strategy::Auto && known.settings().mode == Mode::Provisioned {
            return Err(Fault::validation(format!(
                "Request is invalid. Stream {} under account {} is in Provisioned mode.",
                known.name,
                known.account_id()
            )));
        }
        changing.set(|settings| settings.strategy = strategy)
    })?;
    Ok(Reply::Empty)
}

pub(super) fn update_warm_throughput(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    Err(no_commitment(call, &known.name))
}

/// Fails if a request asks for warm throughput.
fn check_not_warm(call: &Call<'_>, input: &Input<'_>, stream: &str) -> Answered<()> {
    match input.has("WarmThroughputMiBps") {
        true => Err(no_commitment(call, stream)),
        false => Ok(()),
    }
}

/// Warm throughput requires a commitment, which this account does not have.
fn no_commitment(call: &Call<'_>, stream: &str) -> Fault {
    Fault::validation(format!(
        "Request is invalid. Account {} has no commitment to a minimum throughput, which stream {stream} needs for warm \
         throughput.",
        call.account().id
    ))
}
