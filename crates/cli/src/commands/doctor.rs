//! `cru doctor`: looks at everything that can be wrong, and says what to do about it.
//!
//! Invariant: nothing in the vault is changed without `--repair`, and nothing is deleted with it.

use std::path::PathBuf;
use std::{fs, io};

use crucible_node::api;
use crucible_node::config;
use crucible_node::link::LinkError;
use crucible_node::replica::{Replica, Settings, scan_on_all_cores};
use crucible_node::report::Notice;
use crucible_store::sync_db::SyncDb;
use crucible_sync::replica::ReplicaStore;
use crucible_sync::repo::Repo;
use crucible_vault::lock::{LockError, VaultLock};
use crucible_vault::real_fs::RealFs;
use serde_json::json;

use crate::args::Doctor;
use crate::attach;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::output::{BAD, GOOD, WARN, count, moment, span};
use crate::salvage;
use crate::vault_folder::{DATABASE, VaultFolder};
use crate::words::notice_in_words;
use crate::world::{self, Machine};

/// Clocks this far apart are worth a word, in milliseconds; far below where stamps are doubted.
const SKEW_MS: u64 = 60_000;

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    Note,
    Bad,
}

struct Examination<'c> {
    context: &'c Context,
    worst: Grade,
    exit: Exit,
}

/// Looks at this device, the vault around, and its server.
pub fn run(args: Doctor, context: &Context) -> Outcome {
    let mut examination = Examination { context, worst: Grade::Good, exit: Exit::Ok };
    examination.home()?;
    let folder = match VaultFolder::find(&context.start) {
        Ok(folder) => folder,
        Err(failure) => {
            examination.failed("vault", &failure)?;
            return Ok(failure.exit);
        }
    };
    examination.good("configuration", format!("{} is a vault", folder.root.display()))?;
    if examination.store(&folder, args)? {
        examination.folder(&folder)?;
        examination.server(&folder)?;
    }
    Ok(match (examination.worst, examination.exit) {
        (Grade::Good, _) => Exit::Ok,
        (Grade::Note, _) => Exit::Attention,
        (Grade::Bad, Exit::Ok) => Exit::Failed,
        (Grade::Bad, exit) => exit,
    })
}

impl Examination<'_> {
    fn say(&mut self, grade: Grade, topic: &str, text: &str, hint: &str) -> Outcome<()> {
        self.worst = self.worst.max(grade);
        let output = &self.context.output;
        let (word, mark) = match grade {
            Grade::Good => ("good", output.paint(GOOD, "ok  ")),
            Grade::Note => ("note", output.paint(WARN, "note")),
            Grade::Bad => ("bad", output.paint(BAD, "bad ")),
        };
        output.value(&json!({
            "type": "finding",
            "grade": word,
            "topic": topic,
            "message": text,
            "hint": hint,
        }))?;
        output.line(format!("{mark}  {topic}: {text}"))?;
        if hint.is_empty() { Ok(()) } else { output.line(format!("      {hint}")) }
    }

    fn good(&mut self, topic: &str, text: impl AsRef<str>) -> Outcome<()> {
        self.say(Grade::Good, topic, text.as_ref(), "")
    }

    fn failed(&mut self, topic: &str, failure: &Failure) -> Outcome<()> {
        if self.exit == Exit::Ok {
            self.exit = failure.exit;
        }
        self.say(Grade::Bad, topic, &failure.message, &failure.hint)
    }

    fn home(&mut self) -> Outcome<()> {
        let home = self.context.home.clone();
        let troubles = home.troubles();
        for trouble in &troubles {
            self.failed("device", trouble)?;
        }
        match troubles.is_empty() {
            true => self.good("device", format!("key and tokens in {}", home.folder().display())),
            false => Ok(()),
        }
    }

    /// Whether the store is whole, so that it is worth looking further.
    fn store(&mut self, folder: &VaultFolder, args: Doctor) -> Outcome<bool> {
        let troubles = match check(folder) {
            Ok(versions) => {
                let versions = count(versions, "version", "versions");
                self.good("database", format!("whole: {versions} read and proven"))?;
                return Ok(true);
            }
            Err(troubles) => troubles,
        };
        let can_be_mended = troubles.iter().all(|trouble| trouble.exit == Exit::Integrity);
        if can_be_mended && args.repair {
            for trouble in &troubles {
                self.say(Grade::Note, "database", &trouble.message, "")?;
            }
            return self.repair(folder).map(|()| false);
        }
        let last = troubles.len().saturating_sub(1);
        for (at, trouble) in troubles.into_iter().enumerate() {
            let hint = match (can_be_mended, at == last) {
                (false, _) => trouble.hint.clone(),
                (true, false) => String::new(),
                (true, true) => format!(
                    "the notes are plain files and are not touched. `cru doctor --repair` puts the \
                     database aside and begins a new one; {}",
                    after_repair(folder),
                ),
            };
            self.failed("database", &Failure { hint, ..trouble })?;
        }
        Ok(false)
    }

    /// Puts what is damaged aside, and begins a new database.
    fn repair(&mut self, folder: &VaultFolder) -> Outcome<()> {
        let unique = crucible_core::hash::hex(&world::random::<16>()?);
        let fs = RealFs::open(&folder.root, &unique)?;
        let _lock = VaultLock::acquire(&fs, std::process::id())?;
        if folder.server().is_none() {
            let question = "This vault has no server: what `cru log` tells up to now stays in the \
                            file that is put aside, and begins anew. Go on?";
            if !self.context.output.confirm(question, self.context.yes)? {
                return Err(Failure::new(Exit::Refused, "nothing was changed"));
            }
        }
        salvage::keep(&folder.root, &SyncDb::salvaged_bases(&folder.database()))?;
        let aside = put_aside(folder)?;
        attach::make_database(&folder.root, &folder.config)?;
        let text = format!("begun anew; the damaged one is in {}", aside.display());
        let hint = format!("{}; delete what was put aside when all is well", after_repair(folder));
        self.worst = Grade::Good;
        self.say(Grade::Good, "database", &text, &hint)
    }

    fn folder(&mut self, folder: &VaultFolder) -> Outcome<()> {
        let unique = crucible_core::hash::hex(&world::random::<16>()?);
        let fs = match RealFs::open(&folder.root, &unique) {
            Ok(fs) => fs,
            Err(error) => return self.failed("folder", &error.into()),
        };
        match VaultLock::acquire(&fs, std::process::id()) {
            Ok(lock) => drop(lock),
            Err(error @ LockError::Held { .. }) => {
                self.good("lock", format!("{error}, which is fine"))?;
            }
            Err(error) => self.failed("lock", &error.into())?,
        }
        let mut replica = replica_of(fs, folder.store()?);
        let status = match replica.status(&mut Machine) {
            Ok(status) => status,
            Err(error) => return self.failed("folder", &error.into()),
        };
        let notes = count(status.notes, "note", "notes");
        let changes = count(status.changes.len(), "change", "changes");
        self.good("folder", format!("{notes}, {changes} since the last round"))?;
        for notice in &status.notices {
            let grade = match notice {
                Notice::Unknown { .. } | Notice::Unclaimed { .. } | Notice::BadRule { .. } => {
                    Grade::Note
                }
                // Told so that nobody wonders; nothing has to be done.
                _ => Grade::Good,
            };
            self.say(grade, "files", &notice_in_words(notice), "")?;
        }
        if status.conflicts > 0 {
            let text = count(status.conflicts, "conflict", "conflicts") + " to look at";
            self.say(Grade::Note, "conflicts", &text, "`cru conflicts` lists them")?;
        }
        if status.unsettled > 0 {
            let text =
                count(status.unsettled, "file is", "files are") + " not as the vault has them";
            self.say(Grade::Note, "folder", &text, "`cru sync` says why")?;
        }
        Ok(())
    }

    fn server(&mut self, folder: &VaultFolder) -> Outcome<()> {
        let Some(url) = folder.server() else {
            return self.good("server", "none: versions are kept here alone");
        };
        let mut http = match folder.http(self.context) {
            Ok(http) => http,
            Err(failure) => return self.failed("token", &failure),
        };
        let date = match api::health(&mut http) {
            Ok(date) => date,
            Err(error) => return self.failed("server", &error.into()),
        };
        self.good("server", format!("{url} answers"))?;
        self.clock(date.as_deref())?;
        let there = match api::vault(&mut http, &folder.config.vault) {
            Ok(there) => there,
            Err(error @ (LinkError::Unauthorized { .. } | LinkError::Forbidden { .. })) => {
                return self.failed("token", &error.into());
            }
            Err(error) => return self.failed("server", &error.into()),
        };
        let Some(there) = there else {
            let failure = Failure::failed(format!("it has no vault {}", folder.config.vault))
                .hint("was it set back to an old backup, or is it another server?");
            return self.failed("server", &failure);
        };
        if there.id != folder.config.vault_id {
            let failure = Failure::new(Exit::Integrity, "its vault of this name is another one")
                .hint("join it in a folder of its own");
            return self.failed("server", &failure);
        }
        let verb = if there.access == api::Access::Write { "read and write" } else { "read" };
        self.good("token", format!("this device may {verb}"))?;
        if there.access == api::Access::Write {
            self.lost_blobs(folder)?;
        }
        if there.root == folder.store()?.root()? {
            self.good("step", "both sides have the same root")
        } else {
            self.say(Grade::Good, "step", "one side has news for the other", "`cru sync`")
        }
    }

    /// Large files that the server has lost and this device has are sent again.
    fn lost_blobs(&mut self, folder: &VaultFolder) -> Outcome<()> {
        let Some(mut link) = folder.link(self.context)? else { return Ok(()) };
        let unique = crucible_core::hash::hex(&world::random::<16>()?);
        let mut replica = replica_of(RealFs::open(&folder.root, &unique)?, folder.store()?);
        match replica.send_lost_blobs(&mut link) {
            Ok(sent) => {
                for path in sent {
                    let text = format!("the server had lost {path}; it was sent again");
                    self.say(Grade::Note, "server", &text, "")?;
                }
                Ok(())
            }
            Err(error) => self.failed("server", &error.into()),
        }
    }

    fn clock(&mut self, date: Option<&str>) -> Outcome<()> {
        let told = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let Some(told) = told else { return Ok(()) };
        let there_ms = u64::try_from(told.timestamp().as_millisecond()).unwrap_or(0);
        let apart = there_ms.abs_diff(world::now_ms());
        if apart < SKEW_MS {
            return self.good("clock", "as the server's");
        }
        let way = if there_ms > world::now_ms() { "behind" } else { "ahead of" };
        let text = format!("this machine's clock is {} {way} the server's", span(apart));
        self.say(Grade::Note, "clock", &text, "set it by the network; until then `cru` corrects it")
    }
}

fn replica_of(fs: RealFs, store: SyncDb) -> Replica<RealFs, SyncDb> {
    let replica = Replica::new(fs, store, Settings::default(), scan_on_all_cores);
    replica.expect("no policies, so none is wrong")
}

/// How many versions a store has that is whole; else all that is wrong with it.
fn check(folder: &VaultFolder) -> Result<u64, Vec<Failure>> {
    let checked = folder.store().and_then(|store| {
        if store.meta()?.vault != folder.config.vault_id {
            let message = format!("{} belongs to another vault", store.path().display());
            return Err(Failure::new(Exit::Integrity, message));
        }
        Ok(store.check()?)
    });
    let report = checked.map_err(|failure| vec![failure])?;
    if report.findings.is_empty() {
        return Ok(report.versions);
    }
    let failure = |finding| Failure::new(Exit::Integrity, finding);
    Err(report.findings.iter().map(failure).collect())
}

fn after_repair(folder: &VaultFolder) -> String {
    match folder.server() {
        Some(server) => format!(
            "the next `cru sync` meets {server} as a device that joins does: what is equal stays \
             one, what differs is merged, nothing is deleted"
        ),
        None => "the next `cru sync` makes a first version of every note".to_owned(),
    }
}

/// Moves the database and what belongs to it into a folder of its own; where that is.
fn put_aside(folder: &VaultFolder) -> Outcome<PathBuf> {
    let state = folder.root.join(config::FOLDER);
    let now = moment(world::now_ms()).replace(' ', "-").replace(':', "");
    let base = format!("damaged-{now}");
    let names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}-{n}")));
    let mut aside = state.clone();
    for name in names {
        aside = state.join(name);
        match fs::create_dir(&aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.during(format!("making {}", aside.display()))?;
                break;
            }
        }
    }
    // The database goes first: a log without its database is never read, one of another is.
    for name in [DATABASE, "sync.db-wal", "sync.db-shm", "blobs", "rounds"] {
        match fs::rename(state.join(name), aside.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.during(format!("moving {name} to {}", aside.display()))?,
        }
    }
    Ok(aside)
}
