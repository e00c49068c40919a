//! Where bad lines are kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::CollectError;
use crate::event_source::BadLine;

/// Keeps what could not be read, so that it can be mended and read again. After a crash the last lines may be kept twice.
pub trait BadLines: Send {
    /// Keeps some lines of a source, in order.
    ///
    /// # Errors
    /// When they cannot be kept; collecting then stops, because a bad line must not be lost.
    fn keep(&mut self, source: &str, bad: &[BadLine]) -> Result<(), CollectError>;
}

/// Counts only: for input that can be read again.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropBadLines;

impl BadLines for DropBadLines {
    fn keep(&mut self, _source: &str, _bad: &[BadLine]) -> Result<(), CollectError> {
        Ok(())
    }
}

/// A file of JSON lines. When it is half as large as allowed it becomes `<file>.old`, so that the newest are always there.
#[derive(Debug)]
pub struct BadLinesFile {
    path: PathBuf,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

#[derive(Serialize)]
struct Entry<'a> {
    source: &'a str,
    #[serde(flatten)]
    bad: &'a BadLine,
}

impl BadLinesFile {
    /// Keeps bad lines in `path`, with `<path>.old` no more than about `max_bytes`. The file is made when there is a first one.
    pub fn new(path: &Path, max_bytes: u64) -> Self {
        BadLinesFile { path: path.to_path_buf(), max_bytes, open: None }
    }

    fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        if size > 0 && size + text.len() as u64 > self.max_bytes / 2 {
            let mut old = self.path.clone().into_os_string();
            old.push(".old");
            std::fs::rename(&self.path, old)?;
            file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            size = 0;
        }
        file.write_all(text)?;
        self.open = Some((file, size + text.len() as u64));
        Ok(())
    }
}

impl BadLines for BadLinesFile {
    fn keep(&mut self, source: &str, bad: &[BadLine]) -> Result<(), CollectError> {
        for line in bad {
            let written = serde_json::to_vec(&Entry { source, bad: line }).map_err(std::io::Error::from).and_then(|mut text| {
                text.push(b'\n');
                self.append(&text)
            });
            written.map_err(|error| CollectError::Keep { what: format!("bad lines in {}", self.path.display()), error })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event_source::{BadReason, Refused};

    #[test]
    fn the_newest_are_kept_within_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.jsonl");
        for round in 0..2 {
            // Opened again, it goes on where it was.
            let mut file = BadLinesFile::new(&path, 20_000);
            for line in 0..100 {
                let bad = BadLine::new(round * 100 + line, Refused::new(BadReason::NotJson, "not JSON"), &[b'x'; 200]);
                file.keep("jsonl:posts", &[bad]).unwrap();
            }
        }
        let newest = std::fs::read_to_string(&path).unwrap();
        let older = std::fs::read_to_string(folder.path().join("bad.jsonl.old")).unwrap();
        assert!(newest.len() + older.len() <= 20_000);
        let entries: Vec<serde_json::Value> = older.lines().chain(newest.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(entries.len() > 30);
        assert_eq!(entries.last().unwrap()["line"], 199);
        assert_eq!(entries.last().unwrap()["reason"], "not_json");
        assert_eq!(entries.last().unwrap()["source"], "jsonl:posts");
    }
}
