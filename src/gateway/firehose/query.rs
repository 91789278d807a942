//! The queries of dynamic partitioning: an object of jq whose members are the partition keys.

/// Returns the name and the query of each partition key in a text such as `{country: .country, day: .time | strftime("%d")}`. The error is a sentence
/// for the caller. The queries themselves are not checked here.
pub(super) fn partition_keys(text: &str) -> Result<Vec<(String, String)>, String> {
    let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inside = inside.ok_or("it is no object: {name: query, …}")?;
    let mut keys = vec![];
    for member in split(inside, ',')? {
        let parts = split(member, ':')?;
        let (name, query) = match parts[..] {
            // As in jq: the member of that name.
            [name] => (name.trim(), format!(".{}", name.trim())),
            [name, query] => (name.trim(), query.trim().to_owned()),
            _ => return Err(format!("{:?} is no name, colon and query", member.trim())),
        };
        let is_quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
        let name = if is_quoted { &name[1..name.len() - 1] } else { name };
        let is_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(is_name) || query.is_empty() {
            return Err(format!("{:?} is no name, colon and query", member.trim()));
        }
        if keys.iter().any(|(known, _)| known == name) {
            return Err(format!("the partition key {name:?} is there twice"));
        }
        keys.push((name.to_owned(), query));
    }
    Ok(keys)
}

/// Splits a text at a character, outside of quotes and brackets.
fn split(text: &str, sign: char) -> Result<Vec<&str>, String> {
    let (mut depth, mut is_in_text, mut is_escaped, mut begin) = (0usize, false, false, 0);
    let mut parts = vec![];
    for (at, char) in text.char_indices() {
        if is_in_text {
            is_in_text = is_escaped || char != '"';
            is_escaped = char == '\\' && !is_escaped;
            continue;
        }
        match char {
            '"' => is_in_text = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1).ok_or("a bracket is closed that is not open")?,
            _ if char == sign && depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + char.len_utf8();
            }
            _ => {}
        }
    }
    if is_in_text || depth > 0 {
        return Err("a text or a bracket has no end".into());
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(text: &str) -> Vec<(String, String)> {
        partition_keys(text).unwrap()
    }

    fn pair(name: &str, query: &str) -> (String, String) {
        (name.into(), query.into())
    }

    #[test]
    fn names_and_queries_are_taken_apart() {
        assert_eq!(keys("{a:.a}"), [pair("a", ".a")]);
        assert_eq!(
            keys(r#" { customer_id: .customer.id , "year" : .time|strftime("%Y, %m: \"x"), device } "#),
            [
                pair("customer_id", ".customer.id"),
                pair("year", r#".time|strftime("%Y, %m: \"x")"#),
                pair("device", ".device")
            ]
        );
        assert_eq!(
            keys(r#"{a:.["x,y:z"],b:(.c // "}")}"#),
            [pair("a", r#".["x,y:z"]"#), pair("b", r#"(.c // "}")"#)]
        );
    }

    #[test]
    fn what_is_no_object_of_queries_is_refused() {
        for text in [
            "",
            "{}",
            ".a",
            "{a:}",
            "{:.a}",
            "{a:.a,}",
            "{a:.a,a:.b}",
            "{a:(.a}",
            "{a:\"x}",
            "{a:.a)}",
            "{a b:.a}",
            "{a:.a:.b}",
        ] {
            assert!(partition_keys(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn l6_no_text_does_harm(text in r#"[{}\[\]()":,.a\\ |/ü]{0,40}"#) {
            let _ = partition_keys(&text);
        }
    }
}
