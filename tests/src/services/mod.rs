//! Real services for tests: each a process of its own on free ports, over a folder of its own, ended with the tests that started it.

pub mod cassandra;
pub mod delay;
pub mod kafka;
pub mod kcat;
pub mod registry;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::root;

/// The folder of a service's programs, brought there if it is missing.
pub fn folder(name: &str) -> PathBuf {
    let output = Command::new(root().join("scripts/services")).arg(name).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{name} cannot be brought");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A service's process. It ends when this is dropped, and when the test process ends in whatever way.
pub struct Process {
    /// Holds the pipe whose end tells it that the tests are gone.
    supervisor: Child,
    pid: String,
    log: PathBuf,
}

/// Starts what it is given, says its process id, and ends it when its own input ends.
const SUPERVISOR: &str = r#""$@" >>"$LOG" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;

impl Process {
    /// Starts a program that writes what it says to `log`.
    pub fn start(program: &str, arguments: &[String], folder: &Path, log: &Path) -> Process {
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "service", program])
            .args(arguments)
            .current_dir(folder)
            // Ctrl-C is for who started it: the end of its input ends it.
            .process_group(0)
            .env("LOG", log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(File::options().create(true).append(true).open(log).unwrap()))
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Process { supervisor, pid: pid.trim().to_owned(), log: log.to_owned() }
    }

    /// Waits until something listens on a port; fails with the end of what the service said.
    pub fn wait_for_port(&mut self, port: u16) {
        self.wait_for_address("127.0.0.1", port);
    }

    /// The same, of another address of this machine.
    pub fn wait_for_address(&mut self, address: &str, port: u16) {
        assert!(self.is_up_at(address, port), "the service does not start:\n{}", self.said());
    }

    /// Waits until something listens at an address. `false`: the service has ended, or takes too long.
    pub fn is_up_at(&mut self, address: &str, port: u16) -> bool {
        let deadline = Instant::now() + Duration::from_secs(120);
        while TcpStream::connect((address, port)).is_err() {
            if Instant::now() >= deadline || !self.is_running() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// The last lines that the service wrote.
    pub fn said(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.pid
    }

    /// Processor time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        processor_time(&self.pid)
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.signal("-0")
    }

    /// Sends a signal, for instance `-STOP`; answers whether there was a process to send it to.
    pub fn signal(&self, signal: &str) -> bool {
        Command::new("kill").args([signal, &self.pid]).stderr(Stdio::null()).status().unwrap().success()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Processor time that a process has used so far, of all its threads; `self` is the calling one.
pub fn processor_time(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may have spaces in it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A hundredth of a second each, on every Linux that there is.
    Duration::from_millis(ticks * 10)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
