//! Tests of the page's files: their headers, and that they contain nothing that the policy would refuse.

use hyper::header::{HeaderName, HeaderValue};

use super::*;

fn get(path: &str) -> Option<Answer> {
    file(path, &HeaderMap::new())
}

fn header(answer: &Answer, name: HeaderName) -> &str {
    answer.headers[name].to_str().unwrap()
}

#[test]
fn each_file_has_its_type_and_the_policy() {
    for file in FILES {
        let answer = get(&format!("/console/{}", file.name)).unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(header(&answer, X_CONTENT_TYPE_OPTIONS), "nosniff");
        let policy = header(&answer, CONTENT_SECURITY_POLICY);
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
        {
            assert!(policy.split("; ").any(|it| it == part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let expected = match file.name.rsplit_once('.').unwrap().1 {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "js" => "text/javascript; charset=utf-8",
            other => panic!("{other} has no type"),
        };
        assert_eq!(header(&answer, CONTENT_TYPE), expected);
    }
}

#[test]
fn only_files_of_the_page_are_there() {
    for path in ["/console", "/console/", "/console/index.html"] {
        assert_eq!(header(&get(path).unwrap(), CONTENT_TYPE), "text/html; charset=utf-8", "{path}");
    }
    for path in [
        "/",
        "/consoles",
        "/console/x.js",
        "/console//main.js",
        "/console/../main.js",
        "/console/%6dain.js",
        "/Console",
        "/console/main.js/",
    ] {
        assert!(get(path).is_none(), "{path}");
    }
}

#[test]
fn a_browser_that_has_a_file_does_not_get_it_again() {
    let tag = get("/console/main.js").unwrap().headers[ETAG].clone();
    let ask =
        |tag: HeaderValue| file("/console/main.js", &HeaderMap::from_iter([(IF_NONE_MATCH, tag)])).unwrap();
    let Answer { status, body: Body::Whole(body), .. } = ask(tag) else { panic!("events") };
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(ask(HeaderValue::from_static("\"other\"")).status, StatusCode::OK);
}

#[test]
fn what_the_page_knows_first_is_no_secret() {
    let answer = server("eu-west-1", true, false, Limits::kinesis());
    let Body::Whole(body) = answer.body else { panic!("events") };
    let known: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(known["region"], "eu-west-1");
    assert_eq!((&known["needsKey"], &known["hasSql"]), (&true.into(), &false.into()));
    assert_eq!(known["limits"]["writeBytes"], 1 << 20);
}

/// The policy refuses scripts and styles in the page itself, and this project forbids code that would parse a record as HTML.
#[test]
fn nothing_in_the_page_is_refused_or_parses_what_it_shows() {
    for file in FILES {
        let text = file.text;
        if file.name.ends_with(".html") {
            for tag in text.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default()) {
                let lower = tag.to_lowercase();
                let is_inline =
                    |name: &str| lower.split_whitespace().any(|attribute| attribute.starts_with(name));
                assert!(!is_inline("on") && !is_inline("style="), "{}: <{tag}>", file.name);
                assert!(!lower.starts_with("style"), "{}: <{tag}>", file.name);
                assert!(
                    !lower.starts_with("script") || lower.contains("src=\"/console/"),
                    "{}: <{tag}>",
                    file.name
                );
            }
        }
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "eval(",
            "new Function",
            "javascript:",
            "setTimeout('",
            ".style",
            "'style'",
        ] {
            assert!(!text.contains(word), "{} has {word}", file.name);
        }
        let from_elsewhere = text.match_indices("//").filter(|(at, _)| text[..*at].ends_with(':'));
        for (at, _) in from_elsewhere {
            let rest = &text[at..text.len().min(at + 30)];
            let is_known = rest.starts_with("//www.w3.org/")
                || rest.starts_with("//127.0.0.1")
                || rest.starts_with("//localhost");
            assert!(is_known, "{} names another host: {rest}", file.name);
        }
    }
}

#[test]
fn all_modules_that_are_imported_are_served() {
    for file in FILES.iter().filter(|file| file.name.ends_with(".js")) {
        for line in
            file.text.lines().filter(|line| line.starts_with("import ") || line.starts_with("} from "))
        {
            let name = line.split("'./").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
            assert!(FILES.iter().any(|other| other.name == name), "{}: {line}", file.name);
        }
    }
}
