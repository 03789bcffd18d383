//! A world from a seed: devices, users, a server, a network, clocks and disks; faults first, then
//! healing, then quiet rounds; then every invariant is checked.
//!
//! Every user edit writes words nobody has written before, so that "nothing lost" and "nothing
//! invented" can be asked word by word. A word may be gone only if a user who had it in front of
//! them took it away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crucible_core::hash::ContentHash;
use crucible_core::id::{ReplicaId, VaultId};
use crucible_node::error::SyncError;
use crucible_node::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};
use crucible_node::replica::{Options as RoundOptions, Replica, Settings, scan_here};
use crucible_node::world::World;
use crucible_sync::replica::{ReplicaMeta, ReplicaStore};
use crucible_sync::repo::Repo;

use crate::dice::Dice;
use crate::fake_fs::{Disk, FakeFs, Fault, Variant, is_crash};
use crate::memory_store::{MemoryError, MemoryStore};
use crate::server_link::{Server, ServerLink};

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const START_MS: u64 = 1_700_000_000_000;
const PATHS: [&str; 7] =
    ["a.md", "b.md", "dir/a.md", "dir/c.md", "dir/sub/d.md", "other/a.md", "pic.bin"];

/// What a world is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many devices.
    pub devices: usize,
    /// How many things happen before healing.
    pub steps: usize,
    /// Machines stop at any call.
    pub crashes: bool,
    /// Requests and answers are lost, and come twice.
    pub network: bool,
    /// Users edit between any two calls of the file system.
    pub meddling: bool,
    /// Clocks jump.
    pub clocks: bool,
}

impl Options {
    /// The world of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let steps_max = if dice.once_in(8) { 60 } else { 16 };
        Self {
            devices: 1 + dice.below(3),
            steps: 4 + dice.below(steps_max),
            crashes: !dice.once_in(3),
            network: !dice.once_in(3),
            meddling: !dice.once_in(3),
            clocks: dice.once_in(2),
        }
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which world.
    pub seed: u64,
    /// Its options.
    pub options: Options,
    /// What did not hold.
    pub what: String,
    /// What had happened.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: {}\n{:?}", self.seed, self.what, self.options)?;
        let skipped = self.trace.len().saturating_sub(80);
        for line in self.trace.iter().skip(skipped) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// Runs a world; the hash of its trace.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, options: Options) -> Result<u64, Box<Violation>> {
    let mut simulation = Simulation::new(seed, options);
    let result = simulation.live();
    let trace = std::mem::take(&mut locked(&simulation.ledger).trace);
    match result {
        Ok(()) => Ok(hash_of(&trace)),
        Err(what) => Err(Box::new(Violation { seed, options, what, trace })),
    }
}

fn hash_of(trace: &[String]) -> u64 {
    let hash = ContentHash::of_blob(trace.join("\n").as_bytes());
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("a hash is longer"))
}

/// What users did, shared with the hooks of the disks.
#[derive(Debug, Default)]
struct Ledger {
    next_word: u64,
    /// Words a user took away while looking at them.
    taken_away: BTreeSet<String>,
    written: BTreeSet<String>,
    trace: Vec<String>,
}

impl Ledger {
    fn say(&mut self, line: String) {
        self.trace.push(line);
    }

    fn word(&mut self) -> String {
        self.next_word += 1;
        let word = format!("w{}x", self.next_word);
        self.written.insert(word.clone());
        word
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words in a text that users wrote.
fn words(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text)
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| {
            word.len() > 2
                && word.starts_with('w')
                && word.ends_with('x')
                && word[1..word.len() - 1].bytes().all(|b| b.is_ascii_digit())
        })
        .map(ToOwned::to_owned)
        .collect()
}

/// One thing a user does to what is visible now.
fn meddle(disk: &mut Disk, dice: &mut Dice, ledger: &mut Ledger, who: usize) {
    let visible = disk.visible();
    let existing: Vec<String> = visible.keys().cloned().collect();
    let some = |dice: &mut Dice| (!existing.is_empty()).then(|| dice.pick(&existing).clone());
    match dice.below(10) {
        0 | 1 => {
            let path = (*dice.pick(&PATHS)).to_owned();
            write(disk, dice, ledger, who, &path, visible.get(&path));
        }
        2..=6 => {
            let path = some(dice).unwrap_or_else(|| (*dice.pick(&PATHS)).to_owned());
            write(disk, dice, ledger, who, &path, visible.get(&path));
        }
        7 | 8 => {
            let Some(from) = some(dice) else { return };
            let to = (*dice.pick(&PATHS)).to_owned();
            if let Some(over) = visible.get(&to).filter(|_| from != to) {
                ledger.taken_away.extend(words(over));
            }
            if from != to && disk.user_rename(&from, &to).is_ok() {
                ledger.say(format!("{who}: rename {from} -> {to}"));
            }
        }
        _ => {
            let Some(path) = some(dice) else { return };
            if disk.user_remove(&path).is_ok() {
                ledger.taken_away.extend(words(&visible[&path]));
                ledger.say(format!("{who}: remove {path}"));
            }
        }
    }
}

fn write(
    disk: &mut Disk,
    dice: &mut Dice,
    ledger: &mut Ledger,
    who: usize,
    path: &str,
    old: Option<&Vec<u8>>,
) {
    let text = String::from_utf8_lossy(old.map_or(&[][..], Vec::as_slice)).into_owned();
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let word = ledger.word();
    if lines.is_empty() || dice.once_in(3) {
        let at = dice.below(lines.len() + 1);
        lines.insert(at, format!("line {word} here"));
    } else if dice.once_in(6) {
        let at = dice.below(lines.len());
        ledger.taken_away.extend(words(lines[at].as_bytes()));
        lines[at] = format!("other {word} line");
    } else {
        let at = dice.below(lines.len());
        let mut parts: Vec<&str> = lines[at].split(' ').collect();
        let place = dice.below(parts.len() + 1);
        parts.insert(place, &word);
        lines[at] = parts.join(" ");
    }
    let text = lines.join("\n") + "\n";
    let done = if dice.once_in(2) {
        disk.user_write(path, text.as_bytes())
    } else {
        disk.user_save_by_rename(path, text.as_bytes())
    };
    match done {
        Ok(()) => ledger.say(format!("{who}: write {path} {text:?}")),
        Err(_) => {
            ledger.written.remove(&word);
        }
    }
}

struct Clock {
    now_ms: u64,
    dice: Dice,
}

impl World for Clock {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }
    fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.dice.next().to_be_bytes());
        bytes
    }
}

struct Device {
    /// `None` only while a round runs on it.
    replica: Option<Replica<FakeFs, MemoryStore>>,
    fs: FakeFs,
    clock: Clock,
}

/// The link of one round, with its losses.
struct Lossy<'s> {
    inner: ServerLink,
    dice: Dice,
    on: bool,
    ledger: &'s Mutex<Ledger>,
}

impl Lossy<'_> {
    fn lost(&mut self, what: &str) -> Result<(), LinkError> {
        if self.on && self.dice.once_in(8) {
            locked(self.ledger).say(format!("{what} lost"));
            return Err(LinkError::Unreachable {
                place: "the server".to_owned(),
                reason: "lost".to_owned(),
            });
        }
        Ok(())
    }
}

impl Link for Lossy<'_> {
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.lost("request")?;
        let answer = self.inner.round(body)?;
        if self.on && self.dice.once_in(10) {
            locked(self.ledger).say("request twice".to_owned());
            self.inner.round(body)?;
        }
        self.lost("answer")?;
        Ok(answer)
    }
    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.lost("walk")?;
        self.inner.walk(body)
    }
    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        self.inner.missing_blobs(hashes)
    }
    fn put_blob(
        &mut self,
        hash: &ContentHash,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError> {
        self.lost("blob")?;
        self.inner.put_blob(hash, bytes, open)
    }
    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError> {
        self.lost("blob")?;
        self.inner.get_blob(hash, offset, sink)
    }
    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }
}

struct Simulation {
    dice: Dice,
    options: Options,
    devices: Vec<Device>,
    link: ServerLink,
    ledger: Arc<Mutex<Ledger>>,
    healing: bool,
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed);
        let link = ServerLink::new(Server::new(VAULT, START_MS));
        let devices = (0..options.devices)
            .map(|number| {
                let fs = FakeFs::new(Variant::Linux);
                fs.disk().user_make_dir(".crucible").expect("an empty disk has room");
                let meta = ReplicaMeta {
                    vault: VAULT,
                    replica: ReplicaId::from_bytes([number as u8 + 1; 16]),
                    counter: 0,
                    acked_counter: 0,
                    ticks: 0,
                    clock_correction_ms: 0,
                    common_root: None,
                    pulled: None,
                    conflicts_seen: 0,
                    rounds: 0,
                    names: 0,
                    joined: false,
                };
                let replica = open(fs.clone(), MemoryStore::device(meta));
                let clock = Clock { now_ms: START_MS, dice: dice.split() };
                Device { replica: Some(replica), fs, clock }
            })
            .collect();
        Self { dice, options, devices, link, ledger: Arc::default(), healing: false }
    }

    fn say(&self, line: String) {
        locked(&self.ledger).say(line);
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.options.steps {
            let who = self.dice.below(self.devices.len());
            self.tick();
            match self.dice.below(5) {
                0..=2 => {
                    let mut dice = self.dice.split();
                    let mut disk = self.devices[who].fs.disk();
                    meddle(&mut disk, &mut dice, &mut locked(&self.ledger), who);
                }
                _ => self.round(who)?,
            }
            if self.options.clocks && self.dice.once_in(10) {
                self.jump(who);
            }
        }
        self.heal()?;
        self.check()
    }

    fn tick(&mut self) {
        let by = self.dice.below(5_000) as u64;
        self.link.server().now_ms += by;
        for device in &mut self.devices {
            device.clock.now_ms += by;
        }
    }

    fn jump(&mut self, who: usize) {
        const BY_MS: [i64; 6] =
            [60_000, -60_000, 3_600_000, -3_600_000, 31_536_000_000, -31_536_000_000];
        let by = *self.dice.pick(&BY_MS);
        let clock = &mut self.devices[who].clock;
        clock.now_ms = clock.now_ms.saturating_add_signed(by);
        self.say(format!("{who}: clock jumps by {by} ms"));
    }

    fn round(&mut self, who: usize) -> Result<(), String> {
        let faulty = !self.healing;
        let mut lossy = Lossy {
            inner: self.link.another(),
            dice: self.dice.split(),
            on: faulty && self.options.network,
            ledger: &self.ledger,
        };
        let device = &mut self.devices[who];
        if faulty && self.options.meddling {
            let (mut dice, ledger) = (self.dice.split(), self.ledger.clone());
            let rate = 5 + self.dice.below(200) as u64;
            device.fs.disk().set_hook(move |disk, _| {
                if dice.once_in(rate) {
                    meddle(disk, &mut dice, &mut locked(&ledger), who);
                }
            });
        }
        if faulty && self.options.crashes && self.dice.once_in(3) {
            let mut disk = device.fs.disk();
            let at = disk.calls() + 1 + self.dice.below(120) as u64;
            let fault = if self.dice.once_in(2) { Fault::CrashBefore } else { Fault::CrashAfter };
            disk.fault_at(at, fault);
        }
        let before = device.fs.disk().visible();
        locked(&self.ledger).say(format!("{who}: round"));
        let replica = device.replica.as_mut().expect("no round runs inside a round");
        let options = RoundOptions { allow_mass_delete: true, restore_missing: false };
        let result = replica.sync(&mut lossy, &mut device.clock, options, &mut |_| {});
        {
            let mut disk = device.fs.disk();
            disk.clear_hook();
            disk.clear_faults();
        }
        let crashed = device.fs.disk().is_crashed();
        match &result {
            Ok(report) => {
                let (pushed, pulled, merged) = (report.pushed, report.pulled, report.merged);
                self.say(format!("{who}: ok pushed {pushed} pulled {pulled} merged {merged}"));
            }
            Err(error) => self.say(format!("{who}: {error}")),
        }
        if crashed {
            self.reboot(who);
            return Ok(());
        }
        match result {
            Ok(_) if self.healing => self.check_stored(who, &before),
            Ok(_) => Ok(()),
            Err(SyncError::Link(_)) if faulty => Ok(()),
            Err(SyncError::NotConverged { .. }) if faulty && self.options.meddling => Ok(()),
            Err(error) if is_crash(&error) => Ok(()),
            Err(error) => Err(format!("a round of device {who} failed: {error}")),
        }
    }

    fn reboot(&mut self, who: usize) {
        let seed = self.dice.next();
        let device = &mut self.devices[who];
        let (fs, store) = device.replica.take().expect("no round runs now").into_parts();
        fs.reboot(seed);
        device.replica = Some(open(fs, store));
        self.say(format!("{who}: crashed and came up again"));
    }

    /// Everything that was in the folder is stored on the server.
    fn check_stored(&self, who: usize, before: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let server = self.link.server();
        for (path, bytes) in before {
            let naming = path.ends_with(".md");
            let hash = match std::str::from_utf8(bytes) {
                Ok(text) if naming => ContentHash::of_text(text),
                _ => ContentHash::of_blob(bytes),
            };
            let stored = server.store.has_content(&hash).map_err(|error| error.to_string())?;
            if !stored {
                return Err(format!("{path} of device {who} is not stored after an ok round"));
            }
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        self.healing = true;
        self.say("healing".to_owned());
        let now_ms = self.link.server().now_ms;
        for device in &mut self.devices {
            device.clock.now_ms = now_ms;
        }
        for _ in 0..3 {
            for who in 0..self.devices.len() {
                self.tick();
                self.round(who)?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let root = self.link.server().store.root().map_err(|error| error.to_string())?;
        let first = self.devices[0].fs.disk().visible();
        for (who, device) in self.devices.iter().enumerate() {
            let store = device.replica.as_ref().expect("no round runs now").store();
            let own = store.root().map_err(|error| error.to_string())?;
            if own != root {
                return Err(format!("device {who} has another root than the server"));
            }
            let visible = device.fs.disk().visible();
            if visible != first {
                return Err(format!("device {who} differs from device 0: {visible:?} {first:?}"));
            }
            let waiting = store.unsent().map_err(|error| error.to_string())?.len();
            if waiting > 0 {
                return Err(format!("device {who} still has {waiting} unsent versions"));
            }
        }
        self.check_words(&first)?;
        self.check_stable()
    }

    fn check_words(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let ledger = locked(&self.ledger);
        let mut there = BTreeSet::new();
        for (path, bytes) in files {
            for word in words(bytes) {
                if !ledger.written.contains(&word) {
                    return Err(format!("{word} in {path} was never written"));
                }
                there.insert(word);
            }
        }
        let server = self.link.server();
        let open = server.store.open_conflicts(usize::MAX).map_err(|error| error.to_string())?;
        for conflict in open {
            there.extend(words(format!("{:?}", conflict.clash).as_bytes()));
            for id in [conflict.winner, conflict.loser] {
                let version = server.store.version(&id).map_err(|error| error.to_string())?;
                let content = version.and_then(|v| v.live().map(|live| live.content));
                if let Some(content) = content {
                    let bytes = server.store.content(&content).map_err(|e| e.to_string())?;
                    there.extend(words(&bytes.unwrap_or_default()));
                }
            }
        }
        for word in &ledger.written {
            if !there.contains(word) && !ledger.taken_away.contains(word) {
                return Err(format!("{word} is lost: {files:?}"));
            }
        }
        Ok(())
    }

    fn check_stable(&mut self) -> Result<(), String> {
        for who in 0..self.devices.len() {
            let device = &mut self.devices[who];
            let mut link = self.link.another();
            let replica = device.replica.as_mut().expect("no round runs now");
            let before = device.fs.disk().visible();
            let report = replica
                .sync(&mut link, &mut device.clock, RoundOptions::default(), &mut |_| {})
                .map_err(|error| format!("a quiet round failed: {error}"))?;
            let moved = (report.pushed, report.pulled, report.merged, report.traffic.requests);
            if moved != (0, 0, 0, 1) || before != device.fs.disk().visible() {
                return Err(format!("a quiet round of device {who} is not quiet: {moved:?}"));
            }
        }
        Ok(())
    }
}

fn open(fs: FakeFs, store: MemoryStore) -> Replica<FakeFs, MemoryStore> {
    Replica::new(fs, store, Settings::default(), scan_here).expect("no policies, no bad globs")
}

/// What a simulated store says.
pub type Refusal = MemoryError;
