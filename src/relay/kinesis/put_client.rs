//! The other side, through the official SDK: requests, and the meaning of their answers.

use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry, Shard};

use super::client::KinesisClient;
use super::put::{Failure, Far, Outcome};
use super::put_plan::Unit;
use super::put_shards::FarShard;
use crate::{HashKeyRange, Result};

/// How many shards a page of the list has.
const SHARDS_OF_A_PAGE: i32 = 1_000;

/// A stream of Kinesis.
pub(super) struct FarStream {
    client: KinesisClient,
    kinesis: aws_sdk_kinesis::Client,
    /// Its name or its ARN: exactly one of them is set.
    name: Option<String>,
    arn: Option<String>,
    request_timeout: Duration,
}

impl FarStream {
    pub(super) fn new(client: KinesisClient, stream: &str, request_timeout: Duration) -> Self {
        // A relay retries itself, so that it counts and reports retries.
        let config = client.kinesis.config().to_builder().retry_config(RetryConfig::disabled()).build();
        let is_arn = stream.starts_with("arn:");
        let (name, arn) = ((!is_arn).then(|| stream.to_owned()), is_arn.then(|| stream.to_owned()));
        let kinesis = aws_sdk_kinesis::Client::from_conf(config);
        Self { client, kinesis, name, arn, request_timeout }
    }

    /// Runs a request, for as long as a request may take.
    fn run<T, E, R>(&self, request: R) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: Future<Output = Result<T, SdkError<E>>> + Send + 'static,
    {
        let limit = self.request_timeout;
        let answer = self.client.run(async move { tokio::time::timeout(limit, request).await });
        match answer {
            Some(Ok(answer)) => answer.map_err(|error| failure(&error)),
            Some(Err(_)) => {
                let limit = humantime::format_duration(limit);
                Err(Failure::Unavailable(format!("there was no answer within {limit}")))
            }
            None => Err(Failure::Unavailable("the client has panicked".to_owned())),
        }
    }
}

impl Far for FarStream {
    fn put(&self, units: &mut [Unit]) -> Result<Vec<Outcome>, Failure> {
        let entries = units.iter_mut().map(entry).collect::<Result<_, _>>()?;
        let request = self.kinesis.put_records();
        let request = request.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone());
        let answer: PutRecordsOutput = self.run(request.set_records(Some(entries)).send())?;
        Ok(answer.records.into_iter().map(outcome).collect())
    }

    fn shards(&self) -> Result<Vec<FarShard>, String> {
        let (mut shards, mut next) = (vec![], None);
        loop {
            let request = self.kinesis.list_shards().max_results(SHARDS_OF_A_PAGE);
            // A token identifies its stream.
            let request = match next {
                None => request.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone()),
                token => request.set_next_token(token),
            };
            let page = self.run(request.send()).map_err(|failure| match failure {
                Failure::Throttled(text) | Failure::Refused(text) | Failure::Unavailable(text) => {
                    format!("the shards cannot be listed: {text}")
                }
            })?;
            for shard in page.shards.unwrap_or_default() {
                let id = shard.shard_id.clone();
                shards.push(far_shard(shard).ok_or_else(|| format!("the hash keys of {id} are none"))?);
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(shards);
            }
        }
    }
}

/// Returns the entry of a request for a record. It takes the data out of a unit that is not an aggregate.
fn entry(unit: &mut Unit) -> Result<PutRecordsRequestEntry, Failure> {
    let data = if unit.is_aggregate { unit.data.clone() } else { std::mem::take(&mut unit.data) };
    PutRecordsRequestEntry::builder()
        .data(Blob::new(data))
        .partition_key(unit.partition_key.clone())
        .set_explicit_hash_key(unit.explicit_hash_key.map(|hash_key| hash_key.to_string()))
        .build()
        .map_err(|error| Failure::Unavailable(error.to_string()))
}

fn outcome(result: PutRecordsResultEntry) -> Outcome {
    let PutRecordsResultEntry { shard_id, error_code, error_message, .. } = result;
    match (error_code, shard_id) {
        (None, Some(shard)) => Outcome::Stored { shard },
        (None, None) => Outcome::Failed("a record has neither an error nor a shard".to_owned()),
        (Some(code), _) => {
            let text = match error_message {
                Some(message) => format!("{code}: {message}"),
                None => code.clone(),
            };
            if is_throttling(&code) { Outcome::Throttled(text) } else { Outcome::Failed(text) }
        }
    }
}

/// The errors that mean throttling.
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "ThrottlingException"
            | "KMSThrottlingException"
            | "RequestLimitExceeded"
    )
}

fn failure<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
    error: &SdkError<E>,
) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let Some(code) = error.code() else {
        let text = DisplayErrorContext(error).to_string();
        return if status == Some(413) { Failure::Refused(text) } else { Failure::Unavailable(text) };
    };
    let text = format!("{code}: {}", error.message().unwrap_or_default());
    match code {
        code if is_throttling(code) => Failure::Throttled(text),
        "InvalidArgumentException" | "ValidationException" => Failure::Refused(text),
        _ if status == Some(413) => Failure::Refused(text),
        _ => Failure::Unavailable(text),
    }
}

fn far_shard(shard: Shard) -> Option<FarShard> {
    let is_open = shard.sequence_number_range.is_none_or(|range| range.ending_sequence_number.is_none());
    let range = shard.hash_key_range?;
    let key = |text: &str| text.parse().ok();
    let range = HashKeyRange { start: key(&range.starting_hash_key)?, end: key(&range.ending_hash_key)? };
    Some(FarShard { id: shard.shard_id, range, is_open })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(code: Option<&str>, shard: Option<&str>) -> Outcome {
        let result = PutRecordsResultEntry::builder();
        let result = result.set_error_code(code.map(str::to_owned)).set_shard_id(shard.map(str::to_owned));
        outcome(result.build())
    }

    #[test]
    fn a_record_is_stored_only_if_the_answer_says_where_and_no_error() {
        assert_eq!(result(None, Some("a")), Outcome::Stored { shard: "a".to_owned() });
        assert!(matches!(result(None, None), Outcome::Failed(_)));
        assert!(matches!(result(Some("InternalFailure"), Some("a")), Outcome::Failed(_)));
        let throttled = result(Some("ProvisionedThroughputExceededException"), None);
        assert_eq!(throttled, Outcome::Throttled("ProvisionedThroughputExceededException".to_owned()));
    }
}
