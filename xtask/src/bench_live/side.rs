//! What the loads ask of a server of shared documents and of somebody who types into one: the same
//! of both sides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::measure::process_cpu;

/// Ends of edits: who made them, and the number after their last.
pub type Ends = Rc<[(u64, u64)]>;
/// How far a document is, by who edited it.
pub type Version = BTreeMap<u64, u64>;

/// What came over a connection.
#[derive(Debug)]
pub enum Came {
    /// Edits of others.
    Edits(Vec<u8>),
    /// The server says that it has own edits up to this end.
    Acked(u64),
    /// Anything else.
    Other,
}

/// Where a server finds what it needs.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The `cru` to measure.
    pub cru: PathBuf,
    /// The folder with Hocuspocus.
    pub hocuspocus: PathBuf,
}

/// A running server with a folder of its own.
pub trait Side: Sized {
    /// What the tables call it.
    const NAME: &'static str;
    /// Somebody in a document of it.
    type Client: Client;

    /// Starts it with so many notes.
    async fn start(setting: &Setting, folder: &Path, notes: usize) -> Result<Self>;
    /// Somebody who has just joined the document of a note, and has it.
    async fn join(&self, note: usize) -> Result<Self::Client>;
    /// Its processes.
    fn pids(&self) -> Vec<u32>;
    /// Ends it as a power cut would, and starts it again.
    async fn fall(self) -> Result<Self>;

    /// The processor time it has used.
    fn cpu(&self) -> Result<Duration> {
        self.pids().into_iter().map(process_cpu).sum()
    }

    /// What of it is in memory.
    fn rss_kib(&self) -> Result<u64> {
        self.pids().into_iter().map(rss_kib).sum()
    }
}

/// Somebody in a document. One character typed is one update, sent at once.
pub trait Client: Sized + 'static {
    /// The name under which own edits are made now.
    fn peer(&self) -> u64;
    /// Types a character; sends it if there is a connection. Gives the edit's end.
    async fn type_one(&mut self) -> Result<u64>;
    /// The next that comes; never, without a connection. Can be cancelled.
    async fn next(&mut self) -> Result<Came>;
    /// Which edits are in there, without taking them in.
    fn ends(edits: &[u8]) -> Result<Ends>;
    /// Takes edits in.
    fn take_in(&mut self, edits: Vec<Vec<u8>>) -> Result<()>;
    /// How far the document here is.
    fn version(&self) -> Version;
    /// The text here.
    fn text(&self) -> String;
    /// The connection is gone.
    fn cut(&mut self);
    /// Connects again: takes what was missed, sends what was typed meanwhile.
    async fn join_again(&mut self) -> Result<()>;
    /// How long the published page waits before this try (from 0 on), `dice` from 0 to 1.
    fn patience(tries: u32, dice: f64) -> Duration;
}

fn rss_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.context("no VmRSS line")?.trim().parse()?)
}
