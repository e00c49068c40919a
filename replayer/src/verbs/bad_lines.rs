//! Lines that are no events: the newest are kept in a file beside the resume points, and the first ones told.

use std::path::{Path, PathBuf};

use refold_collector::bad_lines::BadLinesFile;
use refold_collector::{BadLine, BadLines, CollectError};

use crate::output::complain;

/// The most that is kept, bytes.
const KEPT_BYTES: u64 = 16 << 20;
/// The most that are told one by one.
const MOST_TOLD: usize = 10;

/// Keeps bad lines, and tells the first ones with file and line.
pub struct ToldBadLines {
    kept: BadLinesFile,
    path: PathBuf,
    told: usize,
}

impl ToldBadLines {
    /// Keeps them in this folder.
    pub fn new(folder: &Path) -> ToldBadLines {
        let path = folder.join("bad_lines.jsonl");
        ToldBadLines { kept: BadLinesFile::new(&path, KEPT_BYTES), path, told: 0 }
    }
}

impl BadLines for ToldBadLines {
    fn keep(&mut self, source: &str, bad: &[BadLine]) -> Result<(), CollectError> {
        self.kept.keep(source, bad)?;
        if self.told == 0 && !bad.is_empty() {
            complain(&format!(
                "lines that are no events are counted, and the newest {} MiB of them kept in {}; the first ones:",
                KEPT_BYTES >> 20,
                self.path.display()
            ));
        }
        // A file's name of its own, so that a terminal or an editor finds the place.
        let place = source.strip_prefix("jsonl:").and_then(|named| named.rsplit_once(" into ")).map_or(source, |(file, _)| file);
        for line in bad.iter().take(MOST_TOLD - self.told) {
            complain(&format!("{place}:{}: {}: {}", line.line, line.reason.as_str(), line.detail));
            self.told += 1;
        }
        Ok(())
    }
}
