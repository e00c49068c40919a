//! The catalogue at a glance: what a worker, or whoever reports on all versions, polls. A few calls, however many views and versions there are.

use std::collections::BTreeMap;

use super::records::{ActivePointer, VIEW_PREFIX, VersionRecord, ViewRegister, decode};
use super::{Catalogue, CatalogueError, Ownership};
use crate::table::Version;

/// All views, by name.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The views that ever had a version, in order. What is wrong with the register of one is no reason not to know the others.
    pub views: BTreeMap<String, Result<ViewSnapshot, CatalogueError>>,
}

/// A view: its register, and who feeds its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewSnapshot {
    /// The version readers are sent to.
    pub active: Option<ActivePointer>,
    /// The versions that are not dropped, by number.
    pub versions: Vec<VersionRecord>,
    /// Dropped versions that something is left of.
    pub removing: Vec<VersionRecord>,
    /// Who feeds each, or fed it last; a version that nobody ever took is not in it. Read after the register, so a take in between is seen.
    pub owners: BTreeMap<Version, Ownership>,
}

impl Catalogue {
    /// All views with their living versions, pointers and owners, in three calls to the store. A dropped version that nothing is left of is not in it;
    /// [`Catalogue::version`] knows it.
    pub fn snapshot(&self) -> Result<Snapshot, CatalogueError> {
        let (mut snapshot, mut prepared) = (Snapshot::default(), Vec::new());
        for (key, stored) in self.registers.list(VIEW_PREFIX)? {
            let Some(view) = key.strip_prefix(VIEW_PREFIX) else { continue };
            let read = decode::<ViewRegister>(&key, &stored.value).and_then(|register| match register.prepared {
                Some(_) => self.view_register(view).map(|(decided, _)| decided),
                None => Ok(register),
            });
            if read.as_ref().is_ok_and(|register| register.prepared.is_some() || register.settled.is_some()) {
                prepared.push(view.to_owned());
            }
            let read = read.map(|ViewRegister { active, versions, removing, .. }| {
                let owners = BTreeMap::new();
                ViewSnapshot { active, versions, removing, owners }
            });
            snapshot.views.insert(view.to_owned(), read);
        }
        // Whoever looks at the catalogue finishes what a crash has left behind.
        self.settle_all(&prepared);
        let known = snapshot.views.iter().filter_map(|(view, read)| Some((view, read.as_ref().ok()?)));
        let keys: Vec<(String, Version)> = known
            .flat_map(|(view, read)| read.versions.iter().chain(&read.removing).map(|record| (view.clone(), record.version)))
            .collect();
        let owners = self.ownerships(&keys)?;
        for ((view, version), owner) in keys.into_iter().zip(owners) {
            match owner {
                Ok(Some(owner)) => {
                    if let Some(Ok(read)) = snapshot.views.get_mut(&view) {
                        read.owners.insert(version, owner);
                    }
                }
                Ok(None) => {}
                Err(error) => drop(snapshot.views.insert(view, Err(error))),
            }
        }
        Ok(snapshot)
    }
}
