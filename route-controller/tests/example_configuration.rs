//! The example in deploy/ is legal.

use control_proto::cli;
use route_controller::{Config, Settings};
use std::path::Path;

#[test]
fn the_example_is_understood() -> Result<(), Box<dyn std::error::Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/route-controller.toml");
    Config::from_settings(cli::load(Some(&file), &Settings::default())?)?;
    Ok(())
}

#[test]
fn commented_keys_of_the_example_exist() -> Result<(), Box<dyn std::error::Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/route-controller.toml");
    let text = std::fs::read_to_string(&file)?;
    let uncommented: String = text
        .lines()
        .map(|line| {
            let setting = |rest: &&str| rest.contains(" = ") || rest.starts_with('[');
            line.strip_prefix("# ").filter(setting).unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(uncommented, text);
    Config::from_settings(Settings {
        // The files that it names are not there.
        admin_token_file: None,
        policies: None,
        ..cli::merge(Some((&file, &uncommented)), &Settings::default())?
    })?;
    Ok(())
}
