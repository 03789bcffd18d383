//! What a damaged database still told: from which version each file was made. Kept in `.crucible`
//! until the first contact of the new database is through; nothing depends on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crucible_core::id::VersionId;
use crucible_core::vault_path::VaultPath;
use crucible_node::config;

use crate::exit::{During, Outcome};

const FILE: &str = "salvaged.json";

/// Writes it down.
///
/// # Errors
/// When the disk does not let us.
pub fn keep(root: &Path, bases: &[(VaultPath, VersionId)]) -> Outcome<()> {
    let shown: BTreeMap<&str, String> =
        bases.iter().map(|(path, id)| (path.as_str(), id.to_string())).collect();
    let text = serde_json::to_vec(&shown).during("writing down what can still be read")?;
    fs::write(file(root), text).during(format!("writing {}", file(root).display()))
}

/// Reads it; what is not there, or not whole, is nothing: a base that is not known costs a merge
/// without one, which keeps both sides.
pub fn of(root: &Path) -> BTreeMap<VaultPath, VersionId> {
    let read =
        || serde_json::from_slice::<BTreeMap<String, String>>(&fs::read(file(root)).ok()?).ok();
    let known =
        |(path, id): (String, String)| Some((VaultPath::new(&path).ok()?, id.parse().ok()?));
    read().unwrap_or_default().into_iter().filter_map(known).collect()
}

/// Takes it away: the first contact is through, and whatever stays is not looked at any more.
pub fn forget(root: &Path) {
    // There is hardly ever one, and one that stays is read by no vault that has joined.
    let _ = fs::remove_file(file(root));
}

fn file(root: &Path) -> PathBuf {
    root.join(config::FOLDER).join(FILE)
}
