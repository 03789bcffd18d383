//! The page's own checks: types, its tests in node, vendored files against their lock file, and its
//! tests in a real browser against the real binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::debian;
use crate::workspace::root;

/// The oldest node that runs the tests.
const NODE_MIN: u32 = 20;

/// Types, tests in node, vendored files.
///
/// # Errors
/// What is missing, or which of them failed.
pub fn checks() -> Result<()> {
    node()?;
    let (web, vendor) = (root().join("web"), root().join("web/vendor"));
    // The types of vendored libraries are those of their packages.
    for folder in [&web, &vendor] {
        npm(folder, &["ci", "--no-audit", "--no-fund"])?;
    }
    npm(&web, &["run", "check"])?;
    npm(&web, &["test"])?;
    run(Command::new("node").args(["build.mjs", "--check"]).current_dir(&vendor))
}

/// Tests in Chromium, and of the published client of the protocol, against `cru` as it is built.
///
/// # Errors
/// What is missing, or which of them failed.
pub fn browser() -> Result<()> {
    let chromium = prepared()?;
    let (web, cru) = (root().join("web"), built()?);
    for tests in ["interop", "browser"] {
        run(command(&web, &["run", tests]).env("CRU", &cru).env("CHROMIUM", &chromium))?;
    }
    Ok(())
}

/// Makes sure that scripts with a browser can run; gives the browser.
///
/// # Errors
/// What is missing.
pub fn prepared() -> Result<PathBuf> {
    debian::ensure("chromium", "chromium")?;
    installed(&root().join("web"))?;
    chromium()
}

/// Installs what a folder's lock file names, unless it is there.
///
/// # Errors
/// What is missing, or what npm says.
pub fn installed(folder: &Path) -> Result<()> {
    node()?;
    if folder.join("node_modules").is_dir() {
        return Ok(());
    }
    npm(folder, &["ci", "--no-audit", "--no-fund"])
}

/// Builds the binary and says where it is.
fn built() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "-p", "crucible-cli"]).current_dir(root());
    run(&mut cargo)?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let cru = target.join("debug/cru");
    ensure!(cru.is_file(), "{} was not built", cru.display());
    Ok(cru)
}

fn chromium() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("chromium"));
    found.into_iter().find(|file| file.is_file()).context("there is no chromium on the PATH")
}

fn node() -> Result<()> {
    debian::ensure("node", "nodejs")?;
    debian::ensure("npm", "npm")?;
    let out = Command::new("node").arg("--version").output().context("node does not start")?;
    let said = String::from_utf8_lossy(&out.stdout);
    let major = said.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major >= NODE_MIN => Ok(()),
        _ => bail!("node is {}; the page's tests need {NODE_MIN} or newer", said.trim()),
    }
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    run(&mut command(folder, arguments))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.args(arguments).current_dir(folder);
    npm
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("{shown} could not be started"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}
