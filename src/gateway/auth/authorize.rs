//! The decision whether a user may do what it asks.

use super::ask::{Ask, Context};
use super::credentials::Identity;
use super::policy::{Effect, Policy};

/// Whether a user may do what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Decision {
    Allow,
    Deny(Denial),
}

/// Why a user may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Denial {
    /// No policy allows it.
    Implicit,
    ByIdentityPolicy,
    ByResourcePolicy,
}

/// Decides as IAM does within an account: what any policy denies is denied; what one of the user's policies or the resource's policy allows is
/// allowed; everything else is denied.
pub(in crate::gateway) fn authorize(
    identity: &Identity,
    resource_policy: Option<&Policy>,
    ask: &Ask<'_>,
) -> Decision {
    let context = Context { identity, ask };
    let mut is_allowed = false;
    for policy in &identity.policies {
        match policy.effect(&context) {
            Some(Effect::Deny) => return Decision::Deny(Denial::ByIdentityPolicy),
            Some(Effect::Allow) => is_allowed = true,
            None => {}
        }
    }
    match resource_policy.and_then(|policy| policy.effect(&context)) {
        Some(Effect::Deny) => Decision::Deny(Denial::ByResourcePolicy),
        Some(Effect::Allow) => Decision::Allow,
        None if is_allowed => Decision::Allow,
        None => Decision::Deny(Denial::Implicit),
    }
}

/// Returns whether a user's policies may allow an action on some resource. The resource of `ask` is ignored, except for a statement that denies the
/// action on all resources.
pub(in crate::gateway) fn may_allow(identity: &Identity, ask: &Ask<'_>) -> bool {
    let context = Context { identity, ask: &Ask { resource: "*", ..*ask } };
    let policies = &identity.policies;
    policies.iter().any(|policy| policy.allows_on_some_resource(&context))
        && !policies.iter().any(|policy| policy.effect(&context) == Some(Effect::Deny))
}

/// Returns AWS' text for the exception `AccessDeniedException`, with a hint if the user's access key has no policies at all.
pub(in crate::gateway) fn denial_message(identity: &Identity, ask: &Ask<'_>, denial: Denial) -> String {
    let Ask { action, resource, .. } = ask;
    let reason = match denial {
        Denial::Implicit => format!("because no identity-based policy allows the {action} action"),
        Denial::ByIdentityPolicy => "with an explicit deny in an identity-based policy".to_owned(),
        Denial::ByResourcePolicy => "with an explicit deny in a resource-based policy".to_owned(),
    };
    let hint = match denial {
        Denial::Implicit if identity.policies.is_empty() => {
            " (the access key has no policies in the credentials file)"
        }
        _ => "",
    };
    format!(
        "User: {} is not authorized to perform: {action} on resource: {resource} {reason}{hint}",
        identity.arn
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::ask::tests::{ACCOUNT, STREAM, ask};
    use super::*;

    const ALLOW: Decision = Decision::Allow;
    const IMPLICIT: Decision = Decision::Deny(Denial::Implicit);
    const BY_IDENTITY: Decision = Decision::Deny(Denial::ByIdentityPolicy);
    const BY_RESOURCE: Decision = Decision::Deny(Denial::ByResourcePolicy);

    fn alice(policies: &[Value]) -> Identity {
        let policies = policies.iter().map(|policy| Policy::of_identity(policy).unwrap()).collect();
        Identity::new(ACCOUNT, "alice", "AKID", policies)
    }

    fn document(statements: &Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": statements})
    }

    fn decide(statements: &Value) -> Decision {
        authorize(&alice(&[document(statements)]), None, &ask())
    }

    fn allow(members: Value) -> Value {
        with(json!({"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}), members)
    }

    fn deny(members: Value) -> Value {
        with(json!({"Effect": "Deny", "Action": "kinesis:*", "Resource": "*"}), members)
    }

    fn with(mut statement: Value, members: Value) -> Value {
        for (name, value) in members.as_object().unwrap() {
            let replaced = name.strip_prefix("Not").unwrap_or(name);
            statement.as_object_mut().unwrap().remove(replaced);
            statement[name] = value.clone();
        }
        statement
    }

    /// The cases of IAM's documentation about a user's policy. The request is that of `ask`: alice puts a record into `clicks`.
    #[test]
    fn a_users_policy_decides_as_documented() {
        let on = |condition: Value| allow(json!({ "Condition": condition }));
        let not_on = |condition: Value| deny(json!({ "Condition": condition }));
        let cases = [
            // Actions.
            (json!([allow(json!({"Action": "kinesis:PutRecord"}))]), ALLOW),
            (json!([allow(json!({"Action": "KINESIS:putrecord"}))]), ALLOW),
            (json!([allow(json!({"Action": "kinesis:PutRecords"}))]), IMPLICIT),
            (json!([allow(json!({"Action": "kinesis:Put*"}))]), ALLOW),
            (json!([allow(json!({"Action": "kinesis:*Record"}))]), ALLOW),
            (json!([allow(json!({"Action": "kinesis:?utRecord"}))]), ALLOW),
            (json!([allow(json!({"Action": "kinesis:?PutRecord"}))]), IMPLICIT),
            (json!([allow(json!({"Action": ["s3:*", "kinesis:PutRecord"]}))]), ALLOW),
            (json!([allow(json!({"Action": "s3:*"}))]), IMPLICIT),
            (json!([allow(json!({"Action": "*"}))]), ALLOW),
            (json!([allow(json!({"NotAction": "iam:*"}))]), ALLOW),
            (json!([allow(json!({"NotAction": "kinesis:Put*"}))]), IMPLICIT),
            (json!([allow(json!({"NotAction": ["iam:*", "kinesis:PutRecord"]}))]), IMPLICIT),
            (json!([allow(json!({})), deny(json!({"NotAction": "kinesis:Get*"}))]), BY_IDENTITY),
            (json!([allow(json!({})), deny(json!({"NotAction": "kinesis:Put*"}))]), ALLOW),
            // Resources.
            (json!([allow(json!({"Resource": STREAM}))]), ALLOW),
            (
                json!([allow(json!({"Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/Clicks"}))]),
                IMPLICIT,
            ),
            (
                json!([allow(json!({"Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/click"}))]),
                IMPLICIT,
            ),
            (json!([allow(json!({"Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/c*"}))]), ALLOW),
            (
                json!([allow(json!({"Resource": "arn:aws:kinesis:eu-west-1:123456789012:stream/click?"}))]),
                ALLOW,
            ),
            (json!([allow(json!({"Resource": "arn:aws:kinesis:*:123456789012:stream/clicks"}))]), ALLOW),
            (
                json!([allow(json!({"Resource": "arn:aws:kinesis:us-*:123456789012:stream/clicks"}))]),
                IMPLICIT,
            ),
            (json!([allow(json!({"Resource": "arn:aws:kinesis:*"}))]), ALLOW),
            (json!([allow(json!({"Resource": ["arn:aws:kinesis:*:*:stream/a", STREAM]}))]), ALLOW),
            (json!([allow(json!({"NotResource": STREAM}))]), IMPLICIT),
            (json!([allow(json!({"NotResource": "arn:aws:kinesis:*:*:stream/a"}))]), ALLOW),
            (json!([allow(json!({})), deny(json!({"NotResource": STREAM}))]), ALLOW),
            (
                json!([allow(json!({})), deny(json!({"NotResource": "arn:aws:kinesis:*:*:stream/a"}))]),
                BY_IDENTITY,
            ),
            // Allow and deny.
            (json!([allow(json!({})), deny(json!({}))]), BY_IDENTITY),
            (json!([deny(json!({})), allow(json!({}))]), BY_IDENTITY),
            (json!([deny(json!({}))]), BY_IDENTITY),
            (json!([deny(json!({"Action": "kinesis:Get*"}))]), IMPLICIT),
            (json!([deny(json!({"Action": "kinesis:Get*"})), allow(json!({}))]), ALLOW),
            (json!([allow(json!({"Action": "s3:*"})), allow(json!({"Action": "kinesis:*"}))]), ALLOW),
            (allow(json!({})), ALLOW),
            // Conditions.
            (json!([on(json!({"StringEquals": {"aws:username": "alice"}}))]), ALLOW),
            (json!([on(json!({"StringEquals": {"aws:username": "Alice"}}))]), IMPLICIT),
            (json!([on(json!({"StringEqualsIgnoreCase": {"AWS:USERNAME": "Alice"}}))]), ALLOW),
            (json!([on(json!({"StringNotEquals": {"aws:username": "bob"}}))]), ALLOW),
            (json!([on(json!({"StringLike": {"aws:UserAgent": "Boto3/*"}}))]), ALLOW),
            (json!([on(json!({"StringNotLike": {"aws:UserAgent": "Boto3/*"}}))]), IMPLICIT),
            (
                json!([on(json!({"StringEquals": {"aws:RequestedRegion": ["us-east-1", "eu-west-1"]}}))]),
                ALLOW,
            ),
            (json!([on(json!({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}))]), ALLOW),
            (json!([on(json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.0/16"]}}))]), IMPLICIT),
            (json!([on(json!({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}))]), IMPLICIT),
            (
                json!([allow(json!({})), not_on(json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))]),
                BY_IDENTITY,
            ),
            (json!([allow(json!({})), not_on(json!({"Bool": {"aws:SecureTransport": "false"}}))]), ALLOW),
            (json!([on(json!({"Bool": {"aws:SecureTransport": "false"}}))]), IMPLICIT),
            (json!([on(json!({"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:01Z"}}))]), ALLOW),
            (json!([on(json!({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}))]), IMPLICIT),
            (json!([on(json!({"DateLessThan": {"aws:EpochTime": "2026-01-02"}}))]), ALLOW),
            (json!([on(json!({"NumericGreaterThanEquals": {"aws:EpochTime": "1767225600"}}))]), ALLOW),
            (json!([on(json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/al*"}}))]), ALLOW),
            (
                json!([on(json!({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/*"}}))]),
                IMPLICIT,
            ),
            (json!([on(json!({"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}}))]), ALLOW),
            (json!([on(json!({"StringEquals": {"aws:ResourceTag/Team": "web"}}))]), ALLOW),
            (json!([on(json!({"StringEquals": {"aws:ResourceTag/Team": "ops"}}))]), IMPLICIT),
            (json!([on(json!({"StringEquals": {"aws:ResourceTag/None": "ops"}}))]), IMPLICIT),
            (json!([on(json!({"StringEqualsIfExists": {"aws:ResourceTag/None": "ops"}}))]), ALLOW),
            (json!([on(json!({"StringNotEquals": {"aws:ResourceTag/None": "ops"}}))]), ALLOW),
            (json!([on(json!({"StringEquals": {"aws:RequestTag/Stage": ["test", "dev"]}}))]), ALLOW),
            (json!([on(json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["Stage", "Team"]}}))]), ALLOW),
            (json!([on(json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["Stage"]}}))]), IMPLICIT),
            (json!([on(json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["Stage"]}}))]), ALLOW),
            (json!([on(json!({"Null": {"aws:ResourceTag/Team": "true"}}))]), IMPLICIT),
            (json!([on(json!({"Null": {"aws:ResourceTag/None": "true"}}))]), ALLOW),
            (
                json!([
                    allow(json!({})),
                    not_on(json!({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}))
                ]),
                BY_IDENTITY,
            ),
            (
                json!([allow(json!({})), not_on(json!({"Bool": {"aws:MultiFactorAuthPresent": "false"}}))]),
                ALLOW,
            ),
            (
                json!([on(
                    json!({"StringEquals": {"aws:username": "alice"}, "Bool": {"aws:SecureTransport": "false"}})
                )]),
                IMPLICIT,
            ),
            // Variables.
            (json!([on(json!({"StringEquals": {"aws:ResourceTag/Owner": "${aws:username}"}}))]), ALLOW),
            (json!([on(json!({"StringEquals": {"aws:ResourceTag/Team": "${aws:username}"}}))]), IMPLICIT),
            (
                json!([on(
                    json!({"StringEquals": {"aws:ResourceTag/Team": "${aws:PrincipalTag/team, 'web'}"}})
                )]),
                ALLOW,
            ),
            (json!([on(json!({"StringEquals": {"aws:username": "${aws:Missing}"}}))]), IMPLICIT),
            (json!([allow(json!({"Resource": "arn:aws:kinesis:*:*:stream/${aws:username}"}))]), IMPLICIT),
            (json!([allow(json!({"Resource": "arn:aws:kinesis:*:*:stream/${*}"}))]), IMPLICIT),
        ];
        assert!(cases.len() >= 60);
        for (statements, expected) in cases {
            assert_eq!(decide(&statements), expected, "{statements}");
        }
    }

    #[test]
    fn variables_need_the_newer_version() {
        let ask = Ask { resource: "arn:aws:kinesis:eu-west-1:123456789012:stream/alice", ..ask() };
        let statement = allow(json!({"Resource": "arn:aws:kinesis:*:*:stream/${aws:username}"}));
        let decide = |document| authorize(&alice(&[document]), None, &ask);
        assert_eq!(decide(json!({"Version": "2012-10-17", "Statement": statement})), ALLOW);
        assert_eq!(decide(json!({"Version": "2008-10-17", "Statement": statement})), IMPLICIT);
        assert_eq!(decide(json!({"Statement": statement})), IMPLICIT);
    }

    #[test]
    fn either_policy_allows_and_either_denies() {
        let all = |effect| json!({"Effect": effect, "Action": "kinesis:*", "Resource": "*"});
        let own = |effect| vec![document(&json!([all(effect)]))];
        let of_stream =
            |effect| document(&json!([with(all(effect), json!({"Principal": {"AWS": ACCOUNT}}))]));
        let cases = [
            (vec![], None, IMPLICIT),
            (own("Allow"), None, ALLOW),
            (own("Deny"), None, BY_IDENTITY),
            (vec![], Some("Allow"), ALLOW),
            (vec![], Some("Deny"), BY_RESOURCE),
            (own("Allow"), Some("Allow"), ALLOW),
            (own("Allow"), Some("Deny"), BY_RESOURCE),
            (own("Deny"), Some("Allow"), BY_IDENTITY),
            (own("Deny"), Some("Deny"), BY_IDENTITY),
            ([own("Allow"), own("Deny")].concat(), None, BY_IDENTITY),
            ([own("Deny"), own("Allow")].concat(), Some("Allow"), BY_IDENTITY),
        ];
        for (own, of_stream_effect, expected) in cases {
            let policy =
                of_stream_effect.map(|effect| Policy::of_resource(&of_stream(effect).to_string()).unwrap());
            let decision = authorize(&alice(&own), policy.as_ref(), &ask());
            assert_eq!(decision, expected, "{own:?} {of_stream_effect:?}");
        }
    }

    #[test]
    fn a_streams_policy_applies_to_its_principals() {
        let statements = |principal: Value| {
            let policy = document(&json!([with(
                json!({"Effect": "Allow", "Action": ["kinesis:PutRecord"], "Resource": STREAM}),
                principal
            )]));
            let policy = Policy::of_resource(&policy.to_string()).unwrap();
            authorize(&alice(&[]), Some(&policy), &ask())
        };
        assert_eq!(statements(json!({"Principal": "*"})), ALLOW);
        assert_eq!(statements(json!({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}})), ALLOW);
        assert_eq!(statements(json!({"Principal": {"AWS": "arn:aws:iam::123456789012:user/alice"}})), ALLOW);
        assert_eq!(statements(json!({"Principal": {"AWS": "arn:aws:iam::123456789012:user/bob"}})), IMPLICIT);
        assert_eq!(statements(json!({"Principal": {"AWS": "210987654321"}})), IMPLICIT);
        let everyone_but_alice = document(&json!([{
            "Effect": "Deny", "Action": "kinesis:*", "Resource": STREAM,
            "NotPrincipal": {"AWS": ["arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/alice"]},
        }]));
        let policy = Policy::of_resource(&everyone_but_alice.to_string()).unwrap();
        let bob = Identity::new(ACCOUNT, "bob", "AKIB", vec![]);
        assert_eq!(authorize(&alice(&[]), Some(&policy), &ask()), IMPLICIT);
        assert_eq!(authorize(&bob, Some(&policy), &ask()), BY_RESOURCE);
    }

    #[test]
    fn the_texts_are_those_of_aws() {
        let user = alice(&[document(&allow(json!({"Action": "s3:*"})))]);
        let begin = format!(
            "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: kinesis:PutRecord on resource: {STREAM}"
        );
        let text = |denial| denial_message(&user, &ask(), denial);
        assert_eq!(
            text(Denial::Implicit),
            format!("{begin} because no identity-based policy allows the kinesis:PutRecord action")
        );
        assert_eq!(
            text(Denial::ByIdentityPolicy),
            format!("{begin} with an explicit deny in an identity-based policy")
        );
        assert_eq!(
            text(Denial::ByResourcePolicy),
            format!("{begin} with an explicit deny in a resource-based policy")
        );
        let bare = denial_message(&alice(&[]), &ask(), Denial::Implicit);
        assert!(bare.ends_with("action (the access key has no policies in the credentials file)"), "{bare}");
    }

    /// Documents that are nearly policies.
    fn documents() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "Version",
            "Statement",
            "Effect",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Principal",
            "Condition",
            "Allow",
            "Deny",
            "2012-10-17",
            "*",
            "kinesis:*",
            "arn:aws:kinesis:*",
            "AWS",
            "StringLike",
            "Null",
            "ForAllValues:StringNotLike",
            "IpAddress",
            "DateLessThan",
            "aws:SourceIp",
            "aws:TagKeys",
            "${aws:username}",
            "${",
            "10.0.0.0/8",
            "true",
            "2026",
            "arn:aws:iam::123456789012:root",
        ]);
        let leaf = prop_oneof![
            word.clone().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(json!(1))
        ];
        let value = leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        let statement = (value.clone(), value.clone()).prop_map(|(condition, members)| {
            let mut statement = allow(json!({"Condition": condition}));
            if let Value::Object(members) = members {
                statement.as_object_mut().unwrap().extend(members);
            }
            document(&json!([statement]))
        });
        prop_oneof![value, statement].prop_map(|value| value.to_string())
    }

    proptest! {
        #[test]
        fn no_policy_makes_the_parser_or_the_decision_panic(text in documents()) {
            let user = Value::is_object(&serde_json::from_str(&text).unwrap());
            let document: Value = serde_json::from_str(&text).unwrap();
            let own = Policy::of_identity(&document);
            let of_stream = Policy::of_resource(&text);
            prop_assert!(user || own.is_err() && of_stream.is_err());
            let identity = Identity::new(ACCOUNT, "alice", "AKID", own.into_iter().collect());
            let _ = authorize(&identity, of_stream.ok().as_ref(), &ask());
        }

        /// A denial of everything wins over all other policies.
        #[test]
        fn a_denial_cannot_be_overridden(text in documents(), is_first in any::<bool>()) {
            let Ok(other) = Policy::of_identity(&serde_json::from_str(&text).unwrap()) else { return Ok(()) };
            let denial = Policy::of_identity(&document(&deny(json!({})))).unwrap();
            let policies = if is_first { vec![denial, other] } else { vec![other, denial] };
            let identity = Identity::new(ACCOUNT, "alice", "AKID", policies);
            prop_assert_eq!(authorize(&identity, None, &ask()), BY_IDENTITY);
        }
    }

    #[test]
    fn what_may_be_allowed_on_some_resource() {
        let dev = "arn:aws:kinesis:us-east-1:111122223333:stream/dev-*";
        let cases = [
            (json!([allow(json!({}))]), true),
            (json!([allow(json!({ "Resource": dev }))]), true),
            (json!([allow(json!({ "Resource": dev, "Action": "kinesis:Get*" }))]), false),
            (json!([allow(json!({ "NotAction": "kinesis:Put*" }))]), false),
            (json!([allow(json!({ "Resource": dev })), deny(json!({ "Resource": dev }))]), true),
            (json!([allow(json!({ "Resource": dev })), deny(json!({}))]), false),
            (json!([deny(json!({ "Resource": dev }))]), false),
            (json!([allow(json!({})), deny(json!({ "Action": "kinesis:Get*" }))]), true),
        ];
        for (statements, expected) in cases {
            assert_eq!(may_allow(&alice(&[document(&statements)]), &ask()), expected, "{statements}");
        }
        assert!(!may_allow(&alice(&[]), &ask()));
        let denied = [document(&json!([allow(json!({}))])), document(&json!([deny(json!({}))]))];
        assert!(!may_allow(&alice(&denied), &ask()), "another policy denies it");
    }
}
