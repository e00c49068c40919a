//! A schema registry of its own, which keeps its schemas in memory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use refold_kafka::{Registry, RegistrySettings};
use tempfile::TempDir;

use super::{Process, folder};
use crate::program::free_port;

/// A registry. One that is started again over the same port has forgotten its schemas.
pub struct SchemaRegistry {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
}

impl SchemaRegistry {
    /// A registry that is not started yet: nothing answers at its address.
    pub fn absent() -> SchemaRegistry {
        SchemaRegistry { process: None, folder: tempfile::tempdir().unwrap(), port: free_port() }
    }

    /// A registry that answers.
    pub fn started() -> SchemaRegistry {
        let mut registry = SchemaRegistry::absent();
        registry.start();
        registry
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self) {
        let arguments = [
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            &format!("-Dquarkus.http.port={}", self.port),
            "-jar",
            jar().to_str().unwrap(),
        ]
        .map(str::to_owned);
        let mut process = Process::start("java", &arguments, self.folder.path(), &self.folder.path().join("registry.log"));
        process.wait_for_port(self.port);
        let deadline = Instant::now() + Duration::from_secs(60);
        while ureq::get(format!("{}/subjects", self.url())).call().is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer:\n{}", process.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// It answers nothing until [`SchemaRegistry::thaw`], and forgets nothing.
    pub fn freeze(&self) {
        assert!(self.process.as_ref().is_some_and(|process| process.signal("-STOP")), "the registry does not run");
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        assert!(self.process.as_ref().is_some_and(|process| process.signal("-CONT")), "the registry does not run");
    }

    /// Where its API in Confluent's protocol is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// A client of it.
    pub fn client(&self) -> Registry {
        Registry::new(&RegistrySettings { url: self.url(), ..RegistrySettings::default() }).unwrap()
    }
}

fn jar() -> PathBuf {
    let found = std::fs::read_dir(folder("registry")).unwrap().map(|entry| entry.unwrap().path());
    found.into_iter().find(|path| path.to_string_lossy().ends_with("-runner.jar")).unwrap()
}
