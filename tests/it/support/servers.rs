//! Real servers: a Redis and a Postgres of the test's own, on free ports, that
//! can be frozen, killed and started again.
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{soon, tls::Authority};

/// How long a server may take to come up on a busy machine.
const UP: Duration = Duration::from_secs(60);

/// A Redis that runs, with nothing kept over a restart. Killed when dropped.
pub struct Redis(Server);

impl Redis {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let make = |port: u16| {
            let mut command = tied("KILL");
            command.arg("redis-server").args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command
        };
        let missing = "Redis is here; run ./test as root once, it installs Debian's `redis-server`";
        Self(Server::start(folder, Box::new(make), missing).await)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.port).into()
    }

    /// What `redis-cli` would say to a command.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    /// Stops it in its tracks: it still takes connections and never answers.
    pub fn freeze(&self) {
        self.0.signal("STOP");
    }

    pub fn thaw(&self) {
        self.0.signal("CONT");
    }

    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Starts it again where it was, empty.
    pub async fn restart(&mut self) {
        self.0.restart().await;
    }
}

/// A Postgres that runs. What was written stays over a restart. Killed when dropped.
pub struct Postgres(Server);

impl Postgres {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Lets nobody in who does not speak TLS.
    pub async fn start_with_tls(authority: &Authority) -> Self {
        Self::start_with(Some(authority)).await
    }

    async fn start_with(authority: Option<&Authority>) -> Self {
        const MISSING: &str = "Postgres is here; run ./test as root once, it installs Debian's `postgresql`";
        let folder = tempfile::tempdir().unwrap();
        let programs = programs().expect(MISSING);
        let is_root = is_root();
        if is_root {
            // Postgres refuses to run as root.
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap();
            assert!(owned.success());
        }
        let data = folder.path().join("data");
        let init = as_postgres(is_root, &programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata"])
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .expect(MISSING);
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        if let Some(authority) = authority {
            let write = |name: &str, bytes: &[u8]| {
                let mut copy = as_postgres(is_root, Path::new("sh"));
                let copy =
                    copy.args(["-c", "umask 077; cat > \"$0\""]).arg(data.join(name)).stdin(Stdio::piped());
                let mut copy = copy.spawn().unwrap();
                copy.stdin.take().unwrap().write_all(bytes).unwrap();
                assert!(copy.wait().unwrap().success());
            };
            // It takes no key that others can read, nor one that is not its own.
            write("server.crt", &std::fs::read(authority.file("server.pem")).unwrap());
            write("server.key", &std::fs::read(authority.file("server.key")).unwrap());
            write("pg_hba.conf", b"hostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n");
        }
        let tls = if authority.is_some() { "ssl=on" } else { "ssl=off" };
        let sockets = folder.path().to_owned();
        let make = move |port: u16| {
            let mut command = as_postgres(is_root, &programs.join("postgres"));
            command.arg("-D").arg(&data).arg("-k").arg(&sockets).args(["-p", &port.to_string()]);
            // The machine does not fail in a test, only processes do.
            command.args([
                "-c",
                "fsync=off",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                tls,
            ]);
            command.current_dir(&sockets);
            command
        };
        let this = Self(Server::start(folder, Box::new(make), MISSING).await);
        this.answers().await;
        this
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.0.port)
    }

    /// Stops all its processes in their tracks.
    pub fn freeze(&self) {
        self.0.signal("STOP");
    }

    pub fn thaw(&self) {
        self.0.signal("CONT");
    }

    /// Ends it without a word to its clients.
    pub fn kill(&mut self) {
        // It takes its processes with it; killed itself, it would leave them behind.
        self.0.signal("QUIT");
        let _ = self.0.child.wait();
    }

    pub async fn restart(&mut self) {
        self.0.restart().await;
        self.answers().await;
    }

    /// It listens before it lets anybody in.
    async fn answers(&self) {
        use sqlx::Connection;
        for _ in 0..600 {
            if sqlx::PgConnection::connect(&self.url()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Postgres lets nobody in");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
    }
}

/// A server as a child process.
struct Server {
    port: u16,
    child: Child,
    make: Box<dyn Fn(u16) -> Command + Send>,
    missing: &'static str,
    _folder: TempDir,
}

impl Server {
    async fn start(folder: TempDir, make: Box<dyn Fn(u16) -> Command + Send>, missing: &'static str) -> Self {
        let port = free_port();
        let child = spawn(&make, port, missing);
        let mut this = Self { port, child, make, missing, _folder: folder };
        // Another test may take a port between our look at it and the server's.
        for _ in 0..5 {
            if this.is_up().await {
                return this;
            }
            this.kill();
            this.port = free_port();
            this.child = spawn(&this.make, this.port, missing);
        }
        panic!("the server does not start")
    }

    async fn is_up(&mut self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let child = &mut self.child;
        let mut ended = false;
        let up = soon(UP, || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        });
        up.await && !ended
    }

    async fn restart(&mut self) {
        self.child = spawn(&self.make, self.port, self.missing);
        assert!(self.is_up().await, "the server does not start again");
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal to it and to its processes.
    fn signal(&self, name: &str) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let mut all = vec![id.to_string()];
        // Only the first is asked to end: it sees to the rest.
        if name != "QUIT" {
            all.extend(children.split_whitespace().map(str::to_owned));
        }
        let _ = Command::new("kill").args(["-s", name]).args(all).stderr(Stdio::null()).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(make: &dyn Fn(u16) -> Command, port: u16, missing: &str) -> Child {
    make(port).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(missing)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// Debian keeps Postgres's programs by version, outside the PATH.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&paths));
    found.into_iter().find(|folder| folder.join("initdb").is_file())
}

fn as_postgres(is_root: bool, program: &Path) -> Command {
    let mut command = tied("QUIT");
    if is_root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// A program that is ended when its test is gone, even one that was killed.
fn tied(signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    command
}
