//! Programs from Debian that some task needs, installed when they are missing.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Whether a program of this name can be started.
pub fn have(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Makes sure a program is there, installing its package with apt-get if it is not.
///
/// # Errors
/// A sentence that says what is missing and what to run, when it could not be installed.
pub fn ensure(program: &str, package: &str) -> Result<()> {
    if have(program) {
        return Ok(());
    }
    if !have("apt-get") {
        bail!("`{program}` is missing and there is no apt-get here: install {package} yourself");
    }
    eprintln!("installing {package} (for `{program}`)");
    apt(&["update", "-q"])?;
    apt(&["install", "-q", "-y", "--no-install-recommends", package])?;
    if !have(program) {
        bail!("{package} is installed but there is still no `{program}`");
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let out = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("apt-get could not be started")?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("apt-get {} failed (are you root?): {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
