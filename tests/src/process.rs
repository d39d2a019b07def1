//! A binary of this workspace as a child process.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// For a process to say that it is ready. Everything here happens on one machine; whatever takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running binary. Dropped, it is killed: a test that failed leaves nothing behind.
pub struct Process {
    child: Child,
    said: Value,
}

impl Process {
    /// Starts it and waits until it logs `ready`, in JSON.
    ///
    /// # Panics
    /// If it does not start or is not ready in time; the text has its log.
    pub fn start(mut command: Command, ready: &str) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        // Reads on until the process ends, so that it never waits for its log to be read; the test's output has it all.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        let mut process = Process { child, said: Value::Null };
        let mut seen = Vec::new();
        while process.said.is_null() {
            let line = lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{:?} is not ready: {}", command.get_program(), seen.join("\n")));
            match serde_json::from_str::<Value>(&line) {
                Ok(entry) if entry["message"] == ready => process.said = entry,
                Ok(_) | Err(_) => seen.push(line),
            }
        }
        process
    }

    /// Starts it and waits for nothing. Its log goes where the test's goes.
    ///
    /// # Panics
    /// If it does not start.
    pub fn spawn(mut command: Command) -> Process {
        Process { child: command.spawn().expect("it runs"), said: Value::Null }
    }

    /// The log line that said it was ready.
    pub fn said(&self) -> &Value {
        &self.said
    }

    /// Its number, for signals and for what the system knows of it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system does not tell.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// If it has been waited for already.
    pub fn kill(mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ended");
    }

    /// SIGTERM, and its end.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn terminated(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill(1)").success());
        self.child.wait().expect("it ended")
    }

    /// SIGTERM, upon which it ends well.
    ///
    /// # Panics
    /// If it does not.
    pub fn terminate(self) {
        let said = self.said.clone();
        let status = self.terminated();
        assert!(status.success(), "{status} after {said}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary of this workspace. A test run of the whole workspace has built it; one of this package alone may not have.
///
/// # Panics
/// If it does not build.
pub fn executable(name: &str) -> PathBuf {
    built(name, &["-p", name, "--bin", name], Path::new(name))
}

/// An example of a package of this workspace, likewise.
///
/// # Panics
/// If it does not build.
pub fn example(package: &str, name: &str) -> PathBuf {
    built(name, &["-p", package, "--example", name], &Path::new("examples").join(name))
}

fn built(name: &str, arguments: &[&str], file: &Path) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let file = folder.join(file);
    if !file.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet"]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "{name} does not build");
    }
    file
}
