//! What people and their editors do to the folder meanwhile.
//!
//! Missing folders are made on the way; all of it is durable at once, because what our promise is
//! about is what *we* do with their bytes. None of it counts as a call or runs the hook.

use std::io::{self, ErrorKind};

use crucible_vault::fs::{FileKind, file_name, join, parent};

use super::disk::Disk;

/// A file somebody has open; it stays the same file, wherever its name went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(usize);

impl Disk {
    /// Opens a file as an editor does that writes in place; makes it when it is missing.
    ///
    /// # Errors
    /// When it cannot be a file.
    pub fn user_open(&mut self, path: &str) -> io::Result<Handle> {
        if self.stat(path).is_err() {
            self.user_make_dir(parent(path))?;
            self.create(path, b"")?;
            self.sync_user_file(path)?;
        }
        let index = self.open(path)?;
        self.handles.push(Some(index));
        Ok(Handle(self.handles.len() - 1))
    }

    /// What an open file holds; nothing for a handle from before a crash.
    pub fn user_bytes(&self, handle: Handle) -> &[u8] {
        let open = self.handles.get(handle.0).copied().flatten();
        open.map_or(&[], |index| self.bytes_at(index))
    }

    /// Empties an open file, as `O_TRUNC` does. A handle from before a crash does nothing.
    pub fn user_truncate(&mut self, handle: Handle) {
        if let Some(Some(index)) = self.handles.get(handle.0).copied() {
            self.truncate(index);
        }
    }

    /// Writes on at the end of an open file.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn user_append(&mut self, handle: Handle, bytes: &[u8]) -> io::Result<()> {
        match self.handles.get(handle.0).copied() {
            Some(Some(index)) => {
                let written = self.write_at(index, bytes);
                self.make_durable(index);
                written
            }
            Some(None) | None => Ok(()),
        }
    }

    /// Closes an open file.
    pub fn user_close(&mut self, handle: Handle) {
        if let Some(slot) = self.handles.get_mut(handle.0) {
            *slot = None;
        }
    }

    /// Writes a file in place, all at once: open, truncate, write, close.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn user_write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let handle = self.user_open(path)?;
        self.user_truncate(handle);
        let written = self.user_append(handle, bytes);
        self.user_close(handle);
        written
    }

    /// Sets the time of a file's content, as `touch -d` and tools that restore times do.
    ///
    /// # Errors
    /// When nothing has the name.
    pub fn user_set_mtime(&mut self, path: &str, mtime_ns: i64) -> io::Result<()> {
        self.set_mtime(path, mtime_ns)
    }

    /// Saves as most editors do: a new file beside the old one, renamed over it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn user_save_by_rename(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.user_make_dir(parent(path))?;
        let beside = join(parent(path), &format!(".{}.swp", file_name(path)));
        self.user_write(&beside, bytes)?;
        self.user_rename(&beside, path).inspect_err(|_| {
            // Editors clear up behind them; whatever stays is what a crashed one leaves.
            let _ = self.user_remove(&beside);
        })
    }

    /// Renames a file or folder, over a file if there is one.
    ///
    /// # Errors
    /// When it is missing or a folder is in the way.
    pub fn user_rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.user_make_dir(parent(to))?;
        let moved = self.resolve(from)?;
        let replaced = self.resolve(to).ok().filter(|replaced| *replaced != moved);
        self.rename_over(from, to)?;
        self.unlinked.extend(replaced);
        self.commit_name(from);
        self.commit_name(to);
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it is missing or a folder.
    pub fn user_remove(&mut self, path: &str) -> io::Result<()> {
        let removed = self.resolve(path)?;
        self.remove_file(path)?;
        self.unlinked.insert(removed);
        self.commit_name(path);
        Ok(())
    }

    /// Whether a user removed an open file, or renamed another over it.
    pub fn user_has_unlinked(&self, handle: Handle) -> bool {
        let open = self.handles.get(handle.0).copied().flatten();
        open.is_some_and(|index| self.unlinked.contains(&index))
    }

    /// Removes a file, or a folder with all in it.
    ///
    /// # Errors
    /// When it is missing.
    pub fn user_remove_all(&mut self, path: &str) -> io::Result<()> {
        if self.stat(path)?.kind != FileKind::Dir {
            return self.user_remove(path);
        }
        for (name, _) in self.list(path)? {
            let name = String::from_utf8(name).map_err(|_| ErrorKind::InvalidFilename)?;
            self.user_remove_all(&join(path, &name))?;
        }
        self.remove_dir(path)?;
        self.commit_name(path);
        Ok(())
    }

    /// Makes a folder and those above it; one that is there is fine.
    ///
    /// # Errors
    /// When something else is in the way.
    pub fn user_make_dir(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() || self.stat(path).is_ok_and(|stat| stat.kind == FileKind::Dir) {
            return Ok(());
        }
        self.user_make_dir(parent(path))?;
        self.make_dir(path)?;
        self.commit_name(path);
        Ok(())
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn user_symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.user_make_dir(parent(path))?;
        self.add_symlink(path, target)?;
        self.commit_name(path);
        Ok(())
    }

    /// Makes a pipe, socket or device.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn user_special(&mut self, path: &str) -> io::Result<()> {
        self.user_make_dir(parent(path))?;
        self.add_special(path)?;
        self.commit_name(path);
        Ok(())
    }

    /// Makes a file under a name of any bytes.
    ///
    /// # Errors
    /// When the folder is missing.
    pub fn user_raw_name(&mut self, dir: &str, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        self.add_raw(dir, name, bytes)
    }

    /// Sets permission bits; 0 makes a file or folder unreadable.
    ///
    /// # Errors
    /// When it is missing.
    pub fn user_set_mode(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.set_mode(path, mode)
    }

    /// Makes an empty folder a mount of a device of its own.
    ///
    /// # Errors
    /// When something else is in the way.
    pub fn user_mount(&mut self, dir: &str, dev: u64) -> io::Result<()> {
        self.user_make_dir(dir)?;
        self.set_dev(dir, dev)
    }

    /// Reads a file; `None` when there is none or it is not readable.
    pub fn user_read(&self, path: &str) -> Option<Vec<u8>> {
        self.bytes_of(path).ok().map(<[u8]>::to_vec)
    }

    fn sync_user_file(&mut self, path: &str) -> io::Result<()> {
        let lies = std::mem::replace(&mut self.ignores_sync, false);
        let synced = self.sync_file(path);
        self.ignores_sync = lies;
        self.commit_name(path);
        synced
    }
}
