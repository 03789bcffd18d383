//! A server, a wire before it, a user, and the devices of that user.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::device::Device;
use super::server::{Server, Start};
use super::wire::Wire;

/// Everything one test has; gone when it ends.
pub struct World {
    folder: TempDir,
    server: Option<Server>,
    wire: Wire,
    /// The token of the one user.
    pub token: String,
}

impl World {
    /// A server with a user and no vault yet.
    #[track_caller]
    pub fn new() -> World {
        let folder = tempfile::Builder::new().prefix("cru-outside-").tempdir().unwrap();
        World::over(folder, "server")
    }

    /// The same with its data folder somewhere else.
    #[track_caller]
    pub fn with_data(data: &Path) -> World {
        let folder = tempfile::Builder::new().prefix("cru-outside-").tempdir().unwrap();
        let name = data.to_str().unwrap().to_owned();
        World::over(folder, &name)
    }

    #[track_caller]
    fn over(folder: TempDir, data: &str) -> World {
        let data = folder.path().join(data);
        let server = Server::start(&data, &folder.path().join("home-server"));
        let token = server.add_user("ada@example.org");
        let wire = Wire::to(server.address);
        World { folder, server: Some(server), wire, token }
    }

    /// So many devices that have all joined the vault `notes`.
    #[track_caller]
    pub fn with_devices<const COUNT: usize>() -> (World, [Device; COUNT]) {
        let world = World::new();
        let names = ["alice", "bob", "carol", "dave"];
        let devices = std::array::from_fn(|at| world.joined(names[at]));
        (world, devices)
    }

    /// A device that has not joined anything; its folder does not exist yet.
    pub fn device(&self, name: &str) -> Device {
        Device::new(name, self.path(&format!("home-{name}")), self.path(name))
    }

    /// A device that has joined the vault `notes` with the user's token.
    #[track_caller]
    pub fn joined(&self, name: &str) -> Device {
        let device = self.device(name);
        device.join(&self.link("notes"), &self.token).code_in(&[0, 3]);
        device
    }

    /// `http://…/VAULT`, by way of the wire.
    pub fn link(&self, vault: &str) -> String {
        format!("http://{}/{vault}", self.wire.address)
    }

    /// Where the devices connect to.
    pub fn address(&self) -> SocketAddr {
        self.wire.address
    }

    /// What lies between the devices and the server.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The server.
    #[track_caller]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the test did not stop the server")
    }

    /// A path inside the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stops the server as an administrator would.
    #[track_caller]
    pub fn stop_server(&mut self) {
        let server = self.server.take().expect("the test did not stop the server");
        let status = server.terminate();
        assert!(status.success(), "SIGTERM: the server ended with {status}");
    }

    /// Stops the server as a power cut would.
    pub fn kill_server(&mut self) {
        self.server.take().expect("the test did not stop the server").kill();
    }

    /// Ends it whichever way it will; `true` when it was still running.
    pub fn end_server(&mut self) -> bool {
        let Some(mut server) = self.server.take() else { return false };
        let alive = server.alive();
        server.kill();
        alive
    }

    /// Starts it again over the same data; the devices find it at the same address.
    #[track_caller]
    pub fn start_server(&mut self) {
        self.start_server_with(0, &[]);
    }

    /// Starts it again with a wrong clock or under another program; it must come up.
    #[track_caller]
    pub fn start_server_with(&mut self, clock_offset_ms: i64, under: &[String]) {
        if !self.try_start_server(clock_offset_ms, under) {
            let log = std::fs::read_to_string(self.path("home-server/server.log"));
            panic!("the server did not come up; it said: {}", log.unwrap_or_default());
        }
    }

    /// The same, where it need not come up.
    pub fn try_start_server(&mut self, clock_offset_ms: i64, under: &[String]) -> bool {
        let (data, home) = (self.path("server"), self.path("home-server"));
        let start = Start { data: &data, home: &home, port: 0, clock_offset_ms, under };
        self.server = start.go();
        if let Some(server) = &self.server {
            self.wire.retarget(server.address);
        }
        self.server.is_some()
    }
}
