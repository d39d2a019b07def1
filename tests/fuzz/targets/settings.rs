//! What people write: configuration of both processes, links and scenarios of simulated networks. Whatever the text, it is
//! understood or refused in words.

use control_proto::cli;
use fuzz::target;
use link_model::{LinkOption, LinkSpec, LossTrace, parse_duration};
use sim::Scenario;
use std::io;
use std::path::Path;

/// Settings that name files are not checked further: a target reads nothing but its corpus.
const NAMES_A_FILE: [&str; 3] = ["_file", "_certificate", "_key"];

fn names_a_file(text: &str) -> bool {
    NAMES_A_FILE.iter().any(|part| text.contains(part))
}

#[test]
fn relay_configuration() {
    target!("relay-configuration").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let settings = relay_node::Settings::from_toml(Path::new("relay.toml"), &text);
        match settings {
            Ok(settings) if !names_a_file(&text) => match settings.check() {
                Ok(config) => assert!(!config.listen.is_empty()),
                Err(error) => assert!(!error.to_string().is_empty()),
            },
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("relay.toml"), "{error}"),
        }
    });
}

#[test]
fn controller_configuration() {
    target!("controller-configuration").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let flags = route_controller::Settings::default();
        match cli::merge(Some((Path::new("controller.toml"), &text)), &flags) {
            Ok(settings) if !names_a_file(&text) => {
                if let Err(error) = route_controller::Config::from_settings(settings) {
                    assert!(!error.to_string().is_empty());
                }
            }
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("controller.toml"), "{error}"),
        }
    });
}

/// The only trace that a link or scenario finds.
fn trace(name: &str) -> io::Result<String> {
    if name == "t.txt" { Ok("0010\n1000".to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[test]
fn link_option() {
    target!("link-option").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match LinkOption::parse(&text, &mut trace) {
            Ok(option) => {
                // Whether such a link exists, and whether the keys fit together, is judged later, without panic too.
                let _ = option.check_names(&["r1", "r2"]);
                let _ = LinkSpec::default().with(&option.change);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = parse_duration(&text);
    });
}

#[test]
fn link_spec() {
    target!("link-spec").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(spec) = LinkSpec::parse(&text, &mut trace) else { return };
        let written = spec.to_string();
        let again = LinkSpec::parse(&written, &mut trace)
            .unwrap_or_else(|error| panic!("{text:?} is written {written:?}, which is refused: {error}"));
        assert_eq!(again, spec, "{text:?} is written {written:?}");
    });
}

#[test]
fn loss_trace() {
    target!("loss-trace").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let symbols = text.chars().all(|symbol| matches!(symbol, '0' | '1' | '\n' | '\r'));
        let some = text.contains(['0', '1']);
        assert_eq!(LossTrace::parse("trace", &text).is_ok(), symbols && some);
    });
}

#[test]
fn scenario() {
    target!("scenario").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match Scenario::parse(&text, &mut trace) {
            Ok(scenario) => {
                for stream in scenario.stream_numbers() {
                    assert!(!scenario.client(scenario.stream(stream).client).name.is_empty());
                }
                assert!(scenario.media_end() <= scenario.run_for);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
