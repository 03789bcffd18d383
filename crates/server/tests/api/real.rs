//! The server as it is run: the real engine over SQLite in a folder, with Anna, who owns `notes`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crucible_core::id::{DeviceId, ReplicaId, UserId, VaultId, VersionId};
use crucible_core::vault_path::VaultPath;
use crucible_server::config::{ClientAddress, ServerConfig};
use crucible_server::engine::Engine;
use crucible_server::rounds::{EngineError, Party, Rounds, Write, Written};
use crucible_server::state::Backends;
use crucible_server::vault_blobs::VaultBlobs;
use crucible_store::accounts::{Accounts, Email};
use crucible_store::server_repo::{Origin, Vaults};
use crucible_store::server_vault::{ServerVault, ServerVaults};
use crucible_trust::capability::{Subject, Token};
use crucible_trust::rights::{Access, Rights};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::client::{Ask, Reply};
use crate::running::{NOW_MS, limits, live, name, run};

/// The vault `notes`.
pub const NOTES: VaultId = VaultId::from_bytes(*b"notes\0\0\0\0\0\0\0\0\0\0\0");
pub const ANNA: UserId = UserId::from_bytes([1; 16]);

pub struct Real {
    pub address: SocketAddr,
    pub engine: Arc<Engine<ServerVaults>>,
    pub vaults: ServerVaults,
    pub accounts: Accounts,
    pub token: Token,
    pub now_ms: Arc<AtomicU64>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    dir: tempfile::TempDir,
}

impl Real {
    pub fn start() -> Self {
        Self::on(tempfile::tempdir().unwrap(), NOW_MS, None)
    }

    /// The same data under another server.
    pub fn restart(mut self) -> Self {
        self.stop();
        let now_ms = self.now_ms.load(Ordering::SeqCst);
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let token = self.token.clone();
        Self::on(dir, now_ms, Some(token))
    }

    fn on(dir: tempfile::TempDir, now_ms: u64, token: Option<Token>) -> Self {
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, [1; 32]).unwrap();
        let vaults = ServerVaults::new(dir.path().join("vaults"));
        let engine = Arc::new(Engine::new(vaults.clone(), ReplicaId::from_bytes([9; 16])));
        let now_ms = Arc::new(AtomicU64::new(now_ms));
        let backends = Backends {
            accounts: Accounts::open(&path, [1; 32]).unwrap(),
            rounds: Arc::clone(&engine) as _,
            archive: Arc::new(vaults.clone()),
            blobs: Arc::new(VaultBlobs::new(vaults.clone())),
            live: live(dir.path()),
        };
        let config = ServerConfig {
            url_for_others: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            hosts: Vec::new(),
            client_address: ClientAddress::Peer,
            limits: limits(),
        };
        let (address, stop, thread) = run(config, backends, Arc::clone(&now_ms));
        if token.is_none() {
            let email = Email::new("anna@example.org").unwrap();
            accounts.add_user(ANNA, &email, NOW_MS).unwrap();
            accounts.create_vault(NOTES, &name("notes"), ANNA, NOW_MS).unwrap();
            vaults.create(&NOTES).unwrap();
        }
        let subject = Subject { user: ANNA, device: DeviceId::from_bytes([11; 32]) };
        let mint = || accounts.mint(subject, "laptop", &Rights::ALL, [11; 32], NOW_MS).unwrap();
        let token = token.unwrap_or_else(mint);
        let running = Some((stop, thread));
        Self { address, engine, vaults, accounts, token, now_ms, running, dir }
    }

    /// A token of Anna's that may only read.
    pub fn read_only(&self) -> Token {
        let subject = Subject { user: ANNA, device: DeviceId::from_bytes([12; 32]) };
        let rights = Rights { access: Access::Read, ..Rights::ALL };
        self.accounts.mint(subject, "screen", &rights, [12; 32], NOW_MS).unwrap()
    }

    /// A token of Bert's, who may write to Anna's vault.
    pub fn bert(&self) -> Token {
        let token = self.stranger();
        self.accounts.set_member(NOTES, UserId::from_bytes([2; 16]), Access::Write).unwrap();
        token
    }

    /// A token of somebody else, who is in no vault.
    pub fn stranger(&self) -> Token {
        let user = UserId::from_bytes([2; 16]);
        let email = Email::new("bert@example.org").unwrap();
        self.accounts.add_user(user, &email, NOW_MS).unwrap();
        let subject = Subject { user, device: DeviceId::from_bytes([13; 32]) };
        self.accounts.mint(subject, "phone", &Rights::ALL, [13; 32], NOW_MS).unwrap()
    }

    pub fn ask(&self, method: &'static str, path: &str) -> Ask {
        Ask::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path).token(self.token.reveal()).send()
    }

    /// The body of a good answer.
    pub fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.ask("POST", path).token(self.token.reveal()).json(body).send()
    }

    pub fn store(&self) -> ServerVault {
        self.vaults.open(&NOTES).unwrap().unwrap()
    }

    pub fn folder(&self) -> PathBuf {
        self.vaults.folder(&NOTES)
    }

    /// Anna at her laptop, a millisecond later than last time.
    pub fn party(&self) -> Party {
        let received_ms = self.now_ms.fetch_add(1, Ordering::SeqCst);
        let device = DeviceId::from_bytes([11; 32]);
        let address = "192.0.2.1".into();
        let origin = Origin { user: ANNA, device, received_ms, address, others: Vec::new() };
        Party { origin, access: Access::Write }
    }

    pub fn try_write(&self, write: &Write) -> Result<Written, EngineError> {
        self.engine.write(&NOTES, &self.party(), write)
    }

    pub fn write(&self, write: &Write) -> Written {
        self.try_write(write).unwrap()
    }

    pub fn create(&self, path: &str, text: &str) -> Written {
        self.write(&Write::create(at(path), text.as_bytes()))
    }

    pub fn edit(&self, base: VersionId, path: &str, text: &str) -> Written {
        self.write(&Write::edit(base, &at(path), text.as_bytes()))
    }
}

impl Real {
    fn stop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        let ended = thread.join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn at(path: &str) -> VaultPath {
    VaultPath::new(path).unwrap()
}

/// What a head holds.
pub fn text(written: &Written) -> &str {
    std::str::from_utf8(written.content.as_deref().unwrap()).unwrap()
}
