//! A server in this process and the link to it: real bodies, real rounds, no sockets.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, UserId, VaultId, VersionId};
use crucible_core::merkle::walk::{WalkAsk, WalkLimits, answer};
use crucible_core::version::Version;
use crucible_node::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};
use crucible_proto::message::{self, Answer};
use crucible_store::server_repo::{Origin, ServerRepo};
use crucible_sync::ahead::is_ahead;
use crucible_sync::repo::Repo;
use crucible_sync::serve::{Access, serve};
use crucible_sync::staged::Tree;

use crate::memory_store::MemoryStore;
use crate::simulation::Plant;

/// The state of a server.
#[derive(Debug, Clone)]
pub struct Server {
    /// The one vault it has.
    pub vault: VaultId,
    /// Its store.
    pub store: MemoryStore,
    /// Its clock.
    pub now_ms: u64,
    partial: BTreeMap<ContentHash, Vec<u8>>,
    plant: Option<Plant>,
    batches: u64,
}

impl Server {
    /// With an empty vault.
    pub fn new(vault: VaultId, now_ms: u64) -> Self {
        let (store, partial) = (MemoryStore::server(), BTreeMap::new());
        Self { vault, store, now_ms, partial, plant: None, batches: 0 }
    }

    /// Puts a bug in on purpose.
    pub fn plant(&mut self, plant: Option<Plant>) {
        self.plant = plant;
        self.store.plant(plant);
    }

    /// Answers a round's body.
    ///
    /// # Errors
    /// What a real server says with a status of 4xx or 5xx.
    pub fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let round: message::Round =
            message::parse(body).map_err(|error| refused("malformed", &error))?;
        let ask = |store: &MemoryStore, round| {
            serve(store, self.vault, round, self.now_ms, Access::Write)
                .map_err(|error| refused("refused", &error))
        };
        let mut pretended = Vec::new();
        let mut served = ask(&self.store, round.clone())?;
        if self.plant == Some(Plant::HeadBeforeBlob)
            && let Answer::Missing(hashes) = served.answer
        {
            self.store.pretend_blobs(&hashes, true);
            served = ask(&self.store, round)?;
            pretended = hashes;
        }
        let is_new_and_ahead =
            |version: &Version| !version.is_merge() && is_ahead(version.stamp, self.now_ms);
        if self.plant == Some(Plant::AheadRefused)
            && served.batch.versions.iter().any(|(_, version)| is_new_and_ahead(version))
        {
            return Ok(message::body(&Answer::ClockAhead { now_ms: self.now_ms }));
        }
        let forgets = self.plant == Some(Plant::AnswerBeforeCommit);
        self.batches += u64::from(!served.batch.is_empty());
        let forgotten = forgets && self.batches.is_multiple_of(5);
        if !served.batch.is_empty() && !forgotten {
            let origin = Origin {
                user: UserId::from_bytes([1; 16]),
                device: DeviceId::from_bytes([1; 32]),
                received_ms: self.now_ms,
                address: String::new(),
                others: Vec::new(),
            };
            self.store
                .commit_from(&served.batch, &origin)
                .map_err(|error| refused("storage", &error))?;
        }
        self.store.pretend_blobs(&pretended, false);
        Ok(message::body(&served.answer))
    }

    /// Answers one step of a walk.
    ///
    /// # Errors
    /// What a real server says with a status of 4xx or 5xx.
    pub fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let ask = WalkAsk::decode(body).map_err(|error| refused("malformed", &error))?;
        let root = self.store.root().map_err(|error| refused("storage", &error))?;
        let tree = Tree(&self.store);
        let answer = answer(&tree, root.as_ref(), &ask, &WalkLimits::default())
            .map_err(|error| refused("malformed", &error))?;
        Ok(answer.encode())
    }
}

fn refused(code: &str, error: &dyn std::fmt::Display) -> LinkError {
    LinkError::Refused {
        place: "the server".to_owned(),
        code: code.to_owned(),
        message: error.to_string(),
        hint: String::new(),
    }
}

/// A way to a [`Server`] that others use as well.
#[derive(Debug, Clone)]
pub struct ServerLink {
    server: Arc<Mutex<Server>>,
    traffic: Traffic,
}

impl ServerLink {
    /// To a new server.
    pub fn new(server: Server) -> Self {
        Self { server: Arc::new(Mutex::new(server)), traffic: Traffic::default() }
    }

    /// Another link to the same server.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { server: self.server.clone(), traffic: Traffic::default() }
    }

    /// The server itself.
    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&mut self, up: usize, down: usize) {
        self.traffic.requests += 1;
        self.traffic.bytes_up += up as u64;
        self.traffic.bytes_down += down as u64;
    }
}

impl Link for ServerLink {
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let answer = self.server().round(body)?;
        self.count(body.len(), answer.len());
        Ok(answer)
    }

    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        let answer = self.server().walk(body)?;
        self.count(body.len(), answer.len());
        Ok(answer)
    }

    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        let server = self.server();
        if server.plant == Some(Plant::HeadBeforeBlob) {
            return Ok(Vec::new());
        }
        let missing = hashes.iter().filter(|hash| server.store.blob(hash).is_none());
        let missing: Vec<ContentHash> = missing.copied().collect();
        drop(server);
        self.count(32 * hashes.len(), 32 * missing.len());
        Ok(missing)
    }

    fn missing_versions(&mut self, versions: &[VersionId]) -> Result<Vec<VersionId>, LinkError> {
        let mut missing = Vec::new();
        for id in versions {
            if self.server().store.version(id).map_err(|error| refused("store", &error))?.is_none()
            {
                missing.push(*id);
            }
        }
        self.count(32 * versions.len(), 32 * missing.len());
        Ok(missing)
    }

    fn put_blob(
        &mut self,
        hash: &ContentHash,
        _bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError> {
        let mut have = self.server().partial.remove(hash).unwrap_or_default();
        let mut sent = Vec::new();
        open(have.len() as u64)?.read_to_end(&mut sent)?;
        self.count(sent.len(), 0);
        have.extend(sent);
        if ContentHash::of_blob(&have) != *hash {
            return Err(refused("hash_mismatch", &"the blob has another hash"));
        }
        self.server().store.add_blob(have.into());
        Ok(())
    }

    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError> {
        let blob = self.server().store.blob(hash);
        let blob = blob.ok_or_else(|| refused("not_found", &"no such blob"))?;
        let rest = &blob[(offset as usize).min(blob.len())..];
        self.count(0, rest.len());
        sink(rest)?;
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}
