//! A server inside this process: `cru serve`, and the ones of `cru up` and `cru demo`.
//!
//! Data folder: `accounts.db` (who), `vaults/ID/` (what), `lock` (one server at a time).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crucible_core::id::{DeviceId, ReplicaId, UserId};
use crucible_server::config::{ClientAddress, Limits, ServerConfig, TlsFiles};
use crucible_server::engine::Engine;
use crucible_server::live::{Live, LiveParts};
use crucible_server::state::{Backends, Server};
use crucible_server::vault_blobs::VaultBlobs;
use crucible_store::accounts::{self, Accounts, Email, Invite, User};
use crucible_store::crdt_db::CrdtDb;
use crucible_store::error::OpenError;
use crucible_store::schema;
use crucible_store::server_repo::Vaults;
use crucible_store::server_vault::{ServerVaults, VAULT_DB};
use crucible_trust::capability::Subject;
use crucible_trust::name::VaultName;
use crucible_trust::pairing::PairingCode;
use crucible_trust::rights::Rights;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::commands::live_documents;
use crate::exit::{During, Exit, Failure, Outcome, of_server_data};
use crate::join_link::JoinLink;
use crate::nesting;
use crate::world;

const ACCOUNTS: &str = "accounts.db";
const VAULTS: &str = "vaults";
/// Live sessions, in the data folder.
pub const SESSIONS: &str = "crdt.db";
const LOCK: &str = "lock";

/// How to serve.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything is kept.
    pub data: PathBuf,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// TLS.
    pub tls: Option<TlsFiles>,
    /// Names it is reached by.
    pub hosts: Vec<String>,
    /// Behind one proxy.
    pub behind_proxy: bool,
}

/// A server that answers.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    scheme: &'static str,
    data: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server: Arc<Server>,
    runtime: Handle,
    thread: Option<JoinHandle<Outcome<()>>>,
    _lock: File,
}

/// The accounts of a data folder, made if there are none.
///
/// # Errors
/// When the folder cannot be made, or holds something else.
pub fn accounts(data: &Path) -> Outcome<Accounts> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    // Notes of all users lie in it.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(data).during(format!("making {}", data.display()))?;
    let path = data.join(ACCOUNTS);
    if is_empty(&path)
        && fs::read_dir(data.join(VAULTS)).is_ok_and(|mut vaults| vaults.next().is_some())
    {
        let message = format!("{} is empty, though there are vaults beside it", path.display());
        return Err(of_server_data(Failure::new(Exit::Integrity, message)));
    }
    Accounts::open(&path, world::random()?).map_err(|error| of_server_data(error.into()))
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() == 0)
}

/// Looks at every database of a data folder without opening one, so that a newer format or a file
/// that is none is met before anything is touched.
///
/// # Errors
/// Exit 15 or 14, with the file.
fn look_over(data: &Path) -> Outcome<()> {
    let look = || -> Result<(), OpenError> {
        accounts::peek(&data.join(ACCOUNTS))?;
        let vaults = vaults(data);
        for id in vaults.list()? {
            schema::peek(&vaults.folder(&id).join(VAULT_DB))?;
        }
        Ok(())
    };
    look().map_err(|error| of_server_data(error.into()))
}

/// Opens every vault of a data folder once, as a request for it would.
///
/// # Errors
/// The first that cannot be opened, with its file.
fn try_vaults(vaults: &ServerVaults) -> Outcome<()> {
    let all = || -> Result<(), OpenError> {
        for id in vaults.list()? {
            vaults.open(&id)?;
        }
        Ok(())
    };
    all().map_err(|error| of_server_data(error.into()))
}

/// Live sessions of a data folder, if it ever had one.
///
/// # Errors
/// Exit 15 or 14, with the file.
pub fn sessions(data: &Path) -> Outcome<Option<CrdtDb>> {
    let path = data.join(SESSIONS);
    if !path.is_file() {
        return Ok(None);
    }
    CrdtDb::open(&path).map(Some).map_err(|error| of_server_data(error.into()))
}

/// The vaults of a data folder.
pub fn vaults(data: &Path) -> ServerVaults {
    ServerVaults::new(data.join(VAULTS))
}

impl Running {
    /// Starts a server; it answers when this returns.
    ///
    /// # Errors
    /// Exit 11 when another server has the data; what accounts and address say.
    pub fn start(plan: Plan) -> Outcome<Self> {
        look_over(&plan.data)?;
        nesting::require_unsynced(&plan.data)?;
        let accounts = accounts(&plan.data)?;
        let lock = lock(&plan.data)?;
        let vaults = vaults(&plan.data);
        try_vaults(&vaults)?;
        let blobs = Arc::new(VaultBlobs::new(vaults.clone()));
        let crdt = CrdtDb::open(&plan.data.join(SESSIONS))
            .map_err(|error| of_server_data(error.into()))?;
        let backends = Backends {
            accounts,
            rounds: Arc::new(Engine::new(vaults.clone(), ReplicaId::from_bytes(world::random()?))),
            archive: Arc::new(vaults),
            blobs,
            live: Live::new(LiveParts { crdt, spawner: live_documents::spawner() }),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("server")
            .build()
            .during("starting the server")?;
        let bound = runtime.block_on(tokio::net::TcpListener::bind(plan.listen));
        let listener = bound.map_err(|error| cannot_listen(plan.listen, &error))?;
        let address = listener.local_addr().during("starting the server")?;
        let config = ServerConfig {
            listen: address,
            url_for_others: address_for_others(address)
                .filter(|_| plan.tls.is_none())
                .map(|address| format!("http://{address}")),
            tls: plan.tls.clone(),
            hosts: plan.hosts,
            client_address: match plan.behind_proxy {
                true => ClientAddress::Forwarded,
                false => ClientAddress::Peer,
            },
            limits: Limits::default(),
        };
        let server = Server::new(config, backends, Arc::new(world::now_ms));
        let (at_server, handle) = (Arc::clone(&server), runtime.handle().clone());
        let (stop, stopped) = oneshot::channel();
        let serving = move || {
            let shutdown = async {
                // Dropped without a word means the same: end.
                drop(stopped.await);
            };
            let served = runtime.block_on(crucible_server::serve(listener, server, shutdown));
            served.map_err(|error| Failure::failed(format!("the server cannot run: {error}")))
        };
        let thread = std::thread::Builder::new().name("serve".to_owned());
        let thread = thread.spawn(serving).during("starting the server")?;
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let stop = Some(stop);
        Ok(Self {
            address,
            scheme,
            data: plan.data,
            stop,
            server: at_server,
            runtime: handle,
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// `http(s)://ADDRESS` as it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The address other machines reach it by, as far as this one can tell.
    pub fn url_for_others(&self) -> String {
        format!("{}://{}", self.scheme, address_for_others(self.address).unwrap_or(self.address))
    }

    /// Whether it ended by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// A second look into the accounts, beside the server's own.
    ///
    /// # Errors
    /// What the accounts say.
    pub fn accounts(&self) -> Outcome<Accounts> {
        accounts(&self.data)
    }

    /// Stores what is being written live as versions, so that a last round has all of it. Says
    /// whether there was anything live.
    pub fn settle(&self) -> bool {
        !self.has_ended() && self.runtime.block_on(crucible_server::live::settle(&self.server))
    }

    /// Takes no new request, lets those in flight finish, and ends.
    ///
    /// # Errors
    /// What ended it before.
    pub fn stop(mut self) -> Outcome<()> {
        self.end()
    }

    fn end(&mut self) -> Outcome<()> {
        if let Some(stop) = self.stop.take() {
            // It may have ended already, and then there is nobody to tell.
            let _ = stop.send(());
        }
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(Failure::failed("the server panicked; this is a bug")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`.
        let _ = self.end();
    }
}

/// The user of this address, added if there is none.
///
/// # Errors
/// What the accounts say.
pub fn user(accounts: &Accounts, email: &str) -> Outcome<User> {
    let email = Email::new(email)
        .map_err(|error| Failure::new(Exit::Usage, format!("--email {email:?}: {error}")))?;
    match accounts.user_by_email(&email)? {
        Some(user) => Ok(user),
        None => {
            Ok(accounts.add_user(UserId::from_bytes(world::random()?), &email, world::now_ms())?)
        }
    }
}

/// A link that lets one device of a user in.
///
/// # Errors
/// What the accounts say.
pub fn join_link(
    accounts: &Accounts,
    user: &User,
    rights: Rights,
    server: &str,
    vault: &VaultName,
) -> Outcome<JoinLink> {
    let code = PairingCode::from_entropy(world::random()?);
    accounts.open_invitation(&code, &Invite { user: user.id, rights }, world::now_ms())?;
    Ok(JoinLink { server: server.to_owned(), vault: vault.clone(), code: Some(code) })
}

/// The page's address, with a code that lets one browser in.
///
/// # Errors
/// What the accounts say.
pub fn page_link(
    accounts: &Accounts,
    user: &User,
    rights: Rights,
    server: &str,
) -> Outcome<String> {
    let code = PairingCode::from_entropy(world::random()?);
    accounts.open_invitation(&code, &Invite { user: user.id, rights }, world::now_ms())?;
    Ok(format!("{server}/#pair={code}"))
}

/// A token for a device of a user, without a code.
///
/// # Errors
/// What the accounts say.
pub fn token(accounts: &Accounts, user: &User, device: DeviceId, name: &str) -> Outcome<String> {
    let subject = Subject { user: user.id, device };
    let token = accounts.mint(subject, name, &Rights::ALL, world::random()?, world::now_ms())?;
    Ok(token.reveal().to_owned())
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("cannot listen on {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            failure.hint("something listens there already; --listen 127.0.0.1:0 picks a free port")
        }
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("ports below 1024 are the system's; take a higher one")
        }
        _ => failure.hint("--listen takes an address of this machine and a port"),
    }
}

/// One server for one data folder: the kernel's lock, gone with its process.
fn lock(data: &Path) -> Outcome<File> {
    let path = data.join(LOCK);
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .during(format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // For the message only.
            let by = match file.take(16).read_to_string(&mut pid) {
                Ok(read) if read > 0 => format!(" (process {})", pid.trim()),
                _ => String::new(),
            };
            let message = format!("another server works in {}{by}", data.display());
            return Err(Failure::new(Exit::Locked, message).hint("stop it, or name another --data"));
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).during(format!("locking {}", path.display()));
        }
    }
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.during(format!("writing {}", path.display()))?;
    Ok(file)
}

/// The address other machines reach a listener of this one by, as far as this one can tell;
/// `None` for a listener that only this machine reaches, or while there is no network.
pub fn address_for_others(listener: SocketAddr) -> Option<SocketAddr> {
    match listener.ip() {
        ip if ip.is_loopback() => None,
        ip if ip.is_unspecified() => {
            outward_address().map(|ip| SocketAddr::new(ip, listener.port()))
        }
        _ => Some(listener),
    }
}

/// This machine's address on the network it reaches others by. Nothing is sent.
fn outward_address() -> Option<IpAddr> {
    let tries: [(SocketAddr, SocketAddr); 2] = [
        (
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)),
        ),
        (
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)),
        ),
    ];
    tries.into_iter().find_map(|(own, other)| {
        let socket = UdpSocket::bind(own).ok()?;
        // Connecting a datagram socket only asks the routing table.
        socket.connect(other).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    })
}
