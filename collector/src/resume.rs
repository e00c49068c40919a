//! Where a source was: its resume point, and the batch that was on its way to the log.
//!
//! The log and this record cannot be changed in one step, so an append is announced here before it happens. After a crash the announcement says
//! where in the log to look, and how many events of the source to look for. The announcement of a batch and the acknowledgement of the one before it are
//! one write.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::CollectError;
use crate::sink::LogEnds;

/// What is kept for a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything before this point is in the log. `None`: the start.
    pub point: Option<String>,
    /// The log, and how far it reached when this was kept. `None`: nothing was appended yet.
    pub ends: Option<LogEnds>,
    /// How many events after the point may be in the log already, past those ends: a batch that is being appended.
    pub announced: u64,
}

/// Keeps the progress of sources, by name.
pub trait ResumeStore: Send + Sync {
    /// The progress kept for a source; the default when there is none.
    ///
    /// # Errors
    /// When what is kept cannot be read.
    fn load(&self, name: &str) -> Result<Progress, CollectError>;

    /// Keeps the progress of a source; it is durable on return, and a crash leaves the old or the new one.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn save(&self, name: &str, progress: &Progress) -> Result<(), CollectError>;
}

/// A folder with a file for each source. Whoever has loaded the progress of a source has it alone, until this is dropped.
#[derive(Debug)]
pub struct ResumeFolder {
    folder: PathBuf,
    locks: Mutex<Vec<File>>,
}

impl ResumeFolder {
    /// Keeps progress in `folder`, which is made when there is something to keep.
    pub fn new(folder: &Path) -> Self {
        ResumeFolder { folder: folder.to_path_buf(), locks: Mutex::default() }
    }

    /// Whether something is kept of a source.
    pub fn knows(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Forgets a source: it will be read from its start.
    ///
    /// # Errors
    /// When its file is there and cannot be removed.
    pub fn forget(&self, name: &str) -> Result<(), CollectError> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.kept(name, error)),
            _ => Ok(()),
        }
    }

    /// The beginning of the name for people, and its digest, because names hold what file names cannot.
    fn file(&self, name: &str) -> PathBuf {
        let readable: String = name.chars().take(60).map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        self.folder.join(format!("{readable}-{:016x}.json", xxhash_rust::xxh3::xxh3_64(name.as_bytes())))
    }

    /// Keeps others from collecting the same source with the same progress.
    fn lock(&self, name: &str) -> Result<(), CollectError> {
        let path = self.file(name).with_extension("lock");
        let open = || File::options().create(true).append(true).open(&path);
        let opened = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::create_dir_all(&self.folder).and_then(|()| open()),
            opened => opened,
        };
        let file = opened.map_err(|error| self.kept(name, error))?;
        match file.try_lock() {
            Ok(()) => self.locks.lock().push(file),
            Err(TryLockError::WouldBlock) => return Err(CollectError::Taken { name: name.to_owned(), folder: self.folder.clone() }),
            Err(TryLockError::Error(error)) => return Err(self.kept(name, error)),
        }
        Ok(())
    }

    fn kept(&self, name: &str, error: std::io::Error) -> CollectError {
        CollectError::Keep { what: format!("the resume point of {name} in {}", self.folder.display()), error }
    }

    fn replace(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        let path = self.file(name);
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text)?;
            file.sync_data()
        };
        if let Err(error) = write() {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(&self.folder)?;
            write()?;
        }
        fs::rename(&new, &path)?;
        // The new name itself is durable only with its folder.
        File::open(&self.folder)?.sync_data()
    }
}

impl ResumeStore for ResumeFolder {
    fn load(&self, name: &str) -> Result<Progress, CollectError> {
        self.lock(name)?;
        match fs::read(self.file(name)) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| CollectError::Resume {
                name: name.to_string(),
                reason: format!("{}: {error}", self.file(name).display()),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(CollectError::Read { name: self.file(name).display().to_string(), error }),
        }
    }

    fn save(&self, name: &str, progress: &Progress) -> Result<(), CollectError> {
        let text = serde_json::to_vec(progress).map_err(|error| self.kept(name, error.into()))?;
        self.replace(name, &text).map_err(|error| self.kept(name, error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use refold_processor::position::{Offset, Partition};

    #[test]
    fn progress_survives_and_sources_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet");
        let ends = LogEnds { log: "a".into(), positions: [(Partition(0), Offset(3))].into_iter().collect() };
        let progress = Progress { point: Some("{\"offset\":7}".into()), ends: Some(ends), announced: 2 };
        ResumeFolder::new(&path).save("jsonl:/a/b?c", &progress).unwrap();
        let store = ResumeFolder::new(&path);
        assert_eq!(store.load("jsonl:/a/b?c").unwrap(), progress);
        let taken = ResumeFolder::new(&path).load("jsonl:/a/b?c").unwrap_err().to_string();
        assert!(taken.contains("another collector") && taken.contains("stop it"), "{taken}");
        assert_eq!(store.load("jsonl:/a/b-c").unwrap(), Progress::default());
        store.forget("jsonl:/a/b?c").unwrap();
        store.forget("jsonl:/a/b?c").unwrap();
        drop(store);
        assert_eq!(ResumeFolder::new(&path).load("jsonl:/a/b?c").unwrap(), Progress::default());
    }

    #[test]
    fn the_kept_form_is_stable() {
        let ends = LogEnds { log: "a".into(), positions: [(Partition(1), Offset(5))].into_iter().collect() };
        let progress = Progress { point: Some("p".into()), ends: Some(ends), announced: 9 };
        let golden = r#"{"point":"p","ends":{"log":"a","positions":{"1":5}},"announced":9}"#;
        assert_eq!(serde_json::to_string(&progress).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Progress>(golden).unwrap(), progress);
    }

    #[test]
    fn a_spoilt_file_is_an_error_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResumeFolder::new(folder.path());
        store.save("s", &Progress::default()).unwrap();
        fs::write(store.file("s"), "{").unwrap();
        assert!(store.load("s").unwrap_err().to_string().contains("--restart"));
    }
}
