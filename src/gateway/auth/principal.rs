//! The principals of a resource policy: to whom a statement applies.

use serde_json::Value;

use super::credentials::{Identity, is_account};
use super::json;

/// A principal that a statement names.
#[derive(Debug, PartialEq, Eq)]
enum Principal {
    Anyone,
    /// Everyone in an account: its id, or the ARN of its root.
    Account(String),
    Arn(String),
    /// A service, or anything else that never sends requests to a gateway.
    Other,
}

/// `Principal` or `NotPrincipal` of a statement.
#[derive(Debug)]
pub(super) struct Principals {
    principals: Vec<Principal>,
    /// Whether it is `NotPrincipal`.
    is_negated: bool,
}

impl Principals {
    pub(super) fn parse(value: &Value, is_negated: bool) -> Result<Self, String> {
        if value == "*" {
            return Ok(Self { principals: vec![Principal::Anyone], is_negated });
        }
        let kinds = value.as_object().filter(|kinds| !kinds.is_empty());
        let kinds = kinds.ok_or(r#"a principal must be "*" or an object such as {"AWS": "123456789012"}"#)?;
        let mut principals = vec![];
        for (kind, names) in kinds {
            for name in json::strings(names, kind)? {
                principals.push(match kind.as_str() {
                    "AWS" => parse_aws(name).ok_or_else(|| {
                        format!("{name:?} is not \"*\", an account, nor the ARN of a user or root")
                    })?,
                    "Service" | "Federated" | "CanonicalUser" => Principal::Other,
                    _ => return Err(format!("{kind:?} is not a kind of principal")),
                });
            }
        }
        Ok(Self { principals, is_negated })
    }

    /// Returns whether the statement applies to a user.
    ///
    /// An account stands for all of its users. As an exception of `NotPrincipal`, it stands only for its root, which AWS requires beside the excepted
    /// user: `{"AWS": ["arn:aws:iam::1:root", "arn:aws:iam::1:user/alice"]}` is everyone but alice.
    pub(super) fn matches(&self, identity: &Identity) -> bool {
        let is_named = |principal: &Principal| match principal {
            Principal::Anyone => true,
            Principal::Account(account) => !self.is_negated && *account == identity.account,
            Principal::Arn(arn) => *arn == identity.arn,
            Principal::Other => false,
        };
        self.principals.iter().any(is_named) != self.is_negated
    }
}

fn parse_aws(name: &str) -> Option<Principal> {
    if name == "*" {
        return Some(Principal::Anyone);
    }
    if is_account(name) {
        return Some(Principal::Account(name.to_owned()));
    }
    let parts: Vec<_> = name.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts[..] else { return None };
    let is_known = arn == "arn" && partition.starts_with("aws") && region.is_empty() && is_account(account);
    if !is_known || name.contains(['*', '?']) {
        return None;
    }
    match (service, resource.split_once('/')) {
        ("iam", None) if resource == "root" => Some(Principal::Account(account.to_owned())),
        ("iam" | "sts", Some((_, rest))) if !rest.is_empty() => Some(Principal::Arn(name.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: &str = "arn:aws:iam::123456789012:user/alice";

    fn matches(value: &Value, is_negated: bool) -> bool {
        let identity = Identity::new("123456789012", "alice", "AKID", vec![]);
        Principals::parse(value, is_negated).unwrap().matches(&identity)
    }

    #[test]
    fn principals_are_those_of_iam() {
        for (value, expected, expected_of_not) in [
            (json!("*"), true, false),
            (json!({"AWS": "*"}), true, false),
            (json!({"AWS": "123456789012"}), true, true),
            (json!({"AWS": "123456789013"}), false, true),
            (json!({"AWS": "arn:aws:iam::123456789012:root"}), true, true),
            (json!({"AWS": "arn:aws:iam::123456789013:root"}), false, true),
            (json!({"AWS": OWN}), true, false),
            (json!({"AWS": ["arn:aws:iam::123456789012:user/bob", OWN]}), true, false),
            (json!({"AWS": ["arn:aws:iam::123456789012:root", OWN]}), true, false),
            (json!({"AWS": "arn:aws:iam::123456789012:user/Alice"}), false, true),
            (json!({"AWS": "arn:aws:iam::123456789012:user/alice2"}), false, true),
            (json!({"AWS": "arn:aws:iam::123456789012:role/alice"}), false, true),
            (json!({"AWS": "arn:aws:sts::123456789012:assumed-role/r/s"}), false, true),
            (json!({"Service": "lambda.amazonaws.com", "AWS": OWN}), true, false),
            (json!({"Service": "lambda.amazonaws.com"}), false, true),
        ] {
            assert_eq!(matches(&value, false), expected, "{value}");
            assert_eq!(matches(&value, true), expected_of_not, "not {value}");
        }
    }

    #[test]
    fn other_principals_are_refused() {
        for value in [
            json!("123456789012"),
            json!({}),
            json!([]),
            json!({"AWS": []}),
            json!({"AWS": [1]}),
            json!({"aws": "*"}),
            json!({"AWS": "12345678901"}),
            json!({"AWS": "arn:aws:iam::123456789012:user/*"}),
            json!({"AWS": "arn:aws:iam::*:root"}),
            json!({"AWS": "arn:aws:iam::123456789012:user"}),
            json!({"AWS": "arn:aws:s3::123456789012:user/alice"}),
            json!({"AWS": "alice"}),
        ] {
            assert!(Principals::parse(&value, false).is_err(), "{value}");
        }
    }
}
