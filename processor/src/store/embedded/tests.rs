#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use tempfile::TempDir;

use super::*;
use crate::store::Store;
use crate::store::conformance::Harness;

struct OnDisk {
    folder: TempDir,
    store: Option<EmbeddedStore>,
}

impl OnDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(open(folder.path()).unwrap());
        OnDisk { folder, store }
    }
}

fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(
        folder,
        &EmbeddedStoreSettings { write_buffer_bytes: 1 << 20, cache_bytes: 1 << 20, ..EmbeddedStoreSettings::default() },
    )
}

impl Harness for OnDisk {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) -> bool {
        self.store = None;
        self.store = Some(open(self.folder.path()).unwrap());
        true
    }
}

crate::store_conformance!(OnDisk::new());
