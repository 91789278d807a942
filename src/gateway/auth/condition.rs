//! The conditions of a statement.

use serde_json::Value;

use super::ask::Context;
use super::json;
use super::operator::{Comparison, Operator, Wanted};

/// Which values of a key that has several must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// The key is assumed to have one value.
    None,
    All,
    Any,
}

/// A condition that compares a key of the request with some values.
#[derive(Debug)]
pub(super) struct Condition {
    quantifier: Quantifier,
    operator: Operator,
    /// Whether the condition holds if the request lacks the key.
    if_exists: bool,
    key: String,
    wanted: Vec<Wanted>,
}

impl Condition {
    /// Parses the value of `Condition`: operators, each with keys and their values. All of them must hold.
    pub(super) fn parse_all(value: &Value, has_variables: bool) -> Result<Vec<Self>, String> {
        let mut conditions = vec![];
        for (name, keys) in json::object(value, "Condition")? {
            let (quantifier, operator, if_exists) =
                parse_name(name).ok_or_else(|| format!("{name:?} is not a condition operator"))?;
            for (key, values) in json::object(keys, name)? {
                if !key.contains(':') {
                    return Err(format!(
                        "{key:?} in {name} is not a condition key: write aws:SourceIp, for example"
                    ));
                }
                let parse = |text: String| Wanted::parse(operator.comparison, &text, has_variables);
                let wanted: Result<Vec<_>, _> = texts(values)
                    .ok_or_else(|| {
                        format!("the values of {key} in {name} must be strings, numbers or booleans")
                    })?
                    .into_iter()
                    .map(parse)
                    .collect();
                let wanted = wanted.map_err(|error| format!("{key} in {name}: {error}"))?;
                conditions.push(Self { quantifier, operator, if_exists, key: key.clone(), wanted });
            }
        }
        Ok(conditions)
    }

    /// Returns whether the condition holds for a request.
    pub(super) fn holds(&self, context: &Context<'_>) -> bool {
        let values = context.values(&self.key);
        if self.operator.comparison == Comparison::Null {
            let is_missing = values.is_none();
            return self
                .wanted
                .iter()
                .any(|wanted| matches!(wanted, Wanted::Bool(bool) if *bool == is_missing));
        }
        let is_negated = self.operator.is_negated;
        let Some(values) = values else {
            return self.if_exists
                || match self.quantifier {
                    Quantifier::None => is_negated,
                    Quantifier::All => true,
                    Quantifier::Any => false,
                };
        };
        let lookup = |key: &str| context.value(key);
        let is_wanted = |value: &String| self.wanted.iter().any(|wanted| wanted.is_match(value, &lookup));
        match self.quantifier {
            Quantifier::None => values.iter().any(is_wanted) != is_negated,
            Quantifier::All => values.iter().all(|value| is_wanted(value) != is_negated),
            Quantifier::Any => values.iter().any(|value| is_wanted(value) != is_negated),
        }
    }
}

/// Parses names such as `ForAnyValue:StringEqualsIfExists`.
fn parse_name(name: &str) -> Option<(Quantifier, Operator, bool)> {
    let (quantifier, rest) = match (name.strip_prefix("ForAllValues:"), name.strip_prefix("ForAnyValue:")) {
        (Some(rest), _) => (Quantifier::All, rest),
        (_, Some(rest)) => (Quantifier::Any, rest),
        _ => (Quantifier::None, name),
    };
    let (rest, if_exists) = match rest.strip_suffix("IfExists") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let operator = Operator::parse(rest)?;
    let is_plain = quantifier == Quantifier::None && !if_exists;
    (operator.comparison != Comparison::Null || is_plain).then_some((quantifier, operator, if_exists))
}

/// Returns a value, or the values of a list with at least one, as texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) if values.is_empty() => None,
        Value::Array(values) => values.iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ask::tests::{ACCOUNT, ask};
    use super::super::credentials::Identity;
    use super::*;

    fn holds(condition: &Value) -> bool {
        let identity = Identity::new(ACCOUNT, "alice", "AKID", vec![]);
        let conditions = Condition::parse_all(condition, true).unwrap();
        conditions.iter().all(|condition| condition.holds(&Context { identity: &identity, ask: &ask() }))
    }

    #[test]
    fn a_key_that_the_request_lacks_is_judged_by_the_operator() {
        let missing = |operator: &str, value: &str| holds(&json!({ operator: { "aws:Missing": value } }));
        for (operator, value, expected) in [
            ("StringEquals", "x", false),
            ("StringLike", "*", false),
            ("StringNotEquals", "x", true),
            ("StringNotEqualsIgnoreCase", "x", true),
            ("StringNotLike", "*", true),
            ("NumericEquals", "1", false),
            ("NumericLessThan", "1", false),
            ("NumericNotEquals", "1", true),
            ("DateGreaterThan", "2020", false),
            ("DateNotEquals", "2020", true),
            ("Bool", "false", false),
            ("BinaryEquals", "YQ==", false),
            ("IpAddress", "0.0.0.0/0", false),
            ("NotIpAddress", "0.0.0.0/0", true),
            ("ArnLike", "*", false),
            ("ArnNotLike", "*", true),
            ("StringEqualsIfExists", "x", true),
            ("BoolIfExists", "true", true),
            ("StringNotEqualsIfExists", "x", true),
            ("ForAllValues:StringEquals", "x", true),
            ("ForAllValues:StringNotEquals", "x", true),
            ("ForAnyValue:StringEquals", "x", false),
            ("ForAnyValue:StringNotEquals", "x", false),
            ("ForAnyValue:StringEqualsIfExists", "x", true),
            ("Null", "true", true),
            ("Null", "false", false),
        ] {
            assert_eq!(missing(operator, value), expected, "{operator} {value}");
        }
    }

    #[test]
    fn several_values_are_judged_by_the_quantifier() {
        // The request names the tags Stage and Team.
        let tags = |operator: &str, values: &[&str]| holds(&json!({ operator: { "aws:TagKeys": values } }));
        for (operator, values, expected) in [
            ("ForAllValues:StringEquals", &["Stage", "Team", "Cost"][..], true),
            ("ForAllValues:StringEquals", &["Stage"], false),
            ("ForAllValues:StringLike", &["S*", "T*"], true),
            ("ForAllValues:StringNotEquals", &["Cost"], true),
            ("ForAllValues:StringNotEquals", &["Cost", "Team"], false),
            ("ForAnyValue:StringEquals", &["Team", "Cost"], true),
            ("ForAnyValue:StringEquals", &["Cost"], false),
            ("ForAnyValue:StringNotEquals", &["Team"], true),
            ("ForAnyValue:StringNotEquals", &["Stage", "Team"], false),
            ("StringEquals", &["Team"], true),
            ("StringNotEquals", &["Team"], false),
        ] {
            assert_eq!(tags(operator, values), expected, "{operator} {values:?}");
        }
    }

    #[test]
    fn values_are_alternatives_and_keys_and_operators_are_not() {
        assert!(holds(&json!({"StringEquals": {"aws:username": ["bob", "alice"]}})));
        assert!(!holds(&json!({"StringNotEquals": {"aws:username": ["bob", "alice"]}})));
        assert!(!holds(
            &json!({"StringEquals": {"aws:username": "alice", "aws:RequestedRegion": "us-east-1"}})
        ));
        assert!(!holds(
            &json!({"StringEquals": {"aws:username": "alice"}, "Bool": {"aws:SecureTransport": false}})
        ));
        assert!(holds(
            &json!({"StringEquals": {"AWS:UserName": "alice"}, "Bool": {"aws:securetransport": [true]}})
        ));
        assert!(holds(&json!({"NumericGreaterThan": {"aws:EpochTime": 1767225599}})));
        assert!(holds(&json!({"Null": {"aws:username": [true, false]}})));
        assert!(holds(&json!({})));
    }

    #[test]
    fn what_iam_does_not_know_is_refused_by_name() {
        for (condition, named) in [
            (json!([]), "Condition must be an object"),
            (json!({"StringSame": {}}), r#""StringSame" is not"#),
            (json!({"ForSomeValues:StringEquals": {}}), "ForSomeValues"),
            (json!({"NullIfExists": {"aws:username": "true"}}), "NullIfExists"),
            (json!({"ForAnyValue:Null": {"aws:username": "true"}}), "ForAnyValue:Null"),
            (json!({"StringEquals": {"username": "alice"}}), r#""username" in StringEquals"#),
            (json!({"StringEquals": "alice"}), "StringEquals must be an object"),
            (json!({"StringEquals": {"aws:username": []}}), "aws:username"),
            (json!({"StringEquals": {"aws:username": null}}), "aws:username"),
            (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/64"}}), "10.0.0.0/64"),
        ] {
            let error = Condition::parse_all(&condition, true).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
