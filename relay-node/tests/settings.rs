//! Settings: what is accepted, and in which words the rest is refused.

use clap::Parser as _;
use control_proto::{JoinSecret, JoinToken};
use relay_core::RateLimit;
use relay_node::{Cli, Config, Settings};
use std::path::Path;

const MINIMAL: &str = "listen = '127.0.0.1:4700'\n";

fn check(text: &str) -> Result<Config, String> {
    let settings = Settings::from_toml(Path::new("relay.toml"), text).map_err(|error| error.to_string())?;
    settings.check().map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    check(text).expect_err("this is to be refused")
}

fn token(name: &str) -> String {
    let token = JoinToken {
        controllers: vec!["controller.example:4710".to_owned()],
        ca_sha256: [7; 32],
        name: name.to_owned(),
        region: None,
        secret: JoinSecret([9; 32]),
    };
    token.to_text()
}

#[test]
fn every_example_configuration_is_legal() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut checked = 0;
    for entry in std::fs::read_dir(deploy).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        if name.starts_with("relay-node") && name.ends_with(".toml") {
            let text = std::fs::read_to_string(&path).expect("readable");
            check(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            checked += 1;
        }
    }
    assert_eq!(checked, 3, "deploy/relay-node.toml, -2 and -3");
}

#[test]
fn the_defaults_are_the_documented_ports() {
    let config = check("advertise = ['203.0.113.7:4700']").expect("legal");
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::]:4700", "0.0.0.0:4700"]);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:4701");
}

#[test]
fn several_controllers_are_named_by_one_flag_or_by_several() {
    let flags = ["relay-node", "--listen", "127.0.0.1:0", "--controller", "a:1,b:2", "--controller", "c:3"];
    let config = Cli::try_parse_from(flags).expect("understood").config().expect("legal");
    assert_eq!(config.controllers, ["a:1", "b:2", "c:3"]);
}

#[test]
fn a_position_has_two_coordinates_on_the_globe() {
    let place = |text: &str| format!("{MINIMAL}{text}");
    let config = check(&place("latitude = -33.9\nlongitude = 151.2\n")).expect("legal");
    let position = config.position.expect("a place");
    assert_eq!((position.lat_micro_degrees(), position.lon_micro_degrees()), (-33_900_000, 151_200_000));
    assert_eq!(check(MINIMAL).expect("legal").position, None);
    assert!(refusal(&place("latitude = 1.0\n")).contains("longitude"));
    assert!(refusal(&place("longitude = 1.0\n")).contains("latitude"));
    for wrong in ["latitude = 90.1\nlongitude = 0.0\n", "latitude = 0.0\nlongitude = nan\n"] {
        assert!(refusal(&place(wrong)).contains("no such place"), "{wrong}");
    }
    let flags = ["relay-node", "--listen", "127.0.0.1:4700", "--latitude", "-1.5", "--longitude", "-2"];
    assert!(Cli::parse_from(flags).config().expect("legal").position.is_some());
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_eq!(refusal("adverise = []"), "relay.toml: unknown key `adverise`; did you mean `advertise`?");
    assert!(refusal("join_token_fil = 'x'").contains("did you mean `join_token_file`?"));
}

#[test]
fn a_wildcard_needs_an_address_to_advertise() {
    for text in ["", "listen = '0.0.0.0:4700'", "listen = '[::]:4700'"] {
        let reason = refusal(text);
        assert!(reason.contains("`advertise` is not set") && reason.contains("203.0.113.7:4700"), "{reason}");
    }
    for address in ["0.0.0.0:4700", "203.0.113.7:0", "[ff02::1]:4700"] {
        let reason = refusal(&format!("{MINIMAL}advertise = ['{address}']"));
        assert!(reason.contains(address) && reason.contains("nobody can reach this"), "{reason}");
    }
}

#[test]
fn beyond_loopback_the_api_needs_a_token_and_tls() {
    let reason = refusal(&format!("{MINIMAL}api_listen = '0.0.0.0:4701'"));
    assert!(reason.contains("0.0.0.0:4701") && reason.contains("api_token_file"), "{reason}");
    let half = format!("{MINIMAL}api_listen = '0.0.0.0:4701'\napi_token_file = 't'");
    assert!(refusal(&half).contains("needs a token and TLS"));
    let whole = format!("{half}\napi_tls_certificate = 'c'\napi_tls_key = 'k'");
    check(&whole).expect("legal");
    assert!(refusal(&format!("{MINIMAL}api_tls_key = 'k'")).contains("`api_tls_certificate` is not set"));
}

#[test]
fn names_addresses_and_sizes_are_checked() {
    let reason = refusal(&format!("{MINIMAL}name = 'Frankfurt 1'"));
    assert!(reason.contains("\"Frankfurt 1\"") && reason.contains("fra-1"), "{reason}");
    let reason = refusal(&format!("{MINIMAL}controllers = ['https://controller:4710']"));
    assert!(reason.contains("give HOST:PORT"), "{reason}");
    assert!(refusal(&format!("{MINIMAL}controllers = ['2001:db8::1:4710']")).contains("[2001:db8::1]:4710"));
    check(&format!("{MINIMAL}controllers = ['[2001:db8::1]:4710', 'controller:4710']")).expect("legal");
    let reason = refusal(&format!("{MINIMAL}receive_buffer_bytes = 1000"));
    assert!(reason.contains("receive_buffer_bytes = \"1000\"") && reason.contains("64 KiB"), "{reason}");
    let reason = refusal(&format!("{MINIMAL}region = ''"));
    assert!(reason.contains("region = \"\""), "{reason}");
    let reason = refusal("listen = '127.0.0.1'");
    assert!(reason.contains("line 1") && reason.contains("listen = '127.0.0.1'"), "{reason}");
}

#[test]
fn a_join_token_is_read_from_a_file_and_never_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("r1.token");
    std::fs::write(&file, token("r1") + "\n").expect("written");
    let with_file = |name: &str| format!("{MINIMAL}name = '{name}'\njoin_token_file = '{}'", file.display());
    let config = check(&with_file("r1")).expect("legal");
    assert_eq!(config.join_token.as_ref().map(|token| token.name.as_str()), Some("r1"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("cascade-join-v1") && !shown.contains("9, 9"), "{shown}");

    assert!(refusal(&with_file("r2")).contains("the join token is for a relay named \"r1\""));
    let both = format!("{}\njoin_token = '{}'", with_file("r1"), token("r1"));
    assert!(refusal(&both).contains("set one of them"));
    let secret = token("r1");
    let damaged = format!("{MINIMAL}join_token = '{}'", &secret[..secret.len() - 9]);
    let reason = refusal(&damaged);
    assert!(reason.contains("join_token = \"(not shown)\"") && !reason.contains(&secret[20..40]), "{reason}");
    // A token file that was thrown away after the join is no error; whether it is missed shows at the start. Systemd
    // puts an empty one in its place.
    std::fs::write(&file, "\n").expect("written");
    assert!(check(&with_file("r1")).expect("legal").join_token.is_none());
    std::fs::remove_file(&file).expect("removed");
    assert!(check(&with_file("r1")).expect("legal").join_token.is_none());
}

#[test]
fn every_key_is_a_flag_and_flags_win() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("relay.toml");
    std::fs::write(
        &file,
        "name = 'r1'\nlisten = '127.0.0.1:4700'\n[neighbour_addresses]\nr3 = '127.0.0.1:9'\n",
    )
    .expect("written");
    let file = file.to_str().expect("plain");
    let config = |arguments: &[&str]| Cli::try_parse_from([&["relay-node"], arguments].concat());
    let from_file = config(&["--config", file]).expect("parses").config().expect("legal");
    assert_eq!(from_file.name.as_deref(), Some("r1"));
    assert_eq!(from_file.neighbour_addresses["r3"].to_string(), "127.0.0.1:9");
    let flags =
        ["--config", file, "--name", "r9", "--controller", "a:1", "--controller", "b:2", "--tag", "x"];
    let flags = [&flags[..], &["--neighbour-address", "r2=127.0.0.1:4702", "--log-format", "json"]].concat();
    let merged = config(&flags).expect("parses").config().expect("legal");
    assert_eq!(merged.name.as_deref(), Some("r9"));
    assert_eq!(merged.controllers, ["a:1", "b:2"]);
    assert_eq!(merged.neighbour_addresses["r2"].to_string(), "127.0.0.1:4702");
    assert_eq!(merged.log.format, control_proto::cli::LogFormat::Json);
    assert_eq!(merged.listen[0].to_string(), "127.0.0.1:4700", "what no flag says stays");
    let error = config(&["--neighbour-address", "r2"]).err().expect("refused").to_string();
    assert!(error.contains("NAME=IP:PORT"), "{error}");
}

#[test]
fn an_older_version_of_the_link_protocol_can_be_pinned() {
    use wire_format::session::WIRE_VERSIONS;
    assert_eq!(check(MINIMAL).expect("legal").wire_versions, WIRE_VERSIONS);
    let pinned = check(&format!("{MINIMAL}wire_version_max = {}", WIRE_VERSIONS.0)).expect("legal");
    assert_eq!(pinned.wire_versions, (WIRE_VERSIONS.0, WIRE_VERSIONS.0));
    let reason = refusal(&format!("{MINIMAL}wire_version_max = {}", WIRE_VERSIONS.1 + 1));
    assert!(reason.contains("wire_version_max") && reason.contains("this build speaks versions"), "{reason}");
    assert!(refusal(&format!("{MINIMAL}wire_version_max = 0")).contains("this build speaks"));
}

#[test]
fn what_an_sfu_may_send_is_bounded_unless_told_otherwise() {
    let limit = |text: &str| check(&format!("{MINIMAL}{text}")).expect("legal").client_rate;
    assert_eq!(limit(""), RateLimit::new(Some(50_000), Some(500_000_000)));
    assert_eq!(limit("client_packet_rate = 0"), RateLimit::new(None, Some(500_000_000)));
    assert_eq!(limit("client_packet_rate = 0\nclient_bit_rate = 0"), RateLimit::NONE);
    let reason = refusal(&format!("{MINIMAL}client_bit_rate = 5000"));
    assert!(reason.contains("client_bit_rate = \"5000\"") && reason.contains("0 for no bound"), "{reason}");
    assert!(refusal(&format!("{MINIMAL}client_packet_rate = 99")).contains("at least 100"));
}
