//! What stands in deploy/ is held to what it says: services are tight and their settings legal, alerts fire on metrics that
//! exist and are explained, images build from what is there, commands that operators are told to type are understood.

use clap::Parser as _;
use e2e::executable;
use relayctl::dev::{Options, Overlay};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Exposure that `systemd-analyze security` may find in a unit, in tenths of its scale from 0 (none) to 10.
const EXPOSURE_MAX: &str = "15";
const UNITS: [&str; 2] = ["relay-node", "route-controller"];

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether a program is here. Where it is not, the test is skipped and says so; with CI=true it fails.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let found = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing, and CI skips nothing");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Runs it; it must succeed and complain of nothing.
fn content(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let (said, complaints) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && complaints.is_empty(), "{command:?}: {said}{complaints}");
    said.into_owned()
}

/// The values of a key in a unit, in order.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn services_are_tight() {
    if !has("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for name in UNITS {
        // As installed, but for the place of the binary, which must exist.
        let installed = format!("ExecStart=/usr/local/bin/{name} ");
        let unit = read(&format!("systemd/{name}.service"));
        assert!(unit.contains(&installed), "{name}");
        let unit = unit.replace(&installed, &format!("ExecStart={} ", executable(name).display()));
        let file = directory.path().join(format!("{name}.service"));
        fs::write(&file, unit).expect("written");
        content(Command::new("systemd-analyze").arg("verify").arg(&file));
        let mut judge = Command::new("systemd-analyze");
        judge.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]);
        content(judge.arg(&file));
    }
}

#[test]
fn the_settings_of_a_service_are_legal_and_fit_its_unit() {
    let (file, text) = (deploy("systemd/relay-node.toml"), read("systemd/relay-node.toml"));
    let relay = relay_node::Settings::from_toml(&file, &text).and_then(relay_node::Settings::check);
    let relay = relay.expect("legal");
    let unit = read("systemd/relay-node.service");
    assert_eq!(relay.state_dir.strip_prefix("/var/lib").ok(), path(&unit, "StateDirectory"));
    let token = relay.join_token_file.expect("set");
    assert_eq!(token, Path::new("/run/credentials/relay-node.service/join-token"));
    assert!(settings(&unit, "LoadCredential").iter().any(|value| value.starts_with("join-token:")));

    let file = deploy("systemd/route-controller.toml");
    let controller: route_controller::Settings =
        control_proto::cli::load(Some(&file), &route_controller::Settings::default()).expect("understood");
    let unit = read("systemd/route-controller.service");
    let state = controller.state_dir.as_deref().and_then(|state| state.strip_prefix("/var/lib").ok());
    assert_eq!(state, path(&unit, "StateDirectory"));
    let key = controller.key_encryption_file.as_deref();
    assert_eq!(key, Some(Path::new("/run/credentials/route-controller.service/ca.key-encryption")));
    assert!(settings(&unit, "LoadCredential").iter().any(|value| value.starts_with("ca.key-encryption:")));
    route_controller::Config::from_settings(controller).expect("legal");
}

fn path<'a>(unit: &'a str, key: &str) -> Option<&'a Path> {
    settings(unit, key).first().copied().map(Path::new)
}

#[test]
fn alert_rules_fire_when_they_should_and_not_otherwise() {
    if !has("promtool") {
        return;
    }
    let promtool = |arguments: &[&str], file: &str| {
        // Its complaints are on stdout.
        let output = Command::new("promtool").args(arguments).arg(deploy(file)).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("FAILED"), "{arguments:?} {file}: {said}");
    };
    promtool(&["check", "rules"], "prometheus/alerts.yml");
    promtool(&["test", "rules"], "prometheus/alerts.test.yml");
    promtool(&["check", "config", "--syntax-only"], "prometheus/prometheus.yml");
}

#[test]
fn every_alert_is_tested_and_explained() {
    let alerts: BTreeSet<String> = after(&read("prometheus/alerts.yml"), "- alert: ");
    assert!(alerts.len() > 15);
    let named: BTreeSet<String> = after(&read("prometheus/alerts.test.yml"), "- name: ");
    let tests: BTreeSet<String> =
        alerts.iter().flat_map(|alert| [format!("{alert} fires"), format!("{alert} stays quiet")]).collect();
    assert_eq!(named, tests);
    assert_eq!(after(&read("RUNBOOK.md"), "### "), alerts);
}

/// What follows `mark` on the lines that begin with it, spaces aside.
fn after(text: &str, mark: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(mark)).map(str::to_owned).collect()
}

/// Metric names, with the label values that are asked of each: `name{label="a"}` or `name{label=~"a|b"}`.
fn asked(expressions: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    for (at, _) in expressions.match_indices("cascade_") {
        let rest = &expressions[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let matchers =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let mut wanted = Vec::new();
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, values) = matcher.split_once('=').expect("label=\"value\"");
            let values = values.trim_start_matches('~').trim_matches(['"', '\\']);
            wanted.extend(values.split('|').map(|value| (label.trim().to_owned(), value.to_owned())));
        }
        found.push((name.to_owned(), wanted));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_asked_for_exists() {
    let overlay = Overlay::start(&Options { relays: 2, ..Options::default() }).await.expect("it starts");
    let scrape = |address: SocketAddr| tokio::task::block_in_place(|| e2e::get(address, "/metrics"));
    let metrics = scrape(overlay.controller().admin_address()) + &scrape(overlay.api_address(0));
    let has = |name: &str, label: Option<&(String, String)>| {
        let mut series = metrics.lines().filter_map(|line| line.strip_prefix(name));
        series.any(|rest| match label {
            None => rest.starts_with(['{', ' ']),
            Some((label, value)) => rest.starts_with('{') && rest.contains(&format!("{label}=\"{value}\"")),
        })
    };
    let dashboard: serde_json::Value = serde_json::from_str(&read("prometheus/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let shown: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
    assert!(shown.len() > 10, "{shown:?}");
    let asked = asked(&(read("prometheus/alerts.yml") + &shown.join("\n")));
    assert!(asked.len() > 30, "{asked:?}");
    for (name, labels) in &asked {
        assert!(has(name, None), "nothing measures {name}");
        for label in labels {
            assert!(has(name, Some(label)), "{name} has no {label:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_know_whether_they_are_healthy() {
    let overlay = Overlay::start(&Options { relays: 1, ..Options::default() }).await.expect("it starts");
    let containerfile = read("container/Containerfile");
    let checks: Vec<Vec<String>> = containerfile
        .lines()
        .filter_map(|line| line.strip_prefix("HEALTHCHECK ")?.split_once(" CMD "))
        .map(|(_, command)| serde_json::from_str(command).expect("a list of words"))
        .collect();
    assert_eq!(checks.len(), 2, "one for each image");
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let apis = [overlay.api_address(0), overlay.controller().admin_address()];
    for ((words, port), api) in checks.iter().zip([4701, 4711]).zip(apis) {
        let healthy = |address: SocketAddr| {
            let words: Vec<String> = words
                .iter()
                .map(|word| word.replace(&format!("/{port}"), &format!("/{}", address.port())))
                .collect();
            assert!(words[2].contains(&address.port().to_string()), "{words:?}");
            let mut check = Command::new(&words[0]);
            tokio::task::block_in_place(|| check.args(&words[1..]).stderr(Stdio::null()).status())
                .expect("bash")
                .success()
        };
        assert!(healthy(api) && !healthy(nobody), "{words:?}");
    }
}

#[test]
fn images_build_from_what_is_there_and_run_as_nobody_special() {
    const INSTRUCTIONS: &[&str] = &[
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "VOLUME",
        "STOPSIGNAL",
        "USER",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ];
    let text = read("container/Containerfile").replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an instruction and its arguments"))
        .collect();
    assert_eq!(lines[0].0, "FROM");
    let mut stages: Vec<(String, Vec<(&str, &str)>)> = Vec::new();
    for (instruction, arguments) in lines {
        assert!(INSTRUCTIONS.contains(&instruction), "{instruction}");
        if instruction == "FROM" {
            let (from, name) = arguments.split_once(" AS ").expect("every stage has a name");
            let known = stages.iter().any(|(stage, _)| stage == from);
            assert!(known || from.contains(':'), "{from} is neither a stage nor an image with a tag");
            stages.push((name.to_owned(), Vec::new()));
        } else {
            stages.last_mut().expect("FROM is first").1.push((instruction, arguments));
        }
    }
    let of = |stage: &str, instruction: &str| {
        let (_, lines) =
            stages.iter().find(|(name, _)| name == stage).unwrap_or_else(|| panic!("no {stage}"));
        lines.iter().filter(|line| line.0 == instruction).map(|line| line.1.to_owned()).collect::<Vec<_>>()
    };
    let built = of("build", "RUN").join(" ");
    assert!(built.contains("--locked --release"));
    for (image, port) in [("relay-node", "4700/udp"), ("route-controller", "4710/tcp")] {
        assert_eq!(of(image, "USER"), ["cascade"], "{image}");
        assert_eq!(of(image, "EXPOSE"), [port], "{image}");
        assert_eq!(of(image, "ENTRYPOINT"), [format!("[\"{image}\"]")]);
        for copied in of(image, "COPY") {
            let binaries: Vec<&str> =
                copied.split(' ').filter_map(|word| word.strip_prefix("/source/target/release/")).collect();
            assert!(!binaries.is_empty() && copied.starts_with("--from=build "), "{copied}");
            for binary in binaries {
                assert!(built.contains(&format!("--bin {binary}")), "{binary} is copied, but not built");
            }
        }
    }
    assert!(of("base", "VOLUME") == ["/var/lib/cascade"]);
    // The same compiler as the workspace asks for, at least.
    let manifest = fs::read_to_string(deploy("../Cargo.toml")).expect("the workspace");
    let least = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("it says")
        .trim_matches('"');
    assert!(text.contains(&format!("rust:{least}-")), "the image builds with Rust {least}");
}

#[test]
fn operators_are_told_commands_that_exist() {
    let mut told = 0;
    for page in ["RUNBOOK.md", "README.md"] {
        for command in read(page)
            .split(['`', '\n'])
            .filter_map(|text| text.trim_start_matches(['$', '#', ' ']).strip_prefix("relayctl "))
        {
            let command = command.split(['#', '>', '|']).next().unwrap_or_default().replace('\'', "");
            let words = std::iter::once("relayctl").chain(command.split_whitespace());
            if let Err(error) = relayctl::Cli::try_parse_from(words) {
                assert!(!error.use_stderr(), "{page}: relayctl {command}: {error}");
            }
            told += 1;
        }
    }
    assert!(told > 8, "{told}");
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    for page in ["RUNBOOK.md", "README.md"] {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if let Some(anchor) = link.strip_prefix('#') {
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors =
                    headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
                assert!(anchors.any(|heading| heading == anchor), "{page}: no heading for #{anchor}");
            } else if !link.starts_with("https://") {
                assert!(deploy(link.split('#').next().unwrap_or_default()).exists(), "{page}: {link}");
            }
        }
    }
}
