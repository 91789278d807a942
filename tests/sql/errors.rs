//! The error texts of statements that cannot be run.

use std::fs;

use streamlog::Stream;
use streamlog::query::{Catalog, Schema};

use crate::common;

const COLUMNS: &str = "page VARCHAR, ms DOUBLE, at TIMESTAMP, user STRUCT<id BIGINT, name VARCHAR>, tags VARCHAR[], \"userId\" BIGINT";
const RECORD: &str = r#"{"page": "x", "ms": 1.5, "at": "2026-01-01T00:00:00Z", "user": {"id": 5, "name": "n"}, "tags": ["a"], "userId": 4}"#;

#[test]
fn each_error_says_what_is_wrong_where_and_what_to_write_instead() {
    let dir = common::scratch();
    let stream = Stream::open(dir.path().join("clicks")).unwrap();
    let users = dir.path().join("users.csv");
    fs::write(&users, "id,page,name\n1,a,b\n").unwrap();
    stream.put("k", RECORD).unwrap();
    let catalog = Catalog::new().stream("clicks", &stream, Schema::json(COLUMNS).unwrap()).unwrap();
    let catalog = catalog.file("users", users).unwrap();
    let mut wrong = Vec::new();
    for (statement, expected) in ERRORS {
        match catalog.query(statement).and_then(|mut rows| rows.to_table()) {
            Ok(table) => wrong.push(format!("{statement}\nwas run:\n{table}")),
            Err(error) if error.to_string() == *expected => {}
            Err(error) => wrong.push(format!("{statement}\nwas answered with:\n{error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Statements, and their errors.
const ERRORS: &[(&str, &str)] = &[
    (
        r"SELECT pgae FROM clicks",
        r#"there is no column "pgae" in clicks: did you mean "page"?
1 | SELECT pgae FROM clicks
  |        ^^^^"#,
    ),
    (
        r"SELECT user.nmae FROM clicks",
        r#"there is no field "nmae" in the structure: did you mean "name"?
1 | SELECT user.nmae FROM clicks
  |             ^^^^"#,
    ),
    (
        r"SELECT clicks.pge FROM clicks",
        r#"there is no column "pge" in clicks: did you mean "page"?
1 | SELECT clicks.pge FROM clicks
  |        ^^^^^^^^^^"#,
    ),
    (
        r"SELECT c.page FROM clicks",
        r#"the statement reads no table "c": it reads clicks
1 | SELECT c.page FROM clicks
  |        ^"#,
    ),
    (
        r"SELECT page FROM clicks JOIN users ON clicks.page = users.page",
        r#"the column "page" is in more than one table: write the name of the table before it: table.page
1 | SELECT page FROM clicks JOIN users ON clicks.page = users.page
  |        ^^^^"#,
    ),
    (
        r"SELECT page, page FROM (SELECT page, page FROM clicks)",
        r#"two columns have the name "page": give one of them another name with AS
1 | SELECT page, page FROM (SELECT page, page FROM clicks)
  |        ^^^^"#,
    ),
    (
        r"SELECT page FROM clicks c JOIN clicks c ON true",
        r#"two tables have the name "c": give one of them another name: table AS name
1 | SELECT page FROM clicks c JOIN clicks c ON true
  |                         ^"#,
    ),
    (
        r"SELECT ms + page FROM clicks",
        r"DOUBLE + VARCHAR is not possible: convert one side with CAST(x AS type)
1 | SELECT ms + page FROM clicks
  |        ^^^^^^^^^",
    ),
    (
        r"SELECT ms + INTERVAL '1 hour' FROM clicks",
        r"cannot automatically convert DOUBLE to INTERVAL: convert it with CAST(x AS type)",
    ),
    (
        r"SELECT * FROM clicks WHERE ms",
        r"a filter has to be a BOOLEAN, and this is DOUBLE: compare it: x > 0
1 | SELECT * FROM clicks WHERE ms
  |                            ^^",
    ),
    (
        r"SELECT * FROM clicks WHERE page = 5",
        r"the query failed: the text 'x' is no BIGINT: TRY_CAST(x AS BIGINT) makes NULL of such texts",
    ),
    (
        r"SELECT * FROM clicks WHERE at > 'yesterday'",
        r"the query failed: error parsing timestamp from 'yesterday': timestamp must contain at least 10 characters",
    ),
    (
        r"SELECT avg(page) FROM clicks",
        r"avg does not take these arguments: it needs DOUBLE and got VARCHAR; CAST(x AS type) converts
1 | SELECT avg(page) FROM clicks
  |        ^^^",
    ),
    (
        r"SELECT sum(*) FROM clicks",
        r"sum takes no *: name a column; only count takes *
1 | SELECT sum(*) FROM clicks
  |        ^^^",
    ),
    (
        r"SELECT count(DISTINCT) FROM clicks",
        r"expected an expression, found )
1 | SELECT count(DISTINCT) FROM clicks
  |                      ^",
    ),
    (
        r"SELECT date_bin('1 minute') FROM clicks",
        r"date_bin does not take (VARCHAR): write date_bin(INTERVAL '1 minute', time)
1 | SELECT date_bin('1 minute') FROM clicks
  |        ^^^^^^^^",
    ),
    (
        r"SELECT page FROM clicks ORDER BY 5",
        r"there is no column 5 to order by: the SELECT has 1
1 | SELECT page FROM clicks ORDER BY 5
  |                         ^^^^^",
    ),
    (
        r"SELECT page FROM clicks LIMIT -1",
        r"LIMIT must be >= 0, '-1' was provided
1 | SELECT page FROM clicks LIMIT -1
  |                         ^^^^^",
    ),
    (
        r"SELECT page FROM clicks LIMIT page",
        r#"there is no column "page": no column can be named here
1 | SELECT page FROM clicks LIMIT page
  |                               ^^^^"#,
    ),
    (
        r"SELECT page FROM clicks UNION SELECT page, ms FROM clicks",
        r"the queries of a UNION have different numbers of columns: select the same number in each
1 | SELECT page FROM clicks UNION SELECT page, ms FROM clicks
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        r"SELECT page FROM clicks WHERE count(*) > 1",
        r"aggregate functions are not allowed in the WHERE clause: use HAVING instead
1 | SELECT page FROM clicks WHERE count(*) > 1
  |                         ^^^^^",
    ),
    (
        r"SELECT page FROM clicks WHERE ms > (SELECT ms, page FROM clicks)",
        r"a query that stands for a value returns more than one column: select one",
    ),
    (
        r"SELECT page FROM clicks GROUP BY ms",
        r#""page" is neither grouped nor aggregated: add it to GROUP BY, or take one of its values, such as max(page)
1 | SELECT page FROM clicks GROUP BY ms
  |        ^^^^"#,
    ),
    (
        r"SELECT page, count(*) FROM clicks GROUP BY page HAVING ms > 1",
        r#""ms" is neither grouped nor aggregated: add it to GROUP BY, or take one of its values, such as max(ms)
1 | SELECT page, count(*) FROM clicks GROUP BY page HAVING ms > 1
  |                                                        ^^"#,
    ),
    (
        r"SELECT CAST(page AS BLOB) FROM clicks",
        r"unsupported SQL type BLOB: use BOOLEAN, INTEGER, BIGINT, REAL, DOUBLE, DECIMAL(p, s), VARCHAR, VARBINARY, DATE, TIME, TIMESTAMP or INTERVAL
1 | SELECT CAST(page AS BLOB) FROM clicks
  |                     ^^^^",
    ),
    (
        r"SELECT CAST(page AS INTEGER) FROM clicks",
        r"the query failed: the text 'x' is no INTEGER: TRY_CAST(x AS INTEGER) makes NULL of such texts",
    ),
    (
        r"SELECT CAST('abc' AS INTEGER)",
        r"the query failed: the text 'abc' is no INTEGER: TRY_CAST(x AS INTEGER) makes NULL of such texts",
    ),
    (
        r"SELECT page FROM clicks WHERE (ms > 1",
        r"expected ), but the statement ends
1 | SELECT page FROM clicks WHERE (ms > 1
  |                                      ^",
    ),
    (
        r"SELEC page FROM clicks",
        r"expected SELECT, found SELEC: did you mean SELECT instead of SELEC?
1 | SELEC page FROM clicks
  | ^^^^^",
    ),
    (
        r"SELECT page FORM clicks",
        r"expected the end of the statement, found clicks: did you mean FROM instead of FORM?
1 | SELECT page FORM clicks
  |                  ^^^^^^",
    ),
    (
        r#"SELECT page FROM clicks WHERE page = "home""#,
        r#"there is no column "home" in clicks: a text stands between single quotes: 'home'
1 | SELECT page FROM clicks WHERE page = "home"
  |                                      ^^^^^^"#,
    ),
    (
        r"SELECT 'abc FROM clicks",
        r"unterminated string literal
1 | SELECT 'abc FROM clicks
  |        ^",
    ),
    (
        r"SELECT * FROM clicks; SELECT 1",
        r"there is more than one statement: run them one by one
1 | SELECT * FROM clicks; SELECT 1
  |                       ^^^^^^",
    ),
    (
        r"SELECT * FROM clicks clicks2 clicks3",
        r"expected the end of the statement, found clicks3
1 | SELECT * FROM clicks clicks2 clicks3
  |                              ^^^^^^^",
    ),
    (
        r"SELECT * FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE)",
        r"windows that end by themselves are for continuous queries: in a query, group by date_bin(INTERVAL '1 minute', _arrival)
1 | SELECT * FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE)
  |               ^^^^^^",
    ),
    (
        r"SELECT * FROM tumble(clicks)",
        r#"there is no table function "tumble": windows that end by themselves are for continuous queries; in a query, group by date_bin(INTERVAL '1 minute', _arrival)
1 | SELECT * FROM tumble(clicks)
  |               ^^^^^^"#,
    ),
    (
        r"SELECT step(at BY INTERVAL '60' SECOND) FROM clicks",
        r"windows that end by themselves are for continuous queries: in a query, group by date_bin(INTERVAL '1 minute', _arrival)
1 | SELECT step(at BY INTERVAL '60' SECOND) FROM clicks
  |        ^^^^",
    ),
    (
        r"SELECT STREAM page FROM clicks",
        r"SELECT STREAM is for continuous queries: leave out STREAM to read what is there
1 | SELECT STREAM page FROM clicks
  |        ^^^^^^",
    ),
    (
        r"SELECT stepp(1) FROM clicks",
        r#"there is no function "stepp": SHOW FUNCTIONS lists all of them
1 | SELECT stepp(1) FROM clicks
  |        ^^^^^"#,
    ),
    (
        r"SELECT isnull(1)",
        r#"there is no function "isnull": write x IS NULL
1 | SELECT isnull(1)
  |        ^^^^^^"#,
    ),
    (
        r"COPY clicks TO 'x.csv'",
        r"a query writes no files: read its rows, and write them as CSV or JSON
1 | COPY clicks TO 'x.csv'
  | ^^^^",
    ),
    (
        r"CREATE TABLE x (a int)",
        r"a query only reads, and the tables are those of the catalog: add the table to the catalog; CREATE STREAM and CREATE PUMP belong to continuous queries: start them as such
1 | CREATE TABLE x (a int)
  | ^^^^^^",
    ),
    (
        r"SET a = 1",
        r"a query has no settings: how much memory it may use is a setting of the catalog
1 | SET a = 1
  | ^^^",
    ),
    (
        r"DROP TABLE clicks",
        r"a query only reads, and the tables are those of the catalog: add the table to the catalog; CREATE STREAM and CREATE PUMP belong to continuous queries: start them as such
1 | DROP TABLE clicks
  | ^^^^",
    ),
    (
        r"CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        r"a query only reads, and the tables are those of the catalog: add the table to the catalog; CREATE STREAM and CREATE PUMP belong to continuous queries: start them as such
1 | CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'
  | ^^^^^^",
    ),
    (r"SELECT * FROM '/etc/passwd'", r#"there is no table "/etc/passwd": the tables are clicks, users"#),
    (
        r#"SELECT * FROM "/etc/passwd.csv""#,
        r#"there is no table "/etc/passwd.csv": the tables are clicks, users
1 | SELECT * FROM "/etc/passwd.csv"
  |               ^^^^^^^^^^^^^^^^^"#,
    ),
    (r"EXPLAIN INSERT INTO clicks SELECT 1", r"only a query can be explained: write EXPLAIN SELECT …"),
    (
        r"DESCRIBE clikcs",
        r#"there is no table "clikcs": did you mean "clicks"?
1 | DESCRIBE clikcs
  |          ^^^^^^"#,
    ),
    (
        r"DELETE FROM clicks",
        r"the records of a stream never change: retention drops them by age or size
1 | DELETE FROM clicks
  | ^^^^^^",
    ),
    (r"", r"the statement is empty: write SELECT … FROM …"),
    (
        r"SELECT * FROM clicks MATCH_RECOGNIZE (PARTITION BY page ORDER BY at MEASURES A.ms AS x PATTERN (A) DEFINE A AS ms > 1)",
        r"this part of SQL is not supported (MatchRecognize)
1 | SELECT * FROM clicks MATCH_RECOGNIZE (PARTITION BY page ORDER BY at MEASURES A.m…
  |               ^^^^^^",
    ),
    (
        r"SELECT lag(ms) FROM clicks",
        r"lag looks at other rows: write lag(…) OVER (ORDER BY …)
1 | SELECT lag(ms) FROM clicks
  |        ^^^",
    ),
    (
        r"SELECT * FROM clicks TABLESAMPLE (10)",
        r"TABLESAMPLE is not supported: write WHERE random() < 0.1
1 | SELECT * FROM clicks TABLESAMPLE (10)
  |               ^^^^^^",
    ),
    (
        r"SELECT extract(fortnight FROM at) FROM clicks",
        r"the query failed: date part 'fortnight' not supported",
    ),
    (
        r"SELECT page FROM clicks FETCH FIRST 1 ROWS ONLY",
        r"FETCH is not supported: write LIMIT n
1 | SELECT page FROM clicks FETCH FIRST 1 ROWS ONLY
  |                         ^^^^^",
    ),
    (
        r"VALUES (1, 2), (3)",
        r"inconsistent data length across values list: got 1 values in row 1 but expected 2",
    ),
    (
        r"SELECT 1 WHERE $1 = 1",
        r"there are no parameters: write the value
1 | SELECT 1 WHERE $1 = 1
  |                ^^",
    ),
    (
        r"SELECT 1 FROM clicks WHERE ms IN ('a', 1)",
        r"the query failed: the text 'a' is no DOUBLE: TRY_CAST(x AS DOUBLE) makes NULL of such texts",
    ),
    (
        r"SELECT page FROM clicks WHERE page LIKE 5",
        r"there isn't a common type to coerce VARCHAR and BIGINT in LIKE expression
1 | SELECT page FROM clicks WHERE page LIKE 5
  |                                    ^^^^",
    ),
    (r"SELECT 1 / 0", r"the query failed: division by zero: x / nullif(y, 0) is NULL there"),
    (
        r"SELECT ms / 0, 1 % 0 FROM clicks",
        r"the query failed: division by zero: x / nullif(y, 0) is NULL there",
    ),
    (
        r"SELECT arrow_cast(1, 'Foo')",
        r"the query failed: unsupported type 'Foo'. Must be a supported arrow type name such as 'INTEGER' or 'TIMESTAMP'. Error unknown token: Foo",
    ),
    (r"SELECT page.x FROM clicks", r"the query failed: only a structure has fields, and this is a VARCHAR"),
    (
        r"SELECT information_schema.tables.x FROM information_schema.tables",
        r#"the name of a table has one part: quote it if it has a dot in it: "a.b"
1 | SELECT information_schema.tables.x FROM information_schema.tables
  |                                         ^^^^^^^^^^^^^^^^^^^^^^^^^"#,
    ),
    (
        r"SELECT @@version",
        r"there are no variables: write the value
1 | SELECT @@version
  |        ^^^^^^^^^",
    ),
    (
        r"TABLE clicks",
        r"expected SELECT, found TABLE
1 | TABLE clicks
  | ^^^^^",
    ),
    (
        r"SELECT to_timestamp('x')",
        r"the query failed: error parsing timestamp from 'x': timestamp must contain at least 10 characters",
    ),
    (
        r"SELECT regexp_like(page, '(') FROM clicks",
        r"the query failed: regex parse error:     (     ^ error: unclosed group",
    ),
    (
        r"SELECT repeat(page, -1), floor(at TO MINUTE) FROM clicks",
        r"FLOOR and CEIL do not round times in a query: write date_trunc('minute', x)
1 | SELECT repeat(page, -1), floor(at TO MINUTE) FROM clicks
  |                          ^^^^^",
    ),
    (
        r"SELECT count(*) FROM clicks GROUP BY 1",
        r"an aggregate function stands where there is none: GROUP BY takes columns, and an aggregate of aggregates needs an inner query",
    ),
    (
        r"SELECT 1 FROM clicks LEFT JOIN users",
        r"the join has no condition: write ON or USING, or CROSS JOIN
1 | SELECT 1 FROM clicks LEFT JOIN users
  |                           ^^^^",
    ),
    (
        r"SELECT page FROM clicks,",
        r"expected identifier, but the statement ends
1 | SELECT page FROM clicks,
  |                         ^",
    ),
    (
        r"SELECT page FROM clicks WHERE at > now() - '1 hour'",
        r"TIMESTAMP - VARCHAR is not possible: write INTERVAL '1 hour'",
    ),
    (
        r"SELECT page FROM clicks ORDER BY",
        r"expected an expression, but the statement ends
1 | SELECT page FROM clicks ORDER BY
  |                                 ^",
    ),
    (
        r"SELECT page AS a, ms AS a FROM clicks",
        r#"two columns have the name "a": give one of them another name with AS
1 | SELECT page AS a, ms AS a FROM clicks
  |                ^"#,
    ),
    (
        r"SELECT nullif(1) FROM clicks",
        r"nullif takes 2 arguments, and got 1: check how many it takes, and their types; CAST(x AS type) converts
1 | SELECT nullif(1) FROM clicks
  |        ^^^^^^",
    ),
    (
        r"SELECT * FROM clicks WHERE page ~ 1",
        r"VARCHAR ~ BIGINT is not possible: convert one side with CAST(x AS type)",
    ),
    (
        r"SELECT json_extract(_data, '$.a') FROM clicks",
        r#"there is no function "json_extract": write json_value(x, '$.path')
1 | SELECT json_extract(_data, '$.a') FROM clicks
  |        ^^^^^^^^^^^^"#,
    ),
    (
        r"SELECT datediff(at, at) FROM clicks",
        r#"there is no function "datediff": subtract one from the other: x - y
1 | SELECT datediff(at, at) FROM clicks
  |        ^^^^^^^^"#,
    ),
    (
        r"SELECT page FROM clicks JOIN user ON true",
        r#"there is no table "user": did you mean "users"?
1 | SELECT page FROM clicks JOIN user ON true
  |                              ^^^^"#,
    ),
    (
        r"SELECT sum(avg(ms)) FROM clicks",
        r"an aggregate function stands where there is none: GROUP BY takes columns, and an aggregate of aggregates needs an inner query",
    ),
    (
        r"SELECT u.nam FROM clicks c JOIN users u ON c.page = u.page",
        r#"there is no column "nam" in u: did you mean "name"?
1 | SELECT u.nam FROM clicks c JOIN users u ON c.page = u.page
  |        ^^^^^"#,
    ),
    (
        r"SELECT max(ms) FROM clicks WHERE page BETWEEN 1",
        r"expected AND, but the statement ends
1 | SELECT max(ms) FROM clicks WHERE page BETWEEN 1
  |                                                ^",
    ),
    (
        r"SELECT tags.x FROM clicks",
        r"the query failed: only a structure has fields, and this is a List(VARCHAR)",
    ),
    (
        r"SELECT interval '1 fortnight'",
        r#"the query failed: invalid input syntax for type interval: "1 fortnight""#,
    ),
    (
        r"SELECT substr(ms, 1) FROM clicks",
        r"substr does not take these arguments: it needs string and got DOUBLE; CAST(x AS type) converts
1 | SELECT substr(ms, 1) FROM clicks
  |        ^^^^^^",
    ),
];
