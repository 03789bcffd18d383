//! How a folder becomes a copy of a vault, and a device gets a token of its own.
//!
//! Invariant: nothing is made in the folder before the server has let this device in; the
//! database is made before the configuration, and the configuration is what makes it a vault, so a
//! join that was cut is joined again.

use std::fs;
use std::path::Path;

use crucible_core::id::{ReplicaId, VaultId};
use crucible_node::api::{self, Access, Paired};
use crucible_node::config::{self, Config, Mode};
use crucible_node::http::{Http, Origin, is_loopback};
use crucible_node::link::LinkError;
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::ReplicaMeta;
use crucible_trust::name::VaultName;
use crucible_trust::pairing::PairingCode;

use crate::context::{Context, GET_TOKEN};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::home::Credential;
use crate::nesting;
use crate::vault_folder::{DATABASE, VaultFolder};
use crate::world;

/// What a device shows to be let in.
pub enum Proof {
    /// A code that somebody read out or pasted.
    Code(PairingCode),
    /// A token of the user's, to be exchanged for one of this device's own.
    Token(String),
    /// Nothing: the token this device got before.
    Known,
}

/// Gets this device a token for a vault and keeps it.
///
/// # Errors
/// Exit 12 when the server does not let it in; exit 13 when it does not answer.
pub fn let_in(
    context: &Context,
    server: &str,
    vault: &str,
    proof: Proof,
    device_name: &str,
) -> Outcome<Credential> {
    if server.starts_with("http://") && !is_loopback(server) {
        context.output.warn(format!(
            "{server} speaks without encryption: whoever is on the way can read along. https:// \
             is better outside of a network you trust"
        ));
    }
    if let Some(file) = &context.ca_file {
        let pem = fs::read(file).during(format!("reading {}", file.display()))?;
        context.home.trust(server, &pem)?;
    }
    let credential = match proof {
        Proof::Known => {
            return context.home.credential(server, vault)?.ok_or_else(|| {
                let message = format!("this device has no token for {server}");
                Failure::new(Exit::NotAllowed, message).hint(GET_TOKEN)
            });
        }
        Proof::Code(code) => {
            let paired = pair(context, server, &code.to_string(), device_name)?;
            let reach = paired.rights.vaults.clone();
            let credential = credential_of(paired);
            context.home.keep(server, vault, reach.as_deref(), credential.clone())?;
            credential
        }
        Proof::Token(token) => {
            let (credential, reach) = own_token(context, server, token, device_name)?;
            context.home.keep(server, vault, reach.as_deref(), credential.clone())?;
            credential
        }
    };
    Ok(credential)
}

/// Exchanges a user's token for one of this device's own, so that it is listed and revoked alone;
/// with the vaults it is for, where those are not all. Where that is not allowed the token itself
/// is used.
fn own_token(
    context: &Context,
    server: &str,
    token: String,
    device_name: &str,
) -> Outcome<(Credential, Option<Vec<String>>)> {
    let mut http = context.http(Origin {
        url: server.to_owned(),
        token: Some(token.clone()),
        roots_pem: None,
    })?;
    let me = api::whoami(&mut http)?;
    let key = context.home.device_key()?.public().to_string();
    match api::enroll(&mut http, &key, device_name) {
        Ok(paired) => {
            let reach = paired.rights.vaults.clone();
            Ok((credential_of(paired), reach))
        }
        // This device is somebody else's on that server already.
        Err(LinkError::Forbidden { .. }) => {
            let read_only = me.rights.access == Access::Read;
            Ok((Credential { token, email: me.email, read_only }, me.rights.vaults))
        }
        Err(error) => Err(error.into()),
    }
}

fn pair(context: &Context, server: &str, code: &str, device_name: &str) -> Outcome<Paired> {
    let key = context.home.device_key()?.public().to_string();
    let mut http = context.http(Origin { url: server.to_owned(), token: None, roots_pem: None })?;
    api::pair(&mut http, code, &key, device_name).map_err(|error| match error {
        LinkError::Forbidden { message, .. } => Failure::new(Exit::NotAllowed, message)
            .hint("a code is good once, for ten minutes; `cru invite` prints a new one"),
        other => other.into(),
    })
}

fn credential_of(paired: Paired) -> Credential {
    Credential {
        token: paired.token,
        email: paired.email,
        read_only: paired.rights.access == Access::Read,
    }
}

/// The vault of this name on the server, made if it is not there and `agreed` does not fail. `id`
/// is the one it must have.
///
/// # Errors
/// What `agreed` says; exit 12 when the token does not reach it or may not make one.
pub fn vault_there(
    http: &mut Http,
    name: &str,
    id: Option<VaultId>,
    agreed: impl FnOnce(&mut Http) -> Outcome<()>,
) -> Outcome<api::Vault> {
    let there = match api::vault(http, name)? {
        Some(there) => there,
        None => {
            agreed(http)?;
            api::create_vault(http, name, id.as_ref())?
        }
    };
    if id.is_some_and(|id| id != there.id) {
        let message = format!("{} has another vault that is called {name}", http.url());
        return Err(Failure::new(Exit::Refused, message)
            .hint("join it in a folder of its own, or give this one another name"));
    }
    Ok(there)
}

/// Makes `root` a vault's folder: its database first, then its configuration.
///
/// # Errors
/// When the disk does not let us.
pub fn make_folder(root: &Path, config: &Config) -> Outcome<VaultFolder> {
    let state = root.join(config::FOLDER);
    fs::create_dir_all(&state).during(format!("making {}", state.display()))?;
    make_database(root, config)?;
    config.create(root)?;
    VaultFolder::at(root)?.ok_or_else(|| Failure::failed("the configuration is gone again"))
}

/// Makes a folder a vault that has no server yet, called `name` or like the folder.
///
/// # Errors
/// Exit 2 for a name that is none, exit 16 inside or around another vault; when the disk does not
/// let us.
pub fn make_local(root: &Path, name: Option<&str>) -> Outcome<VaultFolder> {
    nesting::require_alone(root)?;
    let vault = match name {
        Some(name) => VaultName::new(name)
            .map_err(|error| Failure::new(Exit::Usage, format!("--name: {error}")))?
            .to_string(),
        None => name_like(&std::path::absolute(root).unwrap_or_else(|_| root.to_owned())),
    };
    fs::create_dir_all(root).during(format!("making {}", root.display()))?;
    let vault_id = VaultId::from_bytes(world::random()?);
    make_folder(root, &Config { vault_id, vault, mode: Mode::Local, policies: Vec::new() })
}

/// Makes the database of a vault's folder, of a replica that has met nobody yet.
///
/// # Errors
/// When the disk does not let us, or another vault's database is there.
pub fn make_database(root: &Path, config: &Config) -> Outcome<()> {
    let replica = ReplicaId::from_bytes(world::random()?);
    let mut meta = ReplicaMeta::new(config.vault_id, replica);
    // Without another side there is nothing to meet first.
    meta.joined = config.mode == Mode::Local;
    drop(SyncDb::create(&root.join(config::FOLDER).join(DATABASE), &meta)?);
    Ok(())
}

/// A name for a vault like the folder's: what a server takes as one.
pub fn name_like(folder: &Path) -> String {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).take(64).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    match VaultName::new(name) {
        Ok(name) => name.to_string(),
        Err(_) => "notes".to_owned(),
    }
}

/// Whether there is anything in a folder that a vault would hold.
///
/// # Errors
/// When it cannot be listed.
pub fn is_filled(folder: &Path) -> Outcome<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).during(format!("reading {}", folder.display())),
    };
    for entry in entries {
        let name = entry.during(format!("reading {}", folder.display()))?.file_name();
        if name != config::FOLDER {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_called_like_its_folder_where_that_can_be() {
        for (folder, name) in [
            ("/home/ada/Notes", "Notes"),
            ("/home/ada/My notes, 2026", "My-notes--2026"),
            ("/home/ada/.hidden", "hidden"),
            ("/home/ada/日本語", "notes"),
            ("/home/ada/api", "notes"),
            ("/", "notes"),
        ] {
            assert_eq!(name_like(Path::new(folder)), name, "{folder}");
        }
    }

    #[test]
    fn a_folder_that_was_made_a_vault_is_found_as_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_filled(folder.path()).unwrap());
        let config = Config {
            vault_id: VaultId::from_bytes([3; 16]),
            vault: "notes".to_owned(),
            mode: Mode::Local,
            policies: Vec::new(),
        };
        let made = make_folder(folder.path(), &config).unwrap();
        assert_eq!(made.config, config);
        assert!(!is_filled(folder.path()).unwrap());
        let found = VaultFolder::find(&folder.path().join(".crucible")).unwrap();
        assert_eq!(found.root, folder.path());
        drop(made.store().unwrap());
        fs::write(folder.path().join("a.md"), "a").unwrap();
        assert!(is_filled(folder.path()).unwrap());
    }
}
