//! What a server is made of, shared by all its requests.
//!
//! Invariant: everything that grows with what clients do is bounded here: blocking threads,
//! locks, remembered tokens, rate limits, listeners.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_core::id::{DeviceId, RootHash, VaultId};
use crucible_store::accounts::{Accounts, Vault};
use crucible_trust::capability::{Capability, Token};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Op, Request};
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};

use crate::archive::Archive;
use crate::blobs::Blobs;
use crate::caller::Caller;
use crate::config::{Limits, ServerConfig};
use crate::error::{ApiError, Code};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notes::Listings;
use crate::rate::{Gate, Rate};
use crate::rounds::Rounds;

/// Addresses, devices or tokens remembered at most.
const REMEMBERED_MAX: usize = 16_384;
/// Questions to the accounts at a time; they are short, and do not wait behind rounds.
const QUICK_MAX: usize = 8;
/// How rarely a device's last request is written down, in milliseconds.
const SEEN_EVERY_MS: u64 = 60_000;

/// Tells the time in milliseconds since 1970; the binary may shift it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What is behind the shell.
pub struct Backends {
    /// Who is known.
    pub accounts: Accounts,
    /// The engine.
    pub rounds: Arc<dyn Rounds>,
    /// History.
    pub archive: Arc<dyn Archive>,
    /// Large assets.
    pub blobs: Arc<dyn Blobs>,
    /// Live sessions.
    pub live: Live,
}

/// A running server's state.
pub struct Server {
    config: ServerConfig,
    backends: Backends,
    clock: Clock,
    metrics: Metrics,
    gates: Mutex<Gates>,
    tokens: Mutex<HashMap<Token, Arc<Capability>>>,
    seen: Mutex<HashMap<DeviceId, u64>>,
    locks: Mutex<HashMap<VaultId, Arc<tokio::sync::Mutex<()>>>>,
    roots: Mutex<HashMap<VaultId, watch::Sender<Option<RootHash>>>>,
    /// Listings of notes that were asked for lately.
    pub(crate) listings: Listings,
    blocking: Arc<Semaphore>,
    quick: Arc<Semaphore>,
    /// Streams of events that may still be opened.
    pub(crate) streams: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// Rate limits by whom they count.
struct Gates {
    devices: Gate<DeviceId>,
    strangers: Gate<IpAddr>,
    pairing: Gate<IpAddr>,
    pairing_all: Gate<()>,
}

/// A vault somebody may enter, and how far they may go in it.
pub struct Entry {
    /// Which.
    pub vault: Vault,
    /// What token and membership both allow.
    pub access: Access,
}

impl Server {
    /// Puts a server together; nothing runs yet.
    pub fn new(config: ServerConfig, backends: Backends, clock: Clock) -> Arc<Self> {
        let limits = &config.limits;
        fn gate<K: Hash + Eq + Clone>(rate: Rate) -> Gate<K> {
            Gate::new(rate, REMEMBERED_MAX)
        }
        let gates = Gates {
            devices: gate(limits.device_rate),
            strangers: gate(limits.stranger_rate),
            pairing: gate(limits.pairing_rate),
            pairing_all: gate(limits.pairing_rate_all),
        };
        Arc::new(Self {
            blocking: Arc::new(Semaphore::new(limits.blocking_max)),
            quick: Arc::new(Semaphore::new(QUICK_MAX)),
            streams: Arc::new(Semaphore::new(limits.events_max)),
            config,
            backends,
            clock,
            metrics: Metrics::default(),
            gates: Mutex::new(gates),
            tokens: Mutex::new(HashMap::new()),
            seen: Mutex::new(HashMap::new()),
            locks: Mutex::new(HashMap::new()),
            roots: Mutex::new(HashMap::new()),
            listings: Listings::default(),
            closing: watch::Sender::new(false),
        })
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.backends.accounts
    }

    pub(crate) fn rounds(&self) -> &dyn Rounds {
        &*self.backends.rounds
    }

    pub(crate) fn archive(&self) -> &dyn Archive {
        &*self.backends.archive
    }

    pub(crate) fn live(&self) -> &Live {
        &self.backends.live
    }

    pub(crate) fn blobs(&self) -> &dyn Blobs {
        &*self.backends.blobs
    }

    /// Tells every stream and connection that the server is going down.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Becomes true when the server is going down.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Does blocking work on one of a bounded number of threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.on_a_thread(&self.blocking, work).await
    }

    /// Asks the accounts something short.
    pub(crate) async fn quick<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.on_a_thread(&self.quick, work).await
    }

    async fn on_a_thread<T: Send + 'static>(
        self: &Arc<Self>,
        threads: &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(threads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let server = Arc::clone(self);
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the request: a client that hangs up frees no thread.
            let _permit = permit;
            span.in_scope(|| work(&server))
        });
        // A panic is our bug; it takes this request and nothing else with it.
        done.await.unwrap_or_else(|panic| Err(ApiError::internal(&panic)))
    }

    /// Does blocking work while holding the right to write to `vault`.
    pub(crate) async fn writing<T: Send + 'static>(
        self: &Arc<Self>,
        vault: VaultId,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        // First the vault, then a thread: who waits for a vault keeps nobody else waiting.
        let guard = self.lock(vault).await;
        self.blocking(move |server| {
            let _guard = guard;
            work(server)
        })
        .await
    }

    async fn lock(&self, vault: VaultId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = held(&self.locks);
            if locks.len() >= REMEMBERED_MAX {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(vault).or_default())
        };
        lock.lock_owned().await
    }

    /// Tells those who listen that a vault has another root now.
    pub(crate) fn announce(&self, vault: VaultId, root: Option<RootHash>) {
        if let Some(sender) = held(&self.roots).get(&vault) {
            sender.send_if_modified(|last| std::mem::replace(last, root) != root);
        }
    }

    /// Listens for roots of a vault that are announced from now on.
    pub(crate) fn listen(&self, vault: VaultId) -> watch::Receiver<Option<RootHash>> {
        let mut roots = held(&self.roots);
        if roots.len() >= self.limits().events_max {
            roots.retain(|_, sender| sender.receiver_count() > 0);
        }
        roots.entry(vault).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// Takes note of a root that was read, not made: of no use once one was announced, which may
    /// be newer.
    pub(crate) fn learn(&self, vault: VaultId, root: Option<RootHash>) {
        if let Some(sender) = held(&self.roots).get(&vault) {
            sender.send_if_modified(|last| {
                *last = last.or(root);
                false
            });
        }
    }

    /// Lets a caller into a vault by its name, to read or to write.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        op: Op,
    ) -> Result<Entry, ApiError> {
        // A name that breaks the rules of names is the name of no vault.
        let name = VaultName::new(name).map_err(|_| ApiError::not_found("vault"))?;
        tracing::Span::current().record("vault", name.as_str());
        let caller = caller.clone();
        self.quick(move |server| server.enter_now(&caller, &name, op)).await
    }

    /// [`Self::enter`] for code that blocks anyway.
    pub(crate) fn enter_now(
        &self,
        caller: &Caller,
        name: &VaultName,
        op: Op,
    ) -> Result<Entry, ApiError> {
        let request = Request { op, vault: Some(name), path: None, now_ms: self.now_ms() };
        let grant = caller.capability.authorize(&request)?;
        let vault = self.accounts().vault(name)?.ok_or_else(|| ApiError::not_found("vault"))?;
        let member = self.accounts().membership(vault.id, caller.user())?.ok_or_else(|| {
            ApiError::new(Code::Forbidden, "you are not a member of this vault")
                .hint("ask its owner to add you")
        })?;
        if op == Op::Write && member == Access::Read {
            return Err(ApiError::new(Code::Forbidden, "you may only read this vault")
                .hint("ask its owner for write access"));
        }
        Ok(Entry { vault, access: member.min(grant.rights.access) })
    }

    /// A capability that was verified before.
    pub(crate) fn remembered(&self, token: &Token) -> Option<Arc<Capability>> {
        held(&self.tokens).get(token).cloned()
    }

    /// Keeps a verified capability: verifying again would say the same. Revocation and expiry
    /// are asked every time.
    pub(crate) fn remember(&self, token: Token, capability: Arc<Capability>) {
        let mut tokens = held(&self.tokens);
        if tokens.len() >= REMEMBERED_MAX {
            tokens.clear();
        }
        tokens.insert(token, capability);
    }

    /// Whether it is time to write down that a device was here.
    pub(crate) fn seen_is_due(&self, device: DeviceId, now_ms: u64) -> bool {
        let mut seen = held(&self.seen);
        if seen.get(&device).is_some_and(|last| now_ms.abs_diff(*last) < SEEN_EVERY_MS) {
            return false;
        }
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert(device, now_ms);
        true
    }

    pub(crate) fn admit_device(&self, device: &DeviceId) -> Result<(), ApiError> {
        let now_ms = self.now_ms();
        self.limited(|gates| gates.devices.enter(device, now_ms))
    }

    /// Whether an address may present tokens that nobody has verified yet.
    pub(crate) fn admit_stranger(&self, address: &IpAddr) -> Result<(), ApiError> {
        let now_ms = self.now_ms();
        self.limited(|gates| gates.strangers.is_open(&network(address), now_ms))
    }

    /// Counts a wrong token against its address.
    pub(crate) fn count_stranger(&self, address: &IpAddr) {
        // Already refused: whether the bucket had room changes nothing for this request.
        let _ = held(&self.gates).strangers.enter(&network(address), self.now_ms());
    }

    pub(crate) fn admit_pairing(&self, address: &IpAddr) -> Result<(), ApiError> {
        let now_ms = self.now_ms();
        self.limited(|gates| {
            gates.pairing.enter(&network(address), now_ms)?;
            gates.pairing_all.enter(&(), now_ms)
        })
    }

    /// A try that was no guess costs nothing.
    pub(crate) fn give_back_pairing(&self, address: &IpAddr) {
        let mut gates = held(&self.gates);
        gates.pairing.give_back(&network(address));
        gates.pairing_all.give_back(&());
    }

    fn limited(&self, ask: impl FnOnce(&mut Gates) -> Result<(), u64>) -> Result<(), ApiError> {
        ask(&mut held(&self.gates)).map_err(|wait_ms| {
            self.metrics.rate_limited.add(1);
            ApiError::rate_limited(wait_ms)
        })
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Whoever has one IPv6 address has its /64: it counts as one.
fn network(address: &IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section above leaves its map whole at each step, also when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
