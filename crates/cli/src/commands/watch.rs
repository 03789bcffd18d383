//! `cru sync watch`: a round whenever something changes here or there, until it is stopped.
//!
//! The vault is locked for each round alone, so that other commands work between them. What the
//! watchers tell is a hint; the scan is the truth, and comes by the clock too.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crucible_core::id::RootHash;
use crucible_node::api::Events;
use crucible_node::http_link::HttpLink;
use crucible_node::link::Link;
use crucible_node::replica::Options;
use crucible_node::report::Notice;
use crucible_vault::watch::{Debounce, Hint, Watch as FolderWatch};
use serde_json::json;

use crate::args::Watch;
use crate::context::Context;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::last_failure;
use crate::output::{FAINT, moment};
use crate::progress::Bar;
use crate::rounds::{self, Done};
use crate::signals::Stop;
use crate::vault_folder::{OpenVault, VaultFolder};
use crate::world;

/// The first pause after a round that failed, and the longest, in milliseconds.
const BACK_OFF_MS: (u64, u64) = (500, 60_000);
/// The pause after another process had the vault, in milliseconds.
const LOCKED_MS: u64 = 300;
/// A failure that stays is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Why to look again.
enum Wake {
    /// Something may have changed in the folder.
    Folder,
    /// The other side has this root.
    There(Option<RootHash>),
    /// The system tells of no changes any more.
    Blind(String),
    /// It is to end.
    Stop(Stop),
}

/// Keeps a vault in step.
pub fn run(watch: Watch, context: &Context) -> Outcome {
    let stopped = context.signals.take();
    let folder = VaultFolder::find(&context.start)?;
    let place = folder.server().map_or("no other side".to_owned(), ToOwned::to_owned);
    context
        .output
        .note(format!("keeping {} in step with {place}; Ctrl-C stops it", folder.root.display()));
    Keeper::start(folder.root, watch, context, stopped)?.run()
}

/// Keeps one vault in step.
pub struct Keeper<'c> {
    root: PathBuf,
    every: Duration,
    context: &'c Context,
    wakes: Receiver<Wake>,
    link: Option<HttpLink>,
    failed: u32,
    /// What was said of the last round, and when.
    last_failure: Option<(String, Instant)>,
    due: Instant,
    known: Option<RootHash>,
    told_any: bool,
    /// What the last round had to say; said again only when it was gone in between.
    told: Vec<Notice>,
    _watch: FolderWatch,
}

/// When to make the next round if nothing wakes us.
enum Next {
    After(Duration),
    End(Failure),
}

impl<'c> Keeper<'c> {
    /// Begins to watch the vault at `root`.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        root: PathBuf,
        watch: Watch,
        context: &'c Context,
        stopped: Receiver<Stop>,
    ) -> Outcome<Self> {
        let (tell, wakes) = mpsc::channel();
        let debounce = Debounce {
            quiet: Duration::from_millis(watch.quiet_ms),
            at_most: Duration::from_millis(watch.quiet_ms.saturating_mul(10).max(2_000)),
            check: Duration::from_secs(5),
        };
        let (hints, hinted) = mpsc::channel();
        let folder_watch =
            FolderWatch::start(&root, debounce, hints).during("watching the folder")?;
        let teller = tell.clone();
        spawn("hints", move || {
            for hint in hinted {
                let wake = match hint {
                    Hint::Below(_) | Hint::Everything => Wake::Folder,
                    Hint::Blind(why) => Wake::Blind(why),
                };
                if teller.send(wake).is_err() {
                    return;
                }
            }
        })?;
        let teller = tell.clone();
        spawn("stop", move || {
            if let Ok(stop) = stopped.recv() {
                // The keeper has ended by itself: then nobody needs to be told.
                let _ = teller.send(Wake::Stop(stop));
            }
        })?;
        listen(&root, context, tell)?;
        Ok(Self {
            root,
            every: Duration::from_secs(watch.every.max(1)),
            context,
            wakes,
            link: None,
            failed: 0,
            last_failure: None,
            due: Instant::now(),
            known: None,
            told_any: false,
            told: Vec::new(),
            _watch: folder_watch,
        })
    }

    /// The first round, now. One that fails is told and tried again by [`Self::run`].
    ///
    /// # Errors
    /// What no waiting helps against.
    pub fn begin(&mut self) -> Outcome<()> {
        self.due = Instant::now() + self.attempt()?;
        Ok(())
    }

    /// Goes on until it is stopped, or cannot.
    ///
    /// # Errors
    /// What no waiting helps against.
    pub fn run(&mut self) -> Outcome {
        loop {
            let mut wanted = false;
            let patience = self.due.saturating_duration_since(Instant::now());
            let mut wake = match self.wakes.recv_timeout(patience) {
                Ok(wake) => Some(wake),
                Err(RecvTimeoutError::Timeout) => {
                    wanted = true;
                    None
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::failed("the watchers are gone; this is a bug"));
                }
            };
            while let Some(now) = wake {
                match now {
                    Wake::Stop(stop) => return Ok(stop.exit()),
                    Wake::Folder => wanted = true,
                    Wake::There(root) => wanted |= root.is_none() || root != self.known,
                    Wake::Blind(why) => self.context.output.warn(format!(
                        "the system tells of no changes any more ({why}); looking every {} s",
                        self.every.as_secs()
                    )),
                }
                // Nothing more for now; whether all tellers are gone, the next wait says.
                wake = self.wakes.try_recv().ok();
            }
            if wanted {
                self.begin()?;
            }
        }
    }

    /// One round now; what may pass is told and waited for.
    fn attempt(&mut self) -> Outcome<Duration> {
        match self.next_after_round() {
            Next::After(pause) => Ok(pause),
            Next::End(failure) => Err(failure),
        }
    }

    fn next_after_round(&mut self) -> Next {
        let failure = match self.round() {
            Ok(_) => return Next::After(self.every),
            Err(failure) => failure,
        };
        if failure.exit == Exit::Locked {
            return Next::After(Duration::from_millis(LOCKED_MS));
        }
        self.link = None;
        if matches!(
            failure.exit,
            Exit::NotAllowed | Exit::TooNew | Exit::Integrity | Exit::Usage | Exit::Ok
        ) {
            return Next::End(failure);
        }
        let said = |(message, at): &(String, Instant)| {
            *message == failure.message && at.elapsed() < SAID_AGAIN
        };
        if !self.last_failure.as_ref().is_some_and(said) {
            self.context.output.fail(&failure);
            self.last_failure = Some((failure.message, Instant::now()));
        }
        if failure.exit == Exit::Refused {
            // Only a person can go on; a change in the folder may be their answer.
            return Next::After(self.every);
        }
        self.failed += 1;
        let (first, most) = BACK_OFF_MS;
        let pause = first.saturating_mul(1 << (self.failed - 1).min(10)).min(most);
        let jitter = world::random::<1>().map_or(0, |[byte]| u64::from(byte) * pause / 1024);
        Next::After(Duration::from_millis(pause + jitter))
    }

    /// One round, told in one line if it did anything.
    ///
    /// # Errors
    /// What kept it from its end.
    pub fn round(&mut self) -> Outcome<Done> {
        let folder = match VaultFolder::at(&self.root)? {
            Some(folder) => folder,
            None => VaultFolder::find(&self.root)?,
        };
        let mut vault = folder.open_for_rounds(self.context)?;
        let done = last_failure::noting(&folder.root, || self.round_in(&folder, &mut vault))?;
        drop(vault);
        self.known = done.report.root;
        if self.last_failure.take().is_some() {
            self.context.output.note("back in step");
        }
        self.failed = 0;
        self.tell(&done)?;
        Ok(done)
    }

    fn round_in(&mut self, folder: &VaultFolder, vault: &mut OpenVault) -> Outcome<Done> {
        if self.link.is_none() {
            self.link = folder.link(self.context)?;
        }
        let bar = Bar::new(&self.context.output);
        let before = self.link.as_ref().map(|link| link.traffic()).unwrap_or_default();
        let link = self.link.as_mut().map(|link| link as &mut dyn Link);
        let mut done = rounds::make(vault, link, Options::default(), &bar)?;
        let link = self.link.as_mut().map(|link| link as &mut dyn Link);
        rounds::keep_copies(vault, folder, self.context, link, &mut done, &bar)?;
        bar.clear();
        let traffic = &mut done.report.traffic;
        traffic.requests -= before.requests.min(traffic.requests);
        traffic.bytes_up -= before.bytes_up.min(traffic.bytes_up);
        traffic.bytes_down -= before.bytes_down.min(traffic.bytes_down);
        Ok(done)
    }

    fn tell(&mut self, done: &Done) -> Outcome<()> {
        let report = &done.report;
        let new = report.notices.iter().filter(|notice| !self.told.contains(notice));
        rounds::tell_notices(self.context, new)?;
        self.told = report.notices.clone();
        let did = report.pushed + report.pulled + report.merged > 0 || !report.conflicts.is_empty();
        if !did && self.told_any {
            return Ok(());
        }
        self.told_any = true;
        let output = &self.context.output;
        let mut value = rounds::as_json(done);
        value["at_ms"] = json!(world::now_ms());
        output.value(&value)?;
        let at = output.paint(FAINT, moment(world::now_ms()));
        output.line(format!("{at}  {}", rounds::summary(self.context, done)))?;
        rounds::tell_conflicts(self.context, done)
    }
}

/// Listens to the server's news for as long as the keeper lives.
fn listen(root: &std::path::Path, context: &Context, tell: Sender<Wake>) -> Outcome<()> {
    let (root, context) = (root.to_owned(), context.clone());
    spawn("news", move || {
        let mut failed = 0u32;
        loop {
            let begun = Instant::now();
            if hear(&root, &context, &tell).is_none() {
                return;
            }
            failed = if begun.elapsed() > Duration::from_secs(30) { 0 } else { failed + 1 };
            let (first, most) = BACK_OFF_MS;
            let pause = first.saturating_mul(1 << failed.min(10)).min(most);
            std::thread::sleep(Duration::from_millis(pause));
        }
    })
}

/// Hands on news until the connection ends; `None` when nobody wants them any more. Failures are
/// not told here: the next round meets them too.
fn hear(root: &std::path::Path, context: &Context, tell: &Sender<Wake>) -> Option<()> {
    let Ok(Some(folder)) = VaultFolder::at(root) else { return Some(()) };
    folder.server()?;
    let Ok(mut http) = folder.http(context) else { return Some(()) };
    let Ok(mut events) = Events::listen(&mut http, &folder.config.vault) else { return Some(()) };
    while let Ok(Some(root)) = events.next_root() {
        tell.send(Wake::There(root)).ok()?;
    }
    Some(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).during("starting a thread")
}
