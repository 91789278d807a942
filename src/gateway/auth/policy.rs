//! Policy documents of IAM: their grammar, and what their statements say about a request.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::ask::Context;
use super::condition::Condition;
use super::json;
use super::pattern::{Pattern, Syntax};
use super::principal::Principals;

/// The most bytes of a policy.
pub(in crate::gateway) const POLICY_BYTES_MAX: usize = 20 << 10;

/// What a policy is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Resource,
}

/// What a statement does if it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// A policy of a user or of a resource.
#[derive(Debug)]
pub(in crate::gateway) struct Policy {
    statements: Vec<Statement>,
}

impl Policy {
    /// Parses the policy of a stream or consumer, which names principals.
    pub(in crate::gateway) fn of_resource(text: &str) -> Result<Self, String> {
        Self::parse(&json::parse(text, POLICY_BYTES_MAX)?, Kind::Resource)
    }

    /// Parses a policy of a user. The caller has bounded its size.
    pub(super) fn of_identity(document: &Value) -> Result<Self, String> {
        Self::parse(document, Kind::Identity)
    }

    fn parse(document: &Value, kind: Kind) -> Result<Self, String> {
        let members = json::object(document, "a policy")?;
        json::check_members(members, &["Version", "Id", "Statement"], "the policy")?;
        let has_variables = match members.get("Version") {
            None => false,
            Some(version) if version == "2008-10-17" => false,
            Some(version) if version == "2012-10-17" => true,
            Some(version) => {
                return Err(format!("the policy has the version {version}; write \"2012-10-17\""));
            }
        };
        if members.get("Id").is_some_and(|id| !id.is_string()) {
            return Err("the policy's Id must be a string".to_owned());
        }
        let statements: Vec<&Value> = match members.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement) => vec![statement],
            None => vec![],
        };
        if statements.is_empty() {
            return Err("the policy has no Statement".to_owned());
        }
        let mut sids = HashSet::new();
        let parse = |(number, statement): (usize, &&Value)| {
            let parsed = Statement::parse(statement, kind, has_variables).and_then(|(statement, sid)| {
                match sid.filter(|sid| !sids.insert(sid.clone())) {
                    Some(sid) => Err(format!("another statement has the Sid {sid:?}, too")),
                    None => Ok(statement),
                }
            });
            parsed.map_err(|error| format!("statement {}: {error}", number + 1))
        };
        Ok(Self { statements: statements.iter().enumerate().map(parse).collect::<Result<_, _>>()? })
    }

    /// Returns what the policy says about a request. A statement that denies it overrides those that allow it.
    pub(super) fn effect(&self, context: &Context<'_>) -> Option<Effect> {
        let mut found = None;
        for statement in &self.statements {
            // Another allowing statement cannot change the outcome.
            if found.is_some() && statement.effect == Effect::Allow || !statement.applies(context) {
                continue;
            }
            match statement.effect {
                Effect::Deny => return Some(Effect::Deny),
                Effect::Allow => found = Some(Effect::Allow),
            }
        }
        found
    }

    /// Returns whether a statement allows the action on something, whatever the resource of the request is.
    pub(super) fn allows_on_some_resource(&self, context: &Context<'_>) -> bool {
        self.statements.iter().any(|statement| {
            statement.effect == Effect::Allow && statement.actions.matches(context.ask.action, context)
        })
    }
}

/// Patterns of which one must match, or none for `NotAction` or `NotResource`.
#[derive(Debug)]
struct Patterns {
    patterns: Vec<Pattern>,
    is_negated: bool,
}

impl Patterns {
    fn matches(&self, text: &str, context: &Context<'_>) -> bool {
        let lookup = |key: &str| context.value(key);
        self.patterns.iter().any(|pattern| pattern.is_match(text, &lookup)) != self.is_negated
    }
}

#[derive(Debug)]
struct Statement {
    effect: Effect,
    /// None in a policy of a user.
    principals: Option<Principals>,
    actions: Patterns,
    resources: Patterns,
    conditions: Vec<Condition>,
}

impl Statement {
    /// Parses a statement, and returns its Sid.
    fn parse(value: &Value, kind: Kind, has_variables: bool) -> Result<(Self, Option<String>), String> {
        let members = json::object(value, "a statement")?;
        let known = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        json::check_members(members, &known, "it")?;
        let sid = match members.get("Sid") {
            None => None,
            Some(Value::String(sid)) => Some(sid.clone()),
            Some(_) => return Err("Sid must be a string".to_owned()),
        };
        let is_plain = |sid: &String| sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if kind == Kind::Identity && !sid.as_ref().is_none_or(is_plain) {
            return Err("Sid may have letters and digits only".to_owned());
        }
        let effect = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err("Effect must be \"Allow\" or \"Deny\"".to_owned()),
        };
        let principals = match (kind, one_of(members, "Principal", "NotPrincipal")?) {
            (Kind::Identity, None) => None,
            (Kind::Identity, Some(_)) => return Err("a user's policy may not name a principal".to_owned()),
            (Kind::Resource, None) => return Err("Principal is missing".to_owned()),
            (Kind::Resource, Some((_, true))) if effect == Effect::Allow => {
                return Err("NotPrincipal cannot allow, because it would allow everyone else".to_owned());
            }
            (Kind::Resource, Some((value, is_negated))) => Some(Principals::parse(value, is_negated)?),
        };
        let (value, is_negated) = one_of(members, "Action", "NotAction")?.ok_or("Action is missing")?;
        let actions =
            json::strings(value, "Action")?.into_iter().map(parse_action).collect::<Result<_, _>>()?;
        let actions = Patterns { patterns: actions, is_negated };
        let (value, is_negated) = one_of(members, "Resource", "NotResource")?.ok_or("Resource is missing")?;
        let parse = |text| parse_resource(text, has_variables);
        let resources = json::strings(value, "Resource")?.into_iter().map(parse).collect::<Result<_, _>>()?;
        let resources = Patterns { patterns: resources, is_negated };
        let conditions = members.get("Condition").map(|value| Condition::parse_all(value, has_variables));
        let conditions = conditions.transpose()?.unwrap_or_default();
        Ok((Self { effect, principals, actions, resources, conditions }, sid))
    }

    fn applies(&self, context: &Context<'_>) -> bool {
        self.principals.as_ref().is_none_or(|principals| principals.matches(context.identity))
            && self.actions.matches(context.ask.action, context)
            && self.resources.matches(context.ask.resource, context)
            && self.conditions.iter().all(|condition| condition.holds(context))
    }
}

/// Returns the value of one of two members that exclude each other, and whether it is the second.
fn one_of<'a>(
    members: &'a Map<String, Value>,
    name: &str,
    not: &str,
) -> Result<Option<(&'a Value, bool)>, String> {
    match (members.get(name), members.get(not)) {
        (Some(_), Some(_)) => Err(format!("{name} and {not} exclude each other")),
        (Some(value), None) => Ok(Some((value, false))),
        (None, Some(value)) => Ok(Some((value, true))),
        (None, None) => Ok(None),
    }
}

fn parse_action(text: &str) -> Result<Pattern, String> {
    let is_service = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_action = |(service, name): (&str, &str)| is_service(service) && !name.is_empty();
    if text != "*" && !text.split_once(':').is_some_and(is_action) {
        return Err(format!("{text:?} is not an action: write kinesis:PutRecord, kinesis:Get* or *"));
    }
    Pattern::parse(text, Syntax { has_wildcards: true, has_variables: false, ignores_case: true })
}

fn parse_resource(text: &str, has_variables: bool) -> Result<Pattern, String> {
    if text != "*" && !text.starts_with("arn:") {
        return Err(format!("{text:?} is not a resource: write an ARN, which may have wildcards, or *"));
    }
    Pattern::parse(text, Syntax { has_wildcards: true, has_variables, ignores_case: false })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A statement with members added, replaced or removed.
    fn statement(changes: Value) -> Value {
        let mut statement = json!({"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"});
        let members = statement.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(members.remove(name)),
                value => drop(members.insert(name.clone(), value.clone())),
            }
        }
        json!({"Version": "2012-10-17", "Statement": [statement]})
    }

    fn refusal(document: &Value, kind: Kind) -> String {
        Policy::parse(document, kind).unwrap_err()
    }

    #[test]
    fn what_iam_accepts_is_accepted() {
        for changes in [
            json!({}),
            json!({"Sid": "Abc1"}),
            json!({"Action": ["kinesis:Get*", "*"], "Effect": "Deny"}),
            json!({"Action": null, "NotAction": "iam:*"}),
            json!({"Resource": null, "NotResource": ["arn:aws:kinesis:*:*:stream/a"]}),
            json!({"Resource": "arn:aws:kinesis:*"}),
            json!({"Condition": {}}),
        ] {
            Policy::of_identity(&statement(changes)).unwrap();
        }
        Policy::of_identity(&json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}))
            .unwrap();
        for changes in [
            json!({"Principal": "*"}),
            json!({"NotPrincipal": {"AWS": "123456789012"}, "Effect": "Deny"}),
            json!({"Principal": {"AWS": "123456789012"}, "Sid": "for the other team"}),
        ] {
            Policy::of_resource(&statement(changes).to_string()).unwrap();
        }
    }

    #[test]
    fn what_iam_refuses_is_refused_with_a_reason() {
        for (changes, reason) in [
            (json!({"Efect": "Allow"}), "\"Efect\""),
            (json!({"Effect": null}), "Effect"),
            (json!({"Effect": "allow"}), "Effect"),
            (json!({"Action": null}), "Action is missing"),
            (json!({"NotAction": "kinesis:*"}), "Action and NotAction"),
            (json!({"Action": []}), "Action"),
            (json!({"Action": [1]}), "Action"),
            (json!({"Action": "PutRecord"}), "PutRecord"),
            (json!({"Action": "kin*:PutRecord"}), "kin*:PutRecord"),
            (json!({"Action": ":PutRecord"}), ":PutRecord"),
            (json!({"Action": "kinesis:"}), "kinesis:"),
            (json!({"Resource": null}), "Resource is missing"),
            (json!({"NotResource": "*"}), "Resource and NotResource"),
            (json!({"Resource": "clicks"}), "clicks"),
            (json!({"Resource": "arn:aws:kinesis:::${aws:username"}), "policy variable"),
            (json!({"Principal": "*"}), "principal"),
            (json!({"NotPrincipal": "*"}), "principal"),
            (json!({"Sid": 1}), "Sid"),
            (json!({"Sid": "with space"}), "Sid"),
            (json!({"Condition": {"Same": {}}}), "Same"),
        ] {
            let refusal = refusal(&statement(changes), Kind::Identity);
            assert!(refusal.starts_with("statement 1: ") && refusal.contains(reason), "{refusal}");
        }
        for (changes, reason) in [
            (json!({}), "Principal is missing"),
            (json!({"Principal": "*", "NotPrincipal": "*"}), "Principal and NotPrincipal"),
            (json!({"NotPrincipal": {"AWS": "123456789012"}}), "NotPrincipal cannot allow"),
            (json!({"Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}}), "user/*"),
        ] {
            let refusal = refusal(&statement(changes), Kind::Resource);
            assert!(refusal.contains(reason), "{refusal}");
        }
        let same = json!({"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"});
        for (document, reason) in [
            (json!([]), "object"),
            (json!({}), "no Statement"),
            (json!({"Statement": []}), "no Statement"),
            (json!({"Statement": [1]}), "a statement"),
            (json!({"Statement": [same, same]}), "statement 2: another statement has the Sid \"A\""),
            (json!({"Version": "2012-10-18", "Statement": [same]}), "2012-10-18"),
            (json!({"Version": 1, "Statement": [same]}), "version 1"),
            (json!({"Id": 1, "Statement": [same]}), "Id"),
            (json!({"Statment": [same]}), "Statment"),
        ] {
            let refusal = refusal(&document, Kind::Identity);
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn the_size_of_a_resource_policy_is_bounded() {
        let policy = statement(json!({"Principal": "*"})).to_string();
        let padded = |bytes: usize| format!("{policy}{}", " ".repeat(bytes - policy.len()));
        Policy::of_resource(&padded(POLICY_BYTES_MAX)).unwrap();
        assert!(Policy::of_resource(&padded(POLICY_BYTES_MAX + 1)).unwrap_err().contains("20481 bytes"));
    }
}
