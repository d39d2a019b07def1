//! The operator's commands against a running controller, over real sockets.

use route_controller::{Config, Controller, Settings};
use std::path::Path;
use std::process::{Command, Output};

fn relayctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relayctl"))
        .args(arguments)
        .env_remove("CASCADE_CONTROLLER")
        .env_remove("CASCADE_TOKEN_FILE")
        .env_remove("CASCADE_CA_FILE")
        .output()
        .expect("relayctl runs")
}

async fn answered(arguments: &[&str]) -> (bool, String, String) {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || {
        relayctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = output.await.expect("no panic");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

async fn controller(folder: &Path) -> (Controller, String) {
    let controller = Controller::start(Config::local(folder)).await.expect("starts");
    let url = format!("http://{}", controller.admin_address());
    (controller, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lists_are_printed_and_tokens_made() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (_controller, url) = controller(folder.path()).await;
    for list in [&["nodes"][..], &["links"], &["streams"], &["routes", "dump"]] {
        let (ok, out, err) = answered(&[&["--controller", &url], list, &["-o", "json"]].concat()).await;
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert!(ok && answer[list[0]] == serde_json::json!([]), "{list:?}: {out}{err}");
        let (ok, out, _) = answered(&[&["--controller", &url], list].concat()).await;
        assert!(ok && out.lines().count() == 1, "a header alone: {out}");
    }
    let token = ["token", "create", "--namespace", "demo", "--room", "*", "--publish", "--controller", &url];
    let (ok, out, err) = answered(&token).await;
    assert!(ok && out.trim().split('.').count() == 3, "a JWT: {out}{err}");
    let join = ["join-token", "create", "--name", "fra-1", "--region", "eu", "--controller", &url];
    let (ok, out, err) = answered(&join).await;
    assert!(ok && out.starts_with("cascade-join-v1."), "{out}{err}");
    assert!(out.parse::<control_proto::JoinToken>().is_ok_and(|token| token.name == "fra-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn join_tokens_are_listed_and_taken_back() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (_controller, url) = controller(folder.path()).await;
    let create = ["join-token", "create", "--name", "fra-1", "--ttl", "1h", "--replace", "-o", "json"];
    let (ok, out, err) = answered(&[&create[..], &["--controller", &url]].concat()).await;
    assert!(ok, "{err}");
    let made: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));

    let list = ["join-token", "list", "--controller", &url];
    let (ok, out, _) = answered(&list).await;
    let mut lines = out.lines();
    let header: Vec<&str> = lines.next().expect("a header").split_whitespace().collect();
    assert_eq!((ok, header), (true, vec!["ID", "NAME", "REGION", "REPLACE", "CREATED", "EXPIRES"]));
    let cells: Vec<&str> = lines.next().expect("a row").split_whitespace().collect();
    assert_eq!(cells[..4], [id, "fra-1", "-", "yes"]);
    let (_, out, _) = answered(&[&list[..], &["-o", "json"]].concat()).await;
    let listed: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed["join_tokens"][0]["expires_unix_s"], made["expires_unix_s"]);
    assert!(!out.contains(token), "the token is told once");

    let revoke = ["join-token", "revoke", id, "--controller", &url];
    let (ok, out, err) = answered(&revoke).await;
    assert!(ok && out.contains("is revoked"), "{out}{err}");
    let (ok, _, err) = answered(&revoke).await;
    assert!(!ok && err.contains("relayctl join-token list") && err.contains("node revoke"), "{err}");
    let (_, out, _) = answered(&list).await;
    assert_eq!(out.lines().count(), 1, "a header alone: {out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn token_keys_are_added_rotated_and_removed() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (_controller, url) = controller(folder.path()).await;
    let run = async |arguments: &[&str]| answered(&[arguments, &["--controller", &url]].concat()).await;
    let rows = async || {
        let (ok, out, err) = run(&["token-key", "list", "-o", "json"]).await;
        assert!(ok, "{err}");
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let rows = answer["token_keys"].as_array().expect("a list").clone();
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().expect("a text").to_owned();
        rows.iter().map(|row| (text(row, "id"), text(row, "role"))).collect::<Vec<_>>()
    };
    let own = rows().await[0].0.clone();
    let key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let (ok, out, err) = run(&["token-key", "add", "--id", "2026-11", "--public-key", key]).await;
    assert!(ok && out.contains("2026-11 is registered"), "{out}{err}");
    let (ok, _, err) = run(&["token-key", "add", "--id", "x", "--public-key", "short"]).await;
    assert!(!ok && err.contains("no Ed25519 public key"), "{err}");
    let (ok, out, err) = run(&["token-key", "rotate"]).await;
    assert!(ok && out.contains("signs new tokens from 20"), "{out}{err}");
    let listed = rows().await;
    let roles: Vec<&str> = listed.iter().map(|(_, role)| role.as_str()).collect();
    assert_eq!(roles, ["signing", "next", "registered"]);
    for id in [own.as_str(), "2026-11"] {
        let (ok, out, err) = run(&["token-key", "remove", id]).await;
        assert!(ok && out.contains("is removed"), "{out}{err}");
    }
    assert_eq!(rows().await, [(listed[1].0.clone(), "signing".to_owned())]);
    let (ok, _, err) = run(&["token-key", "remove", "2026-11"]).await;
    assert!(!ok && err.contains("relayctl token-key list"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refusals_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (controller, url) = controller(folder.path()).await;
    let (ok, _, err) = answered(&["routes", "dump", "--node", "nowhere", "--controller", &url]).await;
    assert!(!ok && err.contains("no relay is called \"nowhere\""), "{err}");
    for command in [
        &["cordon", "nowhere"][..],
        &["uncordon", "nowhere"],
        &["drain", "nowhere", "--timeout", "0"],
        &["routes", "explain", "nowhere", "here"],
        &["routes", "why-not", "nowhere", "here", "there"],
    ] {
        let (ok, out, err) = answered(&[command, &["--controller", &url]].concat()).await;
        assert!(!ok && out.is_empty() && err.contains("no relay is called \"nowhere\""), "{command:?} {err}");
    }
    let (ok, _, err) = answered(&["routes", "diff", "1", "2", "--controller", &url]).await;
    assert!(!ok && err.contains("relayctl routes epochs"), "{err}");
    let (ok, out, err) = answered(&["routes", "epochs", "--controller", &url]).await;
    assert!(ok && out.lines().count() == 1, "a header alone: {out}{err}");
    let (ok, _, err) = answered(&["join-token", "create", "--name", "Fra 1", "--controller", &url]).await;
    assert!(!ok && err.contains("lower-case letters"), "{err}");
    let (ok, _, err) =
        answered(&["token", "create", "--namespace", "demo", "--room", "*", "--controller", &url]).await;
    assert!(!ok && err.contains("--publish"), "{err}");
    controller.shutdown().await;
    let (ok, _, err) = answered(&["nodes", "--controller", &url]).await;
    assert!(
        !ok && err.contains("cannot reach the controller") && err.contains("CASCADE_CONTROLLER"),
        "{err}"
    );
    let (ok, _, err) = answered(&["nodes", "--controller", "localhost:4711"]).await;
    assert!(!ok && err.contains("is no URL"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn beyond_loopback_there_are_tls_and_a_token() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let token_file = folder.path().join("admin-token");
    std::fs::write(&token_file, "0123456789abcdef0123\n").expect("writable");
    let settings = Settings {
        state_dir: Some(folder.path().join("state")),
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        admin_listen: Some("0.0.0.0:0".parse().expect("an address")),
        admin_token_file: Some(token_file.clone()),
        ..Settings::default()
    };
    let config = Config::from_settings(settings).expect("legal");
    let controller = Controller::start(config).await.expect("starts");
    let port = controller.admin_address().port();
    let url = format!("https://127.0.0.1:{port}");
    let ca = folder.path().join("state/ca.pem").display().to_string();
    let token = token_file.display().to_string();

    let (ok, out, err) =
        answered(&["nodes", "-o", "csv", "--controller", &url, "--ca-file", &ca, "--token-file", &token])
            .await;
    assert!(ok && out.starts_with("name,node,state,"), "{out}{err}");
    let (ok, _, err) = answered(&["nodes", "--controller", &url, "--ca-file", &ca]).await;
    assert!(!ok && err.contains("bearer token is missing or wrong") && err.contains("--token-file"), "{err}");
    let (ok, _, err) = answered(&["nodes", "--controller", &url, "--token-file", &token]).await;
    assert!(!ok && err.contains("--ca-file"), "{err}");

    // With that token others are made, each for one thing.
    let file = folder.path().join("grafana-token");
    let read_only = file.display().to_string();
    let run = async |token: &str, arguments: &[&str]| {
        let reach = ["--controller", &url, "--ca-file", &ca, "--token-file", token];
        answered(&[arguments, &reach].concat()).await
    };
    let create = ["api-token", "create", "--name", "grafana", "--rights", "read"];
    let (ok, out, err) = run(&token, &create).await;
    assert!(ok && out.starts_with("cascade-api-v1."), "{err}");
    std::fs::write(&file, &out).expect("writable");
    let (ok, _, err) = run(&read_only, &["nodes"]).await;
    assert!(ok, "{err}");
    let (ok, _, err) = run(&read_only, &["token-key", "rotate"]).await;
    assert!(!ok && err.contains("\"grafana\" has the rights `read`, this needs `operate`"), "{err}");
    let (ok, _, err) = run(&read_only, &create).await;
    assert!(!ok && err.contains("this needs `admin`") && err.contains("--rights admin"), "{err}");
    let (ok, out, _) = run(&token, &["api-token", "list"]).await;
    let cells: Vec<&str> = out.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((ok, &cells[..2], cells[3]), (true, &["grafana", "read"][..], "-"));
    let (ok, _, err) = run(&token, &["api-token", "revoke", "grafana"]).await;
    assert!(ok, "{err}");
    let (ok, _, err) = run(&read_only, &["nodes"]).await;
    assert!(!ok && err.contains("unknown, expired or revoked"), "{err}");
    let plain = format!("http://127.0.0.1:{port}");
    let (ok, _, _) = answered(&["nodes", "--controller", &plain, "--token-file", &token]).await;
    assert!(!ok, "plain HTTP gets nowhere");
}
