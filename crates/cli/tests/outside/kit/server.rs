//! A running `cru serve`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::ran::{alone, cru, cru_binary, run};

/// A server on the loopback; killed when dropped.
pub struct Server {
    child: Child,
    /// Kept open, for a server whose reader is gone may fail to print.
    _lines: BufReader<ChildStdout>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data folder.
    pub data: PathBuf,
    /// Its own `CRU_HOME`.
    pub home: PathBuf,
}

/// How a server is started.
pub struct Start<'a> {
    /// Its data folder.
    pub data: &'a Path,
    /// Its own `CRU_HOME`.
    pub home: &'a Path,
    /// The port; 0 picks a free one.
    pub port: u16,
    /// By how much its clock is wrong.
    pub clock_offset_ms: i64,
    /// What runs it, such as strace; nothing runs it plainly.
    pub under: &'a [String],
}

impl Start<'_> {
    /// Starts it and waits for its line; `None` when it ended without one.
    pub fn go(&self) -> Option<Server> {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = match self.under {
            [] => Command::new(cru_binary()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(cru_binary());
                command
            }
        };
        alone(&mut command, self.home);
        command.args(["serve", "--listen", &listen, "--data"]).arg(self.data);
        if self.clock_offset_ms != 0 {
            command.env("CRU_CLOCK_OFFSET_MS", self.clock_offset_ms.to_string());
        }
        let log = self.home.join("server.log");
        fs::create_dir_all(self.home).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        // A group of its own: what runs under strace has to go with it.
        command.process_group(0);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                child.wait().unwrap();
                return None;
            }
            if let Some(address) = line.trim_end().strip_prefix("listening on http://") {
                break address.parse().unwrap();
            }
        };
        let (data, home) = (self.data.to_path_buf(), self.home.to_path_buf());
        Some(Server { child, _lines: lines, address, data, home })
    }
}

impl Server {
    /// Starts one on a free port.
    #[track_caller]
    pub fn start(data: &Path, home: &Path) -> Server {
        let start = Start { data, home, port: 0, clock_offset_ms: 0, under: &[] };
        let server = start.go();
        server.unwrap_or_else(|| panic!("`cru serve` ended without saying where it listens"))
    }

    /// `http://…/VAULT`
    pub fn link(&self, vault: &str) -> String {
        format!("http://{}/{vault}", self.address)
    }

    /// Makes a user and gives the token.
    #[track_caller]
    pub fn add_user(&self, email: &str) -> String {
        let mut command = cru(&self.home);
        command.args(["auth", "add-user", "--email", email, "--json", "--data"]).arg(&self.data);
        let ran = run(&mut command).ok();
        let said = ran.last();
        said["token"].as_str().unwrap_or_else(|| panic!("no token\n{}", ran.told())).to_owned()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.kill_group();
        self.child.wait().unwrap();
    }

    fn kill_group(&self) {
        // It may have ended already, and then there is nothing to end.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The largest resident size so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.alive() {
            self.kill_group();
        }
        self.child.wait().ok();
    }
}
