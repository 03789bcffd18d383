//! From the errors of every crate to an exit code, a sentence and advice: one place for each.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;

use crucible_node::actions::ActionError;
use crucible_node::config::ConfigError;
use crucible_node::error::{Direction, SyncError};
use crucible_node::link::LinkError;
use crucible_node::outlook::Refusal;
use crucible_store::accounts::{AddUserError, CreateVaultError, MintError};
use crucible_store::backup::BackupError;
use crucible_store::error::{OpenError, StoreError};
use crucible_sync::staged::EngineError;
use crucible_sync::unpack::UnpackError;
use crucible_vault::lock::LockError;
use crucible_vault::real_fs;
use crucible_vault::write::WriteError;

use super::{Exit, Failure};
use crate::output::count;

const SPACE: &str = "make room on it and do the same again; nothing was lost";
const JOIN_AGAIN: &str =
    "join again: `cru invite` on a device that is in prints a line, run it in this folder";
const RESTORE: &str = "the notes on every device are safe, and nothing here was changed. Stop the server and put that \
     file back from the last `cru server backup` (without its -wal and -shm): devices send what it \
     lacks with their next round. Without a backup, move the file away: a vault.db is filled again \
     by the devices, for a new accounts.db people join again";
const NEWER: &str = "update `cru` on this machine; nothing was touched";

/// An error of the system, with everything below it.
pub fn world(error: &(dyn Error + 'static), what: &dyn Display) -> Failure {
    let failure = Failure::failed(format!("{what}: {}", chain(error)));
    if disk_is_full(error) { failure.hint(SPACE) } else { failure }
}

/// An error and what it came from, without saying anything twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn disk_is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            return matches!(error.kind(), StorageFull | QuotaExceeded);
        }
        if matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Full { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let message = error.to_string();
        match error {
            LinkError::Unreachable { .. } => Self::new(Exit::Unreachable, message).hint(
                "your notes are safe here; try again when it is back, or, where it has another \
                     address by now, `cru sync config server URL`",
            ),
            LinkError::Unauthorized { .. } => Self::new(Exit::NotAllowed, message).hint(JOIN_AGAIN),
            LinkError::Forbidden { .. } => Self::new(Exit::NotAllowed, message).hint(
                "whoever owns the vault can allow it (`cru auth add EMAIL`), or invite a device \
                     that may",
            ),
            LinkError::Protocol { .. } => Self::new(Exit::TooNew, message)
                .hint("update `cru` on both machines to the same release"),
            LinkError::Refused { hint, code, .. } => {
                let exit = match code.as_str() {
                    "code_refused" => Exit::NotAllowed,
                    "hash_mismatch" | "integrity" => Exit::Integrity,
                    _ => Exit::Failed,
                };
                Self::new(exit, message).hint(hint)
            }
            LinkError::Malformed { .. } => {
                Self::new(Exit::Failed, message).hint("is that the address of a `cru` server?")
            }
            LinkError::Disk(ref disk) if disk_is_full(disk) => {
                Self::new(Exit::Failed, message).hint(SPACE)
            }
            LinkError::Disk(_) => Self::new(Exit::Failed, message),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::NotAVault(_) => not_a_vault(message),
            ConfigError::Io { .. } => Self::failed(message),
            ConfigError::Wrong { .. } => Self::failed(message)
                .hint("mend that line; docs/cli/sync.md says what the file may hold"),
            ConfigError::TooNew { .. } => Self::new(Exit::TooNew, message).hint(NEWER),
        }
    }
}

/// The same failure where it is about a vault: on a full disk it says which one to make room on.
pub fn of_vault(failure: Failure, root: &Path) -> Failure {
    let root = root.display().to_string();
    if failure.hint != SPACE || failure.message.contains(&root) {
        return failure;
    }
    Failure {
        message: format!("the disk that holds {root} is full: {}", failure.message),
        ..failure
    }
}

/// The same failure where it is about a server's data: `cru doctor` knows nothing of those.
pub fn of_server_data(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Integrity => failure.hint(RESTORE),
        _ => failure,
    }
}

/// The failure of every command that needs a vault and has none.
pub fn not_a_vault(message: impl Display) -> Failure {
    Failure::new(Exit::NotAVault, message).hint(
        "`cru up` or `cru init` makes one here, `cru join` brings one from elsewhere, -C says \
         where one is",
    )
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let message = chain(&error);
        match error {
            OpenError::TooNew { .. } => Self::new(Exit::TooNew, message).hint(NEWER),
            OpenError::Missing { .. }
            | OpenError::NotOurs { .. }
            | OpenError::OtherVault { .. } => {
                Self::new(Exit::Integrity, message).hint("`cru doctor` says what can be done")
            }
            OpenError::Io { .. } => Self::failed(message),
            OpenError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = chain(&error);
        match error {
            StoreError::Busy { .. } => Self::new(Exit::Locked, message)
                .hint("wait until the other `cru` is done, and do the same again"),
            StoreError::Full { .. } => Self::failed(message).hint(SPACE),
            StoreError::Damaged { .. } => Self::new(Exit::Integrity, message).hint(
                "the notes themselves are plain files and are not touched; `cru doctor` says \
                 what can be done",
            ),
            StoreError::Rule(_) => Self::failed(format!("{message}; this is a bug, please report")),
            StoreError::Blob(_) | StoreError::Sqlite { .. } => {
                if disk_is_full(&error) {
                    Self::failed(message).hint(SPACE)
                } else {
                    Self::failed(message)
                }
            }
        }
    }
}

impl From<EngineError<StoreError>> for Failure {
    fn from(error: EngineError<StoreError>) -> Self {
        match error {
            EngineError::Repo(error) => error.into(),
            error => Self::new(Exit::Integrity, error).hint("`cru doctor` says what can be done"),
        }
    }
}

impl From<SyncError<StoreError>> for Failure {
    fn from(error: SyncError<StoreError>) -> Self {
        let message = chain(&error);
        match error {
            SyncError::Engine(error) => error.into(),
            SyncError::Received(UnpackError::Engine(error)) => error.into(),
            SyncError::Received(_) => Self::new(Exit::Integrity, message)
                .hint("nothing of it was stored; `cru server check` looks at the server's data"),
            SyncError::Link(error) => error.into(),
            SyncError::Folder(ref source) if disk_is_full(source) => {
                Self::failed(message).hint(SPACE)
            }
            SyncError::Folder(_) => Self::failed(message).hint("is the disk still there?"),
            SyncError::Write(error) => error.into(),
            SyncError::Guard { lost, of, direction } => guard(&Refusal { lost, of, direction }),
            SyncError::ChangedMeanwhile { .. } => {
                Self::failed(message).hint("run `cru sync` again when it has come to rest")
            }
            SyncError::NotConverged { .. } => Self::failed(message)
                .hint("nothing was lost; `cru doctor --json` has what a report needs"),
        }
    }
}

impl From<ActionError<StoreError>> for Failure {
    fn from(error: ActionError<StoreError>) -> Self {
        let message = chain(&error);
        match error {
            ActionError::Sync(error) => error.into(),
            ActionError::NoConflict(_) => {
                Self::failed(message).hint("`cru conflicts` lists the open ones with their numbers")
            }
            ActionError::Closed(_) => Self::failed(message),
            ActionError::EditedSince { .. } => Self::failed(message)
                .hint("`cru conflicts show` has the text that was set aside, to copy from"),
            ActionError::Deleted { .. } => {
                Self::failed(message).hint("`cru undelete` with its path brings it back")
            }
            // Whoever asked a server says what it answered; see `Fetcher::explained`.
            ActionError::NoBytes(_) => Self::failed(message).hint("`cru sync` first"),
            ActionError::RemovesMost { .. } => {
                Self::new(Exit::Refused, format!("{message}; nothing was changed"))
                    .hint("`cru undo --allow-mass-delete` if that is meant")
            }
            ActionError::NoVersion(_) => Self::failed(message).hint("`cru sync` first"),
            ActionError::Exists { .. } => Self::failed(message),
            ActionError::NothingToUndo => Self::failed(message).hint(
                "only what rounds brought into this folder is undone; `cru log` and `cru restore` \
                 reach everything",
            ),
        }
    }
}

/// What a round that takes most notes away ends with.
pub fn guard(refusal: &Refusal) -> Failure {
    let Refusal { lost, of, direction } = *refusal;
    let notes = count(of, "note", "notes");
    let (message, back) = match direction {
        Direction::Outgoing => (
            format!("{lost} of {notes} are gone or empty in this folder; nothing was changed"),
            "`cru sync --restore-missing` brings them back here",
        ),
        Direction::Incoming => (
            format!(
                "{lost} of {notes} were deleted or emptied elsewhere, and would go here too; \
                 nothing was changed"
            ),
            "`cru sync --restore-missing` keeps them, and brings them back everywhere",
        ),
    };
    Failure::new(Exit::Refused, message)
        .hint(format!("`cru sync --allow-mass-delete` if that is meant; {back}"))
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let message = chain(&error);
        match error {
            WriteError::NoSpace { .. } => Self::failed(message).hint(SPACE),
            WriteError::ReadOnly { .. } | WriteError::NotAllowed { .. } => {
                Self::failed(message).hint("give yourself the right to change it, and sync again")
            }
            WriteError::NotAFile { .. } | WriteError::Blocked { .. } => {
                Self::failed(message).hint("move it out of the way, and sync again")
            }
            WriteError::Io { .. } => Self::failed(message),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::new(Exit::Locked, error).hint(
                "a `cru up`, `cru sync watch` or another command runs there; wait, or stop it",
            ),
            LockError::Io(_) => Self::failed(chain(&error)),
        }
    }
}

impl From<real_fs::OpenError> for Failure {
    fn from(error: real_fs::OpenError) -> Self {
        let message = chain(&error);
        if disk_is_full(&error) {
            return Self::failed(message).hint(SPACE);
        }
        match error {
            real_fs::OpenError::Root { .. } => Self::failed(message),
            real_fs::OpenError::State { .. } => {
                Self::failed(message).hint("`cru` keeps what it knows there; make it writable")
            }
        }
    }
}

impl From<AddUserError> for Failure {
    fn from(error: AddUserError) -> Self {
        match error {
            AddUserError::Taken => Self::failed(error)
                .hint("to let in another device of theirs: `cru invite` on one that is in"),
            AddUserError::Accounts(error) => error.into(),
        }
    }
}

impl From<MintError> for Failure {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Accounts(error) => error.into(),
            error => Self::failed(chain(&error)),
        }
    }
}

impl From<CreateVaultError> for Failure {
    fn from(error: CreateVaultError) -> Self {
        match error {
            CreateVaultError::Taken => Self::failed(error),
            CreateVaultError::Accounts(error) => error.into(),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let message = chain(&error);
        match error {
            BackupError::Exists { .. } => {
                Self::new(Exit::Refused, message).hint("name a folder that is not there yet")
            }
            BackupError::Io { ref source, .. } if disk_is_full(source) => {
                Self::failed(message).hint("the copy is not complete; make room, and begin anew")
            }
            BackupError::Io { .. } => Self::failed(message),
            BackupError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> String {
        "http://127.0.0.1:4200".to_owned()
    }

    #[test]
    fn what_the_other_side_says_decides_the_exit_code() {
        let message = || "no".to_owned();
        let refused = |code: &str| LinkError::Refused {
            place: place(),
            code: code.to_owned(),
            message: message(),
            hint: "do this".to_owned(),
        };
        let table = [
            (LinkError::Unreachable { place: place(), reason: message() }, Exit::Unreachable),
            (LinkError::Unauthorized { place: place(), message: message() }, Exit::NotAllowed),
            (LinkError::Forbidden { place: place(), message: message() }, Exit::NotAllowed),
            (LinkError::Protocol { place: place(), message: message() }, Exit::TooNew),
            (refused("hash_mismatch"), Exit::Integrity),
            (refused("integrity"), Exit::Integrity),
            (refused("storage_full"), Exit::Failed),
        ];
        for (error, exit) in table {
            let failure = Failure::from(error);
            assert_eq!(failure.exit, exit, "{failure:?}");
            assert!(!failure.hint.is_empty(), "{failure:?}");
        }
    }

    #[test]
    fn the_guard_names_both_ways_on() {
        for direction in [Direction::Outgoing, Direction::Incoming] {
            let failure = Failure::from(SyncError::Guard { lost: 8, of: 9, direction });
            assert_eq!(failure.exit, Exit::Refused);
            assert!(failure.message.contains("8 of 9 notes"), "{failure:?}");
            for way in ["--allow-mass-delete", "--restore-missing"] {
                assert!(failure.hint.contains(way), "{failure:?}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_named_by_what_lies_on_it() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let root = Path::new("/home/ada/Notes");
        let said = of_vault(Failure::from(LinkError::Disk(full())), root);
        assert!(said.message.contains("/home/ada/Notes"), "{said:?}");
        let other = Failure::failed("something else");
        assert_eq!(of_vault(other.clone(), root), other);
    }

    #[test]
    fn a_full_disk_is_seen_however_deep_it_lies() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let write = WriteError::NoSpace { path: "a.md".to_owned(), source: full() };
        for failure in [
            Failure::from(LinkError::Disk(full())),
            Failure::from(SyncError::Folder(full())),
            Failure::from(SyncError::Write(write)),
        ] {
            assert_eq!((failure.exit, &*failure.hint), (Exit::Failed, SPACE), "{failure:?}");
        }
    }
}
