//! Two devices with disks in memory and a server between them.

use crucible_core::id::{ReplicaId, VaultId};
use crucible_node::error::SyncError;
use crucible_node::replica::{Options, Replica, Settings, scan_here};
use crucible_node::report::Report;
use crucible_node::world::World;
use crucible_sync::replica::ReplicaMeta;
use crucible_sync::repo::Repo;
use crucible_testkit::fake_fs::{FakeFs, Image, Variant};
use crucible_testkit::memory_store::{MemoryError, MemoryStore};
use crucible_testkit::server_link::{Server, ServerLink};

pub const VAULT: VaultId = VaultId::from_bytes([7; 16]);

/// A clock that stands still between rounds.
#[derive(Clone)]
pub struct Clock {
    pub now_ms: u64,
    pub seed: u128,
}

impl World for Clock {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }
    fn random(&mut self) -> [u8; 16] {
        self.seed += 1;
        (self.seed << 64 | u128::from(self.now_ms)).to_be_bytes()
    }
}

/// A folder and what syncs it.
pub struct Device {
    pub replica: Replica<FakeFs, MemoryStore>,
    pub link: ServerLink,
    pub world: Clock,
}

impl Device {
    pub fn new(number: u8, link: &ServerLink) -> Self {
        Self::on(number, link, Variant::Linux)
    }

    pub fn on(number: u8, link: &ServerLink, variant: Variant) -> Self {
        let fs = FakeFs::new(variant);
        fs.disk().user_make_dir(".crucible").unwrap();
        let meta = ReplicaMeta::new(VAULT, ReplicaId::from_bytes([number; 16]));
        let store = MemoryStore::device(meta);
        let replica = Replica::new(fs, store, Settings::default(), scan_here).unwrap();
        let world = Clock { now_ms: 1_000_000 + u64::from(number), seed: u128::from(number) << 32 };
        Self { replica, link: link.another(), world }
    }

    /// Everything there is of it, to go back to.
    pub fn moment(&self) -> Moment {
        let fs = self.replica.fs();
        Moment {
            image: fs.disk().image(),
            store: self.replica.store().clone(),
            server: self.link.server().clone(),
            world: self.world.clone(),
        }
    }

    /// Another process opens the folder.
    pub fn reopen(&mut self) {
        let (fs, mut store) = (self.replica.fs().clone(), self.replica.store().clone());
        store.set_power(fs.power());
        self.replica = Replica::new(fs, store, Settings::default(), scan_here).unwrap();
    }

    pub fn write(&mut self, path: &str, text: &str) {
        let mut disk = self.replica.fs().disk();
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            at += slash;
            // A folder that is there already is as good.
            let _ = disk.user_make_dir(&path[..at]);
            at += 1;
        }
        disk.user_write(path, text.as_bytes()).unwrap();
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        self.replica.fs().disk().user_rename(from, to).unwrap();
    }

    pub fn remove(&mut self, path: &str) {
        self.replica.fs().disk().user_remove(path).unwrap();
    }

    pub fn read(&self, path: &str) -> Option<String> {
        let bytes = self.replica.fs().disk().user_read(path)?;
        Some(String::from_utf8(bytes).unwrap())
    }

    pub fn files(&self) -> Vec<String> {
        let disk = self.replica.fs().disk();
        disk.visible().into_keys().filter(|path| !path.starts_with(".crucible")).collect()
    }

    pub fn try_sync(&mut self, options: Options) -> Result<Report, SyncError<MemoryError>> {
        self.world.now_ms += 10;
        self.replica.sync(&mut self.link, &mut self.world, options, &mut |_| {})
    }

    pub fn sync(&mut self) -> Report {
        self.try_sync(Options::default()).unwrap()
    }
}

/// A device and its server as they were.
pub struct Moment {
    image: Image,
    store: MemoryStore,
    server: Server,
    world: Clock,
}

impl Moment {
    /// The device again, with a server of its own.
    pub fn again(&self) -> Device {
        let fs = FakeFs::from_image(&self.image);
        let store = self.store.clone();
        let replica = Replica::new(fs, store, Settings::default(), scan_here).unwrap();
        let link = ServerLink::new(self.server.clone());
        let mut device = Device { replica, link, world: self.world.clone() };
        device.reopen();
        device
    }
}

pub fn pair() -> (Device, Device) {
    let link = ServerLink::new(Server::new(VAULT, 1_000_000));
    (Device::new(1, &link), Device::new(2, &link))
}

pub fn in_step(a: &Device, b: &Device) {
    assert_eq!(a.replica.store().root().unwrap(), b.replica.store().root().unwrap());
    let (one, other) = (a.replica.fs().disk().visible(), b.replica.fs().disk().visible());
    let ours = |path: &&String| !path.starts_with(".crucible");
    assert_eq!(
        one.iter().filter(|(path, _)| ours(path)).collect::<Vec<_>>(),
        other.iter().filter(|(path, _)| ours(path)).collect::<Vec<_>>()
    );
}

/// A round that costs one request and changes nothing.
pub fn is_quiet(device: &mut Device) -> Report {
    device.link = device.link.another();
    let before = device.replica.fs().disk().visible();
    let report = device.sync();
    assert_eq!(report.traffic.requests, 1);
    assert_eq!((report.pushed, report.pulled, report.merged), (0, 0, 0));
    assert_eq!(before, device.replica.fs().disk().visible());
    report
}
