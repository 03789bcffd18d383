//! The manual is true: every `console` block of docs/cli/*.md is run, and must say what stands
//! there.
//!
//! A line `laptop$ COMMAND` or `phone$ COMMAND` is run by `sh` in that device's folder (`$` alone is
//! the laptop); the lines after it are what it prints, both streams together. `…` stands for
//! anything within a line, and alone on a line for any number of lines. Each page has a server of
//! its own; the manual calls it 127.0.0.1:4200, and TOKEN holds a token for it.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the manual calls the server.
const SHOWN_ADDRESS: &str = "127.0.0.1:4200";

/// One command of a page, and what it is to print.
#[derive(Debug)]
struct Step {
    line: usize,
    device: String,
    command: String,
    expected: Vec<String>,
}

struct Page {
    folder: tempfile::TempDir,
    server: Child,
    address: String,
    token: String,
}

impl Drop for Page {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match prompt(line) {
                Some((device, command)) => steps.push(Step {
                    line: at + 1,
                    device: device.to_owned(),
                    command: command.to_owned(),
                    expected: Vec::new(),
                }),
                None => {
                    let step = steps.last_mut().expect("a block begins with a command");
                    step.expected.push(line.to_owned());
                }
            },
            (false, _) => {}
        }
    }
    steps
}

fn prompt(line: &str) -> Option<(&str, &str)> {
    let (before, command) = line.split_once("$ ")?;
    match before {
        "" | "laptop" => Some(("laptop", command)),
        "phone" => Some(("phone", command)),
        _ => None,
    }
}

impl Page {
    fn open() -> Self {
        let folder = tempfile::Builder::new().prefix("cru-manual-").tempdir().unwrap();
        for name in ["laptop", "phone", "home-server", "bin"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(cru(), folder.path().join("bin/cru")).unwrap();
        let home = folder.path().join("home-server");
        let data = folder.path().join("data");
        let mut command = Command::new(cru());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        command.env_clear().env("CRU_HOME", &home).env("HOME", &home);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().to_owned();
        // The rest is read so that the server never waits for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut command = Command::new(cru());
        command.args(["auth", "add-user", "--email", "ada@example.org", "-q", "--data"]);
        let added = command.arg(&data).env("CRU_HOME", &home).output().unwrap();
        let token = String::from_utf8(added.stdout).unwrap().trim().to_owned();
        Self { folder, server, address, token }
    }

    fn run(&self, step: &Step) -> Vec<String> {
        let root = self.folder.path();
        let path = std::env::var("PATH").unwrap();
        let command = step.command.replace(SHOWN_ADDRESS, &self.address);
        let ran = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(root.join(&step.device))
            .env_clear()
            .env("PATH", format!("{}:{path}", root.join("bin").display()))
            .env("HOME", root.join(format!("home-{}", step.device)))
            .env("CRU_HOME", root.join(format!("home-{}", step.device)))
            .env("TOKEN", &self.token)
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let text = text.replace(&self.address, SHOWN_ADDRESS);
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

fn cru() -> &'static str {
    env!("CARGO_BIN_EXE_cru")
}

/// Whether lines are as a page says.
fn fits(expected: &[String], said: &[String]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((line, rest)) if line == "…" => (0..=said.len()).any(|at| fits(rest, &said[at..])),
        Some((line, rest)) => said
            .split_first()
            .is_some_and(|(first, more)| line_fits(line, first) && fits(rest, more)),
    }
}

fn line_fits(expected: &str, said: &str) -> bool {
    let parts: Vec<&str> = expected.trim_end().split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return expected.trim_end() == said };
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[track_caller]
fn check(name: &str) {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli").join(format!("{name}.md"));
    let steps = steps(&fs::read_to_string(&path).unwrap());
    assert!(!steps.is_empty(), "{} shows no session", path.display());
    let page = Page::open();
    for step in steps {
        let said = page.run(&step);
        assert!(
            fits(&step.expected, &said),
            "docs/cli/{name}.md, line {}: {}$ {}\nthe page says:\n{}\nit said:\n{}",
            step.line,
            step.device,
            step.command,
            step.expected.join("\n"),
            said.join("\n"),
        );
    }
}

#[test]
fn the_page_about_beginning_is_true() {
    check("beginning");
}

#[test]
fn the_page_about_syncing_is_true() {
    check("sync");
}

#[test]
fn the_page_about_history_is_true() {
    check("history");
}

#[test]
fn the_page_about_conflicts_is_true() {
    check("conflicts");
}

#[test]
fn the_page_about_servers_is_true() {
    check("server");
}

#[test]
fn the_page_about_coming_and_going_is_true() {
    check("moving");
}

#[test]
fn lines_fit_what_stands_for_them() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, said, fit) in [
        ("a\nb", "a\nb", true),
        ("a … c", "a b b c", true),
        ("a … c", "a b", false),
        ("…\nz", "x\ny\nz", true),
        ("…", "", true),
        ("a", "a\nb", false),
        ("a…", "a", true),
    ] {
        assert_eq!(fits(&lines(expected), &lines(said)), fit, "{expected:?} {said:?}");
    }
}
