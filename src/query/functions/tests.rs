//! The functions, called by SQL.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

/// Returns the first row of a query, its values separated by bars; or the error.
fn row(sql: &str) -> String {
    let session = SessionContext::new();
    super::register(&session);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { session.sql(sql).await?.collect().await });
    match batches {
        Ok(batches) => {
            let table = pretty_format_batches(&batches).unwrap().to_string();
            let row = table.lines().nth(3).unwrap_or("none");
            let row = row.strip_prefix('|').and_then(|row| row.strip_suffix('|')).unwrap_or(row);
            row.split('|').map(str::trim).collect::<Vec<_>>().join("|")
        }
        Err(error) => format!("error: {}", error.strip_backtrace()),
    }
}

#[test]
fn json_is_read_by_path() {
    let json = r#"'{"user": {"id": 7, "name": "Zoë", "tags": ["a"]}, "ok": true, "none": null}'"#;
    let value =
        |path: &str| row(&format!("SELECT json_value({json}, '{path}'), json_query({json}, '{path}')"));
    assert_eq!(value("$.user.id"), "7|");
    assert_eq!(value("$.user.name"), "Zoë|");
    assert_eq!(value("$.ok"), "true|");
    assert_eq!(value("$.none"), "|");
    assert_eq!(value("$.user.tags"), r#"|["a"]"#);
    assert_eq!(value("$.nothing"), "|");
    assert_eq!(row(&format!("SELECT json_value(arrow_cast({json}, 'Binary'), '$.user.id')")), "7");
    assert_eq!(row("SELECT json_value(NULL, '$.a')"), "");
    let error = value("user");
    assert!(error.contains("does not begin with $"), "{error}");
}

#[test]
fn times_are_subtracted_and_counted() {
    let times = "TIMESTAMP '2026-03-01T00:00:00Z', TIMESTAMP '2026-03-01T00:00:01.5Z'";
    assert_eq!(row(&format!("SELECT tsdiff({times})")), "1500");
    assert_eq!(row("SELECT unix_timestamp(TIMESTAMP '1970-01-02T00:00:00Z')"), "86400");
    assert_eq!(row("SELECT tsdiff(NULL, TIMESTAMP '1970-01-02T00:00:00Z')"), "");
}

#[test]
fn groups_of_a_pattern_are_columns_as_in_amazons_example() {
    let parse = |sector: &str| {
        row(&format!(
            "SELECT t.rec.column1, t.rec.column2
             FROM (SELECT regex_log_parse('{sector}', '.*([E].).*([R].*)') AS rec) AS t"
        ))
    };
    assert_eq!(parse("HEALTHCARE"), "EA|RE");
    assert_eq!(parse("ENERGY"), "EN|RGY");
    assert_eq!(parse("none"), "|", "what does not match is null");
    assert_eq!(row("SELECT t.r.a FROM (SELECT regex_log_parse('x=1', '(.)=(.)', 'a, b') AS r) AS t"), "x");
    let error = row("SELECT regex_log_parse('a', '(')");
    assert!(error.contains("regex_log_parse: the pattern cannot be used"), "{error}");
    let error = row("SELECT regex_log_parse('a', '(.)', 'a, b')");
    assert!(error.contains("1 groups in brackets for 2 columns"), "{error}");
    let error = row("SELECT regex_log_parse(a, b) FROM (VALUES ('a', 'b')) AS t(a, b)");
    assert!(error.contains("have to be constants"), "{error}");
}

/// The values are those of Amazon's documentation.
#[test]
fn lines_of_web_servers_have_the_columns_of_their_format() {
    let line =
        r#"192.168.254.30 - John [24/May/2004:22:01:02 -0700] "GET /icons/apache_pb.gif HTTP/1.1" 304 0"#;
    let columns = |format: &str, line: &str, count: usize| {
        let columns: Vec<String> = (1..=count).map(|number| format!("l.r.column{number}")).collect();
        let columns = columns.join(", ");
        row(&format!("SELECT {columns} FROM (SELECT w3c_log_parse('{line}', '{format}')) AS l(r)"))
    };
    let expected =
        "192.168.254.30|-|John|[24/May/2004:22:01:02 -0700]|GET /icons/apache_pb.gif HTTP/1.1|304|0";
    assert_eq!(columns("COMMON", line, 7), expected);
    assert_eq!(columns(r#"%h %l %u %t \"%r\" %>s %b"#, line, 7), expected);
    assert_eq!(columns(r#"%h %l %u [%t] "%r" %>s %b"#, line, 7), expected.replace(['[', ']'], ""));
    let extended = format!(r#"{line} "http://a/b c" "Mozilla/5.0 (\"X11\")""#);
    let expected = format!(r#"{expected}|http://a/b c|Mozilla/5.0 (\"X11\")"#);
    assert_eq!(columns("COMBINED", &extended, 9), expected);
    assert_eq!(columns("NCSA EXTENDED", &extended, 9), expected);
    assert_eq!(columns("COMMON", "something else", 7), "||||||");
    assert_eq!(columns("AGENT", "Mozilla/5.0 (X11)", 1), "Mozilla/5.0 (X11)");
    assert_eq!(columns("REFERER", "http://a ---> /b", 2), "http://a|/b");
    let refused = [
        ("IIS", "not supported"),
        ("%y", "unknown directive"),
        ("none", "no directive"),
        ("%[x", "without an end"),
    ];
    for (format, reason) in refused {
        let error = columns(format, line, 1);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn fields_of_lines_have_types() {
    let fixed = r#"fixed_column_log_parse('0017 Zoë    12.50', 'id TYPE INTEGER START 0 FOR 4,
        "Name" TYPE VARCHAR(6) NOT NULL START 5 FOR 3, price TYPE DECIMAL(10, 2) START 9')"#;
    let sql = format!("SELECT t.r.id + 1, t.r['Name'], t.r.price FROM (SELECT {fixed} AS r) AS t");
    assert_eq!(row(&sql), "18|Zoë|12.50");
    let value = |arguments: &str, columns: &str| {
        row(&format!("SELECT {columns} FROM (SELECT variable_column_log_parse({arguments}) AS r) AS t"))
    };
    assert_eq!(value("'a,b', 2, ','", "t.r.column1, t.r.column2"), "a|b");
    assert_eq!(value("'a', '3', ','", "t.r.column1, t.r.column3"), "a|", "what is missing is null");
    let columns = "'id TYPE BIGINT, name TYPE VARCHAR'";
    assert_eq!(value(&format!("'7;x', {columns}, ';'"), "t.r.id * 2, t.r.name"), "14|x");
    let is_no_number = value(&format!("'x;y', {columns}, ';'"), "t.r.id, t.r.name");
    assert_eq!(is_no_number, "|y", "what is no number is null");
    assert_eq!(value(r#"'a\,b,"c,d"', 2, ',', '\', '"'"#, "t.r.column1, t.r.column2"), "a,b|c,d");
    let refused = [
        ("'a'", "it takes a text, the columns"),
        ("'a', 'id', ','", "write it as name TYPE"),
        ("'a', 'id TYPE FISH', ','", "FISH is not known"),
        ("'a', 'at TYPE TIMESTAMP \"dd/MM\"', ','", "formats are not supported"),
        ("'a', 2000, ','", "there may be 1000"),
        ("'a', 2, ''", "the delimiter is empty"),
    ];
    for (arguments, reason) in refused {
        let error = value(arguments, "t.r");
        assert!(error.contains(reason), "{error}");
    }
    let error = row("SELECT fixed_column_log_parse('a', 'id TYPE INTEGER')");
    assert!(error.contains("has no START"), "{error}");
}

#[test]
fn lines_of_syslog_have_a_time_and_a_message() {
    let parse = |line: &str| {
        row(&format!("SELECT t.r.column1, t.r.column2 FROM (SELECT sys_log_parse('{line}') AS r) AS t"))
    };
    assert_eq!(parse("Oct 11 22:14:15 mymachine su: failed"), "Oct 11 22:14:15|mymachine su: failed");
    assert_eq!(parse("<34>Oct  1 22:14:15 host x"), "Oct  1 22:14:15|host x");
    assert_eq!(parse("something else"), "|");
}

#[test]
fn a_forest_scores_the_last_row_of_each_window() {
    let scores = |rows: &str, window: &str| {
        let values = format!("(VALUES {rows}) AS t(n, a, b)");
        let scored =
            format!("SELECT n, round(random_cut_forest(a, b) OVER ({window}), 2) AS s FROM {values}");
        row(&format!("SELECT array_to_string(array_agg(s ORDER BY n), ' ', '-') FROM ({scored})"))
    };
    let alike = "(1, 5, 5.0), (2, 5, 5.0), (3, 5, 5.0)";
    assert_eq!(scores(alike, "ORDER BY n ROWS 9 PRECEDING"), "0 0 0");
    // However the box is cut, three points are left beside the fourth.
    assert_eq!(scores(&format!("{alike}, (4, 6, 5.0)"), "ORDER BY n ROWS 9 PRECEDING"), "0 0 0 3");
    assert_eq!(scores(&format!("{alike}, (4, 6, 5.0)"), "ORDER BY n ROWS 2 PRECEDING"), "0 0 0 2");
    // A value that is not a number is compared with nothing.
    let some = "(1, 5, 5.0), (2, 5, NULL), (3, NULL, 5.0), (4, 6, 'NaN'::double), (5, 6, 'inf'::double), (6, 6, -0.0), (7, 6, 0.0)";
    assert_eq!(scores(some, "ORDER BY n ROWS 9 PRECEDING"), "0 - - - - 1 0.5");

    let refused = |sql: &str, why: &str| {
        let error = row(sql);
        assert!(error.starts_with("error: ") && error.contains(why), "{error}");
    };
    refused("SELECT random_cut_forest(1)", "write OVER (ORDER BY … ROWS 255 PRECEDING)");
    refused("SELECT random_cut_forest('a') OVER (ROWS 3 PRECEDING)", "takes one number or more");
    refused("SELECT random_cut_forest() OVER (ROWS 3 PRECEDING)", "takes one number or more");
    let long = |rows| {
        let scored = "random_cut_forest(1, value > 1000)";
        format!(
            "SELECT {scored} OVER (ORDER BY value ROWS {rows} PRECEDING) FROM generate_series(1, 1003) ORDER BY value DESC"
        )
    };
    assert_eq!(row(&long(999)), "0.0");
    refused(&long(1_000), "has at most 1000 rows");
}
