//! The watcher: a hint that a scan may find something, never a fact.
//!
//! Invariant: a change is followed by a hint, sooner or later, as long as the system tells of it;
//! where events were lost, or the folder itself was replaced, the hint is [`Hint::Everything`].
//! Nothing is filtered but the state folder: what a hint means, the scan says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::fs::{STATE_DIR, TMP_PREFIX, UNDO_PREFIX};

/// More changed paths than this are everything.
const PATHS_MAX: usize = 1000;

/// Where a scan may find something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// At or below these paths.
    Below(BTreeSet<String>),
    /// Anywhere.
    Everything,
    /// The system tells of no changes any more, for this reason; scan by the clock instead.
    Blind(String),
}

/// How events become hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// A hint is given when nothing happened for so long,
    pub quiet: Duration,
    /// or when the first event is so long ago.
    pub at_most: Duration,
    /// How often it is checked that the watched folder is still the one at its place.
    pub check: Duration,
}

/// A watcher that runs until it is dropped.
#[derive(Debug)]
pub struct Watch {
    inbox: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Told(notify::Result<Event>),
    Stop,
}

impl Watch {
    /// Watches the folder at `root`, which need not exist yet, and sends hints until it is dropped
    /// or nobody receives them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(root: &Path, debounce: Debounce, hints: Sender<Hint>) -> std::io::Result<Self> {
        let (inbox, messages) = mpsc::channel();
        let (root, told) = (root.to_owned(), inbox.clone());
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || Loop::new(root, told, debounce).run(&messages, &hints))?;
        Ok(Self { inbox, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread is gone already when nobody received its hints.
        let _ = self.inbox.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watcher had panicked");
        }
    }
}

/// Hints to be given; pure, so that its times can be tested without waiting.
#[derive(Debug, Default)]
struct Pending {
    paths: BTreeSet<String>,
    is_everything: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Pending {
    fn add(&mut self, now: Instant, paths: impl IntoIterator<Item = String>) {
        self.paths.extend(paths);
        if self.paths.len() > PATHS_MAX {
            self.is_everything = true;
        }
        self.happened(now);
    }

    fn add_everything(&mut self, now: Instant) {
        self.is_everything = true;
        self.happened(now);
    }

    fn happened(&mut self, now: Instant) {
        if self.is_everything {
            self.paths.clear();
        }
        if self.is_everything || !self.paths.is_empty() {
            self.first.get_or_insert(now);
            self.last = Some(now);
        }
    }

    fn due_at(&self, debounce: &Debounce) -> Option<Instant> {
        Some((self.first? + debounce.at_most).min(self.last? + debounce.quiet))
    }

    fn take(&mut self) -> Hint {
        let taken = std::mem::take(self);
        if taken.is_everything { Hint::Everything } else { Hint::Below(taken.paths) }
    }
}

struct Loop {
    root: PathBuf,
    /// The root's spelling in events, where a part of it is a symlink.
    told_root: PathBuf,
    told: Sender<Message>,
    debounce: Debounce,
    watcher: Option<RecommendedWatcher>,
    /// Which folder is watched.
    identity: Option<Identity>,
    pending: Pending,
    was_blind: bool,
}

impl Loop {
    fn new(root: PathBuf, told: Sender<Message>, debounce: Debounce) -> Self {
        Self {
            told_root: root.clone(),
            root,
            told,
            debounce,
            watcher: None,
            identity: None,
            pending: Pending::default(),
            was_blind: false,
        }
    }

    fn run(mut self, messages: &Receiver<Message>, hints: &Sender<Hint>) {
        let mut check_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= check_at {
                check_at = now + self.debounce.check;
                if let Some(blind) = self.attach(now)
                    && hints.send(blind).is_err()
                {
                    return;
                }
            }
            let due_at = self.pending.due_at(&self.debounce);
            if due_at.is_some_and(|due_at| now >= due_at) {
                if hints.send(self.pending.take()).is_err() {
                    return;
                }
                continue;
            }
            let wake_at = due_at.map_or(check_at, |due_at| due_at.min(check_at));
            match messages.recv_timeout(wake_at.saturating_duration_since(now)) {
                Ok(Message::Told(told)) => self.note(told),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Watches the folder at the root's place, if that is another one than before.
    fn attach(&mut self, now: Instant) -> Option<Hint> {
        let identity = identity(&self.root);
        if identity.is_some() && identity == self.identity && self.watcher.is_some() {
            return None;
        }
        let had_one = self.watcher.take().is_some();
        self.identity = None;
        if identity.is_none() {
            // Nothing to watch; whoever scans will find out what is missing.
            if had_one {
                self.pending.add_everything(now);
            }
            return None;
        }
        match self.watch() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.identity = identity;
                self.was_blind = false;
                // What happened before it watched is found by looking.
                self.pending.add_everything(now);
                None
            }
            Err(error) if !self.was_blind => {
                self.was_blind = true;
                Some(Hint::Blind(error.to_string()))
            }
            Err(_) => None,
        }
    }

    fn watch(&mut self) -> notify::Result<RecommendedWatcher> {
        let told = self.told.clone();
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(
            // After the loop has ended nobody wants to know.
            move |event| drop(told.send(Message::Told(event))),
            config,
        )?;
        self.told_root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        watcher.watch(&self.told_root, RecursiveMode::Recursive)?;
        Ok(watcher)
    }

    fn note(&mut self, told: notify::Result<Event>) {
        let now = Instant::now();
        match told {
            Err(error) => {
                tracing::debug!(%error, "the watcher lost events");
                self.pending.add_everything(now);
            }
            Ok(event) if event.need_rescan() => self.pending.add_everything(now),
            Ok(event) => {
                if let EventKind::Access(_) = event.kind {
                    return;
                }
                let is_name = matches!(
                    event.kind,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
                );
                if is_name && event.paths.contains(&self.told_root) {
                    // The folder itself went; the next check finds what is there instead.
                    self.identity = None;
                    self.pending.add_everything(now);
                    return;
                }
                let paths: Vec<_> = event.paths.iter().filter_map(|at| self.relative(at)).collect();
                self.pending.add(now, paths);
            }
        }
    }

    /// The path in the vault of an event; `None` for what is ours or elsewhere.
    fn relative(&self, at: &Path) -> Option<String> {
        let below = at.strip_prefix(&self.told_root).ok()?;
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        let is_ours = parts.first().is_some_and(|part| part == STATE_DIR)
            || parts
                .last()
                .is_some_and(|name| name.starts_with(TMP_PREFIX) || name.starts_with(UNDO_PREFIX));
        (!is_ours).then(|| parts.join("/"))
    }
}

#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    found.is_dir().then(|| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
type Identity = Option<std::time::SystemTime>;

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    let found = std::fs::metadata(path).ok()?;
    found.is_dir().then(|| found.created().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Debounce = Debounce {
        quiet: Duration::from_millis(100),
        at_most: Duration::from_millis(500),
        check: Duration::from_secs(1),
    };

    #[test]
    fn a_hint_waits_for_quiet_but_not_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pending = Pending::default();
        assert_eq!(pending.due_at(&DEBOUNCE), None);
        pending.add(at(0), ["a.md".to_owned()]);
        assert_eq!(pending.due_at(&DEBOUNCE), Some(at(100)));
        pending.add(at(90), ["b.md".to_owned()]);
        assert_eq!(pending.due_at(&DEBOUNCE), Some(at(190)));
        for ms in (90..480).step_by(10) {
            pending.add(at(ms), ["b.md".to_owned()]);
        }
        assert_eq!(pending.due_at(&DEBOUNCE), Some(at(500)));
        assert_eq!(pending.take(), Hint::Below(["a.md".into(), "b.md".into()].into()));
        assert_eq!(pending.due_at(&DEBOUNCE), None);
    }

    #[test]
    fn too_many_paths_are_everything_and_nothing_is_no_hint() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.add(now, []);
        assert_eq!(pending.due_at(&DEBOUNCE), None);
        pending.add(now, (0..=PATHS_MAX).map(|n| n.to_string()));
        assert_eq!(pending.take(), Hint::Everything);
    }
}
