//! The program itself, as a process that can be killed.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running `refold up`, `process` or `serve`.
pub struct Program {
    child: Child,
    /// Where it answers.
    pub url: String,
}

/// The folder of the workspace, by where the tests run. Not by where they were compiled: build outputs are shared by checkouts.
pub fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let root = here.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.unwrap_or_else(|| panic!("{} is not in a checkout: tests run in one", here.display())).to_path_buf()
}

/// The program, which `scripts/test` has built beside the tests.
pub fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.parent().unwrap().parent().unwrap().join("refold");
    assert!(binary.exists(), "{} is not built: cargo build --release --workspace --bins", binary.display());
    binary
}

/// A port that was free a moment ago. Not one of those that the system gives to clients: a client that tries to connect to such a port while nobody
/// listens can be given that very port, and then holds it.
pub fn free_port() -> u16 {
    (0..10_000).map(|_| rand::random_range(10_000..32_000)).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Program {
    /// Starts `refold up` over `data`, with the sample application and further arguments.
    pub fn start(data: &Path, port: u16, arguments: &[&str]) -> Program {
        Program::start_over(&root().join("schemas"), data, port, arguments)
    }

    /// Starts `refold up` over a folder of declarations and `data`, with further arguments.
    pub fn start_over(schemas: &Path, data: &Path, port: u16, arguments: &[&str]) -> Program {
        let mut all = vec!["up", "--source", "none", "--data", data.to_str().unwrap()];
        all.extend(arguments);
        Program::start_verb(&all, schemas, port, &data.join("stderr.log"))
    }

    /// Starts a verb that stays, over a folder of declarations; what it says goes to `said`.
    pub fn start_verb(arguments: &[&str], schemas: &Path, port: u16, said: &Path) -> Program {
        let mut command = Command::new(binary());
        // Settings of the tests are none of the program's.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REFOLD_")) {
            command.env_remove(name);
        }
        let child = command
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--schemas")
            .arg(schemas)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(said).unwrap())
            .spawn()
            .unwrap();
        Program { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// Waits until it answers. `false`: it has ended.
    pub fn wait_until_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if ureq::get(format!("{}/healthz", self.url)).call().is_ok() {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("refold does not answer");
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The most memory that it had in use so far, MiB.
    pub fn peak_memory_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and answers whether it did so cleanly.
    pub fn stop(&mut self) -> bool {
        self.signal("-TERM");
        self.child.wait().unwrap().success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The JSON that a route answers with; `None` when there is no answer or an error.
pub fn get(url: &str) -> Option<Value> {
    ureq::get(url).call().ok()?.body_mut().read_json().ok()
}
