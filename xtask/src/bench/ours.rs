//! `cru` under measurement: a server, a counting proxy before it, two devices.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::measure::{Spent, forget_peak, process_cpu, process_peak_kib, spent_any};
use super::proxy::Proxy;
use super::sets;
use super::tool::{Cost, Leg, Scene, Tool};

/// The line that says where a server listens.
const LISTENING: &str = "listening on http://";

/// A running `cru serve` that is stopped when it is dropped.
pub struct Server {
    child: Child,
    /// Kept open: a server whose reader is gone could fail to print.
    _lines: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts one on a free port and waits until it answers.
    pub fn start(cru: &Path, home: &Path, data: &Path) -> Result<Server> {
        let mut child = Command::new(cru)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("CRU_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} could not be started", cru.display()))?;
        let mut lines = BufReader::new(child.stdout.take().expect("the output is piped"));
        loop {
            let mut line = String::new();
            ensure!(lines.read_line(&mut line)? > 0, "the server ended before it listened");
            if let Some(address) = line.trim().strip_prefix(LISTENING) {
                let address = address.trim_end_matches('/').parse()?;
                return Ok(Server { child, _lines: lines, address });
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to stop.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Two devices and a server.
pub struct Ours {
    cru: PathBuf,
    a: PathBuf,
    b: PathBuf,
    scratch: PathBuf,
    server: Server,
    proxy: Proxy,
    token: String,
    joined: bool,
}

impl Ours {
    /// Starts the server and makes the user; nobody has joined yet.
    pub fn new(cru: &Path, scene: &Scene) -> Result<Ours> {
        let (home, data) = (scene.keep("home-server"), scene.keep("server"));
        fs::create_dir_all(&home)?;
        let server = Server::start(cru, &home, &data)?;
        let out = Command::new(cru)
            .args(["auth", "add-user", "--email", "bench@example.org", "--json", "--data"])
            .arg(&data)
            .env("CRU_HOME", &home)
            .output()?;
        let said: Value = last_object(&out.stdout).context("add-user printed no object")?;
        let token = said["token"].as_str().context("add-user printed no token")?.to_owned();
        let proxy = Proxy::start(server.address)?;
        Ok(Ours {
            cru: cru.to_path_buf(),
            a: scene.a.clone(),
            b: scene.b.clone(),
            scratch: scene.scratch.clone(),
            server,
            proxy,
            token,
            joined: false,
        })
    }

    /// The folder where the server keeps everything.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("server")
    }

    /// Stops the server, puts a copy of its folder back that was made before, starts it again.
    pub fn restore_server(&mut self, backup: &Path) -> Result<()> {
        self.stop()?;
        fs::remove_dir_all(self.data())?;
        copy_all(backup, &self.data())?;
        self.start_again()
    }

    /// Stops the server, copies its folder, and starts it again.
    pub fn back_up_server(&mut self, backup: &Path) -> Result<()> {
        self.stop()?;
        copy_all(&self.data(), backup)?;
        self.start_again()
    }

    fn stop(&mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.server.pid())?);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM)?;
        let ended = self.server.child.wait()?;
        ensure!(ended.success(), "the server ended with {ended} after SIGTERM");
        Ok(())
    }

    fn start_again(&mut self) -> Result<()> {
        self.server = Server::start(&self.cru, &self.scratch.join("home-server"), &self.data())?;
        // The devices know the proxy's address: a new proxy would be another server to them.
        self.proxy.retarget(self.server.address);
        Ok(())
    }

    /// Lets the first device join, without a second one.
    pub fn join_first(&mut self) -> Result<()> {
        self.push()?;
        self.joined = true;
        Ok(())
    }

    /// One round of the first device.
    pub fn push(&mut self) -> Result<Leg> {
        let command = self.command(&self.a.clone(), "home-a");
        Ok(Leg { name: "push", cost: self.measured(command)? })
    }

    fn pull(&mut self) -> Result<Leg> {
        let command = self.command(&self.b.clone(), "home-b");
        Ok(Leg { name: "pull", cost: self.measured(command)? })
    }

    fn command(&self, folder: &Path, home: &str) -> Command {
        let mut command = Command::new(&self.cru);
        if self.joined {
            command.arg("-C").arg(folder).args(["sync", "--json"]);
        } else {
            let link = format!("http://{}/bench", self.proxy.address);
            command.args(["join", &link]).arg(folder).args(["--yes", "--json"]);
        }
        command.env("CRU_HOME", self.scratch.join(home)).env("CRU_TOKEN", &self.token);
        command
    }

    fn measured(&mut self, mut command: Command) -> Result<Cost> {
        let pid = self.server.pid();
        forget_peak(pid)?;
        let (cpu_before, wire_before) = (process_cpu(pid)?, self.proxy.count());
        let (near, status, out) = spent_any(&mut command, &self.scratch)?;
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        let wire = self.proxy.count().since(wire_before);
        let far_cpu = process_cpu(pid)?.saturating_sub(cpu_before);
        Ok(Cost {
            wire: wire.up + wire.down,
            payload: payload(&out),
            requests: Some(wire.requests),
            far_peak_kib: process_peak_kib(pid)?,
            ..near_cost(near, far_cpu)
        })
    }
}

impl Tool for Ours {
    fn carry(&mut self) -> Result<Vec<Leg>> {
        let legs = vec![self.push()?, self.pull()?];
        self.joined = true;
        Ok(legs)
    }
}

fn near_cost(near: Spent, far_cpu: Duration) -> Cost {
    Cost {
        cpu: Duration::from_micros(near.cpu_us) + far_cpu,
        near_peak_kib: near.peak_kib,
        wall: Duration::from_micros(near.wall_us),
        ..Cost::default()
    }
}

/// The bodies' bytes as `--json` says them.
fn payload(out: &[u8]) -> Option<u64> {
    let done = last_object(out)?;
    Some(done.get("bytes_up")?.as_u64()? + done.get("bytes_down")?.as_u64()?)
}

fn last_object(out: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(out).ok()?;
    serde_json::from_str(text.lines().next_back()?).ok()
}

/// Copies a folder as it is, whatever is in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(done.success(), "cp -a {} {} failed", from.display(), to.display());
    Ok(())
}

/// The size of what a server keeps after `cru server gc`.
pub fn collected_bytes(ours: &mut Ours) -> Result<u64> {
    ours.stop()?;
    let data = ours.data();
    let done = Command::new(&ours.cru).args(["server", "gc", "--data"]).arg(&data).output()?;
    ensure!(done.status.success(), "cru server gc: {}", String::from_utf8_lossy(&done.stderr));
    ours.start_again()?;
    kept_bytes(ours)
}

/// The size of what a server keeps, its databases closed.
pub fn kept_bytes(ours: &mut Ours) -> Result<u64> {
    ours.stop()?;
    let size = sets::size_of(&ours.data())?;
    ours.start_again()?;
    Ok(size)
}
