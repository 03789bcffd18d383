//! Where the repository is, and what cargo says about its packages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The root of the repository, whatever directory the task was started from.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the root of the repository").to_path_buf()
}

/// What `cargo metadata` says, as far as we ask.
#[derive(Deserialize)]
pub struct Metadata {
    /// Every package of the workspace, and with dependencies every package it builds on.
    pub packages: Vec<Package>,
}

/// One package.
#[derive(Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence as an SPDX expression, where it states one.
    pub license: Option<String>,
    /// Where it comes from; nothing for our own.
    pub source: Option<String>,
    /// What its manifest asks for.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
#[derive(Deserialize)]
pub struct Dependency {
    /// The package asked for.
    pub name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    pub kind: Option<String>,
}

/// How far [`metadata`] looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Our own packages alone.
    Ours,
    /// Everything that is built.
    All,
}

/// Asks cargo about the packages.
pub fn metadata(depth: Depth) -> Result<Metadata> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1"]).current_dir(root());
    if depth == Depth::Ours {
        cargo.arg("--no-deps");
    }
    let out = cargo.output().context("cargo metadata could not be started")?;
    ensure!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).context("cargo metadata printed something unexpected")
}
