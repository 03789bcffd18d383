//! Two Syncthings under measurement, on the loopback alone, one connected to the other through a
//! counting proxy. They run all the time, so an operation is: ask the first to scan, wait until
//! both say they are done and the folders are equal.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::measure::{forget_peak, process_cpu, process_peak_kib};
use super::proxy::Proxy;
use super::sets::fingerprint;
use super::tool::{Cost, Leg, Scene, Tool};

const API_KEY: &str = "bench";
/// Long enough for a hundred thousand notes on a small machine.
const PATIENCE: Duration = Duration::from_secs(1800);

/// One instance that ends when dropped.
struct Instance {
    child: Child,
    gui: SocketAddr,
    id: String,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to stop.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Two instances and the proxy between them.
pub struct Syncthing {
    a: PathBuf,
    b: PathBuf,
    near: Instance,
    far: Instance,
    proxy: Proxy,
}

impl Syncthing {
    /// Starts both; their folders are paused until the first [`Tool::carry`] asks for a scan.
    pub fn new(scene: &Scene) -> Result<Syncthing> {
        fs::create_dir_all(&scene.b)?;
        let (near_home, far_home) = (scene.keep("near"), scene.keep("far"));
        let (near_id, far_id) = (generate(&near_home)?, generate(&far_home)?);
        let far_port = free_port()?;
        let proxy = Proxy::start(far_port)?;
        let near_plan = Plan {
            folder: &scene.a,
            listen: free_port()?,
            me: &near_id,
            other: &far_id,
            other_at: format!("tcp://{}", proxy.address),
        };
        let far_plan = Plan {
            folder: &scene.b,
            listen: far_port,
            me: &far_id,
            other: &near_id,
            // Never connects by itself: it waits for the other one, which comes by the proxy.
            other_at: "tcp://127.0.0.1:1".to_owned(),
        };
        let far = start(&far_home, &far_plan)?;
        let near = start(&near_home, &near_plan)?;
        let both = Syncthing { a: scene.a.clone(), b: scene.b.clone(), near, far, proxy };
        both.wait_for("a connection", || {
            let connections = both.near.get("/rest/system/connections")?;
            Ok(connections["connections"][&both.far.id]["connected"] == true)
        })?;
        Ok(both)
    }

    fn in_step(&self) -> Result<bool> {
        let query = format!("/rest/db/completion?folder=f&device={}", self.far.id);
        let done = self.near.get(&query)?;
        let (here, there) = (self.near.status()?, self.far.status()?);
        let quiet = here["state"] == "idle" && there["state"] == "idle";
        let settled = done["needItems"] == 0 && done["needDeletes"] == 0;
        let same = here["globalFiles"] == there["localFiles"]
            && here["globalBytes"] == there["localBytes"];
        Ok(quiet && settled && same && fingerprint(&self.a)? == fingerprint(&self.b)?)
    }

    fn wait_for(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        while !done()? {
            ensure!(begun.elapsed() < PATIENCE, "syncthing: waited in vain for {what}");
            sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        Ok(())
    }
}

impl Tool for Syncthing {
    fn carry(&mut self) -> Result<Vec<Leg>> {
        let (near, far) = (self.near.child.id(), self.far.child.id());
        forget_peak(near)?;
        forget_peak(far)?;
        let cpu_before = process_cpu(near)? + process_cpu(far)?;
        let (wire_before, begun) = (self.proxy.count(), Instant::now());
        self.near.post("/rest/db/scan?folder=f")?;
        self.wait_for("both folders to be equal", || self.in_step())?;
        let wall = begun.elapsed();
        let cpu = process_cpu(near)? + process_cpu(far)? - cpu_before;
        let wire = self.proxy.count().since(wire_before);
        let cost = Cost {
            wire: wire.up + wire.down,
            cpu,
            near_peak_kib: process_peak_kib(near)?,
            far_peak_kib: process_peak_kib(far)?,
            wall,
            ..Cost::default()
        };
        Ok(vec![Leg { name: "", cost }])
    }
}

impl Instance {
    fn status(&self) -> Result<Value> {
        self.get("/rest/db/status?folder=f")
    }

    fn get(&self, path: &str) -> Result<Value> {
        let body = self.ask("GET", path)?;
        serde_json::from_slice(&body).with_context(|| format!("syncthing answered oddly to {path}"))
    }

    fn post(&self, path: &str) -> Result<()> {
        self.ask("POST", path).map(drop)
    }

    fn ask(&self, method: &str, path: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.gui)?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nX-API-Key: {API_KEY}\r\n\r\n",
            self.gui,
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
        let first = String::from_utf8_lossy(&answer[..head]);
        ensure!(first.contains(" 200 "), "syncthing said {}", first.lines().next().unwrap_or(""));
        Ok(answer[head + 4..].to_vec())
    }
}

/// What one instance is told.
struct Plan<'a> {
    folder: &'a Path,
    listen: SocketAddr,
    me: &'a str,
    other: &'a str,
    other_at: String,
}

fn generate(home: &Path) -> Result<String> {
    let out = Command::new("syncthing")
        .args(["generate", "--no-default-folder", "--skip-port-probing"])
        .arg(format!("--home={}", home.display()))
        .output()?;
    ensure!(out.status.success(), "syncthing generate: {}", String::from_utf8_lossy(&out.stderr));
    let config = fs::read_to_string(home.join("config.xml"))?;
    let after = config.split_once("<device id=\"").context("no device in the configuration")?.1;
    Ok(after.split_once('"').context("no end of the device id")?.0.to_owned())
}

fn start(home: &Path, plan: &Plan<'_>) -> Result<Instance> {
    let gui = free_port()?;
    fs::write(home.join("config.xml"), config(plan, gui))?;
    fs::create_dir_all(plan.folder.join(".stfolder"))?;
    let log = fs::File::create(home.join("log"))?;
    let child = Command::new("syncthing")
        .args(["serve", "--no-browser", "--no-restart", "--no-upgrade", "--logflags=0"])
        .arg(format!("--home={}", home.display()))
        .env("HOME", home)
        // Without its own watchdog, whose process would be measured instead.
        .env("STMONITORED", "yes")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let instance = Instance { child, gui, id: plan.me.to_owned() };
    let begun = Instant::now();
    while instance.get("/rest/system/ping").is_err() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("syncthing did not start; see {}", home.join("log").display());
        }
        sleep(Duration::from_millis(100));
    }
    Ok(instance)
}

fn config(plan: &Plan<'_>, gui: SocketAddr) -> String {
    let Plan { folder, listen, me, other, other_at } = plan;
    let folder = folder.display();
    format!(
        r#"<configuration version="35">
<folder id="f" label="f" path="{folder}" type="sendreceive" rescanIntervalS="0"
        fsWatcherEnabled="false" ignorePerms="true" autoNormalize="true">
  <device id="{me}"></device><device id="{other}"></device>
</folder>
<device id="{me}" name="me"><address>dynamic</address></device>
<device id="{other}" name="other"><address>{other_at}</address></device>
<gui enabled="true" tls="false"><address>{gui}</address><apikey>{API_KEY}</apikey></gui>
<options>
  <listenAddress>tcp://{listen}</listenAddress>
  <globalAnnounceEnabled>false</globalAnnounceEnabled>
  <localAnnounceEnabled>false</localAnnounceEnabled>
  <relaysEnabled>false</relaysEnabled>
  <natEnabled>false</natEnabled>
  <startBrowser>false</startBrowser>
  <urAccepted>-1</urAccepted>
  <crashReportingEnabled>false</crashReportingEnabled>
  <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
  <stunKeepaliveStartS>0</stunKeepaliveStartS>
  <reconnectionIntervalS>1</reconnectionIntervalS>
</options>
</configuration>
"#
    )
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
