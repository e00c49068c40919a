//! The commit that a schemas folder is at.

use std::path::Path;
use std::process::{Command, Stdio};

/// What is added where files of the folder differ from the commit.
const DIRTY: &str = "-dirty";
/// How many digits of a commit are shown.
const DIGITS: &str = "--short=12";

/// The commit of the repository that a folder is in, with `-dirty` where files in the folder differ from it; none where there is no repository, or no git.
pub fn of(folder: &Path) -> Option<String> {
    let commit = git(folder, &["rev-parse", DIGITS, "HEAD"])?;
    let changed = git(folder, &["status", "--porcelain", "--untracked-files=normal", "--", "."])?;
    let dirty = if changed.is_empty() { "" } else { DIRTY };
    Some(format!("{commit}{dirty}")).filter(|_| !commit.is_empty())
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let said = git.output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_folder_is_at_a_commit_or_differs_from_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of(folder.path()), None, "no repository");
        let run = |arguments: &[&str]| git(folder.path(), arguments).unwrap();
        run(&["init", "--quiet"]);
        std::fs::write(folder.path().join("a.sql"), "1").unwrap();
        assert_eq!(of(folder.path()), None, "no commit yet");
        run(&["add", "."]);
        run(&["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "first"]);
        let clean = of(folder.path()).unwrap();
        assert_eq!((clean.len() >= 12, clean.ends_with(DIRTY)), (true, false), "{clean}");
        std::fs::write(folder.path().join("a.sql"), "2").unwrap();
        assert_eq!(of(folder.path()), Some(format!("{clean}{DIRTY}")));
    }
}
