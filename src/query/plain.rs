//! The messages of the planner in plain words.

/// A message of the planner, explained.
pub(super) struct Explained {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Names in the message, to find the place.
    pub(super) names: Vec<String>,
    /// A name that does not exist.
    pub(super) sought: Option<String>,
}

impl Explained {
    fn new(message: impl Into<String>, hint: Option<String>, names: Vec<String>) -> Self {
        Self { message: message.into(), hint, names, sought: None }
    }
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

/// Returns a word in capitals if it begins a clause of a statement, so it is unlikely to be a column.
pub(super) fn keyword(name: &str) -> Option<String> {
    const BEGINNINGS: [&str; 12] =
        ["FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "SELECT", "JOIN", "ON", "AND", "OR", "UNION"];
    let upper = name.to_uppercase();
    BEGINNINGS.contains(&upper.as_str()).then_some(upper)
}

/// Returns a message of the engine without the parts that only its developers need.
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
    // This text is for reports of engine faults.
    let rest = rest.split("\n\nbacktrace:").next().unwrap_or(rest);
    let rest = rest.split("\nThis issue was likely caused by a bug").next().unwrap_or(rest);
    let mut plain = rest.replace('\n', " ");
    for (name, sql) in TYPES {
        plain = replace_word(&plain, name, sql);
    }
    let mut letters = plain.chars();
    // A message begins with a lowercase letter, unless its first word is a name.
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
    let names = names_in(message);
    let explained =
        |message: String, hint: &str| Explained::new(message, Some(hint.to_owned()), names.clone());
    if message.contains("must be in GROUP BY or an aggregate function")
        || message.contains("must appear in the GROUP BY clause")
    {
        let column = between(message, "column \"", "\" must appear").unwrap_or_default();
        let bare = column.rsplit('.').next().unwrap_or(column).trim_matches('"');
        return Explained::new(
            format!("\"{bare}\" is neither grouped nor aggregated"),
            Some(format!("add it to GROUP BY, or take one of its values, such as max({bare})")),
            vec![bare.to_owned()],
        );
    }
    if let Some(field) = between(message, "Field ", " not found in struct") {
        let message = format!("there is no field \"{field}\" in the structure");
        let explained = Explained::new(message, None, vec![field.to_owned()]);
        return Explained { sought: Some(field.to_owned()), ..explained };
    }
    if message.starts_with("Projections require unique expression names") {
        let column = between(message, "expression \"", "\" at position").unwrap_or_default();
        let column = column.rsplit(" AS ").next().unwrap_or(column);
        let name = column.rsplit('.').next().unwrap_or(column);
        return Explained::new(
            format!("two columns have the name \"{name}\""),
            Some("give one of them another name with AS".to_owned()),
            vec![name.to_owned()],
        );
    }
    if let Some(sides) = between(message, "Cannot coerce arithmetic expression ", " to valid types") {
        let sides = text(sides);
        let hint = match sides.as_str() {
            "TIMESTAMP - VARCHAR" | "TIMESTAMP + VARCHAR" => "write INTERVAL '1 hour'",
            _ => "convert one side with CAST(x AS type)",
        };
        return explained(format!("{sides} is not possible"), hint);
    }
    if message.starts_with("Cannot infer common argument type") {
        let sides = message.rsplit_once("operation ").map_or("", |(_, sides)| sides);
        return explained(
            format!("{} is not possible", text(sides)),
            "convert one side with CAST(x AS type)",
        );
    }
    if message.starts_with("Physical plan does not support logical expression AggregateFunction") {
        let hint = "GROUP BY takes columns, and an aggregate of aggregates needs an inner query";
        return Explained::new(
            "an aggregate function stands where there is none",
            Some(hint.to_owned()),
            vec![],
        );
    }
    if message.starts_with("join condition should not be empty") {
        let names = vec!["join".to_owned()];
        return Explained::new(
            "the join has no condition",
            Some("write ON or USING, or CROSS JOIN".to_owned()),
            names,
        );
    }
    if message.starts_with("Cannot automatically convert ") {
        return explained(text(message), "convert it with CAST(x AS type)");
    }
    if message.starts_with("Cannot create filter with non-boolean predicate") {
        let kind = message.rsplit_once("returning ").map_or("", |(_, kind)| kind);
        return explained(
            format!("a filter has to be a BOOLEAN, and this is {}", text(kind)),
            "compare it: x > 0",
        );
    }
    if let Some(function) = function_refused(message) {
        return function;
    }
    if message.starts_with("Order by column out of bounds") {
        let number = between(message, "specified: ", ",").unwrap_or_default();
        let count = message.rsplit_once("max: ").map_or("", |(_, count)| count);
        return Explained::new(
            format!("there is no column {number} to order by"),
            Some(format!("the SELECT has {count}")),
            vec!["order".to_owned()],
        );
    }
    if message.starts_with("UNION queries have different number of columns") {
        return explained(
            "the queries of a UNION have different numbers of columns".to_owned(),
            "select the same number in each",
        );
    }
    if message.starts_with("Too many columns! The subquery") {
        return explained(
            "a query that stands for a value returns more than one column".to_owned(),
            "select one",
        );
    }
    if message.starts_with("Unsupported SQL type ") {
        return explained(
            text(message),
            "use BOOLEAN, INTEGER, BIGINT, REAL, DOUBLE, DECIMAL(p, s), VARCHAR, VARBINARY, DATE, TIME, TIMESTAMP or INTERVAL",
        );
    }
    if let Some(part) = message
        .strip_prefix("Unsupported ast node ")
        .or_else(|| message.strip_prefix("Unsupported AST node "))
    {
        let part: String = part.chars().take_while(|c| c.is_alphanumeric()).collect();
        return Explained::new(format!("this part of SQL is not supported ({part})"), None, names);
    }
    if message.starts_with("variable [") {
        return explained("there are no variables".to_owned(), "write the value");
    }
    if message.starts_with("FETCH clause is not supported") {
        return explained("FETCH is not supported".to_owned(), "write LIMIT n");
    }
    if message.starts_with("FLOOR with datetime") || message.starts_with("CEIL with datetime") {
        return explained(
            "FLOOR and CEIL do not round times in a query".to_owned(),
            "write date_trunc('minute', x)",
        );
    }
    if let Some((message, hint)) = message.split_once(". Consider using ") {
        return explained(text(message), &format!("use {}", hint.trim_end_matches('.')));
    }
    Explained::new(text(message), None, names)
}

/// Explains why a function does not take its arguments.
fn function_refused(message: &str) -> Option<Explained> {
    let is_of_types = message.contains("failed to match any signature");
    let name = between(message, "unction '", "' failed to match")
        .or_else(|| between(message, "call to '", "' function"))
        .or_else(|| between(message, "unction '", "' expects"))
        .or_else(|| between(message, "types '", "("))?;
    let hint = match name {
        "date_bin" => "write date_bin(INTERVAL '1 minute', time)".to_owned(),
        "date_trunc" => "write date_trunc('minute', time)".to_owned(),
        _ => match message.rsplit_once(" requires ").and_then(|(_, rest)| rest.split_once(", but received "))
        {
            Some((needed, found)) => {
                let found = between(found, "DataType: ", ")").unwrap_or(found);
                format!("it needs {} and got {}; CAST(x AS type) converts", text(needed), text(found))
            }
            None => "check how many it takes, and their types; CAST(x AS type) converts".to_owned(),
        },
    };
    let counts = between(message, "expects ", " received").filter(|_| !is_of_types).map(|expected| {
        let received = message.split_once(" received ").map_or("", |(_, rest)| rest);
        let received: String = received.chars().take_while(char::is_ascii_digit).collect();
        let expected: String = expected.chars().take_while(|c| c.is_ascii_digit()).collect();
        format!("{name} takes {expected} arguments, and got {received}")
    });
    let takes = between(message, "coercion from ", " to the signature").map(text);
    let message = counts.or_else(|| Some(format!("{name} does not take ({})", takes?)));
    let message = message.unwrap_or_else(|| format!("{name} does not take these arguments"));
    Some(Explained::new(message, Some(hint), vec![name.to_owned()]))
}

/// Explains a message of a query that runs.
pub(super) fn run(message: &str) -> String {
    let plain = text(message);
    if let Some(rest) = plain.strip_prefix("cannot cast string ")
        && let Some((value, kind)) = rest.rsplit_once(" to value of ")
    {
        let kind = kind.trim_end_matches(" type");
        return format!("the text {value} is no {kind}: TRY_CAST(x AS {kind}) makes NULL of such texts");
    }
    if plain.starts_with("divide by zero") {
        return "division by zero: x / nullif(y, 0) is NULL there".to_owned();
    }
    if plain.contains("cannot access field") {
        let kind = between(&plain, "type ", " is not").unwrap_or("value");
        return format!("only a structure has fields, and this is a {kind}");
    }
    plain
}

fn between<'t>(text: &'t str, before: &str, behind: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(behind).map(|(inside, _)| inside)
}

/// Returns the names in a message: quoted text, its parts from the last to the first, and words in capitals.
fn names_in(message: &str) -> Vec<String> {
    let inside = message.split(['\'', '"', '`']).skip(1).step_by(2);
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut names: Vec<String> = Vec::new();
    for quoted in inside {
        names.push(quoted.to_owned());
        names.extend(quoted.rsplit(|c| !is_letter(c)).map(str::to_owned));
    }
    let words = message.split(|c| !is_letter(c));
    let shouted = words.filter(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase()));
    names.extend(shouted.map(str::to_owned));
    names.retain(|name| !name.is_empty());
    names
}
