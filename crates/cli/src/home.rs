//! `~/.crucible` (or CRU_HOME): this device's key and its tokens.
//!
//! Invariants: both files are 0600 and are refused when others may read them; a token is never
//! printed, and is kept for the one server (and vault) it was made for; a change replaces the
//! file in one step, under a lock, so that two processes lose nothing of each other's.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crucible_core::id::VaultId;
use crucible_node::config;
use crucible_trust::key::SecretKey;
use serde::{Deserialize, Serialize};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::world;

const KEY_FILE: &str = "device.key";
const TOKENS_FILE: &str = "auth.toml";
const LOCK_FILE: &str = "auth.lock";
/// For every vault of a server.
const ANY_VAULT: &str = "*";

/// Where this device keeps what is its own.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
}

/// A token for one vault (or all) of one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The secret.
    pub token: String,
    /// Whose it is, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// It allows reading alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// By server, then by vault (or `*`).
type Tokens = BTreeMap<String, BTreeMap<String, Credential>>;

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential(of {:?})", self.email)
    }
}

impl Home {
    /// The folder that CRU_HOME names, or `.crucible` in the person's own.
    ///
    /// # Errors
    /// When there is neither.
    pub fn find(cru_home: Option<PathBuf>, home: Option<PathBuf>) -> Outcome<Self> {
        let named = cru_home.filter(|path| !path.as_os_str().is_empty());
        let own = home.filter(|path| !path.as_os_str().is_empty());
        match named.or_else(|| own.map(|own| own.join(".crucible"))) {
            Some(folder) => Ok(Self { folder }),
            None => Err(Failure::new(Exit::Usage, "neither CRU_HOME nor HOME is set")
                .hint("CRU_HOME=FOLDER says where this device keeps its key and tokens")),
        }
    }

    /// At this folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the server of a `cru up` keeps the data of a vault.
    pub fn served(&self, vault: &VaultId) -> PathBuf {
        self.folder.join("served").join(vault.to_string())
    }

    /// This device's key; drawn when it is asked for the first time.
    ///
    /// # Errors
    /// When the file cannot be read or written, is no key, or others may read it.
    pub fn device_key(&self) -> Outcome<SecretKey> {
        let path = self.folder.join(KEY_FILE);
        if let Some(pem) = read_private(&path)? {
            return SecretKey::from_pem(&pem).map_err(|error| {
                Failure::new(Exit::Integrity, format!("{}: {error}", path.display())).hint(
                    "take it from a backup; without it this device joins again as a new one \
                     (move the file away first)",
                )
            });
        }
        let key = SecretKey::from_seed(world::random()?);
        self.make_folder()?;
        match write_new(&path, &key.to_pem()) {
            Ok(()) => Ok(key),
            // Another process was quicker: its key is this device's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.device_key(),
            Err(error) => Err(error).during(format!("writing {}", path.display())),
        }
    }

    /// The token for a vault: its own, or one for all of the server's.
    ///
    /// # Errors
    /// When the file cannot be read, or others may read it.
    pub fn credential(&self, server: &str, vault: &str) -> Outcome<Option<Credential>> {
        let tokens = self.read_tokens()?;
        let of_server = tokens.get(server);
        let vault = vault.to_ascii_lowercase();
        Ok(of_server
            .and_then(|vaults| vaults.get(&vault).or_else(|| vaults.get(ANY_VAULT)).cloned()))
    }

    /// Any token for a server: for all of its vaults, or else for one of them.
    ///
    /// # Errors
    /// As [`Self::credential`].
    pub fn any_credential(&self, server: &str) -> Outcome<Option<Credential>> {
        let tokens = self.read_tokens()?;
        let found = tokens
            .get(server)
            .and_then(|vaults| vaults.get(ANY_VAULT).or_else(|| vaults.values().next()).cloned());
        Ok(found)
    }

    /// Keeps a token that was got for `vault` and reaches the vaults in `reach`, or all of the
    /// server's: from now on it, and none that was kept before, is the one for `vault`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(
        &self,
        server: &str,
        vault: &str,
        reach: Option<&[String]>,
        token: Credential,
    ) -> Outcome<()> {
        let vault = vault.to_ascii_lowercase();
        self.change(|tokens| {
            let vaults = tokens.entry(server.to_owned()).or_default();
            vaults.remove(&vault);
            match reach {
                None => {
                    vaults.insert(ANY_VAULT.to_owned(), token);
                }
                Some(names) => {
                    let names = names.iter().map(|name| name.to_ascii_lowercase());
                    vaults.extend(names.map(|name| (name, token.clone())));
                }
            }
        })
    }

    /// The same tokens are good for another address of the same server.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn server_moved(&self, from: &str, to: &str) -> Outcome<()> {
        self.change(|tokens| {
            if let Some(vaults) = tokens.get(from).cloned() {
                let there = tokens.entry(to.to_owned()).or_default();
                for (vault, token) in vaults {
                    there.entry(vault).or_insert(token);
                }
            }
        })
    }

    /// Certificates (PEM) that this device was told to trust for a server.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trusted(&self, server: &str) -> Outcome<Option<Vec<u8>>> {
        let path = self.trusted_file(server);
        match fs::read(&path) {
            Ok(pem) => Ok(Some(pem)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during(format!("reading {}", path.display())),
        }
    }

    /// Trusts these certificates (PEM) for a server from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn trust(&self, server: &str, pem: &[u8]) -> Outcome<()> {
        self.make_folder()?;
        let path = self.trusted_file(server);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).during(format!("making {}", folder.display()))?;
        replace_private(&path, pem).during(format!("writing {}", path.display()))
    }

    fn trusted_file(&self, server: &str) -> PathBuf {
        let name = crucible_node::api::escaped(server);
        self.folder.join("trusted").join(format!("{name}.pem"))
    }

    fn change(&self, change: impl FnOnce(&mut Tokens)) -> Outcome<()> {
        self.make_folder()?;
        let _lock = self.lock().during(format!("locking {}", self.folder.display()))?;
        let mut tokens = self.read_tokens()?;
        change(&mut tokens);
        let path = self.folder.join(TOKENS_FILE);
        let text = toml::to_string(&tokens).during("writing the tokens")?;
        let text = format!("# Tokens of this device. Whoever reads this can act as you.\n{text}");
        replace_private(&path, &text).during(format!("writing {}", path.display()))
    }

    fn read_tokens(&self) -> Outcome<Tokens> {
        let path = self.folder.join(TOKENS_FILE);
        let Some(text) = read_private(&path)? else { return Ok(Tokens::new()) };
        toml::from_str(&text).map_err(|error| {
            // The library's message shows the line, and the line may hold a token.
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text.get(..at).unwrap_or("").matches('\n').count();
            Failure::failed(format!("{}, line {line}: not understood", path.display()))
                .hint("mend the line, or move the file away and join again with `cru join`")
        })
    }

    fn make_folder(&self) -> Outcome<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.during(format!("making {}", self.folder.display()))
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.folder.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }

    /// What is wrong with who may read the files; empty when nothing is.
    pub fn troubles(&self) -> Vec<Failure> {
        let files = [KEY_FILE, TOKENS_FILE].map(|name| self.folder.join(name));
        files.iter().filter_map(|path| read_private(path).err()).collect()
    }
}

/// The text of a file that nobody else may read; `None` when there is none.
fn read_private(path: &Path) -> Outcome<Option<String>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).during(format!("reading {}", path.display())),
    };
    if metadata.mode() & 0o077 != 0 {
        let message = format!("{} holds a secret, and others may read it", path.display());
        return Err(
            Failure::new(Exit::NotAllowed, message).hint(format!("chmod 600 '{}'", path.display()))
        );
    }
    fs::read_to_string(path).map(Some).during(format!("reading {}", path.display()))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // Whole or not at all: linked into place once it is written.
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    replace_private(&temporary, text)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

/// Puts a whole new file in the place of the old one, for its owner's eyes alone.
fn replace_private(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    config::replace(path, text.as_ref(), Some(0o600))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credential(token: &str) -> Credential {
        Credential { token: token.to_owned(), email: None, read_only: false }
    }

    #[test]
    fn a_device_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("deep/home"));
        let key = home.device_key().unwrap();
        assert_eq!(home.device_key().unwrap().to_seed(), key.to_seed());
        let mode = fs::metadata(home.folder.join(KEY_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_is_for_its_server_and_vault() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.keep("http://a", "Notes", Some(&["Notes".to_owned()]), credential("one")).unwrap();
        home.keep("http://a", "work", None, credential("two")).unwrap();
        let token = |server, vault| {
            home.credential(server, vault).unwrap().map(|credential| credential.token)
        };
        assert_eq!(token("http://a", "notes").as_deref(), Some("one"));
        assert_eq!(token("http://a", "work").as_deref(), Some("two"));
        assert_eq!(token("http://b", "notes"), None);
        home.server_moved("http://a", "https://b").unwrap();
        assert_eq!(token("https://b", "NOTES").as_deref(), Some("one"));
    }

    #[test]
    fn the_token_got_last_for_a_vault_is_the_one_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.keep("http://a", "notes", Some(&["notes".to_owned()]), credential("old")).unwrap();
        home.keep("http://a", "Notes", None, credential("new")).unwrap();
        let kept = home.credential("http://a", "notes").unwrap().unwrap();
        assert_eq!(kept.token, "new");
    }

    #[test]
    fn what_is_trusted_is_trusted_for_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.trust("https://a:1", b"pem").unwrap();
        assert_eq!(home.trusted("https://a:1").unwrap().as_deref(), Some(&b"pem"[..]));
        assert_eq!(home.trusted("https://a:2").unwrap(), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.keep("http://a", "n", None, credential("secret")).unwrap();
        let path = folder.path().join(TOKENS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = home.credential("http://a", "n").unwrap_err();
        assert_eq!(failure.exit, Exit::NotAllowed);
        assert!(failure.hint.contains("chmod 600"), "{failure:?}");
        assert_eq!(home.troubles().len(), 1);
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        replace_private(&folder.path().join(TOKENS_FILE), "\ntoken = \"s3cret\n").unwrap();
        let failure = home.credential("http://a", "n").unwrap_err();
        assert!(failure.message.ends_with("line 2: not understood"), "{failure:?}");
        assert!(!format!("{failure:?} {:?}", credential("s3cret")).contains("s3cret"));
    }
}
