//! Small real implementations of what is behind the shell: an engine that does what the body of
//! a round says, blobs and vaults in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use crucible_core::hash::ContentHash;
use crucible_core::id::{ConflictId, RootHash, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_server::blobs::{BlobError, Blobs};
use crucible_server::rounds::{EngineError, Party, RoundAnswer, Rounds, Tally, Write, Written};
use crucible_store::server_repo::Vaults;
use crucible_sync::take::Take;
use crucible_testkit::memory_store::{MemoryError, MemoryStore};
use crucible_trust::rights::Access;

/// Something a test opens and others wait for.
#[derive(Default)]
pub struct Door {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Door {
    /// Waits until the door is open.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    /// Waits until so many stand before it.
    pub fn wait_for(&self, waiting: usize) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(now, _)| *now < waiting).unwrap());
    }

    pub fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// An engine for tests: the body of a round is a word that says what happens.
#[derive(Default)]
pub struct FakeEngine {
    pub door: Door,
    roots: Mutex<BTreeMap<VaultId, RootHash>>,
    inside: Mutex<BTreeMap<VaultId, usize>>,
    pub parties: Mutex<Vec<Party>>,
}

fn store(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Store(error.into())
}

impl Rounds for FakeEngine {
    fn create(&self, _vault: &VaultId) -> Result<(), EngineError> {
        Ok(())
    }

    fn root(&self, vault: &VaultId) -> Result<Option<RootHash>, EngineError> {
        Ok(self.roots.lock().unwrap().get(vault).copied())
    }

    fn round(
        &self,
        vault: &VaultId,
        party: &Party,
        body: &[u8],
    ) -> Result<RoundAnswer, EngineError> {
        let inside = {
            let mut inside = self.inside.lock().unwrap();
            let count = inside.entry(*vault).or_default();
            *count += 1;
            *count
        };
        assert_eq!(inside, 1, "two rounds of one vault at a time");
        self.parties.lock().unwrap().push(party.clone());
        let tally = Tally { pushed: 1, ..Tally::default() };
        let done = match body {
            b"push" if party.access == Access::Read => Err(EngineError::ReadOnly),
            b"push" => {
                let mut roots = self.roots.lock().unwrap();
                let next = roots.get(vault).map_or(1, |root| root.as_bytes()[0] + 1);
                roots.insert(*vault, RootHash::from_bytes([next; 32]));
                Ok(())
            }
            b"wait" => {
                self.door.pass();
                Ok(())
            }
            b"garbage" => Err(EngineError::Malformed("not a message".into())),
            b"forged" => Err(EngineError::Mismatch(VaultPath::new("a.md").unwrap())),
            b"bomb" => Err(EngineError::TooLarge),
            b"old" => Err(EngineError::TooOld { theirs: 0, ours: 1 }),
            b"new" => Err(EngineError::TooNew { theirs: 9, ours: 1 }),
            b"full" => Err(store(std::io::Error::from(std::io::ErrorKind::StorageFull))),
            b"broken" => Err(store("secret: the text of a note")),
            b"panic" => {
                self.inside.lock().unwrap().insert(*vault, 0);
                panic!("a bug on purpose")
            }
            _ => Ok(()),
        };
        *self.inside.lock().unwrap().get_mut(vault).unwrap() -= 1;
        let root = self.root(vault)?;
        done.map(|()| RoundAnswer { body: body.to_ascii_uppercase(), root, tally })
    }

    fn walk(&self, _vault: &VaultId, body: &[u8]) -> Result<Vec<u8>, EngineError> {
        Ok([b"walked ", body].concat())
    }

    fn restore(
        &self,
        vault: &VaultId,
        party: &Party,
        version: &VersionId,
    ) -> Result<(VersionId, Option<RootHash>), EngineError> {
        self.parties.lock().unwrap().push(party.clone());
        let mut new = *version.as_bytes();
        new[31] ^= 1;
        Ok((VersionId::from_bytes(new), self.root(vault)?))
    }

    fn write(&self, _: &VaultId, _: &Party, _: &Write) -> Result<Written, EngineError> {
        Err(store("writes are tested on the real engine"))
    }

    fn take(
        &self,
        _: &VaultId,
        _: &Party,
        _: &ConflictId,
        _: Take,
    ) -> Result<Written, EngineError> {
        Err(store("conflicts are tested on the real engine"))
    }
}

/// Blobs in memory, with the rules of the trait.
#[derive(Default)]
pub struct MemoryBlobs {
    whole: Mutex<BTreeMap<(VaultId, ContentHash), Vec<u8>>>,
    parts: Mutex<BTreeMap<(VaultId, ContentHash), Vec<u8>>>,
}

impl Blobs for MemoryBlobs {
    fn size(&self, vault: &VaultId, hash: &ContentHash) -> Result<Option<u64>, BlobError> {
        Ok(self.whole.lock().unwrap().get(&(*vault, *hash)).map(|blob| blob.len() as u64))
    }

    fn read(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, BlobError> {
        let whole = self.whole.lock().unwrap();
        let blob = whole.get(&(*vault, *hash)).ok_or(BlobError::Absent)?;
        let from = (offset as usize).min(blob.len());
        Ok(blob[from..(from + len).min(blob.len())].to_vec())
    }

    fn received(&self, vault: &VaultId, hash: &ContentHash) -> Result<u64, BlobError> {
        Ok(self.parts.lock().unwrap().get(&(*vault, *hash)).map_or(0, |p| p.len() as u64))
    }

    fn append(
        &self,
        vault: &VaultId,
        hash: &ContentHash,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), BlobError> {
        let mut parts = self.parts.lock().unwrap();
        let part = parts.entry((*vault, *hash)).or_default();
        if part.len() as u64 != offset {
            return Err(BlobError::WrongOffset { have: part.len() as u64 });
        }
        part.extend_from_slice(piece);
        Ok(())
    }

    fn finish(&self, vault: &VaultId, hash: &ContentHash, bytes: u64) -> Result<(), BlobError> {
        let mut parts = self.parts.lock().unwrap();
        let part = parts.remove(&(*vault, *hash)).unwrap_or_default();
        if part.len() as u64 != bytes {
            return Err(BlobError::WrongOffset { have: part.len() as u64 });
        }
        if ContentHash::of_blob(&part) != *hash {
            return Err(BlobError::Mismatch);
        }
        self.whole.lock().unwrap().insert((*vault, *hash), part);
        Ok(())
    }
}

/// Vaults in memory; opening one takes a snapshot.
#[derive(Default, Clone)]
pub struct MemoryVaults(Arc<Mutex<BTreeMap<VaultId, MemoryStore>>>);

impl MemoryVaults {
    pub fn change(&self, vault: VaultId, change: impl FnOnce(&mut MemoryStore)) {
        change(self.0.lock().unwrap().entry(vault).or_insert_with(MemoryStore::server));
    }
}

impl Vaults for MemoryVaults {
    type Vault = MemoryStore;
    type Error = MemoryError;

    fn create(&self, vault: &VaultId) -> Result<MemoryStore, MemoryError> {
        Ok(self.0.lock().unwrap().entry(*vault).or_insert_with(MemoryStore::server).clone())
    }

    fn open(&self, vault: &VaultId) -> Result<Option<MemoryStore>, MemoryError> {
        Ok(self.0.lock().unwrap().get(vault).cloned())
    }

    fn list(&self) -> Result<Vec<VaultId>, MemoryError> {
        Ok(self.0.lock().unwrap().keys().copied().collect())
    }
}
