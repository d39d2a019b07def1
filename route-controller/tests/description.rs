//! The admin API's description names every route and nothing else, and what it names is there. Whether answers are what it
//! says is for schemathesis (`tests/e2e/schemathesis.rs`), which draws requests from it.

mod common;

use common::Overlay;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

fn description() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).expect("JSON")
}

/// Method and path of every operation that the description names.
fn described() -> BTreeSet<(String, String)> {
    let document = description();
    let paths = document["paths"].as_object().expect("an object");
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("an object");
        methods.keys().map(move |method| (method.clone(), path.clone()))
    });
    operations.collect()
}

/// The same of every route, as the router's source has them.
fn routed() -> BTreeSet<(String, String)> {
    let source = include_str!("../src/admin.rs");
    let mut found = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let (path, rest) = route.trim_start().trim_start_matches('"').split_once('"').expect("a path");
        let handlers = rest.lines().next().unwrap_or_default();
        for method in METHODS.iter().filter(|method| handlers.contains(&format!("{method}("))) {
            found.insert(((*method).to_owned(), path.to_owned()));
        }
    }
    found
}

#[test]
fn every_route_is_described_and_no_other() {
    assert!(routed().len() > 10, "routes are found: {:?}", routed());
    assert_eq!(routed(), described());
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_may_be_refused() {
    let document = description();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    for (method, path) in described().into_iter().filter(|(_, path)| path.starts_with("/v1/")) {
        let responses = &document["paths"][&path][&method]["responses"];
        for status in ["401", "403"] {
            assert!(responses[status].is_object(), "{method} {path} does not describe {status}");
        }
    }
}

#[tokio::test]
async fn the_controller_serves_it_and_answers_every_list_that_it_names() {
    let overlay = Overlay::start().await;
    let address = overlay.controller.admin_address();
    let get = move |path: &str| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    };
    let asked = tokio::task::spawn_blocking(move || {
        let document = description();
        let asks_back = |path: &str| {
            let parameters = document["paths"][path]["get"]["parameters"].as_array();
            parameters.is_some_and(|all| all.iter().any(|parameter| parameter["required"] == true))
        };
        let lists = described().into_iter().filter(|(method, path)| method == "get" && !asks_back(path));
        lists.map(|(_, path)| (get(&path), path)).collect::<Vec<_>>()
    });
    for (answer, path) in asked.await.expect("no panic") {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let content = &description()["paths"][&path]["get"]["responses"]["200"]["content"];
        let kind = content.as_object().and_then(|kinds| kinds.keys().next()).expect("a content type");
        assert!(head.to_lowercase().contains(&format!("content-type: {kind}")), "{path}: {head}");
        if path == "/openapi.json" {
            assert_eq!(body, include_str!("../openapi.json"));
        }
    }
}
