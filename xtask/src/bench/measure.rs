//! What a command costs: processor time and peak memory of it and of all it waited for.
//!
//! A command runs under a small copy of this program (`xtask measure`), because the peak memory
//! that the system reports for a child is never below that of the process which started it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::wait;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Arguments of the hidden task `measure`.
#[derive(Parser)]
pub struct MeasureArgs {
    /// Where the figures go.
    #[arg(long)]
    report: PathBuf,
    /// The command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Arguments of the hidden task `rsh`.
#[derive(Parser)]
pub struct RshArgs {
    /// Where the figures go.
    #[arg(long)]
    report: PathBuf,
    /// What ssh would be given: options, a host, and the command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What a finished command cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Processor time in user and system mode, in microseconds.
    pub cpu_us: u64,
    /// The largest resident size of any one process, in KiB.
    pub peak_kib: u64,
    /// Wall time, in microseconds.
    pub wall_us: u64,
}

/// What passed a counting remote shell, and what the far side and the shell itself cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Passed {
    /// Bytes towards the far side.
    pub up: u64,
    /// Bytes back.
    pub down: u64,
    /// Processor time of the far side, in microseconds.
    pub far_cpu_us: u64,
    /// Processor time of the shell, to be taken off the near side's, in microseconds.
    pub own_cpu_us: u64,
    /// The far side's largest resident size, in KiB.
    pub far_peak_kib: u64,
}

/// Runs a command under the measuring shim; its output is kept, its failure is an error.
pub fn spent(command: &mut Command, scratch: &Path) -> Result<(Spent, Vec<u8>)> {
    let (spent, status, out) = spent_any(command, scratch)?;
    ensure!(status.success(), "{:?} ended with {status}", command.get_program());
    Ok((spent, out))
}

/// As [`spent`], whatever the command's exit code says.
pub fn spent_any(command: &mut Command, scratch: &Path) -> Result<(Spent, ExitStatus, Vec<u8>)> {
    let report = scratch.join("spent.json");
    let mut shim = Command::new(std::env::current_exe()?);
    shim.arg("measure").arg("--report").arg(&report).arg("--");
    shim.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shim.env(key, value),
            None => shim.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shim.current_dir(folder);
    }
    let out = shim.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = fs::read(&report).with_context(|| format!("no figures for {command:?}"))?;
    Ok((serde_json::from_slice(&text)?, out.status, out.stdout))
}

/// The hidden task `measure`.
pub fn measure(args: &MeasureArgs) -> Result<()> {
    // Some programs end before what they started does; that becomes ours, and is waited for.
    set_child_subreaper(true)?;
    let begun = Instant::now();
    let status = Command::new(&args.command[0])
        .args(&args.command[1..])
        .status()
        .with_context(|| format!("{} could not be started", args.command[0]))?;
    while wait().is_ok() {}
    let wall_us = micros(begun.elapsed());
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let spent = Spent { cpu_us: cpu_us(&used), peak_kib: peak_kib(&used), wall_us };
    fs::write(&args.report, serde_json::to_vec(&spent)?)?;
    std::process::exit(status.code().unwrap_or(1));
}

/// The hidden task `rsh`: runs the command here and passes bytes both ways, counting.
pub fn rsh(args: &RshArgs) -> Result<()> {
    let command = far_command(&args.command);
    let mut far = Command::new("sh")
        .args(["-c", &command.join(" ")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut far_in = far.stdin.take().context("a piped child has an input")?;
    let mut far_out = far.stdout.take().context("a piped child has an output")?;
    let report = args.report.clone();
    let up = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = up.clone();
    // Left alone at the end: it may wait for an input that nobody closes.
    thread::spawn(move || pump(&mut std::io::stdin().lock(), &mut far_in, &counted));
    let down = std::sync::atomic::AtomicU64::new(0);
    pump(&mut far_out, &mut std::io::stdout().lock(), &down);
    let status = far.wait()?;
    let far_used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let passed = Passed {
        up: up.load(std::sync::atomic::Ordering::SeqCst),
        down: down.into_inner(),
        far_cpu_us: cpu_us(&far_used),
        own_cpu_us: cpu_us(&getrusage(UsageWho::RUSAGE_SELF)?),
        far_peak_kib: peak_kib(&far_used),
    };
    fs::write(report, serde_json::to_vec(&passed)?)?;
    std::process::exit(status.code().unwrap_or(1));
}

/// A program that stands in for ssh and leaves its figures in `report`.
pub fn rsh_script(folder: &Path, report: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("rsh");
    let me = std::env::current_exe()?;
    let text = format!(
        "#!/bin/sh\nexec '{}' rsh --report '{}' -- \"$@\"\n",
        me.display(),
        report.display(),
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// What [`rsh_script`] left behind.
pub fn passed(report: &Path) -> Result<Passed> {
    let text = fs::read(report).context("the counting shell left no figures")?;
    fs::remove_file(report)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The processor time a running process has used so far, threads that ended included.
pub fn process_cpu(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(Duration::from(clock_gettime(clock)?))
}

/// The largest resident size of a running process since it began or since [`forget_peak`].
pub fn process_peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.context("no VmHWM line")?.trim().parse()?)
}

/// Makes [`process_peak_kib`] begin anew.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The command in what ssh would be given: behind the options and the host.
fn far_command(words: &[String]) -> &[String] {
    let mut at = 0;
    while at < words.len() && words[at].starts_with('-') {
        at += if matches!(words[at].as_str(), "-l" | "-p" | "-o" | "-e" | "-i") { 2 } else { 1 };
    }
    let mut rest = words.get(at + 1..).unwrap_or(&[]);
    if rest.len() >= 2 && rest[0] == "-e" && rest[1] == "none" {
        rest = &rest[2..];
    }
    rest
}

fn pump(from: &mut impl Read, to: &mut impl Write, count: &std::sync::atomic::AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, std::sync::atomic::Ordering::SeqCst);
        if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
            break;
        }
    }
}

fn cpu_us(used: &Usage) -> u64 {
    let total = used.user_time() + used.system_time();
    u64::try_from(total.num_microseconds()).unwrap_or(0)
}

fn peak_kib(used: &Usage) -> u64 {
    u64::try_from(used.max_rss()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::far_command;

    fn check(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        far_command(&words).join(" ")
    }

    #[test]
    fn the_command_stands_behind_options_and_host() {
        assert_eq!(check(&["host", "rsync", "--server", "-e.x"]), "rsync --server -e.x");
        assert_eq!(
            check(&["-l", "me", "host", "-e", "none", "unison", "-server"]),
            "unison -server"
        );
        assert_eq!(check(&["host", "git-receive-pack '/x'"]), "git-receive-pack '/x'");
    }
}
