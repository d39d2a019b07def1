//! The house rules that a compiler does not know: which crate may use which, what the repository may contain, what cores
//! may mention. Clippy's bans are in the `clippy.toml` files; these are the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate of the workspace and what its normal dependency tree may and must not hold.
struct Rule {
    name: &'static str,
    /// Our crates that may be in its tree.
    ours: &'static [&'static str],
    /// Crates of others that must not be in its tree.
    never: &'static [&'static str],
}

/// What does IO, keeps time, starts threads or draws random numbers.
const IMPURE: &[&str] = &[
    "aws-lc-rs",
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "openssl",
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "rand",
    "rayon",
    "reqwest",
    "ring",
    "rustix",
    "rustls",
    "socket2",
    "time",
    "tokio",
    "tonic",
    "ureq",
];
/// Of this library only the arithmetic of a field is called; what it is made of for its own decoder (a cache that hashes with
/// random keys) is not.
const ARITHMETIC: &str = "reed-solomon-erasure";
/// The runtime and transports, which a deterministic simulator must not hold.
const RUNTIME: &[&str] = &["mio", "quinn", "quinn-proto", "quinn-udp", "socket2", "tokio", "tonic"];

/// The arrows of the architecture, whole trees. `ours` of one is contained in that of all that may use it.
const RULES: &[Rule] = &[
    Rule { name: "wire-format", ours: &[], never: IMPURE },
    Rule { name: "control-proto", ours: &["wire-format"], never: &["quinn", "quinn-proto"] },
    Rule { name: "relay-core", ours: &["wire-format"], never: IMPURE },
    Rule { name: "link-io", ours: &["relay-core", "wire-format"], never: &["tonic", "axum", "petgraph"] },
    Rule {
        name: "relay-node",
        ours: &["link-io", "control-proto", "relay-core", "wire-format"],
        never: &["petgraph", "redb"],
    },
    Rule {
        name: "sfu-link",
        ours: &["link-io", "relay-core", "wire-format"],
        never: &["tonic", "axum", "petgraph", "redb"],
    },
    Rule { name: "route-core", ours: &["wire-format"], never: IMPURE },
    Rule {
        name: "route-controller",
        ours: &["route-core", "control-proto", "wire-format"],
        never: &["quinn", "quinn-proto"],
    },
    Rule { name: "link-model", ours: &["wire-format"], never: IMPURE },
    Rule {
        name: "relayctl",
        ours: &[
            "relay-node",
            "route-controller",
            "sfu-link",
            "link-model",
            "link-io",
            "control-proto",
            "relay-core",
            "route-core",
            "wire-format",
        ],
        never: &[],
    },
    Rule {
        name: "sim",
        ours: &["relay-core", "route-core", "link-model", "control-proto", "wire-format"],
        never: RUNTIME,
    },
];
/// May use everything.
const UNRULED: &[&str] = &["e2e", "fuzz"];
/// The only crates that name petgraph themselves: the controller's topology, and the simulator's independent oracle.
const PETGRAPH: &[&str] = &["route-core", "sim"];
/// Folders of crates that take bytes and time in and give bytes and deadlines out.
const SANS_IO: &[&str] = &["wire-format", "relay-node/core", "route-controller/core"];

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "relay-node",
    "route-controller",
    "rustfmt.toml",
    "sim",
    "tests",
    "wire-format",
];
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Lines of a source file before its tests.
const SOURCE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", args.join(" "));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Files that git tracks or would, relative to the root.
fn files() -> Vec<String> {
    let listed = run("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let files: Vec<_> =
        listed.split_terminator('\0').filter(|file| root().join(file).is_file()).map(str::to_owned).collect();
    assert!(files.len() > 50, "this is the repository");
    files
}

/// Text files with their content.
fn texts() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter_map(|file| {
        let text = fs::read_to_string(root().join(&file)).ok()?;
        Some((file, text))
    })
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Sources that are neither tests, benchmarks nor examples, each without its tests at the end and without comments.
fn sources() -> impl Iterator<Item = (String, String)> {
    let elsewhere = |file: &str| {
        file.starts_with("tests/")
            || ["/tests/", "/benches/", "/examples/"].iter().any(|part| file.contains(part))
    };
    texts().filter(move |(file, _)| file.ends_with(".rs") && !elsewhere(file)).map(|(file, text)| {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        (file, code.collect::<Vec<_>>().join("\n"))
    })
}

fn none(what: &str, found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Names of the packages in a crate's tree of normal dependencies. The tree of this crate alone: the graph of
/// `cargo metadata` unifies the features of all, and would accuse the innocent.
fn tree(name: &str, more: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut args =
        vec!["tree", "--locked", "-e", "normal", "--prefix", "none", "--no-dedupe", "-f", "{p}", "-p", name];
    args.extend(more);
    let listed = run(&cargo, &args);
    let names = listed.lines().filter_map(|line| line.split(' ').next()).filter(|used| *used != name);
    names.map(str::to_owned).collect()
}

/// The value of `key = "value"` in a manifest.
fn manifest_value(manifest: &str, key: &str) -> Option<String> {
    let line = manifest.lines().find(|line| line.split('=').next().is_some_and(|word| word.trim() == key))?;
    Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
}

/// Package name and folder of each crate.
fn crates() -> BTreeMap<String, String> {
    files()
        .into_iter()
        .filter(|file| file.ends_with("/Cargo.toml"))
        .filter_map(|file| {
            let name = manifest_value(&read(&file), "name")?;
            Some((name, file.trim_end_matches("/Cargo.toml").to_owned()))
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let ours: BTreeSet<_> = crates().into_keys().collect();
    let ruled: BTreeSet<_> =
        RULES.iter().map(|rule| rule.name).chain(UNRULED.iter().copied()).map(str::to_owned).collect();
    assert_eq!(ours, ruled, "every crate has a rule here, and the other way round");
    let mut found = Vec::new();
    for rule in RULES {
        let whole = tree(rule.name, &[]);
        let used = if whole.contains(ARITHMETIC) { tree(rule.name, &["--prune", ARITHMETIC]) } else { whole };
        for other in used.intersection(&ours).filter(|other| !rule.ours.contains(&other.as_str())) {
            found.push(format!("{} uses {other}", rule.name));
        }
        for other in rule.never.iter().filter(|other| used.contains(**other)) {
            found.push(format!(
                "{} uses {other}; `cargo tree -e normal -p {0} -i {other}` says why",
                rule.name
            ));
        }
    }
    none("arrows that the architecture does not have", found);
}

#[test]
fn two_crates_alone_know_petgraph() {
    let users = crates().into_keys().filter(|name| tree(name, &["--depth", "1"]).contains("petgraph"));
    none("crates that use petgraph themselves", users.filter(|name| !PETGRAPH.contains(&name.as_str())));
}

#[test]
fn every_crate_takes_the_lints_and_says_what_it_is() {
    let mut found = Vec::new();
    for (name, folder) in crates() {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{name}: its Cargo.toml lacks [lints] workspace = true"));
        }
        for root in ["lib", "main"] {
            let file = format!("{folder}/src/{root}.rs");
            if self::root().join(&file).is_file() && !read(&file).starts_with("//! ") {
                found.push(format!("{file}: begins without saying what it is"));
            }
        }
    }
    none("crates that break the rules of the house", found);
}

#[test]
fn the_top_level_stays_as_it_is() {
    let top: BTreeSet<_> =
        files().iter().filter_map(|file| file.split('/').next()).map(str::to_owned).collect();
    none("new at the top level", top.into_iter().filter(|entry| !TOP_LEVEL.contains(&entry.as_str())));
}

#[test]
fn no_file_is_large() {
    let bytes = |file: &String| fs::metadata(root().join(file)).map_or(0, |data| data.len());
    let large = files().into_iter().filter(|file| bytes(file) > FILE_BYTES_MAX);
    none("files over 1 MB", large);
}

#[test]
fn no_file_names_a_machine() {
    // In two parts each, so that this file is not found.
    let words: Vec<String> = [
        ["/wo", "rk/"],
        ["/fa", "rm/"],
        [".libr", "ary"],
        ["before", "-stop"],
        ["/tmp/", "wt"],
        ["/tmp/", "target"],
        ["/tmp/", "cascade/"],
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["../sha", "red"],
    ]
    .iter()
    .map(|parts| parts.concat())
    .collect();
    // Where measurement data stands is said once.
    let allowed = (".ci/run", ["../sha", "red"].concat());
    let mut found = Vec::new();
    for (file, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                if (file.as_str(), word) != (allowed.0, &allowed.1) {
                    found.push(format!("{file}:{}: {word}", number + 1));
                }
            }
        }
    }
    none("paths of one machine", found);
}

#[test]
fn nothing_is_left_to_do_in_the_source() {
    let words: Vec<String> =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!"], ["unimpl", "emented!"], ["dbg", "!("]]
            .iter()
            .map(|parts| parts.concat())
            .collect();
    let mut found = Vec::new();
    for (file, text) in texts().filter(|(file, _)| file.ends_with(".rs")) {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("left in the source", found);
}

#[test]
fn an_exception_from_a_lint_says_why() {
    let mut found = Vec::new();
    for (file, text) in texts().filter(|(file, _)| file.ends_with(".rs")) {
        for kind in ["allow(", "expect("] {
            for opening in ["#[", "#!["] {
                for (at, _) in text.match_indices(&format!("{opening}{kind}")) {
                    let attribute = text[at..].split("]").next().unwrap_or_default();
                    if !attribute.contains("reason") {
                        let line = text[..at].lines().count();
                        found.push(format!("{file}:{line}: {attribute}]"));
                    }
                }
            }
        }
    }
    none("lints switched off without a reason", found);
}

#[test]
fn no_test_is_ignored() {
    let word = ["#[ign", "ore"].concat();
    none(
        "ignored tests",
        texts().filter(|(file, text)| file.ends_with(".rs") && text.contains(&word)).map(|(file, _)| file),
    );
}

#[test]
fn cores_know_no_clock_no_socket_no_thread_and_no_hash_order() {
    const BANNED: &[&str] = &[
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "RandomState",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "Mutex",
        "RwLock",
        "Condvar",
        "Atomic",
        "OnceLock",
        "thread",
        "std::fs",
        "std::env",
        "std::io::std",
        "std::process",
        "static ",
        "async ",
        "println!",
        "eprintln!",
    ];
    let mut found = Vec::new();
    for (file, code) in sources() {
        let model = "sim/link-model";
        if SANS_IO.iter().chain([&model]).any(|folder| file.starts_with(&format!("{folder}/src/"))) {
            for (number, line) in code.lines().enumerate() {
                // A lifetime is no static; `Endpoint: 'static` says that a core can be moved to a thread.
                let line = line.replace("'static ", "");
                if let Some(word) = BANNED.iter().find(|word| line.contains(**word)) {
                    found.push(format!("{file}:{}: {word}", number + 1));
                }
            }
        }
    }
    none("in a core", found);
}

#[test]
fn cores_share_one_clippy_toml() {
    let first = read(&format!("{}/clippy.toml", SANS_IO[0]));
    for folder in SANS_IO {
        assert_eq!(read(&format!("{folder}/clippy.toml")), first, "{folder}/clippy.toml");
    }
    assert!(first.contains("disallowed-methods") && first.contains("disallowed-types"));
}

#[test]
fn a_process_reads_the_clock_in_one_place() {
    let reads = |code: &str| code.contains("Instant::now") || code.contains("SystemTime::now");
    let elsewhere =
        sources().filter(|(file, code)| reads(code) && !file.ends_with("/clock.rs")).map(|(file, _)| file);
    none("files other than clock.rs that read a clock", elsewhere);
}

#[test]
fn a_source_file_owns_one_thing() {
    let long = sources()
        .map(|(file, code)| (code.lines().count(), file))
        .filter(|(lines, _)| *lines > SOURCE_LINES_MAX)
        .map(|(lines, file)| format!("{file}: {lines} lines before its tests"));
    none("source files that own too much", long);
}

#[test]
fn every_scenario_says_what_it_shows() {
    let scenarios: Vec<_> =
        texts().filter(|(file, _)| file.starts_with("sim/scenarios/") && file.ends_with(".toml")).collect();
    assert!(scenarios.len() >= 3, "line, ring, crash at least");
    let silent = scenarios.into_iter().filter(|(_, text)| !text.starts_with("# "));
    none("scenarios that begin without a comment", silent.map(|(file, _)| file));
}

#[test]
fn there_is_an_example_configuration_for_each_process() {
    for file in ["deploy/relay-node.toml", "deploy/route-controller.toml"] {
        assert!(read(file).starts_with("# "), "{file} begins without saying what it is");
    }
}

#[test]
fn what_is_run_by_hand_can_be_run() {
    let listed = run("git", &["ls-files", "--stage", "--", ".ci/run", "tests/run"]);
    let modes: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(modes, ["100755"; 2], "executable, and tracked: {listed}");
}

#[test]
fn the_readme_names_the_two_commands_and_its_links_lead_somewhere() {
    let readme = read("README.md");
    for command in ["cargo run --release --bin relayctl -- dev", "./tests/run"] {
        assert!(readme.contains(command), "README.md does not name {command}");
    }
    let mut dead = Vec::new();
    for (file, text) in texts().filter(|(file, _)| file.ends_with(".md")) {
        let folder = root().join(&file).parent().expect("a file is in a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.starts_with("http") {
                continue;
            }
            let target = if path.is_empty() { root().join(&file) } else { folder.join(path) };
            let headings = fs::read_to_string(&target).unwrap_or_default();
            let leads = target.exists()
                && (anchor.is_empty() || headings.lines().any(|line| is_heading(line, anchor)));
            if !leads {
                dead.push(format!("{file}: {link}"));
            }
        }
    }
    none("links that lead nowhere", dead);
}

/// Whether a line of Markdown is the heading that an anchor names, as code hosts form them.
fn is_heading(line: &str, anchor: &str) -> bool {
    let title = line.trim_start_matches('#');
    let slug: String = title
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    line.starts_with('#') && slug == anchor
}
