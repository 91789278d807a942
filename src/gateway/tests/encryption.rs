//! Server-side encryption, switched on and off.

use super::*;

fn encryption(key: &str) -> Json {
    json!({"StreamName": "clicks", "EncryptionType": "KMS", "KeyId": key})
}

fn types(world: &World) -> Vec<Json> {
    let mut types = vec![];
    let mut iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    loop {
        let got = world.ok("GetRecords", json!({"ShardIterator": iterator}));
        let records = got["Records"].as_array().unwrap();
        types
            .extend(records.iter().map(|record| record.get("EncryptionType").cloned().unwrap_or(Json::Null)));
        if records.is_empty() {
            return types;
        }
        iterator = got["NextShardIterator"].as_str().unwrap().to_owned();
    }
}

#[test]
fn what_is_put_while_it_is_on_is_encrypted_and_stays_so() {
    let mut world = World::with(Setup { has_keys: true, ..Setup::default() });
    world.create("clicks", 1);
    assert!(world.put("clicks", "a", "plain").get("EncryptionType").is_none());
    world.ok("StartStreamEncryption", encryption("alias/aws/kinesis"));
    let described = world.ok("DescribeStream", json!({"StreamName": "clicks"}))["StreamDescription"].clone();
    assert_eq!(
        (&described["EncryptionType"], &described["KeyId"]),
        (&json!("KMS"), &json!("alias/aws/kinesis"))
    );
    assert_eq!(world.put("clicks", "a", "hidden")["EncryptionType"], "KMS");
    world.restart(|_| {});
    let batch = world
        .ok("PutRecords", json!({"StreamName": "clicks", "Records": [{"PartitionKey": "a", "Data": ""}]}));
    assert_eq!(batch["EncryptionType"], "KMS");
    world.ok("StopStreamEncryption", encryption("alias/aws/kinesis"));
    world.put("clicks", "a", "plain again");
    let described = world.ok("DescribeStream", json!({"StreamName": "clicks"}))["StreamDescription"].clone();
    assert_eq!((&described["EncryptionType"], described.get("KeyId")), (&json!("NONE"), None));
    let (plain, kms) = (Json::Null, json!("KMS"));
    assert_eq!(types(&world), [plain.clone(), kms.clone(), kms, plain]);
}

#[test]
fn without_the_key_nothing_of_it_is_put_or_read() {
    let mut world = World::with(Setup { has_keys: true, ..Setup::default() });
    world.create("clicks", 1);
    world.ok("StartStreamEncryption", encryption("alias/clicks"));
    world.put("clicks", "a", "hidden");
    world.restart(|setup| setup.has_keys = false);
    let put = json!({"StreamName": "clicks", "PartitionKey": "a", "Data": ""});
    world.refused("PutRecord", put.clone(), "KMSInvalidStateException");
    let iterator = world.iterator("clicks", 0, "TRIM_HORIZON");
    world.refused("GetRecords", json!({"ShardIterator": iterator}), "KMSInvalidStateException");
    let batch = json!({"StreamName": "clicks", "Records": [{"PartitionKey": "a", "Data": ""}]});
    world.refused("PutRecords", batch, "KMSInvalidStateException");
    world.create("views", 1);
    let start = json!({"StreamName": "views", "EncryptionType": "KMS", "KeyId": "alias/clicks"});
    world.refused("StartStreamEncryption", start, "KMSNotFoundException");
    world.ok("PutRecord", json!({"StreamName": "views", "PartitionKey": "a", "Data": ""}));
    world.restart(|setup| setup.has_keys = true);
    world.ok("PutRecord", put);
    assert_eq!(types(&world).len(), 2);
}

#[test]
fn its_type_is_that_of_kms() {
    let world = World::with(Setup { has_keys: true, ..Setup::default() });
    world.create("clicks", 1);
    let none = json!({"StreamName": "clicks", "EncryptionType": "NONE", "KeyId": "alias/clicks"});
    world.refused("StartStreamEncryption", none.clone(), "InvalidArgumentException");
    world.refused("StopStreamEncryption", none, "InvalidArgumentException");
}
