//! A server that runs for the length of a test, and the people in it.

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crucible_core::id::{DeviceId, UserId, VaultId};
use crucible_server::config::{ClientAddress, Limits, Rate, ServerConfig, TlsFiles};
use crucible_server::live::documents::Pipes;
use crucible_server::live::{Live, LiveParts};
use crucible_server::serve;
use crucible_server::state::{Backends, Server};
use crucible_store::accounts::{Accounts, Email, Vault};
use crucible_store::crdt_db::CrdtDb;
use crucible_trust::capability::{Subject, Token};
use crucible_trust::name::VaultName;
use crucible_trust::rights::Rights;
use tokio::sync::oneshot;

use crate::client::{Ask, Reply};
use crate::fakes::{FakeEngine, MemoryBlobs, MemoryVaults};

pub const NOW_MS: u64 = 1_795_449_600_000;

pub struct Running {
    pub address: SocketAddr,
    pub engine: Arc<FakeEngine>,
    pub vaults: MemoryVaults,
    pub now_ms: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The accounts as another process sees them.
    pub accounts: Accounts,
    _dir: tempfile::TempDir,
}

/// Bounds under which tests do not get into each other's way.
pub fn limits() -> Limits {
    let free = Rate { burst: 100_000, refill_ms: 1 };
    Limits {
        device_rate: free,
        stranger_rate: free,
        pairing_rate: free,
        pairing_rate_all: free,
        ..Limits::default()
    }
}

/// Live sessions that begin with what the folder's `crdt.db` has.
pub fn live(dir: &Path) -> Live {
    let crdt = CrdtDb::open(&dir.join("crdt.db")).unwrap();
    Live::new(LiveParts { crdt, spawner: Arc::new(documents) })
}

/// What `cru live-documents` does in a process, on a thread.
fn documents() -> std::io::Result<Pipes> {
    let (asked, questions) = std::io::pipe()?;
    let (replies, answers) = std::io::pipe()?;
    std::thread::spawn(move || {
        let began = std::time::Instant::now();
        let now_us = move || u64::try_from(began.elapsed().as_micros()).unwrap();
        // It ends as a process does: with its pipes.
        let _ = crucible_server::live::documents::serve(BufReader::new(asked), answers, now_us);
    });
    Ok(Pipes {
        questions: Box::new(questions),
        replies: Box::new(replies),
        complaints: None,
        end: Arc::new(|| {}),
    })
}

/// A server on a thread of its own; it goes down when the sender is dropped.
pub fn run(
    config: ServerConfig,
    backends: Backends,
    now_ms: Arc<AtomicU64>,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let server = Server::new(config, backends, Arc::new(move || now_ms.load(Ordering::SeqCst)));
    let (stop, stopped) = oneshot::channel();
    let (bound, address) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            let stopped = async { drop(stopped.await) };
            serve(listener, server, stopped).await.unwrap();
        });
    });
    (address.recv().unwrap(), stop, thread)
}

impl Running {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, [1; 32]).unwrap();
        let engine = Arc::new(FakeEngine::default());
        let vaults = MemoryVaults::default();
        let now_ms = Arc::new(AtomicU64::new(NOW_MS));
        let backends = Backends {
            accounts: Accounts::open(&path, [1; 32]).unwrap(),
            rounds: Arc::clone(&engine) as _,
            archive: Arc::new(vaults.clone()),
            blobs: Arc::new(MemoryBlobs::default()),
            live: live(dir.path()),
        };
        let mut config = ServerConfig {
            url_for_others: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            hosts: Vec::new(),
            client_address: ClientAddress::Peer,
            limits: limits(),
        };
        adjust(&mut config);
        let (address, stop, thread) = run(config, backends, Arc::clone(&now_ms));
        let (stop, thread) = (Some(stop), Some(thread));
        Self { address, engine, vaults, now_ms, stop, thread, accounts, _dir: dir }
    }

    pub fn tls_files() -> TlsFiles {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/tls");
        TlsFiles { certificates: dir.join("cert.pem"), key: dir.join("key.pem") }
    }

    pub fn ask(&self, method: &'static str, path: &str) -> Ask {
        Ask::new(self.address, method, path)
    }

    pub fn get(&self, path: &str, token: &Token) -> Reply {
        self.ask("GET", path).token(token.reveal()).send()
    }

    pub fn user(&self, n: u8) -> UserId {
        let email = Email::new(&format!("user{n}@example.org")).unwrap();
        self.accounts.add_user(UserId::from_bytes([n; 16]), &email, NOW_MS).unwrap().id
    }

    pub fn token(&self, user: UserId, device: u8, rights: &Rights) -> Token {
        let subject = Subject { user, device: DeviceId::from_bytes([device; 32]) };
        self.accounts.mint(subject, "laptop", rights, [device; 32], NOW_MS).unwrap()
    }

    pub fn vault(&self, name: &str, owner: UserId) -> Vault {
        let mut id = [0; 16];
        id[..name.len()].copy_from_slice(name.as_bytes());
        let name = VaultName::new(name).unwrap();
        let id = VaultId::from_bytes(id);
        self.accounts.create_vault(id, &name, owner, NOW_MS).unwrap()
    }

    /// Anna with a device of all rights, and her vault `notes`.
    pub fn anna(&self) -> (UserId, Token) {
        let anna = self.user(1);
        self.vault("notes", anna);
        (anna, self.token(anna, 11, &Rights::ALL))
    }

    pub fn round(&self, token: &Token, vault: &str, body: &str) -> Reply {
        self.ask("POST", &format!("/api/sync/{vault}")).token(token.reveal()).cbor(body).send()
    }

    pub fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Asks the server to go down, without waiting.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it is down.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok(), "the server panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.door.open();
        self.begin_stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

pub fn name(text: &str) -> VaultName {
    VaultName::new(text).unwrap()
}
