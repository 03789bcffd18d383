//! rsync, unison and git under measurement: each over a counting stand-in for ssh, so that no
//! cipher is counted and both sides are one tree of processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::measure::{Passed, Spent, passed, rsh_script, spent};
use super::tool::{Cost, Leg, Scene, Tool};

/// `rsync -a --delete`, with or without `-z`.
pub struct Rsync {
    a: PathBuf,
    b: PathBuf,
    scratch: PathBuf,
    shell: PathBuf,
    report: PathBuf,
    compress: bool,
}

impl Rsync {
    /// Nothing to prepare but the shell.
    pub fn new(scene: &Scene, compress: bool) -> Result<Rsync> {
        fs::create_dir_all(&scene.b)?;
        let report = scene.keep("passed.json");
        let shell = rsh_script(&scene.scratch, &report)?;
        let (a, b, scratch) = (scene.a.clone(), scene.b.clone(), scene.scratch.clone());
        Ok(Rsync { a, b, scratch, shell, report, compress })
    }
}

impl Tool for Rsync {
    fn carry(&mut self) -> Result<Vec<Leg>> {
        let mut command = Command::new("rsync");
        command.args(["-a", "--delete"]);
        if self.compress {
            command.arg("-z");
        }
        command.arg("-e").arg(&self.shell);
        command.arg(format!("{}/", self.a.display())).arg(format!("far:{}/", self.b.display()));
        let (near, _) = spent(&mut command, &self.scratch)?;
        Ok(vec![Leg { name: "", cost: piped_cost(near, passed(&self.report)?) }])
    }
}

/// `unison -batch`, which keeps an archive on both sides.
pub struct Unison {
    a: PathBuf,
    b: PathBuf,
    scratch: PathBuf,
    shell: PathBuf,
    report: PathBuf,
}

impl Unison {
    /// Nothing to prepare but the shell.
    pub fn new(scene: &Scene) -> Result<Unison> {
        fs::create_dir_all(&scene.b)?;
        let report = scene.keep("passed.json");
        let shell = rsh_script(&scene.scratch, &report)?;
        let (a, b, scratch) = (scene.a.clone(), scene.b.clone(), scene.scratch.clone());
        Ok(Unison { a, b, scratch, shell, report })
    }
}

impl Tool for Unison {
    fn carry(&mut self) -> Result<Vec<Leg>> {
        let mut command = Command::new("unison");
        command.arg(&self.a).arg(format!("ssh://far/{}", self.b.display()));
        command.args(["-batch", "-auto", "-ui", "text", "-silent", "-sshcmd"]).arg(&self.shell);
        command.env("UNISON", self.scratch.join("archive")).env("HOME", &self.scratch);
        let (near, _) = spent(&mut command, &self.scratch)?;
        Ok(vec![Leg { name: "", cost: piped_cost(near, passed(&self.report)?) }])
    }
}

/// git with a bare repository in between: add, commit and push; then pull.
pub struct Git {
    a: PathBuf,
    b: PathBuf,
    scratch: PathBuf,
    shell: PathBuf,
    report: PathBuf,
    cloned: bool,
}

impl Git {
    /// Makes the repositories.
    pub fn new(scene: &Scene) -> Result<Git> {
        let report = scene.keep("passed.json");
        let shell = rsh_script(&scene.scratch, &report)?;
        let (a, b, scratch) = (scene.a.clone(), scene.b.clone(), scene.scratch.clone());
        let git = Git { a, b, scratch, shell, report, cloned: false };
        let far = git.far();
        run(git.git(&git.scratch).args(["init", "-q", "--bare", "-b", "main"]).arg(&far))?;
        run(git.git(&git.a).args(["init", "-q", "-b", "main"]))?;
        let link = format!("far:{}", far.display());
        run(git.git(&git.a).args(["remote", "add", "origin", &link]))?;
        Ok(git)
    }

    fn far(&self) -> PathBuf {
        self.scratch.join("far.git")
    }

    fn git(&self, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command.current_dir(folder);
        settle(&mut command, &self.scratch);
        command.env("GIT_SSH", &self.shell).env("GIT_SSH_VARIANT", "simple");
        command
    }

    fn push(&self) -> Result<Cost> {
        let script = "git add -A -f && { git diff --cached --quiet || git commit -q -m change; } \
                      && git push -q origin main";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&self.a);
        settle(&mut command, &self.scratch);
        command.env("GIT_SSH", &self.shell).env("GIT_SSH_VARIANT", "simple");
        let (near, _) = spent(&mut command, &self.scratch)?;
        Ok(piped_cost(near, passed(&self.report)?))
    }

    fn pull(&mut self) -> Result<Cost> {
        let mut command = if self.cloned {
            let mut command = self.git(&self.b);
            command.args(["pull", "-q", "--ff-only"]);
            command
        } else {
            let mut command = self.git(&self.scratch);
            command.args(["clone", "-q"]).arg(format!("far:{}", self.far().display())).arg(&self.b);
            command
        };
        let (near, _) = spent(&mut command, &self.scratch)?;
        self.cloned = true;
        Ok(piped_cost(near, passed(&self.report)?))
    }
}

impl Tool for Git {
    fn carry(&mut self) -> Result<Vec<Leg>> {
        let push = Leg { name: "push", cost: self.push()? };
        Ok(vec![push, Leg { name: "pull", cost: self.pull()? }])
    }
}

/// A git that reads nobody's settings and does no housekeeping of its own accord.
pub fn settle(command: &mut Command, home: &Path) {
    command.env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for (role, name) in [("AUTHOR", "Bench"), ("COMMITTER", "Bench")] {
        command.env(format!("GIT_{role}_NAME"), name);
        command.env(format!("GIT_{role}_EMAIL"), "bench@example.org");
    }
    let settings = [("gc.auto", "0"), ("maintenance.auto", "false"), ("core.autocrlf", "false")];
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (at, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
}

/// Runs a command to its end, quietly.
pub fn run(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().context("a program could not be started")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{command:?} ended with {}: {said}", out.status);
    Ok(())
}

/// The far side ran inside the near side's tree of processes, with the shell between them.
fn piped_cost(near: Spent, passed: Passed) -> Cost {
    Cost {
        wire: passed.up + passed.down,
        cpu: Duration::from_micros(near.cpu_us.saturating_sub(passed.own_cpu_us)),
        near_peak_kib: near.peak_kib,
        far_peak_kib: passed.far_peak_kib,
        wall: Duration::from_micros(near.wall_us),
        ..Cost::default()
    }
}
