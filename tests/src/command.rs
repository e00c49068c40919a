//! The program as a command: what is typed, and what it says.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{binary, root};

/// What a command said, once it has ended.
#[derive(Debug)]
pub struct Said {
    /// The exit status; `None`: a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Said {
    /// What a process said that has ended.
    pub fn of(output: Output) -> Said {
        let text = |bytes| String::from_utf8(bytes).expect("what a command says is UTF-8");
        Said { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails unless the exit status is this.
    #[track_caller]
    pub fn ends(self, status: i32) -> Said {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// Fails unless stderr has this.
    #[track_caller]
    pub fn complains(self, of: &str) -> Said {
        assert!(self.err.contains(of), "{of:?} is not in {self:#?}");
        self
    }

    /// Fails unless stdout has this.
    #[track_caller]
    pub fn says(self, what: &str) -> Said {
        assert!(self.out.contains(what), "{what:?} is not in {self:#?}");
        self
    }

    /// The lines of stdout, each an object.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// `refold` with these arguments, in the folder of the workspace. It has no settings of the tests.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REFOLD_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `refold` with these arguments to its end.
pub fn refold(arguments: &[&str]) -> Said {
    run(&mut command(arguments))
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Said {
    Said::of(command.output().unwrap())
}

/// Runs a command to its end, with this as its stdin.
pub fn run_with(command: &mut Command, stdin: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sends a signal, such as `-INT`.
pub fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// What a process says that ends by itself within `time`; fails when it does not.
pub fn ended_within(mut child: Child, time: Duration) -> Said {
    let deadline = Instant::now() + time;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("not ended within {time:?}: {:#?}", Said::of(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Said::of(child.wait_with_output().unwrap())
}
