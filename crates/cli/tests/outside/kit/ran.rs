//! Running `cru` and looking at what it did.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes on a slow machine; a command that is still running hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// The binary under test.
pub fn cru_binary() -> &'static str {
    env!("CARGO_BIN_EXE_cru")
}

/// A `cru` that sees nothing of the person who runs the tests.
pub fn cru(home: &Path) -> Command {
    let mut command = Command::new(cru_binary());
    alone(&mut command, home);
    command
}

/// Takes everything out of a command's environment but what a program needs to start.
pub fn alone(command: &mut Command, home: &Path) {
    command.env_clear();
    for kept in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.env("HOME", home).env("CRU_HOME", home).env("LC_ALL", "C.UTF-8");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null());
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let line = shown(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    finish(child, line)
}

/// Waits for a running command whose output is piped.
pub fn finish(mut child: Child, line: String) -> Ran {
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let pid = rustix::process::Pid::from_child(&child);
    let (done, waiting) = mpsc::channel();
    thread::spawn(move || {
        let errors = thread::spawn(move || read_all(&mut err));
        let out = read_all(&mut out);
        let err = errors.join().unwrap();
        let status = child.wait().unwrap();
        done.send(Output { status, stdout: out, stderr: err }).ok();
    });
    let output = waiting.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        panic!("{line}: still running after {PATIENCE:?}");
    });
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { line, code: output.status.code(), out: output.stdout, err }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words[0] = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

impl Ran {
    /// Asserts the exit code; a failure tells everything the command said.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Ran {
        assert!(self.code == Some(wanted), "wanted exit {wanted}\n{}", self.told());
        self
    }

    /// Asserts one of several exit codes.
    #[track_caller]
    pub fn code_in(self, wanted: &[i32]) -> Ran {
        let fine = self.code.is_some_and(|code| wanted.contains(&code));
        assert!(fine, "wanted one of the exits {wanted:?}\n{}", self.told());
        self
    }

    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.code(0)
    }

    /// Asserts that stderr says something a person can act on.
    #[track_caller]
    pub fn says(self, part: &str) -> Ran {
        let heard = self.err.to_lowercase().contains(&part.to_lowercase());
        assert!(heard, "stderr does not say {part:?}\n{}", self.told());
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.out) {
            Ok(text) => text,
            Err(error) => panic!("the output is not UTF-8 ({error})\n{}", self.told()),
        }
    }

    /// The last line of standard output as JSON.
    #[track_caller]
    pub fn last(&self) -> Value {
        let line = self.text().lines().next_back().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the last line is no JSON ({error})\n{}", self.told()))
    }

    /// Every object on standard output: one a line, or all in one array or list field.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        objects(self.text()).unwrap_or_else(|error| panic!("no JSON ({error})\n{}", self.told()))
    }

    /// The command, its exit and its words.
    pub fn told(&self) -> String {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        let mut out = String::from_utf8_lossy(&self.out).into_owned();
        if out.len() > 4000 {
            out.truncate((0..=4000).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0));
            out.push('…');
        }
        format!("$ {}\nexit: {code}\nstdout: {out}\nstderr: {}", self.line, self.err)
    }
}

/// Every object in a text: one a line, or in an array, or in the one list field of an object.
pub fn objects(text: &str) -> serde_json::Result<Vec<Value>> {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value? {
            Value::Array(several) => found.extend(several),
            Value::Object(fields) => {
                let lists: Vec<&Value> = fields.values().filter(|field| field.is_array()).collect();
                match lists.as_slice() {
                    [Value::Array(several)] if fields.len() <= 3 => found.extend(several.clone()),
                    _ => found.push(Value::Object(fields)),
                }
            }
            other => found.push(other),
        }
    }
    Ok(found)
}
