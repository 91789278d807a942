//! The messages of the planner in plain words.

/// A message of the planner, explained.
pub(super) struct Explained {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Names that the message is about, to find the place.
    pub(super) names: Vec<String>,
}

/// The longest message.
const MESSAGE_CHARS_MAX: usize = 500;

/// Types as messages name them, and as SQL has them. Longer names come first.
const TYPES: [(&str, &str); 26] = [
    ("Timestamp(Microsecond, Some(\"UTC\"))", "TIMESTAMP"),
    ("Timestamp(µs, \"UTC\")", "TIMESTAMP"),
    ("Timestamp(ns, \"UTC\")", "TIMESTAMP"),
    ("Timestamp(µs)", "TIMESTAMP"),
    ("Timestamp(ns)", "TIMESTAMP"),
    ("Timestamp(ms)", "TIMESTAMP"),
    ("Timestamp(s)", "TIMESTAMP"),
    ("Interval(MonthDayNano)", "INTERVAL"),
    ("Interval(DayTime)", "INTERVAL"),
    ("Interval(YearMonth)", "INTERVAL"),
    ("LargeBinary", "VARBINARY"),
    ("BinaryView", "VARBINARY"),
    ("Binary", "VARBINARY"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8View", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("Boolean", "BOOLEAN"),
    ("Float64", "DOUBLE"),
    ("Float32", "REAL"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("UInt32", "INTEGER UNSIGNED"),
    ("Int64", "BIGINT"),
    ("Int32", "INTEGER"),
    ("Int16", "SMALLINT"),
    ("Int8", "TINYINT"),
    ("Date32", "DATE"),
];

/// What to write instead of functions that other databases have.
const INSTEAD: [(&str, &str); 16] = [
    ("ifnull", "write coalesce(x, y)"),
    ("isnull", "write x IS NULL"),
    ("iif", "write CASE WHEN condition THEN x ELSE y END"),
    ("if", "write CASE WHEN condition THEN x ELSE y END"),
    ("decode", "write CASE x WHEN a THEN b ELSE c END"),
    ("len", "write length(x)"),
    ("getdate", "write now()"),
    ("sysdate", "write now()"),
    ("dateadd", "write x + INTERVAL '1 hour'"),
    ("datediff", "subtract one from the other: x - y"),
    ("group_concat", "write string_agg(x, ',')"),
    ("listagg", "write string_agg(x, ',')"),
    ("any", "write any_value(x)"),
    ("explode", "write unnest(x)"),
    ("unix_timestamp", "write extract(epoch FROM x)"),
    ("json_extract", "write json_value(x, '$.path')"),
];

/// Returns what to write instead of a function that does not exist.
pub(super) fn function_instead(name: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(other, _)| *other == name).map(|(_, instead)| *instead)
}

/// Returns a message of the engine without what only its developers need.
pub(super) fn text(message: &str) -> String {
    const PREFIXES: [&str; 14] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "Optimizer rule ",
        "Resources exhausted: ",
        "External error: ",
        "Schema error: ",
        "type_coercion",
        "\ncaused by\n",
        "caused by\n",
        "Invalid argument error: ",
        "Cast error: ",
        "Parser error: ",
    ];
    let mut rest = message.trim();
    while let Some(stripped) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = stripped.trim_start();
    }
    // Such text is for those who report a fault of the engine.
    let rest = rest.split("\n\nbacktrace:").next().unwrap_or(rest);
    let rest = rest.split("\nThis issue was likely caused by a bug").next().unwrap_or(rest);
    let mut plain = rest.replace('\n', " ");
    for (name, sql) in TYPES {
        plain = replace_word(&plain, name, sql);
    }
    let mut letters = plain.chars();
    // A sentence begins with a small letter, unless its first word is a name.
    if let Some(first) = letters.next()
        && letters.clone().next().is_some_and(|second| second.is_lowercase() || second == ' ')
    {
        plain = first.to_lowercase().chain(letters).collect();
    }
    if plain.chars().count() > MESSAGE_CHARS_MAX {
        plain = plain.chars().take(MESSAGE_CHARS_MAX).chain(['…']).collect();
    }
    plain.trim_end_matches('.').to_owned()
}

/// Replaces a name where no other letters adjoin it.
fn replace_word(text: &str, name: &str, by: &str) -> String {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, found) = rest.split_at(at);
        let behind = &found[name.len()..];
        let is_whole = !is_part(before.chars().next_back()) && !is_part(behind.chars().next());
        replaced.push_str(before);
        replaced.push_str(if is_whole { by } else { name });
        rest = behind;
    }
    replaced + rest
}

/// Explains a message of the planner.
pub(super) fn planned(message: &str) -> Explained {
    let names = quoted_names(message);
    if message.contains("must be in GROUP BY or an aggregate function")
        || message.contains("must appear in the GROUP BY clause")
    {
        let column = between(message, "column \"", "\" must appear").unwrap_or_default();
        let bare = column.rsplit('.').next().unwrap_or(column).trim_matches('"');
        return Explained {
            message: format!("\"{bare}\" is neither grouped nor aggregated"),
            hint: Some(format!("add it to GROUP BY, or take one of its values, such as max({bare})")),
            names: vec![bare.to_owned()],
        };
    }
    Explained { message: text(message), hint: None, names }
}

fn between<'t>(text: &'t str, before: &str, behind: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(behind).map(|(inside, _)| inside)
}

/// Returns what stands in quotes in a message, and the parts of it.
fn quoted_names(message: &str) -> Vec<String> {
    let quotes = ['\'', '"', '`'];
    let inside = message.split(quotes).skip(1).step_by(2);
    let mut names: Vec<String> = Vec::new();
    for quoted in inside {
        names.push(quoted.to_owned());
        names.extend(quoted.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
    }
    names.retain(|name| !name.is_empty());
    names
}
