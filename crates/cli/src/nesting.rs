//! No vault inside a vault: the inner one's notes would be synced as the outer one's too.
//!
//! Invariant: whoever makes a folder a vault asks here before anything else happens, a code that is
//! good once included.

use std::fs;
use std::path::{Path, PathBuf};

use crucible_node::config;

use crate::exit::{During, Exit, Failure, Outcome};
use crate::vault_folder::VaultFolder;

/// Refuses a folder that is inside a vault, or that has one in it. The folder need not be there,
/// and is no vault itself.
///
/// # Errors
/// Exit 16, saying which vault is in the way and what to do.
pub fn require_alone(root: &Path) -> Outcome<()> {
    let root = resolved(root)?;
    if let Some(outer) = root.parent().map(VaultFolder::around).transpose()?.flatten() {
        let message = format!(
            "{} is inside the vault {} ({}), and would be synced as a part of it; nothing was \
             changed",
            root.display(),
            outer.config.vault,
            outer.root.display(),
        );
        return Err(Failure::new(Exit::Refused, message).hint(format!(
            "name a folder outside of it; to go on with that vault: `cru -C '{}' sync`",
            outer.root.display(),
        )));
    }
    if let Some(inner) = vault_below(&root)? {
        let message = format!(
            "{} has a vault in it, {}, whose notes would be synced twice; nothing was changed",
            root.display(),
            inner.display(),
        );
        return Err(Failure::new(Exit::Refused, message).hint(format!(
            "name a folder beside that one, or move '{}' out of the way first",
            inner.display(),
        )));
    }
    Ok(())
}

/// Refuses a folder for a server's data that is synced itself: the keys and everybody's notes would
/// go to every device of that vault. What is of ours inside a vault never is.
///
/// # Errors
/// Exit 16, saying which vault it is.
pub fn require_unsynced(data: &Path) -> Outcome<()> {
    let data = resolved(data)?;
    let Some(around) = vault_around(&data)? else { return Ok(()) };
    let below = data.strip_prefix(&around.root).unwrap_or(&data);
    if below.components().any(|part| part.as_os_str() == config::FOLDER) {
        return Ok(());
    }
    let message = format!(
        "{} is inside the vault {}: the server's keys and everybody's notes would be synced to its \
         devices; nothing was changed",
        data.display(),
        around.config.vault,
    );
    Err(Failure::new(Exit::Refused, message).hint("name a folder outside of it"))
}

/// The vault around a place that something is to be written to, if any.
///
/// # Errors
/// When the place cannot be made out.
pub fn vault_around(place: &Path) -> Outcome<Option<VaultFolder>> {
    VaultFolder::around(&resolved(place)?)
}

/// A path without links and dots, as far as it is there.
fn resolved(path: &Path) -> Outcome<PathBuf> {
    let path = std::path::absolute(path).during(format!("looking for {}", path.display()))?;
    for there in path.ancestors() {
        let Ok(real) = there.canonicalize() else { continue };
        let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
        return Ok(plain(&real.join(rest)));
    }
    Ok(path)
}

/// What is not there has no links, so its dots mean what they say.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// A vault somewhere below a folder. Links are not followed: what they lead to is not synced.
fn vault_below(root: &Path) -> Outcome<Option<PathBuf>> {
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        // What cannot be listed is not synced either.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name() != config::FOLDER {
                waiting.push(entry.path());
            } else if folder != root && config::path_of(&folder).is_file() {
                return Ok(Some(folder));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(at: &Path) {
        fs::create_dir_all(at.join(config::FOLDER)).unwrap();
        let text = format!(
            "format = 1\nvault = \"notes\"\nvault_id = \"{}\"\nmode = \"local\"\n",
            "01".repeat(16)
        );
        fs::write(config::path_of(at), text).unwrap();
    }

    #[test]
    fn a_vault_stands_alone_whatever_way_leads_there() {
        let there = tempfile::tempdir().unwrap();
        let root = there.path().join("vault");
        vault(&root);
        fs::create_dir(there.path().join("beside")).unwrap();
        std::os::unix::fs::symlink(&root, there.path().join("link")).unwrap();
        for inside in ["vault/a", "vault/a/b/c", "beside/../vault/a", "link/a", "vault/new/../b"] {
            let refused = require_alone(&there.path().join(inside)).unwrap_err();
            assert_eq!(refused.exit, Exit::Refused, "{inside}");
            assert!(refused.message.contains("inside the vault notes"), "{refused:?}");
        }
        for fine in ["beside", "new", "vault/../new", "new/../beside/x"] {
            assert_eq!(require_alone(&there.path().join(fine)), Ok(()), "{fine}");
        }
    }

    #[test]
    fn a_folder_with_a_vault_deep_in_it_is_none() {
        let there = tempfile::tempdir().unwrap();
        vault(&there.path().join("a/b/vault"));
        for around in ["", "a", "a/b"] {
            let refused = require_alone(&there.path().join(around)).unwrap_err();
            assert_eq!(refused.exit, Exit::Refused, "{around:?}");
            assert!(refused.message.contains("a/b/vault"), "{refused:?}");
        }
    }

    #[test]
    fn a_state_folder_without_a_configuration_is_no_vault() {
        let there = tempfile::tempdir().unwrap();
        fs::create_dir_all(there.path().join("home/.crucible")).unwrap();
        assert_eq!(require_alone(there.path()), Ok(()));
    }
}
