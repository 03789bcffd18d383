//! Finding and opening the vault a command is about.
//!
//! Invariant: a question never makes a vault. What writes holds the vault's lock for as long as it
//! runs; what only reads does not, so `cru status` answers while `cru up` works.

use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use crucible_core::vault_path::VaultPath;
use crucible_node::config::{self, Config, ConfigError, Mode};
use crucible_node::http::{Http, Origin};
use crucible_node::http_link::HttpLink;
use crucible_node::replica::{Replica, Settings, scan_on_all_cores};
use crucible_store::sync_db::SyncDb;
use crucible_vault::lock::{LockError, VaultLock};
use crucible_vault::real_fs::RealFs;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, not_a_vault};
use crate::home::Home;
use crate::salvage;
use crate::world;

/// The database inside a vault's state folder.
pub const DATABASE: &str = "sync.db";
/// How long another process is waited for: rounds of a `cru up` are shorter than that mostly.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two tries to lock.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A vault's folder, found and read, not yet opened.
#[derive(Debug)]
pub struct VaultFolder {
    /// The folder that holds `.crucible`.
    pub root: PathBuf,
    /// What it says about itself.
    pub config: Config,
}

/// A folder open for changing, locked against others.
pub struct OpenVault {
    /// What rounds are made with.
    pub replica: Replica<RealFs, SyncDb>,
    /// Kept until the command is done.
    _lock: VaultLock,
}

impl VaultFolder {
    /// The vault at `start` or around it.
    ///
    /// # Errors
    /// Exit 10 when there is none; what [`Config::read`] says.
    pub fn find(start: &Path) -> Outcome<Self> {
        let start = std::path::absolute(start)
            .map_err(|error| not_a_vault(format!("{}: {error}", start.display())))?;
        if !start.is_dir() {
            return Err(not_a_vault(format!("there is no folder {}", start.display())));
        }
        Self::around(&start)?
            .ok_or_else(|| not_a_vault(format!("{} is not in a vault", start.display())))
    }

    /// The vault that `place`, which need not be there, is in or is the root of.
    ///
    /// # Errors
    /// What [`Config::read`] says.
    pub fn around(place: &Path) -> Outcome<Option<Self>> {
        for folder in place.ancestors() {
            if let Some(found) = Self::at(folder)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The vault whose root is exactly `folder`; `None` when it is none.
    ///
    /// # Errors
    /// What [`Config::read`] says.
    pub fn at(folder: &Path) -> Outcome<Option<Self>> {
        match Config::read(folder) {
            Ok(config) => Ok(Some(Self { root: folder.to_owned(), config })),
            Err(ConfigError::NotAVault(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where its database is.
    pub fn database(&self) -> PathBuf {
        self.root.join(config::FOLDER).join(DATABASE)
    }

    /// Opens what the vault knows, to look at.
    ///
    /// # Errors
    /// What the store says.
    pub fn store(&self) -> Outcome<SyncDb> {
        Ok(SyncDb::open(&self.database())?)
    }

    /// Locks and opens the folder, to change what is in it; waits a moment for another process.
    ///
    /// # Errors
    /// Exit 11 when another process has it; what the store and the folder say.
    pub fn open(&self) -> Outcome<OpenVault> {
        self.open_as(false)
    }

    /// The same, for rounds with the other side.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_rounds(&self, context: &Context) -> Outcome<OpenVault> {
        self.open_as(self.is_read_only(context)?)
    }

    fn open_as(&self, read_only: bool) -> Outcome<OpenVault> {
        let unique = crucible_core::hash::hex(&world::random::<16>()?);
        let fs = RealFs::open(&self.root, &unique)?;
        let lock = lock(&fs)?;
        let store = self.store()?;
        let bases = salvage::of(&self.root);
        let settings = Settings { policies: self.config.rules(), read_only, bases };
        let replica = Replica::new(fs, store, settings, scan_on_all_cores)
            .map_err(|glob| Failure::failed(format!("the policy {glob:?} cannot be read")))?;
        Ok(OpenVault { replica, _lock: lock })
    }

    /// The server, if there is one.
    pub fn server(&self) -> Option<&str> {
        match &self.config.mode {
            Mode::Local => None,
            Mode::Remote { server } => Some(server),
        }
    }

    /// Whether the token that rounds are made with is known to allow reading alone; of one in
    /// CRU_TOKEN the first push tells.
    fn is_read_only(&self, context: &Context) -> Outcome<bool> {
        let Some(server) = self.server() else { return Ok(false) };
        let kept = context.home.credential(server, &self.config.vault)?;
        match (&context.token, kept) {
            (None, None) => Ok(false),
            (None, Some(kept)) => Ok(kept.read_only),
            (Some(given), Some(kept)) => Ok(*given == kept.token && kept.read_only),
            (Some(_), None) => Ok(false),
        }
    }

    /// Speaks to the server with CRU_TOKEN, or else with this device's own token.
    ///
    /// # Errors
    /// Exit 2 for a vault without a server, exit 12 without a token.
    pub fn http(&self, context: &Context) -> Outcome<Http> {
        let Some(server) = self.server() else {
            return Err(Failure::new(Exit::Usage, "this vault has no server")
                .hint("`cru up` gives it one; until then versions are kept here alone"));
        };
        let kept = |home: &Home| home.credential(server, &self.config.vault);
        let token = context.token_for(server, kept)?;
        context.http(Origin { url: server.to_owned(), token: Some(token), roots_pem: None })
    }

    /// The other side of rounds; `None` for a vault without a server.
    ///
    /// # Errors
    /// As [`Self::http`].
    pub fn link(&self, context: &Context) -> Outcome<Option<HttpLink>> {
        if self.server().is_none() {
            return Ok(None);
        }
        Ok(Some(HttpLink::new(self.http(context)?, &self.config.vault)))
    }
}

impl VaultFolder {
    /// The vault path that a person means: relative to where they stand, or absolute inside.
    ///
    /// # Errors
    /// Exit 2 for what is outside, or cannot be a path of a vault.
    pub fn path_of(&self, context: &Context, text: &str) -> Outcome<VaultPath> {
        let start = std::path::absolute(&context.start).unwrap_or_else(|_| context.start.clone());
        let mut parts: Vec<String> = Vec::new();
        let relative = |path: &Path| path.strip_prefix(&self.root).ok().map(Path::to_owned);
        let outside = || {
            Failure::new(Exit::Usage, format!("{text} is outside of the vault"))
                .hint(format!("the vault is {}", self.root.display()))
        };
        let joined = if Path::new(text).is_absolute() {
            relative(Path::new(text)).ok_or_else(outside)?
        } else {
            relative(&start).unwrap_or_default().join(text)
        };
        for part in joined.components() {
            match part {
                Component::Normal(name) => {
                    parts.push(name.to_str().ok_or_else(outside)?.to_owned());
                }
                Component::ParentDir => drop(parts.pop().ok_or_else(outside)?),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        VaultPath::new(&parts.join("/")).map_err(|error| {
            Failure::new(Exit::Usage, format!("{text:?} cannot be a note: its path {error}"))
        })
    }

    /// Reads `PATH` or `PATH@VERSION`. An `@` belongs to the name where no version follows it, or
    /// a file is called so.
    ///
    /// # Errors
    /// As [`Self::path_of`]; exit 2 where what follows the name of a file is no version.
    pub fn path_at(&self, context: &Context, text: &str) -> Outcome<(VaultPath, Option<String>)> {
        if let Some((path, version)) = text.rsplit_once('@') {
            let whole = self.path_of(context, text);
            let is_there = |path: &VaultPath| self.root.join(path.as_str()).is_file();
            if path.is_empty() || whole.as_ref().is_ok_and(is_there) {
                return Ok((whole?, None));
            }
            let before = self.path_of(context, path)?;
            if !version.is_empty() && version.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok((before, Some(version.to_owned())));
            }
            if is_there(&before) {
                let message = format!("{version:?} is no version");
                return Err(Failure::new(Exit::Usage, message).hint(format!(
                    "`cru log '{before}'` lists them; their first 8 digits are enough"
                )));
            }
        }
        Ok((self.path_of(context, text)?, None))
    }
}

/// Takes the lock, waiting for [`PATIENCE`] while another process has it.
fn lock(fs: &RealFs) -> Outcome<VaultLock> {
    let begun = Instant::now();
    loop {
        match VaultLock::acquire(fs, std::process::id()) {
            Err(LockError::Held { .. }) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(TRY_AGAIN);
            }
            done => return Ok(done?),
        }
    }
}
