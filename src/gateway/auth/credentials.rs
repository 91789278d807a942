//! The access keys that the gateway knows, and their users.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use serde_json::Value;
use zeroize::Zeroizing;

use super::json;
use super::policy::{POLICY_BYTES_MAX, Policy};

const FILE_BYTES_MAX: usize = 4 << 20;

/// A user, as identified by one of its access keys.
#[derive(Debug)]
pub(in crate::gateway) struct Identity {
    pub(in crate::gateway) account: String,
    pub(in crate::gateway) user: String,
    pub(in crate::gateway) arn: String,
    pub(in crate::gateway) access_key_id: String,
    pub(super) policies: Vec<Policy>,
}

impl Identity {
    pub(super) fn new(account: &str, user: &str, access_key_id: &str, policies: Vec<Policy>) -> Self {
        Self {
            account: account.to_owned(),
            user: user.to_owned(),
            arn: format!("arn:aws:iam::{account}:user/{user}"),
            access_key_id: access_key_id.to_owned(),
            policies,
        }
    }
}

/// Returns whether a text is the id of an account: 12 digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An access key.
pub(super) struct Key {
    secret: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    pub(super) identity: Arc<Identity>,
    /// The key that signed last, with its scope. Clients sign with the same one for a day.
    signing: Mutex<Option<(String, hmac::Key)>>,
}

impl Key {
    /// Returns the key that signs requests of a day, in a region, to a service.
    pub(super) fn signing_key(&self, date: &str, region: &str, service: &str) -> hmac::Key {
        let scope = format!("{date}/{region}/{service}");
        let mut cached = self.signing.lock();
        if let Some((_, key)) = cached.as_ref().filter(|(cached, _)| *cached == scope) {
            return key.clone();
        }
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let first = key(Zeroizing::new(format!("AWS4{}", *self.secret)).as_bytes());
        let parts = [date, region, service, "aws4_request"];
        let derived =
            parts.iter().fold(first, |derived, part| key(hmac::sign(&derived, part.as_bytes()).as_ref()));
        *cached = Some((scope, derived.clone()));
        derived
    }

    /// Returns whether a request shows the session token of the key, or none if the key has none. Takes the same time for each token of a
    /// length.
    pub(super) fn is_token(&self, token: Option<&str>) -> bool {
        match (self.session_token.as_ref(), token.filter(|token| !token.is_empty())) {
            (Some(own), Some(token)) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
                let expected = hmac::sign(&key, own.as_bytes());
                hmac::verify(&key, token.as_bytes(), expected.as_ref()).is_ok()
            }
            (own, token) => own.is_none() && token.is_none(),
        }
    }
}

/// All access keys of a file.
pub(in crate::gateway) struct Credentials {
    keys: HashMap<String, Key>,
}

impl Credentials {
    /// Parses a file of access keys for the users of an account. The account is 12 digits.
    ///
    /// ```json
    /// {
    ///   "keys": [
    ///     {
    ///       "access_key_id": "AKIDALICE",
    ///       "secret_access_key": "…",
    ///       "user": "alice",
    ///       "policies": [{"Statement": {"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}}]
    ///     }
    ///   ]
    /// }
    /// ```
    ///
    /// The policy above allows everything. Policies are those of IAM, and a key without any may do nothing, unless a stream's policy allows
    /// it. A key may also have a `session_token`, which its requests must then show.
    pub(in crate::gateway) fn parse(text: &str, account: &str) -> Result<Self, String> {
        if !is_account(account) {
            return Err(format!("{account:?} is not the id of an account: write 12 digits"));
        }
        let mut file = json::parse(text, FILE_BYTES_MAX)?;
        json::check_members(json::object(&file, "the file")?, &["keys"], "the file")?;
        let Some(Value::Array(items)) = file.get_mut("keys") else {
            return Err("the file must have a list of \"keys\"".to_owned());
        };
        let mut keys = HashMap::new();
        for (number, item) in items.iter_mut().enumerate() {
            let key = parse_key(item, account).map_err(|error| format!("key {}: {error}", number + 1))?;
            let id = key.identity.access_key_id.clone();
            if keys.insert(id.clone(), key).is_some() {
                return Err(format!("key {}: the access_key_id {id:?} stands twice", number + 1));
            }
        }
        if keys.is_empty() {
            return Err("the file has no keys".to_owned());
        }
        Ok(Self { keys })
    }

    /// Returns the owner of an access key.
    #[cfg(fuzzing)]
    pub(in crate::gateway) fn identity_of(&self, access_key_id: &str) -> Option<Arc<Identity>> {
        self.get(access_key_id).map(|key| key.identity.clone())
    }

    pub(super) fn get(&self, access_key_id: &str) -> Option<&Key> {
        self.keys.get(access_key_id)
    }
}

/// Shows no secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<_> = self.keys.keys().collect();
        ids.sort();
        f.debug_struct("Credentials").field("access_key_ids", &ids).finish_non_exhaustive()
    }
}

fn parse_key(item: &mut Value, account: &str) -> Result<Key, String> {
    let known = ["access_key_id", "secret_access_key", "session_token", "user", "policies"];
    json::check_members(json::object(item, "a key")?, &known, "it")?;
    let id = take_text(item, "access_key_id")?.ok_or("access_key_id is missing")?;
    let is_id = |text: &str| {
        text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if !is_id(&id) {
        return Err("access_key_id may have up to 128 letters, digits, '_' and '-'".to_owned());
    }
    let secret = take_text(item, "secret_access_key")?.ok_or("secret_access_key is missing")?;
    let session_token = take_text(item, "session_token")?;
    let user = take_text(item, "user")?.ok_or("user is missing")?;
    let is_user = |text: &str| {
        text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
    };
    if !is_user(&user) {
        return Err("user may have up to 64 letters, digits and any of _+=,.@-".to_owned());
    }
    let documents = match item.get("policies") {
        None => &[][..],
        Some(Value::Array(documents)) => documents,
        Some(_) => return Err("policies must be a list of policy documents".to_owned()),
    };
    let parse = |(number, document): (usize, &Value)| {
        let bytes = document.to_string().len();
        let policy = match bytes {
            0..=POLICY_BYTES_MAX => Policy::of_identity(document),
            _ => Err(format!("the document has {bytes} bytes, and may have {POLICY_BYTES_MAX}")),
        };
        policy.map_err(|error| format!("policy {}: {error}", number + 1))
    };
    let policies = documents.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    Ok(Key {
        secret,
        session_token,
        identity: Arc::new(Identity::new(account, &user, &id, policies)),
        signing: Mutex::new(None),
    })
}

/// Takes a text out of an object, if the member is there. It may be a secret, so it is neither copied nor quoted in the error.
fn take_text(item: &mut Value, name: &str) -> Result<Option<Zeroizing<String>>, String> {
    match item.get_mut(name).map(Value::take) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(Zeroizing::new(text))),
        Some(_) => Err(format!("{name} must be a text of one character or more")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn parse(keys: &Value) -> Result<Credentials, String> {
        Credentials::parse(&json!({ "keys": keys }).to_string(), ACCOUNT)
    }

    #[test]
    fn a_file_of_keys_is_read() {
        let credentials = parse(&json!([
            {"access_key_id": "AKIDALICE", "secret_access_key": "s1", "user": "alice",
             "policies": [{"Statement": {"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}}]},
            {"access_key_id": "AKIDBOB", "secret_access_key": "s2", "user": "bob+1@example.com", "session_token": "t"},
        ]))
        .unwrap();
        let alice = &credentials.get("AKIDALICE").unwrap().identity;
        assert_eq!(
            (&*alice.account, &*alice.user, &*alice.arn, &*alice.access_key_id, alice.policies.len()),
            (ACCOUNT, "alice", "arn:aws:iam::123456789012:user/alice", "AKIDALICE", 1)
        );
        let bob = credentials.get("AKIDBOB").unwrap();
        assert!(bob.identity.policies.is_empty());
        assert!(bob.is_token(Some("t")));
        for wrong in [None, Some(""), Some("T"), Some("tt")] {
            assert!(!bob.is_token(wrong), "{wrong:?}");
        }
        let alice = credentials.get("AKIDALICE").unwrap();
        assert!(alice.is_token(None) && alice.is_token(Some("")) && !alice.is_token(Some("t")));
        assert!(credentials.get("akidalice").is_none());
    }

    #[test]
    fn a_wrong_file_is_refused_with_a_reason_and_without_its_secrets() {
        let key = |changes: Value| {
            let mut key = json!({"access_key_id": "AKID", "secret_access_key": "hush hush", "session_token": "hush", "user": "alice"});
            for (name, value) in changes.as_object().unwrap() {
                key[name] = value.clone();
            }
            json!([key])
        };
        let double =
            [key(json!({})).as_array().unwrap().clone(), key(json!({})).as_array().unwrap().clone()].concat();
        for (keys, reason) in [
            (key(json!({"secret": "hush"})), "unknown field \"secret\""),
            (key(json!({"access_key_id": ""})), "access_key_id"),
            (key(json!({"access_key_id": "A/B"})), "access_key_id"),
            (key(json!({"access_key_id": null})), "access_key_id"),
            (key(json!({"secret_access_key": ["hush"]})), "secret_access_key"),
            (key(json!({"session_token": 1})), "session_token"),
            (key(json!({"user": "a/b"})), "user"),
            (key(json!({"user": "a".repeat(65)})), "user"),
            (key(json!({"policies": {}})), "policies"),
            (key(json!({"policies": [{"Statement": []}]})), "policy 1: "),
            (
                key(json!({"policies": [{"Statement": [], "Id": "x".repeat(POLICY_BYTES_MAX)}]})),
                "and may have 20480",
            ),
            (json!(double), "key 2: the access_key_id \"AKID\" stands twice"),
            (json!([{"access_key_id": "AKID", "user": "alice"}]), "secret_access_key is missing"),
            (json!([{"secret_access_key": "hush", "user": "alice"}]), "access_key_id is missing"),
            (json!([{"access_key_id": "AKID", "secret_access_key": "hush"}]), "user is missing"),
            (json!(["hush"]), "a key must be an object"),
            (json!([]), "no keys"),
            (json!({}), "list of \"keys\""),
        ] {
            let error = parse(&keys).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hush"), "{error}");
        }
        for (text, account, reason) in [
            ("{\"keys\": [], \"kyes\": []}", ACCOUNT, "unknown field \"kyes\""),
            ("{\"keys\": [{\"user\": \"a\", \"user\": \"b\"}]}", ACCOUNT, "\"user\" stands twice"),
            ("{\"secret_access_key\": \"hush\"", ACCOUNT, "line 1"),
            ("{}", ACCOUNT, "keys"),
            ("{\"keys\": []}", "12345678901", "12 digits"),
        ] {
            let error = Credentials::parse(text, account).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?}",
            parse(
                &json!([{"access_key_id": "AKID", "secret_access_key": "hush", "session_token": "hush", "user": "alice"}])
            )
        );
        assert_eq!(shown, "Ok(Credentials { access_key_ids: [\"AKID\"], .. })");
    }

    #[test]
    fn the_signing_key_is_that_of_the_day_the_region_and_the_service() {
        let credentials =
            parse(&json!([{"access_key_id": "AKID", "secret_access_key": "s", "user": "alice"}])).unwrap();
        let key = credentials.get("AKID").unwrap();
        let tag = |date, region, service| {
            hmac::sign(&key.signing_key(date, region, service), b"x").as_ref().to_vec()
        };
        let first = tag("20260101", "eu-west-1", "kinesis");
        assert_ne!(tag("20260102", "eu-west-1", "kinesis"), first);
        assert_ne!(tag("20260101", "eu-west-2", "kinesis"), first);
        assert_ne!(tag("20260101", "eu-west-1", "firehose"), first);
        assert_eq!(tag("20260101", "eu-west-1", "kinesis"), first);
        assert_eq!(tag("20260101", "eu-west-1", "kinesis"), first);
    }
}
