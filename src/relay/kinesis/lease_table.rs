//! The KCL's lease table in DynamoDB: exactly its attributes and its conditions.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableStatus,
};

use super::client::KinesisClient;
use super::failure::{Failure, Remedy};
use super::lease::{Checkpoint, Lease};
use super::lease_book::Table;

const KEY: &str = "leaseKey";
const OWNER: &str = "leaseOwner";
const COUNTER: &str = "leaseCounter";
const CHECKPOINT: &str = "checkpoint";
const SUB: &str = "checkpointSubSequenceNumber";
const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const HASH_RANGE: (&str, &str) = ("startingHashKey", "endingHashKey");
const ENTITY: &str = "entityType";
/// The state that our workers store with a checkpoint, and the checkpoint that it belongs to. The KCL leaves unknown attributes alone.
const STATE: &str = "streamlogState";
const STATE_OF: &str = "streamlogStateOf";

/// Returns which checkpoint a state belongs to.
fn state_of(checkpoint: &Checkpoint) -> String {
    format!("{}/{}", checkpoint.text(), checkpoint.sub())
}

type Item = HashMap<String, AttributeValue>;

/// The table of one application.
#[derive(Debug, Clone)]
pub(super) struct LeaseTable {
    client: KinesisClient,
    name: String,
    /// A request that takes longer has failed.
    timeout: Duration,
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn lease_of(item: &Item) -> Option<Lease> {
    let string = |name: &str| item.get(name)?.as_s().ok().cloned();
    let count = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let strings =
        |name: &str| item.get(name).and_then(|value| value.as_ss().ok()).cloned().unwrap_or_default();
    let checkpoint = Checkpoint::parse(&string(CHECKPOINT)?, count(SUB).unwrap_or(0))?;
    let state = item.get(STATE).and_then(|value| value.as_b().ok()).map(|blob| blob.as_ref().to_vec());
    // A worker of the KCL moves the checkpoint and leaves the state behind.
    let is_valid = string(STATE_OF).is_some_and(|of| of == state_of(&checkpoint));
    Some(Lease {
        key: string(KEY)?,
        owner: string(OWNER),
        counter: count(COUNTER)?,
        owner_switches: count(SWITCHES).unwrap_or(0),
        parents: strings(PARENTS),
        children: strings(CHILDREN),
        hash_range: string(HASH_RANGE.0).zip(string(HASH_RANGE.1)),
        state: state.filter(|_| is_valid).unwrap_or_default(),
        checkpoint,
    })
}

fn item_of(lease: &Lease) -> Item {
    let mut item = Item::from([
        (KEY.to_owned(), text(&*lease.key)),
        (COUNTER.to_owned(), number(lease.counter)),
        (CHECKPOINT.to_owned(), text(lease.checkpoint.text())),
        (SUB.to_owned(), number(lease.checkpoint.sub())),
        (SWITCHES.to_owned(), number(lease.owner_switches)),
    ]);
    for (name, ids) in [(PARENTS, &lease.parents), (CHILDREN, &lease.children)] {
        // A set in DynamoDB has a member.
        if !ids.is_empty() {
            item.insert(name.to_owned(), AttributeValue::Ss(ids.clone()));
        }
    }
    if let Some((start, end)) = &lease.hash_range {
        item.insert(HASH_RANGE.0.to_owned(), text(&**start));
        item.insert(HASH_RANGE.1.to_owned(), text(&**end));
    }
    item
}

/// Returns whether a write was done, or refused because of its condition.
fn check_write<T, E>(operation: &str, answer: Option<Result<T, SdkError<E>>>) -> Result<bool, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(Err(error)) = &answer
        && error.code() == Some("ConditionalCheckFailedException")
    {
        return Ok(false);
    }
    Failure::check(operation, answer).map(|_| true)
}

impl LeaseTable {
    /// The table of this name. A request that takes longer than the timeout has failed.
    pub(super) fn new(client: KinesisClient, name: impl Into<String>, timeout: Duration) -> Self {
        Self { client, name: name.into(), timeout }
    }

    fn overrides(&self) -> Builder {
        let timeout = TimeoutConfig::builder().operation_timeout(self.timeout).build();
        Builder::new().retry_config(RetryConfig::disabled()).timeout_config(timeout)
    }

    /// Creates the table unless it is there, and returns whether it can be used by now.
    pub(super) fn create(&self) -> Result<bool, Failure> {
        let describe = self.client.dynamodb.describe_table().table_name(&*self.name);
        let describe = describe.customize().config_override(self.overrides()).send();
        match Failure::check("DescribeTable", self.client.run(describe)) {
            Ok(answer) => {
                let status = answer.table.and_then(|table| table.table_status);
                return Ok(matches!(status, Some(TableStatus::Active | TableStatus::Updating)));
            }
            Err(failure) if failure.remedy == Remedy::Missing => {}
            Err(failure) => return Err(failure),
        }
        let built =
            |error: aws_sdk_dynamodb::error::BuildError| Failure::new(Remedy::Refused, error.to_string());
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash).build();
        let attribute =
            AttributeDefinition::builder().attribute_name(KEY).attribute_type(ScalarAttributeType::S).build();
        let create = self
            .client
            .dynamodb
            .create_table()
            .table_name(&*self.name)
            .key_schema(key.map_err(built)?)
            .attribute_definitions(attribute.map_err(built)?)
            .billing_mode(BillingMode::PayPerRequest);
        let create = create.customize().config_override(self.overrides()).send();
        // If another worker was first, the table has to be checked again, too.
        Failure::check("CreateTable", self.client.run(create)).map(|_| false)
    }

    /// Adds a row. Returns false if it exists.
    pub(super) fn add(&self, lease: &Lease) -> Result<bool, Failure> {
        let put = self.client.dynamodb.put_item().table_name(&*self.name).set_item(Some(item_of(lease)));
        let put = put.condition_expression("attribute_not_exists(leaseKey)");
        check_write("PutItem", self.client.run(put.customize().config_override(self.overrides()).send()))
    }

    /// Notes the children of a shard that has ended.
    pub(super) fn set_children(&self, key: &str, children: &[String]) -> Result<bool, Failure> {
        if children.is_empty() {
            return Ok(true);
        }
        let update = self
            .update(key)
            .update_expression("SET childShardIds = :children")
            .condition_expression("attribute_exists(leaseKey)")
            .expression_attribute_values(":children", AttributeValue::Ss(children.to_vec()));
        self.send(update)
    }

    /// Removes a row.
    pub(super) fn delete(&self, key: &str) -> Result<(), Failure> {
        let delete = self.client.dynamodb.delete_item().table_name(&*self.name).key(KEY, text(key));
        let delete = delete.customize().config_override(self.overrides()).send();
        Failure::check("DeleteItem", self.client.run(delete)).map(drop)
    }

    fn update(&self, key: &str) -> UpdateItemFluentBuilder {
        self.client.dynamodb.update_item().table_name(&*self.name).key(KEY, text(key))
    }

    /// Sends an update that requires this counter, and increments it.
    fn update_at(&self, update: UpdateItemFluentBuilder, counter: u64) -> Result<bool, Failure> {
        let update = update
            .condition_expression("leaseCounter = :known")
            .expression_attribute_values(":known", number(counter))
            .expression_attribute_values(":next", number(counter + 1));
        self.send(update)
    }

    fn send(&self, update: UpdateItemFluentBuilder) -> Result<bool, Failure> {
        check_write(
            "UpdateItem",
            self.client.run(update.customize().config_override(self.overrides()).send()),
        )
    }
}

impl Table for LeaseTable {
    type Error = Failure;

    fn scan(&self) -> Result<Vec<Lease>, Failure> {
        let (mut leases, mut from) = (vec![], None);
        loop {
            let scan = self.client.dynamodb.scan().table_name(&*self.name).consistent_read(true);
            let scan = scan.set_exclusive_start_key(from.take());
            let scan = scan.customize().config_override(self.overrides()).send();
            let answer = Failure::check("Scan", self.client.run(scan))?;
            let items = answer.items.unwrap_or_default();
            // Newer versions of the KCL may keep other things here.
            leases.extend(
                items.iter().filter(|item| !item.contains_key(ENTITY) || is_lease(item)).filter_map(lease_of),
            );
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(leases);
            }
        }
    }

    fn get(&self, key: &str) -> Result<Option<Lease>, Failure> {
        let get =
            self.client.dynamodb.get_item().table_name(&*self.name).key(KEY, text(key)).consistent_read(true);
        let answer = self.client.run(get.customize().config_override(self.overrides()).send());
        Ok(Failure::check("GetItem", answer)?.item.as_ref().and_then(lease_of))
    }

    fn renew(&self, key: &str, counter: u64) -> Result<bool, Failure> {
        self.update_at(self.update(key).update_expression("SET leaseCounter = :next"), counter)
    }

    fn take(&self, lease: &Lease, owner: &str) -> Result<bool, Failure> {
        let switches = match &lease.owner {
            Some(before) if before != owner => lease.owner_switches + 1,
            _ => lease.owner_switches,
        };
        let update = self
            .update(&lease.key)
            .update_expression(
                "SET leaseOwner = :owner, leaseCounter = :next, ownerSwitchesSinceCheckpoint = :switches \
                 REMOVE checkpointOwner",
            )
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":switches", number(switches));
        self.update_at(update, lease.counter)
    }

    fn checkpoint(&self, key: &str, counter: u64, to: &Checkpoint, state: &[u8]) -> Result<bool, Failure> {
        let set = "SET checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, leaseCounter = :next, \
                   ownerSwitchesSinceCheckpoint = :none";
        let remove = "REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState";
        let update = self
            .update(key)
            .expression_attribute_values(":checkpoint", text(to.text()))
            .expression_attribute_values(":sub", number(to.sub()))
            .expression_attribute_values(":none", number(0));
        let update = if state.is_empty() {
            update.update_expression(format!("{set} {remove}, {STATE}, {STATE_OF}"))
        } else {
            update
                .update_expression(format!("{set}, {STATE} = :state, {STATE_OF} = :of {remove}"))
                .expression_attribute_values(":state", AttributeValue::B(Blob::new(state)))
                .expression_attribute_values(":of", text(state_of(to)))
        };
        self.update_at(update, counter)
    }

    fn evict(&self, key: &str, owner: &str) -> Result<bool, Failure> {
        let update = self
            .update(key)
            .update_expression("REMOVE leaseOwner ADD leaseCounter :one")
            .condition_expression("leaseOwner = :owner")
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":one", number(1));
        self.send(update)
    }
}

/// Returns whether the entity type of a row says that it is a lease.
fn is_lease(item: &Item) -> bool {
    item.get(ENTITY)
        .and_then(|entity| entity.as_s().ok())
        .is_some_and(|entity| entity.eq_ignore_ascii_case("LEASE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l6_rows_are_read_as_the_kcl_writes_them() {
        let row = [
            (KEY, text("shardId-000000000003")),
            (OWNER, text("kcl")),
            (COUNTER, number(17)),
            (CHECKPOINT, text("495")),
            (SUB, number(2)),
            (SWITCHES, number(1)),
            (PARENTS, AttributeValue::Ss(vec!["shardId-000000000001".to_owned()])),
            (HASH_RANGE.0, text("0")),
            (HASH_RANGE.1, text("9")),
            ("throughputKBps", AttributeValue::N("0.5".to_owned())),
        ];
        let item: Item = row.map(|(name, value)| (name.to_owned(), value)).into();
        let lease = lease_of(&item).unwrap();
        assert_eq!((lease.owner.as_deref(), lease.counter, lease.owner_switches), (Some("kcl"), 17, 1));
        assert_eq!(lease.checkpoint, Checkpoint::Number("495".to_owned(), 2));
        assert_eq!((lease.parents.len(), lease.children.len(), lease.hash_range.is_some()), (1, 0, true));
        let again = lease_of(&item_of(&Lease { owner: None, ..lease.clone() })).unwrap();
        assert_eq!(again, Lease { owner: None, ..lease });
        let without_checkpoint: Item = [(KEY.to_owned(), text("something else"))].into();
        assert_eq!(lease_of(&without_checkpoint), None);
    }

    #[test]
    fn l2_a_state_counts_only_for_the_checkpoint_that_it_was_written_with() {
        let lease = Lease::new("shardId-000000000003", Checkpoint::Number("495".to_owned(), 2));
        let mut item = item_of(&lease);
        item.insert(STATE.to_owned(), AttributeValue::B(Blob::new(b"state")));
        item.insert(STATE_OF.to_owned(), text(state_of(&lease.checkpoint)));
        assert_eq!(lease_of(&item).unwrap().state, b"state");
        // The KCL moves the checkpoint and knows nothing of a state.
        item.insert(SUB.to_owned(), number(3));
        assert!(lease_of(&item).unwrap().state.is_empty());
        item.insert(CHECKPOINT.to_owned(), text("SHARD_END"));
        assert!(lease_of(&item).unwrap().state.is_empty());
    }
}
