//! What is asked of every tool, and what it cost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::edits::Operation;

/// Where one tool works on one set: nobody else touches these folders.
pub struct Scene {
    /// The folder that is edited.
    pub a: PathBuf,
    /// The folder that is to become the same.
    pub b: PathBuf,
    /// For everything a tool keeps.
    pub scratch: PathBuf,
}

impl Scene {
    /// A path inside the scratch folder.
    pub fn keep(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.join(name)
    }
}

/// A way to carry what changed in one folder to another.
pub trait Tool {
    /// Carries once; gives what each leg of the way cost.
    fn carry(&mut self) -> Result<Vec<Leg>>;
}

/// One leg: from a side to the other, or to a server in between.
#[derive(Clone, Debug)]
pub struct Leg {
    /// `push`, `pull`, or nothing when there is one leg only.
    pub name: &'static str,
    /// What it cost.
    pub cost: Cost,
}

/// What was measured; `None` where a tool has no such thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes of the TCP streams (or of the pipe that stands for one), both directions.
    pub wire: u64,
    /// Bytes of request and answer bodies as the tool itself says.
    pub payload: Option<u64>,
    /// Requests seen on the wire.
    pub requests: Option<u64>,
    /// Processor time of both sides.
    pub cpu: Duration,
    /// Largest resident size of the near side, in KiB.
    pub near_peak_kib: u64,
    /// Largest resident size of the far side, in KiB.
    pub far_peak_kib: u64,
    /// Wall time.
    pub wall: Duration,
}

impl Cost {
    /// The mean of several measurements; the largest of the peaks.
    pub fn mean(costs: &[Cost]) -> Cost {
        let count = costs.len().max(1);
        let per = |sum: u64| sum / count as u64;
        let mean_of =
            |each: fn(&Cost) -> Option<u64>| costs.iter().map(each).sum::<Option<u64>>().map(per);
        let time = |each: fn(&Cost) -> Duration| {
            let sum: Duration = costs.iter().map(each).sum();
            sum / u32::try_from(count).expect("a handful of measurements")
        };
        Cost {
            wire: per(costs.iter().map(|cost| cost.wire).sum()),
            payload: mean_of(|cost| cost.payload),
            requests: mean_of(|cost| cost.requests),
            cpu: time(|cost| cost.cpu),
            near_peak_kib: costs.iter().map(|cost| cost.near_peak_kib).max().unwrap_or(0),
            far_peak_kib: costs.iter().map(|cost| cost.far_peak_kib).max().unwrap_or(0),
            wall: time(|cost| cost.wall),
        }
    }
}

/// One line of the tables.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which folder.
    pub set: String,
    /// Which tool.
    pub tool: &'static str,
    /// Which operation.
    pub operation: Operation,
    /// Which leg.
    pub leg: &'static str,
    /// What it cost.
    pub cost: Cost,
}
