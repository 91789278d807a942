//! SQL from the command line.

use super::*;

#[test]
#[cfg(not(feature = "sql"))]
fn a_tool_without_sql_says_so() {
    let place = Place::create(&[]);
    fails(&place.run("sql", &["SELECT 1"]), &["built without SQL", "--features sql"]);
}

#[cfg(feature = "sql")]
mod with_sql {
    use std::os::unix::process::ExitStatusExt;
    use std::sync::{Arc, Mutex};

    use super::*;

    const CLICKS: &str = "\
        {\"page\":\"/\",\"ms\":12.5,\"user\":1}\n\
        {\"page\":\"/cart\",\"ms\":80,\"user\":2}\n\
        {\"page\":\"/\",\"ms\":7.5,\"user\":2}\n";
    /// Reads 10^18 rows, so that it never ends by itself.
    const ENDLESS: &str =
        "SELECT count(*) FROM n a, n b, n c, n d, n e, n f WHERE a._data < b._data AND c._data < d._data";

    fn clicks() -> Place {
        let place = Place::create(&["--shards", "2"]);
        succeeds(&place.put(CLICKS.as_bytes(), &[]));
        place
    }

    /// A stream of 1,000 lines under the name `n`.
    fn numbers() -> (Place, String) {
        let place = Place::create(&[]);
        let lines: String = (0..1_000).map(|number| format!("{number}\n")).collect();
        succeeds(&place.put(lines.as_bytes(), &[]));
        let table = format!("n={}", place.stream().display());
        (place, table)
    }

    fn out(output: &Output) -> String {
        succeeds(output);
        String::from_utf8(output.stdout.clone()).unwrap()
    }

    fn sql(arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(tool());
        command.arg("sql").args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        ends(child)
    }

    #[test]
    fn a_statement_prints_a_table_csv_or_json_lines() {
        let place = clicks();
        let statement = "SELECT page, count(*) AS n, sum(ms) AS ms FROM stream GROUP BY page ORDER BY n DESC";
        let output = place.run("sql", &[statement]);
        let table = "\
            +-------+---+------+\n\
            | page  | n | ms   |\n\
            +-------+---+------+\n\
            | /     | 2 | 20.0 |\n\
            | /cart | 1 | 80.0 |\n\
            +-------+---+------+\n";
        assert_eq!(out(&output), table);
        assert_eq!(
            stderr(&output),
            "streamlog: the columns of stream are those of its first records: --schema 'page VARCHAR, ms DOUBLE, user BIGINT'\n"
        );
        // The inferred columns can be passed as a schema.
        let columns = ["--schema", "page VARCHAR, ms DOUBLE, user BIGINT"];
        let given = |format| place.run("sql", &[&columns[..], &["--format", format, statement]].concat());
        let output = given("table");
        assert_eq!((out(&output), stderr(&output)), (table.to_owned(), String::new()));
        assert_eq!(
            out(&given("lines")),
            "-[ row 1 ]--------------\npage | /\nn    | 2\nms   | 20.0\n\
             -[ row 2 ]--------------\npage | /cart\nn    | 1\nms   | 80.0\n"
        );
        let text = "SELECT 'a' || chr(10) || 'b' AS text, 1 AS n";
        assert_eq!(
            place.print("sql", &[&columns[..], &["--format", "lines", text]].concat()),
            "-[ row 1 ]--------------\ntext | a\n     | b\nn    | 1\n"
        );
        assert_eq!(out(&given("csv")), "page,n,ms\n/,2,20.0\n/cart,1,80.0\n");
        assert_eq!(
            out(&given("json")),
            "{\"page\":\"/\",\"n\":2,\"ms\":20.0}\n{\"page\":\"/cart\",\"n\":1,\"ms\":80.0}\n"
        );
    }

    #[test]
    fn what_is_there_is_described_and_explained() {
        let place = clicks();
        let shown = place.print("sql", &["--format", "csv", "SHOW TABLES; DESCRIBE stream;"]);
        assert!(shown.starts_with("table_name,source\nstream,stream\ncolumn_name,"), "{shown}");
        assert!(shown.contains("\n_sequence,BIGINT UNSIGNED,false\n"), "{shown}");
        assert!(shown.contains("\nms,DOUBLE,true\n"), "{shown}");
        assert_eq!(
            place.print("sql", &["--format", "csv", "\\d stream"]),
            shown[shown.find("column_name").unwrap()..]
        );
        let explained = place.print("sql", &["EXPLAIN SELECT page FROM stream WHERE _shard = 1"]);
        assert!(explained.contains("plan_type") && explained.contains("_shard"), "{explained}");
    }

    #[test]
    fn several_streams_and_files_are_joined_under_names_that_need_no_quotes() {
        let place = clicks();
        let users = place.directory.path().join("all users.csv");
        std::fs::write(&users, "id,name\n1,Ada\n2,Grace\n").unwrap();
        let json = place.directory.path().join("pages.json");
        std::fs::write(&json, "{\"path\":\"/\",\"title\":\"Home\"}\n").unwrap();
        let orders = place.directory.path().join("2026-orders.v2");
        succeeds(&Command::new(tool()).arg("create").arg(&orders).output().unwrap());
        Stream::open(&orders).unwrap().put("k", "1;9.99").unwrap();
        let stream = place.stream();
        let [clicks, users, orders, json] =
            [&stream, &users, &orders, &json].map(|path| path.to_str().unwrap());
        let statement = "SELECT name, title, price FROM c JOIN all_users u ON u.id = c.user \
            JOIN p ON path = page JOIN _2026_orders_v2 o ON o.buyer = u.id";
        let tables = [&format!("c={clicks}"), users, orders, &format!("p={json}")];
        let columns = [
            "--schema",
            "c=page VARCHAR, user BIGINT",
            "--csv-columns",
            "_2026_orders_v2=buyer BIGINT, price DECIMAL(6, 2)",
            "--csv-delimiter",
            ";",
        ];
        let output = sql(&[&tables[..], &columns, &["--format", "csv", statement]].concat(), "");
        assert_eq!(
            (out(&output), stderr(&output)),
            ("name,title,price\nAda,Home,9.99\n".to_owned(), String::new())
        );

        let refused = |arguments: &[&str], parts: &[&str]| fails(&sql(arguments, ""), parts);
        refused(&[clicks, clicks, "SELECT 1"], &["two tables are named stream", "NAME=PATH"]);
        let both = [&format!("a={clicks}"), orders];
        refused(
            &[&both[..], &["--schema", "ms DOUBLE", "SELECT 1"]].concat(),
            &["for which stream: --schema a='...', or --schema _2026_orders_v2='...'"],
        );
        refused(
            &[clicks, "--schema", "b=ms DOUBLE", "SELECT 1"],
            &["columns for b, which is no stream here"],
        );
        refused(
            &[clicks, "--schema", "ms DOBLE", "SELECT 1"],
            &["--schema: column ms: the type DOBLE is unknown"],
        );
        refused(&["SELECT 1", clicks], &["the statement goes behind the tables: SELECT 1"]);
        refused(&["/nowhere/clicks", "SELECT 1"], &["/nowhere/clicks is not a stream"]);
        refused(
            &[clicks, "--archive", "/nowhere", orders, "SELECT 1"],
            &["an archive is that of one stream"],
        );
    }

    #[test]
    fn a_statement_that_is_wrong_is_shown_with_the_place() {
        let place = clicks();
        let output = place.run("sql", &["--raw", "SELECT _key\nFROM strem"]);
        fails(&output, &[]);
        assert_eq!(
            stderr(&output),
            "streamlog: there is no table \"strem\": did you mean \"stream\"?\n2 | FROM strem\n  |      ^^^^^\n"
        );
        assert_eq!(output.stdout, b"");
        fails(&place.run("sql", &["--raw", "DELETE FROM stream"]), &["the records of a stream never change"]);
        fails(&place.run("sql", &["--raw", "\\what"]), &["is no command of the shell"]);
        // One that fails while it runs.
        let statement = "SELECT 1 / (_sequence - _sequence) FROM stream";
        fails(&place.run("sql", &["--raw", statement]), &["the query failed"]);
    }

    #[test]
    fn records_that_do_not_fit_are_left_out_and_counted() {
        let place = clicks();
        succeeds(&place.put(b"{\"ms\":\"soon\"}\nno json\n", &["--key", "k"]));
        let columns = ["--schema", "ms DOUBLE"];
        let output = place
            .run("sql", &[&columns[..], &["--format", "csv", "SELECT count(ms) AS n FROM stream"]].concat());
        assert_eq!(out(&output), "n\n3\n");
        let told = stderr(&output);
        assert!(
            told.starts_with("streamlog: note: 2 records left out, which do not fit the columns: "),
            "{told}"
        );
        assert!(told.contains(" in stream: ") && told.lines().count() == 1, "{told}");
        // A query that asks for no data column sees all records.
        let output = place
            .run("sql", &[&columns[..], &["--format", "csv", "SELECT count(*) AS n FROM stream"]].concat());
        assert_eq!((out(&output), stderr(&output)), ("n\n5\n".to_owned(), String::new()));
    }

    #[test]
    fn data_that_is_no_json_can_be_read_as_it_is() {
        let place = Place::create(&[]);
        let output = place.run("sql", &["SELECT count(*) FROM stream"]);
        succeeds(&output);
        assert!(stderr(&output).contains("stream has no records yet"), "{}", stderr(&output));
        let log = "::1 - ada [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 512\n";
        succeeds(&place.put(log.as_bytes(), &[]));
        let statement = "SELECT l.column3 AS who, CAST(l.column6 AS INTEGER) AS status \
            FROM (SELECT w3c_log_parse(CAST(_data AS VARCHAR), 'COMMON') AS l FROM stream)";
        for (options, is_told) in [(&[][..], true), (&["--raw"], false)] {
            let output = place.run("sql", &[options, &["--format", "csv", statement]].concat());
            assert_eq!(out(&output), "who,status\nada,200\n");
            assert_eq!(
                stderr(&output).contains("stream has its data as _data only"),
                is_told,
                "{}",
                stderr(&output)
            );
        }
    }

    #[test]
    fn l8_a_stream_that_a_program_has_open_is_seen_as_it_is_and_stays_so() {
        let place = Place::create(&[]);
        let options = streamlog::StreamOptions::new().maintenance(streamlog::Maintenance::Manual);
        let stream = options.open(place.stream()).unwrap();
        for count in 0..3 {
            let before = beside::files_of(&place);
            let statement = ["--raw", "--format", "csv", "SELECT count(*) AS n FROM stream"];
            assert_eq!(place.print("sql", &statement), format!("n\n{count}\n"));
            assert!(beside::files_of(&place) == before, "who reads changes nothing");
            stream.put("k", "x").unwrap();
        }
    }

    #[test]
    fn a_table_has_as_many_rows_as_are_asked_for_and_says_if_there_are_more() {
        let (_place, table) = numbers();
        let statement = "SELECT _sequence FROM n ORDER BY 1";
        let shown = |rows: &str| {
            let output = sql(&[&table, "--raw", "--max-rows", rows, statement], "");
            (out(&output).lines().count() - 4, stderr(&output))
        };
        assert_eq!(shown("1000"), (1_000, String::new()));
        let (count, told) = shown("7");
        assert_eq!(count, 7);
        assert!(told.contains("these are the first 7 rows: --max-rows"), "{told}");
        let output = sql(&[&table, "--raw", "--max-rows", "7", "--format", "csv", statement], "");
        assert_eq!(out(&output).lines().count(), 1_001, "other formats have all");
    }

    #[test]
    fn statements_come_from_standard_input_up_to_the_first_that_fails() {
        let place = clicks();
        let stream = place.stream();
        let options = [stream.to_str().unwrap(), "--schema", "page VARCHAR", "--format", "csv"];
        let script = "-- how many; really\n\
            SELECT count(*) AS n, ';' AS \"a;b\" /* ; */\nFROM stream;\n\\d\n\
            SELECT 1 AS one; SELECT 2 AS two\n";
        let printed = "n,a;b\n3,;\ntable_name,source\nstream,stream\none\n1\ntwo\n2\n";
        assert_eq!(out(&sql(&options, script)), printed);
        assert_eq!(out(&sql(&options, "SELECT 1 AS one;\n\\q\nSELECT 2 AS two;")), "one\n1\n");
        assert_eq!(out(&sql(&options, "")), "");
        let output = sql(&options, "SELECT 1 AS one;\nSELECT pgae FROM stream;\nSELECT 2 AS two;\n");
        fails(&output, &["did you mean \"page\"?", "1 | SELECT pgae FROM stream"]);
        assert_eq!(output.stdout, b"one\n1\n");
    }

    #[test]
    fn ctrl_c_ends_a_query_that_would_take_forever() {
        let (_place, table) = numbers();
        let mut command = Command::new(tool());
        command.args(["sql", &table, "--raw", "--format", "csv"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Once the first statement is answered, signals are handled.
        let mut input = child.stdin.take().unwrap();
        write!(input, "SELECT 1 AS one;\n{ENDLESS};\n").unwrap();
        let mut answer = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"one\n1\n");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = ends(child);
        assert_eq!((output.status.code(), output.status.signal()), (Some(130), None), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }

    #[test]
    fn watch_prints_the_rows_of_records_that_come_until_ctrl_c() {
        let place = Place::create(&[]);
        let stream = Stream::open(place.stream()).unwrap();
        let watch = |statement: &str, options: &[&str]| {
            let mut command = place.command("sql", &["--schema", "ms BIGINT", "--watch", "--format", "csv"]);
            command
                .args(options)
                .arg(statement)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let shown = |child: &mut Child, text: &str| {
            let mut bytes = vec![0; text.len()];
            child.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        };
        let stop = |child: Child| {
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
            let output = ends(child);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{}", stderr(&output));
            stderr(&output)
        };
        let put = |data: &str| {
            stream.put("k", data).unwrap();
        };
        put("{\"ms\": 1}");
        put("{\"ms\": 20}");
        // Existing rows first, then new ones, also while a program has the stream open.
        let statement = "SELECT ms * 2 AS twice FROM stream WHERE ms > 5";
        let mut child = watch(statement, &["--from", "horizon"]);
        shown(&mut child, "twice\n40\n");
        put("{\"ms\": 2}");
        put("no json");
        put("{\"ms\": 30}");
        shown(&mut child, "60\n");
        let told = stop(child);
        assert!(told.contains("note: 1 record left out"), "{told}");
        // Without a name it starts over, and with one it continues where it was.
        let mut child = watch(statement, &["--from", "horizon"]);
        shown(&mut child, "twice\n40\n60\n");
        stop(child);
        let named = format!("INSERT INTO slow {statement}");
        let mut child = watch(&named, &["--from", "horizon"]);
        shown(&mut child, "twice\n40\n60\n");
        stop(child);
        put("{\"ms\": 40}");
        let mut child = watch(&named, &["--from", "horizon"]);
        shown(&mut child, "twice\n80\n");
        stop(child);

        let refused = |statement: &str, parts: &[&str]| {
            let output = ends(watch(statement, &[]));
            fails(&output, parts);
            stderr(&output)
        };
        let told = refused("SELECT mss FROM stream", &["mss"]);
        assert!(told.contains("\n1 | SELECT mss FROM stream\n"), "{told}");
        fails(&place.run("sql", &["--raw", "--watch"]), &["--watch needs one statement"]);
    }

    #[test]
    fn watch_prints_a_window_when_it_ends() {
        let place = clicks();
        let statement = "SELECT page, count(*) AS n \
            FROM TABLE(TUMBLE(TABLE stream, DESCRIPTOR(_arrival), INTERVAL '1' SECOND)) \
            GROUP BY page, window_start, window_end";
        let mut command = place.command("sql", &["--schema", "page VARCHAR", "--watch", "--from", "horizon"]);
        command.args(["--format", "json", statement]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut rows = vec![String::new(), String::new()];
        for row in &mut rows {
            stdout.read_line(row).unwrap();
        }
        rows.sort();
        assert_eq!(rows, ["{\"page\":\"/\",\"n\":2}\n", "{\"page\":\"/cart\",\"n\":1}\n"]);
        // The reader of the output is gone.
        drop(stdout);
        succeeds(&ends(child));
    }

    #[test]
    fn the_reader_of_a_pipe_may_close_it() {
        let (_place, table) = numbers();
        let script = "\"$0\" sql \"$1\" --raw --format \"$2\" 'SELECT a._sequence FROM n a, n b' | head -n 2";
        for format in ["csv", "json"] {
            let output =
                Command::new("sh").args(["-c", script]).arg(tool()).args([&*table, format]).output().unwrap();
            assert_eq!((out(&output).lines().count(), stderr(&output)), (2, String::new()));
        }
        let closed = "\"$0\" sql \"$1\" --raw 'SELECT 1' >/dev/full";
        let output = Command::new("sh").args(["-c", closed]).arg(tool()).arg(&table).output().unwrap();
        fails(&output, &["cannot write to standard output: "]);
    }

    /// The shell in its own terminal, made by `script`.
    struct Terminal {
        child: Child,
        input: Option<std::process::ChildStdin>,
        shown: Arc<Mutex<String>>,
        /// How much of the output was already checked.
        seen: usize,
    }

    impl Terminal {
        /// Returns `None` if `script` is not available.
        fn start(arguments: &[&str], state: &Path) -> Option<Self> {
            // Without `exec`, some shells wait for the tool, and handle its Ctrl-C themselves.
            let mut line = format!("stty cols 100 rows 40; exec '{}' sql", tool().display());
            arguments.iter().for_each(|argument| line += &format!(" '{argument}'"));
            let mut command = Command::new("script");
            command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
            command.env("XDG_STATE_HOME", state).env("TERM", "xterm").env_remove("NO_COLOR");
            let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let mut child = match child {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    eprintln!("skipped: there is no `script`");
                    return None;
                }
                child => child.unwrap(),
            };
            let shown = Arc::new(Mutex::new(String::new()));
            let (mut output, showing) = (child.stdout.take().unwrap(), Arc::clone(&shown));
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut bytes) {
                    *showing.lock().unwrap() += &String::from_utf8_lossy(&bytes[..count]);
                }
            });
            let input = child.stdin.take();
            Some(Self { child, input, shown, seen: 0 })
        }

        fn types(&mut self, keys: &str) {
            self.input.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
        }

        /// Waits until the terminal shows a text, after its earlier output.
        fn shows(&mut self, text: &str) {
            let found = || self.shown.lock().unwrap()[self.seen..].find(text);
            let is_shown = comes_true(|| found().is_some());
            assert!(
                is_shown,
                "no {text:?} in {:?}",
                self.shown.lock().map(|shown| shown[self.seen..].to_owned())
            );
            self.seen += found().unwrap() + text.len();
        }

        /// Types something until the terminal shows a text.
        fn insists(&mut self, keys: &str, text: &str) {
            let seen = self.seen;
            let mut late = Instant::now();
            let shown = Arc::clone(&self.shown);
            assert!(
                comes_true(|| {
                    let is_shown = shown.lock().unwrap()[seen..].contains(text);
                    if !is_shown && Instant::now() >= late {
                        late = Instant::now() + Duration::from_secs(3);
                        self.types(keys);
                    }
                    is_shown
                }),
                "no {text:?} in {:?}",
                shown.lock().map(|shown| shown[seen..].to_owned())
            );
            self.shows(text);
        }

        fn ends(mut self) {
            assert!(comes_true(|| self.child.try_wait().unwrap().is_some()), "it does not end");
            assert_eq!(self.child.wait().unwrap().code(), Some(0));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_shell_edits_completes_remembers_and_goes_on() {
        use std::os::unix::fs::PermissionsExt;

        let place = clicks();
        let (_numbers, table) = numbers();
        let state = place.directory.path().join("state");
        let stream = place.stream();
        let arguments = [stream.to_str().unwrap(), &table, "--schema", "stream=page VARCHAR, ms DOUBLE"];
        let Some(mut terminal) = Terminal::start(&arguments, &state) else { return };
        terminal.shows("n has its data as _data only");
        terminal.shows("\\? lists the commands");
        terminal.shows("sql> ");
        // Keywords, columns and tables are completed; the statement ends in its second line.
        terminal.types("SEL\tpag\t AS p\r");
        terminal.types("FROM stre\t WHERE ms > 70;\r");
        terminal.shows("| /cart |");
        terminal.shows("1 row in ");
        terminal.shows("sql> ");
        // An error, and then the next statement.
        terminal.types("SELECT pgae FROM stream;\r");
        terminal.shows("did you mean \"page\"?");
        terminal.shows("^^^^");
        terminal.shows("sql> ");
        terminal.types("\\d stream\r");
        terminal.shows("| ms          | DOUBLE");
        terminal.shows("sql> ");
        // Ctrl-C ends a statement that runs. One that comes too early only clears the line.
        terminal.types(&format!("{ENDLESS};\r"));
        terminal.insists("\x03", "streamlog: stopped");
        terminal.insists("SELECT 6 * 6 AS there;\r", "| 36    |");
        terminal.shows("sql> ");
        // Rows that are too wide for the terminal have a line for each column. Nothing in them moves the cursor.
        terminal.types("SELECT chr(27) AS esc, repeat('x', 300) AS wide, CAST(NULL AS INT) AS void;\r");
        terminal.shows("-[ row 1 ]-");
        terminal.shows("esc  | \u{fffd}\r\n");
        terminal.shows("void | NULL");
        terminal.shows("sql> ");
        // A command entered while a statement is written does not discard it.
        terminal.types("SELECT 6 *\r\\?\r");
        terminal.shows("ends the shell");
        terminal.shows("sql> ");
        terminal.types("7 AS answer;\r");
        terminal.shows("| 42     |");
        terminal.shows("sql> ");
        // Type-ahead is not lost.
        terminal.types("\\format json\rSELECT 1 AS one;\r");
        terminal.shows("{\"one\":1}");
        terminal.shows("sql> ");
        terminal.types("\x04");
        terminal.ends();

        // The next session has the history.
        let history = state.join("streamlog/sql_history");
        assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
        let mut terminal = Terminal::start(&arguments, &state).unwrap();
        terminal.shows("sql> ");
        // Up, Enter.
        terminal.types("\x1b[A\r");
        terminal.shows("| one |");
        terminal.shows("sql> ");
        terminal.types("exit\r");
        terminal.ends();
    }
}
