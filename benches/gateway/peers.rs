//! Those that are measured, each a process in front of the scripted provider.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::Target;
use super::service::{self, Service};
use super::table::Row;
use super::{Bench, streams};

/// The model that everybody is asked for.
const MODEL: &str = "gpt-4o-mini";
/// The model that agentd is asked for.
const OF_AGENTD: &str = "gpt-4o-mini-of-agentd";
/// What the provider's key is; it looks at none.
const KEY: &str = "sk-of-the-provider";
const NO_LEDGER: &str = "none, keeps no ledger";

/// A process that ends with the run.
pub struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a program starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first, so that one with children can end them, too.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) && !matches!(self.0.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The scripted provider as a process of its own.
pub struct Provider {
    pub address: SocketAddr,
    _running: Running,
}

impl Provider {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut running = Running::start(Command::new(program).arg("provider").stdout(Stdio::piped()));
        let mut line = String::new();
        let output = running.0.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("its address");
        Self { address: line.trim().parse().expect("an address"), _running: running }
    }

    /// What it is told or asked beside its work.
    fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) =
            service::call(self.address, method, &format!("/_scripted/{path}"), "", &body.to_string());
        assert!(status == 200, "{path}: {answer}");
        answer
    }
}

enum Process {
    None,
    Agentd(Box<Service>),
    Other(Running),
}

/// One of those that are measured.
pub struct Peer {
    pub name: &'static str,
    pub durability: &'static str,
    pub note: String,
    address: SocketAddr,
    path: &'static str,
    headers: String,
    model: &'static str,
    process: Process,
}

impl Peer {
    fn new(name: &'static str, address: SocketAddr, process: Process) -> Self {
        Self {
            name,
            durability: NO_LEDGER,
            note: String::new(),
            address,
            path: "/v1/chat/completions",
            headers: format!("Authorization: Bearer {KEY}\r\n"),
            model: MODEL,
            process,
        }
    }

    /// A question, answered as a whole.
    pub fn target(&self) -> Target {
        self.asking(self.model, &json!({}))
    }

    /// One for this model, answered in a stream.
    pub fn streamed(&self, model: Option<&str>) -> Target {
        self.asking(model.unwrap_or(self.model), &json!({ "stream": true }))
    }

    /// The same with its usage at the end, which agentd wants in any case.
    pub fn counted_stream(&self, model: &str) -> Target {
        self.asking(model, &json!({ "stream": true, "stream_options": { "include_usage": true } }))
    }

    fn asking(&self, model: &str, more: &Value) -> Target {
        let messages = json!([{ "role": "user", "content": "Say hello in a few words, please." }]);
        let mut body = json!({ "model": model, "messages": messages, "max_tokens": 200 });
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        Target { address: self.address, path: self.path.into(), headers: self.headers.clone(), body: body.to_string() }
    }

    /// MiB of its processes.
    pub fn memory(&self) -> f64 {
        match &self.process {
            Process::None => 0.0,
            Process::Agentd(service) => tree(service.pid()),
            Process::Other(running) => tree(running.0.id()),
        }
    }

    fn wait_until_ready(self) -> Self {
        let start = Instant::now();
        let target = self.target();
        // LiteLLM takes half a minute to load its code on two cores.
        while !answers(&target) {
            assert!(start.elapsed() < Duration::from_secs(180), "{} does not answer", self.name);
            std::thread::sleep(Duration::from_millis(200));
        }
        self
    }
}

/// Whether a question is answered with 200.
fn answers(target: &Target) -> bool {
    let Ok(mut stream) = TcpStream::connect(target.address) else { return false };
    let (mut answer, request) = (String::new(), String::from_utf8(target.bytes()).expect("text"));
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let came = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    came.is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// Resident memory of a process and all its children.
fn tree(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("0 0");
    let own = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(tree).sum::<f64>()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Starts one of them, where it is installed.
type Start = fn(&Provider, &Path) -> Option<Peer>;

/// All of them: the provider itself, agentd, and the others that are installed.
pub fn start(provider: &Provider, folder: &Path) -> Vec<Peer> {
    let mut peers = vec![Peer::new("the provider itself", provider.address, Process::None)];
    peers[0].durability = "none";
    peers.push(agentd(provider, folder));
    let others: [(&str, Start); 4] = [("caddy", caddy), ("nginx", nginx), ("Portkey", portkey), ("LiteLLM", litellm)];
    for (name, start) in others {
        eprintln!("starting {name} …");
        match start(provider, folder) {
            Some(peer) => peers.push(peer.wait_until_ready()),
            None => eprintln!("{name} is not installed, see `make bench-gateway`"),
        }
    }
    peers
}

fn agentd(provider: &Provider, folder: &Path) -> Peer {
    let base = format!("http://{}/v1", provider.address);
    let service = Service::start_with(
        &folder.join("agentd"),
        &[
            ("OPENAI_API_KEY", KEY),
            ("OPENAI_BASE_URL", &base),
            ("OPENAI_DEFAULT_MODEL", MODEL),
            // Counted against, and never reached.
            ("AGENT_DAILY_BUDGET_USD", "1000000"),
            ("AGENTD_MODELS_CONCURRENCY", "5000"),
        ],
    );
    let headers = service.headers();
    // Names that nobody else asks for, so that the provider's books are of agentd alone.
    for model in [OF_AGENTD, streams::SLOW, streams::SHORT_OF_AGENTD] {
        let (input, cached, output) = ("0.15", "0.075", "0.6");
        let price = json!({ "input": input, "cached": cached, "output": output });
        provider.control("POST", "price", &json!({ "model": model, "price": price }));
        let body = json!({ "input_usd_per_million": input, "cached_input_usd_per_million": cached,
            "output_usd_per_million": output });
        let (path, admin) = (format!("/admin/models/prices/{model}"), service::admin_headers());
        let (status, answer) = service::call(service.address, "PUT", &path, &admin, &body.to_string());
        assert!(status == 200, "a price: {answer}");
    }
    let address = service.address;
    let mut peer = Peer::new("agentd", address, Process::Agentd(Box::new(service)));
    peer.durability = "WAL, FULL";
    peer.headers = headers;
    peer.model = OF_AGENTD;
    peer
}

/// As a plain reverse proxy.
fn caddy(provider: &Provider, folder: &Path) -> Option<Peer> {
    let version = version(Command::new("caddy").arg("version"))?;
    let (port, file) = (free_port(), folder.join("Caddyfile"));
    let upstream = provider.address;
    let text =
        format!("{{\n\tadmin off\n\tauto_https off\n}}\nhttp://127.0.0.1:{port} {{\n\treverse_proxy {upstream}\n}}\n");
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).stdout(Stdio::null());
    command.env("HOME", folder);
    let mut peer = Peer::new("caddy", at(port), Process::Other(Running::start(&mut command)));
    peer.note = version;
    Some(peer)
}

/// As a plain reverse proxy that keeps connections and buffers nothing.
fn nginx(provider: &Provider, folder: &Path) -> Option<Peer> {
    let program = ["/usr/sbin/nginx", "nginx"].into_iter().find(|program| {
        Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })?;
    let (port, file) = (free_port(), folder.join("nginx.conf"));
    let (upstream, folder) = (provider.address, folder.display());
    let text = format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n\
         uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000000;\n\
         upstream provider {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://provider; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(program);
    command.arg("-c").arg(&file).stdout(Stdio::null());
    let mut peer = Peer::new("nginx", at(port), Process::Other(Running::start(&mut command)));
    peer.note = "as a plain proxy".into();
    Some(peer)
}

fn portkey(provider: &Provider, _: &Path) -> Option<Peer> {
    let package = Path::new("target/gateway/portkey/node_modules/@portkey-ai/gateway");
    let program = package.join("build/start-server.js");
    if !program.exists() {
        return None;
    }
    let about: Value = serde_json::from_str(&std::fs::read_to_string(package.join("package.json")).ok()?).ok()?;
    let port = free_port();
    let mut command = Command::new("node");
    command.arg(program).args([&format!("--port={port}"), "--headless"]).env("NODE_ENV", "production");
    command.stdout(Stdio::null());
    let mut peer = Peer::new("Portkey", at(port), Process::Other(Running::start(&mut command)));
    let host = provider.address;
    for line in ["x-portkey-provider: openai", &format!("x-portkey-custom-host: http://{host}/v1")] {
        peer.headers.push_str(line);
        peer.headers.push_str("\r\n");
    }
    peer.note = format!("@portkey-ai/gateway {}", about["version"].as_str().unwrap_or_default());
    Some(peer)
}

fn litellm(provider: &Provider, folder: &Path) -> Option<Peer> {
    let python = Path::new("target/gateway/litellm/venv/bin/python");
    let ask = "import importlib.metadata as m; print(m.version('litellm'))";
    let version = version(Command::new(python).args(["-c", ask]))?;
    let (port, file) = (free_port(), folder.join("litellm.yaml"));
    let base = format!("http://{}/v1", provider.address);
    let config = json!({
        "model_list": [{ "model_name": MODEL, "litellm_params": { "model": format!("openai/{MODEL}"), "api_base": base,
            "api_key": KEY } }],
        "general_settings": { "master_key": KEY },
        "litellm_settings": { "telemetry": false },
    });
    // JSON is YAML.
    std::fs::write(&file, config.to_string()).expect("a file");
    let mut command = Command::new("target/gateway/litellm/venv/bin/litellm");
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--config"]).arg(&file).stdout(Stdio::null());
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let mut peer = Peer::new("LiteLLM", at(port), Process::Other(Running::start(&mut command)));
    peer.note = format!("litellm {version}");
    Some(peer)
}

fn version(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The ledger beside the provider's own count.
pub fn ledger(bench: &Bench) -> Vec<Row> {
    let state = bench.provider.control("GET", "state", &json!({}));
    let Process::Agentd(service) = &bench.agentd().process else { return Vec::new() };
    let start = Instant::now();
    let (reported, calls) = loop {
        let (status, report) = service::call(service.address, "GET", "/v1/usage/spend", &service.headers(), "");
        assert!(status == 200, "usage: {report}");
        let (cost, calls) = (report["total"]["cost_usd"].clone(), report["total"]["calls"].as_f64().unwrap_or(0.0));
        // Settlements are written a moment after the answers.
        if cost == state["billed"] || start.elapsed() > Duration::from_secs(10) {
            break (cost, calls);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let billed = &state["billed"];
    let equal = if reported == *billed { "equal to" } else { "**differs from**" };
    vec![
        Row::of("agentd, calls in the ledger")
            .value(calls)
            .note(format!("{reported} USD, {equal} what was billed, {billed}")),
    ]
}
