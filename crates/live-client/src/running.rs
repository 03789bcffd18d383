//! A running `cru up`, in a process group of its own, and the ways it can be ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// Where a `cru up` lives: a home, data and a vault of its own.
#[derive(Debug, Clone)]
pub struct Place {
    /// The binary.
    pub cru: PathBuf,
    /// `CRU_HOME`.
    pub home: PathBuf,
    /// The server's data.
    pub data: PathBuf,
    /// The vault.
    pub vault: PathBuf,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The server and the process with its documents.
    Group,
    /// The server alone.
    Server,
    /// The process with the documents alone.
    Documents,
}

/// A `cru up`; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    _lines: BufReader<ChildStdout>,
    /// Where it listens.
    pub address: SocketAddr,
    /// A pairing code that is good once.
    pub code: String,
}

impl Place {
    /// A place below a folder.
    pub fn below(folder: &Path, cru: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        Self { cru: cru.to_owned(), home: at("home"), data: at("data"), vault: at("vault") }
    }

    /// Starts `cru up`, on a free port for 0, and waits until it serves.
    ///
    /// # Errors
    /// It does not start; what it logged is in `home/server.log`.
    pub fn start(&self, port: u16) -> Result<Running> {
        fs::create_dir_all(&self.home)?;
        fs::create_dir_all(&self.vault)?;
        let log = self.home.join("server.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.cru);
        command.env_clear();
        for kept in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("HOME", &self.home).env("CRU_HOME", &self.home).env("LC_ALL", "C.UTF-8");
        command.args(["--json", "up", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
        command.arg(&self.data).arg(&self.vault);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| self.cru.display().to_string())?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                child.wait()?;
                let log = fs::read_to_string(self.home.join("server.log")).unwrap_or_default();
                anyhow::bail!("`cru up` ended before it served: {log}");
            }
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["type"] != "up" {
                continue;
            }
            let page = said["page"].as_str().context("no address of the page")?;
            let (url, code) = page.split_once("/#pair=").context("no pairing code")?;
            let address = url.trim_start_matches("http://").parse()?;
            return Ok(Running { child, _lines: lines, address, code: code.to_owned() });
        }
    }
}

impl Running {
    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process with the documents, once a session was opened.
    pub fn documents(&self) -> Option<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let children = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: String = children.collect();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("live-documents")
        })
    }

    /// Kills the process with the documents; the server stays.
    ///
    /// # Errors
    /// There is none.
    pub fn kill_documents(&self) -> Result<()> {
        let pid = self.documents().context("no process with documents")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has a number")?;
        Ok(kill_process(pid, Signal::KILL)?)
    }

    /// Kills the server, with its documents or without.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self, with_documents: bool) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        if with_documents {
            kill_process_group(pid, Signal::KILL)?;
        } else {
            kill_process(pid, Signal::KILL)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Stops it as a person would.
    ///
    /// # Errors
    /// It ends with something else than success.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "`cru up` ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // It may end by itself at this moment.
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}
