//! Folders of the vault on disks of their own, remembered over restarts: where such a disk is not
//! mounted any more, its files are not deleted, they are elsewhere.
//!
//! One small file a mount in `.crucible/mounts`, named by the hash of the path it holds, so that a
//! torn one counts for nothing. Written before the files of a mount are recorded.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use crucible_core::hash::ContentHash;
use crucible_core::vault_path::VaultPath;
use crucible_sync::replica::FileRow;
use crucible_vault::fs::{FileSystem, STATE_DIR, is_within, join};
use crucible_vault::scan::{Absence, Scan};

const MOUNTS_DIR: &str = ".crucible/mounts";
/// Longer than any path in a vault.
const BYTES_MAX: u64 = 64 << 10;

/// Where disks were mounted when files on them were last recorded.
pub(crate) fn known<F: FileSystem>(fs: &F) -> io::Result<Vec<String>> {
    let entries = match fs.list(MOUNTS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut known = Vec::new();
    for entry in entries {
        let Ok(name) = entry.name.into_string() else { continue };
        let bytes = fs.read(&join(MOUNTS_DIR, &name), BYTES_MAX)?;
        if let Ok(path) = String::from_utf8(bytes)
            && name_of(&path) == name
        {
            known.push(path);
        }
    }
    Ok(known)
}

/// Remembers the mounts that a scan has met and forgets those that nothing is expected on.
pub(crate) fn remember<F: FileSystem>(
    fs: &F,
    rows: &BTreeMap<VaultPath, FileRow>,
    scan: &Scan,
) -> io::Result<()> {
    let known = known(fs)?;
    for path in known.iter().filter(|path| !scan.mounts.contains(path)) {
        let is_expected = rows.keys().any(|row| is_within(row.as_str(), path));
        let is_lost = scan.unknown.iter().any(|unknown| is_within(path, &unknown.path));
        if !(is_expected && is_lost) {
            fs.remove_file(&join(MOUNTS_DIR, &name_of(path)))?;
        }
    }
    for path in scan.mounts.iter().filter(|path| !known.contains(path)) {
        for dir in [STATE_DIR, MOUNTS_DIR] {
            match fs.make_dir(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let at = join(MOUNTS_DIR, &name_of(path));
        match fs.create(&at, path.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Torn by a crash: it did not name its path.
                fs.remove_file(&at)?;
                fs.create(&at, path.as_bytes())?;
            }
            created => created?,
        }
        fs.sync_file(&at)?;
        fs.sync_dir(MOUNTS_DIR)?;
    }
    Ok(())
}

/// Mounts that nobody knew of, over folders whose files cannot be seen any more.
pub(crate) fn covered(
    rows: &BTreeMap<VaultPath, FileRow>,
    known: &[String],
    scan: &Scan,
) -> Vec<String> {
    let hides = |mount: &&String| {
        let mut below = rows.keys().filter(|path| is_within(path.as_str(), mount));
        below.any(|path| scan.absence(path) == Absence::Gone)
    };
    scan.mounts.iter().filter(|mount| !known.contains(mount)).filter(hides).cloned().collect()
}

fn name_of(path: &str) -> String {
    ContentHash::of_blob(path.as_bytes()).to_string()
}
