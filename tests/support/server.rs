//! The service as a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, PATIENCE, Record, eventually};

/// The administrator's key of every server that a test starts.
pub const ADMIN_KEY: &str = "the-admin-key-of-the-tests-0123456789";
/// The secret that its keys are hashed with.
pub const HASH_SECRET: &str = "the-key-hash-secret-of-the-tests-0123456789";

/// An API key as its maker got it.
#[derive(Clone, Debug)]
pub struct Key {
    pub tenant: String,
    pub id: String,
    pub secret: String,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    program: PathBuf,
    listen: String,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Setup {
    /// The shipped binary.
    pub fn real() -> Self {
        Self::of(PathBuf::from(env!("CARGO_BIN_EXE_agentd")))
    }

    /// The testbed: the same with the handlers and the clock of the tests.
    pub fn testbed() -> Self {
        Self::of(testbed().to_owned())
    }

    fn of(program: PathBuf) -> Self {
        let listen = "127.0.0.1:0".to_owned();
        let setup = Self { program, listen, environment: BTreeMap::new(), arguments: Vec::new() };
        // Most tests send more than anybody would in a minute; those of the limit
        // set it on again.
        let setup = setup.env("RATE_LIMIT_ENABLED", "false");
        // A clock that a test sets would make one due at any time.
        let setup = setup.env("AGENTD_BACKUP_EVERY", "off");
        setup.env("AGENT_ADMIN_KEY", ADMIN_KEY).env("AGENT_KEY_HASH_SECRET", HASH_SECRET)
    }

    /// Listens here, not on a free port.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A clock that [`Server::set_clock`] sets.
    pub fn clock(self, folder: &Path) -> Self {
        self.env("TESTBED_CLOCK_FILE", &folder.join("clock").to_string_lossy())
    }

    /// HTTPS with a certificate that the service makes itself; clients of the
    /// server speak it and trust whatever is shown.
    pub fn https(self) -> Self {
        self.env("AGENTD_TLS_MODE", "self_signed")
    }

    /// With HTTPS: a second port, where plain HTTP is sent on. Its address is
    /// [`Server::http_address`].
    pub fn http_port(self) -> Self {
        self.env("AGENTD_SERVER_HTTP_LISTEN", "127.0.0.1:0")
    }

    /// Starts it on a fresh folder.
    #[track_caller]
    pub fn start(self) -> Server {
        self.start_in(TempDir::new().expect("a folder"))
    }

    #[track_caller]
    pub fn start_in(self, folder: TempDir) -> Server {
        let setup = if self.program == testbed_path() { self.clock(folder.path()) } else { self };
        let process = Process::serve(&setup, &folder.path().join("data"));
        let base = Arc::new(Mutex::new(process.ready()));
        Server {
            setup,
            folder,
            process: Some(process),
            base,
            open: BTreeSet::new(),
            unchecked: false,
            passed: AtomicI64::new(0),
        }
    }

    /// The program with these arguments and nothing of our own environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(&self.arguments).env_clear().envs(&self.environment);
        command
    }

    /// Starts it where it is expected to refuse: exit code, and what it said
    /// on standard output and standard error.
    #[track_caller]
    pub fn refused(&self, data: &Path) -> (i32, String) {
        let data = data.to_string_lossy();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
        run(&mut command)
    }
}

/// Runs a command to its end, which must come by itself.
#[track_caller]
pub fn run(command: &mut Command) -> (i32, String) {
    let mut process = Process::spawn(command);
    let status = process.wait();
    let said = format!("{}\n{}", process.output.lines().join("\n"), process.errors.lines().join("\n"));
    (status.code().unwrap_or(-1), said)
}

fn testbed_path() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_agentd"));
    binary.parent().expect("a folder").join("examples/agentd-testbed")
}

/// `cargo test --test api` builds binaries but no examples, so the testbed is
/// built here; when it is fresh this takes a moment only.
fn testbed() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--example", "agentd-testbed"]);
        if testbed_path().components().any(|part| part.as_os_str() == "release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "the testbed could not be built");
        testbed_path()
    })
}

/// Lines that a process writes, read all the time so that it never waits.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let to = lines.clone();
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let Ok(line) = line else { break };
                to.lock().lines.push(line);
                to.0.1.notify_all();
            }
            to.lock().ended = true;
            to.0.1.notify_all();
        });
        (lines, reading)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits for a line in which `find` finds something; `None` when there is
    /// no such line and none will come.
    fn wait<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let (mut read, mut seen) = (self.lock(), 0);
        loop {
            if let Some(found) = read.lines[seen..].iter().find_map(|line| find(line)) {
                return Some(found);
            }
            seen = read.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return None;
            }
            read = self.0.1.wait_timeout(read, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Process {
    child: Child,
    output: Lines,
    errors: Lines,
    reading: Vec<JoinHandle<()>>,
}

impl Process {
    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (output, first) = Lines::read(child.stdout.take().expect("a pipe"));
        let (errors, second) = Lines::read(child.stderr.take().expect("a pipe"));
        Self { child, output, errors, reading: vec![first, second] }
    }

    fn serve(setup: &Setup, data: &Path) -> Self {
        let data = data.to_string_lossy();
        Self::spawn(&mut setup.command(&["serve", "--listen", &setup.listen, "--data-dir", &data]))
    }

    /// Where it is reached, once it is ready: `https://host:port`.
    #[track_caller]
    fn ready(&self) -> String {
        let line = self.ready_line();
        format!("{}://{}", line["scheme"].as_str().expect("a scheme"), line["address"].as_str().expect("an address"))
    }

    /// What it says when it is ready.
    #[track_caller]
    fn ready_line(&self) -> Value {
        let line = self.output.wait(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "ready").then_some(line)
        });
        line.unwrap_or_else(|| {
            panic!("it did not become ready:\n{}\n{}", self.output.lines().join("\n"), self.errors.lines().join("\n"))
        })
    }

    fn signal(&self, signal: Signal) {
        // A process that has just ended by itself is not our concern here.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end, which must come.
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually("the process ends", || child.try_wait().expect("a child"));
        for reading in self.reading.drain(..) {
            reading.join().expect("the output is read");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running service with its data folder.
pub struct Server {
    setup: Setup,
    folder: TempDir,
    process: Option<Process>,
    /// `http://host:port`, or with `https`.
    base: Arc<Mutex<String>>,
    /// Jobs that may be unfinished when the test is over.
    open: BTreeSet<String>,
    unchecked: bool,
    passed: AtomicI64,
}

impl Server {
    /// The shipped binary on a fresh folder.
    #[track_caller]
    pub fn real() -> Self {
        Setup::real().start()
    }

    /// The testbed on a fresh folder.
    #[track_caller]
    pub fn testbed() -> Self {
        Setup::testbed().start()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path in a folder that goes away with the server.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self) -> String {
        self.anyone().address()
    }

    /// Where plain HTTP is sent on, see [`Setup::http_port`].
    #[track_caller]
    pub fn http_address(&self) -> String {
        self.process().ready_line()["http_address"].as_str().expect("it listens for plain HTTP").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Somebody without a credential.
    pub fn anyone(&self) -> Client {
        Client::new(self.base.clone())
    }

    pub fn admin(&self) -> Client {
        self.anyone().with("X-Admin-Key", ADMIN_KEY)
    }

    #[track_caller]
    pub fn tenant(&self, name: &str) -> String {
        let tenant = self.admin().post("/admin/tenants", &json!({ "name": name })).expect(201);
        tenant["tenant_id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub fn key(&self, tenant: &str) -> Key {
        self.key_with(tenant, &json!({ "name": "a key" }))
    }

    #[track_caller]
    pub fn key_with(&self, tenant: &str, body: &Value) -> Key {
        let made = self.admin().post(&format!("/admin/tenants/{tenant}/keys"), body).expect(201);
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        Key { tenant: tenant.into(), id: text("key_id"), secret: text("api_key") }
    }

    /// Somebody with the key of a tenant of their own.
    #[track_caller]
    pub fn client(&self) -> Client {
        let tenant = self.tenant("a tenant");
        self.anyone().with_key(&self.key(&tenant))
    }

    /// Declares that a job may be unfinished when the test is over.
    pub fn leave_open(&mut self, job: &str) {
        self.open.insert(job.into());
    }

    /// Declares that the data folder is not looked at.
    pub fn unchecked(&mut self) {
        self.unchecked = true;
    }

    /// Sets the testbed's clock so far off the true time; its monotonic clock stays.
    pub fn set_clock(&self, seconds: i64) {
        self.set_clocks(seconds, self.passed.load(Ordering::Relaxed));
    }

    /// Lets so much time pass since the test began: both clocks of the testbed go on.
    pub fn let_pass(&self, seconds: i64) {
        self.set_clocks(seconds, seconds);
    }

    /// Sets how far each of the testbed's clocks is off.
    pub fn set_clocks(&self, wall: i64, monotonic: i64) {
        self.passed.store(monotonic, Ordering::Relaxed);
        let partial = self.path("clock.partial");
        std::fs::write(&partial, format!("{} {}", wall * 1_000_000, monotonic * 1_000_000)).expect("written");
        std::fs::rename(partial, self.path("clock")).expect("renamed");
    }

    /// A file that opens the gate of the jobs that wait for it.
    pub fn gate(&self, name: &str) -> Gate {
        Gate(self.path(name))
    }

    pub fn log(&self) -> Vec<String> {
        self.process().output.lines()
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub fn wait_for_log(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let find = |line: &str| serde_json::from_str(line).ok().filter(&is);
        let found = self.process().output.wait(find);
        found.unwrap_or_else(|| panic!("no line says {what}:\n{}", self.log().join("\n")))
    }

    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Waits for the end of a process that ends by itself, with all it wrote.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> (ExitStatus, Vec<String>) {
        let mut process = self.process.take().expect("it runs");
        let status = process.wait();
        (status, process.output.lines())
    }

    /// SIGTERM, and its end; it must be a good one.
    #[track_caller]
    pub fn stop(&mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let (status, log) = self.wait_for_end();
        assert!(status.success(), "{status}:\n{}", log.join("\n"));
        log
    }

    /// Starts again on the same folder, with another setup where one is given.
    #[track_caller]
    pub fn start_again(&mut self, change: impl FnOnce(Setup) -> Setup) {
        assert!(self.process.is_none(), "it still runs");
        self.setup = change(self.setup.clone());
        let process = Process::serve(&self.setup, &self.data());
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = process.ready();
        self.process = Some(process);
    }

    /// Starts again and kills it so soon that it may not have become ready.
    pub fn start_and_kill(&mut self, after: Duration) {
        assert!(self.process.is_none(), "it still runs");
        let mut process = Process::serve(&self.setup, &self.data());
        std::thread::sleep(after);
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Starts again where it may be killed from inside before it is ready.
    pub fn start_until_ready_or_dead(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        let process = Process::serve(&self.setup, &self.data());
        process.output.wait(|line| line.contains("\"ready\"").then_some(()));
        self.process = Some(process);
    }

    /// The folder alone, once the process has ended.
    pub fn into_folder(mut self) -> TempDir {
        assert!(self.process.is_none(), "it still runs");
        self.unchecked = true;
        std::mem::replace(&mut self.folder, TempDir::new().expect("a folder"))
    }

    /// Stops and starts again on the same folder.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again(|setup| setup);
    }

    /// What is on disk; the process must have ended.
    #[track_caller]
    pub fn record(&self) -> Record {
        assert!(self.process.is_none(), "it still runs");
        Record::check(&self.data(), |job| self.open.contains(&job.id))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(process) = &self.process {
                let log = process.output.lines();
                eprintln!("--- the end of the log\n{}", log[log.len().saturating_sub(12)..].join("\n"));
            }
            return;
        }
        if self.process.is_some() {
            self.stop();
        }
        if !self.unchecked {
            self.record();
        }
    }
}

/// Holds jobs until it is opened.
pub struct Gate(PathBuf);

impl Gate {
    pub fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }

    pub fn open(&self) {
        std::fs::write(&self.0, "").expect("written");
    }
}

/// A span in which nothing else can be waited for: only for things that must
/// not happen.
pub fn long_enough() {
    std::thread::sleep(Duration::from_millis(100));
}
