//! What RocksDB and the file system say, as errors of the log: which of them may pass, and what to do about the others.

use std::path::Path;

use crate::log::LogError;

/// Marks of a full disk or an exhausted limit, which somebody can remedy while we go on trying.
const EXHAUSTED: [&str; 3] = ["No space left on device", "Disk quota exceeded", "Too many open files"];
/// Kinds of failure that RocksDB itself calls temporary.
const TEMPORARY: [&str; 6] = [
    "Resource busy",
    "Operation timed out",
    "Operation failed. Try again",
    "Result incomplete",
    "Shutdown in progress",
    "Operation aborted",
];

/// The error of a failed call on an open log in `dir`.
pub fn failure(dir: &Path, error: &str) -> LogError {
    let dir = dir.display();
    if EXHAUSTED.iter().any(|mark| error.contains(mark)) {
        return LogError::Unavailable(format!(
            "{dir} cannot take more: {error}; make room (100 MB at least), it goes on by itself within seconds"
        ));
    }
    if TEMPORARY.iter().any(|kind| error.starts_with(kind)) {
        return LogError::Unavailable(format!("{dir} does not answer: {error}"));
    }
    if error.starts_with("Corruption") {
        return LogError::Broken(format!("the log in {dir} is damaged: {error}; restore the directory from a copy"));
    }
    LogError::Refused(format!("the log in {dir} cannot be used: {error}; check the disk and the permissions of the directory"))
}

/// The error of opening the log in `dir`.
pub fn failure_to_open(dir: &Path, error: &str) -> LogError {
    let locked = error.contains("LOCK") && (error.contains("lock") || error.contains("Resource temporarily unavailable"));
    if locked && error.contains("lock hold by current process") {
        return LogError::Broken(format!("{} is already open in this process; open a log once and share it", dir.display()));
    }
    if locked && !error.contains("Permission denied") {
        return LogError::Broken(format!("{} is in use by another process; stop it or choose another --data directory", dir.display()));
    }
    failure(dir, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use crate::recovery::Recovery;

    use super::*;

    fn said(error: &str) -> (Recovery, String) {
        let error = failure(Path::new("/data/log"), error);
        (error.recovery(), error.to_string())
    }

    #[test]
    fn a_full_disk_passes_and_names_the_directory() {
        let (recovery, message) = said("IO error: No space left on device: While appending to file: /data/log/000012.log");
        assert_eq!(recovery, Recovery::Transient);
        assert!(message.contains("/data/log cannot take more") && message.contains("make room"), "{message}");
    }

    #[test]
    fn a_temporary_failure_passes() {
        assert_eq!(said("Resource busy: ").0, Recovery::Transient);
        assert_eq!(said("Operation failed. Try again.: ").0, Recovery::Transient);
    }

    #[test]
    fn damage_is_final_and_a_failing_disk_waits_for_an_operator() {
        let (recovery, message) = said("Corruption: block checksum mismatch in /data/log/000012.sst");
        assert!(recovery == Recovery::Final && message.contains("the log in /data/log is damaged"), "{message}");
        let (recovery, message) = said("IO error: Input/output error: While fdatasync: /data/log/000012.log");
        assert!(recovery == Recovery::Operator && message.contains("/data/log cannot be used"), "{message}");
    }

    #[test]
    fn a_lock_without_permission_is_not_called_in_use() {
        let error = failure_to_open(Path::new("/data/log"), "IO error: Permission denied: While open a file for lock: /data/log/LOCK");
        assert!(error.to_string().contains("permissions"), "{error}");
    }

    #[test]
    fn a_lock_of_another_process_is_said_to_be_one() {
        let error = failure_to_open(Path::new("/data/log"), "IO error: While lock file: /data/log/LOCK: Resource temporarily unavailable");
        assert_eq!(error.to_string(), "/data/log is in use by another process; stop it or choose another --data directory");
    }
}
