//! The page itself in headless Chromium (`xtask/bench-live/page.mjs`).

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::page;
use crate::workspace::root;

/// What the script found.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// From the navigation until the large note can be written, with an empty cache.
    pub cold_ms: Vec<f64>,
    /// The same with a full one.
    pub warm_ms: Vec<f64>,
    /// Bytes of edits sent for a typed character, with the WebSocket's own.
    pub edits_per_char: f64,
    /// All bytes sent for one: the caret's place too.
    pub all_per_char: f64,
    /// Bytes of the large note.
    pub bytes: u64,
}

/// Opens a large note several times, and types into a small one.
pub fn measured(cru: &Path) -> Result<Page> {
    let chromium = page::prepared()?;
    let mut node = Command::new("node");
    node.arg(root().join("xtask/bench-live/page.mjs")).env("CRU", cru).env("CHROMIUM", chromium);
    let out = node.stderr(Stdio::inherit()).output().context("node does not start")?;
    ensure!(out.status.success(), "page.mjs ended with {}", out.status);
    serde_json::from_slice(&out.stdout).context("page.mjs printed something unexpected")
}
