//! A world from a seed: devices, people, a server, a network, clocks and disks; faults first, then
//! healing, then quiet rounds; then every invariant is checked.
//!
//! Every edit writes words nobody has written before, so that "nothing lost" and "nothing
//! invented" can be asked word by word. A word may be gone only if somebody who had it in front of
//! them took it away, or if a backup took it that nobody else had. In reading order: `options` is
//! what a world is made of, `people` who edits, `net` the link of a round, this file the world and
//! its faults, `excuses` what may be gone, `check` what has to hold.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crucible_core::conflict::Conflict;
use crucible_core::hash::ContentHash;
use crucible_core::id::{ReplicaId, VaultId, VersionId};
use crucible_node::actions::{ActionError, Take};
use crucible_node::error::SyncError;
use crucible_node::replica::{Options as RoundOptions, Replica, Settings, scan_here};
use crucible_node::world::World;
use crucible_proto::message::PolicyRule;
use crucible_sync::replica::ReplicaMeta;
use crucible_sync::repo::{ConflictState, Repo};

use crate::dice::Dice;
use crate::fake_fs::{FakeFs, Fault, Image, Variant};
use crate::memory_store::{MemoryError, MemoryStore};
use crate::server_link::{Server, ServerLink};

mod check;
mod excuses;
mod net;
mod options;
mod people;

use net::Lossy;
pub use options::{Options, Plant};
use people::{Editor, Ledger, finish_half, locked, meddle, open_editor, save_editor};

const VAULT: VaultId = VaultId::from_bytes([7; 16]);
const START_MS: u64 = 1_700_000_000_000;
const DEVICES_MAX: usize = 5;

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
        let skipped = self.trace.len().saturating_sub(120);
        for line in self.trace.iter().skip(skipped) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// Runs a world; its trace.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, options: Options) -> Result<Vec<String>, Box<Violation>> {
    let mut simulation = Simulation::new(seed, options);
    let result = simulation.live();
    let trace = std::mem::take(&mut locked(&simulation.ledger).trace);
    match result {
        Ok(()) => Ok(trace),
        Err(what) => Err(Box::new(Violation { seed, options, what, trace })),
    }
}

/// The smallest world found in which the same seed still fails.
pub fn shrink(violation: Violation) -> Violation {
    let mut smallest = violation;
    'again: loop {
        for options in smallest.options.smaller() {
            if let Err(smaller) = run(smallest.seed, options) {
                smallest = *smaller;
                continue 'again;
            }
        }
        return smallest;
    }
}

struct Clock {
    now_ms: u64,
    dice: Dice,
    repeats: bool,
}

impl World for Clock {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }
    fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if !self.repeats {
            bytes[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        }
        bytes[8..].copy_from_slice(&(self.dice.next() % 4).to_be_bytes());
        bytes
    }
}

type Node = Replica<FakeFs, MemoryStore>;

/// How something done on a device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    /// A disk or a store was full at times.
    Full,
    Crashed,
}

struct Device {
    replica: Node,
    fs: FakeFs,
    clock: Clock,
    editor: Option<Editor>,
    backup: Option<(Image, MemoryStore)>,
}

struct Simulation {
    dice: Dice,
    options: Options,
    /// `None` only while a round runs on it.
    devices: Vec<Option<Device>>,
    link: ServerLink,
    /// What a right clock shows, and whether the server's ever showed something else.
    right_ms: u64,
    server_was_wrong: bool,
    server_backup: Option<Server>,
    ledger: Arc<Mutex<Ledger>>,
    /// What rounds have promised to be stored there.
    promised: BTreeSet<ContentHash>,
    healing: bool,
    /// What a round inside another one broke.
    broken: Option<String>,
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed);
        let link = ServerLink::new(Server::new(VAULT, START_MS));
        link.server().plant(options.plant);
        let mut simulation = Self {
            dice: dice.split(),
            options,
            devices: Vec::new(),
            link,
            right_ms: START_MS,
            server_was_wrong: false,
            server_backup: None,
            ledger: Arc::new(Mutex::new(Ledger::new(options))),
            promised: BTreeSet::new(),
            healing: false,
            broken: None,
        };
        for number in 0..options.devices {
            let variants = [Variant::Windows, Variant::MacOs, Variant::Linux, Variant::HfsPlus];
            let variant = if options.folding { *dice.pick(&variants) } else { Variant::Linux };
            let fs = FakeFs::new(variant);
            fs.disk().user_make_dir(".crucible").expect("an empty disk has room");
            let mut store = MemoryStore::device(first_meta(number));
            store.plant(options.plant);
            let device = simulation.device(fs, store);
            simulation.devices.push(Some(device));
        }
        simulation
    }

    fn device(&mut self, fs: FakeFs, store: MemoryStore) -> Device {
        fs.disk().plant(self.options.plant);
        let replica = self.open(fs.clone(), store);
        let now_ms = self.right_ms;
        let repeats = self.options.plant == Some(Plant::NamesTwice);
        let clock = Clock { now_ms, dice: self.dice.split(), repeats };
        Device { replica, fs, clock, editor: None, backup: None }
    }

    fn open(&self, fs: FakeFs, mut store: MemoryStore) -> Node {
        store.set_power(fs.power());
        let rule = PolicyRule { glob: "**".to_owned(), keep_both: true };
        let policies = if self.options.both { vec![rule] } else { Vec::new() };
        let settings = Settings { policies, ..Settings::default() };
        Replica::new(fs, store, settings, scan_here).expect("the policy is a glob")
    }

    fn at(&mut self, who: usize) -> &mut Device {
        self.devices[who].as_mut().expect("no round runs on it now")
    }

    fn all(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().flatten()
    }

    fn say(&self, line: String) {
        locked(&self.ledger).say(line);
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.options.steps {
            let who = self.dice.below(self.devices.len());
            self.tick();
            match self.dice.below(5) {
                0..=2 => self.edit(who),
                3 if self.options.takes && self.dice.once_in(3) => self.take(who)?,
                _ => self.round(who, 0)?,
            }
            self.mishap(who);
        }
        self.heal()?;
        self.check()
    }

    fn edit(&mut self, who: usize) {
        let (mut dice, ledger) = (self.dice.split(), self.ledger.clone());
        let fs = self.at(who).fs.clone();
        meddle(&mut fs.disk(), &mut dice, &mut locked(&ledger), who);
    }

    fn mishap(&mut self, who: usize) {
        if self.options.clocks && self.dice.once_in(10) {
            self.jump(who);
        }
        if self.options.server_clock && self.dice.once_in(6) {
            self.set_server_clock();
        }
        if self.options.server_backup && self.dice.once_in(6) {
            self.server_backup_or_restore();
        }
        if self.options.device_backup && self.dice.once_in(5) {
            self.back_up_or_restore(who);
        }
        if self.options.copies && self.dice.once_in(10) && self.devices.len() < DEVICES_MAX {
            self.finish_half(who);
            let image = self.at(who).fs.disk().image();
            let store = self.at(who).replica.store().clone();
            let device = self.device(FakeFs::from_image(&image), store);
            self.devices.push(Some(device));
            self.say(format!("{who}: copied to {}", self.devices.len() - 1));
        }
        if self.options.editors && self.dice.once_in(3) {
            let mut dice = self.dice.split();
            let device = self.at(who);
            let fs = device.fs.clone();
            let editor = open_editor(&mut fs.disk(), &mut dice);
            device.editor = editor;
        }
    }

    fn server_backup_or_restore(&mut self) {
        match self.server_backup.take() {
            None => self.server_backup = Some(self.link.server().clone()),
            Some(old) => {
                let held = self.held_by_server();
                let now_ms = self.link.server().now_ms;
                *self.link.server() = old;
                self.link.server().now_ms = now_ms;
                self.excuse_restore(&held, None);
                self.promised.clear();
                self.options.server_backup = false;
                self.say("the server is restored from a backup".to_owned());
            }
        }
    }

    fn back_up_or_restore(&mut self, who: usize) {
        let only_store = self.dice.once_in(2);
        let Some((image, mut store)) = self.at(who).backup.take() else {
            self.finish_half(who);
            let image = self.at(who).fs.disk().image();
            let store = self.at(who).replica.store().clone();
            self.at(who).backup = Some((image, store));
            return;
        };
        store.plant(self.options.plant);
        let held = self.held_by(who);
        let fs = self.at(who).fs.clone();
        if !only_store {
            fs.disk().restore(&image);
        }
        let replica = self.open(fs, store);
        let device = self.at(who);
        device.replica = replica;
        device.editor = None;
        locked(&self.ledger).forget_half(who);
        // What only this device had goes with it.
        self.excuse_restore(&held, only_store.then_some(who));
        self.say(format!("{who}: restored from a backup, only the store: {only_store}"));
    }

    /// Whoever copies a folder has closed what is open in it.
    fn finish_half(&mut self, who: usize) {
        let (fs, ledger) = (self.at(who).fs.clone(), self.ledger.clone());
        finish_half(&mut fs.disk(), &mut locked(&ledger), who);
    }

    fn tick(&mut self) {
        let by = self.dice.below(5_000) as u64;
        self.right_ms += by;
        self.link.server().now_ms += by;
        for device in self.devices.iter_mut().flatten() {
            device.clock.now_ms += by;
        }
    }

    fn jump(&mut self, who: usize) {
        const BY_MS: [i64; 6] =
            [60_000, -60_000, 3_600_000, -3_600_000, 31_536_000_000, -31_536_000_000];
        let by = *self.dice.pick(&BY_MS);
        let clock = &mut self.at(who).clock;
        clock.now_ms = clock.now_ms.saturating_add_signed(by);
        self.say(format!("{who}: clock jumps by {by} ms"));
    }

    /// A server's machine comes up with another time than the right one, or with that.
    fn set_server_clock(&mut self) {
        const OFF_MS: [i64; 6] =
            [31_536_000_000, -31_536_000_000, 864_000_000, -864_000_000, 1_200_000, 0];
        let off = *self.dice.pick(&OFF_MS);
        self.link.server().now_ms = self.right_ms.saturating_add_signed(off);
        self.server_was_wrong |= off != 0;
        self.say(format!("the server's clock is {off} ms ahead"));
    }

    /// Sets up what goes wrong in the round about to begin.
    fn prepare(&mut self, who: usize, device: &mut Device) {
        let editor = device.editor.take();
        if self.options.meddling || editor.is_some() {
            let (mut dice, ledger) = (self.dice.split(), self.ledger.clone());
            let rate = 5 + self.dice.below(200) as u64;
            let meddling = self.options.meddling;
            let power_cuts = self.options.power_cuts && self.options.crashes;
            let mut editor = editor;
            device.fs.disk().set_hook(move |disk, call| {
                if !dice.once_in(rate) {
                    return;
                }
                match editor.take() {
                    Some(editor) => save_editor(disk, &mut dice, &mut locked(&ledger), editor),
                    None if meddling => meddle(disk, &mut dice, &mut locked(&ledger), who),
                    None => {}
                }
                if power_cuts && dice.once_in(3) {
                    disk.fault_at(call.number + dice.below(5) as u64, Fault::CrashAfter);
                }
            });
        }
        let mut disk = device.fs.disk();
        if self.options.crashes && self.dice.once_in(3) {
            let at = disk.calls() + 1 + self.dice.below(120) as u64;
            let fault = if self.dice.once_in(2) { Fault::CrashBefore } else { Fault::CrashAfter };
            disk.fault_at(at, fault);
        }
        if self.options.full && self.dice.once_in(3) {
            disk.space_left = Some(self.dice.below(300) as u64);
        }
        drop(disk);
        if self.options.full && self.dice.once_in(4) {
            let after = self.dice.below(8) as u32;
            self.reopen(device, |store| store.set_full_after(after));
        }
    }

    /// Another process opens the folder.
    fn reopen(&self, device: &mut Device, change: impl FnOnce(&mut MemoryStore)) {
        let mut store = device.replica.store().clone();
        change(&mut store);
        device.replica = self.open(device.fs.clone(), store);
    }

    fn round(&mut self, who: usize, depth: u32) -> Result<(), String> {
        let Some(mut device) = self.devices[who].take() else { return Ok(()) };
        let faulty = !self.healing;
        if faulty {
            self.prepare(who, &mut device);
        }
        let visible = device.fs.disk().visible();
        let before = device.replica.store().clone();
        self.say(format!("{who}: round"));
        let began = locked(&self.ledger).trace.len();
        let options = RoundOptions {
            allow_mass_delete: !(faulty && self.options.guard),
            restore_missing: false,
        };
        let mut lossy = Lossy::new(self, device.fs.power(), faulty, depth);
        let result = device.replica.sync(&mut lossy, &mut device.clock, options, &mut |_| {});
        let disturbed = lossy.disturbed;
        let alone = locked(&self.ledger).trace.len() == began;
        match &result {
            Ok(report) => {
                let (pushed, pulled, merged) = (report.pushed, report.pulled, report.merged);
                self.say(format!("{who}: ok pushed {pushed} pulled {pulled} merged {merged}"));
            }
            Err(error) => self.say(format!("{who}: {error}")),
        }
        let ended = self.end(who, device, before)?;
        match result {
            _ if ended == Ended::Crashed => Ok(()),
            Ok(_) if alone => self.check_stored(who, &visible),
            Ok(_) => Ok(()),
            Err(SyncError::Link(_)) if faulty => Ok(()),
            Err(SyncError::Guard { .. }) if faulty => Ok(()),
            Err(_) if ended == Ended::Full && faulty => Ok(()),
            Err(SyncError::NotConverged { .. }) if disturbed => Ok(()),
            Err(SyncError::ChangedMeanwhile { .. }) if faulty && !alone => Ok(()),
            Err(error) => Err(format!("a round of device {who} failed: {error}")),
        }
    }

    /// Somebody deals with one of the conflicts a device knows.
    fn take(&mut self, who: usize) -> Result<(), String> {
        let open = self.at(who).replica.store().open_conflicts(usize::MAX);
        let open: Vec<Conflict> = open.map_err(|error| error.to_string())?;
        if open.is_empty() {
            return Ok(());
        }
        let conflict = self.dice.pick(&open).clone();
        let take = *self.dice.pick(&[Take::Winner, Take::Loser, Take::Loser, Take::Both]);
        let Some(mut device) = self.devices[who].take() else { return Ok(()) };
        self.prepare(who, &mut device);
        let before = device.replica.store().clone();
        self.say(format!("{who}: takes {take:?} of {:?} in {}", conflict.clash, conflict.path));
        let there = self.link.another();
        let mut fetch = |id: &VersionId| check::bytes_of_version(&there.server().store, id);
        let result = device.replica.take(&conflict.id, take, &mut device.clock, &mut fetch);
        if let Err(error) = &result {
            self.say(format!("{who}: {error}"));
        }
        let state = |store: &MemoryStore| store.conflict(&conflict.id).ok().flatten();
        let closed = state(device.replica.store()).map(|(_, state)| state);
        let dealt_with = closed == Some(ConflictState::Closed);
        if dealt_with {
            self.excuse_take(&conflict, take, &before, device.replica.store());
        }
        let ended = self.end(who, device, before)?;
        match result {
            _ if ended != Ended::Well => Ok(()),
            Ok(_) if !dealt_with => Err(format!("a conflict taken on device {who} stays open")),
            Ok(_) | Err(ActionError::EditedSince { .. } | ActionError::Exists { .. }) => Ok(()),
            Err(
                ActionError::Deleted { .. }
                | ActionError::Closed(_)
                | ActionError::Sync(SyncError::Guard { .. }),
            ) => Ok(()),
            // A server from a backup has forgotten the merge, and so has this device.
            Err(ActionError::NoBytes(id)) if fetch(&id).is_none() => Ok(()),
            Err(error) => Err(format!("a conflict could not be taken on device {who}: {error}")),
        }
    }

    /// What happens after something was done on a device, whatever came of it.
    fn end(
        &mut self,
        who: usize,
        mut device: Device,
        before: MemoryStore,
    ) -> Result<Ended, String> {
        let is_full = {
            let mut disk = device.fs.disk();
            disk.clear_hook();
            disk.clear_faults();
            let is_full = disk.space_left.take().is_some() || device.replica.store().is_full();
            finish_half(&mut disk, &mut locked(&self.ledger), who);
            is_full
        };
        let ended = match (device.fs.disk().is_crashed(), is_full) {
            (true, _) => Ended::Crashed,
            (false, true) => Ended::Full,
            (false, false) => Ended::Well,
        };
        // What came from a server with a wrong clock says nothing of what is later.
        let clock = match self.server_was_wrong {
            true => Ok(()),
            false => check::check_clock(&before, device.replica.store(), self.right_ms),
        };
        if ended == Ended::Crashed {
            self.reboot(who, &mut device, before);
        } else if is_full || self.dice.once_in(4) {
            self.reopen(&mut device, MemoryStore::set_space);
        }
        self.devices[who] = Some(device);
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        clock.map(|()| ended)
    }

    fn reboot(&mut self, who: usize, device: &mut Device, before: MemoryStore) {
        let seed = self.dice.next();
        device.fs.reboot(seed);
        if self.options.plant == Some(Plant::UndoForgotten) {
            let mut disk = device.fs.disk();
            // A folder that is not there holds nothing to forget.
            let _ = disk.user_remove_all(".crucible/undo");
        }
        let durable = self.options.plant != Some(Plant::StoreNotDurable);
        self.reopen(device, |store| {
            if !durable {
                *store = before;
            }
            store.set_space();
        });
        self.say(format!("{who}: crashed and came up again"));
    }

    fn heal(&mut self) -> Result<(), String> {
        self.healing = true;
        self.say("healing".to_owned());
        // One that is wrong for good is lived with.
        if self.options.server_clock && self.dice.once_in(2) {
            self.link.server().now_ms = self.right_ms;
        }
        let now_ms = self.right_ms;
        for (who, device) in self.devices.iter_mut().flatten().enumerate() {
            device.clock.now_ms = now_ms;
            device.editor = None;
            finish_half(&mut device.fs.disk(), &mut locked(&self.ledger), who);
        }
        for _ in 0..3 {
            for who in 0..self.devices.len() {
                self.tick();
                self.round(who, 0)?;
            }
        }
        Ok(())
    }
}

fn first_meta(number: usize) -> ReplicaMeta {
    ReplicaMeta::new(VAULT, ReplicaId::from_bytes([number as u8 + 1; 16]))
}

/// A trace in short.
pub fn hash_of(trace: &[String]) -> u64 {
    let hash = ContentHash::of_blob(trace.join("\n").as_bytes());
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("a hash is longer"))
}

/// What a simulated store says.
pub type Refusal = MemoryError;
