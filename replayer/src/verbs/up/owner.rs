//! As whom the worker of a data folder owns versions: a name that stays with the folder, and an incarnation for each start.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use anyhow::{Context, Result};
use refold_processor::store::catalogue::{Incarnation, Owner};

/// Keeps the name under which the worker of a data folder owns versions.
const OWNER_FILE: &str = "owner";
/// Keeps the last incarnation, and the machine that it ran on.
const INCARNATION_FILE: &str = "incarnation";

/// The owner of a data folder that this process has locked.
pub fn owner(data: &Path) -> Result<Owner> {
    owner_on(data, &hostname())
}

fn owner_on(data: &Path, host: &str) -> Result<Owner> {
    let name = match read(data, OWNER_FILE) {
        Some(name) => name,
        None => {
            // Two folders on one machine are two owners.
            let name = format!("{host}-{:08x}", random() as u32);
            write(data, OWNER_FILE, &name)?;
            name
        }
    };
    // The process that ran on this machine with this folder has ended, or the folder would be locked: a restart takes at once what a crash left
    // behind. One on another machine may still run with the folder that this one is a copy of.
    let last = read(data, INCARNATION_FILE);
    let replaces = last.as_deref().and_then(|last| last.split_once(' ')).filter(|(_, on)| *on == host).map(|(id, _)| id.to_owned());
    let id = format!("{:016x}", random());
    write(data, INCARNATION_FILE, &format!("{id} {host}"))?;
    Ok(Owner { name, incarnation: Incarnation { id, replaces } })
}

fn hostname() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("refold").to_owned()
}

fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn read(data: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(data.join(name)).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Whole or not at all: two owners must not share half a name.
fn write(data: &Path, name: &str, text: &str) -> Result<()> {
    let (path, whole) = (data.join(name), data.join(format!("{name}.new")));
    std::fs::write(&whole, text).and_then(|()| std::fs::rename(&whole, &path)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_restart_is_the_same_owner_in_another_incarnation_that_replaces_the_last_one_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let on = |host: &str| owner_on(folder.path(), host).unwrap();
        let first = on("one");
        assert!(first.name.starts_with("one-"), "{first:?}");
        assert_eq!(first.incarnation.replaces, None);
        let again = on("one");
        assert_eq!(again.name, first.name);
        assert_ne!(again.incarnation.id, first.incarnation.id);
        assert_eq!(again.incarnation.replaces, Some(first.incarnation.id));
        // A copy of the folder elsewhere: the process that it was copied from may be running.
        let copied = on("other");
        assert_eq!((copied.name, copied.incarnation.replaces), (first.name, None));
    }
}
