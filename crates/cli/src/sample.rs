//! The small vault that comes with the program: what `cru demo` shows, and `cru up` serves when
//! no folder is named.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// One file: its path in the vault and its bytes.
pub type Sample = (&'static str, &'static [u8]);

macro_rules! samples {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../samples/vault/", $path)))),*]
    };
}

/// Every file of `samples/vault`.
pub const FILES: &[Sample] = samples![
    ".cruignore",
    "Attachments/lighthouse.png",
    "Daily/2026-03-14.md",
    "Daily/2026-03-15.md",
    "Daily/2026-03-16.md",
    "Inbox.md",
    "People/Marta.md",
    "Projects/Backup script.md",
    "Projects/Boat.md",
    "Projects/Garden plan.md",
    "Reading/Shelf.md",
    "Reading/The Summer Book.md",
    "Reading/日本語の本.md",
    "Recipes/Crème brûlée.md",
    "Recipes/Shopping.md",
    "Recipes/Sourdough.md",
    "Welcome.md",
];

/// Writes all of it into a folder that is empty or not there.
///
/// # Errors
/// What the disk says; a file that is there is left as it is.
pub fn write(root: &Path) -> io::Result<()> {
    for (path, bytes) in FILES {
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::File::create_new(to)?.write_all(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::FILES;

    fn list(folder: &Path, inside: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{inside}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                list(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn the_program_carries_the_whole_sample_vault() {
        let mut there = BTreeSet::new();
        list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/vault"), "", &mut there);
        let carried: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(carried, there);
    }
}
