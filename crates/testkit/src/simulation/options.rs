//! What a simulated world is made of, drawn from its seed, and the bugs that can be put into it.

use crate::dice::Dice;

/// What a world is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of fault")]
pub struct Options {
    /// How many devices.
    pub devices: usize,
    /// How many things happen before healing.
    pub steps: usize,
    /// Machines stop at any call.
    pub crashes: bool,
    /// Requests and answers are lost, and come twice.
    pub network: bool,
    /// People edit between any two calls of the file system.
    pub meddling: bool,
    /// Clocks jump.
    pub clocks: bool,
    /// Other devices' rounds fall between two requests of one round.
    pub interleaved: bool,
    /// The server goes back to an old backup.
    pub server_backup: bool,
    /// A device, or only its store, goes back to an old backup.
    pub device_backup: bool,
    /// A folder is copied with all of its state.
    pub copies: bool,
    /// Disks and stores are full at times.
    pub full: bool,
    /// Editors hold files open while they are replaced.
    pub editors: bool,
    /// Disks fold case.
    pub folding: bool,
    /// Overlapping edits are both kept.
    pub both: bool,
    /// Rounds ask before they delete most notes.
    pub guard: bool,
    /// People deal with conflicts.
    pub takes: bool,
    /// Names that are one on some disks, or that some cannot hold, and long ones.
    pub odd_names: bool,
    /// Editors save in two writes.
    pub halves: bool,
    /// The power goes just after somebody has written something.
    pub power_cuts: bool,
    /// The server's clock is set far ahead, far back, and right again.
    pub server_clock: bool,
    /// A bug on purpose, which has to be found.
    pub plant: Option<Plant>,
}

impl Options {
    /// The world of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let steps_max = if dice.once_in(8) { 60 } else { 16 };
        let backup = dice.below(8);
        Self {
            devices: 1 + dice.below(3),
            steps: 4 + dice.below(steps_max),
            crashes: !dice.once_in(3),
            network: !dice.once_in(3),
            meddling: !dice.once_in(3),
            clocks: dice.once_in(2),
            interleaved: dice.once_in(3),
            server_backup: backup == 0,
            device_backup: backup == 1,
            copies: dice.once_in(6),
            full: dice.once_in(4),
            editors: dice.once_in(3),
            folding: dice.once_in(6),
            both: dice.once_in(8),
            guard: dice.once_in(4),
            takes: dice.once_in(2),
            odd_names: dice.once_in(5),
            halves: dice.once_in(3),
            power_cuts: dice.once_in(4),
            server_clock: dice.once_in(5),
            plant: None,
        }
    }

    /// The world of a seed with a bug in it, and with the faults it takes to notice.
    pub fn planted(seed: u64, plant: Plant) -> Self {
        let world = Self { plant: Some(plant), ..Self::of(seed) };
        match plant {
            Plant::UndoNameNotDurable => {
                // Seldom enough as it is: an edit and a power cut within three calls.
                let calm = Self { network: false, clocks: false, server_clock: false, ..world };
                let alone = Self { server_backup: false, device_backup: false, ..calm };
                Self { crashes: true, meddling: true, power_cuts: true, full: false, ..alone }
            }
            Plant::AheadRefused => Self { clocks: true, server_clock: true, ..world },
            _ => world,
        }
    }

    /// The same world with something less in it, for finding what a failure needs.
    pub fn smaller(self) -> Vec<Self> {
        let mut smaller = vec![
            Self { crashes: false, ..self },
            Self { network: false, ..self },
            Self { meddling: false, ..self },
            Self { clocks: false, ..self },
            Self { interleaved: false, ..self },
            Self { server_backup: false, ..self },
            Self { device_backup: false, ..self },
            Self { copies: false, ..self },
            Self { full: false, ..self },
            Self { editors: false, ..self },
            Self { folding: false, ..self },
            Self { both: false, ..self },
            Self { guard: false, ..self },
            Self { takes: false, ..self },
            Self { odd_names: false, ..self },
            Self { halves: false, ..self },
            Self { power_cuts: false, ..self },
            Self { server_clock: false, ..self },
        ];
        if self.devices > 1 {
            smaller.push(Self { devices: self.devices - 1, ..self });
        }
        for steps in [self.steps / 2, self.steps.saturating_sub(1)] {
            smaller.push(Self { steps, ..self });
        }
        smaller.retain(|options| *options != self);
        smaller
    }
}

/// Bugs on purpose, each outside the product; a simulator that misses one has rotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Syncing a file or a folder does nothing.
    NoSync,
    /// The displaced file is gone after an exchange: check, then rename.
    Overwrite,
    /// A rename to a name that is taken goes over it.
    RenameOver,
    /// Names of temporary files come again.
    NamesTwice,
    /// After a crash nobody looks into the undo folder.
    UndoForgotten,
    /// A device's store is not durable.
    StoreNotDurable,
    /// A file counts as placed when that is written down, before it is.
    BaseBeforeFile,
    /// What was unsent is forgotten by the next round.
    UnsentForgotten,
    /// An edit's parent is the newest head, not what the file was in step with.
    ParentNewestHead,
    /// The server answers, and then has not stored.
    AnswerBeforeCommit,
    /// The server takes versions before their blobs.
    HeadBeforeBlob,
    /// A device forgets deletions before it sends them.
    TombstoneDropped,
    /// Of several heads the server keeps the newest instead of their merge.
    HeadDropped,
    /// Nobody notices that a copy counts on under the id of its original.
    CounterReused,
    /// The clock does not go past the stamps it has seen.
    StampNotObserved,
    /// A file is placed from a name that is not durable yet, and a sweep takes what a crash left.
    UndoNameNotDurable,
    /// What follows a version from a clock that was wrong is refused as ahead.
    AheadRefused,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NoSync,
        Self::Overwrite,
        Self::RenameOver,
        Self::NamesTwice,
        Self::UndoForgotten,
        Self::StoreNotDurable,
        Self::BaseBeforeFile,
        Self::UnsentForgotten,
        Self::ParentNewestHead,
        Self::AnswerBeforeCommit,
        Self::HeadBeforeBlob,
        Self::TombstoneDropped,
        Self::HeadDropped,
        Self::CounterReused,
        Self::StampNotObserved,
        Self::UndoNameNotDurable,
        Self::AheadRefused,
    ];
}
